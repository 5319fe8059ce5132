"""Exercise 5: what YaRN multiplies queries and keys by."""

import math
from collections.abc import Callable

from ...exercise import Exercise
from ...expect import expect_number, expect_value_error


def yarn_attention_factor(factor: float) -> float:
    if factor < 1:
        raise ValueError("a shorter text")
    return 0.1 * math.log(factor) + 1


exercise = Exercise(
    yarn_attention_factor,
    points=2,
    minutes=3,
    cases=lambda: [(factor,) for factor in (1.0, 1.5, 2.0, 4.0, 7.3, 16.0, 40.0, 0.5, 0.0, -2.0)],
    returns=float,
    hints=(
        "Queries and keys both get the factor, so a score gets it twice. How is what is asked for related to the "
        "multiplier of the scores?",
        "ln is the natural logarithm, math.log. Refuse a factor below 1 before you take it.",
    ),
)


@exercise.property("0.1 ln(factor) + 1")
def formula(answer: Callable) -> None:
    for factor in (1.5, 2.0, 3.0, 4.0, 16.0, 40.0, 128.0):
        want = 1 + math.log10(factor) / (10 * math.log10(math.e))
        expect_number(answer(factor), want, where=f"factor {factor:g}", rtol=1e-9)


@exercise.property("a factor of 1 leaves queries and keys alone")
def factor_of_one(answer: Callable) -> None:
    expect_number(answer(1.0), 1.0, where="factor 1", rtol=1e-9)


@exercise.property("squared, it is what scores are multiplied by")
def squared(answer: Callable) -> None:
    for factor in (2.0, 4.0, 32.0):
        want = (1 + math.log2(factor) * math.log(2) / 10) ** 2
        expect_number(answer(factor) ** 2, want, where=f"factor {factor:g}, squared", rtol=1e-9)


@exercise.property("a whole number is taken as well")
def whole_number(answer: Callable) -> None:
    expect_number(answer(4), 1.1386294361119891, where="factor 4, a whole number", rtol=1e-9)
    expect_number(answer(1), 1.0, where="factor 1, a whole number", rtol=1e-9)


@exercise.property("a factor below 1 is refused with a ValueError")
def shorter_texts(answer: Callable) -> None:
    for factor in (0.99, 0.5, 0, 0.0, -2.0):
        expect_value_error(answer, factor, where=f"factor {factor:g}")


exercise.slips("""
    the scores' multiplier: 0.1 * math.log(factor) + 1 -> (0.1 * math.log(factor) + 1) ** 2
        You return what the scores are multiplied by. Queries and keys get its root each, 0.1 ln(factor) + 1.
    doubled for queries and keys: 0.1 * math.log(factor) -> 0.2 * math.log(factor)
        Your result is 0.2 ln(factor) + 1, nearly what scores get. Queries and keys get 0.1 ln(factor) + 1 each.
    the root: 0.1 * math.log(factor) + 1 -> (0.1 * math.log(factor) + 1) ** 0.5
        You take the root of 0.1 ln(factor) + 1. That number itself is what queries get, and keys as well; the scores
        get its square.
    one over it: 0.1 * math.log(factor) + 1 -> 1 / (0.1 * math.log(factor) + 1)
        You return one over what is asked for. With it the scores would shrink and the softmax would be flatter; YaRN
        makes it sharper.
    the softmax's temperature: 0.1 * math.log(factor) + 1 -> 1 / (0.1 * math.log(factor) + 1) ** 2
        You return the temperature, one over the square: the number that scores are divided by. What queries and keys
        are multiplied by is asked for.
    the decimal logarithm: math.log( -> math.log10(
        You use the decimal logarithm. ln is the natural one, math.log.
    the logarithm to base 2: math.log( -> math.log2(
        You use the logarithm to base 2. ln is the natural one, math.log.
    the 1 is missing: (factor) + 1 -> (factor)
        You leave out the + 1: a factor of 1, which changes nothing, would wipe queries and keys out.
    a tenth of the sum: 0.1 * math.log(factor) + 1 -> 0.1 * (math.log(factor) + 1)
        You take a tenth of (ln(factor) + 1). The 0.1 belongs to the logarithm alone: a factor of 1 has to give 1.
    the 0.1 is missing: 0.1 * math -> math
        You leave out the 0.1: the logarithm is multiplied by it.
    subtracted: 0.1 * math.log(factor) + 1 -> 1 - 0.1 * math.log(factor)
        You subtract the logarithm. A longer text needs a sharper softmax, and so larger scores: add it.
    no logarithm: math.log(factor) -> factor
        Yours grows with factor itself, to 4.2 for a factor of 32 (0.1 factor + 1). It grows with the logarithm.
    log of 1 + factor: math.log(factor) + 1 -> math.log(factor + 1)
        You take the logarithm of 1 + factor. The 1 is added outside: a factor of 1 has to give 1.
    log1p: math.log( -> math.log1p(
        You take the logarithm of 1 + factor, as log1p does, and add 1 as well. A factor of 1 has to give 1.
    the tenth inside the logarithm: 0.1 * math.log(factor) -> math.log(0.1 * factor)
        Your 0.1 stands inside the logarithm. The logarithm of factor is multiplied by it: a factor of 1 has to give 1.
    below 1 it stays 1: raise ValueError("a shorter text") -> return 1.0
        You return 1 for a factor below 1. A ValueError is asked for, since a text is not lengthened by less than 1.
    a factor of 1 refused: factor < 1 -> factor <= 1
        You refuse a factor of 1. It changes nothing, and gives 1: only a factor below 1 is refused.
    a factor below 1 accepted: factor < 1 -> False
        You accept a factor below 1, and return less than 1. No text gets longer by that: raise ValueError.
""")
