"""Exercise 4: predict, then run: the gradient of one batch."""

import math
from collections.abc import Callable
from typing import Any

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON

__all__ = ["prediction"]

ASKED = (
    "the first row with a gradient",
    "the last row with a gradient",
    "how many rows have a gradient",
    "what stands in each number of row 22's gradient",
)
# Four sequences of ten tokens from position 20 on; each of them adds its 1 to the gradient of each row.
RIGHT = (20, 29, 10, 4)


def use(answer: Callable[[], tuple]) -> Callable[[int], float]:
    """The function that gives one of the four numbers, so that each is graded by itself."""

    def number(which: int) -> float:
        numbers = answer()
        if isinstance(numbers, list):
            numbers = tuple(numbers)
        if not isinstance(numbers, tuple) or len(numbers) != len(RIGHT):
            raise Mismatch(f"expected four numbers, such as (1, 2, 3, 4), got {numbers!r}")
        return as_number(numbers[which])

    return number


def as_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Mismatch(f"expected a plain number, got {value!r}")
    return float(value)


def says(*numbers: float) -> Callable[[], tuple]:
    def answer() -> tuple:
        return numbers

    return answer


prediction = Exercise(
    name="predict_gradient",
    lesson=LESSON,
    points=2,
    minutes=4,
    parameters=(),
    reference=says(*RIGHT),
    cases=lambda: [(which,) for which in range(len(RIGHT))],
    returns=float,
    using=use,
    hints=(
        "The first token stands at start_pos. At which position does the tenth one stand?",
        "All four sequences read the same rows of the table. So a row is read four times, and each time the sum grows "
        "by 1 if one of its numbers grows by 1.",
    ),
)


def add_property(which: int, asked: str) -> None:
    @prediction.property(asked)
    def _(answer: Callable) -> None:
        got = answer(which)
        if got != RIGHT[which]:
            raise Mismatch(f"number {which + 1}, {asked}: {got:g} is not what comes out")


for number, asked in enumerate(ASKED):
    add_property(number, asked)


def wrong(which: int, value: float, name: str, diagnosis: str) -> None:
    """A misconception that shows in one of the four numbers."""
    numbers = [*RIGHT]
    numbers[which] = value
    prediction.misconception(name, diagnosis)(says(*numbers))


wrong(0, 0, "rows from 0 on", "You begin at row 0. With start_pos=20 the first token stands at position 20.")
wrong(0, 21, "begins one later", "You begin at row 21. The first token stands at start_pos itself, which is 20.")
wrong(0, 19, "begins one earlier", "You begin at row 19. The first token stands at start_pos itself, which is 20.")
wrong(1, 30, "ends one later", "Your last row is 30. Ten rows from 20 on are 20 to 29: the end is not included.")
wrong(
    1,
    59,
    "the sequences stand one after another",
    "Your last row is 59, as if the four sequences made one text of "
    "40 tokens. Each sequence of a batch is a text of its own, and all begin at start_pos.",
)
wrong(1, 9, "the last row forgets start_pos", "Your last row is 9, which would be right for start_pos=0.")
wrong(
    1,
    127,
    "up to the end of the table",
    "Your last row is 127, the last of the table. Rows that no token stood at "
    "have no part in the sum, so their gradient is 0.",
)
wrong(
    1,
    23,
    "the batch counted, not the tokens",
    "Your last row is 23: you counted the four sequences. Positions run along the tokens of a sequence.",
)
wrong(
    2,
    40,
    "a row for each token of the batch",
    "You count 40 rows, one for each token of the batch. The four sequences share their rows.",
)
wrong(2, 30, "all rows up to the last", "You count 30 rows, from 0 on. The first twenty were not read.")
wrong(2, 128, "the whole table", "You count all 128 rows. One that no token stood at has a gradient of 0.")
wrong(
    2,
    4,
    "a row for each sequence",
    "You count four rows, one for each sequence of the batch. That would be a table that lies along the wrong axis.",
)
wrong(2, 9, "one row too few", "You count 9 rows: 29 - 20. Both ends are included, so there is one more.")
wrong(2, 11, "one row too many", "You count 11 rows. Ten tokens stand at ten positions.")
wrong(3, 1, "each row counted once", "You say 1. That is what one sequence brings, and four of them read row 22.")
wrong(
    3,
    40,
    "all tokens in each row",
    "You say 40, as if each token of the batch had read row 22. Only the third token of each sequence did.",
)
wrong(3, 0.25, "a mean over the batch", "You say 0.25: a mean over the batch. Here .sum() is taken.")
wrong(
    3,
    10,
    "tokens in place of sequences",
    "You say 10, the number of tokens in a sequence. Only one token of each sequence reads row 22.",
)
wrong(
    3,
    64,
    "a sum over the channels too",
    "You say 64, the sum over the channels: 4 times 16. Asked for is what stands in each single number.",
)
wrong(
    3,
    16,
    "channels in place of sequences",
    "You say 16, the number of channels. Each channel has its own gradient; it is the sequences that add up.",
)
wrong(3, 0, "no gradient in row 22", "You say 0. Row 22 lies between the first and the last row that were read.")


@prediction.alternative
def predict_gradient() -> tuple:
    import torch

    table = torch.zeros(128, 16, requires_grad=True)
    (torch.zeros(4, 10, 16) + table[20:30]).sum().backward()
    rows = (table.grad != 0).any(dim=1).nonzero().flatten().tolist()
    return rows[0], rows[-1], len(rows), table.grad[22, 0].item()
