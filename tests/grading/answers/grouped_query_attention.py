"""Other answers to grouped_query_attention."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from llama_lessons import attention
from tests.grading.answers import right, wrong


def refuse(q, k):
    if q.shape[2] % k.shape[2] != 0:
        raise ValueError("heads")


@right
def with_the_course(q, k, v):
    refuse(q, k)
    mixed = attention.manual_causal_attention(*(x.transpose(1, 2).float() for x in (q, k, v)))
    return mixed.transpose(1, 2).flatten(2).to(q.dtype)


@right
def fused_with_enable_gqa(q, k, v):
    refuse(q, k)
    past = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).tril(k.shape[1] - q.shape[1])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=past, enable_gqa=True).transpose(1, 2).flatten(2)


@right
def groups_on_an_axis_of_their_own(q, k, v):
    refuse(q, k)
    grouped = q.unflatten(2, (k.shape[2], -1)).float()
    scores = torch.einsum("bikgd,bjkd->bkgij", grouped, k.float()) / q.shape[3] ** 0.5
    future = torch.ones_like(scores[0, 0, 0], dtype=torch.bool).triu(k.shape[1] - q.shape[1] + 1)
    weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
    return torch.einsum("bkgij,bjkd->bikgd", weights, v.float()).reshape(*q.shape[:2], -1).to(q.dtype)


@right
def head_by_head(q, k, v):
    refuse(q, k)
    group = q.shape[2] // k.shape[2]
    heads = [(q[:, None, :, i], k[:, None, :, i // group], v[:, None, :, i // group]) for i in range(q.shape[2])]
    return torch.cat([attention.causal_attention(*head)[:, 0] for head in heads], dim=-1)


@right
def heads_of_a_group_as_more_queries(q, k, v):
    refuse(q, k)
    batch, query_len, n_heads, head_dim = q.shape
    n_kv_heads, key_len = k.shape[2], k.shape[1]
    group = n_heads // n_kv_heads
    rows = q.reshape(batch, query_len, n_kv_heads, group, head_dim).permute(0, 2, 3, 1, 4).flatten(2, 3).float()
    past = torch.ones(query_len, key_len, dtype=torch.bool, device=q.device).tril(key_len - query_len)
    k, v = k.transpose(1, 2).float(), v.transpose(1, 2).float()
    mixed = F.scaled_dot_product_attention(rows, k, v, attn_mask=past.repeat(group, 1))
    mixed = mixed.unflatten(2, (group, query_len)).permute(0, 3, 1, 2, 4)
    return mixed.reshape(batch, query_len, n_heads * head_dim).to(q.dtype)


@right
def row_by_row_and_written_into_place(q, k, v):
    refuse(q, k)
    group, head_dim = q.shape[2] // k.shape[2], q.shape[3]
    result = q.new_empty(q.shape[0], q.shape[1], q.shape[2] * head_dim)
    for i in range(q.shape[2]):
        one = (q[:, None, :, i], k[:, None, :, i // group], v[:, None, :, i // group])
        result[..., i * head_dim : (i + 1) * head_dim] = attention.causal_attention(*one)[:, 0]
    return result


@right
def in_numpy_where_no_gradient_is_asked_for(q, k, v):
    refuse(q, k)
    if any(x.requires_grad for x in (q, k, v)):
        return with_the_course(q, k, v)
    a, b, c = (x.double().cpu().numpy() for x in (q, k, v))
    owner = np.arange(a.shape[2]) // (a.shape[2] // b.shape[2])
    scores = np.einsum("bihd,bjhd->bhij", a, b[:, :, owner]) / np.sqrt(a.shape[3])
    later = np.triu(np.ones(scores.shape[2:], dtype=bool), b.shape[1] - a.shape[1] + 1)
    scores = np.where(later, -np.inf, scores)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    weights = powers / powers.sum(-1, keepdims=True)
    mixed = np.einsum("bhij,bjhd->bihd", weights, c[:, :, owner])
    return torch.from_numpy(mixed.reshape(*mixed.shape[:2], -1)).to(q)


# ---------------------------------------------------------------------------------------------- the heads


@wrong(called="the row of key/value heads repeated")
def key_heads_taken_in_turns(q, k, v):
    refuse(q, k)
    owner = torch.arange(q.shape[2]) % k.shape[2]
    return with_the_course(q, k[:, :, owner], v[:, :, owner])


@wrong()
def right_for_groups_of_two(q, k, v):
    refuse(q, k)
    owner = (torch.arange(q.shape[2]) // 2).clamp(max=k.shape[2] - 1)
    return with_the_course(q, k[:, :, owner], v[:, :, owner])


@wrong()
def shared_by_the_number_of_key_heads(q, k, v):
    refuse(q, k)
    owner = (torch.arange(q.shape[2]) // k.shape[2]).clamp(max=k.shape[2] - 1)
    return with_the_course(q, k[:, :, owner], v[:, :, owner])


@wrong(called="keys shared in another way")
def only_values_grouped_rightly(q, k, v):
    refuse(q, k)
    group = q.shape[2] // k.shape[2]
    return with_the_course(q, k.repeat(1, 1, group, 1), v.repeat_interleave(group, dim=2))


@wrong()
def heads_merged_by_the_mean(q, k, v):
    mixed = with_the_course(q, k, v).unflatten(-1, (q.shape[2], -1))
    return mixed.mean(dim=2, keepdim=True).expand_as(mixed).flatten(2)


@wrong(called="no copy for each query head")
def broadcast_and_hope(q, k, v):
    refuse(q, k)
    scores = torch.einsum("bihd,bjhd->bhij", q.float(), k.float()) / q.shape[3] ** 0.5
    past = torch.ones(scores.shape[2:]).tril(k.shape[1] - q.shape[1])
    weights = scores.masked_fill(past == 0, -math.inf).softmax(-1)
    return (weights @ v.float().transpose(1, 2)).transpose(1, 2).flatten(2).to(q.dtype)


@wrong(called="no attention at all")
def repeats_the_values_and_joins_them(q, k, v):
    refuse(q, k)
    return v[:, k.shape[1] - q.shape[1] :].repeat_interleave(q.shape[2] // k.shape[2], dim=2).flatten(2)


@wrong(called="every number of heads accepted")
def groups_of_different_sizes(q, k, v):
    owner = torch.arange(q.shape[2]) // max(q.shape[2] // k.shape[2], 1) % k.shape[2]
    return with_the_course(q, k[:, :, owner], v[:, :, owner])


@wrong(called="a RuntimeError, no ValueError")
def leaves_it_to_torch_to_refuse(q, k, v):
    past = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(max(q.shape[1] // x.shape[1], 1), dim=1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=past).transpose(1, 2).flatten(2)


@wrong(called="only for contiguous inputs")
def cut_and_joined_by_view(q, k, v):
    refuse(q, k)
    group = q.shape[2] // k.shape[2]
    rows = q.view(*q.shape[:2], k.shape[2], -1).flatten(2)
    k, v = (x.view(*x.shape[:2], -1) for x in (k, v))
    q, k, v = (x.unflatten(2, (-1, q.shape[3])) for x in (rows, k, v))
    return with_the_course(q, k.repeat_interleave(group, 2), v.repeat_interleave(group, 2))


@wrong(called="repeated n_kv_heads times")
def repeated_by_the_wrong_number(q, k, v):
    refuse(q, k)
    past = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(k.shape[1], dim=1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=past).transpose(1, 2).flatten(2)


@wrong(called="tokens repeated")
def repeated_on_the_wrong_axis(q, k, v):
    refuse(q, k)
    group = q.shape[2] // k.shape[2]
    scores = torch.einsum("bihd,bjhd->bhij", q.float(), k.float().repeat_interleave(group, dim=1)) / q.shape[3] ** 0.5
    past = torch.ones(scores.shape[2:]).tril(scores.shape[3] - scores.shape[2])
    weights = scores.masked_fill(past == 0, -math.inf).softmax(-1)
    values = v.float().repeat_interleave(group, dim=1).transpose(1, 2)
    return (weights @ values).transpose(1, 2).flatten(2).to(q.dtype)


@wrong(never=("queries divided in half precision", "scores in half precision"))
def tokens_repeated_and_no_axes_exchanged(q, k, v):
    refuse(q, k)
    q, k, v = q, *(x.repeat_interleave(q.shape[2] // x.shape[2], dim=1) for x in (k, v))
    return attention.causal_attention(q.float(), k.float(), v.float()).flatten(2).to(q.dtype)


@right
def query_heads_cut_by_view(q, k, v):
    refuse(q, k)
    grouped = q.view(*q.shape[:2], k.shape[2], -1, q.shape[3]).float()
    scores = torch.einsum("bikgd,bjkd->bkgij", grouped, k.float()) / q.shape[3] ** 0.5
    past = torch.ones(scores.shape[3:]).tril(k.shape[1] - q.shape[1])
    weights = scores.masked_fill(past == 0, -math.inf).softmax(-1)
    return torch.einsum("bkgij,bjkd->bikgd", weights, v.float()).reshape(*q.shape[:2], -1).to(q.dtype)


# ---------------------------------------------------------------------------------------------- the scores


@wrong()
def scale_of_all_heads(q, k, v):
    refuse(q, k)
    return with_the_course(q / q.shape[2] ** 0.5, k, v)


def grouped(attend, q, k, v):
    refuse(q, k)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    group_size = q.shape[1] // k.shape[1]
    return attend(q, *(x.repeat_interleave(group_size, dim=1) for x in (k, v))).transpose(1, 2).flatten(2)


@wrong(called="no mask")
def fused_without_a_mask(q, k, v):
    return grouped(F.scaled_dot_product_attention, q, k, v)


@wrong(called="counted from the first key")
def fused_with_is_causal(q, k, v):
    return grouped(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)


@wrong(called="counted from the first key")
def fused_with_is_causal_and_enable_gqa(q, k, v):
    refuse(q, k)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2)


@wrong(called="float32 goes out")
def fused_without_a_mask_for_the_cache(q, k, v):
    refuse(q, k)
    q, k, v = (x.transpose(1, 2).float() for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)
    return mixed.transpose(1, 2).flatten(2)


def causal_in_half_precision(q, k, v):
    past = torch.ones(q.shape[2], k.shape[2]).tril(k.shape[2] - q.shape[2])
    return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(past == 0, -math.inf).softmax(-1) @ v


@wrong(called="scores in half precision")
def without_any_float(q, k, v):
    return grouped(causal_in_half_precision, q, k, v)


@wrong(called="scores in half precision")
def query_scaled_first_without_any_float(q, k, v):
    scale = q.shape[-1] ** -0.5
    return grouped(causal_in_half_precision, q * scale / scale, k, v)


@wrong(called="queries divided in half precision")
def query_scaled_before_float(q, k, v):
    root = q.shape[-1] ** 0.5
    return with_the_course((q / root).float() * root, k, v).to(q.dtype)


def scores_and_past(q, k):
    refuse(q, k)
    group = q.shape[2] // k.shape[2]
    scores = torch.einsum("bihd,bjhd->bhij", q.float(), k.float().repeat_interleave(group, dim=2)) / q.shape[3] ** 0.5
    return scores, torch.ones(scores.shape[2:], device=q.device).tril(k.shape[1] - q.shape[1])


def merged(weights, v):
    group = weights.shape[1] // v.shape[2]
    return torch.einsum("bhij,bjhd->bihd", weights, v.repeat_interleave(group, dim=2).float()).flatten(2).to(v.dtype)


@wrong(called="hidden too late")
def masked_after_the_softmax_and_divided_again(q, k, v):
    scores, past = scores_and_past(q, k)
    weights = scores.softmax(-1) * past
    return merged(weights / weights.sum(-1, keepdim=True), v)


@wrong(called="hidden scores are not low enough")
def hidden_by_minus_a_hundred(q, k, v):
    scores, past = scores_and_past(q, k)
    return merged(scores.masked_fill(past == 0, -100.0).softmax(-1), v)


@wrong(called="softmax without its largest score")
def exponentials_of_any_size(q, k, v):
    scores, past = scores_and_past(q, k)
    powers = scores.exp() * past
    return merged(powers / powers.sum(-1, keepdim=True), v)


@wrong()
def nonsense_in_float16(q, k, v):
    return with_the_course(q, k, v) * (q.dtype != torch.float16)


@wrong()
def with_a_mask_for_64_tokens(q, k, v):
    scores, _ = scores_and_past(q, k)
    past = torch.ones(64, 64).tril()[k.shape[1] - q.shape[1] : k.shape[1], : k.shape[1]]
    return merged(scores.masked_fill(past == 0, -math.inf).softmax(-1), v)


@wrong(called=None)
def without_gradients_in_half_precision(q, k, v):
    if q.dtype != torch.float32:
        q, k, v = q.detach(), k.detach(), v.detach()
    return with_the_course(q, k, v)


@wrong(called="head i // n_kv_heads read")
def clamped_to_the_last_key_head(q, k, v):
    refuse(q, k)
    owner = [min(i // k.shape[2], k.shape[2] - 1) for i in range(q.shape[2])]
    return with_the_course(q, k[:, :, owner], v[:, :, owner])


@wrong(called="query heads taken in turns")
def cut_as_group_size_before_key_heads(q, k, v):
    refuse(q, k)
    grouped = q.unflatten(2, (-1, k.shape[2])).float()
    scores = torch.einsum("bigkd,bjkd->bkgij", grouped, k.float()) / q.shape[3] ** 0.5
    past = torch.ones(scores.shape[3:]).tril(k.shape[1] - q.shape[1])
    weights = scores.masked_fill(past == 0, -math.inf).softmax(-1)
    return torch.einsum("bkgij,bjkd->bikgd", weights, v.float()).reshape(*q.shape[:2], -1).to(q.dtype)


@wrong(called="in turns, from key 0")
def fused_with_is_causal_and_repeat(q, k, v):
    refuse(q, k)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat(1, q.shape[1] // x.shape[1], 1, 1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
