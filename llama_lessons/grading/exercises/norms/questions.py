"""Quick questions of lesson 05."""

from ...question import question

question(
    name="what_rms_norm_does",
    right="c",
    reasons={
        "a": "A norm reads activations, the vectors of tokens that pass through. The model's parameters are left as "
        "they are; the gains are learned like any others. And its formula holds no noise and no penalty, which is how "
        "regularisers work.",
        "b": "That is LayerNorm. RMSNorm takes no mean away, and keeps no bias: a shift of all channels changes what "
        "it gives.",
        "c": "The mean of the squares goes over the channels of one token, so no token depends on another. Dividing by "
        "its root takes away the token's size and keeps its direction; the gains, one for each channel, are all that "
        "is learned.",
        "d": "If tokens shared a scale, changing one would move all others, and earlier tokens would learn of later "
        "ones. Each token is divided by its own root mean square, over its own channels.",
    },
    hint="Section 3 changes one token and looks at the others. The boxes in sections 2 and 3 take up two claims.",
)

question(
    name="what_float16_gives",
    right="b",
    reasons={
        "a": "Rounding would cost digits only if all numbers on the way could be held. 300 squared is 90,000, and the "
        "largest number of float16 is 65,504.",
        "b": "300 squared is 90,000, and float16 ends at 65,504: the square becomes infinite. So do the mean of the "
        "squares and its root, and 300 divided by infinity is 0. The token is erased, and no error says so; that is "
        "why norms go to float32 before they square.",
        "c": "The square is infinite, and so are mean and root. But 300 divided by infinity is 0, a number; infinity "
        "divided by infinity would be NaN.",
        "d": "Floating-point numbers that grow too large become infinite without a word: no error, no warning.",
    },
    hint="Go step by step: what is 300 squared in float16, the mean of four of those, its root, and 300 divided by "
    "that root?",
)

question(
    name="where_the_gradient_goes",
    right="d",
    reasons={
        "a": "With ReLU in place of SwiGLU the gradient of the post-norm model passes the same 48 norms, and hardly "
        "grows. So it is not the norms alone.",
        "b": "It is the other way round. The left panel shows that post-norm's residual stream has an rms of 1 after "
        "every block; pre-norm's is the one that grows.",
        "c": "All four losses are about equal at the start. And one loss serves all blocks of a model: it cannot make "
        "the gradient of the first block so much larger than that of the last.",
        "d": "Where a b is a product of two random numbers, changes of both add up, in proportion, to about the root "
        "of 2 times as much. Post-norm brings each sum back to an rms of 1, so that the next layer outweighs it again: "
        "about 1.4 per block, and 1.4 to the power 24 is 3,200. In pre-norm a layer adds to a residual stream that has "
        "grown, and its factor falls towards 1; with ReLU, whose slope fits its result, post-norm's is about 1.",
    },
    hint="x times x is a product: by how many per cent does it grow where x grows by one per cent? And relu(x)?",
)
