"""Exercise 3: which rows of a table got a gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, on_device, tensor
from ...families import needs_contiguous


def rows_with_gradient(grad: Tensor | None) -> list[int]:
    if grad is None:
        return []
    is_gradient = grad != 0
    rows = is_gradient.any(dim=1).nonzero().flatten()
    return rows.tolist()


def use(answer: Callable) -> Callable:
    """The answer, whose list has to hold Python ints, before the engine makes such of numpy's."""

    def rows(grad: Tensor | None) -> list[int]:
        found = answer(grad)
        for item in found if isinstance(found, list) else ():
            if not isinstance(item, int):
                kind = type(item).__name__
                how = "a tensor of row numbers with one axis, as .flatten() makes it, gives such by .tolist()"
                raise Mismatch(f"expected a list of Python ints, got one with an item of type {kind}: {how}")
        return found

    return rows


def gradient(n_rows: int, rows: list[int], dim: int = 4, seed: int = 0) -> Tensor:
    """Random numbers in these rows, exactly 0 in the others."""
    grad = torch.zeros(n_rows, dim)
    grad[rows] = draw(len(rows), dim, seed=seed).cpu()
    return on_device(grad)


def cancelling() -> Tensor:
    """Rows 2, 3 and 6 of ten, each of two numbers whose sum is exactly 0."""
    return gradient(10, [2, 3, 6], dim=1) * tensor([1.0, -1.0])


def single(n_rows: int, cells: dict[int, int], value: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """One number in each row given, in the channel given for it."""
    grad = torch.zeros(n_rows, 4, dtype=dtype)
    for row, channel in cells.items():
        grad[row, channel] = value
    return on_device(grad)


def cases() -> list[tuple]:
    rows = ((12, [*range(6)]), (12, [4, 5, 6, 7]), (12, [0, 1, 2, 8, 9, 11]), (5, [4]), (70, [1, 64]), (8, [1, 2]))
    grads = [gradient(n, which, seed=i) for i, (n, which) in enumerate(rows)]
    grads += [cancelling(), -gradient(8, [1, 2]).abs(), gradient(6, []), gradient(4, [1, 2, 3]).T]
    grads += [single(9, {1: 0, 4: 2, 5: 3}), single(9, {2: 3, 4: 1}, -2.0)]
    grads += [single(9, {0: 3, 3: 0}, value) for value in (1e-18, 1e-30)]
    grads += [(gradient(8, [1, 2]) != 0).float(), single(9, {3: 3, 4: 1}, 1e-5, torch.bfloat16)]
    return [(grad,) for grad in [*grads, single(9, {3: 3, 8: 0}, 1e-60, torch.float64), None]]


exercise = Exercise(
    rows_with_gradient,
    points=3,
    minutes=7,
    cases=cases,
    returns=list,
    using=use,
    hints=(
        "grad != 0 says of each number whether it is a gradient. You want to know of each row whether any of its "
        "numbers is one: which axis goes away?",
        "A sum is no safe test: 1 and -1 make 0. Neither is a norm: the square of 1e-30 is 0 in float32.",
        "Of a vector of bools, .nonzero() gives the places where it is True, one a line; .tolist() makes Python "
        "numbers of a tensor. And think of None.",
    ),
)


def expect_rows(answer: Callable, grad: Tensor | None, want: list[int], what: str) -> None:
    got = list(answer(grad))
    if got != want or bool in map(type, got):
        raise Mismatch(f"{what}: expected {_short(want)}, got {_short(got)}")


def _short(rows: list) -> str:
    return str(rows) if len(rows) <= 12 else f"[{', '.join(map(str, rows[:4]))}, ..., {rows[-1]}] ({len(rows)} of them)"


@exercise.property("a text from the start or the middle, texts with a gap between them, one row, all rows, none")
def anywhere(answer: Callable) -> None:
    texts = ((12, [*range(6)]), (12, [4, 5, 6, 7]), (12, [0, 1, 2, 8, 9, 11]), (5, [4]), (3, [0, 1, 2]), (6, []))
    for n_rows, rows in texts:
        expect_rows(answer, gradient(n_rows, rows, seed=1), rows, f"{n_rows} rows, a gradient in {rows or 'none'}")


@exercise.property("rising order, in long tables too")
def rising(answer: Callable) -> None:
    for n_rows, rows in ((70, [1, 64]), (128, [*range(64)]), (999, [3, 256, 257]), (3000, [512, 2048])):
        expect_rows(answer, gradient(n_rows, rows), rows, f"{n_rows} rows, a gradient in {_short(rows)}")


@exercise.property("one number in a row is enough, in any channel and with any sign")
def one_number(answer: Callable) -> None:
    expect_rows(answer, single(9, {1: 0, 4: 2, 5: 3}), [1, 4, 5], "one number in each of the rows 1, 4, 5")
    expect_rows(answer, single(9, {2: 3, 4: 1}, -2.0), [2, 4], "-2 in one channel of rows 2 and 4")
    expect_rows(answer, -gradient(8, [1, 2]).abs(), [1, 2], "negative numbers in rows 1 and 2")
    expect_rows(answer, cancelling(), [2, 3, 6], "rows 2, 3, 6 with numbers whose sum is 0")
    expect_rows(answer, (gradient(8, [1, 5]) != 0).float(), [1, 5], "1 in each channel of rows 1 and 5")


@exercise.property("a very small gradient is one")
def very_small(answer: Callable) -> None:
    for value in (1e-9, 1e-18, 1e-30):
        expect_rows(answer, single(9, {0: 3, 3: 2}, value), [0, 3], f"{value:g} in rows 0 and 3")
        both = single(9, {0: 3}, value) + single(9, {5: 1}, 1e6)
        expect_rows(answer, both, [0, 5], f"{value:g} in row 0, and 1,000,000 in row 5")
    expect_rows(answer, single(9, {3: 2}, 1e-60, torch.float64), [3], "1e-60 in row 3, in float64")
    expect_rows(answer, single(9, {3: 2}, 6e-8, torch.float16), [3], "0.00000006 in row 3, in float16")


@exercise.property("None, where no backward pass has reached the table: an empty list")
def none_at_all(answer: Callable) -> None:
    expect_rows(answer, None, [], "grad None")


@exercise.property("tables of every shape and dtype, in any order in memory")
def every_table(answer: Callable) -> None:
    for n_rows, dim in ((1, 1), (4, 4), (3, 50), (50, 3), (512, 1)):
        rows = [*range(0, n_rows, 2)]
        expect_rows(answer, gradient(n_rows, rows, dim), rows, f"a gradient of shape {(n_rows, dim)}, even rows")
    for dtype in (torch.float64, *HALVES):
        grad = single(2_100, {257: 1, 2_049: 0}, 1e-5, dtype)
        expect_rows(answer, grad, [257, 2_049], f"0.00001 in rows 257 and 2049, in {str(dtype)[6:]}")
    expect_rows(answer, gradient(4, [0, 1, 3]).T.contiguous().T, [0, 1, 3], "a gradient that is not contiguous")


exercise.slips("""
    cancelling numbers lost: grad != 0 -> grad.sum(dim=1, keepdim=True) != 0
        Numbers that cancel, 1 and -1 say, are lost, as in a sum or a mean. Ask of each number whether it is 0.
    only positive gradients: grad != 0 -> grad > 0
        You look for numbers above 0. A negative gradient moves its row as well.
    largest number: grad != 0 -> grad.amax(dim=1, keepdim=True) != 0
        You look at the largest number of each row, which is 0 beside negative ones. Take .abs() first, or ask each.
    different numbers: grad != 0 -> grad != grad[:, :1]
        You ask whether the numbers of a row differ from each other, as a range or a spread does: four times 1 is a
        gradient too. Ask of each whether it is 0.
    all channels: .any(dim=1) -> .all(dim=1)
        Your list is that of rows whose numbers *all* differ from 0. One is enough for a row to move: any, not all.
    only the first channel: is_gradient.any(dim=1) -> is_gradient[:, 0]
        You look at the first channel alone. The gradient of a row may lie in the others.
    columns: any(dim=1) -> any(dim=0)
        You list channels, not rows: dim says which axis goes away. Rows stay if axis 1 goes.
    once for each number: is_gradient.any(dim=1).nonzero().flatten() -> is_gradient.nonzero()[:, 0]
        A row comes once for each of its numbers that is not 0: first ask of each row whether any number is not 0.
    rows and channels mixed: is_gradient.any(dim=1).nonzero().flatten() -> is_gradient.nonzero().unique()
        Your list has row and channel numbers in one, as nonzero of a table gives both. Take row numbers alone: [:, 0].
    small ones left out: grad != 0 -> grad.abs() > 1e-12
        Small gradients are dropped. Whatever is not exactly 0 counts, however small it is.
    squares: grad != 0 -> grad.square() != 0
        1e-30 is lost, as where numbers are squared (a norm does that): its square is 0 in float32. Compare it as is.
    1e-60 lost in float64: grad != 0 -> grad.float() != 0
        1e-60 in float64 is lost, as where it is made float32, which makes 0 of it. Compare the numbers with 0 as they
        come, however small.
    those without: .any(dim=1).nonzero() -> .any(dim=1).logical_not().nonzero()
        You list the rows that got no gradient. It is the others that are asked for.
    counted from 1: return rows.tolist() -> return (rows + 1).tolist()
        Your numbers are one too high: rows count from 0, like positions.
    everything up to the last: return rows.tolist() -> return [*range(max(rows.tolist(), default=-1) + 1)]
        You list all rows up to the last one with a gradient. A text may begin later, and there may be gaps.
    from the first to the last: rows.tolist() -> [*range(min(rows, default=0), max(rows, default=-1) + 1)]
        You list all rows between the first and the last one with a gradient. There may be gaps.
    one row alone: return rows.tolist() -> return rows[:1].tolist()
        You give one row alone. Does a loop return in its first round? All are asked for.
    not in bfloat16: grad != 0 -> torch.from_numpy(grad.cpu().numpy()) != 0
        A TypeError comes for a table in bfloat16, which numpy does not know. Compare with 0 in torch.
    how many: return rows.tolist() -> return [len(rows)]
        You say how many rows have a gradient. Say which: a list of their numbers.
    a bool for each row: .nonzero().flatten() -> .flatten()
        You return a True or False for each row. Asked for are the numbers of the rows where it is True.
    order of a set: return rows.tolist() -> return list(set(rows.tolist()))
        Your rows are in the order of a set, which may put 64 before 1. sorted(...) makes a rising list of it.
    falling order: return rows.tolist() -> return rows.tolist()[::-1]
        Your list falls. A rising one is asked for.
    stops at None: if grad is None: -> if False:
        Your function fails where grad is None, as it is if no backward pass has reached the table. Ask for that first.
    None for None: return [] -> return None
        Where grad is None you return None. Whoever loops over the result needs a list: an empty one.
""")
needs_contiguous(exercise, "grad")
