"""Other answers to swiglu_hidden_dim."""

import math

from llama_lessons import feed_forward
from tests.grading.answers import right, wrong

right(feed_forward.swiglu_hidden_dim)


def refuse(*sizes):
    if min(sizes) < 1:
        raise ValueError(f"{sizes} must be positive")


@right
def with_ceil(dim, multiple_of=256, multiplier=1.0):
    refuse(dim, multiple_of)
    return multiple_of * math.ceil(math.floor(multiplier * (8 * dim // 3)) / multiple_of)


@right
def as_meta_writes_it(dim, multiple_of=256, multiplier=1.0):
    refuse(dim, multiple_of)
    hidden_dim = 4 * dim
    hidden_dim = int(2 * hidden_dim / 3)
    hidden_dim = int(multiplier * hidden_dim)
    return multiple_of * ((hidden_dim + multiple_of - 1) // multiple_of)


@right
def with_a_rest(dim, multiple_of=256, multiplier=1.0):
    refuse(dim, multiple_of)
    hidden = int(multiplier * int(8 * dim / 3))
    return hidden + (-hidden) % multiple_of


@right
def step_by_step(dim, multiple_of=256, multiplier=1.0):
    refuse(dim, multiple_of)
    size = 0
    while size < int(multiplier * int(8 * dim / 3)):
        size += multiple_of
    return size


@wrong()
def even_numbers(dim, multiple_of=256, multiplier=1.0):
    refuse(dim, multiple_of)
    return feed_forward.swiglu_hidden_dim(dim, max(multiple_of, 2), multiplier)


@wrong()
def at_least_one_multiple_more_than_dim(dim, multiple_of=256, multiplier=1.0):
    refuse(dim, multiple_of)
    return max(feed_forward.swiglu_hidden_dim(dim, multiple_of, multiplier), 3 * dim)


@wrong()
def a_table_of_the_published(dim, multiple_of=256, multiplier=1.0):
    refuse(dim, multiple_of)
    return {4096: 11_008, 5120: 13_824, 8192: 28_672}.get(dim, 4 * dim)


@wrong()
def multiplier_added(dim, multiple_of=256, multiplier=1.0):
    refuse(dim, multiple_of)
    return -(-(int(8 * dim / 3) + int(multiplier) - 1) // multiple_of) * multiple_of
