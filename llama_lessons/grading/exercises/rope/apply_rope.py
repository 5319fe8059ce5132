"""Turn queries and keys in layout "half"."""

import torch
from torch import Tensor

from llama_lessons import rope

from ...exercise import Exercise
from .common import LESSON
from .rotation import (
    add_rotation_misconceptions,
    add_rotation_properties,
    at_least_float32,
    halves,
    join_halves,
    join_neighbours,
    neighbours,
    rotation_cases,
)

apply_rope = Exercise(
    name="apply_rope",
    lesson=LESSON,
    points=5,
    minutes=15,
    parameters=("x", "cos", "sin"),
    reference=lambda x, cos, sin: rope.apply_rope(x, cos, sin, layout="half"),
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
add_rotation_properties(apply_rope, "half")


@apply_rope.misconception(
    "pairs are neighbours",
    "You pair channel 2i with 2i + 1: that is the layout of the paper, Meta and llama.cpp. This exercise asks for "
    "Hugging Face's: i with i + head_dim / 2. Both are right, each with weights of its own order.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    return join_neighbours(a * cos - b * sin, b * cos + a * sin, x)


add_rotation_misconceptions(apply_rope, halves, join_halves)


@apply_rope.misconception(
    "frequencies repeated in the other layout",
    "Channels are paired i with i + head_dim / 2, but the tables are spread over channels with repeat_interleave, so "
    "the two channels of a pair turn at different speeds. Lay the tables twice one after the other: torch.cat((cos, "
    "cos), dim=-1).",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (at_least_float32(x) * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


@apply_rope.misconception(
    "read as halves, written as neighbours",
    "You read pairs from the two halves and write them back side by side (stack and flatten). Put them back where "
    "they came from: torch.cat.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return join_neighbours(a * cos - b * sin, b * cos + a * sin, x)


@apply_rope.misconception(
    "read as neighbours, written as halves",
    "You read neighbours, 2i and 2i + 1, and write them back as halves. Here a pair is i with i + head_dim / 2, read "
    "and written: chunk and cat.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    return join_halves(a * cos - b * sin, b * cos + a * sin, x)


@apply_rope.misconception(
    "only one half is turned",
    "You compute the new first channels and leave the second ones as they were. Both channels of a pair change.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return join_halves(a * cos - b * sin, b, x)


@apply_rope.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return (at_least_float32(x) * torch.cat((cos, cos), -1) + torch.cat((-b, a), -1) * torch.cat((sin, sin), -1)).to(
        x.dtype
    )


@apply_rope.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = torch.complex(*(part.float() for part in halves(x))) * torch.complex(cos, sin)
    return join_halves(turned.real, turned.imag, x)


@apply_rope.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    result = torch.empty(x.shape, device=x.device)
    middle = x.shape[-1] // 2
    result[..., :middle] = x[..., :middle].float() * cos - x[..., middle:].float() * sin
    result[..., middle:] = x[..., middle:].float() * cos + x[..., :middle].float() * sin
    return result.to(x.dtype)
