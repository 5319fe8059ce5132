"""Answers that no catalogue lists: right ones written in unusual ways pass, wrong ones do not."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from llama_lessons import rope
from tests.grading.answers import Answers, assert_fails, assert_passes

ANSWERS = Answers()
right, wrong = ANSWERS.right, ANSWERS.wrong


# ---------------------------------------------------------------------------------------- is_order_blind


@right("is_order_blind")
def with_numpy(mix, x):
    draw = np.random.default_rng(0)
    orders = [torch.from_numpy(draw.permutation(x.shape[1])) for _ in range(8)]
    return all(bool(np.allclose(mix(x[:, o]).cpu().numpy(), mix(x).cpu().numpy()[:, o], atol=1e-4)) for o in orders)


@right("is_order_blind")
def with_shuffled_list(mix, x):
    order = list(range(x.shape[1]))
    for _ in range(8):
        random.shuffle(order)
        if (mix(x[:, order]) - mix(x)[:, order]).abs().max() > 5e-4:
            return False
    return True


@right("is_order_blind")
def put_back_with_argsort(mix, x):
    orders = [torch.randperm(x.shape[1]) for _ in range(6)]
    return all(torch.allclose(mix(x[:, o])[:, o.argsort()], mix(x), atol=1e-5) for o in orders)


@right("is_order_blind")
def with_permutation_matrices(mix, x):
    matrices = [torch.eye(x.shape[1])[torch.randperm(x.shape[1])].to(x) for _ in range(6)]
    return all(torch.allclose(mix(p @ x), p @ mix(x), atol=1e-4) for p in matrices)


@wrong("is_order_blind")
def raises_instead_of_answering(mix, x):
    order = torch.randperm(x.shape[1])
    torch.testing.assert_close(mix(x[:, order]), mix(x)[:, order], rtol=0, atol=1e-4)
    return True


@wrong("is_order_blind")
def forgets_channels(mix, x):
    orders = [torch.randperm(x.shape[1]) for _ in range(6)]
    return all(torch.allclose(mix(x[:, o])[..., 0].sum(1), mix(x)[:, o][..., 0].sum(1), atol=1e-3) for o in orders)


@wrong("is_order_blind")
def middle_tokens_only(mix, x):
    orders = [torch.randperm(x.shape[1]) for _ in range(6)]
    middle = x.shape[1] // 2
    return all(torch.allclose(mix(x[:, o])[:, middle], mix(x)[:, o[middle]], atol=1e-4) for o in orders[:1])


@wrong("is_order_blind")
def by_the_name_of_the_function(mix, x):
    return "position" not in mix.__name__


@wrong("is_order_blind")
def shuffles_x_itself(mix, x):
    before, order = mix(x), torch.randperm(x.shape[1])
    x[:] = x[:, order]
    return torch.allclose(mix(x), before[:, order], atol=1e-4)


@wrong("is_order_blind")
def very_loose(mix, x):
    orders = [torch.randperm(x.shape[1]) for _ in range(6)]
    return all(torch.allclose(mix(x[:, o]), mix(x)[:, o], atol=0.5) for o in orders)


# -------------------------------------------------------------------------------------- rope_frequencies


def refuse_odd(head_dim):
    if head_dim % 2:
        raise ValueError(f"head_dim {head_dim} is odd")


@right("rope_frequencies")
def frequencies_by_numpy(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.from_numpy(np.power(theta, -np.arange(0, head_dim, 2) / head_dim))


@right("rope_frequencies")
def frequencies_by_logspace(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    n = head_dim // 2
    return torch.logspace(0, -(n - 1) / n, n, base=theta, dtype=torch.float64)


@right("rope_frequencies")
def frequencies_as_parameter(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return nn.Parameter(theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim))


@right("rope_frequencies")
def frequencies_not_contiguous(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return (theta ** (torch.arange(0, -head_dim, -1, dtype=torch.float64) / head_dim))[::2]


@right("rope_frequencies")
def frequencies_by_multiplying(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    found = [1.0]
    while len(found) < head_dim // 2:
        found.append(found[-1] * theta ** (-2 / head_dim))
    return torch.tensor(found, dtype=torch.float64)


@right("rope_frequencies")
def frequencies_by_complex_numbers(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.exp(
        torch.complex(
            torch.arange(0, head_dim, 2).double() * (-math.log(theta) / head_dim), torch.zeros(head_dim // 2).double()
        )
    ).real


@wrong("rope_frequencies")
def frequencies_cast_at_the_end(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return (1.0 / (theta ** (torch.arange(0, head_dim, 2).float() / head_dim))).double()


@wrong("rope_frequencies")
def frequencies_with_an_assert(head_dim, theta=10_000.0):
    assert head_dim % 2 == 0
    return rope.rope_frequencies(head_dim, theta)


@wrong("rope_frequencies")
def frequencies_as_column(head_dim, theta=10_000.0):
    return rope.rope_frequencies(head_dim, theta)[:, None]


@wrong("rope_frequencies")
def frequencies_for_one_theta(head_dim, theta=500_000.0):
    return rope.rope_frequencies(head_dim, theta)


# ------------------------------------------------------------------- apply_rope, apply_rope_interleaved


def rotation(cos, sin, layout):
    """One matrix for each position, (seq_len, head_dim, head_dim)."""
    n = cos.shape[-1]
    i = torch.arange(n, device=cos.device)
    a, b = (i, i + n) if layout == "half" else (2 * i, 2 * i + 1)
    matrix = torch.zeros(len(cos), 2 * n, 2 * n, device=cos.device)
    matrix[:, a, a], matrix[:, b, b], matrix[:, a, b], matrix[:, b, a] = cos, cos, -sin, sin
    return matrix


@right("apply_rope")
def rotated_by_einsum(x, cos, sin):
    return torch.einsum("sij,bhsj->bhsi", rotation(cos, sin, "half"), x.float()).to(x.dtype)


@right("apply_rope")
def rotated_by_vmap(x, cos, sin):
    def one(v, c, s):
        a, b = v.chunk(2)
        return torch.cat((a * c - b * s, b * c + a * s))

    over_tokens = torch.func.vmap(one)
    over_heads = torch.func.vmap(over_tokens, in_dims=(0, None, None))
    return torch.func.vmap(over_heads, in_dims=(0, None, None))(x.float(), cos, sin).to(x.dtype)


@right("apply_rope")
def rotated_in_float64(x, cos, sin):
    a, b = x.double().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


@right("apply_rope")
def rotated_in_place_on_a_copy(x, cos, sin):
    y = x.float().clone() if x.dtype != torch.float32 else x.clone()
    n = cos.shape[-1]
    a = y[..., :n].clone()
    y[..., :n].mul_(cos).sub_(y[..., n:] * sin)
    y[..., n:].mul_(cos).add_(a * sin)
    return y.type(x.dtype)


@right("apply_rope")
def rotated_as_hugging_face_does(x, cos, sin):
    cos, sin = torch.cat((cos, cos), -1)[None, None], torch.cat((sin, sin), -1)[None, None]
    n = x.shape[-1] // 2
    rotated = torch.cat((-x[..., n:], x[..., :n]), dim=-1)
    return (x * cos + rotated * sin).to(x.dtype)


@wrong("apply_rope")
def rotated_token_by_token(x, cos, sin):
    n = cos.shape[-1]
    tokens = []
    for i in range(x.shape[-2]):
        v = x[..., i, :].float()
        tokens.append(
            torch.cat((v[..., :n] * cos[i] - v[..., n:] * sin[i], v[..., n:] * cos[i] + v[..., :n] * sin[i]), -1)
        )
    return torch.stack(tokens, dim=-2).to(x.dtype)


@right("apply_rope")
def rotated_and_left_transposed(x, cos, sin):
    a, b = x.float().transpose(-1, -2).chunk(2, dim=-2)
    cos, sin = cos.T, sin.T
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-2).transpose(-1, -2).to(x.dtype)


class Rotation(torch.autograd.Function):
    """A rotation with a backward pass written by hand."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return rope.apply_rope(x, cos, sin)

    @staticmethod
    def backward(ctx, gradient):
        cos, sin = ctx.saved_tensors
        return rope.apply_rope(gradient, cos, -sin), None, None


@right("apply_rope")
def rotated_with_its_own_backward(x, cos, sin):
    return Rotation.apply(x, cos, sin)


@right("apply_rope_interleaved")
def pairs_by_einsum(x, cos, sin):
    return torch.einsum("sij,bhsj->bhsi", rotation(cos, sin, "interleaved"), x.float()).to(x.dtype)


@right("apply_rope_interleaved")
def pairs_by_polar(x, cos, sin):
    turned = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(turned * torch.polar(torch.ones_like(cos), torch.atan2(sin, cos))).flatten(3).type_as(x)


@right("apply_rope_interleaved")
def pairs_by_reordering(x, cos, sin):
    n = cos.shape[-1]
    to_half = torch.arange(2 * n).reshape(n, 2).T.reshape(-1)
    return rope.apply_rope(x[..., to_half], cos, sin)[..., to_half.argsort()]


@wrong("apply_rope")
def first_row_for_all(x, cos, sin):
    return rope.apply_rope(x[:1].expand_as(x), cos, sin)


@wrong("apply_rope")
def first_head_for_all(x, cos, sin):
    return rope.apply_rope(x[:, :1].expand_as(x), cos, sin)


@wrong("apply_rope")
def tables_made_anew_from_position_0(x, cos, sin):
    tables = rope.rope_tables(torch.arange(x.shape[2], device=x.device), rope.rope_frequencies(x.shape[3]))
    return rope.apply_rope(x, *tables)


@wrong("apply_rope")
def changes_the_tables(x, cos, sin):
    sin *= -1
    return rope.apply_rope(x, cos, -sin)


@wrong("apply_rope")
def every_token_as_the_last(x, cos, sin):
    return rope.apply_rope(x, cos[-1:].expand_as(cos), sin[-1:].expand_as(sin))


@wrong("apply_rope")
def loses_its_gradient_in_part(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return rope.apply_rope(torch.cat((a, b.detach()), dim=-1), cos, sin)


@wrong("apply_rope_interleaved")
def two_dimensions_too_many(x, cos, sin):
    return rope.apply_rope(x, cos, sin, "interleaved").unflatten(-1, (-1, 2))


# --------------------------------------------------------------------------------------- to_interleaved


@right("to_interleaved")
def rows_by_einops_like_permute(weight, n_heads):
    rows = weight.shape[0]
    if rows % n_heads or (rows // n_heads) % 2:
        raise ValueError("sizes")
    return weight.view(n_heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


@right("to_interleaved")
def rows_by_a_permutation_matrix(weight, n_heads):
    rows = weight.shape[0]
    if rows % (2 * n_heads):
        raise ValueError("sizes")
    order = torch.arange(rows).view(n_heads, 2, -1).mT.flatten()
    return (torch.eye(rows)[order].to(weight) @ weight).contiguous()


@right("to_interleaved")
def rows_head_by_head(weight, n_heads):
    if weight.shape[0] % (2 * n_heads):
        raise ValueError("sizes")
    heads = []
    for head in weight.chunk(n_heads):
        first, second = head.chunk(2)
        heads += [row for pair in zip(first, second, strict=True) for row in pair]
    return torch.stack(heads)


@right("to_interleaved")
def rows_as_parameter(weight, n_heads):
    return nn.Parameter(rope.to_interleaved(weight.detach(), n_heads))


@wrong("to_interleaved")
def rows_for_even_heads_only_refused_by_torch(weight, n_heads):
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


@wrong("to_interleaved")
def rows_squared(weight, n_heads):
    return rope.to_interleaved(weight, n_heads).float()


@wrong("to_interleaved")
def rows_of_the_first_head_only(weight, n_heads):
    size = weight.shape[0] // n_heads
    return torch.cat((rope.to_interleaved(weight[:size], 1), rope.to_interleaved(weight, n_heads)[size:] * 0))


# ------------------------------------------------------------------------------------ rotate_new_tokens


def turned(q, k, positions, theta):
    tables = rope.rope_tables(positions, rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


@right("rotate_new_tokens")
def returns_a_list(q, k, n_cached, theta=10_000.0):
    return list(turned(q, k, torch.arange(q.shape[2], device=q.device) + n_cached, theta))


@right("rotate_new_tokens")
def both_at_once(q, k, n_cached, theta=10_000.0):
    positions = torch.arange(q.shape[2], device=q.device) + n_cached
    both = rope.apply_rope(
        torch.cat((q, k), dim=1), *rope.rope_tables(positions, rope.rope_frequencies(q.shape[-1], theta))
    )
    return both.split((q.shape[1], k.shape[1]), dim=1)


@right("rotate_new_tokens")
def by_complex_numbers(q, k, n_cached, theta=10_000.0):
    n = q.shape[-1] // 2
    positions = torch.arange(n_cached, n_cached + q.shape[-2], device=q.device)
    turns = torch.polar(torch.ones(()), positions[:, None] * theta ** (-torch.arange(n, device=q.device) / n))

    def turn(x):
        result = torch.complex(x[..., :n].float(), x[..., n:].float()) * turns
        return torch.cat((result.real, result.imag), -1).to(x.dtype)

    return turn(q), turn(k)


@wrong("rotate_new_tokens")
def k_and_q_exchanged(q, k, n_cached, theta=10_000.0):
    return turned(q, k, torch.arange(q.shape[2], device=q.device) + n_cached, theta)[::-1]


@wrong("rotate_new_tokens")
def length_of_the_cache_twice(q, k, n_cached, theta=10_000.0):
    return turned(q, k, torch.arange(q.shape[2], device=q.device) + 2 * n_cached, theta)


@wrong("rotate_new_tokens")
def as_many_heads_as_keys(q, k, n_cached, theta=10_000.0):
    q, k = turned(q, k, torch.arange(q.shape[2], device=q.device) + n_cached, theta)
    return q[:, : k.shape[1]], k


TABLES = {}


@wrong("rotate_new_tokens")
def tables_remembered_too_long(q, k, n_cached, theta=10_000.0):
    key = (q.shape[2], q.shape[3])
    if key not in TABLES:
        positions = torch.arange(q.shape[2]) + n_cached
        TABLES[key] = rope.rope_tables(positions, rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, *TABLES[key]), rope.apply_rope(k, *TABLES[key])


@wrong("rotate_new_tokens")
def no_gradients(q, k, n_cached, theta=10_000.0):
    return turned(q.detach(), k.detach(), torch.arange(q.shape[2], device=q.device) + n_cached, theta)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.right_ones)
def test_an_unusual_right_answer_passes(exercise, answer):
    assert_passes(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.wrong_ones)
def test_an_unlisted_wrong_answer_fails(exercise, answer):
    assert_fails(exercise, answer)
