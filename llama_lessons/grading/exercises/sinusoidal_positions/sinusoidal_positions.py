"""Exercise 1: the table of sines and cosines."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import LESSON, even, exact_rows, interleave

__all__ = ["sinusoidal_positions"]

IN_FLOAT32 = (
    "The formula is right, but the frequencies or the angles are computed in float32, which has seven digits: at "
    "position 20,000 four or five of them stand before the decimal point. torch.arange of integers, divided by a "
    "number, is float32 too, and .double() afterwards brings no digit back: say dtype=torch.float64 in torch.arange."
)


def _positions(max_seq_len: int) -> Tensor:
    return torch.arange(max_seq_len, dtype=torch.float64)[:, None]


def _table(positions: Tensor, frequencies: Tensor) -> Tensor:
    angles = positions * frequencies
    return interleave(angles.sin(), angles.cos()).float()


def _reference(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), base ** -(even(dim) / dim))


def _cases() -> list[tuple]:
    """Short and long tables, square ones, two bases, and an odd dim; the longest shows angles in float32."""
    return [
        (1, 2, 10_000.0),
        (8, 8, 10_000.0),
        (40, 6, 10_000.0),
        (12, 64, 10_000.0),
        (9, 8, 100.0),
        (8_000, 6, 10_000.0),
        (5, 7, 10_000.0),
    ]


sinusoidal_positions = Exercise(
    name="sinusoidal_positions",
    lesson=LESSON,
    points=4,
    minutes=10,
    parameters=("max_seq_len", "dim", "base"),
    reference=_reference,
    cases=_cases,
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


@sinusoidal_positions.property("one row for each position, one column for each channel, in float32")
def _(answer: Callable) -> None:
    for max_seq_len, dim in ((1, 2), (5, 8), (12, 64), (300, 6)):
        got = answer(max_seq_len, dim, 10_000.0)
        where = f"max_seq_len {max_seq_len}, dim {dim}"
        expect_like(got, shape=(max_seq_len, dim), dtype=torch.float32, where=where)


@sinusoidal_positions.property("position 0 is 0, 1, 0, 1, ...")
def _(answer: Callable) -> None:
    want = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    expect_close(answer(3, 6, 10_000.0)[0], want, where="max_seq_len 3, dim 6, row 0", atol=1e-7)


@sinusoidal_positions.property("pair 0 is the sine and cosine of the position itself")
def _(answer: Callable) -> None:
    want = torch.tensor([[math.sin(p), math.cos(p)] for p in range(7)])
    expect_close(answer(7, 8, 10_000.0)[:, :2], want, where="max_seq_len 7, dim 8, channels 0 and 1", atol=1e-6)


@sinusoidal_positions.property("each channel is what the formula says")
def _(answer: Callable) -> None:
    for max_seq_len, dim in ((2, 2), (8, 8), (40, 6), (100, 128)):
        want = exact_rows(torch.arange(max_seq_len), dim)
        where = f"max_seq_len {max_seq_len}, dim {dim}"
        expect_close(answer(max_seq_len, dim, 10_000.0), want, where=where, atol=2e-6)


@sinusoidal_positions.property("all rows are equally long: their squares add up to dim / 2")
def _(answer: Callable) -> None:
    lengths = answer(50, 32, 10_000.0).double().square().sum(dim=-1)
    expect_close(lengths, torch.full((50,), 16.0), where="max_seq_len 50, dim 32, squared lengths", atol=1e-4)


@sinusoidal_positions.property("as exact at position 20,000 as at 0: angles are taken in float64")
def _(answer: Callable) -> None:
    far = torch.arange(19_990, 20_000)
    got = answer(20_000, 6, 10_000.0)
    if len(got) != 20_000:
        raise Mismatch(f"max_seq_len 20000, dim 6: expected 20000 rows, got {len(got)}")
    expect_close(got[far], exact_rows(far, 6), where="max_seq_len 20000, dim 6, the last ten rows", atol=1e-5)


@sinusoidal_positions.property("base is used, and 10,000 where it is not given")
def _(answer: Callable) -> None:
    for base in (100.0, 500_000.0):
        want = exact_rows(torch.arange(9), 8, base)
        expect_close(answer(9, 8, base), want, where=f"max_seq_len 9, dim 8, base {base:g}", atol=2e-6)
    expect_close(answer(9, 8), exact_rows(torch.arange(9), 8), where="sinusoidal_positions(9, 8)", atol=2e-6)


@sinusoidal_positions.property("an odd dim is refused with a ValueError")
def _(answer: Callable) -> None:
    for dim in (1, 7, 65):
        expect_value_error(answer, 4, dim, 10_000.0, where=f"dim {dim}")


@sinusoidal_positions.misconception(
    "sine plus cosine in one channel",
    "You add the sine and the cosine up in one channel. That is one wave, a little shifted: it passes each height "
    "twice in a turn and does not say which way it goes. They take two channels: 2i has the sine, 2i + 1 the cosine.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    even(dim)
    angles = _positions(max_seq_len) * base ** (-2 * torch.arange(dim, dtype=torch.float64) / dim)
    return (angles.sin() + angles.cos()).float()


@sinusoidal_positions.misconception(
    "sine plus cosine in one channel, pairs kept",
    "Both channels of a pair hold the same number, sine plus cosine. Keep them apart: 2i has the sine alone, 2i + 1 "
    "the cosine alone.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = (_positions(max_seq_len) * base ** -(even(dim) / dim)).repeat_interleave(2, dim=-1)
    return (angles.sin() + angles.cos()).float()


@sinusoidal_positions.misconception(
    "sine plus cosine, half of the channels",
    "You add each sine to its cosine, so that only dim / 2 channels are left. That is one wave, a little shifted: it "
    "passes each height twice in a turn. They take two channels: 2i has the sine, 2i + 1 the cosine.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = _positions(max_seq_len) * base ** -(even(dim) / dim)
    return (angles.sin() + angles.cos()).float()


@sinusoidal_positions.misconception(
    "all sines, then all cosines",
    "The numbers are right, but all sines come first and then all cosines (torch.cat does that). Some code does it so; "
    "the paper, and this exercise, put sine and cosine of one frequency side by side: channels 2i and 2i + 1.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = _positions(max_seq_len) * base ** -(even(dim) / dim)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


@sinusoidal_positions.misconception(
    "cosine first",
    "The cosine stands in channel 2i and the sine in 2i + 1. It is the other way round: position 0 is 0, 1, 0, 1, ...",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = _positions(max_seq_len) * base ** -(even(dim) / dim)
    return interleave(angles.cos(), angles.sin()).float()


@sinusoidal_positions.misconception(
    "a frequency for each channel",
    "The cosine has a slower frequency than the sine beside it: you take the channel's own number for the exponent. "
    "Both channels of a pair share one frequency, or they make no circle.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    positions, channels = _positions(max_seq_len), even(dim)
    sines, cosines = (positions * base ** -(c / dim) for c in (channels, channels + 1))
    return interleave(sines.sin(), cosines.cos()).float()


@sinusoidal_positions.misconception(
    "sine at even positions, cosine at odd ones",
    "Even positions get sines and odd ones cosines. Even and odd are the channels: each position has both, the sine in "
    "channel 2i and the cosine in 2i + 1.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    positions = _positions(max_seq_len)
    angles = (positions * base ** -(even(dim) / dim)).repeat_interleave(2, dim=-1)
    return torch.where(positions % 2 == 0, angles.sin(), angles.cos()).float()


@sinusoidal_positions.misconception(
    "sines only",
    "Every channel holds a sine. The odd channels take the cosine of the same angle.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return (_positions(max_seq_len) * base ** -(even(dim) / dim)).sin().repeat_interleave(2, dim=-1).float()


@sinusoidal_positions.misconception(
    "cosine with the period 4 pi",
    "Your cosines go half as fast as the sines beside them. Sine and cosine both have the period 2 pi, and take the "
    "same angle.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = _positions(max_seq_len) * base ** -(even(dim) / dim)
    return interleave(angles.sin(), (angles / 2).cos()).float()


@sinusoidal_positions.misconception(
    "the 2 is missing",
    "Your exponents run from 0 to 1/2 only: pair i has the exponent -2i / dim, not -i / dim. With dim / 2 pairs, "
    "2i / dim runs from 0 to nearly 1.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), base ** -(even(dim) / 2 / dim))


@sinusoidal_positions.misconception(
    "the 2 twice",
    "Your exponents run from 0 to 2. arange(0, dim, 2) is 2i already: divide it by dim, and do not multiply by 2 "
    "again.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), base ** -(2 * even(dim) / dim))


@sinusoidal_positions.misconception(
    "positive exponent",
    "Your pairs get faster and faster: the exponent is -2i / dim. If you divide the position by base ** (2i / dim), "
    "that is the same.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), base ** (even(dim) / dim))


@sinusoidal_positions.misconception(
    "last exponent is -1",
    "Your exponents run from 0 to -1 with both ends, like linspace. They are -2i / dim, and the last is -1 + 2 / dim.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), base ** -torch.linspace(0, 1, len(even(dim)), dtype=torch.float64))


@sinusoidal_positions.misconception(
    "positions from 1",
    "Your first row is that of position 1. Positions count from 0, and row 0 is 0, 1, 0, 1, ...",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len) + 1, base ** -(even(dim) / dim))


@sinusoidal_positions.misconception(
    "pairs counted from 1",
    "Your first pair has the frequency of the second. Pairs count from 0: the first frequency is 1.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), base ** -((even(dim) + 2) / dim))


@sinusoidal_positions.misconception(
    "angles in degrees",
    "You take the angles as degrees. Frequencies are in radians a position, and so is what torch.sin takes.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len) * math.pi / 180, base ** -(even(dim) / dim))


@sinusoidal_positions.misconception(
    "2 pi in the angle",
    "Your angles are 2 pi times too large: a frequency here is in radians a position, not in turns. The angle is "
    "position times frequency, as it is.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len) * 2 * math.pi, base ** -(even(dim) / dim))


@sinusoidal_positions.misconception(
    "positions squeezed between 0 and 1",
    "You divide positions by the length of the table. Then a step means something else in each table; the formula "
    "takes the position as it is, and only its sine and cosine are small.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len) / max_seq_len, base ** -(even(dim) / dim))


@sinusoidal_positions.misconception(
    "base written in",
    "You use 10,000 whatever base is. Take the argument.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(max_seq_len, dim)


@sinusoidal_positions.misconception(
    "rows and columns exchanged",
    "Your table has a row for each channel. A row belongs to a position: its shape is (max_seq_len, dim).",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(max_seq_len, dim, base).T


@sinusoidal_positions.misconception(
    "float64 returned",
    "The numbers are right, but in float64. Take the angles in float64, then return their sines and cosines in "
    "float32: .float() at the end.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return exact_rows(torch.arange(max_seq_len), len(even(dim)) * 2, base)


@sinusoidal_positions.misconception("angles in float32", IN_FLOAT32)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len).float(), base ** -(even(dim).float() / dim))


@sinusoidal_positions.misconception("frequencies in float32", IN_FLOAT32)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), base ** -(even(dim).float() / dim))


@sinusoidal_positions.misconception("angles in float32, by exp and log", IN_FLOAT32)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len).float(), torch.exp(even(dim).float() * (-math.log(base) / dim)))


@sinusoidal_positions.misconception("frequencies in float32, by exp and log", IN_FLOAT32)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), torch.exp(even(dim).float() * (-math.log(base) / dim)))


@sinusoidal_positions.misconception(
    "odd sizes accepted",
    "You accept an odd dim, in which the last sine has no cosine. Raise ValueError first.",
)
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _table(_positions(max_seq_len), base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim))[:, :dim]


@sinusoidal_positions.alternative
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    if dim % 2 == 1:
        raise ValueError(f"dim {dim} is odd")
    frequencies = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(base) / dim))
    angles = torch.outer(torch.arange(max_seq_len, dtype=torch.float64), frequencies)
    table = torch.zeros(max_seq_len, dim)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


@sinusoidal_positions.alternative
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    if dim % 2:
        raise ValueError("an even dim is needed")
    rows = []
    for position in range(max_seq_len):
        row = []
        for pair in range(dim // 2):
            angle = position / base ** (2 * pair / dim)
            row.extend((math.sin(angle), math.cos(angle)))
        rows.append(row)
    return torch.tensor(rows)


@sinusoidal_positions.alternative
def _(max_seq_len: int, dim: int, base: float = 10_000.0) -> Tensor:
    # A cosine is a sine that started a quarter of a turn earlier.
    channels = torch.arange(dim, dtype=torch.float64)
    frequencies = base ** -((even(dim).repeat_interleave(2)) / dim)
    return torch.sin(_positions(max_seq_len) * frequencies + channels % 2 * math.pi / 2).float()
