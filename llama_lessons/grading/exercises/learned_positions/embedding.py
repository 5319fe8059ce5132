"""Exercise 1: a learned table of positions, as a module."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llama_lessons.positions import LearnedPositionalEmbedding as ReferenceEmbedding

from ...exercise import Exercise
from ...expect import LearnerError, Mismatch, expect_close, expect_like, expect_value_error
from .common import LESSON, by_hand, draw

__all__ = ["embedding"]


def use(answer: Callable[[int, int], nn.Module]) -> Callable[..., Tensor]:
    """The function that adds rows of a given table, by the learner's module with that table in it."""

    made: dict[tuple, tuple[nn.Module, str]] = {}

    def add(table: Tensor, x: Tensor, start_pos: int | None = None) -> Tensor:
        shape = tuple(table.shape)
        if shape not in made:
            # One module for all calls: what it keeps of the first one shows in the second.
            module = answer(*shape)
            made[shape] = module, name_of_table(module, table)
        module, name = made[shape]
        arguments = (x,) if start_pos is None else (x, start_pos)
        return torch.func.functional_call(module, {name: table}, arguments)

    return add


def name_of_table(module: Any, table: Tensor) -> str:
    """Under which name the module keeps its only parameter, a table of this shape."""
    max_seq_len, dim = table.shape
    made = f"LearnedPositionalEmbedding({max_seq_len}, {dim})"
    if not isinstance(module, nn.Module):
        raise Mismatch(f"{made} is expected to be an nn.Module, got {type(module).__name__}")
    if "_parameters" not in vars(module):
        raise Mismatch("is super().__init__() missing, as the first line of __init__? nn.Module needs it")
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    wanted = f"one parameter, the table of shape {(max_seq_len, dim)}"
    if not shapes:
        raise Mismatch(
            f"{made}: expected {wanted}, but it has none, so nothing would be learned: a tensor becomes a parameter by "
            "nn.Parameter(...) (an nn.Embedding has one of its own)"
        )
    if list(shapes.values()) != [(max_seq_len, dim)]:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise Mismatch(f"{made}: expected {wanted}, got {found}")
    return next(iter(shapes))


def cases() -> list[tuple]:
    table = draw(12, 4, seed=9)
    given = [
        (table, draw(2, 5, 4), 0),
        (table, draw(3, 3, 4, seed=1), 0),
        (table, draw(4, 2, 4, seed=2), 5),
        (table, draw(1, 1, 4, seed=3), 3),
        (table, draw(1, 12, 4, seed=4), 0),
        (table, draw(2, 4, 4, seed=5), 8),
        # past the end, and before the beginning
        (table, draw(2, 13, 4, seed=6), 0),
        (table, draw(2, 2, 4, seed=6), 11),
        (table, draw(2, 3, 4, seed=7), 11),
        (table, draw(2, 5, 4, seed=8), 10),
        (table, draw(2, 3, 4, seed=8), -1),
        # where the number of texts, or of channels, is not that of tokens
        (table, draw(5, 2, 4, seed=8), 8),
        (table, draw(2, 2, 4, seed=8), 9),
        (draw(12, 1, seed=9), draw(1, 2, 1, seed=8), 11),
        (table.double(), draw(2, 5, 4).double(), 2),
        (table.bfloat16(), draw(2, 5, 4).bfloat16(), 2),
    ]
    with_gradients = [(draw(6, 4, seed=9).requires_grad_(), draw(2, 3, 4).requires_grad_(), 1)]
    return [*given, *with_gradients]


embedding = Exercise(
    name="LearnedPositionalEmbedding",
    lesson=LESSON,
    points=5,
    minutes=12,
    parameters=("max_seq_len", "dim"),
    reference=ReferenceEmbedding,
    cases=cases,
    returns=Tensor,
    using=use,
    hints=(
        "In __init__: super().__init__(), then one table with max_seq_len rows and dim columns that an optimizer will "
        "find. nn.Parameter(torch.randn(...)) makes one, and so does nn.Embedding.",
        "In forward: how many tokens does a sequence of x have? The rows you need begin at start_pos, and there are as "
        "many of them. Rows of shape (seq_len, dim) added to x, (batch, seq_len, dim), serve every sequence.",
        "Before you read the table: which row does the last token need, and does it exist? A slice does not complain "
        "about missing rows, and Python reads a negative row number from the end.",
    ),
)


def expect_sum(answer: Callable, table: Tensor, x: Tensor, start_pos: int) -> None:
    where = f"a table of {len(table)} rows, x of shape {tuple(x.shape)}, start_pos {start_pos}"
    got = answer(table, x, start_pos)
    expect_like(got, shape=tuple(x.shape), dtype=x.dtype, where=where)
    tolerance = 1e-2 if x.dtype == torch.bfloat16 else 1e-5
    expect_close(got, by_hand(table, x, start_pos), where=where, rtol=tolerance, atol=tolerance)


@embedding.property("a table of max_seq_len rows is its one parameter, and row i is added to token i")
def _(answer: Callable) -> None:
    expect_sum(answer, draw(12, 4, seed=9), draw(1, 5, 4), 0)
    expect_sum(answer, draw(7, 16, seed=9), draw(1, 6, 16), 0)


@embedding.property("every sequence of a batch gets the same rows")
def _(answer: Callable) -> None:
    for batch, seq_len in ((2, 5), (5, 2), (4, 4), (8, 1)):
        expect_sum(answer, draw(12, 4, seed=9), draw(batch, seq_len, 4, seed=batch), 0)


@embedding.property("start_pos says where the first token stands, 0 where it is not given")
def _(answer: Callable) -> None:
    table = draw(12, 4, seed=9)
    for batch, seq_len, start_pos in ((1, 1, 3), (2, 5, 4), (3, 3, 1), (9, 2, 5)):
        expect_sum(answer, table, draw(batch, seq_len, 4, seed=seq_len), start_pos)
    x = draw(2, 5, 4)
    expect_close(answer(table, x), by_hand(table, x), where="start_pos not given")


@embedding.property("a text in two pieces gets the same rows as in one")
def _(answer: Callable) -> None:
    table, x = draw(9, 6, seed=9), draw(2, 8, 6)
    pieces = torch.cat((answer(table, x[:, :5], 0), answer(table, x[:, 5:], 5)), dim=1)
    expect_close(pieces, answer(table, x, 0), where="five tokens and then three, against eight at once")


@embedding.property("the last row can be used")
def _(answer: Callable) -> None:
    for seq_len, start_pos in ((12, 0), (5, 7), (1, 11)):
        try:
            expect_sum(answer, draw(12, 4, seed=9), draw(2, seq_len, 4), start_pos)
        except LearnerError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            raise Mismatch(
                f"a table of 12 rows, {seq_len} tokens, start_pos {start_pos}: all rows are there, and it was refused "
                f"({error.__cause__}). Refuse only where start_pos + seq_len is *greater* than max_seq_len"
            ) from None


@embedding.property("past the end: a ValueError that names both numbers")
def _(answer: Callable) -> None:
    for max_seq_len, seq_len, start_pos in ((12, 13, 0), (12, 5, 10), (16, 1, 16), (16, 1, 40), (64, 70, 3)):
        table, x = draw(max_seq_len, 4, seed=9), draw(2, seq_len, 4)
        where = f"a table of {max_seq_len} rows, {seq_len} tokens, start_pos {start_pos}"
        expect_value_error(answer, table, x, start_pos, where=where)
        text = refusal(answer, table, x, start_pos)
        for number, what in ((start_pos + seq_len, "start_pos + seq_len"), (max_seq_len, "max_seq_len")):
            if not re.search(rf"(?<!\d){number}(?!\d)", text):
                raise Mismatch(f"{where}: expected the text of the ValueError to name {what}, {number}, got: {text!r}")


def refusal(answer: Callable, *arguments: Any) -> str:
    """The text of the error that these arguments raise."""
    try:
        answer(*arguments)
    except LearnerError as error:
        return str(error.__cause__)
    return ""


@embedding.property("past the end there is an error even where one row is left, which would broadcast")
def _(answer: Callable) -> None:
    for max_seq_len, seq_len, start_pos in ((12, 2, 11), (12, 3, 11), (1, 4, 0)):
        where = f"a table of {max_seq_len} rows, {seq_len} tokens, start_pos {start_pos}"
        table = draw(max_seq_len, 4, seed=9)
        expect_value_error(answer, table, draw(2, seq_len, 4), start_pos, where=where)


@embedding.property("a negative start_pos is refused with a ValueError")
def _(answer: Callable) -> None:
    for seq_len, start_pos in ((3, -1), (2, -2), (1, -3), (4, -12)):
        where = f"a table of 12 rows, {seq_len} tokens, start_pos {start_pos}"
        expect_value_error(answer, draw(12, 4, seed=9), draw(2, seq_len, 4), start_pos, where=where)


@embedding.property("float64 and bfloat16 stay what they are")
def _(answer: Callable) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        expect_sum(answer, draw(12, 4, seed=9, dtype=dtype), draw(2, 5, 4, dtype=dtype), 3)


@embedding.property("gradients: a row learns from each sequence, rows that were not read get exactly 0, x gets its own")
def _(answer: Callable) -> None:
    table, x = draw(12, 4, seed=9).requires_grad_(), draw(3, 5, 4).requires_grad_()
    weights = draw(3, 5, 4, seed=1)
    total = (answer(table, x, 4) * weights).sum()
    gradients = torch.autograd.grad(total, (table, x), allow_unused=True) if total.requires_grad else (None, None)
    for name, gradient in zip(("the table", "x"), gradients, strict=True):
        if gradient is None:
            raise Mismatch(f"the result is expected to carry gradients back to {name}, but it is cut off")
    want = torch.zeros(12, 4, device=x.device)
    want[4:9] = weights.sum(dim=0)
    expect_close(gradients[0], want, where="gradient of the table, tokens at 4 to 8")
    expect_close(gradients[1], weights, where="gradient of x")


@embedding.alternative
def by_lookup(max_seq_len: int, dim: int) -> nn.Module:
    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(max_seq_len, dim)

        def forward(self, x: Tensor, start_pos: int = 0) -> Tensor:
            last = start_pos + x.shape[1]
            if start_pos < 0 or last > self.table.num_embeddings:
                raise ValueError(f"needs {last} rows, has {self.table.num_embeddings}")
            return x + self.table(torch.arange(start_pos, last, device=x.device))

    return Lookup()


@embedding.alternative
def by_stacking(max_seq_len: int, dim: int) -> nn.Module:
    class Stacking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pos = nn.Parameter(torch.zeros(max_seq_len, dim))

        def forward(self, x: Tensor, start_pos: int = 0) -> Tensor:
            batch, seq_len, _ = x.shape
            if not 0 <= start_pos <= max_seq_len - seq_len:
                raise ValueError(f"{start_pos} + {seq_len} = {start_pos + seq_len}, max_seq_len = {max_seq_len}")
            chosen = torch.stack([self.pos[start_pos + i] for i in range(seq_len)])
            return x + chosen.unsqueeze(0).repeat(batch, 1, 1)

    return Stacking()
