"""Other answers to which_mask_with_a_cache."""

from tests.grading.answers import right


@right
def third():
    return "C)"
