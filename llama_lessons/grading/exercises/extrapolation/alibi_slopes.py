"""Exercise 1: ALiBi's slopes, for any number of heads."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import expect_close, expect_like, expect_value_error


def alibi_slopes(n_heads: int) -> Tensor:
    if n_heads < 1:
        raise ValueError("at least one head")

    def row(power: int) -> list[float]:
        return [2 ** (-8 * h / power) for h in range(1, power + 1)]

    below = 1
    while 2 * below <= n_heads:
        below *= 2
    slopes = row(below) + row(2 * below)[::2]
    return torch.tensor(slopes[:n_heads])


exercise = Exercise(
    alibi_slopes,
    points=3,
    minutes=6,
    cases=lambda: [(n_heads,) for n_heads in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 20, 0)],
    returns=Tensor,
    hints=(
        "Begin with a power of two, such as 8 heads: the exponents are -1, -2, ... down to -8. With 4 heads they end "
        "at -8 as well, so what is the step?",
        "For 12 heads you need two powers of two: 8, which gives the first eight slopes, and 16, from which four more "
        "are taken. A small function that gives the slopes of a power of two can be called for both.",
        "The power of two below: begin with 1 and double while that does not exceed n_heads. Of a list, [::2] takes "
        "the first entry, the third, the fifth, and so on.",
    ),
)


def by_the_rule(n_heads: int) -> Tensor:
    power = 2 ** (n_heads.bit_length() - 1)
    steps = [i / power for i in range(1, power + 1)] + [i / (2 * power) for i in range(1, 2 * power, 2)]
    return torch.tensor([math.exp(-8 * math.log(2) * step) for step in steps[:n_heads]])


@exercise.property("one slope for each head, in float32")
def shape_and_dtype(answer: Callable) -> None:
    for n_heads in (1, 3, 8, 12, 71):
        expect_like(answer(n_heads), shape=(n_heads,), dtype=torch.float32, where=f"n_heads {n_heads}")


@exercise.property("8 heads: 1/2, 1/4, ... 1/256")
def eight_heads_by_hand(answer: Callable) -> None:
    want = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256])
    expect_close(answer(8), want, where="n_heads 8", atol=0)


@exercise.property("any power of two: equal factors, and the last slope is 1/256")
def powers_of_two(answer: Callable) -> None:
    for n_heads in (1, 2, 4, 16, 32, 128, 256):
        expect_close(answer(n_heads), by_the_rule(n_heads), where=f"n_heads {n_heads}", atol=0)


@exercise.property("other numbers: those of the power of two below, then every second one of the power above")
def other_numbers(answer: Callable) -> None:
    for n_heads in (3, 5, 6, 7, 9, 12, 20, 31, 63, 71, 200):
        expect_close(answer(n_heads), by_the_rule(n_heads), where=f"n_heads {n_heads}", atol=0)


@exercise.property("no heads at all are refused with a ValueError")
def no_heads(answer: Callable) -> None:
    for n_heads in (0, -1, -8):
        expect_value_error(answer, n_heads, where=f"n_heads {n_heads}")


exercise.slips("""
    heads counted from 0: range(1, power + 1) -> range(power)
        Your first slope is 1, as if heads were counted from 0. For a power of two the exponents are -8 h / n_heads for
        h = 1, 2, ..., n_heads, so that the last slope is 1/256.
    counted from 0, for all: row(below) + row(2 * below)[::2] -> [2 ** (-8 * h / n_heads) for h in range(n_heads)]
        Your first slope is 1, and powers of two and other numbers of heads are treated alike. Heads are counted from 1,
        and 12 heads get the slopes of 8 heads and four more from those of 16.
    halved from head to head, whatever their number: row(below) + row(2 * below)[::2] -> [2.0**-h for h in range(1, 99)]
        Your slopes are 1/2, 1/4, 1/8, ... for every number of heads. That is right for 8 heads. With 4 the factor is
        1/4, with 16 it is the root of 1/2: for a power of two the exponents are -8 h / n_heads.
    the formula for powers of two, for all: row(below) + row(2 * below)[::2] -> row(n_heads)
        Your slopes are 2 ** (-8 h / n_heads) for every number of heads. That is the rule for powers of two alone: 12
        heads get the slopes of 8 heads and four more from those of 16.
    1/2 to 1/256 for all: row(below) + row(2 * below)[::2] -> torch.logspace(-1, -8, n_heads, base=2).tolist()
        Your slopes run from 1/2 to 1/256 for every number of heads above 1. That is right for 8 heads. With 4 the first
        one is 1/4, with 16 it is the root of 1/2: for a power of two the exponents are -8 h / n_heads.
    the row below goes on: row(below) + row(2 * below)[::2] -> [2 ** (-8 * h / below) for h in range(1, 99)]
        The heads that are left over go on with the step of the power of two below, to slopes less than 1/256. They get
        every second slope of the power of two above.
    the rest by itself: [::2] -> [::2] if below == n_heads else row(below) + alibi_slopes(n_heads - below).tolist()
        The heads that are left over get slopes as if they were a model of their own. They get every second slope of the
        power of two above.
    the first slopes of the power above: row(2 * below)[::2] -> row(2 * below)
        The heads that are left over get the first slopes of the power of two above, one after the other. Every second
        of those is there already: take the first, the third, the fifth.
    the wrong half of the power above: [::2] -> [1::2]
        The heads that are left over get the slopes of the power of two below once more, so some heads are alike. Those
        are every second slope of the power above, begun with the second one: begin with the first.
    the power above, cut off: row(below) + row(2 * below)[::2] -> row(below if below == n_heads else 2 * below)
        Where n_heads is no power of two, your slopes are the first n_heads of the next power of two. That leaves out
        the gentlest slopes, and with them the heads that look far back.
    the nearest power of two: 2 * below <= n_heads -> 2**0.5 * below < n_heads
        Your slopes are as if you began with the power of two nearest to n_heads: 6 heads get six slopes of 8. Begin
        with the largest power of two that is not above n_heads.
    a power of two is not its own: 2 * below <= n_heads -> 2 * below < n_heads
        Your row for a power of two is that of the power below it, filled up from the next one: 8 heads begin with the
        slopes of 4. A power of two has a row of its own.
    the others first: row(below) + row(2 * below)[::2] -> row(2 * below)[: 2 * (n_heads - below) : 2] + row(below)
        The slopes from the power of two above stand first in your result. The slopes of the power below come first: a
        checkpoint's heads expect that order.
    sorted: (slopes[:n_heads] -> (sorted(slopes[:n_heads], reverse=True)
        Your slopes are sorted, steepest first. The rule puts the slopes of the power of two below first, and the others
        after them: a checkpoint's heads expect that order.
    sorted, gentlest first: (slopes[:n_heads] -> (sorted(slopes[:n_heads])
        Your slopes are sorted, gentlest first. The rule sorts nothing: the slopes of the power of two below come first,
        steepest first, and the others after them.
    in reverse order: (slopes[:n_heads] -> (slopes[:n_heads][::-1]
        Your slopes come in reverse order: the last head's slope stands first.
    powers of two alone: n_heads < 1 -> n_heads < 1 or n_heads & (n_heads - 1)
        Numbers of heads that are no power of two end in a ValueError. They have slopes too: those of the power of two
        below first, then every second one of the power above.
    negative slopes: torch.tensor( -> -torch.tensor(
        Your slopes are negative. A slope is what is taken away per position of distance; the minus is in the bias.
    positive exponent: -8 * h -> 8 * h
        Your slopes are one over what is asked for, and up to 256. The exponent is negative: 2 ** (-8 h / n_heads) for a
        power of two.
    e in place of 2: 2 ** (-8 -> math.e ** (-8
        You take powers of e, as exp does. The base is 2: the slopes of 8 heads are 1/2, 1/4, ... 1/256.
    the 8 is missing: -8 * h / power -> -h / power
        Your exponents end at -1, so the gentlest slope is 1/2. The 8 is missing: for a power of two they are
        -8 h / n_heads, and the last slope is 1/256.
    divided by the head's number: -8 * h / power -> -8 / h
        Your exponents are -8 / h. The head's number h stands above the line: -8 h / n_heads for a power of two.
    a step cut to a whole number: -8 * h / power -> -(8 // power) * h
        The step of a row, 8 / n_heads, comes out as a whole number, as with // or int(): from 16 heads on all slopes
        are 1. Divide with /.
    an exponent cut to a whole number: -8 * h / power -> -8 * h // power
        Your exponents are cut to whole numbers, as // does, so some heads are alike. Divide with /.
    axes for the scores: torch.tensor(slopes[:n_heads]) -> torch.tensor(slopes[:n_heads])[:, None, None]
        The numbers are right, but you give the slopes the axes of the scores already: (n_heads,) is asked for.
    float64: slopes[:n_heads]) -> slopes[:n_heads], dtype=torch.float64)
        The numbers are right, but they come in float64. Biases are added to float32 scores, so float32 is asked for.
    no heads accepted: n_heads < 1 -> False
        You return an empty tensor for 0 heads. Raise ValueError first.
""")
