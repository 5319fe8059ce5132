"""Quick questions of lesson 07."""

from ...question import question

question(
    name="which_mask_with_a_cache",
    right="c",
    reasons={
        "a": "The triangle of map a begins at the first key: the first new token would read key 0 alone, and miss the "
        "other two that are cached, and itself. The new tokens come after the cached ones, so query 0 stands at place "
        "3.",
        "b": "In map b a token reads itself and what comes after it: that is the future, and it is the past that a "
        "token may read.",
        "c": "The new tokens stand at places 3 to 6, and each reads the keys up to its own place: 4, 5, 6 and 7 of "
        "them. These are the last four rows of the triangle of all seven tokens, so each token reads the same with a "
        "cache as without one.",
        "d": "In map d all new tokens read each other. The four are read at once, but they still come one after the "
        "other: the first of them must not see the fourth.",
    },
    hint="Three tokens are cached, and the first of the four new ones stands at place 3. How many keys may it read, "
    "itself included?",
)

question(
    name="why_the_loss_is_too_low",
    right="b",
    reasons={
        "a": "A longer past does not help: the tokens are drawn independently, so it says nothing about the next "
        "one. ln 16 is the lowest loss that an honest model can have, with windows of any length.",
        "b": "What each prediction but the last has to tell is the next token of the window, which this model can "
        "read. Only the last one has to be guessed, and costs ln 16 = 2.77 nats. The mean over 16 predictions is 2.77 "
        "/ 16 = 0.17, near the 0.19 seen; over 64 it would be 0.04.",
        "c": "Positions say where a token stands, never which one it is. Take them away, and this model still cheats; "
        "put the mask in, and it can't, with any kind of positions.",
        "d": "Each batch is drawn anew, so there is nothing to remember. A model that learned its batches by heart "
        "would show its true loss on the next one.",
    },
    hint="Which of the predictions in a window is honest? And over how many is its loss spread?",
)

question(
    name="what_grouping_saves",
    right="d",
    reasons={
        "a": "The number of scores stays: there are still 32 query heads, and each compares each query with each key. "
        "Only whose keys they are has changed.",
        "b": "GQA is grouped-query attention, a way to save memory. It does not make a model answer better; in large "
        "models it costs a little quality. The data set for questions on pictures only shares the letters.",
        "c": "Only k_proj and v_proj get smaller, to a quarter. q_proj and o_proj stay, and so do the feed-forward "
        "layers, which hold most of the parameters.",
        "d": "Keys and values are kept for 8 heads in place of 32. Each new token has to read all of them, and with a "
        "long text it is this reading, more than computing, that takes the time: so a smaller cache saves memory, and "
        "makes a model faster too.",
    },
    hint="What is there 8 times in place of 32 times, and when does it have to be read?",
)
