"""Exercise 1: the table of sines and cosines."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, exact, expect_close, expect_like, expect_value_error
from ...families import kept_from_the_first_call
from .common import FREQUENCIES, exact_rows


def sinusoidal_positions(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    if dim % 2:
        raise ValueError("dim must be even")
    exponents = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    frequencies = base**-exponents
    angles = torch.arange(max_seq_len)[:, None] * frequencies
    sines = angles.sin()
    cosines = angles.cos()
    table = torch.stack((sines, cosines), dim=-1).flatten(-2)
    return table.float()


def cases() -> list[tuple]:
    """Three bases, two of them for one dim, an odd dim, and a table so long that float32 shows."""
    return [
        (13, 4),
        (13, 8, 10_000.0),
        (13, 4, 500_000.0),
        (41, 6, 150.0),
        (41, 6, 30_000.0),
        (17, 14, 10_000.0),
        (9_000, 6, 150.0),
        (6, 7, 10_000.0),
    ]


exercise = Exercise(
    sinusoidal_positions,
    points=4,
    minutes=10,
    cases=cases,
    returns=Tensor,
    hints=(
        "Three steps: the frequency of each pair, (dim // 2,); the angle of each position and pair, (max_seq_len, "
        "dim // 2); the sine and cosine of each angle, put side by side.",
        "torch.arange(0, dim, 2, dtype=torch.float64) is 2i for each pair. A column of positions, shape "
        "(max_seq_len, 1), times a row of frequencies gives all angles at once.",
        "To put sines and cosines side by side, begin with an empty table and fill every second channel with sines, "
        "those from 0 on, and the others with cosines. Or stack the two along a new last axis, and flatten it.",
    ),
)


@exercise.property("one row for each position, one column for each channel, in float32")
def shape_and_dtype(answer: Callable) -> None:
    for max_seq_len, dim in ((1, 2), (12, 10), (5, 10), (12, 64), (300, 16)):
        where = f"max_seq_len {max_seq_len}, dim {dim}"
        expect_like(answer(max_seq_len, dim, 10_000.0), shape=(max_seq_len, dim), dtype=torch.float32, where=where)


@exercise.property("position 0 is 0, 1, 0, 1, ...")
def first_row(answer: Callable) -> None:
    want = torch.tensor([0.0, 1.0] * 5)
    expect_close(answer(3, 10, 10_000.0)[0], want, where="max_seq_len 3, dim 10, row 0", atol=1e-7)


@exercise.property("pair 0 is the sine and cosine of the position itself")
def first_pair(answer: Callable) -> None:
    want = torch.tensor([[math.sin(p), math.cos(p)] for p in range(7)])
    expect_close(answer(7, 10, 10_000.0)[:, :2], want, where="max_seq_len 7, dim 10, channels 0 and 1", atol=1e-6)


@exercise.property("each channel is what the formula says")
def formula(answer: Callable) -> None:
    for max_seq_len, dim in ((2, 2), (10, 10), (40, 12), (100, 128)):
        want = exact_rows(torch.arange(max_seq_len), dim)
        where = f"max_seq_len {max_seq_len}, dim {dim}"
        expect_close(answer(max_seq_len, dim, 10_000.0), want, where=where, atol=2e-6)


@exercise.property("all rows are equally long: their squares add up to dim / 2")
def equal_lengths(answer: Callable) -> None:
    lengths = exact(answer(50, 32, 10_000.0)).square().sum(dim=-1)
    expect_close(lengths, torch.full((50,), 16.0), where="max_seq_len 50, dim 32, squared lengths", atol=1e-4)


@exercise.property("as exact at position 20,000 as at 0: angles are taken in float64")
def far_rows(answer: Callable) -> None:
    far = torch.arange(19_990, 20_000)
    for dim in (10, 12):
        got = answer(20_000, dim, 10_000.0)
        if len(got) != 20_000:
            raise Mismatch(f"max_seq_len 20000, dim {dim}: expected 20000 rows, got {len(got)}")
        where = f"max_seq_len 20000, dim {dim}, the last ten rows"
        expect_close(got[far.to(got.device)], exact_rows(far, dim), where=where, rtol=0, atol=5e-7)


@exercise.property("base is used, and 10,000 where it is not given")
def base_used(answer: Callable) -> None:
    for base in (10_000.0, 100.0, 500_000.0):
        want = exact_rows(torch.arange(9), 10, base)
        expect_close(answer(9, 10, base), want, where=f"max_seq_len 9, dim 10, base {base:g}", atol=2e-6)
    expect_close(answer(9, 12), exact_rows(torch.arange(9), 12), where="sinusoidal_positions(9, 12)", atol=2e-6)


@exercise.property("an odd dim is refused with a ValueError")
def odd_refused(answer: Callable) -> None:
    for dim in (1, 9, 65):
        expect_value_error(answer, 4, dim, 10_000.0, where=f"dim {dim}")


exercise.slips(FREQUENCIES)
exercise.slips("""
    faster and faster: base**-exponents -> base**exponents
        Your pairs get faster and faster: the exponent of a frequency is -2i / dim. If you divide the position by
        base ** (2i / dim), that is the same.
    all sines, then all cosines: return table -> return torch.cat((sines, cosines), dim=-1)
        The numbers are right, but all sines come first and then all cosines, as torch.cat puts them. Some code does it
        so; the paper, and this exercise, put sine and cosine of one frequency side by side: channels 2i and 2i + 1.
    all cosines, then all sines: return table -> return torch.cat((cosines, sines), dim=-1).float()
        The cosines come first, all of them, and then the sines. Put sine and cosine of one frequency side by side, in
        channels 2i and 2i + 1, the sine first.
    sines of several positions in a row: dim=-1).flatten(-2) -> dim=0).reshape(max_seq_len, dim)
        The sines of all positions come first, row after row, and then all cosines: they were joined along axis 0. Stack
        the two along a new last axis before you reshape, or fill every second channel.
    an axis of two is left: dim=-1).flatten(-2) -> dim=-1)
        Sine and cosine stand side by side on an axis of their own, so that the table has three. Flatten the last two.
    cosine first: (sines, cosines), dim -> (cosines, sines), dim
        The cosine stands in channel 2i and the sine in 2i + 1. It is the other way round: position 0 is 0, 1, 0, 1.
    a slower cosine: angles.cos() -> (angles * base ** (-1 / dim)).cos()
        The cosine has a slower frequency than the sine beside it, that with its own channel's number as the exponent.
        Both channels of a pair share one frequency, or they make no circle.
    a far slower cosine: angles.cos() -> (angles * base ** (-2 / dim)).cos()
        Each cosine has the frequency of the next pair. It takes that of the sine beside it.
    the table of the tutorials: angles.sin() -> (angles := angles * frequencies).sin(); angles *= base ** (-2 / dim)
        That is the table of many tutorials, exponents -4i / dim for the sine and -(4i + 2) / dim for the cosine. Both
        channels of a pair share the exponent -2i / dim.
    sines at even positions: angles.cos() -> angles.cos(); sines[1::2] = cosines[1::2]; cosines = sines
        Even positions get sines and odd ones cosines. Even and odd are the channels: each position has both, the sine
        in channel 2i and the cosine in 2i + 1.
    sines only: angles.cos() -> angles.sin()
        Every channel holds a sine. The odd channels take the cosine of the same angle.
    cosines only: angles.sin() -> angles.cos()
        Every channel holds a cosine. The even channels take the sine of the same angle.
    cosine with the period 4 pi: angles.cos() -> (angles / 2).cos()
        Your cosines go half as fast as the sines beside them. Both have the period 2 pi, and take the same angle.
    sine plus cosine in both channels: angles.cos() -> sines + angles.cos(); sines = cosines
        Both channels of a pair hold the same number, sine plus cosine. Keep them apart: 2i has the sine alone, 2i + 1
        the cosine alone.
    sine plus cosine in half of the channels: return table -> return (sines + cosines)
        You add each sine to its cosine, so that dim / 2 channels are left. The sum is one wave, a little shifted: it
        passes each height twice in a turn. They take two channels: 2i has the sine, 2i + 1 the cosine.
    positions from 1: torch.arange(max_seq_len) -> torch.arange(1, max_seq_len + 1)
        Your first row is that of position 1. Positions count from 0, and row 0 is 0, 1, 0, 1, ...
    angles in degrees: [:, None] * frequencies -> [:, None] * frequencies * math.pi / 180
        You take the angles as degrees. Frequencies are in radians per position, and torch.sin takes radians.
    2 pi in the angle: [:, None] * frequencies -> [:, None] * frequencies * 2 * math.pi
        Your angles are 2 pi times too large: a frequency here is in radians per position, not in turns. The angle is
        position times frequency, as it is.
    positions squeezed below 1: [:, None] * frequencies -> [:, None] / max_seq_len * frequencies
        You divide positions by the length of the table. Then a step means something else in each table; the formula
        takes the position as it is, and its sine and cosine are small anyway.
    rows and columns exchanged: .float() -> .float().T
        Your table has a row for each channel. A row belongs to a position: the shape is (max_seq_len, dim).
    an axis for a batch: .float() -> .float()[None]
        The numbers are right, but an axis of length 1 stands before them. A table has two, (max_seq_len, dim).
    float64 returned: .float() -> .double()
        The numbers are right, but the table is in float64. Take the angles in float64, then return their sines and
        cosines in float32: .float() at the end.
    angles in float32: base**-exponents -> base ** -exponents.float()
        The angles are those of float32, which keeps seven digits: at position 20,000 up to five of them stand before
        the decimal point. Be in float64 from the first step on: torch.arange(..., dtype=torch.float64).
    angles in float32, by division: [:, None] * frequencies -> [:, None] / base ** exponents.float()
        The angles are those of float32, which keeps seven digits: at position 20,000 up to five of them stand before
        the decimal point. Be in float64 from the first step on: torch.arange(..., dtype=torch.float64).
    angles rounded to float32: [:, None] * frequencies -> [:, None] * frequencies; angles = angles.float()
        The angles are rounded to float32 before their sines are taken, which leaves seven digits: at position 20,000
        up to five of them stand before the decimal point. Go to float32 after the sine and cosine.
""")
kept_from_the_first_call(exercise, "base", under=("dim",))
kept_from_the_first_call(exercise, "dim", under=("max_seq_len",))
kept_from_the_first_call(exercise, "max_seq_len", under=("dim", "base"))
