"""Exercise 10, a bug hunt: the loop that many tutorials print, with its two exponents."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import exact, expect_close, expect_like
from .common import exact_rows


def tutorial_table(max_seq_len: int, dim: int) -> Tensor:
    table = torch.zeros(max_seq_len, dim)
    for position in range(max_seq_len):
        for channel in range(0, dim, 2):
            sine, cosine = channel / dim, channel / dim
            table[position, channel] = math.sin(position / 10_000**sine)
            table[position, channel + 1] = math.cos(position / 10_000**cosine)
    return table


def cases() -> list[tuple]:
    return [(4, 4), (12, 8), (9, 6), (20, 16)]


exercise = Exercise(
    tutorial_table,
    points=4,
    minutes=8,
    cases=cases,
    returns=Tensor,
    hints=(
        "Rows of different lengths: which law makes all rows equally long, and what does it need of the two angles of "
        "a pair? Print both angles of one pair.",
        "Row 1 beside the lesson's: the first pair is right, the second is far too slow. Which values does `channel` "
        "take in the loop, and which does i take in the formula's 2i?",
        "There are two mistakes, one in both exponents and one in the cosine's alone. Both channels of a pair have one "
        "frequency, and `channel` counts in twos already.",
    ),
)


@exercise.property("one row for each position, one column for each channel, in float32")
def shape_and_dtype(answer: Callable) -> None:
    for max_seq_len, dim in ((1, 2), (5, 8), (12, 6), (3, 6), (4, 8)):
        where = f"max_seq_len {max_seq_len}, dim {dim}"
        expect_like(answer(max_seq_len, dim), shape=(max_seq_len, dim), dtype=torch.float32, where=where)


@exercise.property("all rows are equally long: their squares add up to dim / 2")
def equal_lengths(answer: Callable) -> None:
    for dim in (2, 8, 16):
        lengths = exact(answer(30, dim)).square().sum(dim=-1)
        expect_close(lengths, torch.full((30,), dim / 2), where=f"dim {dim}, squared lengths", atol=1e-4)


@exercise.property("rows 0, 1 and 2 for eight channels are those of the formula")
def rows_of_the_lesson(answer: Callable) -> None:
    want = torch.tensor([f(p * 10.0**-i) for p in range(3) for i in range(4) for f in (math.sin, math.cos)])
    expect_close(answer(3, 8), want.view(3, 8), where="max_seq_len 3, dim 8", atol=1e-6)


@exercise.property("the dot product of two rows depends on their distance alone")
def distance_alone(answer: Callable) -> None:
    table = exact(answer(60, 16))
    products = (table[7:] * table[:-7]).sum(dim=-1)
    expect_close(products, products[:1].expand(53), where="dim 16, rows 7 apart at 53 places", atol=1e-4)


@exercise.property("each channel is what the formula says")
def formula(answer: Callable) -> None:
    for max_seq_len, dim in ((8, 8), (40, 6), (20, 64), (20, 6), (8, 4), (8, 8)):
        want = exact_rows(torch.arange(max_seq_len), dim)
        expect_close(answer(max_seq_len, dim), want, where=f"max_seq_len {max_seq_len}, dim {dim}", atol=2e-6)


exercise.slips(
    """
    the planted bugs: channel / dim, channel / dim -> 2 * channel / dim, 2 * (channel + 1) / dim
        Both bugs are still there: rows are not equally long, and the second pair is far too slow. Print the two angles
        of one pair, and the values that `channel` takes.
    """,
    given=True,
)
exercise.slips("""
    one frequency, but too slow: channel / dim, channel / dim -> 2 * channel / dim, 2 * channel / dim
        One bug is mended: sine and cosine share a frequency, and rows are equally long. But the exponents are still
        twice too large: `channel` counts 0, 2, 4, ..., which is 2i already.
    right exponents, but two frequencies: channel / dim, channel / dim -> channel / dim, (channel + 1) / dim
        One bug is mended: the sines are right. But each cosine is still slower than the sine beside it: both channels
        of a pair take the same angle, that of the even channel.
    the cosine takes the next pair's frequency: channel / dim, channel / dim -> channel / dim, (channel + 2) / dim
        Each cosine has the frequency of the next pair. It takes that of the sine beside it.
    only the cosine mended: channel / dim, channel / dim -> 2 * channel / dim, channel / dim
        The cosines are right now, but the sines' exponents are still twice too large: `channel` is 2i already.
    only the sine mended: channel / dim, channel / dim -> channel / dim, 2 * (channel + 1) / dim
        The sines are right now, but the cosines' exponents are as they were: they need the same angle as the sine.
    only the sine's factor mended: channel / dim, channel / dim -> channel / dim, 2 * channel / dim
        The sines are right now, but the cosines' exponents are twice too large: they need the same angle as the sine.
    the exponent of the odd channel for both: channel / dim, channel / dim -> (channel + 1) / dim, (channel + 1) / dim
        Sine and cosine share a frequency now, but it is that of the odd channel, so that the first pair no longer moves
        on by 1. Take the even channel's number, which is 2i.
    the cosine's exponent for both: channel / dim, channel / dim -> 2 * (channel + 1) / dim, 2 * (channel + 1) / dim
        Sine and cosine share a frequency now, but it is the one that the cosine had. Take the even channel's number,
        which is 2i, without a factor.
    the exponents halved once too often: channel / dim, channel / dim -> channel / 2 / dim, channel / 2 / dim
        Sine and cosine share a frequency now, but the exponents are half as large as they should be. `channel` is 2i
        already, and wants neither a factor of 2 nor a half.
    every channel begins a pair: range(0, dim, 2) -> range(dim - 1)
        The loop goes through every channel, so that each cosine but the last is overwritten by a sine. A pair
        begins at every second channel: range(0, dim, 2).
    half of the channels are empty: range(0, dim, 2) -> range(dim // 2)
        The loop goes through the numbers of pairs, but writes to these channels: those beyond dim / 2 stay 0. Pair i
        has channels 2i and 2i + 1, and the exponent 2i / dim.
    faster and faster: channel / dim, channel / dim -> -channel / dim, -channel / dim
        Sine and cosine share a frequency now, but later pairs are faster: the position is *divided* by
        10,000 ** (channel / dim).
    all sines, then all cosines: return table -> return torch.cat((table[:, 0::2], table[:, 1::2]), dim=-1)
        The angles are right now, but sines and cosines no longer stand side by side. Only the exponents were wrong.
    cosine first: return table -> return table.unflatten(1, (-1, 2)).flip(2).flatten(1)
        The angles are right now, but the cosine stands in channel 2i. Only the exponents were wrong.
    sines only: math.cos( -> math.sin(
        The angles are right now, but the odd channels hold sines too. Only the exponents were wrong.
    float64 returned: torch.zeros(max_seq_len, dim) -> torch.zeros(max_seq_len, dim, dtype=torch.float64)
        The numbers are right, but the table was in float32, and should stay so.
""")


@exercise.misconception
def neighbours_overwritten(max_seq_len, dim):
    """You count pairs now, but write pair i into channels i and i + 1, where the next pair overwrites the cosine. Pair
    i has channels 2i and 2i + 1."""
    right, table = tutorial_table(max_seq_len, dim), torch.zeros(max_seq_len, dim)
    for i in range(dim // 2):
        table[:, i : i + 2] = right[:, 2 * i : 2 * i + 2]
    return table
