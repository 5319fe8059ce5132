"""Lesson 11. Sampling: from the scores of all tokens to the one that is chosen.

softmax(logits / temperature), cut by top-k, then by top-p, then by min-p, and scaled to sum 1 again; at temperature 0
the best token. A token is drawn from what is left.

Sources: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"; Fan et al. 2018, "Hierarchical
Neural Story Generation", section 5.1 (top-k); Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling for Creative and
Coherent LLM Outputs".
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

__all__ = ["check_settings", "draw", "keep_min_p", "keep_top_k", "keep_top_p", "probabilities", "sample"]


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k highest logits of each row to -inf (Fan et al. 2018, section 5.1).

    Args:
        logits: shape (..., vocab_size).
        k: tokens to keep, at least 1; more than there are keeps all.

    Returns:
        Like logits. Tokens that score the same as the k-th stay too: nothing tells them apart.

    Raises:
        ValueError: if k is less than 1.
    """
    check_settings(top_k=k)
    kth_highest = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < kth_highest, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Set to -inf all but the smallest set of tokens whose probability reaches p (Holtzman et al. 2020, eq. 2-3).

    The most probable tokens are taken until their sum is at least p: the token that reaches p is the last one
    in, so there is always one.

    Args:
        logits: shape (..., vocab_size).
        p: probability to reach, above 0 and at most 1; 1 keeps all.

    Returns:
        Like logits; probabilities are computed in float32. Of equally probable tokens, lower ids come first.

    Raises:
        ValueError: if p is outside (0, 1].
    """
    check_settings(top_p=p)
    if p == 1:
        return logits  # sums of float32 may reach 1 before the last token is in
    probabilities, ids = logits.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
    # The probability of all more probable tokens; a token is kept while this is below p.
    before = F.pad(probabilities.cumsum(-1)[..., :-1], (1, 0))
    return logits.masked_fill((before >= p).scatter(-1, ids, before >= p), -torch.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Set to -inf all tokens whose probability is less than p times that of the best one (Nguyen et al. 2024, eq. 2).

    Probabilities are to each other as the exponentials of their logits, so that no softmax is needed.

    Args:
        logits: shape (..., vocab_size).
        p: share of the best token's probability, from 0, which keeps all, to 1, which keeps the best alone.

    Returns:
        Like logits.

    Raises:
        ValueError: if p is outside [0, 1].
    """
    check_settings(min_p=p)
    if p == 0:
        return logits
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -torch.inf)


def _keep_top_p_fast(logits: Tensor, p: float) -> Tensor:
    # As `keep_top_p`, without sorting the whole vocabulary: tokens rarer than (1 - p) / vocab_size have less than
    # 1 - p together, so that p is reached without them.
    if p == 1:
        return logits
    probabilities = logits.float().softmax(-1)
    n_candidates = int((probabilities >= (1 - p) / logits.shape[-1]).sum(-1).max())
    # (..., vocab_size) -> (..., n_candidates), by id and then by probability, as a stable sort has them
    ids = probabilities.topk(n_candidates).indices.sort(dim=-1).values
    candidates, order = probabilities.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(-1, order)
    before = F.pad(candidates.cumsum(-1)[..., :-1], (1, 0))
    kept = logits.gather(-1, ids).masked_fill(before >= p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, kept)


def draw(probabilities: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
    """Draw a token for each row by inverse transform sampling.

    The first token up to which the probabilities add up to more than u, where u is uniform on [0, 1): a
    token of probability p is drawn with probability p. torch.multinomial does the same with a random number for
    each token of the vocabulary, and takes several times as long.

    Args:
        probabilities: shape (batch, vocab_size); rows need not sum to 1.
        generators: one per row, on the CPU, so that a seed means the same on every device; by default torch's
            own one serves all rows.

    Returns:
        Token ids, int64, shape (batch,). A token of probability 0 is never drawn.

    Raises:
        ValueError: if a row does not sum to a finite positive number, or generators are not one per row.
    """
    if generators is not None and len(generators) != probabilities.shape[0]:
        raise ValueError(f"generators ({len(generators)}) must be as many as rows ({probabilities.shape[0]})")
    cumulative = probabilities.cumsum(-1)
    totals = cumulative[:, -1:]
    _check_finite(totals.log())
    u = [torch.rand(1, 1, generator=g, device="cpu") for g in generators or [None] * probabilities.shape[0]]
    # The first place at which cumulative > u * totals; a binary search, since cumulative rises.
    return torch.searchsorted(cumulative, torch.cat(u).to(totals.device) * totals, right=True).squeeze(-1)


def sample(
    logits: Tensor,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    generators: Sequence[Generator] | None = None,
) -> Tensor:
    """Choose a token for each row: the best one at temperature 0, else one drawn from `probabilities`.

    Args:
        logits: shape (batch, vocab_size).
        temperature: see `probabilities`, as for top_k, top_p and min_p.
        generators: see `draw`.

    Returns:
        Token ids, int64, shape (batch,).

    Raises:
        ValueError: if a setting is out of its range, a row of logits is not finite, or generators are not one per row.
    """
    check_settings(temperature, top_k, top_p, min_p)
    if temperature == 0:
        return _best(logits)
    return draw(probabilities(logits, temperature, top_k, top_p, min_p), generators)


def probabilities(
    logits: Tensor,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Tensor:
    """With which probability each token is chosen.

    softmax(logits / temperature), cut to top_k, then to top_p, then by min_p, and scaled to sum 1 again

    Args:
        logits: shape (batch, vocab_size).
        temperature: 0 takes the highest logit, the lowest id among equals, with certainty; 1 draws as the model
            learned; higher is more even.
        top_k: see `keep_top_k`; None keeps all.
        top_p: see `keep_top_p`; None keeps all.
        min_p: see `keep_min_p`; None keeps all.

    Returns:
        float32, shape (batch, vocab_size).

    Raises:
        ValueError: if a setting is out of its range, or, at temperature 0, a row of logits is not finite.
    """
    check_settings(temperature, top_k, top_p, min_p)
    if temperature == 0:
        return F.one_hot(_best(logits), logits.shape[-1]).float()
    logits = logits.float() / max(temperature, 1e-30)  # below that, float32 overflows, and the best token is certain
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = _keep_top_p_fast(logits, top_p)
    if min_p is not None:
        logits = keep_min_p(logits, min_p)
    return logits.softmax(-1)


def _best(logits: Tensor) -> Tensor:
    ids = logits.argmax(-1)
    _check_finite(logits.gather(-1, ids[:, None]))  # of a row that holds NaN or inf, argmax takes that
    return ids


def _check_finite(largest: Tensor) -> None:
    if not largest.isfinite().all():
        row = int((~largest.isfinite()).flatten().nonzero()[0])
        raise ValueError(
            f"logits of row {row} are not finite (NaN or infinity): the model's weights are damaged, or its numbers "
            "overflow; float16 does so above 65,504, bfloat16 and float32 do not"
        )


def check_settings(
    temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None
) -> None:
    """Raise ValueError if one of the settings of `probabilities` is out of its range."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature ({temperature}) must be finite and at least 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k ({top_k}) must be at least 1, or None to keep all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p ({top_p}) must be above 0 and at most 1, or None to keep all")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"min_p ({min_p}) must be at least 0 and at most 1, or None to keep all")
