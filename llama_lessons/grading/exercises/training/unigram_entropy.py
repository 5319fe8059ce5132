"""Exercise 2: the loss of a model that knows how often each token comes, and nothing else."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import expect_number, expect_type, tensor


def unigram_entropy(tokens: Tensor) -> float:
    counts = tokens.bincount()
    counts = counts[counts > 0]
    p = counts / counts.sum()
    return -(p * p.log()).sum().item()


DIGITS = 3e-5


def cases() -> list[tuple]:
    """Even and uneven texts, ids with gaps, one token alone, large ids."""
    texts = ([0, 1, 2, 3], [0, 0, 0, 1], [5, 5, 9], [7, 7, 7], [2, 0, 1, 2, 0, 2, 2, 1], [300, 2, 300, 300, 4, 4])
    return [(tensor(text),) for text in texts] + [(written(seed),) for seed in range(3)]


def written(seed: int) -> Tensor:
    """A text of 400 tokens, some of them rare, and every third id unused."""
    generator = torch.Generator().manual_seed(seed)
    return tensor((3 * torch.randn(400, generator=generator).abs() * 4).long().tolist())


def rounded(answer: Callable) -> Callable:
    """The answer to five digits behind the point, so that float32 and float64 are alike."""

    def run(tokens: Tensor) -> float:
        value = answer(tokens)
        return round(value, 5) if isinstance(value, float) else value

    return run


exercise = Exercise(
    unigram_entropy,
    points=2,
    minutes=5,
    cases=cases,
    returns=float,
    using=rounded,
    hints=(
        "tokens.bincount() counts how often each id comes. What is the probability of each?",
        "The surprise of a token is minus the logarithm of its probability. Average the surprises as often as each "
        "token comes: weight each with its probability. What has probability 0 never comes, and counts nothing.",
    ),
)


@exercise.property("k tokens, all as often: ln k")
def even(answer: Callable) -> None:
    for k in (2, 5, 84):
        got = answer(tensor(list(range(k)) * 3))
        expect_number(got, math.log(k), where=f"{k} tokens, three times each", rtol=DIGITS)


@exercise.property("three of one and one of another: 0.5623 nats")
def uneven(answer: Callable) -> None:
    want = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    expect_number(answer(tensor([4, 4, 1, 4])), want, where="tokens 4, 4, 1, 4", rtol=DIGITS)


@exercise.property("the mean surprise of the text's own tokens")
def mean_surprise(answer: Callable) -> None:
    for seed in range(3):
        tokens = written(seed)
        ids = tokens.tolist()
        want = sum(-math.log(ids.count(token) / len(ids)) for token in ids) / len(ids)
        expect_number(
            answer(tokens), want, where=f"a text of {len(ids)} tokens with {len(set(ids))} different ids", rtol=DIGITS
        )


@exercise.property("a long text, and ids as large as in a real vocabulary")
def long_text(answer: Callable) -> None:
    ids = [4_900 + i % 7 for i in range(700)] + [3] * 1_400
    share, few = 2 / 3, 1 / 21
    want = -(share * math.log(share) + 7 * few * math.log(few))
    expect_number(answer(tensor(ids)), want, where="2,100 tokens with ids up to 4,906", rtol=DIGITS)


@exercise.property("a text of one token: 0")
def certain(answer: Callable) -> None:
    got = answer(tensor([7, 7, 7]))
    expect_type(got, float, "unigram_entropy")
    expect_number(1 + got, 1.0, where="1 + the entropy of 7, 7, 7", rtol=DIGITS)


exercise.slips("""
    bits for nats: p.log() -> p.log2()
        Your entropy is in bits: that is the logarithm to base 2. Losses in torch are in nats, with the natural one.
    base 10: p.log() -> p.log10()
        You take the logarithm to base 10. Losses in torch are in nats, with the natural one.
    the sign: return -(p -> return (p
        Yours is negative. The logarithm of a probability is, so a minus makes a surprise of it.
    not weighted: (p * p.log()).sum() -> p.log().mean()
        You average over the vocabulary, each token once. In the text a frequent token comes often: weight each
        surprise with its probability.
    a sum over the vocabulary: (p * p.log()).sum() -> p.log().sum()
        You add up the surprises of all tokens, each once. Weight each with its probability.
    weighted, then averaged: (p * p.log()).sum() -> (p * p.log()).mean()
        You divide by the number of different tokens as well. The weights p add up to 1 already: a sum is enough.
    over the whole text: (p * p.log()).sum() -> (counts * p.log()).sum()
        This is the surprise of the whole text. The mean per token is asked for: divide by the number of tokens.
    counts for probabilities: p = counts / counts.sum() -> p = counts
        You take the logarithm of counts. Divide them by the number of tokens: probabilities.
    divided by the vocabulary: p = counts / counts.sum() -> p = counts / len(counts)
        You divide the counts by the number of different tokens. A probability is a share of all tokens of the text.
    divided by the largest: p = counts / counts.sum() -> p = counts / counts.max()
        You divide the counts by the largest one. A probability is a share of all tokens of the text.
    ln of the vocabulary: return -(p * p.log()).sum().item() -> return math.log(len(counts))
        You return the logarithm of the number of different tokens: the loss of a model that holds all for equally
        likely. This one knows how often each comes.
    ln of the largest id: return -(p * p.log()).sum().item() -> return math.log(int(tokens.max()) + 1)
        You return the logarithm of the vocabulary's size: the loss of a model that knows nothing. This one knows how
        often each token comes.
    zeros left in: counts = counts[counts > 0] -> pass
        An id that never comes makes NaN of your sum: 0 times the logarithm of 0. Leave such ids out.
    a softmax of the counts: p = counts / counts.sum() -> p = counts.double().softmax(-1)
        You take a softmax of the counts. They are no logits: divide them by their sum.
    a little added to each: p = counts / counts.sum() -> p = (counts + 1) / (counts + 1).sum()
        You add 1 to each count. The text's own frequencies are asked for.
    perplexity: return -(p * p.log()).sum().item() -> return math.exp(-(p * p.log()).sum().item())
        This is e to the power of the entropy, the perplexity.
    the most frequent one alone: return -(p * p.log()).sum().item() -> return -p.max().log().item()
        This is the surprise of the most frequent token alone. Average over all.
    the distribution's collision: p.log()).sum() -> p).sum().log()
        You take the logarithm of the mean probability. It is the mean of the logarithms.
    one minus the squares: return -(p * p.log()).sum().item() -> return 1 - (p * p).sum().item()
        This is 1 minus the sum of squared probabilities, which is called Gini impurity. Entropy has logarithms.
    a tensor: .sum().item() -> .sum()
        A tensor comes out, and a plain number is asked for: .item() makes one of it.
""")
