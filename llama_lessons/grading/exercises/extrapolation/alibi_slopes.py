"""Exercise 1: ALiBi's slopes, for any number of heads."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import extrapolation

from ...exercise import Exercise
from ...expect import Mismatch, expect_like, expect_value_error
from .common import LESSON, counted

__all__ = ["alibi_slopes"]


def power_below(n_heads: int) -> int:
    """The largest power of two up to n_heads, after the check that the wrong answers below have right."""
    if n_heads < 1:
        raise ValueError("no heads")
    power = 1
    while 2 * power <= n_heads:
        power *= 2
    return power


def row(power: int) -> list[float]:
    """The slopes of a power of two."""
    return [2 ** (-8 * (i + 1) / power) for i in range(power)]


def by_the_rule(n_heads: int) -> list[float]:
    power = power_below(n_heads)
    return (row(power) + row(2 * power)[::2])[:n_heads]


alibi_slopes = Exercise(
    name="alibi_slopes",
    lesson=LESSON,
    points=3,
    minutes=6,
    parameters=("n_heads",),
    reference=extrapolation.alibi_slopes,
    cases=lambda: [(1,), (2,), (3,), (4,), (6,), (8,), (9,), (12,), (16,), (20,), (0,)],
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


@alibi_slopes.property("one slope for each head, in float32")
def _(answer: Callable) -> None:
    for n_heads in (1, 3, 8, 12, 71):
        expect_like(answer(n_heads), shape=(n_heads,), dtype=torch.float32, where=f"{counted(n_heads, 'head')}")


def expect_slopes(got: Tensor, want: list[float], where: str) -> None:
    """Name the first head whose slope is off; slopes differ too much in size for one number of decimals."""
    if tuple(got.shape) != (len(want),):
        raise Mismatch(f"{where}: expected shape {(len(want),)}, got {tuple(got.shape)}")
    for head, (slope, right) in enumerate(zip(got.tolist(), want, strict=True), start=1):
        if not math.isclose(slope, right, rel_tol=1e-5):
            raise Mismatch(f"{where}: expected the slope {right:.6g} for head {head}, got {slope:.6g}")


@alibi_slopes.property("8 heads: 1/2, 1/4, ... 1/256")
def _(answer: Callable) -> None:
    expect_slopes(answer(8), [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256], "8 heads")


@alibi_slopes.property("any power of two: equal factors, and the last slope is 1/256")
def _(answer: Callable) -> None:
    for n_heads in (1, 2, 4, 16, 32, 128):
        want = [math.exp(-8 * math.log(2) * i / n_heads) for i in range(1, n_heads + 1)]
        expect_slopes(answer(n_heads), want, counted(n_heads, "head"))


@alibi_slopes.property("other numbers of heads begin as the power of two below")
def _(answer: Callable) -> None:
    for n_heads in (3, 5, 6, 7, 9, 12, 31, 71):
        power = power_below(n_heads)
        got = answer(n_heads)
        if len(got) < power:
            raise Mismatch(f"{n_heads} heads: expected {n_heads} slopes, got {len(got)}")
        expect_slopes(got[:power], row(power), f"{n_heads} heads, the first {power}")


@alibi_slopes.property("the other heads get every second slope of the power of two above")
def _(answer: Callable) -> None:
    for n_heads in (3, 5, 6, 7, 9, 12, 20, 31, 63, 71):
        expect_slopes(answer(n_heads), by_the_rule(n_heads), f"{n_heads} heads")


@alibi_slopes.property("no two heads have the same slope")
def _(answer: Callable) -> None:
    for n_heads in (6, 9, 12, 20):
        got = answer(n_heads).tolist()
        if len(set(got)) < n_heads:
            raise Mismatch(f"{counted(n_heads, 'head')}: expected {n_heads} different slopes, got {len(set(got))}")


@alibi_slopes.property("no heads at all are refused with a ValueError")
def _(answer: Callable) -> None:
    for n_heads in (0, -8):
        expect_value_error(answer, n_heads, where=f"{counted(n_heads, 'head')}")


@alibi_slopes.misconception(
    "heads counted from 0",
    "Your first slope is 1, since you begin at 0. The exponents are -8 h / n_heads for h = 1, 2, ..., n_heads, so that "
    "the last slope is always 1/256.",
)
def _(n_heads: int) -> Tensor:
    power = power_below(n_heads)
    steps = [i / power for i in range(power)] + [(i - 1) / (2 * power) for i in range(1, 2 * power, 2)]
    return torch.tensor([2 ** (-8 * step) for step in steps[:n_heads]])


@alibi_slopes.misconception(
    "halved from head to head, whatever their number",
    "Your slopes are 1/2, 1/4, 1/8, ... for every number of heads. That is right for 8 heads. With 4 the factor is "
    "1/4, with 16 it is the root of 1/2: the exponents are -8 h / n_heads.",
)
def _(n_heads: int) -> Tensor:
    power_below(n_heads)
    return torch.tensor([2.0 ** -(i + 1) for i in range(n_heads)])


@alibi_slopes.misconception(
    "the formula for powers of two, for all",
    "You use 2 ** (-8 h / n_heads) for every number of heads. Published models use it for powers of two alone: 12 "
    "heads get the slopes of 8 heads and four more from those of 16.",
)
def _(n_heads: int) -> Tensor:
    power_below(n_heads)
    return torch.tensor(row(n_heads))


@alibi_slopes.misconception(
    "the first slopes of the power above",
    "The heads that are left over get the first slopes of the power of two above, one after the other. Every second of "
    "those is there already: take the first, the third, the fifth.",
)
def _(n_heads: int) -> Tensor:
    power = power_below(n_heads)
    return torch.tensor((row(power) + row(2 * power))[:n_heads])


@alibi_slopes.misconception(
    "the wrong half of the power above",
    "You take every second slope of the power of two above, but begin with the second one. Those are the slopes of the "
    "power below once more, so some heads are alike. Begin with the first.",
)
def _(n_heads: int) -> Tensor:
    power = power_below(n_heads)
    return torch.tensor((row(power) + row(2 * power)[1::2])[:n_heads])


@alibi_slopes.misconception(
    "the power above, cut off",
    "You take the slopes of the next power of two and cut the row off after n_heads. That leaves out the gentlest "
    "slopes, and with them the heads that look far back.",
)
def _(n_heads: int) -> Tensor:
    power = power_below(n_heads)
    return torch.tensor(row(power if power == n_heads else 2 * power)[:n_heads])


@alibi_slopes.misconception(
    "sorted",
    "The slopes are right, but sorted. The rule puts the slopes of the power of two below first, and the others after "
    "them: a checkpoint's heads expect that order.",
)
def _(n_heads: int) -> Tensor:
    return torch.tensor(sorted(by_the_rule(n_heads), reverse=True))


@alibi_slopes.misconception(
    "negative slopes",
    "Your slopes are negative. The slope is what is taken away for each position of distance; the minus belongs to the "
    "bias, -slope * distance.",
)
def _(n_heads: int) -> Tensor:
    return -torch.tensor(by_the_rule(n_heads))


@alibi_slopes.misconception(
    "positive exponent",
    "Your slopes grow, up to 256. The exponent is negative: 2 ** (-8 h / n_heads).",
)
def _(n_heads: int) -> Tensor:
    return 1 / torch.tensor(by_the_rule(n_heads))


@alibi_slopes.misconception(
    "e in place of 2",
    "You take powers of e, with exp. The base is 2: the slopes of 8 heads are 1/2, 1/4, ... 1/256.",
)
def _(n_heads: int) -> Tensor:
    return torch.tensor([math.exp(math.log2(slope)) for slope in by_the_rule(n_heads)])


@alibi_slopes.misconception(
    "in reverse order",
    "Your gentlest slope comes first. Head 1 has the steepest one.",
)
def _(n_heads: int) -> Tensor:
    return torch.tensor(by_the_rule(n_heads)[::-1])


@alibi_slopes.misconception(
    "float64",
    "The numbers are right, but in float64. Biases are added to float32 scores, so float32 is asked for.",
)
def _(n_heads: int) -> Tensor:
    return torch.tensor(by_the_rule(n_heads), dtype=torch.float64)


@alibi_slopes.misconception(
    "no heads accepted",
    "You return an empty tensor for 0 heads. Raise ValueError first.",
)
def _(n_heads: int) -> Tensor:
    return torch.tensor(by_the_rule(n_heads) if n_heads > 0 else [])


@alibi_slopes.misconception(
    "a power of two is not its own",
    "For a power of two you take the power below it and fill up from the next one: 8 heads begin with the slopes of 4. "
    "A power of two has a row of its own; let the largest power be up to n_heads, n_heads included.",
)
def _(n_heads: int) -> Tensor:
    power = power_below(n_heads)
    if power == n_heads > 1:
        power //= 2
    return torch.tensor((row(power) + row(2 * power)[::2])[:n_heads])


@alibi_slopes.misconception(
    "a step cut to a whole number",
    "You divide 8 by the number of heads with //, which cuts: from 16 heads on the step is 0 and all slopes are 1. "
    "Divide with /.",
)
def _(n_heads: int) -> Tensor:
    power = power_below(n_heads)

    def cut(heads: int) -> list[float]:
        return [2.0 ** (-(8 // heads) * h) for h in range(1, heads + 1)]

    return torch.tensor((cut(power) + cut(2 * power)[::2])[:n_heads])


@alibi_slopes.misconception(
    "the 8 is missing",
    "Your exponents end at -1, so the gentlest slope is 1/2. The 8 is missing: they are -8 h / n_heads, and the last "
    "slope of a power of two is 1/256.",
)
def _(n_heads: int) -> Tensor:
    return torch.tensor([slope ** (1 / 8) for slope in by_the_rule(n_heads)])


@alibi_slopes.alternative
def _(n_heads: int) -> Tensor:
    if n_heads <= 0:
        raise ValueError("n_heads must be positive")
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = torch.exp2(-8 * torch.arange(1, power + 1) / power)
    more = torch.exp2(-4 * torch.arange(1, 2 * power + 1, 2) / power)
    return torch.cat((slopes, more))[:n_heads]


@alibi_slopes.alternative
def _(n_heads: int) -> Tensor:
    if n_heads < 1:
        raise ValueError(f"{counted(n_heads, 'head')}")

    def slopes(n: int) -> list[float]:
        if n & (n - 1) == 0:
            first = 2 ** (-8 / n)
            return [first**i for i in range(1, n + 1)]
        closest = 2 ** (n.bit_length() - 1)
        return slopes(closest) + slopes(2 * closest)[0::2][: n - closest]

    return torch.tensor(slopes(n_heads))
