"""Lesson 04: right answers written in unusual ways pass, wrong ones that no catalogue lists do not."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from llama_lessons import extrapolation, rope
from tests.grading.answers import Answers, assert_fails, assert_passes

ANSWERS = Answers()
right, wrong = ANSWERS.right, ANSWERS.wrong


# ------------------------------------------------------------------------------------------ alibi_slopes


def refuse_no_heads(n_heads):
    if n_heads < 1:
        raise ValueError(f"n_heads {n_heads}")


@right("alibi_slopes")
def slopes_by_numpy(n_heads):
    refuse_no_heads(n_heads)
    below = 2 ** int(np.log2(n_heads))
    first = np.power(2.0, -8 * np.arange(1, below + 1) / below)
    more = np.power(2.0, -4 * np.arange(1, 2 * below, 2) / below)
    return torch.from_numpy(np.concatenate((first, more))[:n_heads]).float()


@right("alibi_slopes")
def slopes_written_into_a_tensor(n_heads):
    refuse_no_heads(n_heads)
    below = 1 << (n_heads.bit_length() - 1)
    found = torch.empty(n_heads)
    for h in range(n_heads):
        step = (h + 1) / below if h < below else (2 * (h - below) + 1) / (2 * below)
        found[h] = 0.5 ** (8 * step)
    return found


@right("alibi_slopes")
def slopes_as_a_parameter(n_heads):
    refuse_no_heads(n_heads)
    return nn.Parameter(extrapolation.alibi_slopes(n_heads))


@right("alibi_slopes")
def slopes_by_multiplying(n_heads):
    refuse_no_heads(n_heads)

    def row(power):
        factor = 2 ** (-8 / power)
        return torch.full((power,), factor).cumprod(0)

    below = max(p for p in (2**i for i in range(12)) if p <= n_heads)
    return torch.cat((row(below), row(2 * below)[0::2]))[:n_heads]


@wrong("alibi_slopes")
def slopes_from_a_list_of_known_models(n_heads):
    known = {4: extrapolation.alibi_slopes(4), 8: extrapolation.alibi_slopes(8), 12: extrapolation.alibi_slopes(12)}
    refuse_no_heads(n_heads)
    return known.get(n_heads, torch.ones(n_heads))


@wrong("alibi_slopes")
def slopes_as_a_column(n_heads):
    refuse_no_heads(n_heads)
    return extrapolation.alibi_slopes(n_heads)[:, None]


@wrong("alibi_slopes")
def slopes_guarded_by_an_assert(n_heads):
    assert n_heads > 0
    return extrapolation.alibi_slopes(n_heads)


@wrong("alibi_slopes")
def slopes_of_powers_only(n_heads):
    refuse_no_heads(n_heads)
    if n_heads & (n_heads - 1):
        raise ValueError("not a power of two")
    return extrapolation.alibi_slopes(n_heads)


# -------------------------------------------------------------------------------------------- alibi_bias


def refuse_more_queries(query_len, key_len):
    if query_len > key_len:
        raise ValueError(f"{query_len} queries, {key_len} keys")


@right("alibi_bias")
def bias_by_loops(slopes, query_len, key_len):
    refuse_more_queries(query_len, key_len)
    heads = []
    for slope in slopes:
        rows = []
        for q in range(key_len - query_len, key_len):
            rows.append(torch.stack([slope * min(k - q, 0) for k in range(key_len)]))
        heads.append(torch.stack(rows))
    return torch.stack(heads)


@right("alibi_bias")
def bias_by_triangle(slopes, query_len, key_len):
    refuse_more_queries(query_len, key_len)
    line = torch.arange(key_len, device=slopes.device, dtype=slopes.dtype)
    square = (line - line[:, None]).tril()[-query_len:]
    return slopes.reshape(-1, 1, 1).mul(square)


@right("alibi_bias")
def bias_by_outer_product(slopes, query_len, key_len):
    refuse_more_queries(query_len, key_len)
    distances = (torch.arange(query_len)[:, None] + (key_len - query_len) - torch.arange(key_len)).relu()
    flat = torch.outer(slopes, distances.flatten().to(slopes))
    return -flat.view(-1, query_len, key_len)


@right("alibi_bias")
def bias_by_where(slopes, query_len, key_len):
    refuse_more_queries(query_len, key_len)
    q = torch.arange(key_len, device=slopes.device)[None, -query_len:, None]
    k = torch.arange(key_len, device=slopes.device)[None, None]
    return torch.where(k > q, torch.zeros((), device=slopes.device), -slopes[:, None, None] * (q - k))


@wrong("alibi_bias")
def bias_that_needs_no_keys_axis(slopes, query_len, key_len):
    refuse_more_queries(query_len, key_len)
    # The same for each query up to a constant, which a softmax ignores; but not what is asked for.
    return (slopes[:, None, None] * torch.arange(key_len)).expand(-1, query_len, -1)


@wrong("alibi_bias")
def bias_without_gradients(slopes, query_len, key_len):
    refuse_more_queries(query_len, key_len)
    return bias_by_triangle(torch.tensor(slopes.tolist()), query_len, key_len)


@wrong("alibi_bias")
def bias_with_slopes_of_its_own(slopes, query_len, key_len):
    refuse_more_queries(query_len, key_len)
    return extrapolation.alibi_bias(len(slopes), query_len, key_len)


@wrong("alibi_bias")
def bias_cut_at_a_thousand(slopes, query_len, key_len):
    return bias_by_triangle(slopes, query_len, key_len).clamp(min=-1000)


@wrong("alibi_bias")
def bias_in_half_precision_inside(slopes, query_len, key_len):
    return bias_by_triangle(slopes.bfloat16(), query_len, key_len).float()


@wrong("alibi_bias")
def bias_of_distances_in_half_precision(slopes, query_len, key_len):
    refuse_more_queries(query_len, key_len)
    distances = torch.arange(key_len - query_len, key_len)[:, None] - torch.arange(key_len)
    return -slopes[:, None, None] * distances.clamp(min=0).half().float()


@wrong("alibi_bias")
def bias_of_the_slopes_sizes(slopes, query_len, key_len):
    return bias_by_triangle(slopes.abs(), query_len, key_len)


# --------------------------------------------------------------------------------------------- ntk_theta


@right("ntk_theta")
def theta_by_logarithms(theta, factor, head_dim):
    if head_dim <= 2:
        raise ValueError("one pair")
    return 2 ** (math.log2(theta) + head_dim / (head_dim - 2) * math.log2(factor))


@right("ntk_theta")
def theta_by_bisection(theta, factor, head_dim):
    if head_dim <= 2:
        raise ValueError("one pair")
    share = (head_dim - 2) / head_dim
    low, high = math.log(theta), math.log(theta) + 100
    for _ in range(200):
        middle = (low + high) / 2
        if (middle - math.log(theta)) * share < math.log(factor):
            low = middle
        else:
            high = middle
    return math.exp(low)


@right("ntk_theta")
def theta_by_pairs(theta, factor, head_dim):
    pairs = head_dim // 2
    if pairs < 2:
        raise ValueError("one pair")
    return float(np.power(factor, pairs / (pairs - 1)) * theta)


@right("ntk_theta")
def theta_by_a_tensor(theta, factor, head_dim):
    if head_dim == 2:
        raise ValueError("one pair")
    factor = torch.tensor(float(factor), dtype=torch.float64)
    return (theta * factor ** (1 + 2 / (head_dim - 2))).item()


@wrong("ntk_theta")
def theta_in_float32(theta, factor, head_dim):
    if head_dim <= 2:
        raise ValueError("one pair")
    return (torch.tensor(float(theta)) * torch.tensor(float(factor)) ** (head_dim / (head_dim - 2))).item()


@wrong("ntk_theta")
def theta_for_smollm2(theta, factor, head_dim):
    if head_dim <= 2:
        raise ValueError("one pair")
    return theta * factor ** (64 / 62)


@wrong("ntk_theta")
def theta_as_a_tensor(theta, factor, head_dim):
    return torch.tensor(extrapolation.ntk_theta(theta, factor, head_dim))


@wrong("ntk_theta")
def theta_that_divides_by_zero(theta, factor, head_dim):
    return theta * factor ** (head_dim / (head_dim - 2))


# --------------------------------------------------------------------------------------------- yarn_ramp


@right("yarn_ramp")
def ramp_from_the_library(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return extrapolation.yarn_ramp(rope.rope_frequencies(head_dim, theta), original_max_seq_len, beta_fast, beta_slow)


@right("yarn_ramp")
def ramp_as_hugging_face_has_it(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    def dim_of(rotations):
        return (head_dim * math.log(original_max_seq_len / (rotations * 2 * math.pi))) / (2 * math.log(theta))

    low, high = max(math.floor(dim_of(beta_fast)), 0), min(math.ceil(dim_of(beta_slow)), head_dim - 1)
    return torch.clamp((torch.arange(head_dim // 2, dtype=torch.float64) - low) / (high - low), 0, 1)


@right("yarn_ramp")
def ramp_by_interpolation(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    turns = np.log(original_max_seq_len / (2 * np.pi * np.array([beta_fast, beta_slow])))
    first, last = head_dim / 2 * turns / np.log(theta)
    first, last = max(np.floor(first), 0), np.ceil(last)
    return torch.from_numpy(np.interp(np.arange(head_dim // 2), [first, last], [0.0, 1.0]))


@right("yarn_ramp")
def ramp_by_a_loop(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    def pair(turns):
        return math.log(original_max_seq_len / (math.tau * turns), theta) * head_dim / 2

    first, last = int(max(pair(beta_fast), 0)), -int(-pair(beta_slow) // 1)
    ramp = torch.zeros(head_dim // 2, dtype=torch.float64)
    for i in range(head_dim // 2):
        if i >= last:
            ramp[i] = 1
        elif i > first:
            ramp[i] = (i - first) / (last - first)
    return ramp


@wrong("yarn_ramp")
def ramp_of_smollm2(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return ((torch.arange(head_dim // 2, dtype=torch.float64) - 10) / 10).clamp(0, 1)


@wrong("yarn_ramp")
def ramp_that_skips_its_ends(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    ramp = ramp_from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    inside = (ramp > 0) & (ramp < 1)
    ramp[inside] = torch.linspace(0, 1, int(inside.sum()), dtype=torch.float64)
    return ramp


@wrong("yarn_ramp")
def ramp_that_is_smooth(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    ramp = ramp_from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    return ramp * ramp * (3 - 2 * ramp)


@wrong("yarn_ramp")
def ramp_whose_beginning_int_cuts_towards_0(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    def pair(turns):
        return head_dim / 2 * math.log(original_max_seq_len / (math.tau * turns)) / math.log(theta)

    first, last = int(pair(beta_fast)), math.ceil(pair(beta_slow))
    return ((torch.arange(head_dim // 2, dtype=torch.float64) - first) / (last - first)).clamp(0, 1)


@wrong("yarn_ramp")
def ramp_for_each_channel(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return ramp_from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow).repeat(2)


# ---------------------------------------------------------------------------------- yarn_attention_factor


@right("yarn_attention_factor")
def factor_by_numpy(factor):
    if not factor >= 1:
        raise ValueError("factor")
    return float(1 + np.log(factor) / 10)


@right("yarn_attention_factor")
def factor_by_log1p(factor):
    if factor < 1.0:
        raise ValueError("factor")
    return 1.0 + math.log1p(factor - 1) * 0.1


@right("yarn_attention_factor")
def factor_by_a_tensor(factor):
    if factor < 1:
        raise ValueError("factor")
    return 0.1 * torch.tensor(factor, dtype=torch.float64).log().item() + 1


@wrong("yarn_attention_factor")
def factor_rounded(factor):
    if factor < 1:
        raise ValueError("factor")
    return round(0.1 * math.log(factor) + 1, 3)


@wrong("yarn_attention_factor")
def factor_that_math_refuses(factor):
    return 0.1 * math.log(factor) + 1


@wrong("yarn_attention_factor")
def factor_in_a_tensor(factor):
    if factor < 1:
        raise ValueError("factor")
    return 0.1 * torch.tensor(factor).log() + 1


# ------------------------------------------------------------------------------------- llama3_frequencies


@right("llama3_frequencies")
def llama3_by_masks(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = original_max_seq_len * frequencies / math.tau
    result = frequencies.clone()
    slow, fast = turns <= low_freq_factor, turns >= high_freq_factor
    result[slow] /= factor
    between = ~(slow | fast)
    share = (turns[between] - low_freq_factor) / (high_freq_factor - low_freq_factor)
    result[between] *= share + (1 - share) / factor
    return result


@right("llama3_frequencies")
def llama3_by_numpy(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    f = frequencies.numpy()
    share = np.interp(original_max_seq_len * f / (2 * np.pi), [low_freq_factor, high_freq_factor], [0.0, 1.0])
    return torch.from_numpy(f * (1 / factor + share * (1 - 1 / factor))).to(frequencies.dtype)


@right("llama3_frequencies")
def llama3_by_lerp(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    wavelengths = 2 * torch.pi / frequencies
    share = (original_max_seq_len / wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor)
    return torch.lerp(frequencies / factor, frequencies, share.clamp(0, 1))


@right("llama3_frequencies")
def llama3_from_a_list(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    found = []
    for f in frequencies.tolist():
        share = (original_max_seq_len * f / math.tau - low_freq_factor) / (high_freq_factor - low_freq_factor)
        share = max(0.0, min(1.0, share))
        found.append(share * f + (1 - share) * f / factor)
    return frequencies.new_tensor(found)


@wrong("llama3_frequencies")
def llama3_mixed_geometrically(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = original_max_seq_len * frequencies / math.tau
    share = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return frequencies / factor ** (1 - share)


@wrong("llama3_frequencies")
def llama3_by_yarns_code(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    return extrapolation.yarn_frequencies(frequencies, factor, original_max_seq_len, high_freq_factor, low_freq_factor)


@wrong("llama3_frequencies")
def llama3_for_factor_8(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    rest = low_freq_factor, high_freq_factor, original_max_seq_len
    return extrapolation.llama3_frequencies(frequencies, 8.0, *rest)


@wrong("llama3_frequencies")
def llama3_logarithmic(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = original_max_seq_len * frequencies / math.tau
    share = (turns / low_freq_factor).log() / math.log(high_freq_factor / low_freq_factor)
    share = share.clamp(0, 1)
    return share * frequencies + (1 - share) * frequencies / factor


# ------------------------------------------------------------------------------------ rotate_interpolated


def turned(q, k, positions, frequencies):
    tables = rope.rope_tables(positions, frequencies)
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


def places(q, n_cached):
    return torch.arange(q.shape[2], device=q.device) + n_cached


@right("rotate_interpolated")
def interpolated_from_the_library(q, k, n_cached, factor, theta=10_000.0):
    frequencies = extrapolation.linear_frequencies(rope.rope_frequencies(q.shape[-1], theta), factor)
    return turned(q, k, places(q, n_cached), frequencies)


@right("rotate_interpolated")
def interpolated_by_complex_numbers(q, k, n_cached, factor, theta=10_000.0):
    n = q.shape[-1] // 2
    angles = (places(q, n_cached).double() / factor)[:, None] * theta ** (-torch.arange(n).double() / n)
    turns = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)

    def turn(x):
        result = torch.complex(x[..., :n].float(), x[..., n:].float()) * turns
        return torch.cat((result.real, result.imag), -1).to(x.dtype)

    return [turn(q), turn(k)]


@right("rotate_interpolated")
def interpolated_both_at_once(q, k, n_cached, factor, theta=10_000.0):
    frequencies = rope.rope_frequencies(q.shape[-1], theta).mul(1 / factor)
    tables = rope.rope_tables(places(q, n_cached), frequencies)
    return rope.apply_rope(torch.cat((q, k), dim=1), *tables).split((q.shape[1], k.shape[1]), dim=1)


@wrong("rotate_interpolated")
def interpolated_in_float32(q, k, n_cached, factor, theta=10_000.0):
    angles = (places(q, n_cached).float() / factor)[:, None] * rope.rope_frequencies(q.shape[-1], theta).float()
    return rope.apply_rope(q, angles.cos(), angles.sin()), rope.apply_rope(k, angles.cos(), angles.sin())


@wrong("rotate_interpolated")
def interpolated_queries_alone(q, k, n_cached, factor, theta=10_000.0):
    frequencies = rope.rope_frequencies(q.shape[-1], theta)
    tables = rope.rope_tables(places(q, n_cached), frequencies)
    return turned(q, k, places(q, n_cached), frequencies / factor)[0], rope.apply_rope(k, *tables)


@wrong("rotate_interpolated")
def interpolated_by_whole_factors(q, k, n_cached, factor, theta=10_000.0):
    return turned(q, k, places(q, n_cached), rope.rope_frequencies(q.shape[-1], theta) / int(factor))


@wrong("rotate_interpolated")
def interpolated_without_gradients(q, k, n_cached, factor, theta=10_000.0):
    return interpolated_from_the_library(q.detach(), k.detach(), n_cached, factor, theta)


@wrong("rotate_interpolated")
def interpolated_by_yarn(q, k, n_cached, factor, theta=10_000.0):
    frequencies = extrapolation.yarn_frequencies(rope.rope_frequencies(q.shape[-1], theta), factor, 4096)
    return turned(q, k, places(q, n_cached), frequencies)


# --------------------------------------------------------------------------------------------- questions


@right("why_worse_at_home")
def put_together_from_a_list():
    return "".join(["c"])


@wrong("what_extrapolates")
def two_letters():
    return "ab"


@wrong("what_leaks")
def a_number():
    return "1"


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.right_ones)
def test_an_unusual_right_answer_passes(exercise, answer):
    assert_passes(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.wrong_ones)
def test_an_unlisted_wrong_answer_fails(exercise, answer):
    assert_fails(exercise, answer)
