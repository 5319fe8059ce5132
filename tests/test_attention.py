"""Causal grouped-query attention against the formula, written out, and Hugging Face."""

import re

import pytest
import torch
import transformers.models.llama.modeling_llama as hugging_face
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from llama_lessons.attention import (
    GroupedQueryAttention,
    KVCache,
    attention_weights,
    causal_attention,
    causal_mask,
    kv_cache_bytes,
    manual_causal_attention,
    mean_pool_kv_heads,
    repeat_kv,
)
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


WAYS = [causal_attention, manual_causal_attention]


@pytest.mark.parametrize("seq_len", [1, 2, 17])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("attend", WAYS)
def test_agrees_with_the_formula(attend, heads, seq_len):
    n_heads, n_kv_heads = heads
    q = torch.randn(2, n_heads, seq_len, 16)
    k, v = torch.randn(2, 2, n_kv_heads, seq_len, 16)
    torch.testing.assert_close(attend(q, k, v), formula(q, k, v).float(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("query_len", [1, 3, 10])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("attend", WAYS)
def test_the_last_queries_see_what_they_see_among_all(attend, heads, query_len):
    n_heads, n_kv_heads = heads
    q = torch.randn(2, n_heads, 10, 16)
    k, v = torch.randn(2, 2, n_kv_heads, 10, 16)
    expected = formula(q, k, v).float()[:, :, -query_len:]
    torch.testing.assert_close(attend(q[:, :, -query_len:], k, v), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("query_len", [1, 6])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("attend", WAYS)
def test_a_mask_and_what_is_added_to_scores(attend, heads, query_len):
    n_heads, n_kv_heads = heads
    q = torch.randn(2, n_heads, query_len, 16)
    k, v = torch.randn(2, 2, n_kv_heads, 6, 16)
    keys_of_heads = k.repeat_interleave(n_heads // n_kv_heads, dim=1)
    values_of_heads = v.repeat_interleave(n_heads // n_kv_heads, dim=1)
    scores = q @ keys_of_heads.transpose(-2, -1) / 4
    allowed = torch.rand(2, 1, query_len, 6) < 0.5
    allowed[..., 0] = True
    added = torch.randn(n_heads, query_len, 6)
    for mask, expected in [
        (allowed, scores.masked_fill(~allowed, float("-inf"))),
        (added, scores + added),
        (added + torch.zeros(2, 1, 1, 1), scores + added),
        (allowed[0, 0], scores.masked_fill(~allowed[0, 0], float("-inf"))),
    ]:
        torch.testing.assert_close(attend(q, k, v, mask), expected.softmax(-1) @ values_of_heads, atol=2e-6, rtol=0)


def test_weights_are_causal_and_sum_to_one_and_taken_in_float32():
    q, k = torch.randn(2, 4, 5, 16), torch.randn(2, 2, 5, 16)
    weights = attention_weights(q, k)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 5))
    assert torch.equal(weights.triu(1), torch.zeros_like(weights))
    assert (weights.tril() > 0).sum() == 2 * 4 * 15
    rounded = attention_weights(q.bfloat16(), k.bfloat16())
    exact = attention_weights(q.bfloat16().float(), k.bfloat16().float())
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, exact.bfloat16())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("query_len", [1, 5])
@pytest.mark.parametrize("attend", WAYS)
def test_half_precision_is_rounded_once(attend, query_len, dtype):
    q, (k, v) = torch.randn(2, 4, query_len, 16).to(dtype), torch.randn(2, 2, 2, 5, 16).to(dtype)
    out, exact = attend(q, k, v), attend(q.float(), k.float(), v.float())
    assert out.dtype == dtype
    assert torch.equal(out, exact.to(dtype))


@pytest.mark.parametrize("attend", WAYS)
def test_a_row_that_reads_nothing_has_no_gradient_and_spoils_none(attend):
    q, k, v = (torch.randn(1, 2, 3, 8, requires_grad=True) for _ in range(3))
    allowed = torch.ones(3, 3, dtype=torch.bool)
    allowed[1] = False
    attend(q, k, v, allowed).square().sum().backward()
    assert torch.equal(q.grad[:, :, 1], torch.zeros(1, 2, 8))
    assert all(x.grad.isfinite().all() and x.grad.any() for x in (q, k, v))


@pytest.mark.parametrize("query_len", [1, 3])
def test_both_ways_agree_where_a_row_reads_nothing_and_on_nan(query_len):
    q, (k, v) = torch.randn(1, 4, query_len, 8), torch.randn(2, 1, 2, 4, 8)
    allowed = torch.ones(query_len, 4, dtype=torch.bool)
    allowed[0] = False
    for mask in (allowed, torch.zeros(query_len, 4).masked_fill(~allowed, float("-inf"))):
        out, manual = (attend(q, k, v, mask) for attend in (causal_attention, manual_causal_attention))
        assert torch.equal(out[:, :, 0], torch.zeros(1, 4, 8))
        torch.testing.assert_close(manual, out, atol=2e-6, rtol=0)
    k[0, 0, 3] = torch.nan
    out, manual = (attend(q, k, v, torch.arange(4) < 3) for attend in (causal_attention, manual_causal_attention))
    assert out[:, :2].isnan().all()
    assert out[:, 2:].isfinite().all()
    torch.testing.assert_close(manual, out, atol=2e-6, rtol=0, equal_nan=True)


@pytest.mark.parametrize("query_len", [1, 3])
@pytest.mark.parametrize(
    "mask", [torch.tensor(True), torch.arange(4) < 2, torch.tensor([0.5, -1.0, 0.0, 2.0]).double()]
)
@pytest.mark.parametrize("attend", WAYS)
def test_a_mask_of_few_axes_broadcasts(attend, mask, query_len):
    q, (k, v) = torch.randn(2, 4, query_len, 8), torch.randn(2, 2, 2, 4, 8)
    expected = attend(q, k, v, mask.expand(2, 4, query_len, 4))
    torch.testing.assert_close(attend(q, k, v, mask), expected, atol=2e-6, rtol=0)


def test_repeat_kv_agrees_with_hugging_face():
    x = torch.randn(2, 3, 5, 8)
    for group_size in (1, 2, 4):
        assert torch.equal(repeat_kv(x, group_size), hugging_face.repeat_kv(x, group_size))


def test_masks_by_hand():
    yes, no = True, False
    assert causal_mask(2, 3).tolist() == [[yes, yes, no], [yes, yes, yes]]
    left, right = [no, yes, yes], [yes, yes, no]
    mask = causal_mask(3, 3, torch.tensor([left, right]))
    assert mask.shape == (2, 1, 3, 3)
    assert mask[0, 0].tolist() == [[yes, no, no], [no, yes, no], [no, yes, yes]]
    assert mask[1, 0].tolist() == [[yes, no, no], [yes, yes, no], [yes, yes, yes]]


@pytest.mark.parametrize("chunks", [(1,) * 7, (3, 4), (5, 1, 1), (7,)])
@pytest.mark.parametrize("heads", HEADS)
def test_with_a_cache_as_without(heads, chunks):
    layer, x = GroupedQueryAttention(24, *heads, head_dim=8), torch.randn(2, 7, 24)
    rope, cache = RotaryEmbedding(8), KVCache(2, heads[1], 9, 8)
    expected = layer(x, rope(torch.arange(7)))
    with torch.no_grad():
        for chunk in x.split(chunks, dim=1):
            start = cache.length
            positions = torch.arange(start, start + chunk.shape[1])
            out = layer(chunk, rope(positions), cache=cache)
            torch.testing.assert_close(out, expected[:, start : cache.length], atol=2e-6, rtol=0)
    assert cache.length == 7


def test_a_cache_returns_all_it_was_given_and_takes_the_bytes_it_says():
    cache = KVCache(2, 3, 5, 4, torch.bfloat16)
    k, v = torch.randn(2, 2, 3, 5, 4).bfloat16()
    cache.append(k[:, :, :2], v[:, :, :2])
    keys, values = cache.append(k[:, :, 2:], v[:, :, 2:])
    assert torch.equal(keys, k)
    assert torch.equal(values, v)
    assert (cache.length, cache.max_seq_len, cache.keys.dtype) == (5, 5, torch.bfloat16)
    held = cache.keys.untyped_storage().nbytes() + cache.values.untyped_storage().nbytes()
    sizes = {"n_layers": 1, "n_kv_heads": 3, "head_dim": 4, "seq_len": 5, "batch": 2}
    assert cache.nbytes == held == kv_cache_bytes(**sizes, dtype=torch.bfloat16)
    assert kv_cache_bytes(**sizes) == 2 * held


def test_a_cache_that_overflows_stays_as_it_was():
    cache = KVCache(1, 1, 4, 2)
    k = torch.randn(1, 1, 3, 2)
    cache.append(k, k)
    with pytest.raises(ValueError, match=re.escape("2 more tokens do not fit: the cache holds 3 of max_seq_len (4)")):
        cache.append(k[:, :, :2], k[:, :, :2])
    assert cache.length == 3
    assert torch.equal(cache.append(k[:, :, :1], k[:, :, :1])[0], torch.cat((k, k[:, :, :1]), dim=2))


@pytest.mark.parametrize(
    ("n_kv_heads", "bytes_a_token"), [(8, 327_680), (64, 2_621_440)], ids=["as published", "without grouping"]
)
def test_bytes_a_token_of_llama_2_70b(n_kv_heads, bytes_a_token):
    sizes = {"n_layers": 80, "n_kv_heads": n_kv_heads, "head_dim": 128, "dtype": torch.bfloat16}
    assert kv_cache_bytes(seq_len=1, **sizes) == bytes_a_token
    assert kv_cache_bytes(seq_len=100, batch=3, **sizes) == 300 * bytes_a_token


def test_pooled_heads_are_means_of_neighbours():
    weight = torch.arange(8.0)[:, None].repeat(1, 3)  # 4 heads of 2 rows
    assert mean_pool_kv_heads(weight, 4, 2)[:, 0].tolist() == [1, 2, 5, 6]
    assert mean_pool_kv_heads(weight, 4, 1)[:, 0].tolist() == [3, 4]
    assert torch.equal(mean_pool_kv_heads(weight, 4, 4), weight)


def test_pooling_heads_that_were_copies_changes_nothing():
    grouped = GroupedQueryAttention(24, 6, 2, 8)
    multi_head = GroupedQueryAttention(24, 6, 6, 8)
    for name in ("k_proj", "v_proj"):
        weight = getattr(grouped, name).weight.detach()
        copies = weight.unflatten(0, (2, 8)).repeat_interleave(3, dim=0).flatten(0, 1)
        getattr(multi_head, name).weight.data = copies
        torch.testing.assert_close(mean_pool_kv_heads(copies, 6, 2), weight)
    multi_head.q_proj, multi_head.o_proj = grouped.q_proj, grouped.o_proj
    x, rotate = torch.randn(2, 5, 24), RotaryEmbedding(8)(torch.arange(5))
    torch.testing.assert_close(multi_head(x, rotate), grouped(x, rotate), atol=2e-6, rtol=0)


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
        (lambda: causal_attention(*[ones(2, 3, 8)] * 3), "must be (batch, n_heads, query_len, head_dim)"),
        (lambda: attention_weights(ones(1, 2, 3, 8), ones(1, 2, 3, 4)), "q (1, 2, 3, 8) and k (1, 2, 3, 4)"),
        (lambda: attention_weights(ones(1, 3, 3, 8), ones(1, 2, 3, 8)), "n_heads (3) must be a multiple of"),
        (lambda: causal_attention(*[ones(1, 2, 3, 8)] * 3, ones(2, 3)), "mask (2, 3) must broadcast to"),
        (lambda: causal_attention(*[ones(1, 2, 3, 8)] * 3, ones(3, 3, 3)), "= (1, 2, 3, 3)"),
        (lambda: manual_causal_attention(*[ones(1, 2, 3, 8)] * 3, ones(3, 1, 3, 3)), "mask (3, 1, 3, 3) must"),
        (lambda: causal_mask(4, 3), "query_len (4) must not exceed key_len (3)"),
        (lambda: causal_mask(3, 3, ones(2, 3)), "attention_mask must be bool (batch, 3), True at tokens, not torch.f"),
        (lambda: causal_mask(3, 3, ones(2, 4).bool()), "not torch.bool (2, 4)"),
        (lambda: repeat_kv(ones(2, 3, 4), 2), "x (2, 3, 4) must be (batch, n_kv_heads, seq_len, head_dim)"),
        (lambda: repeat_kv(ones(2, 3, 4, 5), 0), "group_size (0)"),
        (lambda: KVCache(1, 2, 4, 8).append(*[ones(1, 3, 1, 8)] * 2), "seq_len, head_dim) = (1, 2, seq_len, 8)"),
        (lambda: KVCache(1, 2, 4, 8).append(ones(1, 2, 1, 8), ones(1, 2, 2, 8)), "v (1, 2, 2, 8) must both be"),
        (lambda: KVCache(1, 1, 4, 8).append(*[ones(1, 1, 1, 8).half()] * 2), "must have the cache's dtype (torch.fl"),
        (lambda: KVCache(1, 1, 4, 8).append(ones(1, 1, 1, 8), ones(1, 1, 1, 8).half()), "v (torch.float16) must have"),
        (lambda: mean_pool_kv_heads(ones(9, 2), 4, 2), "rows (9) must be a multiple of n_kv_heads (4)"),
        (lambda: mean_pool_kv_heads(ones(8, 2), 4, 3), "n_kv_heads (4) must be a multiple of pooled_kv_heads (3)"),
        (lambda: causal_attention(*[ones(1, 2, 3, 8)] * 3, ones(3, 3).long()), "mask must be bool, True where a query"),
        (lambda: causal_attention(ones(1, 2, 3, 8), *[ones(1, 0, 3, 8)] * 2), "must be a multiple of n_kv_heads (0)"),
        (lambda: GroupedQueryAttention(64, 10, 0, 8), "n_heads (10) must be a multiple of n_kv_heads (0)"),
        (lambda: GroupedQueryAttention(64, 10, 4, 8), "n_heads (10) must be a multiple of n_kv_heads (4)"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
