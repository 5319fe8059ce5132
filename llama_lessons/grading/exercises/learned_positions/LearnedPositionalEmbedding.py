"""Exercise 1: a learned table of positions, as a module."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import (
    HALVES,
    LearnerError,
    Mismatch,
    draw,
    expect_close,
    expect_gradients,
    expect_like,
    expect_same_for_views,
    expect_value_error,
)
from ...families import needs_contiguous, no_gradient, overwrites
from .common import WRONG_ROWS, exact_sum


class LearnedPositionalEmbedding(nn.Module):
    def __init__(self, max_seq_len: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_seq_len, dim))

    def forward(self, x: Tensor, start_pos: int = 0) -> Tensor:
        table, end = self.weight, start_pos + x.shape[1]
        if start_pos < 0 or end > len(table):
            raise ValueError(f"{end} rows are needed, the table has {len(table)}")
        rows = table[start_pos:end]
        return x + rows


def use(answer: Callable[[int, int], nn.Module]) -> Callable[..., Tensor]:
    """The function that adds rows of a given table, by the learner's module with that table in it."""
    made: dict[tuple, tuple[nn.Module, str]] = {}

    def add(
        table: Tensor, x: Tensor, start_pos: int | None = None, earlier: tuple = (), training: bool | None = True
    ) -> Tensor:
        shape = tuple(table.shape)
        if shape not in made:
            # One module for all calls: what it keeps of the first one shows in the second.
            module = answer(*shape)
            made[shape] = module, name_of_table(module, shape)
            if next(answer(*shape).parameters()).data_ptr() == next(module.parameters()).data_ptr():
                raise Mismatch("two modules share one table, where each is expected to make its own in __init__")
        for call in earlier:
            add(*call)
        module, name = made[shape]
        module.to(x.device).train(bool(training))
        with torch.set_grad_enabled(training is not False):
            return torch.func.functional_call(module, {name: table}, (x,) if start_pos is None else (x, start_pos))

    return add


def name_of_table(module: Any, shape: tuple[int, int]) -> str:
    """Under which name the module keeps its only parameter, a table of this shape."""
    made = f"LearnedPositionalEmbedding{shape}"
    if not isinstance(module, nn.Module):
        raise Mismatch(f"{made} is expected to be an nn.Module, got {type(module).__name__}")
    if "_parameters" not in vars(module):
        raise Mismatch("is super().__init__() missing, as the first line of __init__? nn.Module needs it")
    found = dict(module.named_parameters())
    if [parameter.shape for parameter in found.values()] != [shape]:
        got = ", ".join(f"{name} {tuple(p.shape)}" for name, p in found.items())
        none = "none, so nothing would be learned (nn.Parameter(...) makes one of a tensor, nn.Embedding has one)"
        raise Mismatch(f"{made}: expected one parameter, the table of shape {shape}, got {got or none}")
    ((name, table),) = found.items()
    if not table.requires_grad:
        raise Mismatch(f"{made}: the table's requires_grad is False, so it would stay as it was drawn")
    return name


def cases() -> list[tuple]:
    """Texts that fit, on several tables and in several dtypes; then those that do not; then a second call."""
    table, short, other = draw(40, 5, seed=9), draw(12, 5, seed=10), draw(40, 5, seed=11)
    shapes = ((2, 5, 2), (3, 3, 0), (4, 2, 5), (1, 1, 3), (2, 4, 8), (5, 2, 8), (2, 2, 9), (3, 1, 6), (1, 5, 0))
    made: list[tuple] = [(table, draw(n, length, 5, seed=i), pos) for i, (n, length, pos) in enumerate(shapes)]
    made += [(table, draw(2, 5, 5, seed=20)), (table, draw(3, 2, 5, seed=21).transpose(0, 1), 4)]
    made += [(draw(40, 5, seed=9, dtype=t), draw(2, 5, 5, dtype=t), 2) for t in (torch.float64, *HALVES)]
    made += [(draw(6, 5, seed=i).requires_grad_(), draw(2, 3, 5).requires_grad_(), i) for i in (0, 2)]
    limits = ((1, 12, 0), (2, 4, 8), (2, 13, 0), (2, 2, 11), (2, 5, 10), (1, 1, 12), (2, 3, -1), (2, 1, -2))
    made += [(short, draw(n, length, 5, seed=22), pos) for n, length, pos in limits]
    made += [(draw(12, 1, seed=9), draw(1, 2, 1, seed=8), 11)]  # fewer channels than tokens
    made += [(table, draw(2, 4, 5, seed=i), 7, ((other, draw(1, i, 5), 3),)) for i in (4, 6)]
    return [*made, (draw(40, 5, dtype=torch.float64), draw(2, 5, 5, dtype=torch.float64), 2, (made[0],))]


exercise = Exercise(
    LearnedPositionalEmbedding,
    points=5,
    minutes=12,
    cases=cases,
    returns=Tensor,
    using=use,
    hints=(
        "In __init__: super().__init__(), then one table with max_seq_len rows and dim columns that an optimizer will "
        "find. nn.Parameter(torch.randn(...)) makes one, and so does nn.Embedding.",
        "In forward: how many tokens does a text of x have? The rows you need begin at start_pos, and there are as "
        "many of them. Rows of shape (seq_len, dim) added to x, (batch, seq_len, dim), serve every text.",
        "Before you read the table: which row does the last token need, and does it exist? A slice does not complain "
        "about missing rows, and Python reads a negative row number from the end.",
    ),
)


def after_eval(answer: Callable) -> Callable:
    """The answer in evaluation, still with gradients."""
    return lambda table, x, start_pos=0: answer(table, x, start_pos, (), None)


def expect_sum(answer: Callable, table: Tensor, x: Tensor, start_pos: int) -> None:
    where = f"a table of {len(table)} rows, x of shape {tuple(x.shape)} in {str(x.dtype)[6:]}, start_pos {start_pos}"
    got = answer(table, x, start_pos)
    expect_like(got, shape=tuple(x.shape), dtype=x.dtype, where=where)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(x.dtype, 1e-2)
    expect_close(got, exact_sum(table, x, start_pos), where=where, rtol=tolerance, atol=tolerance)


@exercise.property("a table of max_seq_len rows is its one parameter, and row i is added to token i")
def row_i_to_token_i(answer: Callable) -> None:
    expect_sum(answer, draw(12, 4, seed=9), draw(1, 5, 4), 0)
    expect_sum(answer, 100 * draw(7, 16, seed=9), draw(1, 6, 16), 0)


@exercise.property("every sequence of a batch gets the same rows")
def every_sequence(answer: Callable) -> None:
    for batch, seq_len in ((2, 5), (5, 2), (4, 4), (8, 1)):
        expect_sum(answer, draw(12, 4, seed=9), draw(batch, seq_len, 4, seed=batch), 0)


@exercise.property("start_pos says where the first token stands, 0 where it is not given")
def start_pos_is_used(answer: Callable) -> None:
    table = draw(12, 4, seed=9)
    for batch, seq_len, start_pos in ((1, 1, 3), (2, 5, 4), (3, 3, 1), (9, 2, 5)):
        expect_sum(answer, table, draw(batch, seq_len, 4, seed=seq_len), start_pos)
    x = draw(2, 5, 4)
    expect_close(answer(table, x), exact_sum(table, x), where="start_pos not given")
    expect_sum(answer, draw(2_100, 4, seed=9), x[..., :4], 2_090)


@exercise.property("the last row can be used")
def the_last_row(answer: Callable) -> None:
    for seq_len, start_pos in ((12, 0), (5, 7), (1, 11)):
        expect_sum(answer, draw(12, 4, seed=9), draw(2, seq_len, 4), start_pos)


PAST_THE_END = ((12, 13, 0), (12, 5, 10), (16, 1, 16), (16, 1, 40), (64, 70, 3), (12, 2, 11), (1, 4, 0))


@exercise.property("past the end: a ValueError that names both numbers")
def past_the_end(answer: Callable) -> None:
    for max_seq_len, seq_len, start_pos in PAST_THE_END:
        args = draw(max_seq_len, 4, seed=9), draw(2, seq_len, 4), start_pos
        where = f"a table of {max_seq_len} rows, {seq_len} tokens, start_pos {start_pos}"
        expect_value_error(answer, *args, where=where)
        text = refusal(answer, *args)
        for number, what in ((start_pos + seq_len, "start_pos + seq_len"), (max_seq_len, "max_seq_len")):
            if not re.search(rf"(?<!\d){number}(?!\d)", text):
                raise Mismatch(f"{where}: expected the text of the ValueError to name {what}, {number}, got: {text!r}")


def refusal(answer: Callable, *args: Any) -> str:
    """The text of the error that these arguments raise."""
    try:
        answer(*args)
    except LearnerError as error:
        return str(error.__cause__)
    return ""


@exercise.property("a negative start_pos is refused with a ValueError")
def negative_refused(answer: Callable) -> None:
    for seq_len, start_pos in ((3, -1), (2, -2), (1, -3), (4, -12), (2, -20)):
        where = f"a table of 12 rows, {seq_len} tokens, start_pos {start_pos}"
        expect_value_error(answer, draw(12, 4, seed=9), draw(2, seq_len, 4), start_pos, where=where)


@exercise.property("one module reads texts of any length, position and dtype, one after another")
def called_again(answer: Callable) -> None:
    calls = ((2, 4, 5), (1, 7, 0), (3, 4, 9), (2, 4, 5), (2, 3, 7))
    dtypes = (torch.float32, torch.bfloat16, torch.float64, torch.float32, torch.float16)
    for seed, ((batch, seq_len, start_pos), dtype) in enumerate(zip(calls, dtypes, strict=True)):
        for read in (answer, after_eval(answer)):
            expect_sum(read, draw(20, 6, seed=seed, dtype=dtype), draw(batch, seq_len, 6, dtype=dtype), start_pos)


@exercise.property("each call returns a new tensor, in training with gradients, and after .eval() without")
def a_new_tensor(answer: Callable) -> None:
    table, x = draw(12, 4, seed=9), draw(2, 5, 4)
    for training, mode in ((True, "in training"), (False, "after .eval(), under torch.no_grad")):
        first = answer(table, x, 3, (), training)
        expect_close(first, exact_sum(table, x, 3), where=mode)
        answer(table, 2 * x, 0, (), training)
        expect_close(first, exact_sum(table, x, 3), where=f"{mode}, a result looked at again after another call")


@exercise.property("numbers need not lie in memory in the order of their axes")
def not_contiguous(answer: Callable) -> None:
    expect_same_for_views(answer, draw(12, 4, seed=9), draw(2, 5, 4), 3, where="x and a table")


@exercise.property("gradients: each row learns from every sequence, rows that were not read get exactly 0, x its own")
def gradients(answer: Callable) -> None:
    for max_seq_len, seq_len, start_pos in ((12, 5, 4), (12, 12, 0), (30, 2, 17)):
        args = draw(max_seq_len, 4, seed=9), draw(3, seq_len, 4), start_pos
        for read in (answer, after_eval(answer)):
            expect_gradients(read, exact_sum, *args, names=("the table", "x"))
    x = draw(2, 5, 4)
    expect_gradients(lambda t: answer(t, x), lambda t: exact_sum(t, x), draw(9, 4), names=("the table (x needs none)",))


exercise.slips(WRONG_ROWS)
exercise.slips("""
    the table lies along the batch: table[start_pos:end] -> table[start_pos : start_pos + len(x), None]
        You take one row for each text of the batch, and add it to all of its tokens: so the number of the text is
        encoded, and the position is not. In x, (batch, seq_len, dim), positions run along axis 1.
    rows from 0 on: table, -> return x + self.weight[: x.shape[1]]; table,
        Your rows are those for a start_pos of 0, whatever it is. Read from start_pos on, and refuse what does not fit.
    wrapped round: = self.weight, -> = self.weight.repeat(9, 1),
        Past the end you begin again at row 0, as a remainder (%) does, and nobody is told. Raise a ValueError.
    the last row again and again: = self.weight, -> = torch.cat((self.weight, self.weight[-1:].expand(50, -1))),
        Past the end, all tokens get the last row, as by clamp, and nobody is told. Raise a ValueError.
    nothing added past the end: = self.weight, -> = nn.functional.pad(self.weight, (0, 0, 0, 50)),
        Tokens past the end get no position at all, and nobody is told. Raise a ValueError.
    tokens past the end dropped: table, end = -> x = x[:, : max(len(self.weight) - start_pos, 0)]; table, end =
        Tokens past the end are left out, so that fewer come out than went in. Raise a ValueError.
    negative start_pos taken for 0: table, end = -> start_pos = max(start_pos, 0); table, end =
        A negative start_pos is taken for 0. Whoever gives one has made a mistake: raise a ValueError.
    the end is left to the slice: start_pos < 0 or end > len(table): -> start_pos < 0:
        Missing rows are left to the slice. Mostly the sum crashes then, but where just one is left, it is added to all
        tokens in silence. Compare start_pos + seq_len with max_seq_len first.
    both ends are left to the slice: start_pos < 0 or end > len(table): -> False:
        Missing rows are left to the slice, and where just one is left, it is added to all tokens in silence. Compare
        start_pos with 0, and start_pos + seq_len with max_seq_len, before you read.
    both ends are left to the lookup: table, -> return x + self.weight[range(start_pos, start_pos + x.shape[1])]; table,
        Past the end an IndexError comes, as a lookup raises it by itself, and row -1 is taken for the last one.
        Compare start_pos with 0, and start_pos + seq_len with max_seq_len, before you read.
    the end is left to the lookup: end > len(table): -> table[torch.arange(start_pos, end)] is None:
        Past the end an IndexError comes, as from a lookup. Compare start_pos + seq_len with max_seq_len first.
    the beginning is left to the slice: start_pos < 0 or end > len(table): -> end > len(table):
        You do not refuse a negative start_pos. Counted from the end, it gives a wrong row, or none: then the sum
        crashes or comes out empty.
    start_pos not added in the check: end > len(table): -> x.shape[1] > len(table):
        A text is let through whose seq_len alone would fit. With start_pos 10, five tokens need 15 rows: compare
        start_pos + seq_len with max_seq_len.
    seq_len not added in the check: end > len(table): -> start_pos >= len(table):
        A text is let through whose start_pos alone would fit. With start_pos 10, five tokens need 15 rows: compare
        start_pos + seq_len with max_seq_len.
    texts counted in the check: end > len(table): -> start_pos + len(x) > len(table):
        You compare start_pos plus the number of *texts* with max_seq_len. Rows are needed for tokens: x.shape[1].
    channels counted in the check: end > len(table): -> start_pos + x.shape[2] > len(table):
        You compare start_pos plus the number of *channels* with max_seq_len. Rows are needed for tokens: x.shape[1].
    one token too many: end > len(table): -> end > len(table) + 1:
        You let one token too many through: start_pos + seq_len may equal max_seq_len, and not exceed it.
    the last row refused: end > len(table): -> end >= len(table):
        You refuse a text that needs the last row. Refuse only where start_pos + seq_len is *greater* than max_seq_len.
    an IndexError: raise ValueError( -> raise IndexError(
        Texts that do not fit end in an IndexError, which a lookup raises by itself too. (On a GPU a lookup by a tensor
        ends in a device-side assert, after which the process can no longer use the GPU.) Raise a ValueError, before
        anything is read.
    a RuntimeError: raise ValueError( -> raise RuntimeError(
        Texts that do not fit end in a RuntimeError, such as narrow raises. Raise a ValueError before anything is read.
    an AssertionError: raise ValueError( -> raise AssertionError(
        Texts that do not fit end in an AssertionError. Python run with -O leaves out every assert: raise a ValueError.
    row 0 does not learn: table[start_pos:end] -> torch.cat((table[:1].detach(), table[1:]))[start_pos:end]
        The numbers are right, but no gradient reaches row 0, as with padding_idx=0. It is the first position.
    positions kept: table[start_pos:end] -> table[slice(*vars(self).setdefault("kept", (start_pos, end)))]
        Your result is that for the positions of an earlier call of the same module. Work them out in each call.
    rows kept: table[start_pos:end] -> vars(self).setdefault("kept", table[start_pos:end])
        Your result holds the rows of an earlier call of the same module. Read the table in each call.
    dtype kept: x + rows -> (x + rows).to(vars(self).setdefault("kept", x.dtype))
        Your result has the dtype of an earlier call of the same module. Each call has its own.
    always float32: x + rows -> x.float() + rows.float()
        Float32 comes out whatever was given. With tokens and table of one dtype, x + rows has that dtype by itself.
    float64 through float32: x + rows -> (x.float() + rows.float()).to(x.dtype)
        Float64 comes out with only the seven digits of float32. Add x and rows in the dtype they have.
    dropout: x + rows -> nn.functional.dropout(x + rows, 0.1)
        Some numbers are set to 0 at random and the others made larger, as by dropout. The sum alone is asked for.
""")
no_gradient(exercise, "x", "Nothing below this module would learn.")
overwrites(exercise, "x", "x + rows makes one.")
needs_contiguous(exercise, "x")


@exercise.misconception
class negative_positions_read_from_the_end(LearnedPositionalEmbedding):
    """A negative start_pos is not refused: position -1 gets the last row, as index -1 does. Raise a ValueError."""

    def forward(self, x, start_pos=0):
        if start_pos + x.shape[1] > len(self.weight):
            raise ValueError("too long")
        return x + self.weight[torch.arange(start_pos, start_pos + x.shape[1])]
