"""Exercise 1: how fast each pair turns."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from ...families import kept_from_the_first_call


def rope_frequencies(head_dim: int, theta: float = 10_000.0) -> Tensor:
    if head_dim % 2:
        raise ValueError("head_dim must be even")
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    return theta**-exponents


def cases() -> list[tuple]:
    """Sizes that no property uses, each with several thetas: what is kept between calls shows as that."""
    sizes = [(size, theta) for size in (10, 48, 96) for theta in (500_000.0, 10_000.0, 300.5)]
    return [*sizes, (12, 10_000.0), (14,), (9, 10_000.0)]


exercise = Exercise(
    rope_frequencies,
    points=3,
    minutes=5,
    cases=cases,
    returns=Tensor,
    hints=(
        "How many pairs are there in head_dim channels? The result has one number for each pair.",
        "torch.arange(0, head_dim, 2, dtype=torch.float64) gives 0, 2, 4, ...: that is 2i for each pair i. "
        "What is left is one division and one power.",
        "The exponent is negative: the first pair is the fastest, at 1 radian per position, and all others are slower. "
        "An odd head_dim is refused before anything is computed.",
    ),
)


@exercise.property("one frequency for each pair of channels, in float64")
def one_for_each_pair(answer: Callable) -> None:
    for head_dim in (2, 6, 64, 128):
        got = answer(head_dim, 10_000.0)
        expect_like(got, shape=(head_dim // 2,), dtype=torch.float64, where=f"head_dim {head_dim}")


@exercise.property("pair 0 turns by one radian per position, later pairs more slowly")
def fastest_first(answer: Callable) -> None:
    got = answer(8, 10_000.0)
    expect_close(got[:1], torch.ones(1), where="head_dim 8, the first frequency", rtol=1e-12, atol=0)
    if not (got[1:] < got[:-1]).all():
        raise Mismatch(f"head_dim 8: expected frequencies that fall from pair to pair, got {got.tolist()}")


def expect_frequencies(got: Tensor, head_dim: int, theta: float, where: str) -> None:
    want = [math.pow(theta, -2 * i / head_dim) for i in range(head_dim // 2)]
    expect_close(got, torch.tensor(want, dtype=torch.float64), where=where, rtol=1e-12, atol=0)


@exercise.property("for theta 10,000: frequency[i] is theta ** (-2 i / head_dim), to the last digits of float64")
def formula(answer: Callable) -> None:
    for head_dim in (4, 6, 80, 128):
        expect_frequencies(answer(head_dim, 10_000.0), head_dim, 10_000.0, f"head_dim {head_dim}")


@exercise.property("theta is used, just as it is given")
def theta_is_used(answer: Callable) -> None:
    if torch.equal(answer(8, 100.0), answer(8, 500_000.0)):
        raise Mismatch("head_dim 8: thetas of 100 and of 500,000 give the same frequencies")
    for theta in (100.0, 500_000.0, 1234.5):
        expect_frequencies(answer(8, theta), 8, theta, f"head_dim 8, theta {theta:g}")


@exercise.property("theta is 10,000 where it is not given")
def theta_by_default(answer: Callable) -> None:
    expect_frequencies(answer(4), 4, 10_000.0, "rope_frequencies(4)")


@exercise.property("an odd head_dim is refused with a ValueError")
def odd_sizes_refused(answer: Callable) -> None:
    for head_dim in (1, 7, 65):
        expect_value_error(answer, head_dim, 10_000.0, where=f"head_dim {head_dim}")


exercise.slips("""
    the 2 is missing: arange(0, head_dim, 2, -> arange(head_dim // 2,
        Your result is theta ** (-i / head_dim) for pair i. Asked for is theta ** (-2i / head_dim): the 2 is missing.
    the 2 twice: / head_dim -> / (head_dim // 2)
        Your result is theta ** (-4i / head_dim), as from 2i over head_dim / 2. Asked for is theta ** (-2i / head_dim).
    an exponent for each channel: arange(0, head_dim, 2, -> arange(0, head_dim, 1,
        You return theta ** (-j / head_dim) for each channel j. There is one number for each pair: take every second j.
    not divided by head_dim: ) / head_dim -> )
        Your result is theta ** (-2i): the division of the exponent by head_dim is missing.
    all frequencies are 1: / head_dim -> // head_dim
        All your frequencies are 1, as where all exponents are 0: 2i // head_dim is. Divide with /.
    last exponent is 1: / head_dim -> / (head_dim - 2)
        Your result is that for exponents from 0 to -1 with both ends, as of linspace. -2i / head_dim does not reach -1.
    pairs counted from 1: arange(0, head_dim, 2, -> arange(2, head_dim + 2, 2,
        Your first frequency is not 1, but that of i = 1. Pairs count from 0, and theta ** 0 is 1.
    slowest first: theta**-exponents -> (theta**-exponents).flip(0)
        Your frequencies come in the opposite order: pair 0 has to be the fastest.
    positive exponent: theta**-exponents -> theta**exponents
        Your numbers grow: theta ** (2i / head_dim) is one over the frequency of pair i.
    wavelengths: theta**-exponents -> 2 * torch.pi * theta**exponents
        You return how many positions each pair needs for a whole turn. Asked for is the angle per position.
    turns: theta**-exponents -> theta**-exponents / (2 * torch.pi)
        You return turns per position. Asked for is the angle in radians, which is 2 pi times as large.
    2 pi times too fast: theta**-exponents -> 2 * torch.pi * theta**-exponents
        Your frequencies are 2 pi times as large as asked. They are radians per position already: no 2 pi is needed.
    a step instead of a factor: theta**-exponents -> 1 - exponents
        Your frequencies fall by a constant step. Asked for are powers of theta, which fall by a constant factor.
    exp without the logarithm: theta**-exponents -> torch.exp(-exponents)
        Your result is e to the power -2i / head_dim. The base is theta: exp(-2i / head_dim * log(theta)).
    10,000 whatever theta is: theta**-exponents -> 10_000.0**-exponents
        Your result is that for a theta of 10,000, whatever theta is. Llama 3 uses 500,000, so take the argument.
    500,000 whatever theta is: theta**-exponents -> 500_000.0**-exponents
        Your result is that for a theta of 500,000, whatever theta is: take the argument.
    theta is 500,000 by default: float = 10_000.0 -> float = 500_000.0
        Where no theta is given, yours is 500,000, as in Llama 3. Here it is 10,000.
    one per channel: theta**-exponents -> (theta**-exponents).repeat_interleave(2)
        You return each frequency twice, once for each channel of its pair. One number for each pair is asked for.
    one per channel, in two halves: theta**-exponents -> (theta**-exponents).repeat(2)
        You return the row of frequencies twice, one after the other. One number for each pair is asked for.
    float32: theta**-exponents -> (theta**-exponents).float()
        You return float32: at position 1,000,000 its rounding makes hundredths of a radian. Compute and return float64.
    float32, converted at the end: theta**-exponents -> (theta**-exponents.float()).double()
        Your numbers are those of float32, right to about seven digits. Compute all in torch.float64.
    one over a float32 power, converted: theta**-exponents -> (1 / theta**exponents.float()).double()
        Your numbers are those of float32, right to about seven digits. Compute all in torch.float64.
    float32 and back: theta**-exponents -> (theta**-exponents).float().double()
        Your numbers are rounded to float32, as torch.tensor rounds a list of Python's. Keep to torch.float64.
    exponents in float32: theta**-exponents -> theta**-exponents.float().double()
        Your result is that for exponents rounded to float32, as torch makes them of whole numbers. Use torch.float64.
    exp and log in float32: theta**-exponents -> torch.exp(-exponents.float() * math.log(theta)).double()
        Your numbers are those of float32, right to about seven digits. Compute all in torch.float64.
    theta made a whole number: theta**-exponents -> int(theta) ** -exponents
        Your result is that for theta made a whole number, as by int(theta). It may be any positive number.
    an odd size is cut: raise ValueError("head_dim must be even") -> return rope_frequencies(2 * head_dim, theta)[:-1:2]
        An odd head_dim, in which one channel has no partner, gets a result. Raise a ValueError first.
    an odd size is accepted: head_dim % 2 -> False
        An odd head_dim, in which one channel has no partner, gets a result. Raise a ValueError first.
""")
kept_from_the_first_call(exercise, "theta", under=["head_dim"])
