"""ALiBi against Bloom's and MPT's, and what each kind of scaled frequencies promises."""

import copy
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from llama_lessons.extrapolation import (
    AlibiBias,
    alibi_bias,
    alibi_slopes,
    dynamic_ntk_frequencies,
    linear_frequencies,
    llama3_frequencies,
    longrope_attention_factor,
    longrope_frequencies,
    ntk_frequencies,
    ntk_theta,
    yarn_attention_factor,
    yarn_frequencies,
    yarn_ramp,
)
from llama_lessons.rope import rope_frequencies, rope_tables
from llama_lessons.rope_scaling import DynamicNTKScaling, LinearScaling, Llama3Scaling, LongRopeScaling, YarnScaling

some = settings(max_examples=50, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# ALiBi


@pytest.mark.parametrize("n_heads", [1, 2, 3, 5, 7, 8, 9, 12, 16, 20, 33, 71, 112])
def test_alibi_slopes_are_bloom_s_and_mpt_s(n_heads):
    bloom = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)[:, 0, 1]  # slope times 1
    mpt = -build_mpt_alibi_tensor(n_heads, 2)[:, 0, 0]
    # Both take powers in float32, of a rounded base or exponent.
    torch.testing.assert_close(alibi_slopes(n_heads), bloom, atol=0, rtol=2e-6)
    torch.testing.assert_close(alibi_slopes(n_heads), mpt, atol=0, rtol=2e-6)


def test_alibi_slopes_are_the_paper_s():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(4).tolist() == [1 / 4, 1 / 16, 1 / 64, 1 / 256]
    between = [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor([2.0**-i for i in range(1, 9)] + between))


@pytest.mark.parametrize("n_heads", [4, 6])
def test_alibi_gives_bloom_s_attention(n_heads):
    """Bloom adds slope * key position: within a row of the softmax, that is ALiBi and a constant."""
    scores = torch.randn(n_heads, 7, 7).masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
    bloom = build_alibi_tensor(torch.ones(1, 7), n_heads, torch.float32)
    torch.testing.assert_close((scores + alibi_bias(n_heads, 7, 7)).softmax(-1), (scores + bloom).softmax(-1))


@pytest.mark.parametrize(("query_len", "key_len"), [(1, 1), (5, 5), (1, 6), (2, 6), (0, 4)])
@pytest.mark.parametrize("n_heads", [1, 3, 8])
def test_alibi_bias_is_a_slope_times_a_distance(n_heads, query_len, key_len):
    bias, slopes = alibi_bias(n_heads, query_len, key_len), alibi_slopes(n_heads)
    assert bias.shape == (n_heads, query_len, key_len)
    assert bias.dtype == torch.float32
    for query in range(query_len):
        position = key_len - query_len + query
        for key in range(key_len):
            torch.testing.assert_close(bias[:, query, key], -slopes * max(position - key, 0))


def test_alibi_looks_at_distance_alone_and_has_no_end():
    bias = AlibiBias(3)
    near = bias(torch.arange(4), torch.arange(4))
    assert torch.equal(near, alibi_bias(3, 4, 4))
    far = torch.arange(1_000_000, 1_000_004)
    assert torch.equal(bias(far, far), near)
    assert (near.diagonal(dim1=1, dim2=2) == 0).all()
    assert (bias(far, torch.arange(10)) < -900_000 * alibi_slopes(3)[:, None, None]).all()


def test_alibi_rows_of_a_batch_stand_at_their_own_positions():
    queries, keys = torch.tensor([[3, 4], [0, 9]]), torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 8, 9]])
    bias = AlibiBias(3)
    together = bias(queries, keys)
    assert together.shape == (2, 3, 2, 5)
    for row in range(2):
        assert torch.equal(together[row], bias(queries[row], keys[row]))
    assert torch.equal(bias(queries, keys[0])[1], bias(queries[1], keys[0]))
    assert torch.equal(bias(queries.int(), keys.int()), together)


def test_alibi_learns_and_stores_nothing_and_stays_exact_in_a_cast_model():
    bias, positions = AlibiBias(12), torch.arange(3)
    assert list(bias.parameters()) == []
    assert bias.state_dict() == {}
    assert torch.equal(copy.deepcopy(bias).bfloat16()(positions, positions), bias(positions, positions))
    with torch.device("meta"):
        assert torch.equal(AlibiBias(12).slopes, bias.slopes)


# What each kind promises

head_dims = st.integers(2, 64).map(lambda pairs: 2 * pairs)
thetas = st.floats(100, 1e7)
factors = st.floats(1, 100)
lengths = st.integers(64, 200_000)


@some
@given(head_dims, thetas, st.integers(1, 64), st.integers(0, 4096))
def test_linear_scaling_puts_a_stretched_position_where_it_was(head_dim, theta, factor, position):
    frequencies = rope_frequencies(head_dim, theta)
    stretched = rope_tables(torch.tensor([factor * position]), linear_frequencies(frequencies, factor))
    torch.testing.assert_close(stretched, rope_tables(torch.tensor([position]), frequencies))


@some
@given(head_dims, thetas, factors)
def test_ntk_leaves_the_fastest_pair_and_slows_the_slowest_by_the_factor(head_dim, theta, factor):
    frequencies = rope_frequencies(head_dim, theta)
    scaled = ntk_frequencies(frequencies, factor)
    torch.testing.assert_close(scaled, rope_frequencies(head_dim, ntk_theta(theta, factor, head_dim)))
    assert scaled[0] == frequencies[0]
    assert (frequencies / scaled)[-1].item() == pytest.approx(factor)
    assert ((frequencies / scaled).diff() >= -1e-9).all()


def test_ntk_of_a_single_pair_leaves_it():
    assert torch.equal(ntk_frequencies(rope_frequencies(2), 8.0), rope_frequencies(2))


@some
@given(head_dims, thetas, factors, lengths)
def test_dynamic_starts_at_its_length_without_a_jump(head_dim, theta, factor, length):
    frequencies = rope_frequencies(head_dim, theta)
    for seq_len in (1, length // 2, length):
        assert torch.equal(dynamic_ntk_frequencies(frequencies, factor, seq_len, length), frequencies)
    doubled = dynamic_ntk_frequencies(frequencies, factor, 2 * length, length)
    torch.testing.assert_close(doubled, ntk_frequencies(frequencies, factor + 1))
    # At twice the length a factor of 1 is the paper's: the slowest pair spans what it spanned.
    paper_s = dynamic_ntk_frequencies(frequencies, 1.0, 2 * length, length)
    assert (frequencies / paper_s)[-1].item() == pytest.approx(2)


@some
@given(head_dims, thetas, factors, lengths, st.booleans())
def test_yarn_leaves_fast_pairs_and_interpolates_slow_ones(head_dim, theta, factor, length, truncate):
    frequencies = rope_frequencies(head_dim, theta)
    scaled = yarn_frequencies(frequencies, factor, length, truncate=truncate)
    ramp = yarn_ramp(frequencies, length, truncate=truncate)
    turns = length * frequencies / (2 * math.pi)
    inside = (turns < 32) & (turns > 1)
    assert torch.equal(scaled[turns >= 32], frequencies[turns >= 32])
    assert torch.equal(scaled[turns <= 1], frequencies[turns <= 1] / factor)
    torch.testing.assert_close(scaled, frequencies * (1 - ramp + ramp / factor))
    assert (ramp.diff() >= 0).all()
    assert truncate or (inside.sum() < 2) or (ramp[inside].diff() > 0).all()


def test_yarn_s_ramp_is_linear_in_the_number_of_the_pair_and_llama_3_s_in_the_turns():
    # A tenth from pair to pair: pairs 1, 2, 3 turn 100, 10 and 1 times in the length
    frequencies, length = 10.0 ** -torch.arange(5, dtype=torch.float64), 2 * math.pi * 1000
    ramp = yarn_ramp(frequencies, length, beta_fast=100, beta_slow=1, truncate=False)
    torch.testing.assert_close(ramp, torch.tensor([0, 0, 0.5, 1, 1], dtype=torch.float64))
    scaled = llama3_frequencies(frequencies, 4.0, 1, 100, length)
    kept = torch.tensor([1, 1, 9 / 99, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(scaled, frequencies * (kept + (1 - kept) / 4))


def test_yarn_truncates_the_ramp_outwards():
    frequencies, length = 10.0 ** -torch.arange(6, dtype=torch.float64), 2 * math.pi * 1000
    ends = {"beta_fast": 50, "beta_slow": 2}  # pairs 1.3 and 2.7
    torch.testing.assert_close(
        yarn_ramp(frequencies, length, **ends), torch.tensor([0, 0, 0.5, 1, 1, 1], dtype=torch.float64)
    )
    exact = (2 - (3 - math.log10(50))) / math.log10(25)
    untruncated = yarn_ramp(frequencies, length, **ends, truncate=False)
    torch.testing.assert_close(untruncated, torch.tensor([0, 0, exact, 1, 1, 1], dtype=torch.float64))


def test_yarn_s_ramp_ends_at_the_last_channel_s_number_at_the_latest():
    # Three pairs, so six channels: pairs 0, 1, 2 turn 1e8, 1e7 and 1e6 times, and pair 8 would turn once
    frequencies, length = 10.0 ** -torch.arange(3, dtype=torch.float64), 2 * math.pi * 1e8
    ramp = yarn_ramp(frequencies, length, beta_fast=1e8)
    torch.testing.assert_close(ramp, torch.tensor([0, 0.2, 0.4], dtype=torch.float64))


def test_attention_factors_are_the_papers():
    assert yarn_attention_factor(math.e**5) == pytest.approx(1.5)
    assert yarn_attention_factor(1.0) == 1
    assert yarn_attention_factor(40.0, mscale=1.0, mscale_all_dim=1.0) == 1
    assert longrope_attention_factor(1.0, 4096) == 1
    assert longrope_attention_factor(4096.0, 4096) == pytest.approx(math.sqrt(2))


@some
@given(st.sampled_from([1.0, 2.0, 0.5]), st.floats(1.5, 16), factors, lengths)
def test_llama_3_is_continuous_at_both_edges(low, width, factor, length):
    high = low * width
    turns = torch.tensor([low, high, (low + high) / 2], dtype=torch.float64)

    def divided_by(turns):
        frequencies = turns * 2 * math.pi / length
        return frequencies / llama3_frequencies(frequencies, factor, low, high, length)

    at_edge = torch.tensor([factor, 1.0], dtype=torch.float64)
    for step in (1 - 1e-9, 1.0, 1 + 1e-9):
        torch.testing.assert_close(divided_by(turns[:2] * step), at_edge, atol=0, rtol=1e-5)
    torch.testing.assert_close(divided_by(turns[:2] * torch.tensor([0.3, 3])), at_edge)
    halfway = divided_by(turns[2:]).item()
    assert 1 / halfway == pytest.approx((1 + 1 / factor) / 2)


def kinds(factor, length, pairs):
    per_pair = tuple(factor for _ in range(pairs))
    yield LinearScaling(factor=factor)
    yield DynamicNTKScaling(factor=factor, original_max_seq_len=length)
    yield YarnScaling(factor=factor, original_max_seq_len=length)
    yield Llama3Scaling(factor=factor, original_max_seq_len=length, low_freq_factor=1.0, high_freq_factor=4.0)
    yield LongRopeScaling(factor=factor, original_max_seq_len=length, short_factor=(1.0,) * pairs, long_factor=per_pair)


@some
@given(head_dims, thetas, factors, lengths, st.integers(1, 400_000))
def test_no_frequency_grows_and_none_falls_below_its_share(head_dim, theta, factor, length, seq_len):
    frequencies = rope_frequencies(head_dim, theta)
    for scaling in kinds(factor, length, head_dim // 2):
        scaled = scaling.frequencies(frequencies, seq_len)
        assert scaled.dtype == torch.float64
        assert scaled.shape == frequencies.shape
        share = factor * max(seq_len / length, 1)
        assert (scaled <= frequencies).all()
        assert (scaled >= frequencies / share * (1 - 1e-12)).all()
        assert scaling.attention_factor >= 1


@some
@given(head_dims, thetas, lengths)
def test_a_factor_of_1_changes_nothing(head_dim, theta, length):
    frequencies = rope_frequencies(head_dim, theta)
    for scaling in kinds(1.0, length, head_dim // 2):
        assert scaling.attention_factor == 1
        # A dynamic factor of 1 still follows a text that grows past the length: that is the paper's.
        seq_len = length if scaling.kind == "dynamic" else 4 * length
        torch.testing.assert_close(scaling.frequencies(frequencies, seq_len), frequencies, atol=0, rtol=1e-15)


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alibi_slopes(0), "n_heads (0) must be positive"),
        (lambda: alibi_bias(4, 5, 3), "query_len (5) must be at most key_len (3)"),
        (lambda: ntk_theta(1e4, 2.0, 2), "head_dim (2) must be more than 2"),
        (lambda: yarn_ramp(rope_frequencies(2), 64), "two pairs at least, not [1.0]"),
        (lambda: yarn_ramp(rope_frequencies(8, 1.0), 64), "must fall, over two pairs at least, not [1.0, 1.0]"),
        (
            lambda: longrope_frequencies(rope_frequencies(8), [1.0]),
            "factors (1) must be one for each of head_dim // 2 (4)",
        ),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
