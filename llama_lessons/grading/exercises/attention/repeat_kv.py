"""repeat_kv: a copy of the shared key/value head for each query head."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import expect_close, expect_like, expect_value_error
from .common import HALVES, LESSON, draw, expect_gradients


def refuse_no_group(group_size: int) -> None:
    if group_size < 1:
        raise ValueError(f"group_size ({group_size}) must be positive")


def reference(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.repeat_interleave(group_size, dim=1)


def cases() -> list[tuple]:
    """More and fewer copies than heads, axes of equal sizes, half precision, and refusals."""
    found = []
    for seed, (shape, group_size, dtype) in enumerate(
        [
            ((2, 3, 4, 5), 2, torch.float32),
            ((1, 2, 3, 4), 4, torch.float32),
            ((2, 2, 2, 2), 2, torch.float32),
            ((2, 3, 1, 4), 1, torch.float32),
            ((2, 3, 2, 4), 3, torch.bfloat16),
        ]
    ):
        found.append((draw(*shape, seed=seed, dtype=dtype).requires_grad_(seed == 0), group_size))
    return [*found, (draw(1, 2, 3, 4), 0), (draw(1, 2, 3, 4), -1)]


repeat_kv = Exercise(
    name="repeat_kv",
    lesson=LESSON,
    points=2,
    minutes=4,
    parameters=("x", "group_size"),
    reference=reference,
    cases=cases,
    returns=Tensor,
    hints=(
        "With two heads A and B and group_size 3, the six heads of the result are A A A B B B, not A B A B A B.",
        "torch has one function that repeats a whole tensor end to end, and another that repeats each entry in its "
        "place. Heads stand along axis 1.",
    ),
)


@repeat_kv.property("shape (batch, n_kv_heads * group_size, seq_len, head_dim), dtype of x")
def _(answer: Callable) -> None:
    for shape, group_size in (((1, 1, 1, 1), 1), ((2, 3, 4, 5), 2), ((1, 2, 5, 8), 4)):
        for dtype in (torch.float32, *HALVES, torch.float64):
            where = f"x of shape {shape} in {str(dtype)[6:]}, group_size {group_size}"
            wanted = (shape[0], shape[1] * group_size, *shape[2:])
            expect_like(answer(draw(*shape, dtype=dtype), group_size), shape=wanted, dtype=dtype, where=where)


@repeat_kv.property("two heads A, B in groups of 3 become A A A B B B")
def _(answer: Callable) -> None:
    x = torch.tensor([1.0, 2.0], device=draw(1).device).view(1, 2, 1, 1)
    got = answer(x, 3)[0, :, 0, 0]
    expect_close(got, torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]), where="heads 1 and 2, group_size 3")


@repeat_kv.property("head i of the result is head i // group_size of x")
def _(answer: Callable) -> None:
    for seed, (shape, group_size) in enumerate(
        [((2, 3, 4, 5), 2), ((1, 2, 3, 4), 4), ((2, 2, 2, 2), 2), ((2, 8, 3, 4), 8), ((3, 4, 2, 6), 1)]
    ):
        x = draw(*shape, seed=seed)
        got = answer(x, group_size)
        for head in range(shape[1] * group_size):
            where = f"x of shape {shape}, group_size {group_size}, head {head}"
            expect_close(got[:, head], x[:, head // group_size], where=where, rtol=0, atol=0)


@repeat_kv.property("x may be transposed, as a model makes it")
def _(answer: Callable) -> None:
    x = draw(2, 4, 3, 5).transpose(1, 2)
    expect_close(answer(x, 2), x[:, [0, 0, 1, 1, 2, 2]], where="x made by .transpose(1, 2)", rtol=0, atol=0)


@repeat_kv.property("gradients of the copies add up in their head")
def _(answer: Callable) -> None:
    x, upstream = draw(2, 3, 2, 4).requires_grad_(), draw(2, 6, 2, 4, seed=1)
    wanted = upstream.view(2, 3, 2, 2, 4).sum(dim=2)
    expect_gradients(repeat_kv, lambda x: answer(x, 2), (x,), (wanted,), upstream)


@repeat_kv.property("a group_size below 1 is refused with a ValueError")
def _(answer: Callable) -> None:
    for group_size in (0, -1, -2):
        expect_value_error(answer, draw(1, 2, 3, 4), group_size, where=f"group_size {group_size}")


@repeat_kv.misconception(
    "the row of heads repeated",
    "Your heads come as A B A B: the row is repeated end to end. Then query head 1 reads another key head than query "
    "head 0, its neighbour, and pretrained weights do not fit. Repeat each head in its place, A A B B.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.repeat(1, group_size, 1, 1)


@repeat_kv.misconception(
    "the batch repeated",
    "You repeat along axis 0, the batch. Heads stand along axis 1.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.repeat_interleave(group_size, dim=0)


@repeat_kv.misconception(
    "the tokens repeated",
    "You repeat along axis 2, the tokens: each key would be there several times in the same head. Heads stand along "
    "axis 1.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.repeat_interleave(group_size, dim=2)


@repeat_kv.misconception(
    "the channels repeated",
    "You repeat along the last axis, the channels of each head. Heads stand along axis 1.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.repeat_interleave(group_size, dim=3)


@repeat_kv.misconception(
    "everything in one row",
    "Without dim=1, repeat_interleave makes one long row of all numbers.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.repeat_interleave(group_size)


@repeat_kv.misconception(
    "as many copies as there are heads",
    "You make n_kv_heads copies of each head. group_size says how many query heads share one, and so how many copies "
    "it needs.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.repeat_interleave(x.shape[1], dim=1)


@repeat_kv.misconception(
    "one copy too many",
    "You add group_size copies to the head that is there. With it there are group_size in all.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.repeat_interleave(group_size + 1, dim=1)


@repeat_kv.misconception(
    "heads in reverse order",
    "The groups are right, but they come in reverse order: the first query heads get the last key/value head.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x.flip(1).repeat_interleave(group_size, dim=1)


@repeat_kv.misconception(
    "the copies on an axis of their own",
    "Your copies stand on an axis of their own, so the result has five axes. Join that axis with the heads: "
    ".flatten(1, 2).",
)
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x[:, :, None].expand(-1, -1, group_size, -1, -1)


@repeat_kv.misconception(
    "a size that is no group accepted",
    "A group_size of 0 is let pass, and no head is left. Raise a ValueError below 1.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    return x.repeat_interleave(max(group_size, 0), dim=1)


@repeat_kv.misconception(
    "no gradients",
    "The numbers are right, but no gradient reaches x: .detach(), .data, torch.no_grad or a new torch.tensor cuts it "
    "off, and the keys could not be trained.",
)
def _(x: Tensor, group_size: int) -> Tensor:
    return reference(x.detach(), group_size)


@repeat_kv.alternative
def _(x: Tensor, group_size: int) -> Tensor:
    if group_size <= 0:
        raise ValueError("group_size must be positive")
    batch, heads, seq_len, head_dim = x.shape
    copies = x[:, :, None].expand(batch, heads, group_size, seq_len, head_dim)
    return copies.reshape(batch, heads * group_size, seq_len, head_dim)


@repeat_kv.alternative
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return torch.stack([x] * group_size, dim=2).flatten(1, 2)


@repeat_kv.alternative
def _(x: Tensor, group_size: int) -> Tensor:
    refuse_no_group(group_size)
    return x[:, torch.arange(x.shape[1] * group_size, device=x.device) // group_size]
