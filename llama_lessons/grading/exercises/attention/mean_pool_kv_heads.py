"""Exercise 6: fewer key/value heads, each the mean of those that it replaces."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import (
    HALVES,
    at_least_float32,
    draw,
    exact,
    expect_close,
    expect_like,
    expect_same_for_views,
    expect_value_error,
    tensor,
)
from ...families import another_error, float32_out, needs_contiguous


def mean_pool_kv_heads(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    if weight.shape[0] % n_kv_heads or n_kv_heads % pooled_kv_heads:
        raise ValueError("sizes do not divide")
    group_size = n_kv_heads // pooled_kv_heads
    heads = at_least_float32(weight).unflatten(0, (pooled_kv_heads, group_size, -1))
    return heads.mean(dim=1).flatten(0, 1).to(weight.dtype)


def cases() -> list[tuple]:
    """Pairs, larger groups, one head of all, none pooled, half precision, a transposed weight, and refusals."""
    sizes = [(4, 2, 3, 5), (6, 2, 4, 3), (6, 3, 2, 4), (4, 1, 4, 4), (3, 3, 2, 4)]
    made = [(draw(n * head_dim, dim, seed=i), n, pooled) for i, (n, pooled, head_dim, dim) in enumerate(sizes)]
    made += [(draw(16, 8, seed=5, dtype=dtype) / 3, 4, 2) for dtype in (*HALVES, torch.float64)]
    made.append((draw(8, 6, seed=7, dtype=torch.float16).abs() * 2000 + 40_000, 4, 2))
    made.append((draw(5, 12, seed=8).transpose(0, 1), 4, 2))
    return [*made, (draw(10, 3), 4, 2), (draw(9, 3), 3, 2), (draw(12, 3), 2, 4)]


exercise = Exercise(
    mean_pool_kv_heads,
    points=3,
    minutes=8,
    cases=cases,
    returns=Tensor,
    hints=(
        "The rows of weight come head by head: the first head_dim rows make head 0. With 4 heads pooled to 2, heads 0 "
        "and 1 become one. Which rows of weight have to be averaged for the first row of the result?",
        "weight.unflatten(0, (a, b, c)) cuts the first axis into three: which new head, which of the old heads that it "
        "replaces, which row of the head. Then take the mean over one of them.",
    ),
)


def pooled_by_hand(weight: Tensor, n_kv_heads: int, pooled: int) -> Tensor:
    heads, size = exact(weight).chunk(n_kv_heads), n_kv_heads // pooled
    return torch.cat([reduce(torch.add, heads[i : i + size]) / size for i in range(0, n_kv_heads, size)])


@exercise.property("four heads of two rows, pooled to two and to one")
def four_heads_by_hand(answer: Callable) -> None:
    weight = tensor([[float(row)] * 3 for row in range(8)])
    for pooled, want in ((2, [1.0, 2.0, 5.0, 6.0]), (1, [3.0, 4.0])):
        got = answer(weight, 4, pooled)
        expect_like(got, shape=(2 * pooled, 3), dtype=torch.float32, where=f"8 rows, 4 heads pooled to {pooled}")
        expect_close(got[:, 0], torch.tensor(want), where=f"rows 0 to 7, 4 heads pooled to {pooled}")


@exercise.property("each new head is the mean of the heads that it replaces")
def means_of_neighbours(answer: Callable) -> None:
    sizes = [(4, 2, 3, 5), (6, 2, 4, 3), (6, 3, 4, 4), (8, 1, 2, 4), (4, 2, 4, 4), (9, 3, 64, 8), (12, 12, 1, 5)]
    for seed, (n_kv_heads, pooled, head_dim, dim) in enumerate(sizes):
        weight = draw(n_kv_heads * head_dim, dim, seed=seed)
        where = f"{n_kv_heads} heads of {head_dim} rows pooled to {pooled}"
        expect_close(answer(weight, n_kv_heads, pooled), pooled_by_hand(weight, n_kv_heads, pooled), where=where)


@exercise.property("the dtype of weight stays, and half precision is averaged in float32")
def half_precision(answer: Callable) -> None:
    for dtype, bits in (HALVES | {torch.float64: 20}).items():
        for n_kv_heads, pooled in ((4, 2), (6, 2), (16, 1)):
            weight = draw(n_kv_heads * 4, 64, dtype=dtype)
            where = f"{n_kv_heads} heads pooled to {pooled} in {str(dtype)[6:]}"
            got = answer(weight, n_kv_heads, pooled)
            expect_like(got, shape=(4 * pooled, 64), dtype=dtype, where=where)
            want = pooled_by_hand(weight, n_kv_heads, pooled)
            expect_close(got, want, where=where, rtol=2.1 * 2.0**-bits, atol=1e-6)
    large = tensor([[40_000.0, -60_000.0]] * 8, torch.float16)
    expect_close(answer(large, 4, 2), large[:4], where="float16 numbers of 40,000, whose sum float16 cannot hold")


@exercise.property("numbers need not lie in memory in the order of their axes")
def not_contiguous(answer: Callable) -> None:
    expect_same_for_views(answer, draw(12, 5), 6, 2, where="a weight")


@exercise.property("what a call returned stays as it is after the next one")
def results_of_their_own(answer: Callable) -> None:
    weight = draw(12, 5)
    got, _ = answer(weight, 6, 2), answer(-weight, 6, 2)
    expect_close(got, pooled_by_hand(weight, 6, 2), where="a result, after the next call")


@exercise.property("numbers that do not divide are refused with a ValueError")
def misfits_refused(answer: Callable) -> None:
    for rows, heads, pooled in ((10, 4, 2), (8, 3, 1), (12, 3, 2), (12, 2, 4), (9, 2, 2)):
        where = f"{rows} rows, {heads} heads to be pooled to {pooled}"
        expect_value_error(answer, draw(rows, 3), heads, pooled, where=where)


exercise.slips("""
    the sum, not the mean: .mean(dim=1) -> .sum(dim=1)
        You add the heads up. Keys become longer than their mean, and scores larger: divide by the heads of a group.
    divided by the number of new heads: .mean(dim=1) -> .sum(dim=1).div(pooled_kv_heads)
        You add the heads of a group up and divide by pooled_kv_heads. Divide by the number of heads in a group.
    divided by the number of all heads: .mean(dim=1) -> .sum(dim=1).div(n_kv_heads)
        You add the heads of a group up and divide by n_kv_heads. Divide by the number of heads in a group.
    heads that stand apart: (pooled_kv_heads, group_size, -1)) -> (group_size, pooled_kv_heads, -1)).transpose(0, 1)
        You pool heads that stand apart: with 4 heads and 2 groups, heads 0 and 2. Query heads share with their
        neighbours, so neighbours are pooled: heads 0 and 1.
    the mean over the groups: .mean(dim=1) -> .mean(dim=0)
        You take the mean over the groups, of heads that stand apart. The heads of one group become one.
    the mean within each head: .mean(dim=1) -> .mean(dim=2)
        You take the mean over the rows of each head. The heads of a group become one, row by row.
    groups that overlap: heads.mean(dim=1) -> heads.flatten(0, 1).unfold(0, group_size, 1)[:pooled_kv_heads].mean(-1)
        Your groups begin one head after the other, and overlap. The next group begins where the last one ends.
    group_size taken for the number of heads: (pooled_kv_heads, group_size, -1) -> (group_size, pooled_kv_heads, -1)
        Your groups have pooled_kv_heads heads. That is the number of groups; a group has n_kv_heads divided by it.
    neighbouring rows, not heads: group_size, -1)) -> -1, group_size)).transpose(1, 2)
        You average rows that stand side by side, mostly channels of one head. Row 0 of head 0 goes with that of head 1.
    channels taken for heads: pooled_kv_heads, group_size, -1)) -> -1, pooled_kv_heads, group_size)).permute(1, 2, 0, 3)
        You cut the rows as if they came channel by channel. They come head by head: the first head_dim rows are head 0.
    rows channel by channel: .flatten(0, 1) -> .transpose(0, 1).flatten(0, 1)
        The numbers are right, but their rows come out channel by channel. They belong head by head, as in weight.
    a mean of means: heads.mean(dim=1) -> reduce(lambda mean, head: (mean + head) / 2, heads.unbind(1))
        You average two heads, and their mean with the next: the last of three heads counts half, the others a quarter.
        Add all heads of a group up, and divide once.
    the last head of each group kept: heads.mean(dim=1) -> heads[:, -1]
        You keep the last head of each group and drop the others. Take their mean.
    one head of each group kept: heads.mean(dim=1) -> heads[:, 0]
        You keep the first head of each group and drop the others, the other method of section 12. Take their mean.
    the first heads kept: heads.mean(dim=1).flatten(0, 1) -> weight[: weight.shape[0] // group_size]
        You keep the first pooled_kv_heads heads and drop the rest. Each new head is the mean of a whole group.
    heads left on an axis of their own: .mean(dim=1).flatten(0, 1) -> .mean(dim=1)
        The numbers are right, but heads have an axis of their own. Join them and their rows with .flatten(0, 1).
    pooled over channels too: .mean(dim=1).flatten(0, 1) -> .mean(dim=(1, 2))
        You average over the rows of a head as well, so that each has one row. Only the heads of a group become one.
    all heads into one: heads.mean(dim=1) -> heads.mean(dim=(0, 1)).expand(pooled_kv_heads, -1, -1)
        Each new head is the mean of all heads. It is that of its own group alone.
    as many rows as before: heads.mean(dim=1) -> heads.mean(dim=1, keepdim=True).expand_as(heads).flatten(0, 1)
        The numbers are right, but each mean is written to all heads of its group, so nothing is saved: write it once.
    summed in half precision: heads.mean(dim=1) -> (sum(heads.to(weight.dtype).unbind(1)) / group_size)
        You add half precision up in half precision. Above 65,504 a float16 sum is infinite, and each sum is rounded to
        two or three digits: go to float32 first, and back at the end.
    weight changed in place: return heads.mean(dim=1) -> heads[:, 0] = heads.mean(dim=1); return heads[:, 0]
        The numbers are right, but weight itself is changed on the way, and its owner may still need it: += and what
        ends in an underscore change a tensor in place, and a slice of weight, or weight.float() in float32, is weight.
    rows not checked: weight.shape[0] % n_kv_heads or n_kv_heads % -> n_kv_heads %
        Rows that do not divide into heads are not refused with a ValueError. Look at weight.shape[0] % n_kv_heads.
    heads not checked: n_kv_heads or n_kv_heads % pooled_kv_heads -> n_kv_heads
        Heads that do not divide into groups are not refused with a ValueError. Look at n_kv_heads % pooled_kv_heads.
""")
another_error(exercise)
float32_out(exercise, "weight")
needs_contiguous(exercise, "weight")


@exercise.misconception
def columns_in_place_of_rows(weight, n_kv_heads, pooled_kv_heads):
    """You pool columns of weight, which are the channels that come in. Row r of a projection makes channel r: the heads
    are among the rows."""
    mean_pool_kv_heads(weight, n_kv_heads, pooled_kv_heads)
    return weight.unflatten(1, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1)).mean(dim=2).flatten(1)


@exercise.misconception
def rows_or_heads_left_over_dropped(weight, n_kv_heads, pooled_kv_heads):
    """Rows or heads that do not divide are dropped without a word: // rounds down. Raise a ValueError."""
    used, head_dim = n_kv_heads // pooled_kv_heads * pooled_kv_heads, weight.shape[0] // n_kv_heads
    return mean_pool_kv_heads(weight[: used * head_dim], used, pooled_kv_heads)
