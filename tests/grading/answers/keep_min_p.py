"""Other answers to keep_min_p."""

import math

import torch

from tests.grading.answers import right, wrong

INF = float("inf")


@right
def by_logits(logits, p):
    least = logits.float().amax(-1, keepdim=True) + (math.log(p) if p else -INF)
    return logits.masked_fill(logits.float() < least, -INF)


@right
def by_ratios(logits, p):
    shares = logits.double().softmax(-1)
    return torch.where(shares / shares.max(dim=-1, keepdim=True).values >= p, logits, -INF)


@right
def by_e_to_the_difference(logits, p):
    ratio = (logits.float() - logits.float().amax(-1, keepdim=True)).exp()
    return logits.where(ratio >= p, torch.full_like(logits, -INF))


@wrong(called="a fixed probability")
def epsilon(logits, p):
    return logits.masked_fill(logits.float().softmax(-1) < p, -INF)


@wrong()
def p_of_the_range_of_logits(logits, p):
    low, high = logits.aminmax(dim=-1, keepdim=True)
    return logits.masked_fill(logits < low + (1 - p) * (high - low), -INF)


@wrong()
def logarithm_to_base_2(logits, p):
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log2(max(p, 1e-30)), -INF)


@wrong()
def the_second_best(logits, p):
    shares = logits.float().softmax(-1)
    second = shares.topk(min(2, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(shares < p * second, -INF)


@wrong()
def p_at_least_a_tenth(logits, p):
    return by_ratios(logits, max(p, 0.1))


@wrong()
def at_least_two(logits, p):
    two = logits.topk(min(2, logits.shape[-1])).indices
    return by_ratios(logits, p).scatter(-1, two, logits.gather(-1, two))


@wrong()
def of_all_rows(logits, p):
    return logits.masked_fill(logits < logits.max() + math.log(p or 1e-300), -INF)


@wrong()
def in_place(logits, p):
    return logits.copy_(by_ratios(logits, p))


@wrong()
def float32_comes_back(logits, p):
    return by_ratios(logits.float(), p)


@wrong()
def without_a_maximum_taken_off(logits, p):
    e = logits.float().exp()
    return logits.masked_fill(e < p * e.amax(-1, keepdim=True), -INF)
