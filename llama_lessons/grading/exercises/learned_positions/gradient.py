"""Exercise 3: which rows of a table got a gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON, draw

__all__ = ["gradient"]


def reference_rows(grad: Tensor | None) -> list[int]:
    return [] if grad is None else [i for i, row in enumerate(grad.tolist()) if any(value != 0 for value in row)]


def gradient_of(n_rows: int, rows: list[int], dim: int = 4, seed: int = 0) -> Tensor:
    """Random numbers in these rows, exactly 0 in the others."""
    grad = torch.zeros(n_rows, dim)
    grad[rows] = draw(len(rows), dim, seed=seed).cpu()
    return grad.to(draw(1).device)


def cancelling(n_rows: int, rows: list[int]) -> Tensor:
    """Numbers whose sum over each of these rows is exactly 0."""
    grad = gradient_of(n_rows, rows)
    return torch.cat((grad, -grad), dim=1)


def one_channel(n_rows: int, cells: dict[int, int], value: float = 1.0, dim: int = 4) -> Tensor:
    """One number in each row given, in the channel given for it."""
    grad = torch.zeros(n_rows, dim)
    for row, channel in cells.items():
        grad[row, channel] = value
    return grad.to(draw(1).device)


def cases() -> list[tuple]:
    return [
        (gradient_of(12, list(range(6))),),
        (gradient_of(12, [4, 5, 6, 7], seed=1),),
        (gradient_of(12, [0, 1, 2, 8, 9, 11], seed=2),),
        (gradient_of(5, [4], seed=3),),
        (cancelling(10, [2, 3, 6]),),
        (one_channel(9, {1: 0, 4: 2, 5: 3}),),
        (one_channel(9, {2: 3, 4: 1}, value=-2.0),),
        (one_channel(9, {0: 3, 3: 0}, value=1e-9),),
        (one_channel(9, {0: 0, 3: 3}, value=1e-18),),
        (one_channel(9, {0: 0, 3: 3}, value=1e-30),),
        (-gradient_of(8, [1, 2]).abs(),),
        (gradient_of(6, []),),
    ]


gradient = Exercise(
    name="rows_with_gradient",
    lesson=LESSON,
    points=3,
    minutes=7,
    parameters=("grad",),
    reference=reference_rows,
    cases=cases,
    returns=list,
    hints=(
        "grad != 0 says of each number whether it is a gradient. You want to know of each row whether any of its "
        "numbers is one: which axis goes away?",
        "A sum over the channels is no safe test: 1 and -1 make 0. Neither is a norm: the square of 1e-30 is 0 in "
        "float32.",
        "Of a vector of bools, .nonzero() gives the places where it is True, one a line; .tolist() makes Python "
        "numbers of a tensor. And think of None.",
    ),
)


def expect_rows(answer: Callable, grad: Tensor | None, want: list[int], what: str) -> None:
    got = list(answer(grad))
    if any(isinstance(item, Tensor) for item in got):
        raise Mismatch(f"{what}: expected a list of Python ints, got a list of tensors: .tolist() or int(...) converts")
    if got != want or any(type(item) is not int for item in got):
        raise Mismatch(f"{what}: expected {_short(want)}, got {_short(got)}")


def _short(rows: list) -> str:
    return str(rows) if len(rows) <= 12 else f"[{', '.join(map(str, rows[:4]))}, ..., {rows[-1]}] ({len(rows)} of them)"


@gradient.property("a text from the start: its rows, in order, as Python ints")
def _(answer: Callable) -> None:
    expect_rows(answer, gradient_of(12, list(range(6))), list(range(6)), "12 rows, six tokens from position 0")
    expect_rows(answer, gradient_of(128, list(range(64))), list(range(64)), "128 rows, 64 tokens from position 0")


@gradient.property("a text from the middle, texts with a gap between them, one row, all rows, none")
def _(answer: Callable) -> None:
    for n_rows, rows in ((12, [4, 5, 6, 7]), (12, [0, 1, 2, 8, 9, 11]), (5, [4]), (3, [0, 1, 2]), (6, [])):
        expect_rows(answer, gradient_of(n_rows, rows, seed=1), rows, f"{n_rows} rows, a gradient in {rows or 'none'}")


@gradient.property("one number in a row is enough, in any channel and with any sign")
def _(answer: Callable) -> None:
    expect_rows(answer, one_channel(9, {1: 0, 4: 2, 5: 3}), [1, 4, 5], "one number in each of the rows 1, 4, 5")
    expect_rows(answer, one_channel(9, {2: 3, 4: 1}, value=-2.0), [2, 4], "-2 in one channel of rows 2 and 4")
    expect_rows(answer, -gradient_of(8, [1, 2]).abs(), [1, 2], "negative numbers in rows 1 and 2")
    expect_rows(answer, cancelling(10, [2, 3, 6]), [2, 3, 6], "rows 2, 3, 6 with numbers whose sum is 0")


@gradient.property("a very small gradient is one")
def _(answer: Callable) -> None:
    for value in (1e-9, 1e-18, 1e-30):
        expect_rows(answer, one_channel(9, {0: 0, 3: 2}, value=value), [0, 3], f"{value:g} in rows 0 and 3")


@gradient.property("None, where no backward pass has reached the table: an empty list")
def _(answer: Callable) -> None:
    expect_rows(answer, None, [], "grad None")


@gradient.property("tables of every shape and dtype")
def _(answer: Callable) -> None:
    for n_rows, dim in ((1, 1), (4, 4), (3, 50), (50, 3), (512, 1)):
        rows = list(range(0, n_rows, 2))
        expect_rows(answer, gradient_of(n_rows, rows, dim), rows, f"a gradient of shape {(n_rows, dim)}, even rows")
    for dtype in (torch.float64, torch.bfloat16):
        expect_rows(answer, gradient_of(12, [3, 4]).to(dtype), [3, 4], f"a gradient in {str(dtype)[6:]}, rows 3 and 4")


@gradient.property("a real backward pass: 3 sequences of 5 tokens from position 4 on")
def _(answer: Callable) -> None:
    table = draw(16, 4, seed=9).requires_grad_()
    x = draw(3, 5, 4)
    ((x + table[4:9]).tanh() * draw(3, 5, 4, seed=1)).sum().backward()
    expect_rows(answer, table.grad, [4, 5, 6, 7, 8], "16 rows, tokens at 4 to 8")


def listed(flags: Tensor) -> list[int]:
    return flags.nonzero().flatten().tolist()


def empty_for_none(function: Callable[[Tensor], list[int]]) -> Callable[[Tensor | None], list[int]]:
    """The wrong answers below are right in this."""
    return lambda grad: [] if grad is None else function(grad)


@gradient.misconception(
    "sum over the channels",
    "You sum each row up, or take its mean. A row whose numbers cancel, such as 1 and -1, has a gradient, and a sum of "
    "0. Ask of each number whether it is 0.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return listed(grad.sum(dim=1) != 0)


@gradient.misconception(
    "only positive gradients",
    "You look for numbers above 0. A negative gradient moves its row as well.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return listed((grad > 0).any(dim=1))


@gradient.misconception(
    "all channels",
    "You ask that all numbers of a row be different from 0. One is enough for the row to move: any, not all.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return listed((grad != 0).all(dim=1))


@gradient.misconception(
    "only the first channel",
    "You look at the first channel alone. The gradient of a row may lie in the others.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return listed(grad[:, 0] != 0)


@gradient.misconception(
    "columns",
    "You list channels, not rows: dim says which axis goes away. Rows stay if axis 1 goes.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return listed((grad != 0).any(dim=0))


@gradient.misconception(
    "once for each number",
    "A row comes once for each of its numbers. nonzero of a table lists places, each with row and channel: first ask "
    "of each row whether any number is not 0.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return grad.nonzero()[:, 0].tolist()


@gradient.misconception(
    "small ones left out",
    "You drop small gradients by a tolerance. Asked is whether a gradient came at all: exactly 0 means that no token "
    "stood there, and everything else means that one did.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return listed((grad.abs() > 1e-12).any(dim=1))


@gradient.misconception(
    "squares",
    "You square the numbers (a norm does that too), and the square of 1e-30 is 0 in float32. Compare the numbers "
    "themselves with 0.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return listed((grad**2).sum(dim=1) != 0)


@gradient.misconception(
    "those without",
    "You list the rows that got no gradient. It is the others that are asked for.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return listed((grad == 0).all(dim=1))


@gradient.misconception(
    "counted from 1",
    "Your numbers are one too high: rows count from 0, like positions.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return [row + 1 for row in reference_rows(grad)]


@gradient.misconception(
    "everything up to the last",
    "You list all rows from 0 up to the last one with a gradient. A text may begin later, and there may be gaps.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return list(range(max(reference_rows(grad), default=-1) + 1))


@gradient.misconception(
    "from the first to the last",
    "You list all rows between the first and the last one with a gradient. There may be gaps between them.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    rows = reference_rows(grad)
    return list(range(rows[0], rows[-1] + 1)) if rows else []


@gradient.misconception(
    "how many",
    "You say how many rows there are. Say which: a list of their numbers.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return [len(reference_rows(grad))]


@gradient.misconception(
    "a bool for each row",
    "You return a True or False for each row. Asked for are the numbers of the rows where it is True.",
)
@empty_for_none
def _(grad: Tensor) -> list[int]:
    return (grad != 0).any(dim=1).tolist()


@gradient.alternative
def rows_with_gradient(grad: Tensor | None) -> list[int]:
    if grad is None:
        return []
    largest = grad.abs().amax(dim=1)
    return [row for row in range(len(largest)) if largest[row] > 0]


@gradient.alternative
def _(grad: Tensor | None) -> list[int]:
    return sorted({row for row, _ in grad.nonzero().tolist()}) if grad is not None else []


@gradient.alternative
def _(grad: Tensor | None) -> list[int]:
    found = []
    for row in grad if grad is not None else ():
        found.append(bool(row.count_nonzero()))
    return [i for i, flag in enumerate(found) if flag]
