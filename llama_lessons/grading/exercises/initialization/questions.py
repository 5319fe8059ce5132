"""Quick questions of lesson 06."""

from ...question import question

how_relu_fades = question(
    name="how_relu_fades",
    right="c",
    reasons={
        "a": "A straight line on a *logarithmic* axis is a constant factor, not a constant step. If each layer "
        "subtracted the same amount, the line would bend downwards ever more steeply.",
        "b": "Halving the rms in every layer would leave 1e-9 after 30 layers. It is the mean *square* that halves, "
        "and the rms is its root: 0.5 ** 15 is 3e-5.",
        "c": "Xavier's std keeps the mean square through the matrix, and ReLU then sets half of the outputs to 0. The "
        "mean square halves in each layer, so that the rms shrinks by sqrt(2): after 30 layers it is 0.5 ** 15, or "
        "3e-5, whose logarithm is -4.5. He's 2 makes up for just this half.",
        "d": "Then the curve would bend. Each layer has weights of its own, drawn around 0: whatever it reads, half of "
        "its outputs are negative, in layer 30 as in layer 1.",
    },
    hint="Compute 0.5 ** 15 and 0.5 ** 30, and compare with where the curve ends.",
)

why_small_weights_do_not_die = question(
    name="why_small_weights_do_not_die",
    right="a",
    reasons={
        "a": "In a plain stack each layer multiplies what the one before it left, so small factors pile up. In a Llama "
        "the norm gives every layer an input of rms 1, whatever came before, and what it writes is added to the "
        "residual stream. A small std makes the first additions small, but nothing is multiplied down to 0.",
        "b": "Rounding is not the trouble: float32 holds 1e-15 without effort. A signal that small is one that the "
        "loss does not depend on, and section 6 shows that in a Llama it never becomes small.",
        "c": "At dim 576 a ReLU layer multiplies the mean square by 576 * 0.02 ** 2 / 2 = 0.12, far below 1: a plain "
        "stack fades there too. Only at dim 5000 would it be 1.",
        "d": "AdamW moves each weight by about the learning rate in a step, but it needs a gradient that says which "
        "way. Section 6 measures before the first step, and nothing has died there.",
    },
    hint="What does the last layer of a plain stack read, and what does the last block of a Llama read?",
)

which_scheme_is_llamas = question(
    name="which_scheme_is_llamas",
    right="b",
    reasons={
        "a": "That is what popular articles say. Xavier takes each matrix's own shape into account, and the public "
        "code does not: it has one number for all.",
        "b": "Hugging Face's class for Llama draws every matrix and table from N(0, initializer_range ** 2), and that "
        "setting is 0.02 unless the configuration says otherwise. No shape and no depth stands in it: norms and "
        "residual connections make one small number good enough.",
        "c": "SiLU is a relative of ReLU, but no factor 2 is found in the code, nor any fan_in: it has one number for "
        "all matrices.",
        "d": "That is GPT-2's scheme, and other code that trains Llamas uses it or one like it. Hugging Face's class "
        "for Llama does not: one number for all.",
    },
    hint="Section 6 names the setting, initializer_range, and its default.",
)
