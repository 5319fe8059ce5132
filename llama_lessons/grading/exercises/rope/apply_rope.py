"""Exercise 2: turn queries and keys in layout "half"."""

import torch
from torch import Tensor

from llama_lessons import rope

from ...exercise import Exercise
from ...expect import at_least_float32
from .common import SLIPS, expect_rotation, rotation_cases


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    v = at_least_float32(x)
    a, b = v.chunk(2, dim=-1)
    new_a, new_b = a * cos - b * sin, b * cos + a * sin
    turned = torch.cat((new_a, new_b), dim=-1)
    return turned.to(x.dtype)


exercise = Exercise(
    apply_rope,
    points=5,
    minutes=15,
    cases=rotation_cases,
    returns=Tensor,
    hints=(
        "Start with the pairs. x.chunk(2, dim=-1) gives two tensors: all first channels a, all second channels b. "
        "Both then have the shape that cos and sin fit.",
        "Write the rotation of one pair as two lines, one for the new a and one for the new b. Both need the old a "
        "and the old b. At angle 0 nothing changes; at 90 degrees (1, 0) becomes (0, 1).",
        "torch.cat undoes chunk. For bfloat16, go to float32 before the arithmetic, and back to x.dtype at the end.",
    ),
)
expect_rotation(exercise, "half")
exercise.slips(SLIPS)
exercise.slips("""
    read as halves, written as neighbours: cat((new_a, new_b), dim=-1) -> stack((new_a, new_b), dim=-1).flatten(-2)
        You read pairs from the two halves and write them back side by side. Put them back where they came from.
    read as neighbours, written as halves: v.chunk(2, dim=-1) -> v[..., 0::2], v[..., 1::2]
        You read neighbours, and write them back as halves. Here a pair is i with i + head_dim / 2, read and written.
""")


@exercise.misconception
def pairs_are_neighbours(x, cos, sin):
    """You pair channel 2i with 2i + 1: that is the layout of the paper, of Meta's code, and of Llama in llama.cpp. This
    exercise asks for Hugging Face's: i with i + head_dim / 2. Both are right, each with weights of its own order.
    """
    return rope.apply_rope(x, cos, sin, "interleaved")
