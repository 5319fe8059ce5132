"""Exercise 6: the best matrix that moves the rows of any table on by k."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import expect_close, expect_like, expect_value_error
from .common import LESSON, draw, exact_rows

__all__ = ["fit_shift"]


def _sinusoids(n: int, dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return exact_rows(torch.arange(n), dim, 100.0).to(dtype).to(draw(1).device)


def _noisy(n: int, dim: int, seed: int = 0) -> Tensor:
    """Rows of which no matrix makes the next exactly."""
    return draw(n, dim, seed=seed, dtype=torch.float64)


def _orbit(n: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A random rotation (dim, dim), and the rows that it makes of a first one, each from the one before."""
    step = torch.linalg.qr(_noisy(dim, dim, seed)).Q
    rows = [_noisy(1, dim, seed + 1)[0]]
    for _ in range(n - 1):
        rows.append(step @ rows[-1])
    return step, torch.stack(rows)


def _refuse(rows: Tensor, k: int) -> None:
    if not 1 <= k < len(rows):
        raise ValueError(f"k ({k}) must be from 1 to {len(rows) - 1}")


def _solve(before: Tensor, after: Tensor) -> Tensor:
    """The matrix that makes each row of `after` of the same row of `before`, as nearly as can be."""
    return torch.linalg.lstsq(before, after).solution.T


def _reference(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return _solve(rows[:-k], rows[k:])


def _cases() -> list[tuple]:
    """Rows with an exact shift and rows without, float32, and shifts that leave nothing."""
    return [
        (_sinusoids(60, 4), 1),
        (_sinusoids(60, 4), 7),
        (_orbit(50, 3)[1], 2),
        (_noisy(40, 3), 1),
        (_noisy(40, 5, seed=3), 3),
        (_noisy(30, 4, seed=5), 2),
        (_sinusoids(60, 4, torch.float32), 5),
        (_noisy(6, 2), 6),
        (_noisy(6, 2), 0),
    ]


fit_shift = Exercise(
    name="fit_shift",
    lesson=LESSON,
    points=4,
    minutes=8,
    parameters=("rows", "k"),
    reference=_reference,
    cases=_cases,
    returns=Tensor,
    hints=(
        "Make two tables of the same number of rows: each row that has a row k further on, and those rows k further "
        "on. Which rows of the first table drop out, and which of the second?",
        "torch.linalg.lstsq(A, B).solution is the X that brings A @ X nearest to B. Rows stand before the matrix "
        "there, while M @ row has the matrix first.",
        "If the rows are A, then A @ M.T moves all of them at once: so lstsq gives you the transpose of M.",
    ),
)


@fit_shift.property("as many rows and columns as a row has numbers, in the dtype of the rows")
def _(answer: Callable) -> None:
    for n, dim, k in ((30, 4, 1), (12, 2, 5)):
        for dtype in (torch.float64, torch.float32):
            rows = _sinusoids(n, dim, dtype)
            where = f"rows of shape {(n, dim)} in {str(dtype)[6:]}, k {k}"
            expect_like(answer(rows, k), shape=(dim, dim), dtype=dtype, where=where)


@fit_shift.property("sinusoids: M @ row moves every row on by k, also rows that were not there")
def _(answer: Callable) -> None:
    for dim, k in ((2, 1), (4, 1), (4, 7)):
        matrix = answer(_sinusoids(60, dim), k)
        longer = _sinusoids(400, dim)
        where = f"sinusoids, dim {dim}, k {k}, fitted on 60 rows, tried on 400"
        expect_close(longer[:-k] @ matrix.T, longer[k:], where=where, rtol=0, atol=1e-7)


@fit_shift.property("rows made by one matrix give that matrix back")
def _(answer: Callable) -> None:
    for seed, (n, dim) in enumerate(((40, 3), (50, 5), (20, 4))):
        step, rows = _orbit(n, dim, seed)
        expect_close(answer(rows, 1), step, where=f"rows {(n, dim)} made by a rotation, k 1", rtol=0, atol=1e-7)
        expect_close(answer(rows, 3), step @ step @ step, where=f"rows {(n, dim)}, k 3", rtol=0, atol=1e-7)


@fit_shift.property("where no matrix fits, it is the best: what is missed has nothing in common with the rows")
def _(answer: Callable) -> None:
    for seed, (n, dim, k) in enumerate(((40, 3, 1), (60, 6, 4))):
        rows = _noisy(n, dim, seed)
        missed = rows[k:] - rows[:-k] @ answer(rows, k).T
        where = f"random rows {(n, dim)}, k {k}, rows[:-k].T @ (what is missed)"
        expect_close(rows[:-k].T @ missed, torch.zeros(dim, dim), where=where, rtol=0, atol=1e-8)


@fit_shift.property("float32 rows are fitted too")
def _(answer: Callable) -> None:
    rows = _sinusoids(60, 4, torch.float32)
    matrix = answer(rows, 5)
    expect_close(rows[:-5] @ matrix.T, rows[5:], where="sinusoids in float32, dim 4, k 5", rtol=0, atol=1e-4)


@fit_shift.property("k has to leave a row to fit: from 1 to len(rows) - 1, or a ValueError")
def _(answer: Callable) -> None:
    rows = _noisy(6, 2)
    for k in (0, -1, 6, 9):
        expect_value_error(answer, rows, k, where=f"6 rows, k {k}")
    column = rows[:, :1]
    want = column[5:] / column[:1]
    expect_close(answer(column, 5), want, where="6 rows of one number, k 5: the last over the first", rtol=1e-9)


@fit_shift.misconception(
    "transposed",
    "That is the transpose: your matrix is right for row @ M. Asked for is M @ row, with the matrix first.",
)
def _(rows: Tensor, k: int) -> Tensor:
    return _reference(rows, k).T


@fit_shift.misconception(
    "fitted backwards",
    "Your matrix moves rows back by k: the two tables are exchanged. What comes in is a row, what comes out the row k "
    "further on.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return _solve(rows[k:], rows[:-k])


@fit_shift.misconception(
    "fitted backwards, and transposed",
    "Two things: your matrix moves rows back instead of on, and it is transposed. For sinusoids the two undo each "
    "other, since a rotation's transpose turns back; for other rows they do not.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return _solve(rows[k:], rows[:-k]).T


@fit_shift.misconception(
    "nothing shifted",
    "You fit the rows to themselves, and find the matrix that changes nothing. Compare rows[:-k] with rows[k:].",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return _solve(rows[:-k], rows[:-k])


@fit_shift.misconception(
    "k is not used",
    "Your matrix moves on by one position whatever k is.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return _solve(rows[:-1], rows[1:])


@fit_shift.misconception(
    "one too far",
    "Your matrix moves on by k + 1. rows[k] is k after rows[0].",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return _solve(rows[: -k - 1], rows[k + 1 :])


@fit_shift.misconception(
    "the last rows meet the first",
    "torch.roll brings the last k rows together with the first ones, as if the text were a ring. These rows have none "
    "k further on: leave them out.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return _solve(rows, rows.roll(-k, dims=0))


@fit_shift.misconception(
    "rows and channels exchanged",
    "You shift along the channels: the last axis. Positions are the rows, axis 0.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return _solve(rows, rows.roll(-k, dims=1))


@fit_shift.misconception(
    "not divided by what came in",
    "You return rows[k:].T @ rows[:-k]. That is half of the normal equations; it still has to be divided by "
    "rows[:-k].T @ rows[:-k], by its inverse or, better, by torch.linalg.solve. torch.linalg.lstsq does it all.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return rows[k:].T @ rows[:-k]


@fit_shift.misconception(
    "each channel alone",
    "Your matrix is diagonal: each channel is to find its next value from itself. A sine needs its cosine for that.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    before, after = rows[:-k], rows[k:]
    return torch.diag((before * after).sum(0) / before.square().sum(0))


@fit_shift.misconception(
    "only as many rows as channels",
    "You solve for the first few rows alone, as many as there are channels. That fits these exactly, and where no "
    "matrix fits all rows, it is not the best one. Use every row: least squares.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    dim = min(rows.shape[1], len(rows) - k)
    return _solve(rows[:-k][:dim], rows[k:][:dim])


@fit_shift.misconception(
    "with the mean taken out",
    "You take out the means first, as for a line that need not go through 0. A matrix alone is asked for, without "
    "anything added: fit the rows as they are.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    before, after = rows[:-k], rows[k:]
    return _solve(before - before.mean(0), after - after.mean(0))


@fit_shift.misconception(
    "centred rows",
    "You subtract the mean of all rows first, as for a line that need not go through 0. A matrix alone is asked for: "
    "fit the rows as they are.",
)
def _(rows: Tensor, k: int) -> Tensor:
    return _reference(rows - rows.mean(0), k)


@fit_shift.misconception(
    "single steps",
    "You fit one step, and take it k times. Where no matrix fits exactly, that is not the best one for k: fit rows[k:] "
    "to rows[:-k].",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return torch.linalg.matrix_power(_solve(rows[:-1], rows[1:]), k)


@fit_shift.misconception(
    "a number for each row",
    "Your matrix has a row and a column for each row of the table: both tables went into lstsq transposed. Let them "
    "stand, and transpose the solution.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return torch.linalg.lstsq(rows[:-k].T, rows[k:].T, driver="gelsd").solution


@fit_shift.misconception(
    "a rotation by force",
    "You return the nearest *rotation*. For sinusoids it is the same, but for other rows the best matrix need not be "
    "one.",
)
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    u, _, v = torch.linalg.svd(rows[k:].T @ rows[:-k])
    return u @ v


@fit_shift.misconception(
    "float64 returned",
    "The numbers are right, but in float64 whatever the rows are in. Go back to their dtype at the end: "
    ".to(rows.dtype).",
)
def _(rows: Tensor, k: int) -> Tensor:
    return _reference(rows.double(), k)


@fit_shift.misconception(
    "float32 returned",
    "Your matrix is in float32 whatever the rows are in. Leave them in their own dtype.",
)
def _(rows: Tensor, k: int) -> Tensor:
    return _reference(rows.float(), k)


@fit_shift.misconception(
    "rounded on the way",
    "The dtype is right, but the rows went through float32, and seven digits are left. Fit them in their own dtype.",
)
def _(rows: Tensor, k: int) -> Tensor:
    return _reference(rows.float(), k).to(rows.dtype)


@fit_shift.misconception(
    "every k accepted",
    "You accept a k that leaves no row to fit, or none at all. Raise ValueError unless 1 <= k < len(rows).",
)
def _(rows: Tensor, k: int) -> Tensor:
    n = len(rows) - k
    return _solve(rows[:n], rows[k : k + n]) if 1 <= k < len(rows) else torch.zeros(rows.shape[1], rows.shape[1])


@fit_shift.alternative
def _(rows: Tensor, k: int) -> Tensor:
    _refuse(rows, k)
    return (torch.linalg.pinv(rows[:-k]) @ rows[k:]).T


@fit_shift.alternative
def _(rows: Tensor, k: int) -> Tensor:
    # The normal equations, in float64
    if k < 1 or k >= rows.shape[0]:
        raise ValueError("k leaves no rows")
    before, after = rows[:-k].double(), rows[k:].double()
    return torch.linalg.solve(before.T @ before, before.T @ after).T.to(rows.dtype)


@fit_shift.alternative
def _(rows: Tensor, k: int) -> Tensor:
    # One least-squares problem for each channel
    _refuse(rows, k)
    return torch.stack(
        [torch.linalg.lstsq(rows[:-k], rows[k:, c : c + 1]).solution[:, 0] for c in range(rows.shape[1])]
    )
