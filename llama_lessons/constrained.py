"""Lesson 11. Constrained decoding: an answer that is one of a list, whatever the model would have said.

At each step, only tokens with which an allowed text goes on keep their logits. The best token at each step need not
lead to the most probable text: a text's probability is the product over all of its tokens, and the first one does not
know what comes. So there are two ways: token by token, in as many passes as the text has tokens, and all texts scored.

Not done here: grammars. What is allowed next may as well come from a regular expression or a JSON schema, compiled to
an automaton (Willard and Louf 2023, "Efficient Guided Generation for Large Language Models").
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from llama_lessons.generation import left_pad
from llama_lessons.llama import Llama

__all__ = ["choose_token_by_token", "score_texts"]


@torch.inference_mode()
def choose_token_by_token(model: Llama, prompt: Sequence[int], texts: Sequence[Sequence[int]]) -> list[int]:
    """Continue a prompt with one of the texts: at each step by the best token with which one of them goes on.

    Args:
        model: scores the next token.
        prompt: token ids.
        texts: token ids of each; none may be the beginning of another: end each with a stop token.

    Returns:
        One of texts.

    Raises:
        ValueError: if there are no texts, or one is the beginning of another or empty.
    """
    ordered = sorted(map(list, texts))
    if not ordered or not ordered[0] or any(b[: len(a)] == a for a, b in pairwise(ordered)):
        raise ValueError("texts must be at least one, and none the beginning of another: end each with a stop token")
    device, chosen = next(model.parameters()).device, []
    cache = model.new_cache(1, len(prompt) + max(map(len, ordered)))
    new = list(prompt)
    while chosen not in ordered:
        hidden = model.hidden_states(torch.tensor([new], device=device), cache=cache)
        logits = model.head(hidden[0, -1])
        depth = len(chosen)
        allowed = sorted({text[depth] for text in ordered if text[:depth] == chosen})
        new = [allowed[int(logits[allowed].argmax())]]
        chosen += new
    return chosen


@torch.inference_mode()
def score_texts(model: Llama, prompt: Sequence[int], texts: Sequence[Sequence[int]]) -> Tensor:
    """The logarithm of the probability with which the model goes on with each text.

    Args:
        model: scores the next token.
        prompt: token ids.
        texts: token ids of each.

    Returns:
        float32, shape (len(texts),).
    """
    device = next(model.parameters()).device
    tokens, mask = (x.to(device) for x in left_pad([[*prompt, *text] for text in texts]))
    log_p = model(tokens[:, :-1], attention_mask=mask[:, :-1]).log_softmax(-1)
    # (len(texts), longest - 1): of each token that follows, as the model saw it coming
    of_next = log_p.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    return torch.stack([row[-len(text) :].sum() for row, text in zip(of_next, texts, strict=True)])
