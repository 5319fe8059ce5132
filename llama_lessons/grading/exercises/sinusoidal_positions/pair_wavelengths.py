"""Exercise 2: how many positions each pair needs for a turn."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, exact, expect_close, expect_like, expect_value_error
from ...families import kept_from_the_first_call
from .common import FREQUENCIES, exact_frequencies


def pair_wavelengths(dim: int, base: float = 10_000.0) -> Tensor:
    if dim % 2:
        raise ValueError("dim must be even")
    exponents = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    frequencies = base**-exponents
    return 2 * math.pi / frequencies


def cases() -> list[tuple]:
    """Several bases, also for one dim, and an odd dim."""
    return [(4,), (4, 500_000.0), (6, 150.0), (6, 30_000.0), (8, 10.0), (7, 10_000.0)]


exercise = Exercise(
    pair_wavelengths,
    points=3,
    minutes=5,
    cases=cases,
    returns=Tensor,
    hints=(
        "A pair moves on by its frequency, in radians, at each position. After how many positions has it moved on by a "
        "full turn?",
        "A full turn is 2 * math.pi radians. Divide it by each pair's frequency, which you had in exercise 1.",
        "The first wavelength is 6.28, and each next one is longer by the same factor. An odd dim is refused before "
        "anything is computed.",
    ),
)


@exercise.property("one wavelength for each pair of channels, in float64")
def shape_and_dtype(answer: Callable) -> None:
    for dim in (2, 10, 64, 512):
        expect_like(answer(dim, 10_000.0), shape=(dim // 2,), dtype=torch.float64, where=f"dim {dim}")


@exercise.property("pair 0 takes 2 pi positions for a turn, later pairs take longer")
def growing(answer: Callable) -> None:
    got = answer(10, 10_000.0)
    want = torch.tensor([2 * math.pi], dtype=torch.float64)
    expect_close(got[:1], want, where="dim 10, the first wavelength", rtol=1e-7, atol=0)
    if not (got[1:] > got[:-1]).all():
        raise Mismatch(f"dim 10: expected wavelengths that grow from pair to pair, got {got.tolist()}")


@exercise.property("after one wavelength, and not before, a pair is back where it was")
def one_turn(answer: Callable) -> None:
    for dim in (10, 64):
        frequencies, got = exact_frequencies(dim), answer(dim, 10_000.0)
        if got.shape != frequencies.shape:
            raise Mismatch(f"dim {dim}: expected shape {tuple(frequencies.shape)}, got {tuple(got.shape)}")
        turned = exact(got) * frequencies
        want = torch.full_like(turned, 2 * math.pi)
        expect_close(turned, want, where=f"dim {dim}, angle after one wavelength", rtol=1e-6)


@exercise.property("wavelength[i] is 2 pi base ** (2 i / dim), to the last digits of float64")
def formula(answer: Callable) -> None:
    for dim in (10, 14, 96, 128, 500):
        want = torch.tensor([2 * math.pi * 10_000.0 ** (2 * i / dim) for i in range(dim // 2)], dtype=torch.float64)
        expect_close(answer(dim, 10_000.0), want, where=f"dim {dim}", rtol=1e-12, atol=0)


@exercise.property("base is used, and 10,000 where it is not given")
def base_used(answer: Callable) -> None:
    for base in (10_000.0, 100.0, 500_000.0):
        want = torch.tensor([2 * math.pi * base ** (i / 5) for i in range(5)], dtype=torch.float64)
        expect_close(answer(10, base), want, where=f"dim 10, base {base:g}", rtol=1e-12, atol=0)
    want = 2 * math.pi / exact_frequencies(12)
    expect_close(answer(12), want, where="pair_wavelengths(12)", rtol=1e-12, atol=0)


@exercise.property("an odd dim is refused with a ValueError")
def odd_refused(answer: Callable) -> None:
    for dim in (1, 9, 65):
        expect_value_error(answer, dim, 10_000.0, where=f"dim {dim}")


exercise.slips(FREQUENCIES)
exercise.slips("""
    2 pi is missing: 2 * math.pi / frequencies -> 1 / frequencies
        You return 1 / frequency: after so many positions a pair has moved by one radian. A full turn is 2 pi.
    the frequencies: 2 * math.pi / frequencies -> frequencies
        You return the frequencies, radians per position. The wavelength is asked for: positions per turn.
    2 pi times the frequency: 2 * math.pi / frequencies -> 2 * math.pi * frequencies
        Your numbers shrink from pair to pair, as 2 pi times the frequency does. A slow pair takes longer: divide 2 pi
        by the frequency, base ** (-2i / dim).
    turns per position: 2 * math.pi / frequencies -> frequencies / (2 * math.pi)
        You return frequency / (2 pi), which is turns per position. The wavelength is one over that.
    2 pi on the wrong side: 2 * math.pi / frequencies -> 1 / (2 * math.pi * frequencies)
        You divide by 2 pi and by the frequency. Only the frequency divides: a full turn is 2 pi radians.
    half a turn: 2 * math.pi / -> math.pi /
        You divide pi by the frequency. After pi radians a sine is at 0 again, but on its way down: a full turn is 2 pi.
    a turn of 4 pi: 2 * math.pi / -> 4 * math.pi /
        Your wavelengths are twice too long. Sine and cosine both have the period 2 pi, and so has the pair.
    a turn of 360: 2 * math.pi / -> 360 /
        A full turn is 360 degrees, but frequencies are in radians per position: divide 2 pi by them.
    one per channel: 2 * math.pi / frequencies -> (2 * math.pi / frequencies).repeat_interleave(2)
        You return each wavelength twice, as for a sine and its cosine. They are equal: one for each pair is asked for.
    an axis too many: 2 * math.pi / frequencies -> (2 * math.pi / frequencies)[:, None]
        The numbers are right, but the wavelengths stand in a column, (dim // 2, 1). They need one axis: (dim // 2,).
    to the nearest whole number: 2 * math.pi / frequencies -> (2 * math.pi / frequencies).round()
        Your wavelengths are whole numbers, rounded. A turn may end between two positions: the first takes 6.28 of them.
    rounded up: 2 * math.pi / frequencies -> (2 * math.pi / frequencies).ceil()
        Your wavelengths are whole numbers, rounded up. They need not be whole: the first is 6.28 positions.
    rounded down: 2 * math.pi / frequencies -> (2 * math.pi / frequencies).floor()
        Your wavelengths are whole numbers, rounded down. They need not be whole: the first is 6.28 positions.
    slowest pair first: 2 * math.pi / frequencies -> (2 * math.pi / frequencies).flip(0)
        Your wavelengths are right, but in reverse: pair 0, the fastest, comes first.
    float32 returned: 2 * math.pi / frequencies -> (2 * math.pi / frequencies).float()
        The numbers are right, but the result is in float32. torch.arange of integers, divided by a number, is that,
        torch.tensor of a list too, and .float() makes it. Begin with dtype=torch.float64, and stay there.
    rounded to float32 on the way: 2 * math.pi / frequencies -> (2 * math.pi / frequencies).float().double()
        The dtype is float64, but the numbers have the seven digits of float32: .float() leaves no more, nor do
        torch.tensor and torch.zeros, unless you say dtype=torch.float64.
    computed in float32: 2 * math.pi / frequencies -> (2 * math.pi / base ** -exponents.float()).double()
        The dtype is float64, but the wavelengths are those of float32, and seven digits are left. Be in float64 from
        the first step on: torch.arange(..., dtype=torch.float64).
""")
for digits in ("3.14", "3.142", "3.1416", "3.14159", "3.1415926"):
    exercise.slips(f"""
        {digits} for pi: math.pi -> {digits}
            Your result is that for a pi of {digits}, and has no more right digits. math.pi has all that float64 holds.
    """)
kept_from_the_first_call(exercise, "base", under=("dim",))
