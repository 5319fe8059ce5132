"""Quick questions of lesson 10."""

from ...question import question

question(
    name="what_accumulation_saves",
    right="b",
    reasons={
        "a": "The work is the same: every token is read and goes through a backward pass. Small parts even take a "
        "little longer, since large products use the processor better.",
        "b": "Only one part's activations are kept for its backward pass at a time. The gradients are added up in the "
        "same place, and the step is that of the whole batch.",
        "c": "The optimizer keeps two numbers for each weight, however large the batch is and in however many parts "
        "it is read.",
        "d": "The step is the same to rounding: accumulation changes how a gradient is computed, and not which.",
    },
    hint="What has to stay in memory between a part's forward pass and its backward pass, and for how long?",
)

question(
    name="what_a_first_loss_tells",
    right="c",
    reasons={
        "a": "A first loss of ln V is what a right model has: its logits are near 0, so that all tokens are as likely.",
        "b": "ln 50,000 is 10.8. Nobody knows the next token before a step is done, so the first loss cannot be low.",
        "c": "It knows nothing, so it should give each token a 50,000th, and have a loss of 10.8. 25 nats mean that it "
        "is certain of wrong tokens: its logits are far too large. Look at the initialization of the head or a tied "
        "embedding (lesson 06).",
        "d": "Warm-up begins after the first loss is measured. The first loss depends on the first weights alone.",
    },
    hint="Which loss has a model that holds all 50,000 tokens for equally likely?",
)

question(
    name="what_stays_in_float32",
    right="a",
    reasons={
        "a": "autocast casts the inputs of matrix products to bfloat16, each time. Weights and AdamW's running means "
        "stay in float32: a step of a thousandth of a weight would be lost in bfloat16's 8 bits.",
        "b": "Then most steps would be rounded away: bfloat16 has 8 bits, so a change of less than about a 256th of a "
        "weight does not arrive.",
        "c": "autocast touches neither the optimizer nor its state.",
        "d": "Then nothing would be faster. Matrix products, where the time goes, are done in bfloat16.",
    },
    hint="A weight of 1 is to change by 0.001. What is the next number above 1 in bfloat16?",
)

question(
    name="what_two_processes_exchange",
    right="d",
    reasons={
        "a": "Activations stay where they are computed: each process reads its own half of the batch with a whole "
        "model of its own.",
        "b": "Weights never need to be sent: they begin the same, and each process makes the same step with the same "
        "gradients.",
        "c": "Tokens are cheap, and each process draws its own share of the batch.",
        "d": "Each has the gradients of its half of the batch. Their mean is that of the whole, and with it all "
        "processes make the same step.",
    },
    hint="After the backward pass, what is different in the two processes that must be the same before the step?",
)
