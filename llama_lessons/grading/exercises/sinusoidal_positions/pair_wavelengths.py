"""Exercise 2: how many positions each pair needs for a turn."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import LESSON, even

__all__ = ["pair_wavelengths"]

TURN = 2 * math.pi
CONVERTED = (
    "The numbers are right to about seven digits only: they were computed in float32, as torch.arange of integers "
    "divided by a number is, and converted afterwards, which brings no digit back. Say dtype=torch.float64 in "
    "torch.arange."
)


def _reference(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN * base ** (even(dim) / dim)


def _cases() -> list[tuple]:
    return [(2, 10_000.0), (6, 10_000.0), (8, 100.0), (64, 10_000.0), (512, 10_000.0), (64, 500_000.0), (7, 10_000.0)]


pair_wavelengths = Exercise(
    name="pair_wavelengths",
    lesson=LESSON,
    points=3,
    minutes=5,
    parameters=("dim", "base"),
    reference=_reference,
    cases=_cases,
    returns=Tensor,
    hints=(
        "A pair moves on by its frequency, in radians, at each position. After how many positions has it moved on by a "
        "full turn?",
        "A full turn is 2 * math.pi radians. Divide it by each pair's frequency, which you had in exercise 1.",
        "The first wavelength is 6.28, and each next one is longer by the same factor. An odd dim is refused before "
        "anything is computed.",
    ),
)


@pair_wavelengths.property("one wavelength for each pair of channels, in float64")
def _(answer: Callable) -> None:
    for dim in (2, 6, 64, 512):
        expect_like(answer(dim, 10_000.0), shape=(dim // 2,), dtype=torch.float64, where=f"dim {dim}")


@pair_wavelengths.property("pair 0 takes 2 pi positions for a turn, later pairs take longer")
def _(answer: Callable) -> None:
    got = answer(8, 10_000.0)
    expect_close(got[:1], torch.tensor([TURN]).double(), where="dim 8, the first wavelength", rtol=1e-7, atol=0)
    if not (got[1:] > got[:-1]).all():
        raise Mismatch(f"dim 8: expected wavelengths that grow from pair to pair, got {got.tolist()}")


@pair_wavelengths.property("after one wavelength, and not before, a pair is back where it was")
def _(answer: Callable) -> None:
    for dim in (6, 64):
        frequencies = torch.tensor([10_000.0 ** (-2 * i / dim) for i in range(dim // 2)], dtype=torch.float64)
        got = answer(dim, 10_000.0)
        if got.shape != frequencies.shape:
            raise Mismatch(f"dim {dim}: expected shape {tuple(frequencies.shape)}, got {tuple(got.shape)}")
        turned = got.double().cpu() * frequencies
        expect_close(turned, torch.full_like(turned, TURN), where=f"dim {dim}, angle after one wavelength", rtol=1e-6)


@pair_wavelengths.property("wavelength[i] is 2 pi base ** (2 i / dim), to the last digits of float64")
def _(answer: Callable) -> None:
    for dim in (4, 8, 128, 512):
        want = torch.tensor([TURN * math.pow(10_000.0, 2 * i / dim) for i in range(dim // 2)], dtype=torch.float64)
        expect_close(answer(dim, 10_000.0), want, where=f"dim {dim}", rtol=1e-12, atol=0)


@pair_wavelengths.property("base is used, and 10,000 where it is not given")
def _(answer: Callable) -> None:
    for base in (100.0, 500_000.0):
        want = torch.tensor([TURN * base ** (i / 4) for i in range(4)], dtype=torch.float64)
        expect_close(answer(8, base), want, where=f"dim 8, base {base:g}", rtol=1e-12, atol=0)
    want = torch.tensor([TURN, 100 * TURN], dtype=torch.float64)
    expect_close(answer(4), want, where="pair_wavelengths(4)", rtol=1e-12, atol=0)


@pair_wavelengths.property("an odd dim is refused with a ValueError")
def _(answer: Callable) -> None:
    for dim in (1, 7, 65):
        expect_value_error(answer, dim, 10_000.0, where=f"dim {dim}")


@pair_wavelengths.misconception(
    "2 pi is missing",
    "You return 1 / frequency: after so many positions a pair has moved on by one radian. A full turn is 2 pi radians.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return base ** (even(dim) / dim)


@pair_wavelengths.misconception(
    "the frequencies",
    "You return the frequencies, radians a position. The wavelength is asked for: positions a turn.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return base ** -(even(dim) / dim)


@pair_wavelengths.misconception(
    "2 pi times the frequency",
    "Your numbers shrink from pair to pair: you multiply 2 pi by the frequency. A slow pair takes longer, so divide.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN * base ** -(even(dim) / dim)


@pair_wavelengths.misconception(
    "turns a position",
    "You return frequency / (2 pi): the share of a turn that a pair makes in one position. The wavelength is one over "
    "that.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return base ** -(even(dim) / dim) / TURN


@pair_wavelengths.misconception(
    "half a turn",
    "You divide pi by the frequency. After pi radians a sine is at 0 again, but on its way down: a full turn is 2 pi.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return math.pi * base ** (even(dim) / dim)


@pair_wavelengths.misconception(
    "a turn of 4 pi",
    "Your wavelengths are twice too long. Sine and cosine both have the period 2 pi, and so has the pair.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return 4 * math.pi * base ** (even(dim) / dim)


@pair_wavelengths.misconception(
    "a turn of 360",
    "A full turn is 360 degrees, but frequencies are in radians a position: divide 2 pi by them.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return 360 * base ** (even(dim) / dim)


@pair_wavelengths.misconception(
    "last wavelength is base times 2 pi",
    "Your exponents run from 0 to 1 with both ends, like linspace. They are 2i / dim with i from 0 to dim / 2 - 1, so "
    "the last wavelength stays below base times 2 pi.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN * base ** torch.linspace(0, 1, len(even(dim)), dtype=torch.float64)


@pair_wavelengths.misconception(
    "pairs counted from 1",
    "Your first wavelength is not 2 pi, since you begin at i = 1. Pairs count from 0.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN * base ** ((even(dim) + 2) / dim)


@pair_wavelengths.misconception(
    "the 2 is missing",
    "Your exponents run from 0 to 1/2 only: pair i has the frequency base ** (-2i / dim), not base ** (-i / dim).",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN * base ** (even(dim) / 2 / dim)


@pair_wavelengths.misconception(
    "the 2 twice",
    "Your exponents run from 0 to 2. arange(0, dim, 2) is 2i already: divide it by dim.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN * base ** (2 * even(dim) / dim)


@pair_wavelengths.misconception(
    "one per channel",
    "You return each wavelength twice, once for the sine and once for the cosine. They are equal; one for each pair is "
    "asked for.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(dim, base).repeat_interleave(2)


@pair_wavelengths.misconception(
    "whole positions",
    "You round to whole positions. A turn may end between two positions: the first takes 6.28 of them.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(dim, base).round()


@pair_wavelengths.misconception(
    "rounded up",
    "You round up to whole positions. A wavelength need not be whole: the first is 6.28 positions.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(dim, base).ceil()


@pair_wavelengths.misconception(
    "rounded down",
    "You round down to whole positions. A wavelength need not be whole: the first is 6.28 positions.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(dim, base).floor()


@pair_wavelengths.misconception(
    "a rough pi",
    "You write pi with a few digits only, and the wavelengths have no more. math.pi has all that float64 can hold.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return 2 * 3.14159 * base ** (even(dim) / dim)


@pair_wavelengths.misconception(
    "slowest pair first",
    "Your wavelengths are right, but in reverse: pair 0, the fastest, comes first.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(dim, base).flip(0)


@pair_wavelengths.misconception("base written in", "You use 10,000 whatever base is. Take the argument.")
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(dim)


@pair_wavelengths.misconception(
    "float32",
    "The numbers are right, but in float32. torch.arange of integers, divided by a number, is float32: say "
    "dtype=torch.float64 in torch.arange.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN * base ** (even(dim).float() / dim)


@pair_wavelengths.misconception("float32, converted at the end", CONVERTED)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return (TURN * base ** (even(dim).float() / dim)).double()


@pair_wavelengths.misconception("2 pi over float32, converted at the end", CONVERTED)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return (TURN / base ** -(even(dim).float() / dim)).double()


@pair_wavelengths.misconception("frequencies in float32, converted", CONVERTED)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN / (base ** -(even(dim).float() / dim)).double()


@pair_wavelengths.misconception(
    "odd sizes accepted",
    "You accept an odd dim, in which one channel has no partner. Raise ValueError first.",
)
def _(dim: int, base: float = 10_000.0) -> Tensor:
    return TURN * base ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)


@pair_wavelengths.alternative
def _(dim: int, base: float = 10_000.0) -> Tensor:
    even(dim)
    frequencies = [base ** (-2 * pair / dim) for pair in range(dim // 2)]
    return torch.tensor([2 * math.pi / frequency for frequency in frequencies], dtype=torch.float64)


@pair_wavelengths.alternative
def _(dim: int, base: float = 10_000.0) -> Tensor:
    # The logarithm of a wavelength grows by a constant step.
    return torch.exp(math.log(2 * math.pi) + even(dim) * (math.log(base) / dim))
