"""Causal grouped-query attention against the formula, written out, and Hugging Face."""

import re

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from llama_lessons.attention import GroupedQueryAttention, causal_attention
from llama_lessons.rope import RotaryEmbedding

HEADS = [(1, 1), (4, 4), (9, 3), (4, 1)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def formula(q, k, v):
    """One token, one head at a time, in float64: nothing that is later is ever looked at."""
    group_size = q.shape[1] // k.shape[1]
    out = torch.zeros_like(q, dtype=torch.float64)
    for head in range(q.shape[1]):
        for t in range(q.shape[2]):
            past_k = k[:, head // group_size, : t + 1].double()
            past_v = v[:, head // group_size, : t + 1].double()
            scores = torch.einsum("bd,btd->bt", q[:, head, t].double(), past_k) / q.shape[-1] ** 0.5
            out[:, head, t] = torch.einsum("bt,btd->bd", scores.softmax(dim=-1), past_v)
    return out


@pytest.mark.parametrize("seq_len", [1, 2, 17])
@pytest.mark.parametrize("heads", HEADS)
def test_agrees_with_the_formula(heads, seq_len):
    n_heads, n_kv_heads = heads
    q = torch.randn(2, n_heads, seq_len, 16)
    k, v = torch.randn(2, 2, n_kv_heads, seq_len, 16)
    torch.testing.assert_close(causal_attention(q, k, v), formula(q, k, v).float(), atol=2e-6, rtol=0)


def test_gradients():
    q, k, v = (torch.randn(2, heads, 3, 4, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    assert torch.autograd.gradcheck(causal_attention, (q, k, v))


@pytest.mark.parametrize("heads", [(4, 4), (9, 3), (4, 1)])
def test_layer_agrees_with_hugging_face(heads):
    n_heads, n_kv_heads = heads
    dim, head_dim, seq_len = 36, 8, 11
    config = LlamaConfig(
        hidden_size=dim,
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        head_dim=head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attn_implementation="eager",
    )
    theirs = LlamaAttention(config, layer_idx=0)
    ours = GroupedQueryAttention(dim, n_heads, n_kv_heads, head_dim)
    ours.load_state_dict(theirs.state_dict())
    x, positions = torch.randn(2, seq_len, dim), torch.arange(seq_len)
    mask = torch.full((seq_len, seq_len), float("-inf")).triu(1)
    expected, _ = theirs(x, LlamaRotaryEmbedding(config)(x, positions[None]), mask)
    torch.testing.assert_close(ours(x, RotaryEmbedding(head_dim)(positions)), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("heads", HEADS)
def test_no_token_sees_a_later_one_nor_another_row(heads):
    layer = GroupedQueryAttention(24, *heads, head_dim=8)
    rotate = RotaryEmbedding(8)(torch.arange(6))
    x = torch.randn(2, 6, 24)
    out = layer(x, rotate)
    for t in range(6):
        changed = x.clone()
        changed[0, t] = torch.randn(24)
        moved = (layer(changed, rotate) - out).abs().amax(dim=-1) > 1e-6
        assert moved[0].tolist() == [False] * t + [True] * (6 - t)
        assert not moved[1].any()


def test_values_are_not_rotated():
    layer = GroupedQueryAttention(24, 4, 2, 8)
    seen = []

    def rotate(x):
        seen.append(tuple(x.shape))
        return x

    layer(torch.randn(2, 5, 24), rotate)
    assert seen == [(2, 4, 5, 8), (2, 2, 5, 8)]


def test_parameters_have_no_bias_and_one_shape_for_keys_and_values():
    layer = GroupedQueryAttention(576, 9, 3, 64)
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    assert shapes == {
        "q_proj.weight": (576, 576),
        "k_proj.weight": (192, 576),
        "v_proj.weight": (192, 576),
        "o_proj.weight": (576, 576),
    }


def ones(*shape):
    return torch.ones(shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: causal_attention(ones(1, 10, 3, 8), *[ones(1, 4, 3, 8)] * 2), "n_heads (10) must be a multiple of"),
        (lambda: causal_attention(ones(1, 2, 3, 8), *[ones(1, 4, 3, 8)] * 2), "n_heads (2) must be a multiple of"),
        (lambda: causal_attention(ones(1, 2, 3, 8), ones(1, 2, 3, 8), ones(1, 2, 4, 8)), "v (1, 2, 4, 8) must have"),
        (lambda: causal_attention(ones(1, 2, 4, 8), *[ones(1, 2, 3, 8)] * 2), "q (1, 2, 4, 8) and k (1, 2, 3, 8)"),
        (lambda: causal_attention(ones(2, 2, 3, 8), *[ones(1, 2, 3, 8)] * 2), "q (2, 2, 3, 8) and k (1, 2, 3, 8)"),
        (lambda: causal_attention(*[ones(2, 3, 8)] * 3), "must be (batch, n_heads, seq_len, head_dim)"),
        (lambda: GroupedQueryAttention(64, 10, 4, 8), "n_heads (10) must be a multiple of n_kv_heads (4)"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
