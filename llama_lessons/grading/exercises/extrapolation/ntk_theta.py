"""Exercise 3: the base that slows the slowest pair by a factor, and the fastest not at all."""

import math
from collections.abc import Callable

import torch

from ...exercise import Exercise
from ...expect import Mismatch, expect_number, expect_value_error


def ntk_theta(theta: float, factor: float, head_dim: int) -> float:
    if head_dim <= 2:
        raise ValueError("one pair only")
    exponent = head_dim / (head_dim - 2)
    return theta * factor**exponent


exercise = Exercise(
    ntk_theta,
    points=3,
    minutes=5,
    cases=lambda: [
        (10_000.0, 2.0, 4),
        (10_000.0, 4.0, 8),
        (10_000.0, 1.0, 64),
        (100_000.0, 1.5, 64),
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


@exercise.property("the worked example: theta 10,000, factor 2, a head of four channels")
def by_hand(answer: Callable) -> None:
    expect_number(answer(10_000.0, 2.0, 4), 40_000.0, where="theta 10,000, factor 2, head_dim 4", rtol=1e-9)


@exercise.property("the slowest pair turns exactly `factor` times more slowly")
def slowest_pair(answer: Callable) -> None:
    for theta, head_dim in ((10_000.0, 64), (100_000.0, 64), (500_000.0, 128), (100.5, 6), (10_000.0, 8)):
        for factor in (1.5, 2.0, 3.0, 16.0):
            got = answer(theta, factor, head_dim)
            where = f"theta {theta:,g}, factor {factor:g}, head_dim {head_dim}"
            if not 0 < got < math.inf:
                raise Mismatch(f"{where}: expected a positive number, got {got}")
            times = slowest(theta, head_dim) / slowest(got, head_dim)
            expect_number(times, factor, where=f"{where}: how much more slowly the slowest pair turns", rtol=1e-9)


@exercise.property("a factor of 1 changes nothing")
def factor_of_one(answer: Callable) -> None:
    for theta, head_dim in ((10_000.0, 64), (500_000.0, 4)):
        where = f"theta {theta:,g}, factor 1, head_dim {head_dim}"
        expect_number(answer(theta, 1.0, head_dim), theta, where=where, rtol=1e-9)


@exercise.property("whole numbers are taken as well")
def whole_numbers(answer: Callable) -> None:
    expect_number(answer(10_000, 4, 6), 80_000.0, where="theta 10000, factor 4, head_dim 6, whole numbers", rtol=1e-9)


@exercise.property("a head of one pair is refused with a ValueError")
def one_pair(answer: Callable) -> None:
    for factor in (2.0, 1.0):
        expect_value_error(answer, 10_000.0, factor, 2, where=f"head_dim 2, factor {factor:g}")


exercise.slips("""
    theta times factor: factor**exponent -> factor
        You multiply theta by factor itself. The slowest pair's exponent is not -1 but -(head_dim - 2) / head_dim, so it
        slows by less than factor. The factor needs a power.
    the exponent upside down: head_dim / (head_dim - 2) -> (head_dim - 2) / head_dim
        Your factor stands under the power (head_dim - 2) / head_dim. Solving for the base turns it upside down.
    pairs in place of channels: (head_dim - 2) -> (head_dim - 4)
        Your exponent is n / (n - 2) with the number of pairs for n, so too large. n has to be head_dim.
    half of head_dim below the line: (head_dim - 2) -> (head_dim / 2 - 1)
        Your exponent is twice too large: head_dim over head_dim / 2 - 1. Count channels, or pairs, in both places.
    1 in place of 2: (head_dim - 2) -> (head_dim - 1)
        Your exponent is head_dim / (head_dim - 1). The slowest pair is number head_dim / 2 - 1, and 2i is head_dim - 2.
    the 2 added: (head_dim - 2) -> (head_dim + 2)
        Your exponent is head_dim / (head_dim + 2). The slowest pair is number head_dim / 2 - 1, and 2i is head_dim - 2.
    what the exponent is above 1: head_dim / (head_dim - 2) -> 2 / (head_dim - 2)
        Your exponent is 2 / (head_dim - 2). That is what it has beyond 1: head_dim / (head_dim - 2) is asked for.
    an exponent cut to a whole number: head_dim / (head_dim - 2) -> head_dim // (head_dim - 2)
        Your exponent comes out as 1 where head_dim is large, as if it were cut or rounded to a whole number. It stays
        a little above 1: divide with /.
    the exponent without its brackets: factor**exponent -> factor**head_dim / (head_dim - 2)
        You raise factor to head_dim, and divide by head_dim - 2: ** binds closer than /. Bracket the exponent.
    the factor squared: factor**exponent -> factor**2
        You square factor. Its exponent is head_dim / (head_dim - 2): 2 for a head of four channels alone, and closer to
        1 the more there are.
    the power of both: theta * factor**exponent -> (theta * factor) ** exponent
        You raise theta to the power as well. Only factor is: with a factor of 1, theta must come out as it went in.
    the power of theta alone: theta * factor**exponent -> theta**exponent * factor
        You raise theta to the power, and not factor. With a factor of 1, theta must come out as it went in.
    times, where a power is meant: factor**exponent -> factor * exponent
        You multiply by head_dim / (head_dim - 2). It is the exponent of factor, so that a factor of 1 changes nothing.
    a smaller base: theta * factor -> theta / factor
        Theta is divided by what it is to be multiplied by, so all pairs but the first turn faster. A longer text needs
        slower pairs, and a larger base makes them slower.
    the factor alone: theta * factor -> factor
        You return what theta is to be multiplied by. The new base itself is asked for.
    added: theta * factor -> theta + factor
        You add to theta. The base is multiplied.
    one over the base: theta * factor**exponent -> 1 / (theta * factor**exponent)
        You return one over the new base. The slowest pair's exponent has a minus: solving for the base turns it around.
    the slowest frequency: theta * factor**exponent -> theta ** (-1 / exponent) / factor
        You return the frequency to which the slowest pair comes. The base that gives it is asked for.
    theta written in: theta * factor -> 10_000 * factor
        Your result is that for a theta of 10,000, whatever theta is.
    one pair accepted: raise ValueError("one pair only") -> return float(theta)
        You give theta back for a head of two channels. Its only pair is the fastest and the slowest at once, so nothing
        can be asked of it: raise ValueError.
    two pairs refused: head_dim <= 2 -> head_dim <= 4
        You refuse a head of four channels. It has two pairs, a fastest and a slowest: only head_dim 2 is refused.
""")


@exercise.misconception
def computed_in_float32(theta, factor, head_dim):
    """Your base is right to seven digits, as in torch's float32. Plain floats of Python have sixteen."""
    return torch.tensor(ntk_theta(theta, factor, head_dim)).item()
