"""Other answers to sample."""

import torch

from llama_lessons.sampling import keep_top_k, keep_top_p
from tests.grading.answers import right, wrong


def cut(logits, top_k, top_p):
    logits = keep_top_k(logits, top_k) if top_k else logits
    return keep_top_p(logits, top_p) if top_p else logits


@right
def by_searchsorted(logits, u, temperature=1.0, top_k=None, top_p=None):
    if not temperature:
        return logits.max(dim=-1).indices
    sums = cut(logits.float() / temperature, top_k, top_p).softmax(-1).cumsum(-1)
    return torch.searchsorted(sums, u[:, None] * sums[:, -1:], right=True).squeeze(-1)


@right
def in_float64(logits, u, temperature=1.0, top_k=None, top_p=None):
    if temperature == 0:
        return logits.argmax(dim=-1)
    p = cut(logits.double() / temperature, top_k, top_p).softmax(-1)
    passed = p.cumsum(-1) <= u.double().unsqueeze(1)
    return passed.sum(-1).minimum(p.shape[-1] - 1 - (p > 0).flip(-1).int().argmax(-1))


@right
def row_by_row(logits, u, temperature=1.0, top_k=None, top_p=None):
    out = []
    for row, number in zip(logits.float(), u.tolist(), strict=True):
        if temperature == 0:
            out.append(row.argmax().item())
            continue
        total = 0.0
        for token, share in enumerate(cut(row[None] / temperature, top_k, top_p)[0].softmax(-1).tolist()):
            total += share
            if share:
                drawn = token
            if total > number:
                break
        out.append(drawn)
    return torch.tensor(out, device=logits.device)


@wrong(called="temperature after the cuts")
def cut_first(logits, u, temperature=1.0, top_k=None, top_p=None):
    if temperature == 0:
        return logits.argmax(-1)
    return by_searchsorted(cut(logits.float(), top_k, top_p) / temperature, u)


@wrong()
def by_chance(logits, u, temperature=1.0, top_k=None, top_p=None):
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial(cut(logits.float() / temperature, top_k, top_p).softmax(-1), 1).squeeze(-1)


@wrong()
def with_a_column(logits, u, temperature=1.0, top_k=None, top_p=None):
    return by_searchsorted(logits, u, temperature, top_k, top_p)[:, None]


@wrong()
def int32(logits, u, temperature=1.0, top_k=None, top_p=None):
    return by_searchsorted(logits, u, temperature, top_k, top_p).int()


@wrong()
def the_temperature_squared(logits, u, temperature=1.0, top_k=None, top_p=None):
    return by_searchsorted(logits, u, temperature**2, top_k, top_p)


@wrong()
def no_temperature_with_cuts(logits, u, temperature=1.0, top_k=None, top_p=None):
    return by_searchsorted(logits, u, temperature if not (top_k or top_p) else 1.0, top_k, top_p)


@wrong()
def a_top_k_of_at_least_5(logits, u, temperature=1.0, top_k=None, top_p=None):
    return by_searchsorted(logits, u, temperature, top_k and max(top_k, 5), top_p)


@wrong()
def one_rule_only(logits, u, temperature=1.0, top_k=None, top_p=None):
    return by_searchsorted(logits, u, temperature, top_k, None if top_k else top_p)


@wrong()
def gumbel(logits, u, temperature=1.0, top_k=None, top_p=None):
    """Right in distribution with a number for each token, and not with one for each row."""
    if temperature == 0:
        return logits.argmax(-1)
    noise = -(-u[:, None].clamp(min=1e-9).log()).log()
    return (cut(logits.float() / temperature, top_k, top_p) + noise).argmax(-1)


@wrong()
def sums_in_half_precision(logits, u, temperature=1.0, top_k=None, top_p=None):
    if temperature == 0:
        return logits.argmax(-1)
    sums = cut(logits.float() / temperature, top_k, top_p).softmax(-1).bfloat16().cumsum(-1)
    return (sums <= u[:, None] * sums[:, -1:]).sum(-1)
