"""Other answers to unigram_entropy."""

import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import distributions

from tests.grading.answers import right, wrong


@right
def with_a_counter(tokens):
    ids = tokens.tolist()
    return -sum(n / len(ids) * math.log(n / len(ids)) for n in Counter(ids).values())


@right
def by_unique(tokens):
    _, counts = tokens.unique(return_counts=True)
    return torch.special.entr(counts.double() / counts.sum()).sum().item()


@right
def by_the_distribution(tokens):
    return distributions.Categorical(probs=tokens.bincount().double()).entropy().item() + 0.0


@right
def the_mean_surprise_of_each_token(tokens):
    p = tokens.bincount().double() / tokens.numel()
    return float(-p[tokens].log().mean())


@right
def by_cross_entropy(tokens):
    logits = tokens.bincount().double().log()
    return F.cross_entropy(logits.expand(len(tokens), -1), tokens).item()


@wrong()
def without_the_last_token(tokens):
    return with_a_counter(tokens[:-1])


@wrong()
def conditional(tokens):
    """The entropy of pairs less that of single tokens: what the token before tells."""
    pairs = Counter(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True))
    n = sum(pairs.values())
    return -sum(c / n * math.log(c / n) for c in pairs.values()) - with_a_counter(tokens[:-1])


@wrong()
def rounded(tokens):
    return round(with_a_counter(tokens), 2)


@wrong()
def cut_at_a_thousandth(tokens):
    p = tokens.bincount().double() / len(tokens)
    return -(p * p.clamp_min(0.01).log()).sum().item()
