"""Exercise 5: what YaRN multiplies queries and keys by."""

import math
from collections.abc import Callable

from ...exercise import Exercise
from ...expect import LearnerError, Mismatch, expect_value_error
from .common import LESSON

__all__ = ["yarn_attention_factor"]


def refuse(factor: float) -> None:
    if factor < 1:
        raise ValueError("shorter")


def reference(factor: float) -> float:
    refuse(factor)
    return 0.1 * math.log(factor) + 1


yarn_attention_factor = Exercise(
    name="yarn_attention_factor",
    lesson=LESSON,
    points=2,
    minutes=3,
    parameters=("factor",),
    reference=reference,
    cases=lambda: [(1.0,), (1.5,), (2.0,), (4.0,), (16.0,), (40.0,), (0.5,)],
    returns=float,
    hints=(
        "Queries and keys both get the factor, so a score gets it twice. How is what is asked for related to the "
        "multiplier of the scores?",
        "ln is the natural logarithm, math.log. Refuse a factor below 1 before you take it.",
    ),
)


@yarn_attention_factor.property("0.1 ln(factor) + 1")
def _(answer: Callable) -> None:
    # exp(10 (answer - 1)) is factor again.
    for factor in (1.5, 2.0, 4.0, 16.0, 40.0, 128.0):
        got = answer(factor)
        want = 1 + math.log10(factor) / (10 * math.log10(math.e))
        if not math.isclose(got, want, rel_tol=1e-9):
            raise Mismatch(f"factor {factor:g}: expected {want:.6g}, got {got:.6g}")


@yarn_attention_factor.property("a factor of 1 leaves queries and keys alone")
def _(answer: Callable) -> None:
    try:
        got = answer(1.0)
    except LearnerError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise Mismatch("factor 1: expected 1, but it was refused; only a factor below 1 is") from None
    if not math.isclose(got, 1, rel_tol=1e-9):
        raise Mismatch(f"factor 1: expected 1, got {got:.6g}")


@yarn_attention_factor.property("squared, it is what scores are multiplied by")
def _(answer: Callable) -> None:
    for factor in (2.0, 4.0, 32.0):
        got = answer(factor)
        scores, want = got * got, (0.1 * math.log(factor) + 1) ** 2
        if not math.isclose(scores, want, rel_tol=1e-9):
            raise Mismatch(f"factor {factor:g}: expected scores times {want:.6g}, got {scores:.6g}")


@yarn_attention_factor.property("a whole number is taken as well")
def _(answer: Callable) -> None:
    got = answer(4)
    if not math.isclose(got, 1.1386294361119891, rel_tol=1e-9):
        raise Mismatch(f"factor 4, a whole number: expected 1.13863, got {got:.6g}")


@yarn_attention_factor.property("a factor below 1 is refused with a ValueError")
def _(answer: Callable) -> None:
    for factor in (0.99, 0.5, 0.0, -2.0):
        expect_value_error(answer, factor, where=f"factor {factor:g}")


@yarn_attention_factor.misconception(
    "the scores' multiplier",
    "You return what the scores are multiplied by. Queries and keys get its root each, 0.1 ln(factor) + 1.",
)
def _(factor: float) -> float:
    return reference(factor) ** 2


@yarn_attention_factor.misconception(
    "the temperature",
    "You return one over the factor: with it the softmax would be flatter. YaRN makes it sharper.",
)
def _(factor: float) -> float:
    return 1 / reference(factor)


@yarn_attention_factor.misconception(
    "the softmax's temperature",
    "You return the temperature, one over the square: the number that scores are divided by. What queries and keys are "
    "multiplied by is asked for.",
)
def _(factor: float) -> float:
    return 1 / reference(factor) ** 2


@yarn_attention_factor.misconception(
    "the decimal logarithm",
    "You use the decimal logarithm. ln is the natural one, math.log.",
)
def _(factor: float) -> float:
    refuse(factor)
    return 0.1 * math.log10(factor) + 1


@yarn_attention_factor.misconception(
    "the logarithm to base 2",
    "You use the logarithm to base 2. ln is the natural one, math.log.",
)
def _(factor: float) -> float:
    refuse(factor)
    return 0.1 * math.log2(factor) + 1


@yarn_attention_factor.misconception(
    "the 1 is missing",
    "You leave out the + 1: a factor of 1, which changes nothing, would wipe queries and keys out.",
)
def _(factor: float) -> float:
    refuse(factor)
    return 0.1 * math.log(factor)


@yarn_attention_factor.misconception(
    "a tenth of the sum",
    "You take a tenth of (ln(factor) + 1). The 0.1 belongs to the logarithm alone: a factor of 1 has to give 1.",
)
def _(factor: float) -> float:
    refuse(factor)
    return 0.1 * (math.log(factor) + 1)


@yarn_attention_factor.misconception(
    "the 0.1 is missing",
    "You leave out the 0.1.",
)
def _(factor: float) -> float:
    refuse(factor)
    return math.log(factor) + 1


@yarn_attention_factor.misconception(
    "no logarithm",
    "You grow with factor itself: 0.1 factor + 1 would make it 4.2 for a factor of 32. It grows with the logarithm.",
)
def _(factor: float) -> float:
    refuse(factor)
    return 0.1 * factor + 1


@yarn_attention_factor.misconception(
    "log of 1 + factor",
    "You take the logarithm of 1 + factor. The 1 is added outside: a factor of 1 has to give 1.",
)
def _(factor: float) -> float:
    refuse(factor)
    return 0.1 * math.log(factor + 1)


@yarn_attention_factor.misconception(
    "below 1 it stays 1",
    "You return 1 for a factor below 1. A ValueError is asked for, since a text is not lengthened by less than 1.",
)
def _(factor: float) -> float:
    return reference(max(factor, 1.0))


@yarn_attention_factor.misconception(
    "log1p",
    "You take the logarithm of 1 + factor, as log1p does, and add 1 as well. It is the logarithm of factor: a factor "
    "of 1 has to give 1.",
)
def _(factor: float) -> float:
    refuse(factor)
    return 0.1 * math.log1p(factor) + 1


@yarn_attention_factor.misconception(
    "the root",
    "You take the root of 0.1 ln(factor) + 1. That number itself is what queries get, and keys as well; the scores get "
    "its square.",
)
def _(factor: float) -> float:
    return math.sqrt(reference(factor))


@yarn_attention_factor.misconception(
    "a factor below 1 accepted",
    "You accept a factor below 1, and return less than 1 for it. A text is not lengthened by less than 1: raise "
    "ValueError.",
)
def _(factor: float) -> float:
    return 0.1 * math.log(factor) + 1


@yarn_attention_factor.alternative
def _(factor: float) -> float:
    if not factor >= 1:
        raise ValueError(f"factor ({factor}) must be at least 1")
    return 1 + math.log(factor) / 10


@yarn_attention_factor.alternative
def _(factor: float) -> float:
    if factor < 1:
        raise ValueError("factor")
    return math.log(math.e * factor**0.1)
