"""Exercise 6: the best matrix that moves the rows of any table on by k."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import expect_close, expect_like, expect_same_for_views, expect_value_error, random_tensor
from ...families import needs_contiguous
from .common import exact_rows


def fit_shift(rows: Tensor, k: int) -> Tensor:
    if not 1 <= k < len(rows):
        raise ValueError("k must leave a row")
    before, after = rows[:-k], rows[k:]
    solution = torch.linalg.lstsq(before, after).solution
    return solution.T


def sinusoids(n: int, dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Rows with an exact shift, which is a rotation; on the CPU, as not every device has torch.linalg.lstsq."""
    return exact_rows(torch.arange(n), dim, 100.0).to(dtype)


def noise(n: int, dim: int, seed: int = 0) -> Tensor:
    """Rows of which no matrix makes the next exactly."""
    return random_tensor(n, dim, seed=seed, dtype=torch.float64)


def orbit(n: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A random rotation (dim, dim), and the rows that it makes of a first one, each from the one before."""
    step = torch.linalg.qr(noise(dim, dim, seed)).Q
    rows = [noise(1, dim, seed + 1)[0]]
    for _ in range(n - 1):
        rows.append(step @ rows[-1])
    return step, torch.stack(rows)


def cases() -> list[tuple]:
    """Rows with an exact shift and rows without, float32, a transposed table, and shifts that leave nothing."""
    return [
        (sinusoids(60, 4), 1),
        (sinusoids(60, 4), 7),
        (orbit(50, 3)[1], 2),
        (noise(40, 3), 1),
        (noise(40, 5, seed=3), 3),
        (noise(30, 4, seed=5), 2),
        (sinusoids(60, 2, torch.float32), 5),
        (noise(4, 30, seed=6).T, 2),
        (noise(7, 2), 7),
        (noise(7, 2), 8),
        (noise(7, 2), 0),
        (noise(7, 2), -2),
    ]


exercise = Exercise(
    fit_shift,
    points=4,
    minutes=8,
    cases=cases,
    returns=Tensor,
    hints=(
        "Make two tables of the same number of rows: each row that has a row k further on, and those rows k further "
        "on. Which rows of the first table drop out, and which of the second?",
        "torch.linalg.lstsq(A, B).solution is the X that brings A @ X nearest to B. Rows stand before the matrix "
        "there, while M @ row has the matrix first.",
        "If the rows are A, then A @ M.T moves all of them at once: so lstsq gives you the transpose of M.",
    ),
)


@exercise.property("as many rows and columns as a row has numbers, in the dtype of the rows")
def shape_and_dtype(answer: Callable) -> None:
    for n, dim, k in ((30, 4, 1), (12, 2, 5)):
        for dtype in (torch.float64, torch.float32):
            where = f"rows of shape {(n, dim)} in {str(dtype)[6:]}, k {k}"
            expect_like(answer(sinusoids(n, dim, dtype), k), shape=(dim, dim), dtype=dtype, where=where)


@exercise.property("sinusoids: M @ row moves every row on by k, also rows that were not there")
def moves_sinusoids(answer: Callable) -> None:
    for dim, k in ((2, 1), (4, 1), (4, 7), (6, 2)):
        matrix, longer = answer(sinusoids(60, dim), k), sinusoids(400, dim)
        where = f"sinusoids, dim {dim}, k {k}, fitted on 60 rows, tried on 400"
        expect_close(longer[:-k] @ matrix.T, longer[k:], where=where, rtol=0, atol=1e-7)


@exercise.property("rows made by one matrix give that matrix back")
def finds_the_matrix(answer: Callable) -> None:
    for seed, (n, dim) in enumerate(((40, 3), (50, 5), (20, 4))):
        step, rows = orbit(n, dim, seed)
        expect_close(answer(rows, 1), step, where=f"rows {(n, dim)} made by a rotation, k 1", rtol=0, atol=1e-7)
        expect_close(answer(rows, 3), step @ step @ step, where=f"rows {(n, dim)}, k 3", rtol=0, atol=1e-7)


@exercise.property("where no matrix fits, it is the best: what is missed has nothing in common with the rows")
def misses_least(answer: Callable) -> None:
    for seed, (n, dim, k) in enumerate(((40, 3, 1), (60, 6, 4), (300, 9, 20))):
        rows = noise(n, dim, seed)
        missed = rows[k:] - rows[:-k] @ answer(rows, k).T
        where = f"random rows {(n, dim)}, k {k}, rows[:-k].T @ (what is missed)"
        expect_close(rows[:-k].T @ missed, torch.zeros(dim, dim), where=where, rtol=0, atol=1e-8)


@exercise.property("float32 rows are fitted too")
def float32_rows(answer: Callable) -> None:
    rows = sinusoids(60, 4, torch.float32)
    expect_close(rows[:-5] @ answer(rows, 5).T, rows[5:], where="sinusoids in float32, dim 4, k 5", rtol=0, atol=1e-4)
    rows = exact_rows(torch.arange(60), 8).float()
    where = "sinusoids in float32, dim 8, k 1, where rows.T @ rows would lose too many digits"
    expect_close(rows[:-1] @ answer(rows, 1).T, rows[1:], where=where, rtol=0, atol=5e-4)


@exercise.property("numbers need not lie in memory in the order of their axes")
def not_contiguous(answer: Callable) -> None:
    expect_same_for_views(answer, noise(40, 3), 2, where="rows")


@exercise.property("k has to leave a row to fit: from 1 to len(rows) - 1, or a ValueError")
def k_in_range(answer: Callable) -> None:
    rows = noise(6, 2)
    for k in (0, -1, 6, 9):
        expect_value_error(answer, rows, k, where=f"6 rows, k {k}")
    column = rows[:, :1]
    want = column[5:] / column[:1]
    expect_close(answer(column, 5), want, where="6 rows of one number, k 5: the last over the first", rtol=1e-9)


exercise.slips("""
    transposed: return solution.T -> return solution
        That is the transpose: your matrix is right for row @ M. Asked for is M @ row, with the matrix first.
    fitted backwards: rows[:-k], rows[k:] -> rows[k:], rows[:-k]
        Your matrix moves rows back by k, not on. What comes in is a row, what comes out the row k further on.
    fitted backwards, and transposed: return solution.T -> return torch.linalg.lstsq(after, before).solution
        Two things: your matrix moves rows back instead of on, and it is transposed. For sinusoids the two undo each
        other, since a rotation's transpose turns back; for other rows they do not.
    nothing shifted: rows[:-k], rows[k:] -> rows[:-k], rows[:-k]
        Your matrix changes nothing, as one that fits rows to themselves. Fit rows[k:] to rows[:-k].
    k is not used: rows[:-k], rows[k:] -> rows[:-1], rows[1:]
        Your matrix moves on by one position whatever k is.
    one too far: rows[:-k], rows[k:] -> rows[: -k - 1], rows[k + 1 :]
        Your matrix moves on by k + 1. rows[k] is k after rows[0].
    the last pair left out: rows[:-k], rows[k:] -> rows[: -k - 1], rows[k:-1]
        The last row is left out. Row n - 1 has one k before it as well: there are n - k pairs of rows.
    every k-th row alone: rows[:-k], rows[k:] -> rows[:-k:k], rows[k::k]
        You fit every k-th row only. Each row that has one k further on counts, whatever its number.
    the last rows meet the first: rows[:-k], rows[k:] -> rows, rows.roll(-k, dims=0)
        The last k rows meet the first ones, as if the table were a ring: torch.roll does that, or % len(rows). These
        rows have none k further on: leave them out.
    rolled back: rows[:-k], rows[k:] -> rows, rows.roll(k, dims=0)
        Your matrix moves rows back by k, as torch.roll(k) does, and brings the first k rows together with the last
        ones. Compare rows[:-k] with rows[k:].
    rows and channels exchanged: rows[:-k], rows[k:] -> rows, rows.roll(-k, dims=1)
        You shift along the channels: the last axis. Positions are the rows, axis 0.
    not divided by what came in: return solution.T -> return after.T @ before
        You return rows[k:].T @ rows[:-k]. That is half of the normal equations; it still has to be divided by
        rows[:-k].T @ rows[:-k]. torch.linalg.lstsq does it all, and loses fewer digits.
    not divided, and transposed: return solution.T -> return before.T @ after
        You return rows[:-k].T @ rows[k:]. That is half of the normal equations, for row @ M, and transposed here.
        torch.linalg.lstsq does it all.
    divided by the number of rows: return solution.T -> return after.T @ before / len(before)
        You return the mean of the products of rows[k:] and rows[:-k]. It has to be divided by
        rows[:-k].T @ rows[:-k], as torch.linalg.lstsq does.
    divided on the wrong side: return solution.T -> return (before.T @ before).inverse() @ after.T @ before
        The inverse of rows[:-k].T @ rows[:-k] stands on the wrong side. It is multiplied from the right:
        rows[k:].T @ rows[:-k] @ inverse.
    each channel alone: return solution.T -> return ((before * after).sum(0) / before.square().sum(0)).diag()
        Your matrix is diagonal: each channel is to find its next value from itself. A sine needs its cosine for that.
    only as many rows as channels: (before, after) -> (before[: rows.shape[1]], after[: rows.shape[1]])
        You solve for the first few rows alone, as many as there are channels. That fits these exactly, and where no
        matrix fits all rows, it is not the best one. Use every row: least squares.
    a constant fitted too: (before, after) -> (before - before.mean(0), after - after.mean(0))
        You fit a constant beside the matrix, as for a line that need not go through 0: with a column of ones, or with
        the means taken out first. A matrix alone is asked for: fit the rows as they are.
    centred rows: rows[:-k], rows[k:] -> (rows - rows.mean(0))[:-k], (rows - rows.mean(0))[k:]
        You subtract the mean of all rows first, as for a line that need not go through 0. A matrix alone is asked for:
        fit the rows as they are.
    single steps: return solution.T -> return fit_shift(rows, 1).matrix_power(k) if k > 1 else solution.T
        You fit one step, and take it k times. Where no matrix fits exactly, that is not the best one for k: fit
        rows[k:] to rows[:-k].
    a rotation by force: return solution.T -> u, _, v = torch.linalg.svd(after.T @ before); return u @ v
        Of the matrices that keep lengths, rotations and reflections, you return the best. For sinusoids it is the same,
        but for other rows the best matrix need not keep lengths.
    a number for each row: return solution.T -> return torch.linalg.lstsq(before.T, after.T).solution
        Your matrix has a row and a column for each pair of rows: both tables went into the fit transposed. Let them
        stand, and transpose the solution.
    a number for each row, transposed: return solution.T -> return torch.linalg.lstsq(before.T, after.T).solution.T
        Your matrix has a row and a column for each pair of rows: both tables went into the fit transposed. Let them
        stand: the solution alone is transposed.
    float64 returned: rows[:-k], rows[k:] -> rows.double()[:-k], rows.double()[k:]
        The numbers are right, but the matrix is in float64 whatever the rows are in. Go back to their dtype at the
        end: .to(rows.dtype).
    float32 returned: rows[:-k], rows[k:] -> rows.float()[:-k], rows.float()[k:]
        Your matrix is in float32 whatever the rows are in. Leave them in their own dtype.
    rounded on the way: return solution.T -> return solution.T.float().to(rows.dtype)
        The dtype is right, but the matrix went through float32, and seven digits are left. Fit in the dtype of rows.
    k not checked: not 1 <= k < len(rows) -> False
        A k that leaves no row to fit is not refused with a ValueError. Raise one unless 1 <= k < len(rows).
    only a k below 1 refused: not 1 <= k < len(rows) -> k < 1
        A k of len(rows) and more leaves no row to fit, and needs a ValueError. Raise it unless 1 <= k < len(rows).
    only a k that is too large refused: not 1 <= k < len(rows) -> k >= len(rows)
        A k of 0 and below is not refused with a ValueError. Raise one unless 1 <= k < len(rows).
    k as large as the table accepted: k < len(rows) -> k <= len(rows)
        You accept k = len(rows), which leaves no row to fit. Raise ValueError unless 1 <= k < len(rows).
    a negative k accepted: not 1 <= k < len(rows) -> k == 0 or k >= len(rows)
        You accept a negative k. Raise ValueError unless 1 <= k < len(rows).
    an assert for k: raise ValueError( -> raise AssertionError(
        For a k that leaves no row an AssertionError comes. Asserts are for what cannot happen, and python -O leaves
        them out: raise ValueError.
""")
needs_contiguous(exercise, "rows")
