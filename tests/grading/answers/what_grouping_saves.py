"""Other answers to what_grouping_saves."""

from tests.grading.answers import wrong


@wrong(called=None)
def both():
    return "ad"
