"""He's standard deviation: what keeps the size of activations through depth."""

import math
from collections.abc import Callable

import torch
from torch import nn

from llama_lessons import initialization

from ...exercise import Exercise
from ...expect import Mismatch, expect_value_error
from .common import LESSON, draw, expect_number

__all__ = ["kaiming_std"]

ROOT_2 = math.sqrt(2)


def cases() -> list[tuple]:
    # Nearly all without a gain, so that a wrong formula is known by its name even where gain is wrong as well.
    return [(7,), (50,), (128,), (512,), (128, 3.0), (0,), (0, 1.0), (-1,)]


kaiming_std = Exercise(
    name="kaiming_std",
    lesson=LESSON,
    points=3,
    minutes=4,
    parameters=("fan_in", "gain"),
    reference=initialization.kaiming_std,
    cases=cases,
    returns=float,
    hints=(
        "Section 2 says by what a layer multiplies the mean square: fan_in * std ** 2. Without an activation this "
        "should be 1.",
        "ReLU leaves half of the mean square, so with it the product should be 2. Which gain makes it 2, if gain "
        "stands outside of the root?",
        "The default is a number that is written in the signature: sqrt(2), as math.sqrt(2) or 2**0.5. Do not put a "
        "second 2 into the formula.",
    ),
)


def torch_s(fan_in: int, fan_out: int, nonlinearity: str) -> float:
    """What torch's own He initialization multiplies standard normal numbers by."""
    shape = (fan_out, fan_in)
    plain = nn.init.normal_(torch.empty(shape), generator=torch.Generator().manual_seed(1))
    theirs = torch.empty(shape)
    nn.init.kaiming_normal_(theirs, nonlinearity=nonlinearity, generator=torch.Generator().manual_seed(1))
    return (theirs.norm() / plain.norm()).item()


@kaiming_std.property("8 inputs and the gain that is meant for ReLU: 0.5")
def _(answer: Callable) -> None:
    expect_number(answer(8), 0.5, where="kaiming_std(8)")


@kaiming_std.property("the same as torch's own, for ReLU and for no activation")
def _(answer: Callable) -> None:
    for fan_in, fan_out in ((512, 512), (300, 100), (100, 300), (1, 9)):
        where = f"a matrix of shape {(fan_out, fan_in)}"
        expect_number(answer(fan_in), torch_s(fan_in, fan_out, "relu"), where=f"{where}, ReLU", rtol=1e-4)
        expect_number(answer(fan_in, 1.0), torch_s(fan_in, fan_out, "linear"), where=f"{where}, gain 1", rtol=1e-4)


@kaiming_std.property("gain multiplies the standard deviation")
def _(answer: Callable) -> None:
    for gain in (1.0, 2.0, 5 / 3, 0.5, 0.0):
        expect_number(answer(400, gain), gain / 20, where=f"fan_in 400, gain {gain:.3g}")


@kaiming_std.property("a stack of ReLU layers keeps its root mean square")
def _(answer: Callable) -> None:
    x = draw(64, 256)
    for layer in range(8):
        x = (x @ (draw(256, 256, seed=layer + 1) * answer(256)).T).relu()
    got = initialization.rms(x)
    if not 0.6 < got < 1.6:
        raise Mismatch(f"after 8 layers of 256 channels with ReLU: expected a rms near 1, got {got:.3g}")


@kaiming_std.property("a fan_in of 0 or less is refused with a ValueError")
def _(answer: Callable) -> None:
    for fan_in in (0, -1, -64):
        expect_value_error(answer, fan_in, where=f"fan_in {fan_in}")


def refuse(fan_in: int) -> None:
    """The check that all but one of the wrong answers below have right."""
    if fan_in <= 0:
        raise ValueError("fan_in must be positive")


@kaiming_std.misconception(
    "a gain of 1 for ReLU",
    "Without a gain you return 1 / sqrt(fan_in), which suits a layer *without* an activation. ReLU leaves half of the "
    "mean square, so the default gain is sqrt(2).",
)
def _(fan_in: int, gain: float = 1.0) -> float:
    refuse(fan_in)
    return gain / math.sqrt(fan_in)


@kaiming_std.misconception(
    "a gain of 2 for ReLU",
    "The 2 belongs to the variance. A gain multiplies the standard deviation, so it is sqrt(2).",
)
def _(fan_in: int, gain: float = 2.0) -> float:
    refuse(fan_in)
    return gain / math.sqrt(fan_in)


@kaiming_std.misconception(
    "the 2 twice",
    "Your formula has a 2 under its root, and the default gain is sqrt(2) already: together they make up for ReLU "
    "twice, and each layer doubles the mean square. The formula is gain / sqrt(fan_in).",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    refuse(fan_in)
    return gain * math.sqrt(2 / fan_in)


@kaiming_std.misconception(
    "the 2 in the formula in place of the gain's default",
    "Your formula has ReLU's 2 in it whatever gain is. The formula is gain / sqrt(fan_in), and ReLU's sqrt(2) is the "
    "default of gain itself.",
)
def _(fan_in: int, gain: float = 1.0) -> float:
    refuse(fan_in)
    return gain * math.sqrt(2 / fan_in)


@kaiming_std.misconception(
    "gain is what stands under the root",
    "Your gain stands under the root, where ReLU's would be 2. It multiplies the standard deviation, outside of the "
    "root: ReLU's is sqrt(2).",
)
def _(fan_in: int, gain: float = 2.0) -> float:
    refuse(fan_in)
    return math.sqrt(gain / fan_in)


@kaiming_std.misconception(
    "the gain written in",
    "You return sqrt(2 / fan_in) whatever gain is. A layer without an activation needs gain 1.",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    refuse(fan_in)
    return math.sqrt(2 / fan_in)


@kaiming_std.misconception(
    "the variance",
    "That is the variance, gain ** 2 / fan_in. A standard deviation is its root, and what torch's normal_ wants.",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    refuse(fan_in)
    return gain**2 / fan_in


@kaiming_std.misconception(
    "divided by fan_in",
    "You divide by fan_in. It is the *variance* of the sum that grows with fan_in, so the standard deviation is "
    "divided by its root.",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    refuse(fan_in)
    return gain / fan_in


@kaiming_std.misconception(
    "gain under the root",
    "Your gain stands under the root. It multiplies the standard deviation itself: only then does sqrt(2) double the "
    "mean square.",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    refuse(fan_in)
    return math.sqrt(gain / fan_in)


@kaiming_std.misconception(
    "divided by gain",
    "ReLU takes half of the mean square away, so the weights have to be larger by sqrt(2), and yours are smaller. "
    "Multiply by gain: do not divide.",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    refuse(fan_in)
    return 1 / (gain * math.sqrt(fan_in))


@kaiming_std.misconception(
    "gain upside down",
    "Your default gain is sqrt(1/2), which is what ReLU does to the rms. The gain has to make up for that: it is one "
    "over it, sqrt(2).",
)
def _(fan_in: int, gain: float = 1 / ROOT_2) -> float:
    refuse(fan_in)
    return gain / math.sqrt(fan_in)


@kaiming_std.misconception(
    "the limit of the uniform variant",
    "gain * sqrt(3 / fan_in) is the largest weight of the *uniform* variant. The standard deviation is asked for.",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    refuse(fan_in)
    return gain * math.sqrt(3 / fan_in)


@kaiming_std.misconception(
    "grows with fan_in",
    "You multiply by sqrt(fan_in). The more products a sum has, the smaller each of them must be.",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    refuse(fan_in)
    return gain * math.sqrt(fan_in)


@kaiming_std.misconception(
    "fan_in of 0 not refused",
    "You give a number for a fan_in of 0 or less. Such a layer is a mistake made elsewhere: raise ValueError first.",
)
def _(fan_in: int, gain: float = ROOT_2) -> float:
    return gain / math.sqrt(abs(fan_in)) if fan_in else math.inf


@kaiming_std.alternative
def _(fan_in: int, gain: float = ROOT_2) -> float:
    if fan_in < 1:
        raise ValueError(f"fan_in ({fan_in}) must be positive")
    return (gain**2 / fan_in) ** 0.5


@kaiming_std.alternative
def _(fan_in: int, gain: float = nn.init.calculate_gain("relu")) -> float:
    if not fan_in > 0:
        raise ValueError("a layer needs inputs")
    return gain * fan_in**-0.5
