"""Answers to lesson 07 that no catalogue lists: right ones written in unusual ways pass, wrong ones do not."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import attention
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from tests.grading.answers import Answers, assert_fails, assert_passes

ANSWERS = Answers()
right, wrong = ANSWERS.right, ANSWERS.wrong


# -------------------------------------------------------------------------------------- causal_attention


def refuse(q, k):
    if q.shape[2] > k.shape[2]:
        raise ValueError("more queries than keys")


@right("causal_attention")
def with_a_large_negative_number(q, k, v):
    refuse(q, k)
    allowed = torch.ones(q.shape[2], k.shape[2], device=q.device).tril(k.shape[2] - q.shape[2])
    scores = torch.matmul(q.float(), k.float().permute(0, 1, 3, 2)) / math.sqrt(q.size(-1))
    scores[:, :, allowed == 0] = torch.finfo(torch.float32).min
    return torch.matmul(F.softmax(scores, -1), v.float()).type(q.dtype)


@right("causal_attention")
def softmax_by_hand(q, k, v):
    refuse(q, k)
    hidden = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(k.shape[2] - q.shape[2] + 1)
    scores = (q.double() @ k.double().mT / q.shape[-1] ** 0.5).masked_fill(hidden, -math.inf)
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return (powers / powers.sum(-1, keepdim=True) @ v.double()).to(q.dtype)


@right("causal_attention")
def query_scaled_first(q, k, v):
    refuse(q, k)
    bias = torch.zeros(q.shape[2], k.shape[2], device=q.device)
    for i in range(q.shape[2]):
        bias[i, k.shape[2] - q.shape[2] + i + 1 :] = -torch.inf
    scores = (q.float() * q.shape[-1] ** -0.25) @ (k.float() * q.shape[-1] ** -0.25).transpose(-1, -2)
    return ((scores + bias).softmax(-1) @ v.float()).to(q)


@right("causal_attention")
def head_by_head(q, k, v):
    refuse(q, k)
    start = k.shape[2] - q.shape[2]
    rows = []
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                scores = k[b, h, : start + i + 1].float() @ q[b, h, i].float() / q.shape[3] ** 0.5
                rows.append(scores.softmax(0) @ v[b, h, : start + i + 1].float())
    return torch.stack(rows).view(q.shape).to(q.dtype)


@right("causal_attention")
def as_all_queries_with_the_last_ones_kept(q, k, v):
    refuse(q, k)
    missing = k.shape[2] - q.shape[2]
    padded = F.pad(q.float(), (0, 0, missing, 0))
    mixed = F.scaled_dot_product_attention(padded, k.float(), v.float(), is_causal=True)
    return mixed[:, :, missing:].to(q.dtype)


@wrong("causal_attention")
def fused_and_counted_from_the_first_key(q, k, v):
    refuse(q, k)
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True).to(q.dtype)


@wrong("causal_attention")
def for_one_head_dim(q, k, v):
    refuse(q, k)
    later = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(k.shape[2] - q.shape[2] + 1)
    scores = q.float() @ k.float().mT / 8**0.5
    return (scores.masked_fill(later, -torch.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong("causal_attention")
def hides_with_minus_a_thousand(q, k, v):
    refuse(q, k)
    later = torch.ones(q.shape[2], k.shape[2]).triu(k.shape[2] - q.shape[2] + 1)
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5 - 1000 * later
    return (scores.softmax(-1) @ v.float()).to(q.dtype)


@wrong("causal_attention")
def without_the_largest_score_taken_away(q, k, v):
    refuse(q, k)
    past = torch.ones(q.shape[2], k.shape[2]).tril(k.shape[2] - q.shape[2])
    powers = (q.float() @ k.float().mT / q.shape[-1] ** 0.5).exp() * past
    return (powers / powers.sum(-1, keepdim=True) @ v.float()).to(q.dtype)


@wrong("causal_attention")
def first_row_of_the_batch_for_all(q, k, v):
    refuse(q, k)
    return attention.manual_causal_attention(q, k[:1].expand_as(k), v)


@wrong("causal_attention")
def changes_its_queries(q, k, v):
    refuse(q, k)
    q /= q.shape[-1] ** 0.5
    later = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(k.shape[2] - q.shape[2] + 1)
    return ((q.float() @ k.float().mT).masked_fill(later, -torch.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong("causal_attention")
def refuses_fewer_queries_too(q, k, v):
    if q.shape[2] != k.shape[2]:
        raise ValueError("not square")
    return attention.causal_attention(q, k, v)


@right("causal_attention")
def key_by_key_with_a_running_maximum(q, k, v):
    refuse(q, k)
    places = torch.arange(q.shape[2], device=q.device)[:, None] + k.shape[2] - q.shape[2]
    largest = torch.full((*q.shape[:3], 1), -math.inf, device=q.device)
    total, mixed = torch.zeros_like(largest), torch.zeros(q.shape, device=q.device)
    for j in range(k.shape[2]):
        score = (q.float() * k[:, :, j : j + 1].float()).sum(-1, keepdim=True) / q.shape[3] ** 0.5
        score = score.masked_fill(places < j, -math.inf)
        new = torch.maximum(largest, score)
        kept, share = (largest - new).exp(), (score - new).exp()
        total, mixed, largest = total * kept + share, mixed * kept + share * v[:, :, j : j + 1].float(), new
    return (mixed / total).to(q.dtype)


@wrong("causal_attention")
def with_a_mask_for_1024_tokens(q, k, v):
    refuse(q, k)
    past = torch.ones(1024, 1024, dtype=torch.bool).tril()[k.shape[2] - q.shape[2] : k.shape[2], : k.shape[2]]
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=past).to(q.dtype)


@wrong("causal_attention")
def only_the_last_256_keys(q, k, v):
    refuse(q, k)
    return attention.causal_attention(q.float(), k[:, :, -256:].float(), v[:, :, -256:].float()).to(q.dtype)


# --------------------------------------------------------------------------------------------- repeat_kv


@right("repeat_kv")
def with_a_list(x, group_size):
    if group_size < 1:
        raise ValueError("no group")
    return torch.cat([x[:, i : i + 1] for i in range(x.shape[1]) for _ in range(group_size)], dim=1)


@right("repeat_kv")
def with_kron(x, group_size):
    if group_size < 1:
        raise ValueError("no group")
    return torch.kron(x.contiguous(), torch.ones(1, group_size, 1, 1, dtype=x.dtype, device=x.device))


@right("repeat_kv")
def with_tile_and_transpose(x, group_size):
    if group_size < 1:
        raise ValueError("no group")
    return x.tile(1, group_size, 1, 1).unflatten(1, (group_size, -1)).transpose(1, 2).flatten(1, 2)


@wrong("repeat_kv")
def for_two_heads(x, group_size):
    if group_size < 1:
        raise ValueError("no group")
    return torch.cat([x[:, :1]] * group_size + [x[:, 1:2]] * group_size, dim=1)


@wrong("repeat_kv")
def with_zeros_for_the_copies(x, group_size):
    if group_size < 1:
        raise ValueError("no group")
    return F.pad(x[:, :, None], (0, 0, 0, 0, 0, group_size - 1)).flatten(1, 2)


@wrong("repeat_kv")
def in_float32(x, group_size):
    return attention.repeat_kv(x, group_size).float()


@wrong("repeat_kv")
def refuses_a_group_of_one(x, group_size):
    if group_size <= 1:
        raise ValueError("no group")
    return x.repeat_interleave(group_size, dim=1)


@wrong("repeat_kv")
def only_of_contiguous_tensors(x, group_size):
    if group_size < 1:
        raise ValueError("no group")
    batch, heads, seq_len, head_dim = x.shape
    rows = x.view(batch * heads, 1, seq_len * head_dim)
    return rows.expand(-1, group_size, -1).reshape(batch, heads * group_size, seq_len, head_dim)


@wrong("repeat_kv")
def asserts(x, group_size):
    assert group_size > 0
    return x.repeat_interleave(group_size, dim=1)


# ------------------------------------------------------------------------------- grouped_query_attention


def refuse_groups(q, k):
    if q.shape[2] % k.shape[2] != 0:
        raise ValueError("heads")


@right("grouped_query_attention")
def with_the_course(q, k, v):
    refuse_groups(q, k)
    return attention.manual_causal_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2).flatten(2)


@right("grouped_query_attention")
def heads_of_a_group_as_more_queries(q, k, v):
    refuse_groups(q, k)
    batch, query_len, n_heads, head_dim = q.shape
    n_kv_heads, key_len = k.shape[2], k.shape[1]
    group = n_heads // n_kv_heads
    rows = q.view(batch, query_len, n_kv_heads, group, head_dim).permute(0, 2, 3, 1, 4).flatten(2, 3).float()
    past = torch.ones(query_len, key_len, dtype=torch.bool, device=q.device).tril(key_len - query_len)
    k, v = k.transpose(1, 2).float(), v.transpose(1, 2).float()
    mixed = F.scaled_dot_product_attention(rows, k, v, attn_mask=past.repeat(group, 1))
    mixed = mixed.unflatten(2, (group, query_len)).permute(0, 3, 1, 2, 4)
    return mixed.reshape(batch, query_len, n_heads * head_dim).to(q.dtype)


@right("grouped_query_attention")
def row_by_row_and_written_into_place(q, k, v):
    refuse_groups(q, k)
    group, head_dim = q.shape[2] // k.shape[2], q.shape[3]
    result = q.new_empty(q.shape[0], q.shape[1], q.shape[2] * head_dim)
    for i in range(q.shape[2]):
        one = (q[:, None, :, i], k[:, None, :, i // group], v[:, None, :, i // group])
        result[..., i * head_dim : (i + 1) * head_dim] = attention.manual_causal_attention(*one)[:, 0]
    return result


@right("grouped_query_attention")
def in_numpy_where_no_gradient_is_asked_for(q, k, v):
    refuse_groups(q, k)
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


@wrong("grouped_query_attention")
def key_heads_taken_in_turns(q, k, v):
    refuse_groups(q, k)
    owner = torch.arange(q.shape[2]) % k.shape[2]
    return with_the_course(q, k[:, :, owner], v[:, :, owner])


@wrong("grouped_query_attention")
def right_for_groups_of_two(q, k, v):
    refuse_groups(q, k)
    owner = (torch.arange(q.shape[2]) // 2).clamp(max=k.shape[2] - 1)
    return with_the_course(q, k[:, :, owner], v[:, :, owner])


@wrong("grouped_query_attention")
def shared_by_the_number_of_key_heads(q, k, v):
    refuse_groups(q, k)
    owner = (torch.arange(q.shape[2]) // k.shape[2]).clamp(max=k.shape[2] - 1)
    return with_the_course(q, k[:, :, owner], v[:, :, owner])


@wrong("grouped_query_attention")
def only_values_grouped_rightly(q, k, v):
    refuse_groups(q, k)
    group = q.shape[2] // k.shape[2]
    return with_the_course(q, k.repeat(1, 1, group, 1), v.repeat_interleave(group, dim=2))


@wrong("grouped_query_attention")
def scale_of_all_heads(q, k, v):
    refuse_groups(q, k)
    return with_the_course(q / q.shape[2] ** 0.5, k, v)


@wrong("grouped_query_attention")
def fused_without_a_mask_for_the_cache(q, k, v):
    refuse_groups(q, k)
    q, k, v = (x.transpose(1, 2).float() for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)
    return mixed.transpose(1, 2).flatten(2)


@wrong("grouped_query_attention")
def heads_merged_by_the_mean(q, k, v):
    mixed = with_the_course(q, k, v).unflatten(-1, (q.shape[2], -1))
    return mixed.mean(dim=2, keepdim=True).expand_as(mixed).flatten(2)


@wrong("grouped_query_attention")
def leaves_it_to_torch_to_refuse(q, k, v):
    past = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(max(q.shape[1] // x.shape[1], 1), dim=1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=past).transpose(1, 2).flatten(2)


def scores_and_past(q, k):
    refuse_groups(q, k)
    group = q.shape[2] // k.shape[2]
    scores = torch.einsum("bihd,bjhd->bhij", q, k.repeat_interleave(group, dim=2)).float() / q.shape[3] ** 0.5
    return scores, torch.ones(scores.shape[2:], device=q.device).tril(k.shape[1] - q.shape[1])


def merged(weights, v):
    group = weights.shape[1] // v.shape[2]
    return torch.einsum("bhij,bjhd->bihd", weights, v.repeat_interleave(group, dim=2).float()).flatten(2).to(v.dtype)


@wrong("grouped_query_attention")
def masked_after_the_softmax_and_divided_again(q, k, v):
    scores, past = scores_and_past(q, k)
    weights = scores.softmax(-1) * past
    return merged(weights / weights.sum(-1, keepdim=True), v)


@wrong("grouped_query_attention")
def hidden_by_minus_a_hundred(q, k, v):
    scores, past = scores_and_past(q, k)
    return merged(scores.masked_fill(past == 0, -100.0).softmax(-1), v)


@wrong("grouped_query_attention")
def exponentials_of_any_size(q, k, v):
    scores, past = scores_and_past(q, k)
    powers = scores.exp() * past
    return merged(powers / powers.sum(-1, keepdim=True), v)


@wrong("grouped_query_attention")
def nonsense_in_float16(q, k, v):
    return with_the_course(q, k, v) * (q.dtype != torch.float16)


@wrong("grouped_query_attention")
def with_a_mask_for_64_tokens(q, k, v):
    scores, _ = scores_and_past(q, k)
    past = torch.ones(64, 64).tril()[k.shape[1] - q.shape[1] : k.shape[1], : k.shape[1]]
    return merged(scores.masked_fill(past == 0, -math.inf).softmax(-1), v)


# ----------------------------------------------------------------------------------------------- KVCache


@right("KVCache")
class OfTheCourse(attention.KVCache):
    pass


@right("KVCache")
class InOneTensor:
    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        self.both = torch.empty(2, batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype, device=device)
        self.used = 0

    def append(self, k, v):
        if self.used + k.shape[-2] > self.both.shape[3]:
            raise ValueError("full")
        self.both[:, :, :, self.used : self.used + k.shape[-2]] = torch.stack((k, v))
        self.used += k.shape[-2]
        return tuple(self.both[:, :, :, : self.used])


@right("KVCache")
class WithTokensFirst:
    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        shape = (max_seq_len, batch, n_kv_heads, head_dim)
        self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.free = list(range(max_seq_len))

    def append(self, k, v):
        if len(self.free) < k.shape[2]:
            raise ValueError("full")
        for token in range(k.shape[2]):
            place = self.free.pop(0)
            self.keys[place], self.values[place] = k[:, :, token], v[:, :, token]
        end = len(self.keys) - len(self.free)
        return [x[:end].permute(1, 2, 0, 3) for x in (self.keys, self.values)]


@right("KVCache")
class OneTokenAfterTheOther(attention.KVCache):
    def append(self, k, v):
        if self.length + k.shape[2] > self.max_seq_len:
            raise ValueError
        for key, value in zip(k.unbind(2), v.unbind(2), strict=True):
            self.keys[:, :, self.length], self.values[:, :, self.length] = key, value
            self.length += 1
        return [self.keys[..., : self.length, :], self.values[..., : self.length, :]]


@right("KVCache")
class CountsAndTakesBack(attention.KVCache):
    def append(self, k, v):
        start = self.length
        self.length += k.shape[2]
        if self.length > self.max_seq_len:
            self.length = start
            raise ValueError("full")
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class Wrong(attention.KVCache):
    """The course's cache, to be spoiled."""


@wrong("KVCache")
class WithACountOfItsOwn(Wrong):
    def append(self, k, v):
        self.length = getattr(self, "filled", 0)
        try:
            return super().append(k, v)
        finally:
            self.filled, self.length = self.length, 0


@wrong("KVCache")
class RefusesWhenHalfIsWritten(Wrong):
    def append(self, k, v):
        for key, value in zip(k.split(1, 2), v.split(1, 2), strict=True):
            kept = super().append(key, value)
        return kept


@wrong("KVCache")
class WithoutAReturn(Wrong):
    def append(self, k, v):
        super().append(k, v)


@wrong("KVCache")
class KeepsNothing(Wrong):
    def append(self, k, v):
        return k, v


@wrong("KVCache")
class GrowsWithoutEnd(Wrong):
    def append(self, k, v):
        if self.length + k.shape[2] > self.max_seq_len:
            self.keys = torch.cat((self.keys, torch.zeros_like(self.keys)), dim=2)
            self.values = torch.cat((self.values, torch.zeros_like(self.values)), dim=2)
        return super().append(k, v)


@wrong("KVCache")
class ForTheFirstRowOnly(Wrong):
    def append(self, k, v):
        return super().append(k[:1].expand_as(k), v[:1].expand_as(v))


@wrong("KVCache")
class ForgetsAfterRefusing(Wrong):
    def append(self, k, v):
        try:
            return super().append(k, v)
        except ValueError:
            self.length = 0
            raise


@wrong("KVCache")
class SharedByAll(Wrong):
    memory = None

    def __init__(self, *sizes):
        super().__init__(*sizes)
        if SharedByAll.memory is None:
            SharedByAll.memory = self.keys
        self.keys = SharedByAll.memory


@wrong("KVCache")
class InFloat32(Wrong):
    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        super().__init__(batch, n_kv_heads, max_seq_len, head_dim, torch.float32, device)

    def append(self, k, v):
        return super().append(k.float(), v.float())


@wrong("KVCache")
class WithAnAssert(Wrong):
    def append(self, k, v):
        assert self.length + k.shape[2] <= self.max_seq_len
        return super().append(k, v)


# ---------------------------------------------------------------------------------------- kv_cache_bytes


@right("kv_cache_bytes")
def by_real_tensors(config, seq_len, batch, dtype):
    one = attention.KVCache(batch, config.n_kv_heads, 1, config.head_dim, dtype)
    return sum(one.nbytes for _ in range(config.n_layers)) * seq_len


@right("kv_cache_bytes")
def by_the_groups(config, seq_len, batch, dtype):
    size = torch.tensor([], dtype=dtype).element_size()
    all_heads = size * 2 * config.n_layers * config.n_heads * config.head_dim * batch * seq_len
    return all_heads // config.group_size


@right("kv_cache_bytes")
def by_numpy_and_int(config, seq_len, batch, dtype):
    sizes = [2, config.n_layers, config.n_kv_heads, config.head_dim, seq_len, batch, dtype.itemsize]
    return int(np.prod(sizes, dtype=np.int64))


@wrong("kv_cache_bytes")
def as_a_float(config, seq_len, batch, dtype):
    return by_the_groups(config, seq_len, batch, dtype) / 1


@wrong("kv_cache_bytes")
def with_the_queries(config, seq_len, batch, dtype):
    heads = config.n_heads + 2 * config.n_kv_heads
    return config.n_layers * heads * config.head_dim * seq_len * batch * dtype.itemsize


@wrong("kv_cache_bytes")
def rounded_to_float32(config, seq_len, batch, dtype):
    sizes = [2, config.n_layers, config.n_kv_heads, config.head_dim, seq_len, batch, dtype.itemsize]
    return int(torch.tensor(sizes, dtype=torch.float32).prod())


@wrong("kv_cache_bytes")
def overflowing_int32(config, seq_len, batch, dtype):
    sizes = [2, config.n_layers, config.n_kv_heads, config.head_dim, seq_len, batch, dtype.itemsize]
    return int(torch.tensor(sizes).prod(dtype=torch.int32))


@wrong("kv_cache_bytes")
def queries_as_a_third_of_it(config, seq_len, batch, dtype):
    return by_the_groups(config, seq_len, batch, dtype) * 3 // 2


@wrong("kv_cache_bytes")
def for_llama_2_only(config, seq_len, batch, dtype):
    return 327_680 * seq_len * batch


# ------------------------------------------------------------------------------------ mean_pool_kv_heads


def refuse_sizes(weight, n, m):
    if weight.shape[0] % n or n % m:
        raise ValueError("sizes")


@right("mean_pool_kv_heads")
def by_average_pooling(weight, n_kv_heads, pooled_kv_heads):
    refuse_sizes(weight, n_kv_heads, pooled_kv_heads)
    group, head_dim = n_kv_heads // pooled_kv_heads, weight.shape[0] // n_kv_heads
    rows = weight.float().unflatten(0, (n_kv_heads, head_dim)).flatten(1).T[None]  # (1, rows of a head, n_kv_heads)
    return F.avg_pool1d(rows, group)[0].T.reshape(-1, weight.shape[1]).to(weight.dtype)


@right("mean_pool_kv_heads")
def by_columns_of_the_transpose(weight, n_kv_heads, pooled_kv_heads):
    refuse_sizes(weight, n_kv_heads, pooled_kv_heads)
    heads = weight.T.unflatten(-1, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1))
    return heads.mean(dim=2).flatten(1).T


@right("mean_pool_kv_heads")
def by_adding_up(weight, n_kv_heads, pooled_kv_heads):
    refuse_sizes(weight, n_kv_heads, pooled_kv_heads)
    group, size = n_kv_heads // pooled_kv_heads, weight.shape[0] // n_kv_heads
    new = []
    for start in range(0, n_kv_heads, group):
        total = torch.zeros_like(weight[:size], dtype=torch.float32)
        for head in range(start, start + group):
            total = total + weight[head * size : (head + 1) * size]
        new.append(total / group)
    return torch.cat(new).to(weight.dtype)


@right("mean_pool_kv_heads")
def as_parameter_where_allowed(weight, n_kv_heads, pooled_kv_heads):
    pooled = attention.mean_pool_kv_heads(weight, n_kv_heads, pooled_kv_heads)
    return pooled if pooled.requires_grad else nn.Parameter(pooled)


@wrong("mean_pool_kv_heads")
def for_square_weights(weight, n_kv_heads, pooled_kv_heads):
    refuse_sizes(weight, n_kv_heads, pooled_kv_heads)
    heads = weight.unflatten(0, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1))
    return heads.mean(dim=1).reshape(-1, weight.shape[0] // n_kv_heads)


@wrong("mean_pool_kv_heads")
def always_pairs(weight, n_kv_heads, pooled_kv_heads):
    refuse_sizes(weight, n_kv_heads, pooled_kv_heads)
    return attention.mean_pool_kv_heads(weight, n_kv_heads, max(n_kv_heads // 2, 1))


@wrong("mean_pool_kv_heads")
def the_median(weight, n_kv_heads, pooled_kv_heads):
    refuse_sizes(weight, n_kv_heads, pooled_kv_heads)
    heads = weight.unflatten(0, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1))
    return heads.median(dim=1).values.flatten(0, 1)


@wrong("mean_pool_kv_heads")
def refuses_only_rows(weight, n_kv_heads, pooled_kv_heads):
    if weight.shape[0] % n_kv_heads:
        raise ValueError("rows")
    size = max(n_kv_heads // pooled_kv_heads, 1) * (weight.shape[0] // n_kv_heads)
    return torch.cat([part.unflatten(0, (-1, weight.shape[0] // n_kv_heads)).mean(0) for part in weight.split(size)])


# ------------------------------------------------------------------------------------ MultiHeadAttention


class Layer(nn.Module):
    def __init__(self, dim, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x):
        q, k, v = (
            p(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.o_proj(self.merge(self.mix(q, k, v)))

    def mix(self, q, k, v):
        return attention.causal_attention(q, k, v)

    def merge(self, x):
        return x.transpose(1, 2).flatten(2)


@right("MultiHeadAttention")
class ByEinsum(Layer):
    def forward(self, x):
        n, d = self.n_heads, x.shape[-1] // self.n_heads
        q, k, v = (
            torch.einsum("bsc,hdc->bhsd", x, p.weight.view(n, d, -1)) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / d**0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        return torch.einsum("bhij,bhjd,chd->bic", weights, v, self.o_proj.weight.view(-1, n, d))


@right("MultiHeadAttention")
class ByTorchsOwn(Layer):
    def forward(self, x):
        weight = torch.cat([p.weight for p in (self.q_proj, self.k_proj, self.v_proj)])
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        y = x.transpose(0, 1)
        mixed, _ = F.multi_head_attention_forward(
            y, y, y, x.shape[-1], self.n_heads, weight, None, None, None, False, 0.0, self.o_proj.weight, None,
            attn_mask=later, need_weights=False,
        )  # fmt: skip
        return mixed.transpose(0, 1)


@right("MultiHeadAttention")
class WithRearrangedMerge(Layer):
    def merge(self, x):
        return torch.cat(x.unbind(dim=1), dim=-1)


@wrong("MultiHeadAttention")
class WithAMaskFor64Tokens(Layer):
    def mix(self, q, k, v):
        past = torch.ones(64, 64, dtype=torch.bool, device=q.device).tril()[: q.shape[2], : q.shape[2]]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=past)


@wrong("MultiHeadAttention")
class CalledAndThrownAway(Layer):
    def forward(self, x):
        self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q = x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        return self.o_proj(self.merge(self.mix(q, q, q)))


@wrong("MultiHeadAttention")
class ProjectedAndAddedToTheTokens(Layer):
    def forward(self, x):
        q, k, v = (
            (x + p(x)).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.o_proj(self.merge(self.mix(q, k, v)))


@wrong("MultiHeadAttention")
class MergedByTransposingTheWrongAxes(Layer):
    def merge(self, x):
        return x.transpose(2, 3).reshape(x.shape[0], x.shape[2], -1)


@wrong("MultiHeadAttention")
class WithDropout(Layer):
    def merge(self, x):
        return F.dropout(super().merge(x), 0.1)


@wrong("MultiHeadAttention")
class WithoutGradientsForKeys(Layer):
    def mix(self, q, k, v):
        return super().mix(q, k.detach(), v)


# --------------------------------------------------------------------------------------------- questions


@right("which_mask_with_a_cache")
def third():
    return "c"


@wrong("why_the_loss_is_too_low")
def in_words():
    return "the mask"


@wrong("what_grouping_saves")
def both():
    return "ad"


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.right_ones)
def test_an_unusual_right_answer_passes(exercise, answer):
    assert_passes(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.wrong_ones)
def test_an_unlisted_wrong_answer_fails(exercise, answer):
    assert_fails(exercise, answer)


def fused(q, k, v, **options):
    refuse(q, k)
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), **options).to(q.dtype)


def grouped(attend, q, k, v):
    refuse_groups(q, k)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    group_size = q.shape[1] // k.shape[1]
    return attend(q, *(x.repeat_interleave(group_size, dim=1) for x in (k, v))).transpose(1, 2).flatten(2)


class JoinedByCat(Wrong):
    def append(self, k, v):
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")
        self.keys = torch.cat([self.keys[:, :, : self.length], k], dim=2)
        self.values = torch.cat([self.values[:, :, : self.length], v], dim=2)
        self.length += k.shape[2]
        return self.keys, self.values


def lower(q, k):
    return torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])


@pytest.mark.parametrize(
    ("exercise", "answer", "name"),
    [
        (
            "causal_attention",
            lambda q, k, v: fused(q, k, v, is_causal=q.shape[2] > 1),
            "counted from the first key",
        ),
        (
            "causal_attention",
            lambda q, k, v: fused(q, k, v, is_causal=q.shape[2] == k.shape[2]),
            "no mask with cached keys",
        ),
        (
            "causal_attention",
            lambda q, k, v: fused(q, k, v, attn_mask=~lower(q, k)),
            "hidden and read exchanged, and 0 from nothing",
        ),
        (
            "causal_attention",
            lambda q, k, v: fused(q, k, v, attn_mask=lower(q, k).float()),
            "ones and zeros added",
        ),
        (
            "causal_attention",
            lambda q, k, v: fused(q, k, v, attn_mask=(~lower(q, k)).float() * -math.inf),
            "nothing but NaN",
        ),
        (
            "causal_attention",
            lambda q, k, v: fused(q / q.shape[3] ** 0.5, k, v, attn_mask=lower(q, k)),
            "divided by head_dim",
        ),
        (
            "grouped_query_attention",
            masked_after_the_softmax_and_divided_again,
            "masked after the softmax, and divided again",
        ),
        ("grouped_query_attention", hidden_by_minus_a_hundred, "hidden scores are not low enough"),
        (
            "causal_attention",
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            "is_causal=True, and more queries than keys accepted",
        ),
        (
            "grouped_query_attention",
            lambda q, k, v: grouped(F.scaled_dot_product_attention, q, k, v),
            "no mask",
        ),
        ("KVCache", JoinedByCat, "memory replaced"),
        ("KVCache", RefusesWhenHalfIsWritten, "refused too late"),
        ("KVCache", KeepsNothing, None),
        ("kv_cache_bytes", queries_as_a_third_of_it, None),
    ],
)
def test_a_mistake_written_in_another_way_has_its_name(exercise, answer, name):
    verdict = grade(REGISTRY[exercise], answer)
    assert not verdict.passed
    assert (verdict.misconception and verdict.misconception.name) == name
