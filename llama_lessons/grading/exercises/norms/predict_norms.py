"""Exercise 4: predict what norms do to small tokens, then run."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON

__all__ = ["predict_norms"]

RIGHT = (-1.0, -0.2, -0.2, -1.0, -0.2)
ASKED = (
    "1. LayerNorm of (-2, 14), first channel",
    "2. RMSNorm of (-2, 14), first channel",
    "3. RMSNorm of (-20, 140), first channel",
    "4. RMSNorm of (-2, 14) less its mean, first channel",
    "5. RMSNorm of (-2, 14), first channel, with another token beside it",
)


def use(answer: Callable[[], Sequence[float]]) -> Callable[[int], float]:
    """Make of the prediction a function that gives its numbers one by one, from 1 on, to two decimals.

    So each wrong number is named by itself, however the others came out, and however exactly it was written.
    """

    def run(number: int) -> float:
        said = answer()
        if not isinstance(said, (tuple, list)) or len(said) != len(RIGHT):
            raise ValueError(f"a tuple of {len(RIGHT)} numbers is asked for, and predict_norms returned {said!r}")
        value = said[number - 1]
        if isinstance(value, (bool, str)):
            raise ValueError(f"number {number} of what predict_norms returned is no number, but {value!r}")
        return round(float(value), 2)

    return run


predict_norms = Exercise(
    name="predict_norms",
    lesson=LESSON,
    points=3,
    minutes=6,
    parameters=(),
    reference=partial(tuple, RIGHT),
    cases=lambda: [(number,) for number in range(1, len(RIGHT) + 1)],
    returns=float,
    using=use,
    hints=(
        "What is the mean of (-2, 14)? What is left of each channel without it, and what is the mean of those squares? "
        "For RMSNorm, square -2 and 14 as they are.",
        "For 3 and 5 nothing needs to be computed, if you remember what RMSNorm ignores, and what a token sees of "
        "another. For 4, write the two channels down before you square.",
    ),
)


def ask(number: int) -> None:
    @predict_norms.property(ASKED[number - 1])
    def _(answer: Callable) -> None:
        if answer(number) != RIGHT[number - 1]:
            raise Mismatch(f"your prediction is {answer(number):g}, and that is not what comes out")


for number in range(1, len(RIGHT) + 1):
    ask(number)


def predict(number: int, value: float, name: str, diagnosis: str) -> None:
    """Add the prediction that is right but for one number."""
    said = tuple(value if i == number else right for i, right in enumerate(RIGHT, 1))
    predict_norms.misconception(name, f"Number {number}: {diagnosis}")(partial(tuple, said))


predict(1, 1.0, "LayerNorm, sign turned", "-2 lies below the mean of -2 and 14, so what is left of it is negative.")
predict(
    1,
    -0.71,
    "LayerNorm divided by dim - 1",
    "you divided the sum of squares by one less than the number of channels. With two channels, the variance is "
    "(64 + 64) / 2.",
)
predict(
    1,
    -0.12,
    "LayerNorm divided by the variance",
    "you divided by the variance, 64. LayerNorm divides by its root, the standard deviation.",
)
predict(
    1,
    -0.2,
    "RMSNorm for LayerNorm",
    "this is what RMSNorm gives. LayerNorm takes the mean away first.",
)
predict(
    1,
    -0.25,
    "LayerNorm with the mean left in",
    "you divided by the standard deviation, as LayerNorm does, but -2 itself. The mean, 6, is taken away first.",
)
predict(
    2,
    -1.0,
    "LayerNorm for RMSNorm",
    "this is what LayerNorm gives. RMSNorm takes no mean away: it squares -2 and 14 as they are.",
)
predict(
    2,
    0.2,
    "RMSNorm, sign lost",
    "a norm divides by a positive number, so a negative channel stays negative.",
)
predict(
    2,
    -0.14,
    "length for root mean square",
    "you divided by the length, the root of the sum of squares. RMSNorm divides by the root of their mean.",
)
predict(2, -0.02, "divided by the mean square", "you divided by the mean square, 100. RMSNorm divides by its root.")
predict(
    2,
    -0.33,
    "divided by the mean",
    "you divided by the mean, 6. RMSNorm divides by the root of the mean of the squares.",
)
predict(
    2,
    -0.25,
    "divided by the standard deviation",
    "you divided by the standard deviation (or by the mean of the absolute values); both are 8 here. RMSNorm squares "
    "the channels as they are.",
)
predict(
    3,
    -2.0,
    "scale kept",
    "a token ten times as large has a root mean square ten times as large, and the two cancel.",
)
predict(
    3,
    -0.02,
    "scale turned round",
    "a token ten times as large does not come out smaller: its root mean square grows as it does, and no faster.",
)
predict(
    4,
    -0.2,
    "shift ignored",
    "you hold that RMSNorm ignores a shift, as LayerNorm does. Without its mean the token is (-8, 8), which has "
    "another direction than (-2, 14).",
)
predict(
    4,
    -0.8,
    "root mean square of the token with its mean",
    "you divided -8 by 10, the root mean square of (-2, 14). Take that of (-8, 8) itself.",
)
predict(4, 1.0, "sign of the shifted channel", "the first channel is -2 - 6, which is negative.")
predict(
    5,
    -0.03,
    "one scale for both tokens",
    "you took one root mean square of both tokens. Each token has its own: a neighbour, however large, changes "
    "nothing.",
)
predict(
    5,
    -0.02,
    "scaled by the neighbour",
    "you divided by the root mean square of the neighbour. Each token is divided by its own.",
)


@predict_norms.misconception(
    "second channels",
    "Each of your numbers is that of the second channel. The first one is asked for.",
)
def _() -> tuple:
    return 1.0, 1.4, 1.4, 1.0, 1.4


@predict_norms.alternative
def _() -> tuple:
    token, both = torch.tensor([-2.0, 14.0]), torch.tensor([[-2.0, 14.0], [100.0, -100.0]])
    results = (
        F.layer_norm(token, (2,)),
        F.rms_norm(token, (2,)),
        F.rms_norm(10 * token, (2,)),
        F.rms_norm(token - token.mean(), (2,)),
        F.rms_norm(both, (2,))[0],
    )
    return tuple(result[0].item() for result in results)


@predict_norms.alternative
def _() -> list:
    return [-1, -1 / 5, -2 / 10, -1, -0.2]
