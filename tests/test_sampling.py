"""How a token is chosen: against transformers, in exact arithmetic, and at the ends of its settings."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llama_lessons import sampling
from llama_lessons.sampling import draw, keep_min_p, keep_top_k, keep_top_p, probabilities, sample


@pytest.mark.parametrize("k", [1, 5, 50, 96, 97, 1000])
def test_top_k_agrees_with_transformers(k):
    logits = torch.randn(4, 97, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9, 0.99])
def test_top_p_agrees_with_transformers(p, scale):
    logits = scale * torch.randn(4, 997, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_min_p_agrees_with_transformers(p, scale):
    torch.manual_seed(0)
    logits = scale * torch.randn(4, 97)
    torch.testing.assert_close(keep_min_p(logits, p), MinPLogitsWarper(p)(None, logits))


def test_min_p_of_0_keeps_all_and_of_1_the_best_with_its_equals():
    logits = torch.tensor([[2.0, -1.0, 2.0, -torch.inf]])
    assert torch.equal(keep_min_p(logits, 0), logits)
    assert keep_min_p(logits, 1).isfinite().tolist() == [[True, False, True, False]]


def test_probabilities_are_those_that_sample_draws_with():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    assert probabilities(logits).tolist() == [[0, 1, 0, 0]]
    cut = probabilities(logits, temperature=0.5, top_k=3, top_p=0.999, min_p=0.05)
    torch.testing.assert_close(cut, (2 * torch.tensor([[-torch.inf, 3, 2, -torch.inf]])).softmax(-1))
    generators = [torch.Generator().manual_seed(0)] * 4000
    drawn = sample(logits.expand(4000, 4), 0.5, 3, 0.999, 0.05, generators)
    assert drawn.unique().tolist() == [1, 2]
    assert (drawn == 2).float().mean().item() == pytest.approx(cut[0, 2].item(), abs=0.02)


def test_the_order_is_temperature_then_top_k_then_top_p():
    logits = 3 * torch.randn(1, 200, generator=torch.Generator().manual_seed(0))
    kept = TopPLogitsWarper(0.6)(None, TopKLogitsWarper(5)(None, TemperatureLogitsWarper(2.0)(None, logits)))
    allowed = set(kept.isfinite().nonzero()[:, 1].tolist())
    torch.manual_seed(0)
    drawn = sample(logits.expand(5000, -1), temperature=2.0, top_k=5, top_p=0.6)
    assert set(drawn.tolist()) == allowed
    # In other orders the same settings would leave other sets.
    top_p_first = TopKLogitsWarper(5)(None, TopPLogitsWarper(0.6)(None, TemperatureLogitsWarper(2.0)(None, logits)))
    cold_top_p = TopPLogitsWarper(0.6)(None, TopKLogitsWarper(5)(None, logits))
    assert len(allowed) not in (top_p_first.isfinite().sum(), cold_top_p.isfinite().sum())


@settings(deadline=None, max_examples=150)
@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40),
    p=st.floats(1e-6, 1, exclude_min=True),
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits, p):
    logits = torch.tensor(logits)
    kept = keep_top_p(logits, p).isfinite()
    probabilities = logits.double().softmax(-1)
    assert kept.any()
    assert torch.equal(keep_top_p(logits, p)[kept], logits[kept])
    slack = 1e-6
    assert probabilities[kept].sum() >= p - slack
    if p < 1:
        assert probabilities[kept].sum() - probabilities[kept].min() < p + slack
    if not kept.all():
        # softmax in float32 may tie what float64 tells apart
        assert probabilities[~kept].max() <= probabilities[kept].min() + slack


@pytest.mark.parametrize(("p", "ids"), [(1e-9, [0]), (0.25, [0]), (0.26, [0, 1]), (0.5, [0, 1]), (0.76, [0, 1, 2, 3])])
def test_of_equals_top_p_takes_no_more_than_it_needs(p, ids):
    assert keep_top_p(torch.zeros(2, 4), p).isfinite().tolist() == [[i in ids for i in range(4)]] * 2


@pytest.mark.parametrize("p", [0.3, 0.6, 0.95])
def test_a_row_s_set_does_not_depend_on_its_neighbours(p):
    generator = torch.Generator().manual_seed(0)
    many_equals = torch.randint(-3, 3, (1, 5000), generator=generator).float()
    peaked = 9 * torch.randn(1, 5000, generator=generator)
    together = keep_top_p(torch.cat((peaked, many_equals, torch.zeros(1, 5000))), p)
    assert torch.equal(together[1:2], keep_top_p(many_equals, p))
    assert torch.equal(together[:1], keep_top_p(peaked, p))
    expected = TopPLogitsWarper(p)(None, many_equals).isfinite().sum()
    assert abs(together[1].isfinite().sum() - expected) <= 1  # sums in other orders


@pytest.mark.parametrize("p", [1e-12, 1e-6])
@pytest.mark.parametrize("vocab_size", [1, 3, 7, 1000, 49_152])
def test_top_p_keeps_one_token_at_least(vocab_size, p):
    assert keep_top_p(torch.full((2, vocab_size), 0.1), p).isfinite().sum(-1).tolist() == [1, 1]


def test_top_p_of_1_keeps_what_float32_can_t_add_to_a_sum():
    logits = torch.tensor([[40.0, 0.0, 0.0]])
    assert torch.equal(keep_top_p(logits, 1.0), logits)


def test_top_p_of_half_precision_is_that_of_float32():
    logits = 2 * torch.randn(20, 997, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(keep_top_p(logits, 0.9), keep_top_p(logits.float(), 0.9).bfloat16())


def test_what_is_excluded_already_stays_so_and_nothing_is_written():
    logits = torch.tensor([[1.0, -torch.inf, 3.0, -torch.inf]])
    before = logits.clone()
    for kept in (keep_top_k(logits, 3), keep_top_p(logits, 0.999), keep_top_p(logits, 1.0)):
        assert torch.equal(kept, before)
    sample(logits, 0.5, top_k=1, top_p=0.5)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
def test_the_fast_way_of_top_p_is_the_plain_one(p, scale):
    generator = torch.Generator().manual_seed(0)
    tied = torch.randint(-3, 3, (4, 3000), generator=generator).float()
    for logits in (scale * torch.randn(4, 3000, generator=generator), scale * tied):
        assert torch.equal(sampling._keep_top_p_fast(logits, p), keep_top_p(logits, p))


def test_the_draw_is_the_first_token_whose_cumulative_probability_exceeds_u():
    probabilities = torch.rand(500, 40, generator=torch.Generator().manual_seed(0)) ** 4
    probabilities[:, ::3] = 0
    seeds = range(500)
    drawn = draw(probabilities, [torch.Generator().manual_seed(seed) for seed in seeds])
    u = torch.cat([torch.rand(1, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    cumulative = probabilities.cumsum(-1)
    assert torch.equal(drawn, (cumulative > u * cumulative[:, -1:]).int().argmax(-1))
    assert (probabilities.gather(-1, drawn[:, None]) > 0).all()


@pytest.mark.parametrize("cuts", [{}, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}], ids=str)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_refused(cuts, bad):
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    logits[1, 7] = bad
    with pytest.raises(ValueError, match="logits of row 1 are not finite"):
        sample(logits, **cuts)
    with pytest.raises(ValueError, match="logits of row 0 are not finite"):
        sample(torch.full((1, 5), -torch.inf), **cuts)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("own_generators", [True, False])
def test_draws_are_as_frequent_as_the_softmax_says(temperature, own_generators):
    logits, n = torch.tensor([1.0, -0.5, 0.7, 2.0, -3.0]), 5_000
    torch.manual_seed(0)
    generators = [torch.Generator().manual_seed(seed) for seed in range(n)] if own_generators else None
    drawn = sample(logits.expand(n, -1), temperature, generators=generators)
    expected = n * (logits.double() / temperature).softmax(-1)
    counts = drawn.bincount(minlength=5)
    likely = expected > 1  # a token of less than one draw in all says nothing
    chi_square = ((counts - expected) ** 2 / expected)[likely].sum()
    assert chi_square < 23.5  # of 4 degrees of freedom, exceeded once in 10,000 times
    assert counts[~likely].sum() <= 5


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_the_ends_of_the_range_draw_a_token_that_may_be_drawn(number, monkeypatch):
    # Among 200 rows, some sum to a little less than the largest number that can be drawn.
    logits = torch.randn(200, 3000, generator=torch.Generator().manual_seed(0))
    logits[:, :1000] = logits[:, 2000:] = -torch.inf
    assert (logits.softmax(-1).cumsum(-1)[:, -1] < 1 - 2**-24).any()
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, number))
    drawn = sample(logits, 1.0)
    assert (drawn >= 1000).all()
    assert (drawn < 2000).all()
    assert (drawn == 1000).all() == (number == 0)


@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 1e-300])
def test_next_to_no_temperature_is_greedy(temperature):
    logits = 30 * torch.randn(8, 500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample(logits, temperature), logits.argmax(-1))
    assert torch.equal(sample(logits, temperature, top_k=3, top_p=0.5), logits.argmax(-1))


@pytest.mark.parametrize("cuts", [{}, {"top_k": 300, "top_p": 0.9}], ids=str)
def test_half_precision_is_drawn_in_float32(cuts):
    logits = torch.randn(1000, 997, generator=torch.Generator().manual_seed(0)).bfloat16()
    drawn = []
    for x in (logits, logits.float()):
        torch.manual_seed(0)
        drawn.append(sample(x, 0.7, **cuts))
    assert torch.equal(*drawn)


def test_at_temperature_0_the_first_of_equals_is_taken():
    assert sample(torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 0.0]])).tolist() == [1, 0]


ROW = torch.zeros(1, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keep_top_k(ROW, 0), "top_k (0) must be at least 1"),
        (lambda: keep_top_p(ROW, 0.0), "top_p (0.0) must be above 0 and at most 1"),
        (lambda: keep_top_p(ROW, 1.01), "top_p (1.01) must be above 0 and at most 1"),
        (lambda: keep_top_p(ROW, float("nan")), "top_p (nan)"),
        (lambda: sample(ROW, -0.1), "temperature (-0.1) must be finite and at least 0"),
        (lambda: sample(ROW, float("inf")), "temperature (inf) must be finite"),
        (lambda: sample(ROW, float("nan")), "temperature (nan) must be finite"),
        (lambda: sample(ROW, 0.0, top_k=-1), "top_k (-1)"),
        (lambda: keep_min_p(ROW, 1.01), "min_p (1.01) must be at least 0 and at most 1"),
        (
            lambda: sample(ROW, 1.0, generators=[torch.Generator()] * 2),
            "generators (2) must be as many as rows (1)",
        ),
    ],
)
def test_a_setting_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
