"""Quick questions of lesson 05."""

from ...question import question
from .common import LESSON

__all__ = ["what_float16_gives", "what_rms_norm_does", "where_the_gradient_goes"]

what_rms_norm_does = question(
    name="what_rms_norm_does",
    lesson=LESSON,
    right="c",
    wrong={
        "a": "A norm reads activations, the vectors of tokens that pass through. The model's parameters are left as "
        "they are; the gains are learned like any others. And its formula holds no noise and no penalty, which is how "
        "regularisers work.",
        "b": "That is LayerNorm. RMSNorm takes no mean away, and keeps no bias: a shift of all channels changes what "
        "it gives.",
        "d": "If tokens shared a scale, changing one would move all others, and earlier tokens would learn of later "
        "ones. Each token is divided by its own root mean square, over its own channels.",
    },
    hint="Section 3 changes one token and looks at the others. The boxes in sections 2 and 3 take up two claims.",
)

what_float16_gives = question(
    name="what_float16_gives",
    lesson=LESSON,
    right="b",
    wrong={
        "a": "Rounding would cost digits only if all numbers on the way could be held. 300 squared is 90,000, and the "
        "largest number of float16 is 65,504.",
        "c": "The square is infinite, and so are mean and root. But 300 / infinity is a number, and no NaN: NaN "
        "comes of infinity over infinity.",
        "d": "Floating-point numbers that grow too large become infinite without a word: no error, no warning.",
    },
    hint="Go step by step: what is 300 squared in float16, the mean of four of those, its root, and 300 divided by "
    "that root?",
)

where_the_gradient_goes = question(
    name="where_the_gradient_goes",
    lesson=LESSON,
    right="d",
    wrong={
        "a": "Both models have the same number of norms, two in each block. What differs is where they stand: on the "
        "stream, or beside it.",
        "b": "It is the other way round. The left panel shows that post-norm's stream has an rms of 1 after every "
        "block; pre-norm's is the one that grows.",
        "c": "One loss serves all blocks of a model. It cannot make the gradient of the first block so much larger "
        "than that of the last.",
    },
    hint="Follow a gradient back along the stream. Is there a way back that passes no norm?",
)
