"""Other answers to what_leaks."""

from tests.grading.answers import wrong


@wrong()
def a_number():
    return "1"
