"""Exercise 3: predict four dot products, then run them."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import torch

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON

__all__ = ["predict_dot_products"]

DIM = 128
ROW, MOVED = DIM / 2, round(sum(math.cos(7 * 10_000.0 ** (-2 * i / DIM)) for i in range(DIM // 2)), 1)
RIGHT = (ROW, ROW, MOVED, MOVED)
ASKED = ("row 5 with itself", "row 1,000,000 with itself", "rows 1010 and 1017", "rows 10 and 3")
NUDGES = (
    "What do the squares of a sine and its cosine add up to, and how many pairs are there?",
    "Is a sine smaller far out?",
    "How far apart are the two, and does anything else count?",
    "How far apart are the two, and does the cosine mind which comes first?",
)


def _numbers(function: Callable[[], Any]) -> Callable[[], Any]:
    """The learner's function, its numbers as floats with one decimal, so that 64 and 64.0 are one prediction."""

    def call() -> Any:
        predicted = function()
        if not isinstance(predicted, (tuple, list)):
            return predicted
        return tuple(round(float(v), 1) if isinstance(v, (numbers.Real, torch.Tensor)) else v for v in predicted)

    return call


def _reference() -> tuple:
    return RIGHT


predict_dot_products = Exercise(
    name="predict_dot_products",
    lesson=LESSON,
    points=2,
    minutes=4,
    parameters=(),
    reference=_reference,
    cases=lambda: [()],
    returns=(float, float, float, float),
    using=_numbers,
    hints=(
        "In each pair the square of the sine and the square of the cosine add up to 1. How many pairs are there?",
        "The dot product of two rows is a sum of cos((m - n) * frequency) over the pairs. What is m - n in each of the "
        "four, and does the cosine mind its sign?",
    ),
)


def _ask(number: int) -> None:
    @predict_dot_products.property(f"prediction {number + 1}: {ASKED[number]}")
    def _(answer: Callable) -> None:
        predicted = answer()[number]
        if not abs(predicted - RIGHT[number]) < 0.15:
            raise Mismatch(f"{ASKED[number]}: {predicted:g} is not what comes out. {NUDGES[number]}")


for _number in range(len(RIGHT)):
    _ask(_number)


@predict_dot_products.misconception(
    "one for each channel",
    "You count 1 for each channel. A sine and its cosine *share* the 1: their squares add up to 1, so count the pairs.",
)
def _() -> tuple:
    return DIM, DIM, MOVED, MOVED


@predict_dot_products.misconception(
    "the length instead of its square",
    "8 is the length of a row. The dot product of a row with itself is the square of that.",
)
def _() -> tuple:
    return 8, 8, MOVED, MOVED


@predict_dot_products.misconception(
    "the lesson's table",
    "These are the numbers of the lesson's table, which has 64 channels. This one has 128: count its pairs.",
)
def _() -> tuple:
    return ROW / 2, ROW / 2, 23.3, 23.3


@predict_dot_products.misconception(
    "half of the pairs",
    "32 is the dot product for 64 channels, as in the lesson. This table has 128, and so 64 pairs.",
)
def _() -> tuple:
    return ROW / 2, ROW / 2, MOVED, MOVED


@predict_dot_products.misconception(
    "rows of length 1",
    "A single pair has length 1. A row has 64 pairs, and their squares add up.",
)
def _() -> tuple:
    return 1, 1, MOVED, MOVED


@predict_dot_products.misconception(
    "everything fades far out",
    "You expect the encoding of position 1,000,000 to have faded away. Sines and cosines are as large there as "
    "anywhere: in each pair, their squares add up to 1.",
)
def _() -> tuple:
    return ROW, 0, MOVED, MOVED


@predict_dot_products.misconception(
    "only slow pairs are left far out",
    "You expect the fast half of the pairs to have vanished at position 1,000,000. They turn there as fast as "
    "anywhere, and are as large.",
)
def _() -> tuple:
    return ROW, ROW / 2, MOVED, MOVED


@predict_dot_products.misconception(
    "nothing in common far out",
    "You expect nothing to be left of the dot product further out. It is a sum of cos((m - n) * frequency): the "
    "distance is 7 there too.",
)
def _() -> tuple:
    return ROW, ROW, 0, MOVED


@predict_dot_products.misconception(
    "the sign of the direction",
    "You expect the other sign on the other side. Row 3 is 7 before row 10, as row 17 is 7 after it, and the cosine of "
    "-7 f is that of 7 f: the dot product does not tell before from after.",
)
def _() -> tuple:
    return ROW, ROW, MOVED, -MOVED


@predict_dot_products.misconception(
    "nothing in the other direction",
    "You expect nothing on the other side. Row 3 is as far from row 10 as row 17 is, and the cosine does not mind the "
    "sign of the distance.",
)
def _() -> tuple:
    return ROW, ROW, MOVED, 0


@predict_dot_products.alternative
def _() -> tuple:
    return int(ROW), int(ROW), MOVED, MOVED


@predict_dot_products.alternative
def _() -> list:
    return [torch.tensor(ROW), ROW, MOVED + 0.04, MOVED - 0.04]
