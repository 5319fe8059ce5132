"""Exercise 5: the matrix that moves every encoding on by k positions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import LESSON, even, exact_rows

__all__ = ["shift_matrix"]

IN_FLOAT32 = (
    "The matrix is float64, but its frequencies or angles were computed in float32, as torch.arange of integers "
    "divided by a number is: for a shift by 1,000,000 little but noise is left. .double() afterwards brings no digit "
    "back: say dtype=torch.float64 in torch.arange."
)


def _blocks(sines: Tensor, cosines: Tensor) -> Tensor:
    """A block [[cos, sin], [-sin, cos]] for each pair."""
    return torch.block_diag(*torch.stack((cosines, sines, -sines, cosines), dim=-1).unflatten(-1, (2, 2)))


def _rotations(angles: Tensor) -> Tensor:
    return _blocks(angles.sin(), angles.cos())


def _angles(k: int, dim: int, base: float) -> Tensor:
    return k * base ** -(even(dim) / dim)


def _reference(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _rotations(_angles(k, dim, base))


def _cases() -> list[tuple]:
    """Forwards, backwards and far, two bases, and an odd dim."""
    return [
        (3, 2, 10_000.0),
        (1, 8, 10_000.0),
        (5, 8, 10_000.0),
        (-4, 6, 10_000.0),
        (7, 12, 100.0),
        (0, 4, 10_000.0),
        (1_000_000, 6, 10_000.0),
        (2, 7, 10_000.0),
    ]


shift_matrix = Exercise(
    name="shift_matrix",
    lesson=LESSON,
    points=5,
    minutes=10,
    parameters=("k", "dim", "base"),
    reference=_reference,
    cases=_cases,
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


def _expect_moves(answer: Callable, k: int, dim: int, base: float, positions: Tensor, atol: float = 1e-9) -> None:
    matrix = answer(k, dim, base).double().cpu()
    where = f"k {k}, dim {dim}" + (f", base {base:g}" if base != 10_000.0 else "")
    if matrix.shape != (dim, dim):
        raise Mismatch(f"{where}: expected shape {(dim, dim)}, got {tuple(matrix.shape)}")
    moved = exact_rows(positions, dim, base) @ matrix.T
    want = exact_rows(positions + k, dim, base)
    expect_close(
        moved, want, where=f"{where}, the encodings of positions {positions.tolist()} moved on", rtol=0, atol=atol
    )


@shift_matrix.property("dim rows and columns, in float64")
def _(answer: Callable) -> None:
    for k, dim in ((1, 2), (5, 8), (-3, 64)):
        expect_like(answer(k, dim, 10_000.0), shape=(dim, dim), dtype=torch.float64, where=f"k {k}, dim {dim}")


@shift_matrix.property("a shift by 0 changes nothing")
def _(answer: Callable) -> None:
    for dim in (2, 8):
        expect_close(answer(0, dim, 10_000.0), torch.eye(dim), where=f"k 0, dim {dim}", atol=1e-12)


@shift_matrix.property("matrix @ encoding of p is the encoding of p + k, for every p")
def _(answer: Callable) -> None:
    for k, dim in ((1, 2), (1, 8), (5, 8)):
        _expect_moves(answer, k, dim, 10_000.0, torch.tensor([0, 1, 2, 17, 400]))


@shift_matrix.property("for 64 channels too, where a matrix fitted to some hundred rows is not the right one")
def _(answer: Callable) -> None:
    for k in (1, 12):
        _expect_moves(answer, k, 64, 10_000.0, torch.tensor([0, 1, 2, 17, 400, 5_000]))


@shift_matrix.property("a negative k moves back, and undoes a shift by k")
def _(answer: Callable) -> None:
    _expect_moves(answer, -4, 8, 10_000.0, torch.tensor([4, 5, 100]))
    forth, back = answer(6, 8, 10_000.0), answer(-6, 8, 10_000.0)
    expect_close(back @ forth, torch.eye(8), where="dim 8, the matrix of -6 times the matrix of 6", atol=1e-9)


@shift_matrix.property("a shift by 2 after a shift by 3 is a shift by 5")
def _(answer: Callable) -> None:
    two, three, five = (answer(k, 8, 10_000.0) for k in (2, 3, 5))
    expect_close(two @ three, five, where="dim 8, the matrix of 2 times the matrix of 3", atol=1e-9)


@shift_matrix.property("zeros everywhere but in a 2 by 2 block for each pair, and lengths are kept")
def _(answer: Callable) -> None:
    matrix = answer(5, 8, 10_000.0).double().cpu()
    outside = torch.block_diag(*torch.ones(4, 2, 2)) == 0
    expect_close(matrix[outside], torch.zeros(48), where="k 5, dim 8, outside of the blocks", atol=1e-12)
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)
    expect_close((matrix @ x).norm(), x.norm(), where="k 5, dim 8, length of a vector after the shift", atol=1e-9)


@shift_matrix.property("exact for a shift by 1,000,000 too")
def _(answer: Callable) -> None:
    _expect_moves(answer, 1_000_000, 6, 10_000.0, torch.tensor([0, 1, 9]), atol=1e-8)


@shift_matrix.property("base is used, and 10,000 where it is not given")
def _(answer: Callable) -> None:
    for base in (100.0, 500_000.0):
        _expect_moves(answer, 7, 8, base, torch.tensor([0, 3, 50]))
    expect_close(answer(7, 4), answer(7, 4, 10_000.0), where="shift_matrix(7, 4) beside base 10,000", atol=1e-12)
    _expect_moves(lambda k, dim, base: answer(k, dim), 7, 4, 10_000.0, torch.tensor([0, 3, 50]))


@shift_matrix.property("an odd dim is refused with a ValueError")
def _(answer: Callable) -> None:
    for dim in (1, 7):
        expect_value_error(answer, 2, dim, 10_000.0, where=f"dim {dim}")


@shift_matrix.misconception(
    "moves back instead of on",
    "Your matrix moves back by k: the minus stands before the wrong sine (or the matrix is transposed). That block is "
    "right where the cosine stands first; here the sine does, and sin((p + k) f) = cos(k f) sin(p f) + sin(k f) "
    "cos(p f) has a plus.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(k, dim, base).T


@shift_matrix.misconception(
    "a sign is missing",
    "Both sines in a block have a plus. Then the block stretches instead of turning: the cosine of a sum has a minus, "
    "cos((p + k) f) = cos(k f) cos(p f) - sin(k f) sin(p f).",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = _angles(k, dim, base)
    sines, cosines = angles.sin(), angles.cos()
    return torch.block_diag(*torch.stack((cosines, sines, sines, cosines), dim=-1).unflatten(-1, (2, 2)))


@shift_matrix.misconception(
    "sine and cosine exchanged",
    "Sines stand on your diagonal and cosines beside it. A shift by 0 has to change nothing, so the cosine, which is 1 "
    "at 0, belongs on the diagonal.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = _angles(k, dim, base)
    return _blocks(angles.cos(), angles.sin())


@shift_matrix.misconception(
    "channels paired in halves",
    "You pair channel i with i + dim / 2. The table of this lesson has a pair in channels 2i and 2i + 1: sine, cosine, "
    "sine, cosine.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    order = torch.cat((torch.arange(0, dim, 2), torch.arange(1, dim, 2)))
    return _reference(k, dim, base)[order][:, order]


@shift_matrix.misconception(
    "one angle for all pairs",
    "Every block turns by k radians. Each pair has its own frequency: its block turns by k times that.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _rotations(torch.full_like(_angles(k, dim, base), k))


@shift_matrix.misconception(
    "k is not used",
    "Your matrix moves on by one position whatever k is. The angle of a pair is k times its frequency.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(1, dim, base)


@shift_matrix.misconception(
    "the sign of k is lost",
    "Your matrix moves on by k where it should move back: a negative k counts as a positive one.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(abs(k), dim, base)


@shift_matrix.misconception(
    "blocks that overlap",
    "Your blocks stand in rows and columns i and i + 1, so that each overwrites a part of the one before. Pair i has "
    "channels 2i and 2i + 1.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    right, matrix = _reference(k, dim, base), torch.zeros(dim, dim, dtype=torch.float64)
    for i in range(dim // 2):
        matrix[i : i + 2, i : i + 2] = right[2 * i : 2 * i + 2, 2 * i : 2 * i + 2]
    return matrix


@shift_matrix.misconception(
    "k times the matrix of one step",
    "You multiply the matrix of one step by k. Doing it k times is its k-th *power*, as a matrix: the angle is "
    "multiplied by k, not the numbers.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return k * _reference(1, dim, base)


@shift_matrix.misconception(
    "power of each number",
    "You raise each number of the matrix to the power k (** does that). k steps one after the other are a *matrix* "
    "power, torch.linalg.matrix_power; or multiply the angle by k.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(1, dim, base) ** k


@shift_matrix.misconception(
    "channels moved along",
    "Your matrix moves the numbers to other channels. The table's *rows* are to move on by k; within a row each pair "
    "stays where it is, and turns.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    even(dim)
    return torch.eye(dim, dtype=torch.float64).roll(k, dims=0)


@shift_matrix.misconception(
    "the blocks side by side",
    "You return the blocks one after the other, (dim / 2, 2, 2). They stand along the diagonal of one matrix: "
    "torch.block_diag joins them.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = _angles(k, dim, base)
    return torch.stack((angles.cos(), angles.sin(), -angles.sin(), angles.cos()), dim=-1).unflatten(-1, (2, 2))


@shift_matrix.misconception(
    "the 2 is missing",
    "Your exponents run from 0 to 1/2 only: pair i has the frequency base ** (-2i / dim), not base ** (-i / dim).",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _rotations(k * base ** -(even(dim) / 2 / dim))


@shift_matrix.misconception(
    "the 2 twice",
    "Your exponents run from 0 to 2. arange(0, dim, 2) is 2i already: divide it by dim.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _rotations(k * base ** -(2 * even(dim) / dim))


@shift_matrix.misconception(
    "positive exponent",
    "Your later pairs turn faster than the first. The exponent is -2i / dim.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _rotations(k * base ** (even(dim) / dim))


@shift_matrix.misconception("base written in", "You use 10,000 whatever base is. Take the argument.")
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(k, dim)


@shift_matrix.misconception(
    "float32",
    "The angles are right, but the matrix is in float32. Say dtype=torch.float64 where you make it, or every shift "
    "after it is rounded to seven digits.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(k, dim, base).float()


@shift_matrix.misconception("sines and cosines in float32", IN_FLOAT32)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _rotations(k * base ** -(even(dim).float() / dim)).double()


@shift_matrix.misconception("frequencies in float32", IN_FLOAT32)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _rotations(k * (base ** -(even(dim).float() / dim)).double())


@shift_matrix.misconception("angles in float32", IN_FLOAT32)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _rotations((k * base ** -(even(dim).float() / dim)).double())


@shift_matrix.misconception(
    "rounded on the way",
    "The matrix is float64, but its numbers have seven digits only: torch.tensor makes float32 of Python's numbers, "
    "and torch.zeros too. Say dtype=torch.float64 to each of them.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    return _reference(k, dim, base).float().double()


@shift_matrix.misconception(
    "odd sizes accepted",
    "You accept an odd dim, in which one channel has no partner to turn with. Raise ValueError first.",
)
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = k * base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return _rotations(angles)[:dim, :dim]


@shift_matrix.alternative
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    if dim % 2:
        raise ValueError(f"dim {dim} is odd")
    matrix = torch.zeros(dim, dim, dtype=torch.float64)
    for i in range(dim // 2):
        angle = k * base ** (-2 * i / dim)
        matrix[2 * i, 2 * i] = matrix[2 * i + 1, 2 * i + 1] = math.cos(angle)
        matrix[2 * i, 2 * i + 1] = math.sin(angle)
        matrix[2 * i + 1, 2 * i] = -math.sin(angle)
    return matrix


@shift_matrix.alternative
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    # The matrix exponential of k times the generator of all rotations
    rates = base ** -(even(dim) / dim)
    generator = torch.zeros(dim, dim, dtype=torch.float64)
    sines = torch.arange(0, dim, 2)
    generator[sines, sines + 1], generator[sines + 1, sines] = rates, -rates
    one_step = torch.linalg.matrix_exp(generator)
    return torch.linalg.matrix_power(one_step, k)


@shift_matrix.alternative
def _(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    angles = _angles(k, dim, base).repeat_interleave(2)
    sines = angles.sin()
    sines[1::2] = 0
    upper = torch.diag(sines[:-1], 1)
    return torch.diag(angles.cos()) + upper - upper.T
