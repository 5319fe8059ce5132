"""Exercise 3: turn queries and keys in layout "interleaved"."""

import torch
from torch import Tensor

from llama_lessons import rope

from ...exercise import Exercise
from ...expect import at_least_float32
from .common import SLIPS, expect_rotation, rotation_cases


def apply_rope_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    v = at_least_float32(x)
    a, b = v[..., 0::2], v[..., 1::2]
    new_a, new_b = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack((new_a, new_b), dim=-1).flatten(-2)
    return turned.to(x.dtype)


exercise = Exercise(
    apply_rope_interleaved,
    points=4,
    minutes=8,
    cases=rotation_cases,
    returns=Tensor,
    hints=(
        "Only the choice of pairs changes. x[..., 0::2] takes every second channel from 0 on. What takes the others?",
        "The new pairs have to go back to where they came from: 2i and 2i + 1. torch.stack makes a new last axis of "
        "two; flatten(-2) joins it with the axis before.",
        "Meta's code reads a pair as one complex number and multiplies by cos + i sin; torch.complex and "
        "torch.view_as_real do that. Cast to float32 first: there is no bfloat16 complex number.",
    ),
)
expect_rotation(exercise, "interleaved")
exercise.slips(SLIPS)
exercise.slips("""
    read as neighbours, written as halves: stack((new_a, new_b), dim=-1).flatten(-2) -> cat((new_a, new_b), dim=-1)
        You read neighbours and put them back with all first channels before all second ones, as torch.cat does. The
        scores come out right, since q and k are reordered alike, but each pair has to go back to 2i and 2i + 1.
    read as halves, written as neighbours: v[..., 0::2], v[..., 1::2] -> v.chunk(2, dim=-1)
        You read the two halves and write them back side by side. Here a pair is 2i with 2i + 1, read and written.
""")


@exercise.misconception
def pairs_are_halves(x, cos, sin):
    """You pair channel i with i + head_dim / 2: that is Hugging Face's layout, asked for in exercise 2. Here
    channel 2i goes with 2i + 1.
    """
    return rope.apply_rope(x, cos, sin)
