"""Exercise 2: a copy of the shared key/value head for each query head."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import HALVES, draw, expect_close, expect_like, expect_value_error, tensor
from ...families import another_error, batch_of_one, float32_out, needs_contiguous


def repeat_kv(x: Tensor, group_size: int) -> Tensor:
    if group_size < 1:
        raise ValueError("no group")
    return x.repeat_interleave(group_size, dim=1)


def cases() -> list[tuple]:
    """More and fewer copies than heads, one head, equal axes, half precision, a transposed x, and refusals."""
    sizes = [((2, 3, 4, 5), 2), ((1, 2, 3, 4), 4), ((2, 2, 2, 2), 2), ((2, 3, 1, 4), 1)]
    made = [(draw(*shape, seed=seed), group_size) for seed, (shape, group_size) in enumerate(sizes)]
    made += [(draw(2, 3, 2, 4, seed=4, dtype=torch.bfloat16), 3), (draw(3, 1, 2, 4, seed=5, dtype=torch.float16), 2)]
    made += [(draw(2, 4, 3, 5, seed=6).transpose(1, 2), 2), (draw(1, 2, 3, 4, seed=7, dtype=torch.float64) / 3, 2)]
    return [*made, (draw(1, 2, 3, 4), 0), (draw(1, 2, 3, 4), -1)]


exercise = Exercise(
    repeat_kv,
    points=2,
    minutes=4,
    cases=cases,
    returns=Tensor,
    hints=(
        "With two heads A and B and group_size 3, the six heads of the result are A A A B B B, not A B A B A B.",
        "torch has one function that repeats a whole tensor end to end, and another that repeats each entry in its "
        "place. Heads stand along axis 1.",
    ),
)


@exercise.property("shape (batch, n_kv_heads * group_size, seq_len, head_dim), dtype of x")
def shape_and_dtype(answer: Callable) -> None:
    for shape, group_size in (((1, 1, 1, 1), 1), ((2, 3, 4, 5), 2), ((1, 2, 5, 8), 4)):
        for dtype in (torch.float32, *HALVES, torch.float64):
            where = f"x of shape {shape} in {str(dtype)[6:]}, group_size {group_size}"
            wanted = (shape[0], shape[1] * group_size, *shape[2:])
            expect_like(answer(draw(*shape, dtype=dtype), group_size), shape=wanted, dtype=dtype, where=where)


@exercise.property("two heads A, B in groups of 3 become A A A B B B")
def two_heads_by_hand(answer: Callable) -> None:
    got = answer(tensor([1.0, 2.0]).view(1, 2, 1, 1), 3)[0, :, 0, 0]
    expect_close(got, torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]), where="heads 1 and 2, group_size 3")


@exercise.property("head i of the result is head i // group_size of x")
def each_head_is_a_copy(answer: Callable) -> None:
    for seed, (shape, group_size) in enumerate(
        [((2, 3, 4, 5), 2), ((1, 2, 3, 4), 4), ((2, 2, 2, 2), 2), ((2, 8, 3, 4), 8), ((3, 4, 2, 6), 1)]
    ):
        for dtype in (torch.float32, *HALVES, torch.float64):
            x = draw(*shape, seed=seed, dtype=dtype) / 3  # so that float64 holds what float32 does not
            got = answer(x, group_size)
            for head in range(shape[1] * group_size):
                where = f"x of shape {shape}, group_size {group_size}, head {head}"
                expect_close(got[:, head], x[:, head // group_size], where=where, rtol=0, atol=0)
    x = draw(1, 2, 3, 4)
    x[:, 0] = torch.inf  # a sum over heads, with weights of 0 and 1, makes NaN of it
    expect_close(answer(x, 2)[:, 2:], x[:, [1, 1]], where="heads 2 and 3, if head 0 is infinite", rtol=0, atol=0)


@exercise.property("x may be transposed, as a model makes it")
def not_contiguous(answer: Callable) -> None:
    x = draw(2, 4, 3, 5).transpose(1, 2)
    for group_size in (1, 2):
        owner = torch.arange(3 * group_size) // group_size
        where = f"x made by .transpose(1, 2), group_size {group_size}"
        expect_close(answer(x, group_size), x[:, owner], where=where, rtol=0, atol=0)


@exercise.property("what a call returned stays as it is after the next one")
def results_of_their_own(answer: Callable) -> None:
    x = draw(2, 3, 4, 5)
    got, _ = answer(x, 2), answer(-x, 2)
    expect_close(got, x.repeat_interleave(2, dim=1), where="a result, after the next call", rtol=0, atol=0)


@exercise.property("a group_size below 1 is refused with a ValueError")
def no_group_refused(answer: Callable) -> None:
    for group_size in (0, -1, -2):
        expect_value_error(answer, draw(1, 2, 3, 4), group_size, where=f"group_size {group_size}")


exercise.slips("""
    the row of heads repeated: x.repeat_interleave(group_size, dim=1) -> x.repeat(1, group_size, 1, 1)
        Your heads come as A B A B: the row is repeated end to end. Then query head 1 reads another key head than query
        head 0, its neighbour, and pretrained weights do not fit. Repeat each head in its place, A A B B.
    the batch repeated: dim=1 -> dim=0
        You repeat along axis 0, the batch: each text comes several times in a row. Heads stand along axis 1.
    the batch repeated end to end: x.repeat_interleave(group_size, dim=1) -> x.repeat(group_size, 1, 1, 1)
        You repeat along axis 0: the whole batch comes several times. Heads stand along axis 1.
    the tokens repeated: dim=1 -> dim=2
        You repeat along axis 2: each token is there several times in the same head. Heads stand along axis 1.
    the tokens repeated end to end: x.repeat_interleave(group_size, dim=1) -> x.repeat(1, 1, group_size, 1)
        You repeat along axis 2: the whole text comes several times in the same head. Heads stand along axis 1.
    the channels repeated: dim=1 -> dim=3
        You repeat along the last axis: each channel is there several times in its head. Heads stand along axis 1.
    the tokens repeated and cut into heads: dim=1) -> dim=2).reshape(x.shape[0], -1, *x.shape[2:])
        Each token is repeated in its place, and everything is cut into heads afterwards, across the tokens. The axis of
        the copies belongs right behind that of the heads, as in x[:, :, None].
    everything in one row: group_size, dim=1 -> group_size
        One long row of all numbers comes out, as repeat_interleave makes it without dim=1.
    as many copies as there are heads: group_size, dim -> x.shape[1], dim
        You make n_kv_heads copies of each head. It needs group_size: that is how many query heads share it.
    one copy too many: group_size, dim -> group_size + 1, dim
        Each head is there group_size + 1 times. Together with the head itself there are group_size of them.
    nothing repeated: x.repeat_interleave(group_size, dim=1) -> x
        x comes back as it is, with n_kv_heads heads: nothing is repeated.
    head 0 for all: x.repeat_interleave(group_size -> x[:, :1].repeat_interleave(x.shape[1] * group_size
        All heads of the result are copies of head 0. Each head of x has its own group.
    heads in reverse order: x.repeat -> x.flip(1).repeat
        The numbers are right, but the groups come in reverse order: the first query heads get the last key/value head.
    tokens before the heads: dim=1) -> dim=1).transpose(1, 2)
        The numbers are right, but the tokens stand on axis 1 and the heads on axis 2. x has heads before tokens.
    the copies on an axis of their own: x.repeat_interleave(group_size, dim=1) -> torch.stack([x] * group_size, dim=2)
        Your copies have an axis of their own, so the result has five axes. Join it with the heads: .flatten(1, 2).
    sizes do not match: repeat_interleave(group_size, dim=1) -> reshape(len(x), group_size * x.shape[1], *x.shape[2:])
        Wherever group_size is above 1, torch raises a RuntimeError, as for a shape with more or fewer numbers than
        there are: .reshape() and .view() make no copies and drop none.
    a group of one refused: group_size < 1 -> group_size <= 1
        A group_size of 1 is refused. It is a group: each query head has a key/value head of its own.
    0 accepted: group_size < 1 -> group_size < 0
        A group_size of 0 is let pass, and no head is left. Raise a ValueError for it too.
    only 0 refused: group_size < 1 -> group_size == 0
        0 is refused with a ValueError, but a negative group_size is not. Refuse all that are below 1.
    a size that is no group accepted: group_size < 1 -> False
        A group_size below 1 is not refused with a ValueError: with 0 no head is left. Raise one below 1.
    0 and -1 accepted: raise ValueError("no group") -> return x[:, :0] if group_size == 0 else x
        A group_size below 1 is not refused: with 0 no head is left, and -1 gives x itself, as .expand() takes it.
    a size below 1 taken for 1: raise ValueError("no group") -> group_size = 1
        A group_size below 1 is taken for 1. Whoever gave it made a mistake: raise a ValueError.
""")
another_error(exercise)
batch_of_one(exercise, "x")
float32_out(exercise, "x")
needs_contiguous(exercise, "x")


@exercise.misconception
def expanded_without_a_copy(x, group_size):
    """Where several heads get copies, torch raises a RuntimeError. .expand() copies nothing: it stretches a new axis,
    x[:, :, None], not that of the heads, and .view() cannot join the two afterwards, but .flatten(1, 2) can."""
    repeat_kv(x, group_size)
    return x[:, :, None].expand(-1, -1, group_size, -1, -1).view(len(x), -1, *x.shape[2:])
