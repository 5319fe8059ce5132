"""Exercise 5: the first loss of four models, predicted before anything is run.

A prediction need not be exact, so what two answers have in common is seen in what their numbers are nearest to.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

from ...exercise import Exercise
from ...expect import Mismatch, plain


def predict_first_losses() -> tuple[float, float, float, float]:
    small, large = math.log(84), math.log(49_152)
    another, same = 576.0, 0.0
    return small, large, another, same


WHAT = (
    "a model of 84 characters",
    "a vocabulary of 49,152",
    "tied embeddings of std 1, where another token comes",
    "tied embeddings of std 1, where the same token comes again",
)
ENOUGH = 0.05  # of the right number
# What people predict; a prediction counts as the one that it is nearest to.
SIZES = (84, 49_152)
GUESSES = (math.log, math.log2, math.log10, float, lambda n: 1 / n, lambda n: -math.log(n), lambda n: math.log(n) + 0.5)
OTHERS = (0.0, 1.0, 11.52, 24.0, 128.0, math.log(49_152) + 288, 576.0, -576.0)
KNOWN = (*(guess(n) for n in SIZES for guess in GUESSES), *OTHERS)


def use(answer: Callable) -> Callable:
    """A function that gives one prediction, as it is or as the known one that it is nearest to."""

    said = cache(answer)  # one prediction, asked for number by number

    def predicted(which: int, roughly: bool = False) -> float:
        numbers = said()
        if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) != len(WHAT):
            raise Mismatch(f"{len(WHAT)} numbers are asked for, in round brackets, but what came is {numbers!r}")
        number = plain(numbers[which])
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Mismatch(f"{len(WHAT)} plain numbers are asked for, but one is {number!r}")
        near = [known for known in KNOWN if abs(number - known) <= ENOUGH * abs(known) + 1e-2 * (known == 0)]
        return min(near, key=lambda known: abs(number - known)) if roughly and near else float(number)

    return predicted


exercise = Exercise(
    predict_first_losses,
    points=3,
    minutes=8,
    cases=lambda: [(which, True) for which in range(len(WHAT))],
    returns=float,
    using=use,
    hints=(
        "A model that knows nothing holds every token equally likely. What is the loss, minus the logarithm of the "
        "probability of the right one, if there are 84 of them? Mind the base: nats.",
        "With tied embeddings the logit of a token is the dot product of its row with the residual stream. After the "
        "last norm, the stream is still nearly the row of the token just read, with a root mean square of 1.",
        "So the token just read has a logit of about one for each channel, and all others have logits near 0 beside "
        "it. The loss is the largest logit less the logit of what came.",
    ),
)


def expect_near(answer: Callable, which: int) -> None:
    """Refuse a prediction that is not near the right one."""
    got, want = answer(which), predict_first_losses()[which]
    allowed = ENOUGH * want if want else 0.01
    if not abs(got - want) <= allowed:
        raise Mismatch(f"{got:.4g} is not within {allowed:.2g} of what is measured")


for which, what in enumerate(WHAT):
    exercise.property(what)(lambda answer, which=which: expect_near(answer, which))


exercise.slips("""
    in bits: math.log(84), math.log(49_152) -> math.log2(84), math.log2(49_152)
        Your first two numbers are logarithms to base 2. torch's cross-entropy is in nats: the natural logarithm.
    logarithms to base 10: math.log(84), math.log(49_152) -> math.log10(84), math.log10(49_152)
        Your first two numbers are logarithms to base 10. torch's cross-entropy is in nats: math.log, not math.log10.
    the perplexity: math.log(84), math.log(49_152) -> 84.0, 49_152.0
        The number of tokens is the first *perplexity*: between how many the model wavers. The loss is its logarithm.
    the probability: math.log(84), math.log(49_152) -> 1 / 84, 1 / 49_152
        1 / V is the probability that the model gives to the right token. The loss is minus its logarithm.
    the first loss is 1: math.log(84), math.log(49_152) -> 1.0, 1.0
        A loss has no natural maximum of 1: it is minus the logarithm of a probability, here of 1 / V for each token.
    the vocabulary does not matter: math.log(49_152) -> math.log(84)
        You predict ln 84 for the second model too. Guessing one of 49,152 tokens is harder than guessing one of 84.
    the two vocabularies exchanged: math.log(84), math.log(49_152) -> math.log(49_152), math.log(84)
        You predict ln 49,152 for the first model and ln 84 for the second: the model of 84 characters comes first.
    the minus sign is missing: math.log(84), math.log(49_152) -> -math.log(84), -math.log(49_152)
        Your first two numbers are the logarithms of the probability, which are negative. The loss is minus that.
    half a nat more: math.log(84), math.log(49_152) -> math.log(84) + 0.5, math.log(49_152) + 0.5
        Half a nat more is what random logits of standard deviation 1 would cost. Here it is 0.02 * sqrt(dim).
    ln V with tied embeddings too: another, same = 576.0, 0.0 -> another, same = large, large
        You predict ln V for the tied model too. Its residual stream still is the row of the token just read, and the
        head scores just that row, with a logit of about dim.
    ln V where the same token comes: another, same = 576.0, 0.0 -> another, same = 576.0, large
        You predict ln V where the same token comes. The model is sure that it comes again: if it does, it pays nothing.
    ln V where another token comes: another, same = 576.0, 0.0 -> another, same = large, 0.0
        You predict ln V where another token comes. The model is sure of the token just read, with a logit of about dim,
        and pays for that logit where another one comes.
    the dim of the lesson's model: another, same = 576.0 -> another, same = 128.0
        128 is what the lesson's model of characters would have: its dim. This one has SmolLM2's sizes.
    the table drawn with 0.02: another, same = 576.0 -> another, same = 11.52
        0.02 * dim is the logit of the token just read where the table is drawn with 0.02. This one is from N(0, 1).
    dim where the same token comes: another, same = 576.0, 0.0 -> another, same = 576.0, 576.0
        You predict dim where the same token comes. The large logit belongs to that very token: the model pays nothing.
    the two cases exchanged: another, same = 576.0, 0.0 -> another, same = 0.0, 576.0
        You have them the wrong way round. The model is sure of the token just read, and right if it comes again.
    the logit taken for the loss: another, same = 576.0, 0.0 -> another, same = 576.0, -576.0
        A loss is never negative. A logit of dim makes the probability 1, and the loss is minus the logarithm of that.
    the probability where the same token comes: another, same = 576.0, 0.0 -> another, same = 576.0, 1.0
        1 is the probability that the model gives to the token just read. Its loss is minus the logarithm of that.
    the root of dim: another, same = 576.0 -> another, same = 24.0
        sqrt(dim) is how much logits of *unrelated* rows spread. The row just read meets itself: dim squares, about dim.
    independent logits: another, same = 576.0 -> another, same = large + 288.0
        Yours is near ln V + dim / 2. ln V + s ** 2 / 2 holds for random logits with a small s. Here the token just read
        has a logit of about dim, since its row meets itself.
""")
