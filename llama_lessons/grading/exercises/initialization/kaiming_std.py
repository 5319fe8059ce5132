"""Exercise 2: He's standard deviation, which keeps the size of activations through depth."""

import math
from collections.abc import Callable
from functools import partial

from torch import nn

from llama_lessons.initialization import rms

from ...exercise import Exercise
from ...expect import Mismatch, expect_number, expect_value_error, random_tensor
from .common import std_of


def kaiming_std(fan_in: int, gain: float = 2**0.5) -> float:
    if fan_in <= 0:
        raise ValueError("fan_in must be positive")
    return gain / math.sqrt(fan_in)


def cases() -> list[tuple]:
    """Nearly all without a gain, so that a wrong formula is known by its name even where gain is wrong as well."""
    return [(7,), (50,), (128,), (512,), (1,), (3,), (90,), (11,), (128, 3.0), (20, 0.3), (0,), (0, 1.0)]


exercise = Exercise(
    kaiming_std,
    points=3,
    minutes=4,
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


@exercise.property("8 inputs and the gain that is meant for ReLU: 0.5")
def eight_inputs(answer: Callable) -> None:
    expect_number(answer(8), 0.5, where="kaiming_std(8)")


@exercise.property("the same as torch's own, for ReLU and for no activation")
def as_torch_has_it(answer: Callable) -> None:
    for fan_in, fan_out in ((512, 512), (300, 100), (100, 300), (1, 9)):
        for nonlinearity, gain in (("relu", ()), ("linear", (1.0,))):
            want = std_of(partial(nn.init.kaiming_normal_, nonlinearity=nonlinearity), fan_in, fan_out)
            where = f"a matrix of shape {(fan_out, fan_in)}, {nonlinearity}"
            expect_number(answer(fan_in, *gain), want, where=where, rtol=1e-4)


@exercise.property("gain multiplies the standard deviation")
def gain_multiplies(answer: Callable) -> None:
    for gain in (1.0, 2.0, 5 / 3, 0.5, 0.0):
        expect_number(answer(400, gain), gain / 20, where=f"fan_in 400, gain {gain:.3g}")


@exercise.property("a stack of ReLU layers keeps its root mean square")
def keeps_the_rms(answer: Callable) -> None:
    x = random_tensor(64, 256)
    for layer in range(8):
        x = (x @ (random_tensor(256, 256, seed=layer + 1) * answer(256)).T).relu()
    if not 0.6 < (got := rms(x)) < 1.6:
        raise Mismatch(f"after 8 layers of 256 channels with ReLU: expected an rms near 1, got {got:.3g}")


@exercise.property("a fan_in of 0 or less is refused with a ValueError")
def bad_fan_in(answer: Callable) -> None:
    for fan_in in (0, -1, -64):
        expect_value_error(answer, fan_in, where=f"fan_in {fan_in}")


exercise.slips("""
    a gain of 1 for ReLU: = 2**0.5 -> = 1.0
        Without a gain you return 1 / sqrt(fan_in). ReLU leaves half of the mean square, so the default is sqrt(2).
    a gain of 2 for ReLU: = 2**0.5 -> = 2.0
        Without a gain you return 2 / sqrt(fan_in). ReLU's 2 belongs to the variance: multiply by its root, sqrt(2).
    a gain of one half for ReLU: = 2**0.5 -> = 0.5
        Your default gain is 1/2, the part of the mean square that ReLU leaves. To make up for it takes 2, or sqrt(2).
    gain upside down: = 2**0.5 -> = 0.5**0.5
        Your default gain is sqrt(1/2), which is what ReLU does to the rms. To make up for it takes one over it.
    the 2 twice: math.sqrt(fan_in) -> math.sqrt(fan_in / 2)
        There is a 2 in your formula, and the default gain is sqrt(2) already. The formula is gain / sqrt(fan_in).
    the gain written in: return gain / -> return 2**0.5 /
        Your result is that for ReLU, whatever gain is. A layer without an activation needs gain 1.
    the 2 in place of the default: return gain / -> return (gain if gain == 2**0.5 else gain * 2**0.5) /
        Where gain is given, your result is sqrt(2) times too large: ReLU's 2 is in your formula whatever gain is. The
        formula is gain / sqrt(fan_in), and ReLU's sqrt(2) is the default of gain itself.
    gain squared: return gain / -> return gain**2 /
        Your gain is squared. It multiplies the standard deviation once; it is the variance that it multiplies twice.
    the variance: gain / math.sqrt(fan_in) -> gain**2 / fan_in
        That is the variance, for ReLU 2 / fan_in. The standard deviation is its root, and what torch's normal_ wants.
    divided by fan_in: math.sqrt(fan_in) -> fan_in
        You divide by fan_in. It is the *variance* of a sum that grows with fan_in, so divide by its root.
    the power before the division: math.sqrt(fan_in) -> fan_in / 2
        Your result is gain / fan_in / 2, which is what fan_in ** 1 / 2 means: the power first. Write fan_in ** 0.5.
    gain under the root: gain / math.sqrt(fan_in) -> math.sqrt(gain / fan_in)
        Your gain stands under the root. It multiplies the standard deviation: sqrt(2) doubles the mean square.
    gain under the root, where ReLU's is 2: return gain / -> return (gain if gain == 2**0.5 else gain**0.5) /
        Your gain stands under the root, where ReLU's would be 2. It multiplies outside of it: ReLU's is sqrt(2).
    divided by gain: gain / -> 1 / gain /
        You divide by gain. ReLU takes half of the mean square away, so the weights have to be larger: multiply.
    the limit of the uniform variant: math.sqrt(fan_in) -> math.sqrt(fan_in / 3)
        gain * sqrt(3 / fan_in) is the largest weight of the *uniform* variant. The standard deviation is asked for.
    grows with fan_in: gain / math -> gain * math
        Your result is gain * sqrt(fan_in). The more products a sum has, the smaller each of them must be.
    0 is divided by: fan_in <= 0 -> fan_in < 0
        For a fan_in of 0 yours raises a ZeroDivisionError, as / and ** do. Raise a ValueError before you compute.
    infinity for 0: raise ValueError("fan_in must be positive") -> return math.inf
        For a fan_in of 0 infinity comes out, as where numpy divides. Raise a ValueError before anything is computed.
    0 in place of an error: raise ValueError("fan_in must be positive") -> return 0.0
        A fan_in of 0 gives 0 in yours, and the mistake goes unnoticed: raise ValueError, and where it is less than 0.
    an assert: raise ValueError -> raise AssertionError
        A fan_in of 0 raises an AssertionError in yours, as assert does. Asked for is a ValueError, by `raise`.
""")
