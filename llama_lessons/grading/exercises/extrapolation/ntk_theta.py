"""Exercise 3: the base that slows the slowest pair by a factor, and the fastest not at all."""

import math
from collections.abc import Callable

from llama_lessons import extrapolation

from ...exercise import Exercise
from ...expect import Mismatch, expect_value_error
from .common import LESSON

__all__ = ["ntk_theta"]


def refuse(head_dim: int) -> None:
    if head_dim <= 2:
        raise ValueError("one pair only")


ntk_theta = Exercise(
    name="ntk_theta",
    lesson=LESSON,
    points=3,
    minutes=5,
    parameters=("theta", "factor", "head_dim"),
    reference=extrapolation.ntk_theta,
    cases=lambda: [
        (10_000.0, 2.0, 4),
        (10_000.0, 4.0, 8),
        (10_000.0, 1.0, 64),
        (100_000.0, 2.0, 64),
        (500_000.0, 8.0, 128),
        (100.0, 3.0, 6),
        (10_000.0, 2.0, 2),
    ],
    returns=float,
    hints=(
        "Which pair is the slowest? There are head_dim / 2 pairs, counted from 0. Write its frequency as a power of "
        "theta.",
        "The slowest pair's exponent is -(head_dim - 2) / head_dim. The new base, to that power, has to be the old "
        "one, to that power, divided by factor. Solve for the new base.",
        "Raise both sides to the power that makes the exponent on the left 1. Then factor stands under a power a "
        "little above 1.",
    ),
)


def slowest(theta: float, head_dim: int) -> float:
    return math.pow(theta, -(head_dim - 2) / head_dim)


def expect_number(got: float, want: float, where: str) -> None:
    if not math.isclose(got, want, rel_tol=1e-9):
        raise Mismatch(f"{where}: expected {want:.8g}, got {got:.8g}")


@ntk_theta.property("the worked example: theta 10,000, factor 2, a head of four channels")
def _(answer: Callable) -> None:
    expect_number(answer(10_000.0, 2.0, 4), 40_000.0, "theta 10,000, factor 2, head_dim 4")


@ntk_theta.property("the slowest pair turns exactly `factor` times more slowly")
def _(answer: Callable) -> None:
    for theta, factor, head_dim in (
        (10_000.0, 2.0, 64),
        (100_000.0, 2.0, 64),
        (500_000.0, 8.0, 128),
        (10_000.0, 1.5, 32),
        (100.0, 3.0, 6),
        (10_000.0, 16.0, 8),
    ):
        got = answer(theta, factor, head_dim)
        where = f"theta {theta:,.0f}, factor {factor:g}, head_dim {head_dim}"
        if not (isinstance(got, float) and 0 < got < math.inf):
            raise Mismatch(f"{where}: expected a positive number, got {got}")
        times = slowest(theta, head_dim) / slowest(got, head_dim)
        expect_number(times, factor, f"{where}: how much more slowly the slowest pair turns")


@ntk_theta.property("a factor of 1 changes nothing")
def _(answer: Callable) -> None:
    for theta, head_dim in ((10_000.0, 64), (500_000.0, 4)):
        expect_number(answer(theta, 1.0, head_dim), theta, f"theta {theta:,.0f}, factor 1, head_dim {head_dim}")


@ntk_theta.property("factor by factor: 2 and then 3 is 6")
def _(answer: Callable) -> None:
    twice = answer(answer(10_000.0, 2.0, 64), 3.0, 64)
    expect_number(twice, 10_000.0 * math.exp(math.log(6) * 64 / 62), "theta 10,000 by 2, then by 3, head_dim 64")


@ntk_theta.property("whole numbers are taken as well")
def _(answer: Callable) -> None:
    expect_number(answer(10_000, 4, 6), 80_000.0, "theta 10000, factor 4, head_dim 6, all whole numbers")


@ntk_theta.property("a head of one pair is refused with a ValueError")
def _(answer: Callable) -> None:
    expect_value_error(answer, 10_000.0, 2.0, 2, where="head_dim 2")
    expect_value_error(answer, 10_000.0, 1.0, 2, where="head_dim 2, factor 1")


@ntk_theta.misconception(
    "theta times factor",
    "You multiply theta by factor itself. The slowest pair's exponent is not -1 but -(head_dim - 2) / head_dim, so it "
    "slows by less than factor. The factor needs a power.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return float(theta * factor)


@ntk_theta.misconception(
    "the exponent upside down",
    "Your factor stands under the power (head_dim - 2) / head_dim. Solving for the new base turns that exponent upside "
    "down.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return theta * factor ** ((head_dim - 2) / head_dim)


@ntk_theta.misconception(
    "pairs in place of channels",
    "Your exponent is n / (n - 2) with the number of pairs for n, so too large. The 2 is subtracted from head_dim; "
    "from the number of pairs it is 1.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    pairs = head_dim / 2
    return theta * factor ** (pairs / (pairs - 2)) if pairs != 2 else math.inf


@ntk_theta.misconception(
    "1 in place of 2",
    "Your exponent is head_dim / (head_dim - 1). The slowest pair is number head_dim / 2 - 1, and 2i is head_dim - 2.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return theta * factor ** (head_dim / (head_dim - 1))


@ntk_theta.misconception(
    "the power of both",
    "You raise theta to the power as well. Only factor is: with a factor of 1, theta must come out as it went in.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return (theta * factor) ** (head_dim / (head_dim - 2))


@ntk_theta.misconception(
    "times, where a power is meant",
    "You multiply by head_dim / (head_dim - 2). It is the exponent of factor: with a factor of 1, theta must come out "
    "as it went in.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return theta * factor * head_dim / (head_dim - 2)


@ntk_theta.misconception(
    "a smaller base",
    "You divide theta, so all pairs but the first turn faster. A longer text needs slower pairs, and a larger base "
    "makes them slower.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return theta / factor ** (head_dim / (head_dim - 2))


@ntk_theta.misconception(
    "the factor alone",
    "You return what theta is to be multiplied by. The new base itself is asked for.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return factor ** (head_dim / (head_dim - 2))


@ntk_theta.misconception(
    "added",
    "You add to theta. The base is multiplied.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return theta + factor ** (head_dim / (head_dim - 2))


@ntk_theta.misconception(
    "one pair accepted",
    "You give theta back for a head of two channels. Its only pair is the fastest and the slowest at once, so nothing "
    "can be asked of it: raise ValueError.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    return float(theta) if head_dim <= 2 else theta * factor ** (head_dim / (head_dim - 2))


@ntk_theta.misconception(
    "an exponent cut to a whole number",
    "Your exponent is cut to a whole number, which is 1 for every head of more than four channels. Divide with /, not "
    "with //.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return theta * factor ** (head_dim // (head_dim - 2))


@ntk_theta.misconception(
    "the factor squared",
    "You square factor. Its exponent is head_dim / (head_dim - 2): 2 for a head of four channels alone, and closer to "
    "1 the more there are.",
)
def _(theta: float, factor: float, head_dim: int) -> float:
    refuse(head_dim)
    return theta * factor**2


@ntk_theta.alternative
def _(theta: float, factor: float, head_dim: int) -> float:
    if head_dim < 4:
        raise ValueError("head_dim must be at least 4")
    exponent = (head_dim - 2) / head_dim
    return (theta**exponent * factor) ** (1 / exponent)


@ntk_theta.alternative
def _(theta: float, factor: float, head_dim: int) -> float:
    if head_dim == 2:
        raise ValueError("one pair")
    last_pair = head_dim // 2 - 1
    return math.exp(math.log(theta) + math.log(factor) * head_dim / (2 * last_pair))
