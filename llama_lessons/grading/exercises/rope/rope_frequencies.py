"""How fast each pair turns."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import rope

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import LESSON


def frequency_cases() -> list[tuple]:
    return [
        (2, 10_000.0),
        (6, 10_000.0),
        (8, 500_000.0),
        (64, 10_000.0),
        (64, 500_000.0),
        (128, 10_000.0),
        (7, 10_000.0),
    ]


rope_frequencies = Exercise(
    name="rope_frequencies",
    lesson=LESSON,
    points=3,
    minutes=5,
    parameters=("head_dim", "theta"),
    reference=rope.rope_frequencies,
    cases=frequency_cases,
    returns=Tensor,
    hints=(
        "How many pairs are there in head_dim channels? The result has one number for each pair.",
        "torch.arange(0, head_dim, 2, dtype=torch.float64) gives 0, 2, 4, ...: that is 2i for each pair i. "
        "What is left is one division and one power.",
        "The exponent is negative: the first pair is the fastest, at 1 radian a position, and all others are slower. "
        "An odd head_dim is refused before anything is computed.",
    ),
)


@rope_frequencies.property("one frequency for each pair of channels, in float64")
def _(answer: Callable) -> None:
    for head_dim in (2, 6, 64, 128):
        got = answer(head_dim, 10_000.0)
        expect_like(got, shape=(head_dim // 2,), dtype=torch.float64, where=f"head_dim {head_dim}")


@rope_frequencies.property("pair 0 turns by one radian a position, later pairs more slowly")
def _(answer: Callable) -> None:
    got = answer(8, 10_000.0)
    expect_close(got[:1], torch.ones(1), where="head_dim 8, the first frequency", rtol=1e-12, atol=0)
    if not (got[1:] < got[:-1]).all():
        raise Mismatch(f"head_dim 8: expected frequencies that fall from pair to pair, got {got.tolist()}")


@rope_frequencies.property("frequency[i] is theta ** (-2 i / head_dim), to the last digits of float64")
def _(answer: Callable) -> None:
    for head_dim in (4, 6, 64, 128):
        want = torch.tensor([math.pow(10_000.0, -2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float64)
        expect_close(answer(head_dim, 10_000.0), want, where=f"head_dim {head_dim}", rtol=1e-12, atol=0)


@rope_frequencies.property("theta is used")
def _(answer: Callable) -> None:
    for theta in (100.0, 500_000.0):
        want = torch.tensor([1.0, theta**-0.25, theta**-0.5, theta**-0.75], dtype=torch.float64)
        expect_close(answer(8, theta), want, where=f"head_dim 8, theta {theta:g}", rtol=1e-12, atol=0)


@rope_frequencies.property("theta is 10,000 where it is not given")
def _(answer: Callable) -> None:
    expect_close(answer(4), torch.tensor([1.0, 0.01]), where="rope_frequencies(4)", rtol=1e-7, atol=0)


@rope_frequencies.property("an odd head_dim is refused with a ValueError")
def _(answer: Callable) -> None:
    for head_dim in (1, 7, 65):
        expect_value_error(answer, head_dim, 10_000.0, where=f"head_dim {head_dim}")


def even(head_dim: int) -> Tensor:
    """0, 2, 4, ... below head_dim, after the check that all the wrong answers below have right."""
    if head_dim % 2:
        raise ValueError("odd")
    return torch.arange(0, head_dim, 2, dtype=torch.float64)


@rope_frequencies.misconception(
    "the 2 is missing",
    "Your exponents run from 0 to 1/2 instead of to 1: pair i has exponent -2i / head_dim, not -i / head_dim. "
    "There are head_dim / 2 pairs, so 2i / head_dim runs over the whole range from 0 to 1.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(even(head_dim) / 2 / head_dim)


@rope_frequencies.misconception(
    "the 2 twice",
    "Your exponents run from 0 to 2: 2i over head_dim / 2, or 4i over head_dim. arange(0, head_dim, 2) is 2i "
    "already; divide it by head_dim.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(even(head_dim) * 2 / head_dim)


@rope_frequencies.misconception(
    "positive exponent",
    "Your numbers grow. theta ** (+2i / head_dim) says after how many positions a pair has turned by one radian; the "
    "frequency is one over that.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** (even(head_dim) / head_dim)


@rope_frequencies.misconception(
    "theta written in",
    "You use 10,000 whatever theta is. Llama 3 uses 500,000, so take the argument.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return 10_000.0 ** -(even(head_dim) / head_dim)


@rope_frequencies.misconception(
    "one per channel",
    "You return each frequency twice, once for each channel of its pair. One number for each pair is asked for.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return (theta ** -(even(head_dim) / head_dim)).repeat_interleave(2)


@rope_frequencies.misconception(
    "one per channel, in two halves",
    "You return the row of frequencies twice, one after the other, as Hugging Face does for its tables. One number "
    "for each pair is asked for.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return (theta ** -(even(head_dim) / head_dim)).repeat(2)


@rope_frequencies.misconception(
    "last exponent is 1",
    "Your exponents run from 0 to 1 with both ends, like linspace. They are 2i / head_dim, and the last one is "
    "1 - 2 / head_dim.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -torch.linspace(0, 1, len(even(head_dim)), dtype=torch.float64)


@rope_frequencies.misconception(
    "pairs counted from 1",
    "Your first frequency is not 1, since you begin at i = 1. Pairs count from 0, and theta ** 0 is 1.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -((even(head_dim) + 2) / head_dim)


@rope_frequencies.misconception(
    "an angle step that is linear",
    "Your frequencies fall by a constant step. They are powers of theta, which fall by a constant factor from pair to "
    "pair.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return 1 - even(head_dim) / head_dim


@rope_frequencies.misconception(
    "exp without the logarithm",
    "You take e to the power -2i / head_dim. The base is theta: exp(-2i / head_dim * log(theta)).",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return torch.exp(-even(head_dim) / head_dim)


@rope_frequencies.misconception(
    "whole-number division",
    "All your frequencies are 1: with // every exponent 2i // head_dim is 0. Divide with /.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(even(head_dim) // head_dim)


@rope_frequencies.misconception(
    "float32",
    "The numbers are right, but in float32. At position 1,000,000 the rounding of a float32 frequency has grown to "
    "hundredths of a radian. Say dtype=torch.float64 where you make the exponents.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(even(head_dim).float() / head_dim)


@rope_frequencies.misconception(
    "float32, converted at the end",
    "The numbers are right to about seven digits only: they were computed in float32 and converted to float64 "
    "afterwards, which brings no digit back. Say dtype=torch.float64 where you make the exponents.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return (theta ** -(even(head_dim).float() / head_dim)).double()


@rope_frequencies.misconception(
    "odd sizes accepted",
    "You accept an odd head_dim, in which one channel has no partner. Raise ValueError first.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


@rope_frequencies.alternative
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    even(head_dim)
    return torch.exp(-math.log(theta) * torch.arange(head_dim // 2, dtype=torch.float64) * 2 / head_dim)


@rope_frequencies.alternative
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    if head_dim % 2 != 0:
        raise ValueError(f"head_dim {head_dim} is odd")
    return torch.tensor([theta ** (-2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float64)


@rope_frequencies.alternative
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return 1.0 / torch.pow(torch.tensor(theta, dtype=torch.float64), even(head_dim) / head_dim)
