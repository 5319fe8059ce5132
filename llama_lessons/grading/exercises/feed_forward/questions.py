"""Quick questions of lesson 08."""

from ...question import question

question(
    name="why_two_thirds",
    right="b",
    reasons={
        "a": "Speed is not what decides: with 4 dim hidden channels SwiGLU would have half as many numbers again as "
        "the layer with two matrices, and could not be compared with it.",
        "b": "Three matrices of 8/3 dim by dim hold 8 dim squared numbers, as two of 4 dim by dim do. So the gate "
        "costs no parameters, and what it gains is not bought with a larger layer.",
        "c": "No third of the gates has to be shut: how many are is learned, and differs from layer to layer.",
        "d": "The product of gate and up may be large, but down_proj learns to scale it. The width has nothing to do "
        "with it.",
    },
    hint="Count the numbers in two matrices of 4 dim by dim, and in three of 8/3 dim by dim.",
)

question(
    name="what_the_layer_sees",
    right="d",
    reasons={
        "a": "Nothing in the layer mixes tokens: replace a neighbour, and this token's result stays to the last digit.",
        "b": "The layer is given a vector and no position. With the same vector at position 3 and at 3000 the same "
        "comes out. What it knows of the place has to be in the vector already.",
        "c": "The block's attention has read the past. The feed-forward layer has no cache, and reads this token's "
        "vector alone.",
        "d": "It is the same function of one vector for every token. What the vector holds, such as what attention has "
        "gathered from the past, is all that the layer can work with.",
    },
    hint="Which of its inputs could you change without changing the result for this token?",
)

question(
    name="what_experts_save",
    right="a",
    reasons={
        "a": "Each token's vector goes through two of eight experts, so a quarter of the feed-forward numbers are "
        "multiplied for it. But another token may want any of them, so all eight are kept in memory.",
        "b": "All experts have to be at hand, since the router chooses anew for each token. What becomes less is the "
        "work per token.",
        "c": "Attention is the same in a mixture of experts, and its cache too: only feed-forward layers are replaced.",
        "d": "The work per token is less, but all eight lie in memory: the router chooses anew for each token, and the "
        "next one may want any of them.",
    },
    hint="Which experts does the next token need? And how many matrices does one token's vector pass through?",
)
