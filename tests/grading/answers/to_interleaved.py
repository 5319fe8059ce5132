"""Other answers to to_interleaved."""

import numpy as np
import torch
from torch import nn

from llama_lessons import rope
from tests.grading.answers import right, wrong

right(rope.to_interleaved)


def refuse(weight, n_heads):
    if weight.shape[0] % (2 * n_heads):
        raise ValueError("sizes")


@right
def by_an_index(weight, n_heads):
    rows = weight.shape[0]
    if rows % n_heads != 0 or rows // n_heads % 2 != 0:
        raise ValueError("sizes")
    size = rows // n_heads
    heads, pairs = range(n_heads), range(size // 2)
    return weight[[head * size + pair + half * size // 2 for head in heads for pair in pairs for half in (0, 1)]]


@right
def stacked_behind_the_pairs(weight, n_heads):
    refuse(weight, n_heads)
    first, second = weight.reshape(n_heads, weight.shape[0] // n_heads, -1).chunk(2, dim=1)
    return torch.stack((first, second), dim=2).reshape(weight.shape)


@right
def into_an_empty_tensor(weight, n_heads):
    refuse(weight, n_heads)
    result = torch.empty_like(weight)
    size = weight.shape[0] // n_heads
    for start in range(0, weight.shape[0], size):
        result[start : start + size : 2] = weight[start : start + size // 2]
        result[start + 1 : start + size : 2] = weight[start + size // 2 : start + size]
    return result


@right
def as_the_converter_of_llama_cpp_does(weight, n_heads):
    rows = weight.shape[0]
    if rows % n_heads or (rows // n_heads) % 2:
        raise ValueError("sizes")
    return weight.view(n_heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


@right
def by_a_permutation_matrix(weight, n_heads):
    refuse(weight, n_heads)
    rows = weight.shape[0]
    order = torch.arange(rows).view(n_heads, 2, -1).mT.flatten()
    return (torch.eye(rows)[order].to(weight) @ weight).contiguous()


@right
def head_by_head(weight, n_heads):
    refuse(weight, n_heads)
    heads = []
    for head in weight.chunk(n_heads):
        first, second = head.chunk(2)
        heads += [row for pair in zip(first, second, strict=True) for row in pair]
    return torch.stack(heads)


@right
def as_a_parameter(weight, n_heads):
    return nn.Parameter(rope.to_interleaved(weight.detach(), n_heads))


@right
def through_numpy(weight, n_heads):
    refuse(weight, n_heads)
    rows = weight.detach().cpu().double().numpy()
    heads = rows.reshape(n_heads, 2, -1, *rows.shape[1:])
    return torch.from_numpy(np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(rows.shape)).to(weight)


@right
def without_gradients(weight, n_heads):
    with torch.no_grad():
        return rope.to_interleaved(weight, n_heads)


NAMES = ("one big head", "the other direction", "not reordered")


@wrong(called="a RuntimeError for sizes that do not fit")
def only_refused_by_torch(weight, n_heads):
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


@wrong(called="float32 whatever weight is")
def float32_always(weight, n_heads):
    return rope.to_interleaved(weight, n_heads).float()


@wrong(never=NAMES)
def all_but_the_first_head_zero(weight, n_heads):
    size = weight.shape[0] // n_heads
    return torch.cat((rope.to_interleaved(weight[:size], 1), rope.to_interleaved(weight, n_heads)[size:] * 0))


@wrong(called="one big head")
def over_all_rows(weight, n_heads):
    refuse(weight, n_heads)
    first, second = weight.chunk(2)
    return torch.stack((first, second), dim=1).reshape(weight.shape)


@wrong(called="one big head, and the other direction")
def even_rows_then_odd_ones(weight, n_heads):
    refuse(weight, n_heads)
    return torch.cat((weight[0::2], weight[1::2]))


@wrong(called="the other direction")
def even_rows_of_each_head_then_odd_ones(weight, n_heads):
    refuse(weight, n_heads)
    return torch.cat([torch.cat((head[0::2], head[1::2])) for head in weight.chunk(n_heads)])


@wrong(called="the other direction")
def by_the_inverse_index(weight, n_heads):
    refuse(weight, n_heads)
    order = torch.arange(len(weight)).view(n_heads, 2, -1).mT.flatten()
    return weight[order.argsort()]


@wrong(called="the other direction")
def written_to_the_index(weight, n_heads):
    refuse(weight, n_heads)
    result = torch.empty_like(weight)
    result[torch.arange(len(weight)).view(n_heads, 2, -1).mT.flatten()] = weight
    return result


@wrong(called="not reordered")
def stacked_along_the_wrong_axis(weight, n_heads):
    refuse(weight, n_heads)
    first, second = weight.reshape(n_heads, -1, *weight.shape[1:]).chunk(2, dim=1)
    return torch.stack((first, second), dim=1).reshape(weight.shape)


@wrong(called="not reordered")
def viewed_in_another_shape(weight, n_heads):
    refuse(weight, n_heads)
    return weight.reshape(n_heads, -1, 2, *weight.shape[1:]).reshape(weight.shape)


@wrong(called="woven along the columns")
def stacked_behind_the_columns(weight, n_heads):
    refuse(weight, n_heads)
    first, second = weight.reshape(n_heads, -1, *weight.shape[1:]).chunk(2, dim=1)
    return torch.stack((first, second), dim=-1).reshape(weight.shape)


@wrong(called="heads woven into each other")
def heads_last(weight, n_heads):
    refuse(weight, n_heads)
    return weight.reshape(n_heads, -1, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape)


@wrong(called="cut into halves before heads")
def view_of_another_order(weight, n_heads):
    refuse(weight, n_heads)
    return weight.reshape(2, n_heads, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


@wrong(called="one big head")
def halves_of_the_whole(weight, n_heads):
    refuse(weight, n_heads)
    return weight.unflatten(0, (2, n_heads, -1)).movedim(0, 2).flatten(0, 2)


@wrong(called="columns instead of rows")
def columns_by_an_index(weight, n_heads):
    refuse(weight, n_heads)
    order = torch.arange(len(weight)).view(n_heads, 2, -1).mT.flatten()
    return weight[:, order]


@wrong(called="n_heads taken for head_dim")
def heads_of_n_heads_rows(weight, n_heads):
    refuse(weight, n_heads)
    return weight.unflatten(0, (-1, 2, n_heads // 2)).transpose(1, 2).flatten(0, 2)


@wrong(called="two axes asked for")
def a_weight_alone(weight, n_heads):
    rows, dim = weight.shape
    refuse(weight, n_heads)
    return weight.view(n_heads, 2, rows // n_heads // 2, dim).transpose(1, 2).reshape(rows, dim)


@wrong(called="columns asked for")
def a_weight_alone_by_index(weight, n_heads):
    refuse(weight, n_heads)
    rows, dim = weight.shape[0], weight.shape[1]
    return weight.reshape(n_heads, 2, rows // n_heads // 2, dim).transpose(1, 2).reshape(rows, dim)


@wrong(called="as many columns as rows")
def a_query_projection_alone(weight, n_heads):
    refuse(weight, n_heads)
    head_dim = weight.shape[-1] // n_heads
    return weight.unflatten(0, (n_heads, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


@wrong(called="second half first")
def the_second_half_first(weight, n_heads):
    refuse(weight, n_heads)
    first, second = weight.unflatten(0, (n_heads, -1)).chunk(2, dim=1)
    return torch.stack((second, first), dim=2).reshape(weight.shape)


@wrong(called="only the first head")
def the_first_head_alone(weight, n_heads):
    refuse(weight, n_heads)
    size = len(weight) // n_heads
    result = weight.clone()
    result[0:size:2], result[1:size:2] = weight[: size // 2], weight[size // 2 : size]
    return result


@wrong(called="odd heads")
def heads_of_any_size(weight, n_heads):
    if len(weight) % n_heads:
        raise ValueError("rows")
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


@wrong()
def an_assert(weight, n_heads):
    assert len(weight) % (2 * n_heads) == 0
    return rope.to_interleaved(weight, n_heads)


@wrong(called="weight overwritten")
def in_place(weight, n_heads):
    refuse(weight, n_heads)
    weight[:] = rope.to_interleaved(weight, n_heads)
    return weight


@wrong(never=NAMES)
def in_place_while_reading(weight, n_heads):
    refuse(weight, n_heads)
    size = len(weight) // n_heads
    for start in range(0, len(weight), size):
        half = size // 2
        weight[start : start + size : 2] = weight[start : start + half].clone()
        weight[start + 1 : start + size : 2] = weight[start + half : start + size].clone()
    return weight


@wrong(never=NAMES)
def rows_and_columns(weight, n_heads):
    refuse(weight, n_heads)
    order = torch.arange(len(weight)).view(n_heads, 2, -1).mT.flatten()
    return weight[order][:, order]


@wrong(called="the first head for all")
def the_index_of_one_head_for_all(weight, n_heads):
    refuse(weight, n_heads)
    head_dim = weight.shape[0] // n_heads
    return weight[[i // 2 + (i % 2) * (head_dim // 2) for i in range(head_dim)] * n_heads]


@wrong(called="not reordered")
def neighbours_stacked_as_neighbours(weight, n_heads):
    refuse(weight, n_heads)
    heads = weight.unflatten(0, (n_heads, -1))
    return torch.stack((heads[:, 0::2], heads[:, 1::2]), dim=2).flatten(0, 2)


@wrong(called="first halves before second halves")
def halves_stacked_in_front(weight, n_heads):
    refuse(weight, n_heads)
    return torch.stack(weight.unflatten(0, (n_heads, -1)).chunk(2, dim=1)).reshape(weight.shape)


@wrong(called="the same for other numbers")
def the_order_instead_of_the_rows(weight, n_heads):
    refuse(weight, n_heads)
    return torch.arange(len(weight)).view(n_heads, 2, -1).mT.flatten()


@wrong()
def through_float32(weight, n_heads):
    return rope.to_interleaved(weight.float(), n_heads).to(weight.dtype)


@wrong(called="a bias left as it is")
def for_matrices_alone(weight, n_heads):
    refuse(weight, n_heads)
    if weight.ndim == 1:
        return weight
    return rope.to_interleaved(weight, n_heads)


@wrong(called="odd heads lose a row")
def rows_even_in_all_but_not_in_each_head(weight, n_heads):
    if len(weight) % 2 or len(weight) % n_heads:
        raise ValueError("rows")
    head_dim, half = len(weight) // n_heads, len(weight) // n_heads // 2
    return weight[[h * head_dim + i + j for h in range(n_heads) for i in range(half) for j in (0, half)]]
