"""Answers from a list: one of it always, and the probabilities of whole texts."""

import pytest
import torch

from llama_lessons.constrained import choose_token_by_token, score_texts
from tests.test_speculative import build

TEXTS = [[1, 2, 0], [1, 3, 0], [2, 0], [4, 4, 4, 0]]


@pytest.fixture(scope="module")
def model():
    return build(0)


@pytest.mark.parametrize("prompt", [[1], [3, 3, 2], [0, 4]])
def test_token_by_token_is_the_best_of_what_is_allowed(model, prompt):
    chosen = choose_token_by_token(model, prompt, TEXTS)
    assert chosen in TEXTS
    for i, token in enumerate(chosen):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + chosen[:i]]))[0, -1]
        allowed = {text[i] for text in TEXTS if text[:i] == chosen[:i]}
        assert token == max(allowed, key=lambda token: logits[token].item())


def test_a_text_s_score_is_the_sum_of_its_tokens_log_probabilities(model):
    scores = score_texts(model, [3, 1], TEXTS)
    for text, score in zip(TEXTS, scores.tolist(), strict=True):
        with torch.no_grad():
            log_p = model(torch.tensor([[3, 1, *text]]))[0].log_softmax(-1)
        assert score == pytest.approx(sum(log_p[1 + i, token].item() for i, token in enumerate(text)), abs=1e-4)


@pytest.mark.parametrize("texts", [[], [[]], [[1, 2], [1]], [[1], [1]]])
def test_texts_that_cannot_be_told_apart_are_refused(model, texts):
    with pytest.raises(ValueError, match="none the beginning of another"):
        choose_token_by_token(model, [1], texts)
