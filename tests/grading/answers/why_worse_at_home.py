"""Other answers to why_worse_at_home."""

from tests.grading.answers import right


@right
def put_together_from_a_list():
    return "".join(["c"])
