"""Exercise 4: predict what norms do to small tokens, then run."""

from collections.abc import Callable
from functools import partial

from ...exercise import Exercise
from ...expect import Mismatch
from ...prediction import number_by_number


def predict_norms() -> tuple[float, float, float, float, float]:
    first = -1.0  # LayerNorm of (-2, 14)
    second = -0.2  # RMSNorm of (-2, 14)
    third = -0.2  # RMSNorm of (-20, 140)
    fourth = -1.0  # RMSNorm of (-2, 14) less its mean
    fifth = -0.2  # RMSNorm of (-2, 14), beside another token
    return first, second, third, fourth, fifth


ASKED = {
    "1. LayerNorm of (-2, 14), first channel": -1.0,
    "2. RMSNorm of (-2, 14), first channel": -0.2,
    "3. RMSNorm of (-20, 140), first channel": -0.2,
    "4. RMSNorm of (-2, 14) less its mean, first channel": -1.0,
    "5. RMSNorm of (-2, 14), first channel, with another token beside it": -0.2,
}


exercise = Exercise(
    predict_norms,
    points=3,
    minutes=6,
    cases=lambda: [(number,) for number in range(1, len(ASKED) + 1)],
    returns=float,
    using=number_by_number("predict_norms", len(ASKED), digits=2),
    hints=(
        "What is the mean of (-2, 14)? What is left of each channel without it, and what is the mean of those squares? "
        "For RMSNorm, square -2 and 14 as they are.",
        "For 3 and 5 nothing needs to be computed, if you remember what RMSNorm ignores, and what a token sees of "
        "another. For 4, write the two channels down before you square.",
    ),
)


def expect_prediction(number: int, right: float, answer: Callable) -> None:
    if (said := answer(number)) != right:
        raise Mismatch(f"to two decimals your prediction is {said:g}, and that is not what comes out")


for number, (asked, right) in enumerate(ASKED.items(), 1):
    exercise.property(asked)(partial(expect_prediction, number, right))


exercise.slips("""
    LayerNorm, sign turned: first = -1.0 -> first = 1.0
        Number 1: -2 lies below the mean of -2 and 14, so what is left of it is negative.
    LayerNorm, sum of squares not halved: first = -1.0 -> first = -0.71
        Number 1: this is -8 divided by the root of 64 + 64, the sum of the squares, or of that over one less than the
        number of channels. With two channels, the variance is (64 + 64) / 2.
    LayerNorm divided by the variance: first = -1.0 -> first = -0.12
        Number 1: this is -8 / 64, divided by the variance. LayerNorm divides by its root, the standard deviation.
    LayerNorm not divided: first = -1.0 -> first = -8.0
        Number 1: this is -2 less the mean. LayerNorm divides that by the standard deviation.
    RMSNorm for LayerNorm: first = -1.0 -> first = -0.2
        Number 1: this is what RMSNorm gives. LayerNorm takes the mean away first.
    LayerNorm with the mean left in: first = -1.0 -> first = -0.25
        Number 1: this is -2 divided by the standard deviation, 8. The mean, 6, is taken away from -2 first.
    LayerNorm's mean beside the root mean square: first = -1.0 -> first = -0.8
        Number 1: this is -8 / 10, the root mean square of (-2, 14). LayerNorm divides by that of (-8, 8).
    LayerNorm for RMSNorm: second = -0.2 -> second = -1.0
        Number 2: this is what LayerNorm gives. RMSNorm takes no mean away: it squares -2 and 14 as they are.
    RMSNorm, sign lost: second = -0.2 -> second = 0.2
        Number 2: RMSNorm divides by a positive number, so a negative channel stays negative.
    length for root mean square: second = -0.2 -> second = -0.14
        Number 2: this is -2 divided by the length, the root of the sum of squares. Take the root of their mean.
    divided by the mean square: second = -0.2 -> second = -0.02
        Number 2: this is -2 divided by the mean square, 100. RMSNorm divides by its root.
    divided by the mean: second = -0.2 -> second = -0.33
        Number 2: this is -2 divided by the mean, 6. RMSNorm divides by the root of the mean of the squares.
    RMSNorm divided by 8: second = -0.2 -> second = -0.25
        Number 2: this is -2 / 8: 8 is the standard deviation of (-2, 14), and the mean of their absolute values.
        RMSNorm squares the channels as they are, takes the mean, and then the root.
    scale kept: third = -0.2 -> third = -2.0
        Number 3: a token ten times as large has a root mean square ten times as large, and the two cancel.
    scale turned round: third = -0.2 -> third = -0.02
        Number 3: a token ten times as large does not come out smaller: its root mean square is ten times as large too.
    LayerNorm of the larger token: third = -0.2 -> third = -1.0
        Number 3: this is what LayerNorm gives. RMSNorm takes no mean away: it squares -20 and 140 as they are.
    shift ignored: fourth = -1.0 -> fourth = -0.2
        Number 4: this is the result for (-2, 14) itself. LayerNorm ignores a shift, and RMSNorm does not: without its
        mean the token is (-8, 8), which has another direction.
    root mean square of the token with its mean: fourth = -1.0 -> fourth = -0.8
        Number 4: this is -8 divided by 10, the root mean square of (-2, 14). Take that of (-8, 8) itself.
    sign of the shifted channel: fourth = -1.0 -> fourth = 1.0
        Number 4: the first channel is -2 - 6, which is negative.
    one scale for both tokens: fifth = -0.2 -> fifth = -0.03
        Number 5: this is -2 divided by a scale that both tokens share. Each token has its own.
    scaled by the neighbour: fifth = -0.2 -> fifth = -0.02
        Number 5: this is -2 / 100: 100 is the neighbour's root mean square, and the token's own mean square. Each token
        is divided by the root of its own mean square.
    LayerNorm beside a neighbour: fifth = -0.2 -> fifth = -1.0
        Number 5: this is what LayerNorm gives. RMSNorm takes no mean away: it squares -2 and 14 as they are.
""")


@exercise.misconception
def second_channels():
    """Each of your numbers is that of the second channel. The first one is asked for."""
    return 1.0, 1.4, 1.4, 1.0, 1.4
