"""Predictions of several numbers, graded number by number: each wrong one is named, however the others came out."""

from collections.abc import Callable, Sequence
from functools import cache

from .expect import Mismatch

__all__ = ["number_by_number"]


def number_by_number(name: str, count: int, digits: int) -> Callable[[Callable], Callable[[int], float]]:
    """What makes of a prediction the function that gives its numbers, from 1 on.

    Args:
        name: of the exercise, whose function returns a tuple.
        count: numbers that are asked for.
        digits: behind the point, that each is rounded to; how exactly it was written does not matter.
    """

    def use(answer: Callable[[], Sequence[float]]) -> Callable[[int], float]:
        predicted = cache(answer)  # one prediction, asked for number by number

        def run(number: int) -> float:
            said = predicted()
            if not isinstance(said, (tuple, list)) or len(said) != count:
                raise Mismatch(f"a tuple of {count} numbers is asked for, and {name} returned {said!r}")
            value = said[number - 1]
            try:
                # What is added makes 0 of a negative 0.
                return round(float(value), digits) + 0.0 if not isinstance(value, (bool, str)) else float("no number")
            except (TypeError, ValueError, RuntimeError):
                raise Mismatch(f"number {number} of what {name} returned is no number, but {value!r}") from None

        return run

    return use
