"""The first loss of four models, predicted before anything is run.

A prediction need not be exact, so what two answers have in common is seen in what their numbers are nearest to.
"""

import math
from collections.abc import Callable, Sequence

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON

__all__ = ["predict_first_losses"]

CHARACTERS, VOCAB_SIZE, DIM = 84, 49_152, 576
LESSONS_DIM = 128
WHAT = (
    f"a model of {CHARACTERS} characters",
    f"a vocabulary of {VOCAB_SIZE:,}",
    "tied embeddings of std 1, where another token comes",
    "tied embeddings of std 1, where the same token comes again",
)
RIGHT = (math.log(CHARACTERS), math.log(VOCAB_SIZE), float(DIM), 0.0)
ENOUGH = 0.05  # of the right number
# What people predict; a prediction counts as the one that it is nearest to.
KNOWN = (
    *RIGHT,
    *(f(size) for size in (CHARACTERS, VOCAB_SIZE) for f in (math.log2, math.log10, float, lambda n: 1 / n)),
    *(-math.log(size) for size in (CHARACTERS, VOCAB_SIZE)),
    float(LESSONS_DIM),
    1.0,
    math.sqrt(DIM),
    math.log(DIM),
    math.log(VOCAB_SIZE) + DIM / 2,
    math.log(VOCAB_SIZE) + 0.5,
    math.log(CHARACTERS) + 0.5,
    math.log(2),
)


def use(answer: Callable) -> Callable:
    """A function that gives one prediction, as it is or as the known one that it is nearest to."""

    def predicted(which: int, roughly: bool = False) -> float:
        numbers = answer()
        if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) != len(WHAT):
            raise ValueError(f"{len(WHAT)} numbers are asked for, in round brackets, but what came is {numbers!r}")
        number = float(numbers[which])
        if not roughly:
            return number
        near = [known for known in KNOWN if abs(number - known) <= ENOUGH * abs(known) + 1e-3 * (known == 0)]
        return min(near, key=lambda known: abs(number - known)) if near else number

    return predicted


predict_first_losses = Exercise(
    name="predict_first_losses",
    lesson=LESSON,
    points=3,
    minutes=8,
    parameters=(),
    reference=lambda: RIGHT,
    cases=lambda: [(which, True) for which in range(len(WHAT))],
    returns=float,
    using=use,
    hints=(
        "A model that knows nothing holds every token equally likely. What is the loss, minus the logarithm of the "
        "probability of the right one, if there are 84 of them? Mind the base: nats.",
        "With tied embeddings the logit of a token is the dot product of its row with the stream. After the last norm, "
        "the stream is still nearly the row of the token just read, with a root mean square of 1.",
        "So the token just read has a logit of about one for each channel, and all others have logits near 0 beside "
        "it. The loss is the largest logit less the logit of what came.",
    ),
)


def add_property(which: int) -> None:
    @predict_first_losses.property(WHAT[which])
    def _(answer: Callable) -> None:
        got, want = answer(which), RIGHT[which]
        allowed = ENOUGH * want if want else 0.01
        if not abs(got - want) <= allowed:
            raise Mismatch(f"{got:.4g} is not within {allowed:.2g} of what is measured")


for number in range(len(WHAT)):
    add_property(number)


def wrong(name: str, diagnosis: str, *numbers: float) -> None:
    predict_first_losses.misconception(name, diagnosis)(lambda: numbers)


wrong(
    "in bits",
    "Your first two numbers are logarithms to base 2. torch's cross-entropy is in nats: the natural logarithm.",
    math.log2(CHARACTERS),
    math.log2(VOCAB_SIZE),
    *RIGHT[2:],
)
wrong(
    "logarithms to base 10",
    "Your first two numbers are logarithms to base 10. torch's cross-entropy is in nats: math.log, not math.log10.",
    math.log10(CHARACTERS),
    math.log10(VOCAB_SIZE),
    *RIGHT[2:],
)
wrong(
    "the perplexity",
    "The number of tokens itself is the first *perplexity*: how many tokens the model wavers between. The loss is its "
    "logarithm.",
    CHARACTERS,
    VOCAB_SIZE,
    *RIGHT[2:],
)
wrong(
    "the probability",
    "1 / V is the probability that the model gives to the right token. The loss is minus its logarithm.",
    1 / CHARACTERS,
    1 / VOCAB_SIZE,
    *RIGHT[2:],
)
wrong(
    "the first loss is 1",
    "A loss has no natural maximum of 1. It is minus the logarithm of the probability of what came, and a model that "
    "knows nothing gives each of V tokens 1 / V.",
    1.0,
    1.0,
    *RIGHT[2:],
)
wrong(
    "the vocabulary does not matter",
    "You predict ln 84 for the second model too. Guessing one of 49,152 tokens is harder than guessing one of 84.",
    math.log(CHARACTERS),
    math.log(CHARACTERS),
    *RIGHT[2:],
)
wrong(
    "the two vocabularies exchanged",
    "Your first two numbers are right, but in the other order: the model of 84 characters comes first.",
    math.log(VOCAB_SIZE),
    math.log(CHARACTERS),
    *RIGHT[2:],
)
wrong(
    "the minus sign is missing",
    "Your first two numbers are the logarithms of the probability. That is negative; the loss is minus that.",
    -math.log(CHARACTERS),
    -math.log(VOCAB_SIZE),
    *RIGHT[2:],
)
wrong(
    "half a nat more, as though std were larger",
    "You add half a nat to the logarithm, which is what random logits of standard deviation 1 would cost. With "
    "N(0, 0.02) they are far smaller: 0.02 times the root of dim.",
    math.log(CHARACTERS) + 0.5,
    math.log(VOCAB_SIZE) + 0.5,
    *RIGHT[2:],
)
wrong(
    "ln V with tied embeddings too",
    "You predict ln V for the tied model as well. It does not hold all tokens equally likely: its stream still is the "
    "row of the token just read, and the head scores just that row, with a logit of about dim.",
    *RIGHT[:2],
    math.log(VOCAB_SIZE),
    math.log(VOCAB_SIZE),
)
wrong(
    "ln V where the same token comes",
    "You predict ln V where the same token comes. The model is sure that the token just read comes again. Where it "
    "does, the model was right, and pays nothing.",
    *RIGHT[:3],
    math.log(VOCAB_SIZE),
)
wrong(
    "ln V where another token comes",
    "You predict ln V where another token comes. The model is sure that the token just read comes again, with a logit "
    "of about dim. Where it does not, the model pays for just that logit.",
    *RIGHT[:2],
    math.log(VOCAB_SIZE),
    0.0,
)
wrong(
    "the dim of the lesson's model",
    "128 is what the lesson's model of characters would have: its dim. This one has SmolLM2's sizes.",
    *RIGHT[:2],
    LESSONS_DIM,
    0.0,
)
wrong(
    "the same loss whatever comes",
    "You predict dim where the same token comes. The large logit belongs to that very token, the one just read: the "
    "model was sure of what is right, and pays nothing.",
    *RIGHT[:3],
    DIM,
)
wrong(
    "the two cases exchanged",
    "You have the tied cases the wrong way round. The model is sure that the token just read comes *again*: that is "
    "when it pays nothing.",
    *RIGHT[:2],
    0.0,
    DIM,
)
wrong(
    "the root of dim",
    "sqrt(dim) is how much logits of *unrelated* rows spread. The row of the token just read meets itself: each "
    "channel adds a square, which is 1 on average, so the sum is dim.",
    *RIGHT[:2],
    math.sqrt(DIM),
    0.0,
)
wrong(
    "independent logits",
    "ln V + dim / 2 takes the logits for independent of the token just read, with variance dim. One of them is not "
    "independent: the row that meets itself.",
    *RIGHT[:2],
    math.log(VOCAB_SIZE) + DIM / 2,
    0.0,
)


@predict_first_losses.alternative
def _() -> tuple:
    return 4.4, 10.8, 576, 0


@predict_first_losses.alternative
def _() -> list:
    return [math.log(84), -math.log(1 / 49_152), 560.0, 1e-6]
