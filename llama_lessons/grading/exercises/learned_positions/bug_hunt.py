"""Exercise 5: a table laid along the batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, by_hand, draw

__all__ = ["bug_hunt"]


def causal_attention(x: Tensor) -> Tensor:
    """Lesson 00's attention: each token sees itself and the tokens before it."""
    future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
    scores = x @ x.transpose(1, 2) / x.shape[2] ** 0.5
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ x


def reference_read_batch(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x + table[start_pos : start_pos + x.shape[1]])


def attend_by_hand(tokens: Tensor) -> Tensor:
    """Causal attention on one token of one sequence after another."""
    result = torch.empty_like(tokens)
    for sequence, mixed in zip(tokens, result, strict=True):
        for i, token in enumerate(sequence):
            past = sequence[: i + 1]
            mixed[i] = (past @ token / tokens.shape[2] ** 0.5).softmax(dim=0) @ past
    return result


def cases() -> list[tuple]:
    table = draw(40, 8, seed=9)
    given = [
        (draw(4, 6, 8), table, 0),
        (draw(2, 5, 8, seed=1), table, 7),
        (draw(5, 2, 8, seed=2), table, 3),
        (draw(3, 3, 8, seed=3), table, 0),
        (draw(4, 4, 8, seed=4), table, 2),
        (draw(1, 5, 8, seed=5), table, 0),
        (draw(1, 5, 8, seed=6), table, 4),
        (draw(3, 1, 8, seed=7), table, 5),
    ]
    return [*given, (draw(2, 3, 8).requires_grad_(), draw(40, 8, seed=9).requires_grad_(), 1)]


bug_hunt = Exercise(
    name="read_batch",
    lesson=LESSON,
    points=5,
    minutes=6,
    parameters=("x", "table", "start_pos"),
    reference=reference_read_batch,
    cases=cases,
    returns=Tensor,
    hints=(
        "Nothing is wrong with causal_attention. What is added before it? Your depends_on of exercise 2 can be asked "
        "about the sum alone, lambda x: x + rows; or print the shapes of x and of rows for 4 texts of 6 tokens.",
        "How many rows are read for that batch: as many as there are texts, or as many as a text has tokens? And to "
        "which axis of x does the long axis of rows get lined up?",
        "Rows of shape (seq_len, dim), added to (batch, seq_len, dim), are lined up from the right: each text gets all "
        "of them, one for each token. An axis of length 1 in the middle prevents that.",
    ),
)


def expect_read(answer: Callable, x: Tensor, table: Tensor, start_pos: int, tolerance: float = 2e-5) -> None:
    where = f"x of shape {tuple(x.shape)}, start_pos {start_pos}"
    got = answer(x, table, start_pos)
    expect_like(got, shape=tuple(x.shape), dtype=x.dtype, where=where)
    expect_close(got, attend_by_hand(by_hand(table, x, start_pos)), where=where, rtol=tolerance, atol=tolerance)


@bug_hunt.property("one text: token i gets row i, and sees itself and the tokens before it")
def _(answer: Callable) -> None:
    expect_read(answer, draw(1, 5, 8), draw(40, 8, seed=9), 0)
    expect_read(answer, draw(1, 12, 4, seed=1), draw(12, 4, seed=9), 0)


@bug_hunt.property("several texts: each gets the rows 0, 1, 2, ...")
def _(answer: Callable) -> None:
    for batch, seq_len in ((4, 6), (6, 4), (2, 9), (3, 1)):
        expect_read(answer, draw(batch, seq_len, 8, seed=batch), draw(40, 8, seed=9), 0)


@bug_hunt.property("as many texts as tokens")
def _(answer: Callable) -> None:
    for n in (2, 5):
        expect_read(answer, draw(n, n, 8, seed=n), draw(40, 8, seed=9), 0)


@bug_hunt.property("start_pos is the row of the first token, 0 where it is not given")
def _(answer: Callable) -> None:
    table = draw(40, 8, seed=9)
    for batch, seq_len, start_pos in ((1, 5, 4), (3, 6, 17), (4, 4, 1), (2, 1, 39)):
        expect_read(answer, draw(batch, seq_len, 8, seed=seq_len), table, start_pos)
    x = draw(2, 5, 8)
    want = attend_by_hand(by_hand(table, x))
    expect_close(answer(x, table), want, where="start_pos not given", rtol=2e-5, atol=2e-5)


@bug_hunt.property("a text's result does not depend on its place in the batch")
def _(answer: Callable) -> None:
    x, table = draw(5, 6, 8), draw(40, 8, seed=9)
    together = answer(x, table, 3)
    for i in range(len(x)):
        expect_close(together[i : i + 1], answer(x[i : i + 1], table, 3), where=f"text {i} of 5, against it alone")
    expect_close(answer(x.flip(0), table, 3).flip(0), together, where="five texts in the other order")


@bug_hunt.property("a batch may have more texts than the table has rows")
def _(answer: Callable) -> None:
    expect_read(answer, draw(9, 3, 4), draw(4, 4, seed=9), 0)
    expect_read(answer, draw(9, 3, 4), draw(4, 4, seed=9), 1)


@bug_hunt.property("gradients: the rows of all positions read learn, and no others")
def _(answer: Callable) -> None:
    x, table = draw(2, 5, 8).requires_grad_(), draw(12, 8, seed=9).requires_grad_()
    weights = draw(2, 5, 8, seed=3)
    total = (answer(x, table, 4) * weights).sum()
    gradients = torch.autograd.grad(total, (x, table), allow_unused=True) if total.requires_grad else (None, None)
    for name, gradient in zip(("x", "table"), gradients, strict=True):
        if gradient is None:
            raise Mismatch(f"the result is expected to carry gradients back to {name}, but it is cut off")
    read = [i for i, row in enumerate(gradients[1]) if bool((row != 0).any())]
    if read != [4, 5, 6, 7, 8]:
        raise Mismatch(f"five tokens from position 4 on: expected a gradient in rows [4, 5, 6, 7, 8], got {read}")
    want = torch.autograd.grad((reference_read_batch(x, table, 4) * weights).sum(), (x, table))
    for name, gradient, right in zip(("x", "table"), gradients, want, strict=True):
        expect_close(gradient, right, where=f"gradient of {name}", rtol=1e-3, atol=1e-4)


def at(x: Tensor, start_pos: int, n: int) -> Tensor:
    return torch.arange(start_pos, start_pos + n, device=x.device)


@bug_hunt.misconception(
    "the planted bug",
    "The bug is still there: every token of a text gets the same row, and it is the row of the text's number in the "
    "batch. Which axis of x is counted, and which one should be?",
    given=True,
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x + table[at(x, start_pos, len(x))][:, None])


@bug_hunt.misconception(
    "counted right, lined up wrong",
    "You read a row for each token now, but the axis of length 1 in the middle still lines the rows up with the batch. "
    "With one text that makes as many texts as there are tokens; with several it crashes, or works along the batch.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x + table[at(x, start_pos, x.shape[1])][:, None])


@bug_hunt.misconception(
    "lined up right, counted wrong",
    "The rows are lined up with the tokens now, but you still read as many of them as there are texts. That fits only "
    "where both numbers are equal, and a single text gets one row for all of its tokens. Count axis 1.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x + table[at(x, start_pos, len(x))])


@bug_hunt.misconception(
    "start_pos lost",
    "The axis is right now, but start_pos got lost on the way: rows are read from 0 on.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x + table[at(x, 0, x.shape[1])])


@bug_hunt.misconception(
    "the end does not move with start_pos",
    "You slice [start_pos:seq_len], whose end does not move with start_pos. Begin at start_pos, and end seq_len rows "
    "later.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x + table[start_pos : x.shape[1]])


@bug_hunt.misconception(
    "the mask lost",
    "The rows are right now, but the causal mask got lost: each token sees those after it too. causal_attention was "
    "right as it stood.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    x = x + table[at(x, start_pos, x.shape[1])]
    return torch.nn.functional.scaled_dot_product_attention(x, x, x)


@bug_hunt.misconception(
    "mixed without positions",
    "The rows are right now, and tokens are compared with them, but what is mixed are the tokens without their rows. "
    "Give causal_attention the sum, and it does both.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    told = x + table[at(x, start_pos, x.shape[1])]
    return torch.nn.functional.scaled_dot_product_attention(told, told, x, is_causal=True)


@bug_hunt.misconception(
    "one row for all",
    "Every token of every text gets row start_pos. Texts are treated alike now, but places too: token i needs row "
    "start_pos + i.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x + table[start_pos])


@bug_hunt.misconception(
    "positions counted from 1",
    "The axis is right now, but the first token gets row start_pos + 1. Positions count from 0.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x + table[at(x, start_pos + 1, x.shape[1])])


@bug_hunt.misconception(
    "the batch as one long text",
    "You number the tokens of the whole batch on: the second text begins where the first one ended. Each text of a "
    "batch begins at start_pos.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    positions = at(x, start_pos, x.shape[0] * x.shape[1]).unflatten(0, x.shape[:2])
    return causal_attention(x + table[positions])


@bug_hunt.misconception(
    "transposed, and not back",
    "You transpose x so that it fits the table, (seq_len, batch, dim), and leave it so: attention then mixes the texts "
    "of the batch, and the result has its axes exchanged. Transpose back before attention, or leave x as it is and "
    "give the rows the right shape.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x.transpose(0, 1) + table[at(x, start_pos, x.shape[1])][:, None])


@bug_hunt.misconception(
    "transposed back too late",
    "You transpose x so that it fits the table, and transpose back only after attention: so attention runs along the "
    "batch, and mixes texts that have nothing to do with each other.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x.transpose(0, 1) + table[at(x, start_pos, x.shape[1])][:, None]).transpose(0, 1)


@bug_hunt.misconception(
    "added after attention",
    "The positions are added to what attention gives. It has compared the tokens by then, without knowing their "
    "places: add first.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x) + table[at(x, start_pos, x.shape[1])]


@bug_hunt.misconception(
    "no attention",
    "The sum is right, but attention is gone. Only the rows needed mending.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return x + table[at(x, start_pos, x.shape[1])]


@bug_hunt.misconception(
    "no positions",
    "You took the table out. Texts do not disturb each other any more, and the model knows no positions.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(x)


@bug_hunt.misconception(
    "the table cannot learn",
    "The numbers are right, but the table is cut off from the gradient (.data, .detach(), torch.no_grad or a new "
    "torch.tensor): it would never learn.",
)
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return reference_read_batch(x, table.detach(), start_pos)


@bug_hunt.alternative
def read_batch(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    positions = torch.arange(x.size(1), device=x.device) + start_pos
    return causal_attention(x + table[positions].unsqueeze(0))


@bug_hunt.alternative
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    rows = table[at(x, start_pos, x.shape[1])][:, None]
    return causal_attention((x.transpose(0, 1) + rows).transpose(0, 1))


@bug_hunt.alternative
def _(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    told = torch.stack([x[:, i] + table[start_pos + i] for i in range(x.shape[1])], dim=1)
    return torch.nn.functional.scaled_dot_product_attention(told, told, told, is_causal=True)
