"""Exercise 2: the cosine and sine of each pair's angle at each position."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import exact, expect_close, expect_like, on_device

ORDINARY = [(0, 1, 2, 3, 4), (5, 6, 7), (7, 3, 3, 0, 12), (4095,), tuple(range(100, 133))]
FAR = [(1_000_000, 1_000_001), (999_983,), (123_456_789, 3)]


def rope_tables(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    places, speeds = positions.cpu().double(), frequencies
    angles = places[:, None] * speeds
    cos, sin = angles.cos(), angles.sin()
    return cos.float().to(positions.device), sin.float().to(positions.device)


def given(positions: tuple[int, ...], n_pairs: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Positions on the learner's device, and frequencies as rope_frequencies gives them."""
    powers = [math.pow(theta, -i / n_pairs) for i in range(n_pairs)]
    return on_device(torch.tensor(positions)), torch.tensor(powers, dtype=torch.float64)


def cases() -> list[tuple]:
    """Few and many positions and pairs, as many of one as of the other, far ones, repeated ones, none of them 0."""
    sizes = [((0, 1, 2), 4), ((3, 1, 4, 1), 4), ((6, 7, 8, 9, 10), 2), ((2,), 3), ((11, 12), 2), ((100_003, 7), 32)]
    return [given(*size, theta) for size, theta in zip(sizes, (1e4, 5e5, 1e4, 1e2, 1e4, 1e5), strict=True)]


exercise = Exercise(
    rope_tables,
    points=3,
    minutes=6,
    cases=cases,
    returns=(Tensor, Tensor),
    hints=(
        "The angle of pair i at position m is m times the frequency of pair i. How many angles are there, and which "
        "axis is for what?",
        "A column of positions, positions[:, None], times a row of frequencies gives a table by broadcasting.",
        "Make the positions float64 before you multiply, not after. Only finished cosines and sines become float32.",
    ),
)


def expect_tables(answer: Callable, positions: tuple[int, ...], n_pairs: int, theta: float = 10_000.0) -> None:
    """Refuse tables that are not those of the angles in Python's own float64."""
    places, frequencies = given(positions, n_pairs, theta)
    got = answer(places, frequencies)
    shown = ", ".join(f"{position:,}" for position in positions[:4]) + (" ..." if len(positions) > 4 else "")
    where = f"positions {shown}, {n_pairs} pairs"
    for name, function, table in (("cos", math.cos, got[0]), ("sin", math.sin, got[1])):
        want = [[function(position * f) for f in frequencies.tolist()] for position in positions]
        expect_close(table, torch.tensor(want, dtype=torch.float64), where=f"{name}, {where}", rtol=0, atol=1e-6)


@exercise.property("two tables, (seq_len, head_dim // 2), in float32, where the positions are")
def shape_and_dtype(answer: Callable) -> None:
    for positions, n_pairs in (((0, 1, 2, 3, 4), 3), ((7,), 32), ((1, 2), 2)):
        places, frequencies = given(positions, n_pairs)
        for name, table in zip(("cos", "sin"), answer(places, frequencies), strict=True):
            where = f"{name} of {len(positions)} positions and {n_pairs} pairs"
            expect_like(table, shape=(len(positions), n_pairs), dtype=torch.float32, where=where)


@exercise.property("position 0 is not turned: cos 1, sin 0")
def position_0(answer: Callable) -> None:
    cos, sin = answer(*given((0,), 4))
    expect_close(cos, torch.ones(1, 4), where="cos at position 0", atol=1e-6)
    expect_close(sin, torch.zeros(1, 4), where="sin at position 0", atol=1e-6)


@exercise.property("the cosine and sine of position times frequency, for any positions")
def formula(answer: Callable) -> None:
    for positions in ORDINARY:
        expect_tables(answer, positions, 4)
        expect_tables(answer, positions, len(positions), 500_000.0)
    expect_tables(answer, (1, 2, 3), 5, 7.0)


@exercise.property("far positions are as exact as near ones")
def far(answer: Callable) -> None:
    for positions in FAR:
        expect_tables(answer, positions, 32)
        expect_tables(answer, positions, 64, 500_000.0)


@exercise.property("positions in int32, and frequencies on the CPU wherever the positions are")
def other_dtypes(answer: Callable) -> None:
    places, frequencies = given((3, 40_000_000, 5), 8)
    want = answer(places, frequencies)
    for got, expected in zip(answer(places.int(), frequencies), want, strict=True):
        expect_close(got, exact(expected), where="positions in int32", rtol=0, atol=1e-6)


exercise.slips("""
    angles in float32: angles = -> places, speeds = places.float(), speeds.float(); angles =
        Your angles are computed in float32. Near position 0 nobody sees it; at 1,000,000 they are off by hundredths of
        a radian. Multiply in float64: positions.double() first.
    angles rounded to float32: cos, sin = -> angles = angles.float(); cos, sin =
        Your angles are rounded to float32 before the cosine is taken: at position 1,000,000 that is off by hundredths
        of a radian. Take cosine and sine in float64, and round what comes out.
    frequencies in float32: angles = -> speeds = speeds.float(); angles =
        The frequencies are rounded to float32, and far positions multiply what was lost. Leave them in float64.
    float64 goes out: .float().to(positions.device), sin.float() -> .to(positions.device), sin
        The numbers are right, but they go out in float64. The tables are wanted in float32.
    half precision goes out: return -> cos, sin = cos.bfloat16(), sin.bfloat16(); return
        Your tables are in bfloat16, which keeps two or three digits. They are wanted in float32.
    sine first: return -> cos, sin = sin, cos; return
        The sine comes first. Asked for is the cosine, then the sine.
    twice the cosine: return -> sin = cos; return
        Both tables are the cosine. The second one is the sine.
    turned backwards: return -> sin = -sin; return
        Your sine has the opposite sign: it is that of minus the angle.
    one position a column: angles = places[:, None] * speeds -> angles = speeds[:, None] * places
        Your tables have a row for each pair and a column for each position. Positions are the rows.
    places of 0, 1, 2: angles = -> places = torch.arange(len(places)).to(places); angles =
        Your tables are those of positions 0, 1, 2, ..., whatever positions are given. After a cache they begin later,
        and they may come in any order: use them as they are.
    counted on from the first: angles = -> places = places[0] + torch.arange(len(places)).to(places); angles =
        Your tables go on from the first position in steps of 1. Positions may come in any order: use each as it is.
    positions from 1: cpu().double() -> cpu().double() + 1
        Your tables are those of the next position: position 0 is turned already. Positions count from 0.
    positions from -1: cpu().double() -> cpu().double() - 1
        Your tables are those of the position before. Use the positions as they are given.
    one table for all: angles = -> places = places[:1].expand_as(places); angles =
        All rows are that of the first position. Row m belongs to positions[m].
    the last position for all: angles = -> places = places[-1:].expand_as(places); angles =
        All rows are that of the last position. Row m belongs to positions[m].
    all pairs at the first speed: angles = -> speeds = speeds[:1].expand_as(speeds); angles =
        All pairs turn as fast as the first one. Column i belongs to frequencies[i].
    frequencies backwards: angles = -> speeds = speeds.flip(0); angles =
        The columns come in the opposite order: column i belongs to frequencies[i].
    wavelengths for frequencies: angles = -> speeds = 1 / speeds; angles =
        You divide by the frequencies. The angle is position times frequency.
    turned 2 pi times as far: cos, sin = -> angles = 2 * torch.pi * angles; cos, sin =
        Your angles are 2 pi times as large as asked. The frequencies are radians per position already.
    turned into degrees: cos, sin = -> angles = angles.rad2deg(); cos, sin =
        Your angles are turned into degrees, and torch takes radians.
    taken for degrees: cos, sin = -> angles = angles.deg2rad(); cos, sin =
        Your angles are taken for degrees and made smaller. They are radians already.
    twice the angle: angles = places -> angles = 2 * places
        Your angles are twice as large as asked: position times frequency, and nothing more.
    added, not multiplied: places[:, None] * speeds -> places[:, None] + speeds
        You add the frequency to the position. The angle is position times frequency.
    the angles themselves: cos, sin = angles.cos(), angles.sin() -> cos, sin = angles, angles
        You return the angles. Asked for are their cosine and their sine.
    the exponential: cos, sin = angles.cos(), angles.sin() -> cos, sin = angles.exp(), angles.exp()
        You return e to the angle. Asked for are its cosine and its sine.
    a column for each channel: return -> cos, sin = torch.cat((cos, cos), 1), torch.cat((sin, sin), 1); return
        Each column is there twice, one half after the other, as Hugging Face keeps its tables. Here there is one column
        for each pair.
    a column for each channel, neighbours: return -> cos, sin = (t.repeat_interleave(2, 1) for t in (cos, sin)); return
        Each column is there twice, side by side, one for each channel. Here there is one column for each pair.
    a batch axis: return -> cos, sin = cos[None], sin[None]; return
        Your tables have an axis of size 1 in front. Asked for is (seq_len, head_dim // 2).
    axes of x: return -> cos, sin = cos[None, None], sin[None, None]; return
        Your tables have two axes of size 1 in front, for batch and heads. Asked for is (seq_len, head_dim // 2).
""")
