"""Xavier's standard deviation: what suits a linear unit forwards and backwards at once."""

import math
from collections.abc import Callable

import torch
from torch import nn

from llama_lessons import initialization

from ...exercise import Exercise
from ...expect import Mismatch, expect_value_error
from .common import LESSON, draw, expect_number

__all__ = ["xavier_std"]


def cases() -> list[tuple]:
    # Nearly all with gain 1, so that a wrong formula is known by its name even where gain is wrong as well.
    return [
        (6, 6, 1.0),
        (300, 100, 1.0),
        (100, 300, 1.0),
        (512, 2048, 1.0),
        (64, 16, 3.0),
        (0, 4, 1.0),
        (4, 0, 1.0),
        (-1, 3, 1.0),
        (3, -1, 1.0),
    ]


xavier_std = Exercise(
    name="xavier_std",
    lesson=LESSON,
    points=3,
    minutes=4,
    parameters=("fan_in", "fan_out", "gain"),
    reference=initialization.xavier_std,
    cases=cases,
    returns=float,
    hints=(
        "Forwards the variance of a weight should be 1 / fan_in, backwards 1 / fan_out. Glorot and Bengio put the mean "
        "of the two fans there.",
        "The mean of two numbers is half of their sum, and one over a half is 2. That is the variance; a standard "
        "deviation is its root.",
        "gain multiplies the standard deviation, outside the root. Sizes are refused before anything is computed, each "
        "by itself: 0 and 4 have a sum that looks harmless.",
    ),
)


def torch_s(fan_in: int, fan_out: int, gain: float) -> float:
    """What torch's own Xavier multiplies standard normal numbers by."""
    shape = (fan_out, fan_in)
    plain = nn.init.normal_(torch.empty(shape), generator=torch.Generator().manual_seed(1))
    theirs = nn.init.xavier_normal_(torch.empty(shape), gain, generator=torch.Generator().manual_seed(1))
    return (theirs.norm() / plain.norm()).item()


@xavier_std.property("a square layer of 4 channels has 0.5")
def _(answer: Callable) -> None:
    expect_number(answer(4, 4, 1.0), 0.5, where="fan_in 4, fan_out 4")


@xavier_std.property("the same as torch's own Xavier, for every shape")
def _(answer: Callable) -> None:
    for fan_in, fan_out in ((512, 512), (300, 100), (100, 300), (128, 1024), (1, 1), (1, 6), (8, 1)):
        want = torch_s(fan_in, fan_out, 1.0)
        expect_number(answer(fan_in, fan_out, 1.0), want, where=f"fan_in {fan_in}, fan_out {fan_out}", rtol=1e-4)


@xavier_std.property("gain multiplies the standard deviation")
def _(answer: Callable) -> None:
    for gain in (2.0, 0.5, 5 / 3, 40.0, 0.0):
        want = gain * math.sqrt(2 / 400)
        expect_number(answer(300, 100, gain), want, where=f"fan_in 300, fan_out 100, gain {gain:.3g}")


@xavier_std.property("gain is 1 where it is not given")
def _(answer: Callable) -> None:
    expect_number(answer(2, 6), 0.5, where="xavier_std(2, 6)")


@xavier_std.property("a stack of linear layers keeps its root mean square")
def _(answer: Callable) -> None:
    x = draw(64, 128)
    for layer in range(8):
        x = x @ (draw(128, 128, seed=layer + 1) * answer(128, 128, 1.0)).T
    got = initialization.rms(x)
    if not 0.7 < got < 1.4:
        raise Mismatch(f"after 8 layers of 128 channels without activation: expected a rms near 1, got {got:.3g}")


@xavier_std.property("a fan of 0 or less is refused with a ValueError")
def _(answer: Callable) -> None:
    for fan_in, fan_out in ((0, 4), (4, 0), (0, 0), (-1, 4), (4, -1), (-2, 1), (-1, -4)):
        expect_value_error(answer, fan_in, fan_out, 1.0, where=f"fan_in {fan_in}, fan_out {fan_out}")


def refuse(*fans: int) -> None:
    """The check that most of the wrong answers below have right."""
    if min(fans) <= 0:
        raise ValueError("fans must be positive")


@xavier_std.misconception(
    "the 2 is missing",
    "Your weights are too small by sqrt(2): the variance is 1 over the *mean* of the two fans, and the mean is half of "
    "their sum.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * math.sqrt(1 / (fan_in + fan_out))


@xavier_std.misconception(
    "the variance",
    "That is the variance, 2 / (fan_in + fan_out). A standard deviation is its root, and what torch's normal_ wants.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * 2 / (fan_in + fan_out)


@xavier_std.misconception(
    "the root of the 2 alone",
    "You take the root of the 2 and not of the sum below it. The root goes over the whole fraction.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * math.sqrt(2) / (fan_in + fan_out)


@xavier_std.misconception(
    "the 2 too large",
    "Your weights are too large by sqrt(2). The 2 stands under the root, over the sum of the fans, and it stands there "
    "once.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * 2 / math.sqrt(fan_in + fan_out)


@xavier_std.misconception(
    "round brackets missing",
    "Python divides before it adds: 2 / fan_in + fan_out is (2 / fan_in) + fan_out. Put the sum in round brackets.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * math.sqrt(2 / fan_in + fan_out)


@xavier_std.misconception(
    "the limit of the uniform variant",
    "sqrt(6 / (fan_in + fan_out)) is the largest weight of Xavier's *uniform* variant. Its standard deviation is that "
    "limit divided by sqrt(3), which is what is asked for.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * math.sqrt(6 / (fan_in + fan_out))


@xavier_std.misconception(
    "fan_in alone",
    "You look at fan_in alone: 1 / sqrt(fan_in). That suits the way forwards. Xavier's compromise takes fan_out into "
    "account too, for the way back.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain / math.sqrt(fan_in)


@xavier_std.misconception(
    "fan_out alone",
    "You look at fan_out alone, which suits gradients on their way back. Xavier's compromise has fan_in in it as well.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain / math.sqrt(fan_out)


@xavier_std.misconception(
    "He in place of Xavier",
    "sqrt(2 / fan_in) is He's, for ReLU. In Xavier's formula the same 2 stands for the mean of *two* fans.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * math.sqrt(2 / fan_in)


@xavier_std.misconception(
    "the product of the fans",
    "You multiply the fans: that is the number of weights in the matrix. Each output sums over fan_in of them and each "
    "gradient over fan_out, so it is their sum that counts.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * math.sqrt(2 / (fan_in * fan_out))


@xavier_std.misconception(
    "the geometric mean",
    "You take the geometric mean of the fans, sqrt(fan_in * fan_out). Glorot and Bengio take the ordinary one, half of "
    "the sum. The two agree for square layers only.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain / math.sqrt(math.sqrt(fan_in * fan_out))


@xavier_std.misconception(
    "the mean of two variances",
    "You take both variances, 1 / fan_in and 1 / fan_out, and then their mean. Take the mean of the fans first: one "
    "over it is the variance.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * math.sqrt((1 / fan_in + 1 / fan_out) / 2)


@xavier_std.misconception(
    "the mean of two standard deviations",
    "You take both standard deviations, 1 / sqrt(fan_in) and 1 / sqrt(fan_out), and then their mean. Take the mean of "
    "the fans first, then one root.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return gain * (1 / math.sqrt(fan_in) + 1 / math.sqrt(fan_out)) / 2


@xavier_std.misconception(
    "gain under the root",
    "Your gain stands under the root, so that a gain of 4 only doubles. It multiplies the standard deviation itself.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return math.sqrt(gain * 2 / (fan_in + fan_out))


@xavier_std.misconception(
    "divided by gain",
    "You divide by gain. An activation with a large gain is one that shrinks much: the weights have to make up for it.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return math.sqrt(2 / (fan_in + fan_out)) / gain


@xavier_std.misconception(
    "gain ignored",
    "The result is the same whatever gain is. Multiply by it.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in, fan_out)
    return math.sqrt(2 / (fan_in + fan_out))


@xavier_std.misconception(
    "sizes not checked",
    "You accept a fan of 0 or less as long as the sum is positive. A layer without inputs or outputs is a mistake made "
    "elsewhere: raise ValueError.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    return gain * math.sqrt(2 / (fan_in + fan_out))


@xavier_std.misconception(
    "only fan_in checked",
    "You refuse a fan_in of 0 or less, and accept such a fan_out.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in)
    return gain * math.sqrt(2 / (fan_in + fan_out))


@xavier_std.misconception(
    "only fan_out checked",
    "You refuse a fan_out of 0 or less, and accept such a fan_in.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_out)
    return gain * math.sqrt(2 / (fan_in + fan_out))


@xavier_std.misconception(
    "0 is let through",
    "You refuse negative fans, but let 0 through: a layer without inputs or without outputs is to be refused as well.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(fan_in + 1, fan_out + 1)
    return gain * math.sqrt(2 / (fan_in + fan_out))


@xavier_std.misconception(
    "negative fans are let through",
    "You refuse a fan of 0, but let negative ones through. Compare with <= 0.",
)
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    refuse(abs(fan_in), abs(fan_out))
    return gain * math.sqrt(2 / (fan_in + fan_out))


@xavier_std.alternative
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    if fan_in < 1 or fan_out < 1:
        raise ValueError(f"fan_in ({fan_in}) and fan_out ({fan_out}) must be positive")
    mean = (fan_in + fan_out) / 2
    return gain * mean**-0.5


@xavier_std.alternative
def _(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    if not (fan_in > 0 and fan_out > 0):
        raise ValueError("a layer needs inputs and outputs")
    return float(gain / torch.tensor([fan_in, fan_out], dtype=torch.float64).mean().sqrt())
