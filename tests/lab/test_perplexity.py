"""Perplexity against models whose surprise is known."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from llama_lessons.lab.perplexity import perplexity


def guessing(tokens, positions):
    return torch.zeros(*tokens.shape, 50)


def counting(tokens, positions):
    """Sure that each token is followed by the next number."""
    return 100.0 * F.one_hot((tokens + 1) % 50, 50)


def test_a_model_that_knows_nothing_has_the_size_of_its_vocabulary():
    assert perplexity(guessing, torch.randint(50, (40,))) == pytest.approx(50)


def test_a_model_that_is_sure_and_right_has_1():
    assert perplexity(counting, torch.arange(40)) == pytest.approx(1)


def test_is_e_to_the_mean_surprise_at_the_next_token():
    torch.manual_seed(0)
    table, tokens = torch.randn(6, 6), torch.tensor([3, 1, 4, 1, 5])
    surprises = [-table[a].log_softmax(0)[b].item() for a, b in [(3, 1), (1, 4), (4, 1), (1, 5)]]
    expected = math.exp(sum(surprises) / 4)
    assert perplexity(lambda tokens, positions: table[tokens], tokens) == pytest.approx(expected)
    assert perplexity(lambda tokens, positions: table[tokens], tokens.int()) == pytest.approx(expected)
    in_bfloat16 = perplexity(lambda tokens, positions: table[tokens].bfloat16(), tokens)
    assert in_bfloat16 == pytest.approx(expected, rel=1e-2)


def test_positions_reach_the_model_and_no_gradient_is_kept():
    seen = []

    def model(tokens, positions):
        seen.append((positions, torch.is_grad_enabled()))
        return guessing(tokens, positions)

    positions = torch.arange(7, 10)
    perplexity(model, torch.arange(3))
    perplexity(model, torch.arange(3), positions)
    assert seen == [(None, False), (positions, False)]


@pytest.mark.parametrize("shape", [(1,), (0,), (2, 5), ()])
def test_too_few_tokens_or_a_batch_are_refused(shape):
    with pytest.raises(ValueError, match=re.escape(f"at least two tokens, not {shape}")):
        perplexity(guessing, torch.zeros(shape, dtype=torch.long))
