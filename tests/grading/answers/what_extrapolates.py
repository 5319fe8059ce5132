"""Other answers to what_extrapolates."""

from tests.grading.answers import wrong


@wrong()
def two_letters():
    return "ab"
