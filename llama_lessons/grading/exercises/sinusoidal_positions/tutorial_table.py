"""Exercise 10, a bug hunt: the loop that many tutorials print, with its two exponents."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import expect_close, expect_like
from .common import LESSON, exact_rows

__all__ = ["tutorial_table"]


def _loop(
    max_seq_len: int, dim: int, sine_exponent: Callable[[int], float], cosine_exponent: Callable[[int], float]
) -> Tensor:
    """The table whose sine in channel c has the frequency 10,000 ** -sine_exponent(c), and so on."""
    table = torch.zeros(max_seq_len, dim)
    for position in range(max_seq_len):
        for channel in range(0, dim, 2):
            table[position, channel] = math.sin(position / 10_000.0 ** sine_exponent(channel))
            table[position, channel + 1] = math.cos(position / 10_000.0 ** cosine_exponent(channel))
    return table


def _reference(max_seq_len: int, dim: int) -> Tensor:
    return exact_rows(torch.arange(max_seq_len), dim).float()


def _cases() -> list[tuple]:
    return [(4, 4), (12, 8), (9, 6), (20, 16)]


tutorial_table = Exercise(
    name="tutorial_table",
    lesson=LESSON,
    points=4,
    minutes=8,
    parameters=("max_seq_len", "dim"),
    reference=_reference,
    cases=_cases,
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


@tutorial_table.property("one row for each position, one column for each channel, in float32")
def _(answer: Callable) -> None:
    for max_seq_len, dim in ((1, 2), (5, 8), (12, 6)):
        where = f"max_seq_len {max_seq_len}, dim {dim}"
        expect_like(answer(max_seq_len, dim), shape=(max_seq_len, dim), dtype=torch.float32, where=where)


@tutorial_table.property("all rows are equally long: their squares add up to dim / 2")
def _(answer: Callable) -> None:
    for dim in (2, 8, 16):
        lengths = answer(30, dim).double().square().sum(dim=-1)
        expect_close(lengths, torch.full((30,), dim / 2), where=f"dim {dim}, squared lengths", atol=1e-4)


@tutorial_table.property("rows 1 and 2 for eight channels are those of the lesson")
def _(answer: Callable) -> None:
    want = torch.tensor([f(p * 10.0**-i) for p in (1, 2) for i in range(4) for f in (math.sin, math.cos)])
    expect_close(answer(3, 8)[1:], want.view(2, 8), where="max_seq_len 3, dim 8, rows 1 and 2", atol=1e-6)


@tutorial_table.property("the dot product of two rows depends on their distance alone")
def _(answer: Callable) -> None:
    table = answer(60, 16).double()
    products = (table[7:] * table[:-7]).sum(dim=-1)
    expect_close(products, products[:1].expand(53), where="dim 16, rows 7 apart at 53 places", atol=1e-4)


@tutorial_table.property("each channel is what the formula says")
def _(answer: Callable) -> None:
    for max_seq_len, dim in ((8, 8), (40, 6), (20, 64)):
        want = exact_rows(torch.arange(max_seq_len), dim)
        expect_close(answer(max_seq_len, dim), want, where=f"max_seq_len {max_seq_len}, dim {dim}", atol=2e-6)


@tutorial_table.misconception(
    "the planted bugs",
    "Both bugs are still there: rows are not equally long, and the second pair is far too slow. Print the two angles "
    "of one pair, and the values that `channel` takes.",
    given=True,
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: 2 * c / dim, lambda c: 2 * (c + 1) / dim)


@tutorial_table.misconception(
    "one frequency, but too slow",
    "One bug is mended: sine and cosine share a frequency, and rows are equally long. But the exponents still run to "
    "2: `channel` counts 0, 2, 4, ..., which is 2i already.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: 2 * c / dim, lambda c: 2 * c / dim)


@tutorial_table.misconception(
    "right exponents, but two frequencies",
    "One bug is mended: the sines are right. But each cosine is still slower than the sine beside it: both channels of "
    "a pair take the same angle, that of the even channel.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: c / dim, lambda c: (c + 1) / dim)


@tutorial_table.misconception(
    "the cosine takes the next pair's frequency",
    "Each cosine has the frequency of the next pair. It takes that of the sine beside it.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: c / dim, lambda c: (c + 2) / dim)


@tutorial_table.misconception(
    "only the cosine mended",
    "The cosines are right now, but the sines' exponents are still twice too large: `channel` is 2i already.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: 2 * c / dim, lambda c: c / dim)


@tutorial_table.misconception(
    "only the sine mended",
    "The sines are right now, but the cosines' exponents are as they were: they need the same angle as the sine.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: c / dim, lambda c: 2 * (c + 1) / dim)


@tutorial_table.misconception(
    "the exponent of the odd channel for both",
    "Sine and cosine share a frequency now, but it is that of the odd channel, so that the first pair no longer moves "
    "on by 1. Take the even channel's number, which is 2i.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: (c + 1) / dim, lambda c: (c + 1) / dim)


@tutorial_table.misconception(
    "the exponents halved once too often",
    "Sine and cosine share a frequency now, but the exponents run to 1/2 only. `channel` is 2i already, and wants "
    "neither a factor of 2 nor a half.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: c / 2 / dim, lambda c: c / 2 / dim)


@tutorial_table.misconception(
    "neighbours overwritten",
    "You count pairs now, but write pair i into channels i and i + 1, where the next pair overwrites the cosine. Pair "
    "i has channels 2i and 2i + 1.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    right, table = _reference(max_seq_len, dim), torch.zeros(max_seq_len, dim)
    for i in range(dim // 2):
        table[:, i : i + 2] = right[:, 2 * i : 2 * i + 2]
    return table


@tutorial_table.misconception(
    "faster and faster",
    "Sine and cosine share a frequency now, but later pairs are faster: the position is *divided* by 10,000 ** "
    "(channel / dim).",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: -c / dim, lambda c: -c / dim)


@tutorial_table.misconception(
    "all sines, then all cosines",
    "The angles are right now, but sines and cosines no longer stand side by side. Only the exponents were wrong.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    table = _reference(max_seq_len, dim)
    return torch.cat((table[:, 0::2], table[:, 1::2]), dim=-1)


@tutorial_table.misconception(
    "float64 returned",
    "The numbers are right now, but the table was in float32, and should stay so.",
)
def _(max_seq_len: int, dim: int) -> Tensor:
    return exact_rows(torch.arange(max_seq_len), dim)


@tutorial_table.alternative
def _(max_seq_len: int, dim: int) -> Tensor:
    return _loop(max_seq_len, dim, lambda c: c / dim, lambda c: c / dim)


@tutorial_table.alternative
def _(max_seq_len: int, dim: int) -> Tensor:
    angles = torch.arange(max_seq_len).double()[:, None] / 10_000.0 ** (torch.arange(0, dim, 2).double() / dim)
    table = torch.empty(max_seq_len, dim)
    table[:, ::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table
