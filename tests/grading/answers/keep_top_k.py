"""Other answers to keep_top_k."""

import torch

from tests.grading.answers import right, wrong

INF = float("inf")


@right
def by_sorting(logits, k):
    ordered = logits.sort(dim=-1, descending=True).values
    return torch.where(logits >= ordered[..., min(k, logits.shape[-1]) - 1, None], logits, -INF)


@right
def by_counting(logits, k):
    """A token stays if fewer than k are higher."""
    higher = (logits[..., None, :] > logits[..., :, None]).sum(-1)
    result = logits.clone()
    result[higher >= k] = -INF
    return result


@right
def with_kthvalue(logits, k):
    size = logits.shape[-1]
    least = logits.kthvalue(max(size - k + 1, 1), dim=-1, keepdim=True).values
    return logits.masked_fill(logits.lt(least), -INF)


@wrong(called="equal ones are cut")
def by_scatter(logits, k):
    ids = logits.topk(min(k, logits.shape[-1])).indices
    mask = torch.ones_like(logits, dtype=torch.bool).scatter(-1, ids, False)
    return logits.masked_fill(mask, -INF)


@wrong(called="k too large")
def nothing_for_large_k(logits, k):
    return logits.masked_fill(logits < logits.topk(k, dim=-1)[0][..., -1, None], -INF)


@wrong()
def float32_comes_back(logits, k):
    return by_sorting(logits.float(), k)


@wrong()
def a_threshold_at_zero(logits, k):
    return logits.masked_fill(logits <= 0, -INF)


@wrong()
def the_first_k(logits, k):
    return logits.masked_fill(torch.arange(logits.shape[-1], device=logits.device) >= k, -INF)


@wrong()
def not_a_number_for_what_was_cut_before(logits, k):
    return by_sorting(logits, k) - by_sorting(logits, k).amin() * 0


@wrong()
def k_percent(logits, k):
    return by_sorting(logits, max(1, logits.shape[-1] * k // 100))


@wrong()
def in_place(logits, k):
    return logits.copy_(by_sorting(logits, k))


@wrong()
def log_probabilities(logits, k):
    return by_sorting(logits, k).log_softmax(-1)
