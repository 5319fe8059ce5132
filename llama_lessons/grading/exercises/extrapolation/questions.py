"""The questions of lesson 04; their choices stand in the notebook."""

from ...question import question

why_worse_at_home = question(
    name="why_worse_at_home",
    right="c",
    reasons={
        "a": "At each length both lines read the same text; only the frequencies differ.",
        "b": "Position interpolation rounds nothing: frequencies are divided, and positions stay whole. (That was the "
        "bug of exercise 7.)",
        "c": "Position interpolation divides every frequency. Within the trained length the slow pairs need no help, "
        "and the fast ones lose by it: two neighbours now stand at half the angle that neighbours had in training. "
        "NTK-aware scaling, YaRN and Llama 3's rule leave the fastest pairs alone, or nearly so, for this reason.",
        "d": "Turning a vector keeps its length, at whatever speed it is turned. Position interpolation has no "
        "attention factor either.",
    },
    hint="Within its trained length the model has seen every angle of the slow pairs. Which pairs does position "
    "interpolation slow down as well, and what do they tell apart?",
)

what_extrapolates = question(
    name="what_extrapolates",
    right="b",
    reasons={
        "a": "Each distance has a score, that is true, but the distances beyond the trained length come with angles of "
        "the slow pairs that no weight was ever trained on. The lesson's measurement shows what becomes of the "
        "reading.",
        "b": "Within 4096 positions the slow pairs have turned through a part of the circle only. Beyond them they "
        "come to angles that no weight was ever trained on: the score is defined there, but nothing has taught the "
        "model what to make of it. That is why frequencies are scaled before longer texts are read.",
        "c": "The rotation is computed as exactly at position 1,000,000 as at 0 (lesson 03, section 6), and the "
        "reading fails all the same.",
        "d": "There is no table that ends: angles are computed for any position. Nothing raises an error, and that is "
        "the trouble.",
    },
    hint="Look at the picture of angles seen and angles met later. Which hands reach new ones, and does anything warn "
    "you?",
)

what_leaks = question(
    name="what_leaks",
    right="a",
    reasons={
        "a": "Attention is the only part of the model in which tokens read one another, and the causal mask is what "
        "keeps earlier ones from reading later ones. With the mask in place, exchanging the last token moves earlier "
        "scores by exactly 0, as in the lesson's measurement. Where they move a good deal, look for a key that was not "
        "masked.",
        "b": "Sines, cosines, learned rows and rotations depend on the position alone, and not on which tokens stand "
        "at other positions. They carry nothing from one token to another.",
        "c": "Dynamic scaling knows how long the text is, not what stands in it: exchanging the last token for another "
        "one leaves the length as it was.",
        "d": "Rounding is not so selective. In the lesson, earlier scores moved by exactly 0 when the mask was there.",
    },
    hint="In the lesson's measurement, which single part made the difference between exactly 0 and a large change?",
)
