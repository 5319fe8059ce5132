"""mean_pool_kv_heads: fewer key/value heads, each the mean of those that it replaces."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import expect_close, expect_like, expect_value_error
from .common import LESSON, at_least_float32, counted, draw, expect_gradients


def refuse(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> None:
    if weight.shape[0] % n_kv_heads:
        raise ValueError(f"{weight.shape[0]} rows are no multiple of n_kv_heads ({n_kv_heads})")
    if n_kv_heads % pooled_kv_heads:
        raise ValueError(f"n_kv_heads ({n_kv_heads}) is no multiple of pooled_kv_heads ({pooled_kv_heads})")


def reference(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    refuse(weight, n_kv_heads, pooled_kv_heads)
    return weight.unflatten(0, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1)).mean(dim=1).flatten(0, 1)


def cases() -> list[tuple]:
    """Pairs, larger groups, one head of all, none pooled, half precision, and both refusals."""
    found = []
    for seed, (n_kv_heads, pooled, head_dim, dim, dtype) in enumerate(
        [
            (4, 2, 3, 5, torch.float32),
            (6, 2, 4, 3, torch.float32),
            (6, 3, 2, 4, torch.float32),
            (4, 1, 4, 4, torch.float32),
            (3, 3, 2, 4, torch.float32),
            (4, 2, 4, 8, torch.bfloat16),
        ]
    ):
        weight = draw(n_kv_heads * head_dim, dim, seed=seed, dtype=dtype).requires_grad_(seed == 0)
        found.append((weight, n_kv_heads, pooled))
    return [*found, (draw(10, 3), 4, 2), (draw(12, 3), 3, 2), (draw(12, 3), 2, 4)]


mean_pool_kv_heads = Exercise(
    name="mean_pool_kv_heads",
    lesson=LESSON,
    points=3,
    minutes=8,
    parameters=("weight", "n_kv_heads", "pooled_kv_heads"),
    reference=reference,
    cases=cases,
    returns=Tensor,
    hints=(
        "The rows of weight come head by head: the first head_dim rows make head 0. With 4 heads pooled to 2, heads 0 "
        "and 1 become one. Which rows of weight have to be averaged for the first row of the result?",
        "weight.unflatten(0, (a, b, c)) cuts the first axis into three: which new head, which of the old heads that it "
        "replaces, which row of the head. Then take the mean over one of them.",
    ),
)


@mean_pool_kv_heads.property("four heads of two rows, pooled to two and to one")
def _(answer: Callable) -> None:
    weight = torch.arange(8.0, device=draw(1).device)[:, None].repeat(1, 3)
    for pooled, want in ((2, [1.0, 2.0, 5.0, 6.0]), (1, [3.0, 4.0])):
        got = answer(weight, 4, pooled)
        expect_like(got, shape=(2 * pooled, 3), dtype=torch.float32, where=f"8 rows, 4 heads pooled to {pooled}")
        where = f"rows 0 to 7, 4 heads pooled to {pooled}"
        expect_close(got[:, 0], torch.tensor(want), where=where)


@mean_pool_kv_heads.property("each new head is the mean of the heads that it replaces")
def _(answer: Callable) -> None:
    for seed, (n_kv_heads, pooled, head_dim, dim) in enumerate(
        [(4, 2, 3, 5), (6, 2, 4, 3), (6, 3, 4, 4), (8, 1, 2, 4), (4, 2, 4, 4), (9, 3, 64, 8)]
    ):
        weight = draw(n_kv_heads * head_dim, dim, seed=seed)
        group, heads = n_kv_heads // pooled, weight.split(head_dim)
        want = torch.cat([torch.stack(heads[i * group : (i + 1) * group]).mean(dim=0) for i in range(pooled)])
        where = f"{n_kv_heads} heads of {head_dim} rows pooled to {pooled}"
        expect_close(answer(weight, n_kv_heads, pooled), want, where=where)


@mean_pool_kv_heads.property("as many heads as before: nothing changes")
def _(answer: Callable) -> None:
    weight = draw(12, 5)
    for heads in (1, 3, 12):
        where = f"{counted(heads, 'head')} pooled to {heads}"
        expect_close(answer(weight, heads, heads), weight, where=where)


@mean_pool_kv_heads.property("heads that were copies give back the head they are copies of")
def _(answer: Callable) -> None:
    head = draw(2, 4, 6)
    copies = head.repeat_interleave(3, dim=0).flatten(0, 1)
    where = "heads A A A B B B pooled to two"
    expect_close(answer(copies, 6, 2), head.flatten(0, 1), where=where, atol=1e-6)


@mean_pool_kv_heads.property("the dtype of weight stays")
def _(answer: Callable) -> None:
    for dtype, digits in ((torch.bfloat16, 8), (torch.float16, 11), (torch.float64, 20)):
        weight = draw(8, 6, dtype=dtype)
        where = f"4 heads pooled to 2 in {str(dtype)[6:]}"
        got = answer(weight, 4, 2)
        expect_like(got, shape=(4, 6), dtype=dtype, where=where)
        want = weight.double().view(2, 2, 2, 6).mean(dim=1).view(4, 6)
        expect_close(got, want, where=where, rtol=2.0**-digits, atol=4 * 2.0**-digits)


@mean_pool_kv_heads.property("gradients flow back to weight")
def _(answer: Callable) -> None:
    weight, upstream = draw(12, 3).requires_grad_(), draw(4, 3, seed=1)
    wanted = torch.cat([upstream[:2]] * 3 + [upstream[2:]] * 3) / 3
    expect_gradients(mean_pool_kv_heads, lambda w: answer(w, 6, 2), (weight,), (wanted,), upstream)


@mean_pool_kv_heads.property("numbers that do not divide are refused with a ValueError")
def _(answer: Callable) -> None:
    for rows, heads, pooled in ((10, 4, 2), (8, 3, 1), (12, 3, 2), (12, 2, 4), (9, 2, 2)):
        where = f"{rows} rows, {heads} heads to be pooled to {pooled}"
        expect_value_error(answer, draw(rows, 3), heads, pooled, where=where)


def heads_of(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    """(pooled_kv_heads, heads that become one, head_dim, dim), after the checks."""
    refuse(weight, n_kv_heads, pooled_kv_heads)
    return weight.unflatten(0, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1))


@mean_pool_kv_heads.misconception(
    "the sum, not the mean",
    "You add the heads up. With a group of two, keys become twice as long as their mean, and scores twice as large: "
    "divide by the number of heads.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    return heads_of(weight, n_kv_heads, pooled_kv_heads).sum(dim=1).flatten(0, 1)


@mean_pool_kv_heads.misconception(
    "every second head",
    "You pool heads that stand apart: with 4 heads and 2 groups, heads 0 and 2. Query heads share with their "
    "neighbours, so neighbours are pooled: heads 0 and 1.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    refuse(weight, n_kv_heads, pooled_kv_heads)
    return weight.unflatten(0, (n_kv_heads // pooled_kv_heads, pooled_kv_heads, -1)).mean(dim=0).flatten(0, 1)


@mean_pool_kv_heads.misconception(
    "neighbouring rows, not heads",
    "You average rows that stand side by side, which are channels of the same head. Row 0 of head 0 goes with row 0 of "
    "head 1.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    refuse(weight, n_kv_heads, pooled_kv_heads)
    return weight.unflatten(0, (-1, n_kv_heads // pooled_kv_heads)).mean(dim=1)


@mean_pool_kv_heads.misconception(
    "channels taken for heads",
    "You cut the rows as if they came channel by channel, all heads' channel 0 first. They come head by head: the "
    "first head_dim rows are one head.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    refuse(weight, n_kv_heads, pooled_kv_heads)
    rows = weight.unflatten(0, (-1, pooled_kv_heads, n_kv_heads // pooled_kv_heads)).mean(dim=2)
    return rows.transpose(0, 1).flatten(0, 1)


@mean_pool_kv_heads.misconception(
    "one head of each group kept",
    "You keep the first head of each group and drop the others. That is another method, which the lesson compares in "
    "section 12. Here the mean is asked for.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    return heads_of(weight, n_kv_heads, pooled_kv_heads)[:, 0].flatten(0, 1)


@mean_pool_kv_heads.misconception(
    "the first heads kept",
    "You keep the first pooled_kv_heads heads and drop the rest. Each new head is made of a whole group: the mean of "
    "the heads that it replaces.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    refuse(weight, n_kv_heads, pooled_kv_heads)
    return weight[: weight.shape[0] // n_kv_heads * pooled_kv_heads]


@mean_pool_kv_heads.misconception(
    "heads left on an axis of their own",
    "The numbers are right, but the heads still stand on an axis of their own. A projection has two axes: join heads "
    "and their rows with .flatten(0, 1).",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    return heads_of(weight, n_kv_heads, pooled_kv_heads).mean(dim=1)


@mean_pool_kv_heads.misconception(
    "pooled over channels too",
    "You average over the rows of a head as well, so that each head has one row. Only the heads of a group become one.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    return heads_of(weight, n_kv_heads, pooled_kv_heads).mean(dim=(1, 2))


@mean_pool_kv_heads.misconception(
    "all heads into one",
    "You take the mean of all heads, whatever pooled_kv_heads says.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    mean = heads_of(weight, n_kv_heads, pooled_kv_heads).mean(dim=(0, 1), keepdim=True)
    return mean.expand(pooled_kv_heads, -1, -1, -1).flatten(0, 2)


@mean_pool_kv_heads.misconception(
    "columns in place of rows",
    "You pool columns of weight, which are the channels that come in. Row r of a projection makes channel r: the heads "
    "are among the rows.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    refuse(weight, n_kv_heads, pooled_kv_heads)
    if weight.shape[1] % n_kv_heads:
        raise RuntimeError("sizes do not fit")
    return weight.unflatten(1, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1)).mean(dim=2).flatten(1)


@mean_pool_kv_heads.misconception(
    "as many rows as before",
    "You write each mean back to all heads of its group, so as many rows as before are left. The numbers are right, "
    "but nothing is saved: each group becomes one head.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    heads = heads_of(weight, n_kv_heads, pooled_kv_heads)
    return heads.mean(dim=1, keepdim=True).expand_as(heads).flatten(0, 2)


@mean_pool_kv_heads.misconception(
    "group_size taken for the number of heads",
    "You read pooled_kv_heads as the number of heads that become one. It is the number of heads to have afterwards.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    return reference(weight, n_kv_heads, n_kv_heads // heads_of(weight, n_kv_heads, pooled_kv_heads).shape[0])


@mean_pool_kv_heads.misconception(
    "float32 goes out",
    "The numbers are right, but in float32, where weight was bfloat16 or float16. Convert the result back.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    return reference(at_least_float32(weight), n_kv_heads, pooled_kv_heads)


@mean_pool_kv_heads.misconception(
    "the error of torch left to speak",
    "Where numbers do not divide, torch fails with a RuntimeError of its own, or a wrong result comes back. Check "
    "first, and raise a ValueError.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    return weight.unflatten(0, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1)).mean(dim=1).flatten(0, 1)


@mean_pool_kv_heads.misconception(
    "no gradients",
    "The numbers are right, but no gradient reaches weight: .detach(), .data, torch.no_grad or a new torch.tensor cuts "
    "it off.",
)
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    return reference(weight.detach(), n_kv_heads, pooled_kv_heads)


@mean_pool_kv_heads.alternative
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    rows, dim = weight.shape
    if rows % n_kv_heads or n_kv_heads % pooled_kv_heads:
        raise ValueError("sizes")
    group = n_kv_heads // pooled_kv_heads
    return weight.reshape(pooled_kv_heads, group, rows // n_kv_heads, dim).mean(1).reshape(-1, dim)


@mean_pool_kv_heads.alternative
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    refuse(weight, n_kv_heads, pooled_kv_heads)
    groups = weight.chunk(pooled_kv_heads)
    size = weight.shape[0] // n_kv_heads
    return torch.cat([sum(group.split(size)) / (n_kv_heads // pooled_kv_heads) for group in groups])


@mean_pool_kv_heads.alternative
def _(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    # As a product with a matrix of shares.
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group = n_kv_heads // pooled_kv_heads
    shares = torch.eye(pooled_kv_heads, device=weight.device).repeat_interleave(group, dim=1) / group
    heads = weight.unflatten(0, (n_kv_heads, -1)).float()
    return torch.einsum("ph,hrd->prd", shares, heads).flatten(0, 1).to(weight.dtype)
