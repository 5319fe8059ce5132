"""Quick questions of lesson 01."""

from ...question import question

who_has_a_table = question(
    name="who_has_a_table",
    right="b",
    reasons={
        "a": "The original Transformer computed its positions from sines and cosines. Its paper reports that a learned "
        "table did nearly the same, and kept the sines.",
        "b": "GPT-2 learned a table of 1,024 rows, and so cannot read a longer text. The original Transformer computes "
        "sines and cosines, and Llama turns queries and keys instead.",
        "c": "Llama has no table: SmolLM2, which is built like Llama, has no parameter for positions at all. Section "
        "10 lists them.",
        "d": "They do it in three different ways, and only one of them learns its positions.",
    },
    hint="Section 10 of the lesson has a box on just this, and a list of all parameters of a real model.",
)

rows_that_stay = question(
    name="rows_that_stay",
    right="c",
    reasons={
        "a": "That would be so without weight decay. But AdamW pulls every weight that it decays towards 0 in each "
        "step, gradient or not.",
        "b": "Nothing carries over from row to row: they are separate numbers, and a gradient reaches only rows that "
        "were read. The optimizer has no idea that row 64 comes after row 63.",
        "c": "No token ever stood there, so their gradient was 0 in every step. Weight decay needs none: it makes each "
        "weight a little smaller in each step. A text of 65 tokens meets a small row that means nothing.",
        "d": "No token ever stood past position 63, so no gradient reached these rows, large or small.",
    },
    hint="What moves a weight in AdamW? There are two things, and only one of them needs a gradient. Section 6 of the "
    "lesson tries it.",
)

only_eight_rows = question(
    name="only_eight_rows",
    right="d",
    reasons={
        "a": "However small the learning rate is, a row that is read moves a little. These moved by exactly 0.",
        "b": "Texts of eight tokens would look like this, but all texts had 64 tokens. What else is eight here?",
        "c": "A gradient is hardly ever exactly 0 just because a row is good enough, and all rows were drawn at "
        "random.",
        "d": "Only rows 0 to 7 were ever read, though each text had 64 tokens. What there is eight of is texts: each "
        "text got one row for all of its tokens, so the table told where a text sits in the batch, and no position.",
    },
    hint="Which numbers of the batch are 64, and which are 8? Section 11 of the lesson has a bug that fits.",
)
