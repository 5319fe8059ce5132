"""Other answers to top_k_router."""

import torch

from tests.grading.answers import right, wrong


def refuse(logits, k):
    if k < 1 or k > logits.shape[-1]:
        raise ValueError(f"k ({k}) must be from 1 to {logits.shape[-1]}")


@right
def by_sorting(logits, k):
    refuse(logits, k)
    scores, experts = logits.sort(dim=-1, descending=True)
    return scores[..., :k].float().softmax(-1).to(logits.dtype), experts[..., :k]


@right
def softmax_first_then_to_sum_1(logits, k):
    refuse(logits, k)
    weights, experts = logits.float().softmax(-1).topk(k)
    return (weights / weights.sum(-1, keepdim=True)).to(logits.dtype), experts


@right
def by_masking(logits, k):
    refuse(logits, k)
    experts = logits.topk(k).indices
    masked = torch.full_like(logits.float(), -torch.inf).scatter(-1, experts, logits.float().gather(-1, experts))
    return masked.softmax(-1).gather(-1, experts).to(logits.dtype), experts


@right
def one_after_the_other(logits, k):
    refuse(logits, k)
    left, chosen = logits.detach().float().clone(), []
    for _ in range(k):
        chosen.append(left.argmax(-1))
        left.scatter_(-1, chosen[-1].unsqueeze(-1), -torch.inf)
    experts = torch.stack(chosen, -1)
    return torch.softmax(logits.float().gather(-1, experts), -1).to(logits.dtype), experts


@wrong()
def top_experts_of_the_first_token(logits, k):
    refuse(logits, k)
    experts = (
        logits.flatten(0, -2)[:1].topk(k).indices.expand(*logits.shape[:-1], k)
        if logits.ndim > 1
        else logits.topk(k)[1]
    )
    return logits.float().gather(-1, experts).softmax(-1).to(logits.dtype), experts


@wrong()
def tempered(logits, k):
    refuse(logits, k)
    best, experts = logits.topk(k)
    return (best.float() / 2).softmax(-1).to(logits.dtype), experts


@wrong()
def in_the_order_of_experts(logits, k):
    refuse(logits, k)
    experts = logits.topk(k).indices.sort(-1).values
    return logits.float().gather(-1, experts).softmax(-1).to(logits.dtype), experts


@wrong()
def noisy(logits, k):
    refuse(logits, k)
    best, experts = (logits.float() + torch.randn(logits.shape)).topk(k)
    return best.softmax(-1).to(logits.dtype), experts
