"""Exercise 5: the matrix that moves every encoding on by k positions."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, exact, expect_close, expect_like, expect_value_error
from ...families import kept_from_the_first_call
from .common import FREQUENCIES, exact_rows


def shift_matrix(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    if dim % 2:
        raise ValueError("dim must be even")
    exponents = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    frequencies = base**-exponents
    angles = k * frequencies
    sin = angles.sin()
    cos = angles.cos()
    blocks = torch.stack((cos, sin, -sin, cos), dim=-1).unflatten(-1, (2, 2))
    return torch.block_diag(*blocks)


def cases() -> list[tuple]:
    """Forwards, backwards, far, and not at all; several bases, also for one dim, and an odd dim."""
    return [
        (5, 4),
        (3, 6, 150.0),
        (3, 6, 7.0),
        (100_003, 6, 150.0),
        (-4, 8, 65_536.0),
        (1, 8, 65_536.0),
        (0, 8, 65_536.0),
        (2, 7, 10_000.0),
    ]


exercise = Exercise(
    shift_matrix,
    points=5,
    minutes=10,
    cases=cases,
    returns=Tensor,
    hints=(
        "One pair first: write sin((p + k) f) and cos((p + k) f) with the theorems for sums, and read off the four "
        "numbers that stand before sin(p f) and cos(p f). Section 8 of the lesson has them.",
        "Each pair has its own angle, k times its frequency, and touches its own two channels only: rows and columns "
        "2i and 2i + 1. All else is 0.",
        "Start from torch.zeros(dim, dim, dtype=torch.float64) and fill four places for each pair, in a loop or with "
        "slices such as matrix[0::2, ...]; or make a small matrix for each pair and join them with torch.block_diag.",
    ),
)


def expect_moves(answer: Callable, k: int, dim: int, positions: tuple, base: float = 10_000.0, atol=1e-9) -> None:
    """Refuse a matrix that does not bring the encodings of these positions to those k further on."""
    matrix, positions = exact(answer(k, dim, base)), torch.tensor(positions)
    where = f"k {k}, dim {dim}" + (f", base {base:g}" if base != 10_000.0 else "")
    if matrix.shape != (dim, dim):
        raise Mismatch(f"{where}: expected shape {(dim, dim)}, got {tuple(matrix.shape)}")
    moved, want = exact_rows(positions, dim, base) @ matrix.T, exact_rows(positions + k, dim, base)
    where = f"{where}, the encodings of positions {positions.tolist()} moved on"
    expect_close(moved, want, where=where, rtol=0, atol=atol)


@exercise.property("dim rows and columns, in float64")
def shape_and_dtype(answer: Callable) -> None:
    for k, dim in ((1, 2), (5, 10), (-3, 64)):
        expect_like(answer(k, dim, 10_000.0), shape=(dim, dim), dtype=torch.float64, where=f"k {k}, dim {dim}")


@exercise.property("a shift by 0 changes nothing")
def no_shift(answer: Callable) -> None:
    for dim in (2, 10):
        expect_close(answer(0, dim, 10_000.0), torch.eye(dim), where=f"k 0, dim {dim}", atol=1e-12)


@exercise.property("matrix @ encoding of p is the encoding of p + k, for every p")
def moves_on(answer: Callable) -> None:
    for k, dim in ((1, 2), (1, 10), (5, 10), (12, 14)):
        expect_moves(answer, k, dim, (0, 1, 2, 17, 400))


@exercise.property("for 64 channels too, where a matrix fitted to some hundred rows is not the right one")
def many_channels(answer: Callable) -> None:
    for k in (1, 12):
        expect_moves(answer, k, 64, (0, 1, 2, 17, 400, 5_000))


@exercise.property("a negative k moves back, and undoes a shift by k")
def moves_back(answer: Callable) -> None:
    expect_moves(answer, -4, 10, (4, 5, 100))
    forth, back = answer(6, 10, 10_000.0), answer(-6, 10, 10_000.0)
    expect_close(back @ forth, torch.eye(10), where="dim 10, the matrix of -6 times the matrix of 6", atol=1e-9)


@exercise.property("a shift by 2 after a shift by 3 is a shift by 5")
def shifts_add_up(answer: Callable) -> None:
    two, three, five = (answer(k, 10, 10_000.0) for k in (2, 3, 5))
    expect_close(two @ three, five, where="dim 10, the matrix of 2 times the matrix of 3", atol=1e-9)


@exercise.property("zeros everywhere but in a 2 by 2 block for each pair, and lengths are kept")
def blocks_alone(answer: Callable) -> None:
    matrix = exact(answer(5, 10, 10_000.0))
    outside = torch.block_diag(*torch.ones(5, 2, 2)) == 0
    expect_close(matrix[outside], torch.zeros(80), where="k 5, dim 10, outside of the blocks", atol=1e-12)
    x = torch.linspace(-1, 1, 10, dtype=torch.float64)
    expect_close((matrix @ x).norm(), x.norm(), where="k 5, dim 10, length of a vector after the shift", atol=1e-9)


@exercise.property("exact for a shift by 100,000 too")
def far_shift(answer: Callable) -> None:
    for dim in (10, 12):
        expect_moves(answer, 100_000, dim, (0, 1, 9), atol=1e-8)


@exercise.property("base is used, and 10,000 where it is not given")
def base_used(answer: Callable) -> None:
    for base in (10_000.0, 100.0, 500_000.0):
        expect_moves(answer, 7, 10, (0, 3, 50), base)
    expect_moves(lambda k, dim, base: answer(k, dim), 7, 12, (0, 3, 50))


@exercise.property("an odd dim is refused with a ValueError")
def odd_refused(answer: Callable) -> None:
    for dim in (1, 9):
        expect_value_error(answer, 2, dim, 10_000.0, where=f"dim {dim}")


exercise.slips(FREQUENCIES)
exercise.slips("""
    later pairs turn faster: base**-exponents -> base**exponents
        Your later pairs turn faster than the first. The exponent of a frequency is -2i / dim.
    moves back instead of on: (cos, sin, -sin, cos) -> (cos, -sin, sin, cos)
        Your matrix moves back by k, as with the minus before the other sine, the matrix transposed, or -k for k. Such a
        block is right where the cosine stands first; here the sine does, and sin((p + k) f) = cos(k f) sin(p f) +
        sin(k f) cos(p f) has a plus.
    no minus at all: (cos, sin, -sin, cos) -> (cos, sin, sin, cos)
        Both sines in a block have a plus. Then the block stretches instead of turning: the cosine of a sum has a minus,
        cos((p + k) f) = cos(k f) cos(p f) - sin(k f) sin(p f).
    a minus twice: (cos, sin, -sin, cos) -> (cos, -sin, -sin, cos)
        Both sines in a block have a minus. The sine of a sum has a plus, sin((p + k) f) = cos(k f) sin(p f) + sin(k f)
        cos(p f).
    sine and cosine exchanged: (cos, sin, -sin, cos) -> (sin, cos, -cos, sin)
        Sines stand on your diagonal and cosines beside it. A shift by 0 has to change nothing, so the cosine, which is
        1 at 0, belongs on the diagonal.
    sines on the diagonal, cosines with a plus: (cos, sin, -sin, cos) -> (sin, cos, cos, -sin)
        Sines stand on your diagonal and cosines beside it, as if the cosine stood first in what comes in. A shift by 0
        has to change nothing, so the cosine, which is 1 at 0, belongs on the diagonal.
    one angle for all pairs: k * frequencies -> k * torch.ones_like(frequencies)
        Every block turns by k radians. Each pair has its own frequency: its block turns by k times that.
    k is not used: k * frequencies -> frequencies
        Your matrix moves on by one position whatever k is. The angle of a pair is k times its frequency.
    the sign of k is lost: k * frequencies -> abs(k) * frequencies
        Your matrix moves on by k where it should move back: a negative k counts as a positive one.
    nothing for a negative k: k * frequencies -> max(k, 0) * frequencies
        A negative k changes nothing, as a loop over range(k) does nothing then. It has to move back.
    angles in degrees: k * frequencies -> k * frequencies * torch.pi / 180
        You take the angles as degrees. Frequencies are in radians per position, and a sine takes radians.
    2 pi in the angle: k * frequencies -> k * frequencies * 2 * torch.pi
        Your angles are 2 pi times too large: a frequency here is in radians per position, not in turns.
    channels moved along: torch.block_diag(*blocks) -> torch.eye(dim, dtype=torch.float64).roll(k, dims=0)
        Your matrix moves the numbers to other channels. The table's *rows* are to move on by k; within a row each pair
        stays where it is, and turns.
    the blocks side by side: torch.block_diag(*blocks) -> blocks
        You return the blocks one after the other, (dim / 2, 2, 2). They stand along the diagonal of one matrix:
        torch.block_diag joins them.
    the first block alone: torch.block_diag(*blocks) -> torch.block_diag(blocks[0], torch.eye(dim - 2).double())
        Only the first pair turns, and the other channels stay as they are. Each pair has a block of its own.
    float32 returned: torch.block_diag(*blocks) -> torch.block_diag(*blocks).float()
        The numbers are right, but the matrix is in float32. Say dtype=torch.float64 where you make it, or every shift
        after it is rounded to seven digits.
    rounded to float32 on the way: torch.block_diag(*blocks) -> torch.block_diag(*blocks).float().double()
        The matrix is in float64, but its numbers have the seven digits of float32: .float() leaves no more, nor do
        torch.tensor and torch.zeros, unless you say dtype=torch.float64.
    angles in float32: k * frequencies -> (k * base ** -exponents.float()).double()
        The angles are those of float32: for a shift by 100,000 as few as two digits after the point are left, and
        .double() afterwards brings none back. Be in float64 from the first step on.
    sines in float32: angles.cos() -> (f := k * base ** -exponents.float()).cos().double(); sin = f.sin().double()
        The dtype is float64, but angles, sines and cosines are those of float32: for a shift by 100,000 as few as
        two digits after the point are left, and .double() afterwards brings none back. Be in float64 from the start.
    computed and returned in float32: k * frequencies -> k * base ** -exponents.float()
        The matrix is in float32, and so were the angles: for a shift by 100,000 as few as two digits after the
        point are left. Say dtype=torch.float64 in torch.arange, and where you make the matrix.
""")
kept_from_the_first_call(exercise, "base", under=("dim",))
kept_from_the_first_call(exercise, "k", under=("dim", "base"))


@exercise.misconception
def blocks_that_overlap(k, dim, base=10_000.0):
    """Your blocks stand in rows and columns i and i + 1, so that each overwrites a part of the one before. Pair i has
    channels 2i and 2i + 1."""
    right, matrix = shift_matrix(k, dim, base), torch.zeros(dim, dim, dtype=torch.float64)
    for i in range(dim // 2):
        matrix[i : i + 2, i : i + 2] = right[2 * i : 2 * i + 2, 2 * i : 2 * i + 2]
    return matrix


@exercise.misconception
def channels_paired_in_halves(k, dim, base=10_000.0):
    """You pair channel i with i + dim / 2. The table of this lesson has a pair in channels 2i and 2i + 1: sine, cosine,
    sine, cosine."""
    matrix, order = shift_matrix(k, dim, base), [*range(0, dim, 2), *range(1, dim, 2)]
    return matrix[order][:, order]


@exercise.misconception
def k_times_the_matrix_of_one_step(k, dim, base=10_000.0):
    """You multiply the matrix of one step by k. Doing it k times is its k-th *power*, as a matrix: the angle is
    multiplied by k, not the numbers."""
    return k * shift_matrix(1, dim, base)


@exercise.misconception
def power_of_each_number(k, dim, base=10_000.0):
    """You raise each number of the matrix to the power k, as ** does. k steps one after the other are a *matrix* power,
    torch.linalg.matrix_power; or multiply the angle by k."""
    return shift_matrix(1, dim, base) ** k
