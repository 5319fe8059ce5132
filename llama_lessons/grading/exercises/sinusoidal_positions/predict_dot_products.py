"""Exercise 3: predict four dot products, then run them."""

import numbers
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch


def predict_dot_products() -> tuple[float, float, float, float]:
    near = 64.0
    far = 64.0
    later = 46.8
    before = 46.8
    return near, far, later, before


ASKED = {
    "row 5 with itself": "What do the squares of a sine and its cosine add up to, and how many pairs are there?",
    "row 1,000,000 with itself": "Is a sine smaller far out, or larger?",
    "rows 1010 and 1017": "How far apart are the two, and does anything else count?",
    "rows 10 and 3": "How far apart are the two, and does a cosine change with the sign?",
}


def to_one_decimal(predict: Callable) -> Callable:
    """The learner's function, its numbers as floats with one decimal, so that 64 and 64.0 are one prediction."""

    def predicted() -> Any:
        found = predict()
        if not isinstance(found, (tuple, list)):
            return found
        return tuple(round(float(v), 1) if isinstance(v, (numbers.Real, Tensor)) else v for v in found)

    return predicted


exercise = Exercise(
    predict_dot_products,
    points=2,
    minutes=4,
    cases=lambda: [()],
    returns=(float, float, float, float),
    using=to_one_decimal,
    hints=(
        "In each pair the square of the sine and the square of the cosine add up to 1. How many pairs are there?",
        "The dot product of two rows is a sum of cos((m - n) * frequency) over the pairs. What is m - n in each of the "
        "four, and what does its sign do to the cosine?",
    ),
)


def expect_prediction(number: int, answer: Callable) -> None:
    nudge = list(ASKED.values())[number]
    predicted = answer()[number]
    if not abs(predicted - predict_dot_products()[number]) < 0.05:
        raise Mismatch(f"{predicted:g} is not what comes out. {nudge}")


for number, asked in enumerate(ASKED):
    exercise.property(f"prediction {number + 1}: {asked}")(partial(expect_prediction, number))


exercise.slips("""
    one for each channel: return near, far -> return 128.0, 128.0
        128 is 1 for each channel. A sine and its cosine *share* the 1: their squares add up to 1, so count the
        pairs.
    the length instead of its square: return near, far -> return 8.0, 8.0
        8 is the length of a row. The dot product of a row with itself is the square of that.
    the lesson's table: return near, far, later, before -> return 32.0, 32.0, 23.3, 23.3
        These are the numbers of the lesson's table, which has 64 channels. This one has 128: count its pairs.
    half of the pairs: return near, far -> return 32.0, 32.0
        32 is the dot product for 64 channels, as in the lesson. This table has 128, and so 64 pairs.
    rows of length 1: return near, far -> return 1.0, 1.0
        A single pair has length 1. A row has 64 pairs, and their squares add up.
    the given number for a row with itself: return near, far -> return later, later
        46.8 is the dot product of rows that are 7 apart. A row is 0 apart from itself, where each cosine is 1.
    nothing in common with itself: return near, far -> return 0.0, 0.0
        You expect 0 for a row with itself. Sines and cosines of one row are squared there, and no square is negative:
        in each pair they add up to 1.
    far positions fade: far = 64.0 -> far = 0.0
        You have 0 for row 1,000,000 with itself, as if it had faded away. Sines and cosines are as large there as
        anywhere: in each pair, their squares add up to 1.
    everything far out fades: far, later, before -> 0.0, 0.0, before
        You have 0 for the rows beyond position 1000, as if they had faded away. Sines and cosines are as large
        there as anywhere, and the dot product depends on the distance alone.
    whole numbers: far, later, before -> far, 47.0, 47.0
        You round 46.8 to a whole number. One decimal is asked for.
    only slow pairs are left far out: far = 64.0 -> far = 32.0
        32 is what half of the pairs make, as if the others, such as the fast ones, had vanished at position 1,000,000.
        They turn there as fast as anywhere, and are as large.
    nothing in common further out: later = 46.8 -> later = 0.0
        You expect nothing to be left of the dot product further out. It is a sum of cos((m - n) * frequency): the
        distance is 7 there too.
    everything in common further out: later = 46.8 -> later = 64.0
        You expect rows 1010 and 1017 to be alike, as a row is to itself. They are 7 apart, as rows 10 and 17 are.
    the sign of the direction: before = 46.8 -> before = -46.8
        You expect the other sign on the other side. Row 3 is 7 before row 10, as row 17 is 7 after it, and the cosine
        of -7 f is that of 7 f: the dot product does not tell before from after.
    nothing in the other direction: before = 46.8 -> before = 0.0
        You expect nothing on the other side. Row 3 is as far from row 10 as row 17 is, and a cosine is the same for
        either sign of the distance.
    everything in common before: before = 46.8 -> before = 64.0
        You expect rows 10 and 3 to be alike, as a row is to itself. They are 7 apart, as rows 10 and 17 are.
    only rows near each other: far, later, before -> far, 0.0, 0.0
        You expect 0 for both pairs of rows. Rows 10 and 17 are 7 apart and have 46.8: so have all rows 7 apart, further
        out and on the other side too.
    all rows alike: far, later, before -> far, 64.0, 64.0
        You expect rows that are 7 apart to be alike, as a row is to itself. For 10 and 17 it is 46.8.
""")
