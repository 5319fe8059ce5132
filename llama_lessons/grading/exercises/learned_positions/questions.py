"""Quick questions of lesson 01."""

from ...question import question
from .common import LESSON

__all__ = ["only_eight_rows", "rows_that_stay", "who_has_a_table"]

rows_that_stay = question(
    name="rows_that_stay",
    lesson=LESSON,
    right="c",
    wrong={
        "a": "True without weight decay. But AdamW pulls every weight that is in its decayed group towards 0 in each "
        "step, gradient or not.",
        "b": "Nothing carries from row to row: they are separate numbers, and a gradient reaches only rows that were "
        "read. The optimizer has no idea that row 64 comes after row 63.",
        "d": "A token past 63 was never read, so no gradient ever reached these rows, large or small.",
    },
    hint="What moves a weight in AdamW? There are two things, and only one of them needs a gradient. Section 6 of the "
    "lesson tries it.",
)

only_eight_rows = question(
    name="only_eight_rows",
    lesson=LESSON,
    right="d",
    wrong={
        "a": "Then rows 0 to 63 would have moved, if only a little. The others moved by exactly 0.",
        "b": "Texts of eight tokens would look like this, but all texts had 64 tokens. What else is eight here?",
        "c": "A gradient is never exactly 0 just because a row is good enough, and all rows were drawn at random.",
    },
    hint="Which numbers of the batch are 64, and which are 8? Section 11 of the lesson has a bug that fits.",
)

who_has_a_table = question(
    name="who_has_a_table",
    lesson=LESSON,
    right="b",
    wrong={
        "a": "The original Transformer computed its positions from sines and cosines. Its paper reports that a learned "
        "table did nearly the same, and kept the sines.",
        "c": "Llama has no table: SmolLM2, which is built like Llama, has no parameter for positions at all. Section "
        "10 lists them.",
        "d": "They do it in three different ways, and only one of them learns its positions.",
    },
    hint="Section 10 of the lesson has a box on just this, and a list of all parameters of a real model.",
)
