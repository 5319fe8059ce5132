"""Exercise 1: Xavier's standard deviation, which suits a linear layer forwards and backwards at once."""

import math
from collections.abc import Callable

from torch import nn

from ...exercise import Exercise
from ...expect import expect_number, expect_value_error
from .common import std_of


def xavier_std(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    if fan_in <= 0 or fan_out <= 0:
        raise ValueError("fans must be positive")
    return gain * math.sqrt(2 / (fan_in + fan_out))


def cases() -> list[tuple]:
    """Nearly all with gain 1, so that a wrong formula is known by its name even where gain is wrong as well."""
    sizes = [(6, 6), (300, 100), (100, 300), (512, 2048), (7, 2), (1, 30), (40, 1)]
    bad = [(0, 4), (4, 0), (-1, 3), (3, -1)]
    return [*((*fans, 1.0) for fans in sizes), *bad, (5, 12), (64, 16, 3.0), (20, 5, 0.3)]


exercise = Exercise(
    xavier_std,
    points=3,
    minutes=4,
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


@exercise.property("a square layer of 4 channels has 0.5")
def square_layer(answer: Callable) -> None:
    expect_number(answer(4, 4, 1.0), 0.5, where="fan_in 4, fan_out 4")


@exercise.property("the same as torch's own Xavier, for every shape")
def as_torch_has_it(answer: Callable) -> None:
    for fan_in, fan_out in ((512, 512), (300, 100), (100, 300), (128, 1024), (1, 1), (1, 6), (8, 1)):
        where = f"fan_in {fan_in}, fan_out {fan_out}"
        expect_number(
            answer(fan_in, fan_out, 1.0), std_of(nn.init.xavier_normal_, fan_in, fan_out), where=where, rtol=1e-4
        )


@exercise.property("gain multiplies the standard deviation")
def gain_multiplies(answer: Callable) -> None:
    for gain in (2.0, 0.5, 5 / 3, 40.0, 0.0):
        want = gain * math.sqrt(2 / 400)
        expect_number(answer(300, 100, gain), want, where=f"fan_in 300, fan_out 100, gain {gain:.3g}")


@exercise.property("xavier_std(2, 6), without a gain, is 0.5")
def default_gain(answer: Callable) -> None:
    expect_number(answer(2, 6), 0.5, where="xavier_std(2, 6)")


@exercise.property("a fan of 0 or less is refused with a ValueError")
def bad_fans(answer: Callable) -> None:
    for fan_in, fan_out in ((0, 4), (4, 0), (0, 0), (-1, 4), (4, -1), (-2, 1), (-1, -4)):
        expect_value_error(answer, fan_in, fan_out, 1.0, where=f"fan_in {fan_in}, fan_out {fan_out}")


exercise.slips("""
    the 2 is missing: 2 / -> 1 /
        Your result is too small by sqrt(2): the variance is 1 over the *mean* of the fans, half of their sum.
    the variance: math.sqrt(2 / (fan_in + fan_out)) -> 2 / (fan_in + fan_out)
        That is the variance (without gain): 2 / (fan_in + fan_out). A standard deviation is its root.
    the root of the 2 alone: math.sqrt(2 / (fan_in + fan_out)) -> math.sqrt(2) / (fan_in + fan_out)
        Your result is sqrt(2) over the sum of the fans. The root goes over the whole fraction, sum included.
    too large by the root of 2: math.sqrt(2 / -> 2 * math.sqrt(1 /
        Your result is too large by sqrt(2). One 2 stands under the root, over the sum of the fans, and none elsewhere.
    the mean, not one over it: 2 / (fan_in + fan_out) -> (fan_in + fan_out) / 2
        Your result is the root of the mean fan. The more products a sum has, the smaller each must be: one over it.
    round brackets missing: 2 / (fan_in + fan_out) -> 2 / fan_in + fan_out
        Python divides before it adds: 2 / fan_in + fan_out is (2 / fan_in) + fan_out. Put the sum in round brackets.
    the limit of the uniform variant: 2 / -> 6 /
        sqrt(6 / (fan_in + fan_out)) is the largest weight of Xavier's *uniform* variant, sqrt(3) times too large.
    fan_in alone: 2 / (fan_in + fan_out) -> 1 / fan_in
        Your result is 1 / sqrt(fan_in), which suits the way forwards. Xavier's compromise has fan_out in it as well.
    fan_out alone: 2 / (fan_in + fan_out) -> 1 / fan_out
        Your result is 1 / sqrt(fan_out), which suits gradients on their way back. Xavier's has fan_in in it as well.
    He in place of Xavier: 2 / (fan_in + fan_out) -> 2 / fan_in
        sqrt(2 / fan_in) is He's, for ReLU. In Xavier's formula the same 2 stands for the mean of *two* fans.
    the larger fan: 2 / (fan_in + fan_out) -> 1 / max(fan_in, fan_out)
        Your result is that of the larger fan, in place of the mean of the two.
    the product of the fans: (fan_in + fan_out) -> (fan_in * fan_out)
        Your result is that of the fans' product, the number of weights in the matrix. Take the sum, or the mean.
    the geometric mean: 2 / (fan_in + fan_out) -> 1 / math.sqrt(fan_in * fan_out)
        Your result is that of the fans' geometric mean, sqrt(fan_in * fan_out). Xavier's mean is half of their sum.
    the mean made a whole number: 2 / (fan_in + fan_out) -> 1 / ((fan_in + fan_out) // 2)
        Your mean of the fans is a whole number, as by //, int or round. That of 1 and 6 is 3.5: divide with / alone.
    half of the right one: 2 / (fan_in + fan_out) -> 1 / (fan_in + fan_out) / 2
        Your result is half of the right one. One over half of the sum is 2 over the sum, not one over twice the sum.
    the mean of two variances: 2 / (fan_in + fan_out) -> (1 / fan_in + 1 / fan_out) / 2
        Your variance is the mean of 1 / fan_in and 1 / fan_out. It is to be one over the mean of the fans themselves.
    the mean of two standard deviations: math.sqrt(2 / (fan_in + fan_out)) -> (fan_in**-0.5 + fan_out**-0.5) / 2
        Yours is the mean of 1 / sqrt(fan_in) and 1 / sqrt(fan_out). Take the mean of the fans first, then one root.
    gain under the root: gain * math.sqrt( -> math.sqrt(gain *
        Your gain stands under the root, so that a gain of 4 only doubles. It multiplies the standard deviation itself.
    divided by gain: gain * -> 1 / gain *
        You divide by gain. It is large for an activation that shrinks much, and the weights have to make up for that.
    gain squared: gain * -> gain**2 *
        Your gain is squared. It multiplies the standard deviation once; it is the variance that it multiplies twice.
    gain ignored: return gain * -> return
        Your result is that for a gain of 1, whatever gain is. Multiply by it.
    ReLU's gain by itself: gain: float = 1.0 -> gain: float = 2**0.5
        Where no gain is given, yours is sqrt(2), which is ReLU's. Here it is 1.
    fans not checked: fan_in <= 0 or fan_out <= 0 -> fan_in + fan_out <= 0
        You accept a fan of 0 or less beside one that is not. Raise a ValueError for each by itself.
    only fan_in checked: fan_in <= 0 or fan_out <= 0 -> fan_in <= 0
        You accept a fan_out of 0 or less. Refuse it like such a fan_in.
    only fan_out checked: fan_in <= 0 or fan_out <= 0 -> fan_out <= 0
        You accept a fan_in of 0 or less. Refuse it like such a fan_out.
    0 is let through: fan_in <= 0 or fan_out <= 0 -> fan_in < 0 or fan_out < 0
        You let a fan of 0 through: a layer without inputs or outputs is to be refused as well.
    negative fans are let through: fan_in <= 0 or fan_out <= 0 -> fan_in * fan_out == 0
        You let negative fans through. Compare with <= 0.
    0 in place of an error: raise ValueError("fans must be positive") -> return 0.0
        Bad fans give 0 in yours, and whoever made that mistake would go on with weights of 0: raise ValueError.
    an assert: raise ValueError -> raise AssertionError
        Bad fans raise an AssertionError in yours, as assert does. Asked for is a ValueError, by `raise`.
""")
