"""Other answers to mean_pool_kv_heads."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import attention
from tests.grading.answers import right, wrong

right(attention.mean_pool_kv_heads)


def refuse(weight, n, m):
    if weight.shape[0] % n or n % m:
        raise ValueError("sizes")


@right
def by_reshape(weight, n_kv_heads, pooled_kv_heads):
    rows, dim = weight.shape
    if rows % n_kv_heads or n_kv_heads % pooled_kv_heads:
        raise ValueError("sizes")
    group = n_kv_heads // pooled_kv_heads
    return weight.reshape(pooled_kv_heads, group, rows // n_kv_heads, dim).mean(1).reshape(-1, dim)


@right
def by_chunks(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    size = weight.shape[0] // n_kv_heads
    groups = [sum(group.float().split(size)) for group in weight.chunk(pooled_kv_heads)]
    return torch.cat(groups).div(n_kv_heads // pooled_kv_heads).to(weight.dtype)


@right
def by_a_matrix(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group = n_kv_heads // pooled_kv_heads
    shares = torch.eye(pooled_kv_heads, device=weight.device).repeat_interleave(group, dim=1) / group
    heads = weight.unflatten(0, (n_kv_heads, -1)).float()
    return torch.einsum("ph,hrd->prd", shares, heads).flatten(0, 1).to(weight.dtype)


@right
def by_average_pooling(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group, head_dim = n_kv_heads // pooled_kv_heads, weight.shape[0] // n_kv_heads
    rows = weight.float().unflatten(0, (n_kv_heads, head_dim)).flatten(1).T[None]  # (1, rows of a head, n_kv_heads)
    return F.avg_pool1d(rows, group)[0].T.reshape(-1, weight.shape[1]).to(weight.dtype)


@right
def by_columns_of_the_transpose(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    heads = weight.T.unflatten(-1, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1))
    return heads.mean(dim=2).flatten(1).T


@right
def by_adding_up(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group, size = n_kv_heads // pooled_kv_heads, weight.shape[0] // n_kv_heads
    new = []
    for start in range(0, n_kv_heads, group):
        total = torch.zeros_like(weight[:size], dtype=torch.float32)
        for head in range(start, start + group):
            total = total + weight[head * size : (head + 1) * size]
        new.append(total / group)
    return torch.cat(new).to(weight.dtype)


@right
def as_a_parameter(weight, n_kv_heads, pooled_kv_heads):
    return nn.Parameter(attention.mean_pool_kv_heads(weight, n_kv_heads, pooled_kv_heads).detach())


@right
def through_numpy(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    heads = np.split(weight.detach().cpu().double().numpy(), n_kv_heads)
    means = [np.mean(heads[i::1][: n_kv_heads // pooled_kv_heads], axis=0) for i in range(n_kv_heads)]
    return torch.from_numpy(np.concatenate(means[:: n_kv_heads // pooled_kv_heads])).to(weight)


@wrong()
def for_square_weights(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    heads = weight.unflatten(0, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1))
    return heads.mean(dim=1).reshape(-1, weight.shape[0] // n_kv_heads)


@wrong()
def always_pairs(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    return attention.mean_pool_kv_heads(weight, n_kv_heads, max(n_kv_heads // 2, 1))


@wrong()
def the_median(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    heads = weight.unflatten(0, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1))
    return heads.median(dim=1).values.flatten(0, 1)


@wrong()
def refuses_only_rows(weight, n_kv_heads, pooled_kv_heads):
    if weight.shape[0] % n_kv_heads:
        raise ValueError("rows")
    size = max(n_kv_heads // pooled_kv_heads, 1) * (weight.shape[0] // n_kv_heads)
    return torch.cat([part.unflatten(0, (-1, weight.shape[0] // n_kv_heads)).mean(0) for part in weight.split(size)])


@wrong(called="summed in half precision")
def added_in_its_own_dtype(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group = n_kv_heads // pooled_kv_heads
    heads = weight.reshape(pooled_kv_heads, group, -1, weight.shape[1])
    return (heads.sum(dim=1) / group).reshape(-1, weight.shape[1])


@wrong(called="summed in half precision")
def added_one_after_the_other(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    heads, group = weight.chunk(n_kv_heads), n_kv_heads // pooled_kv_heads
    return torch.cat([sum(heads[i : i + group]) / group for i in range(0, n_kv_heads, group)])


@wrong()
def divided_and_then_added_in_its_own_dtype(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    heads, group = weight.chunk(n_kv_heads), n_kv_heads // pooled_kv_heads
    return torch.cat([sum(head / group for head in heads[i : i + group]) for i in range(0, n_kv_heads, group)])


@wrong(called="weight changed in place")
def added_into_the_first_head(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group, means = n_kv_heads // pooled_kv_heads, []
    for first, *others in zip(*[iter(weight.chunk(n_kv_heads))] * group, strict=True):
        total = first
        for head in others:
            total += head.float()
        means.append(total.float() / group)
    return torch.cat(means).to(weight.dtype)


@wrong(called="only for a contiguous weight")
def viewed(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group, head_dim = n_kv_heads // pooled_kv_heads, weight.shape[0] // n_kv_heads
    heads = weight.view(pooled_kv_heads, group, head_dim * weight.shape[1])
    return heads.mean(dim=1).view(-1, weight.shape[1])


@wrong(called="heads that stand apart")
def with_a_step(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    heads = torch.stack(weight.chunk(n_kv_heads))
    return torch.cat([heads[i::pooled_kv_heads].mean(dim=0) for i in range(pooled_kv_heads)])


@wrong(called="neighbouring rows, not heads")
def rows_in_a_row(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    return weight.reshape(-1, n_kv_heads // pooled_kv_heads, weight.shape[1]).mean(dim=1)


@wrong(called="an assert, no ValueError")
def asserts(weight, n_kv_heads, pooled_kv_heads):
    assert weight.shape[0] % n_kv_heads == 0
    assert n_kv_heads % pooled_kv_heads == 0
    return attention.mean_pool_kv_heads(weight, n_kv_heads, pooled_kv_heads)


@wrong(called="a RuntimeError, no ValueError")
def reshaped_without_a_look(weight, n_kv_heads, pooled_kv_heads):
    group, head_dim = n_kv_heads // pooled_kv_heads, weight.shape[0] // n_kv_heads
    return weight.reshape(pooled_kv_heads, group, head_dim, -1).mean(dim=1).flatten(0, 1)


@wrong(called="the mean within each head")
def over_the_rows_of_a_head(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group, dim = n_kv_heads // pooled_kv_heads, weight.shape[1]
    return weight.reshape(pooled_kv_heads, group, -1, dim).mean(dim=2).reshape(-1, dim)


@wrong(called="groups that overlap")
def from_head_i_on(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    heads = torch.stack(weight.chunk(n_kv_heads))
    return torch.cat([heads[i : i + n_kv_heads // pooled_kv_heads].mean(dim=0) for i in range(pooled_kv_heads)])


@wrong(called="heads not checked")
def looks_at_the_rows_alone(weight, n_kv_heads, pooled_kv_heads):
    if weight.shape[0] % n_kv_heads:
        raise ValueError("rows")
    group, head_dim = n_kv_heads // pooled_kv_heads, weight.shape[0] // n_kv_heads
    return weight.reshape(pooled_kv_heads, group, head_dim, -1).mean(dim=1).reshape(-1, weight.shape[1])


@wrong(called="heads left on an axis of their own")
def stacked(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    return torch.stack(
        [torch.stack(x.chunk(n_kv_heads // pooled_kv_heads)).mean(0) for x in weight.chunk(pooled_kv_heads)]
    )


@wrong(called=None)
def float16_goes_out(weight, n_kv_heads, pooled_kv_heads):
    return attention.mean_pool_kv_heads(weight.float(), n_kv_heads, pooled_kv_heads).half()


memory = {}


@wrong()
def into_memory_of_an_earlier_call(weight, n_kv_heads, pooled_kv_heads):
    out = attention.mean_pool_kv_heads(weight, n_kv_heads, pooled_kv_heads)
    return memory.setdefault((out.shape, out.dtype), torch.empty_like(out)).copy_(out)


@wrong(called="weight changed in place")
def added_to_the_first_head(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    group_size = n_kv_heads // pooled_kv_heads
    heads = weight.float().unflatten(0, (pooled_kv_heads, group_size, -1))
    total = heads[:, 0]
    for head in range(1, group_size):
        total += heads[:, head]
    return (total / group_size).flatten(0, 1).to(weight.dtype)


@wrong(called="a mean of means")
def two_by_two(weight, n_kv_heads, pooled_kv_heads):
    refuse(weight, n_kv_heads, pooled_kv_heads)
    pooled = []
    for group in weight.float().chunk(pooled_kv_heads):
        mean, *others = group.chunk(n_kv_heads // pooled_kv_heads)
        for head in others:
            mean = 0.5 * (mean + head)
        pooled.append(mean)
    return torch.cat(pooled).to(weight.dtype)


@wrong(called="rows or heads left over dropped")
def without_checks(weight, n_kv_heads, pooled_kv_heads):
    group_size, rows = n_kv_heads // pooled_kv_heads, weight.shape[0] // n_kv_heads
    heads = weight.float().split(rows)
    pooled = [sum(heads[i * group_size : (i + 1) * group_size]) / group_size for i in range(pooled_kv_heads)]
    return torch.cat(pooled).to(weight.dtype)
