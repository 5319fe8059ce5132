"""Exercise 4: predict, then run: the gradient of one batch."""

import math
from collections.abc import Callable
from functools import cache, partial

from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, plain

ASKED = (
    "the first row with a gradient",
    "the last row with a gradient",
    "how many rows have a gradient",
    "what stands in each number of row 22's gradient",
)


def predict_gradient() -> tuple:
    first_row = 20
    last_row = 29
    n_rows = 10
    in_row_22 = 4  # each of the four sequences adds its 1
    return first_row, last_row, n_rows, in_row_22


def use(answer: Callable[[], tuple]) -> Callable[[int], float]:
    """The function that gives one of the four numbers, so that each is graded by itself."""

    predicted = cache(answer)  # one prediction, asked for number by number

    def number(which: int) -> float:
        numbers = plain(predicted())
        if not isinstance(numbers, tuple) or len(numbers) != len(ASKED):
            raise Mismatch(f"expected four numbers, such as (1, 2, 3, 4), got {numbers!r}")
        value = numbers[which]
        value = value.item() if isinstance(value, Tensor) and value.ndim == 0 else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Mismatch(f"expected a plain number, got {value!r}")
        return float(value)

    return number


exercise = Exercise(
    predict_gradient,
    points=2,
    minutes=4,
    cases=lambda: [(which,) for which in range(len(ASKED))],
    returns=float,
    using=use,
    hints=(
        "The first token stands at start_pos. At which position does the tenth one stand?",
        "All four sequences read the same rows of the table. So a row is read four times, and each time the sum grows "
        "by 1 if one of its numbers grows by 1.",
    ),
)


def comes_out(which: int, answer: Callable) -> None:
    if (got := answer(which)) != predict_gradient()[which]:
        raise Mismatch(f"{got:g} is not what comes out")


for number, asked in enumerate(ASKED):
    exercise.property(asked)(partial(comes_out, number))


exercise.slips("""
    rows from 0 on: first_row = 20 -> first_row = 0
        You begin at row 0. With start_pos=20 the first token stands at position 20.
    begins one later: first_row = 20 -> first_row = 21
        You begin at row 21. The first token stands at start_pos itself, which is 20.
    ends one later: last_row = 29 -> last_row = 30
        Your last row is 30. Ten rows from 20 on are 20 to 29: the end is not included.
    the last row one text after another: last_row = 29 -> last_row = 59
        Your last row is 59, as if the four sequences made one text of 40 tokens. All of them begin at start_pos.
    the last row forgets start_pos: last_row = 29 -> last_row = 9
        Your last row is 9, which would be right for start_pos=0.
    up to the end of the table: last_row = 29 -> last_row = 127
        Your last row is 127, the last of the table. Rows at which no token stood have a gradient of 0.
    the batch counted, not the tokens: last_row = 29 -> last_row = 23
        Your last row is 23, four rows from 20 on, as many as sequences. Positions run along the ten tokens of each.
    a row for each token of the batch: n_rows = 10 -> n_rows = 40
        You count 40 rows, one for each token of the batch. The four sequences share their rows.
    all rows up to the last: n_rows = 10 -> n_rows = 30
        You count 30 rows, as many as there are from 0 to 29. The first twenty of these were not read.
    the whole table: n_rows = 10 -> n_rows = 128
        You count all 128 rows. One that no token stood at has a gradient of 0.
    a row for each sequence: n_rows = 10 -> n_rows = 4
        You count four rows, one for each sequence. That would be a table that lies along the wrong axis.
    one row too few: n_rows = 10 -> n_rows = 9
        You count 9 rows, which is 29 - 20. Both ends are included, so there is one more.
    each row counted once: in_row_22 = 4 -> in_row_22 = 1
        You say 1. That is what one sequence brings, and four of them read row 22.
    nothing from zeros: in_row_22 = 4 -> in_row_22 = 0
        You say 0. x is 0, but rows are added to it, not multiplied: a sum grows by 1 if its row does, whatever x is.
    all tokens in each row: in_row_22 = 4 -> in_row_22 = 40
        You say 40, as if each token of the batch had read row 22. Only the third token of each sequence did.
    a share in a mean: in_row_22 = 4 -> in_row_22 = 0.25
        You say 0.25, which is one sequence's share in a mean of four. Here .sum() is taken, and all four read row 22.
    tokens in place of sequences: in_row_22 = 4 -> in_row_22 = 10
        You say 10, the number of tokens in a sequence. Only one token of each sequence reads row 22.
    a sum over the channels too: in_row_22 = 4 -> in_row_22 = 64
        You say 64, the sum over the channels: 4 times 16. Asked for is what stands in each single number.
""")


@exercise.misconception
def one_long_text():
    """Your numbers are those for one text of 40 tokens, which read rows 20 to 59, once each. But each sequence of a
    batch is a text of its own: all four begin at start_pos, and read the same rows."""
    return 20, 59, 40, 1


@exercise.misconception
def the_table_along_the_batch():
    """Your numbers are those for a table that lies along the batch: four rows, one for each sequence, and each read by
    ten tokens. Positions run along the tokens: ten rows, each read by four sequences."""
    return 20, 23, 4, 10
