"""Other answers to why_the_loss_is_too_low."""

from tests.grading.answers import wrong


@wrong(called=None)
def in_words():
    return "the mask"
