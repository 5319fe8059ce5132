"""How surprised a language model is by a text."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["perplexity"]


@torch.inference_mode()
def perplexity(model: Callable[..., Tensor], tokens: Tensor, positions: Tensor | None = None) -> float:
    """Perplexity of a text: e to the mean surprise, in nats, at each token after the first.

    A model that knows nothing has the size of its vocabulary, one that is always sure and right has 1.

    Args:
        model: takes token ids (1, seq_len) and positions; gives logits (1, seq_len, vocab_size).
        tokens: token ids, shape (seq_len,), at least two.
        positions: where they stand, shape (seq_len,); by default the model's own default.

    Raises:
        ValueError: if tokens are fewer than two or of another rank.
    """
    if tokens.ndim != 1 or len(tokens) < 2:
        raise ValueError(f"tokens must be (seq_len,) with at least two tokens, not {tuple(tokens.shape)}")
    logits = model(tokens[None], positions)[0]
    return F.cross_entropy(logits[:-1].float(), tokens[1:].long()).exp().item()
