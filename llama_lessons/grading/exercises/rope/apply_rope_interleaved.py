"""Turn queries and keys in layout "interleaved"."""

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

apply_rope_interleaved = Exercise(
    name="apply_rope_interleaved",
    lesson=LESSON,
    points=4,
    minutes=8,
    parameters=("x", "cos", "sin"),
    reference=lambda x, cos, sin: rope.apply_rope(x, cos, sin, layout="interleaved"),
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
add_rotation_properties(apply_rope_interleaved, "interleaved")


@apply_rope_interleaved.misconception(
    "pairs are halves",
    "You pair channel i with i + head_dim / 2: that is Hugging Face's layout, and was the last exercise. Here "
    "channel 2i goes with 2i + 1.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return join_halves(a * cos - b * sin, b * cos + a * sin, x)


add_rotation_misconceptions(apply_rope_interleaved, neighbours, join_neighbours)


@apply_rope_interleaved.misconception(
    "read as neighbours, written as halves",
    "You read neighbours and put them back with torch.cat, all first channels before all second ones. The scores "
    "come out right, since q and k are reordered alike, but each pair has to go back to 2i and 2i + 1.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    return join_halves(a * cos - b * sin, b * cos + a * sin, x)


@apply_rope_interleaved.misconception(
    "read as halves, written as neighbours",
    "You read the two halves, i and i + head_dim / 2, and write them back side by side. Here a pair is 2i with 2i + 1, "
    "read and written.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return join_neighbours(a * cos - b * sin, b * cos + a * sin, x)


@apply_rope_interleaved.misconception(
    "frequencies repeated in the other layout",
    "Channels are paired 2i with 2i + 1, but the tables are laid twice one after the other with torch.cat, so the two "
    "channels of a pair turn at different speeds. Here repeat_interleave(2, dim=-1) spreads them over channels.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
    return (at_least_float32(x) * cos + torch.stack((-b, a), dim=-1).flatten(-2) * sin).to(x.dtype)


@apply_rope_interleaved.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


@apply_rope_interleaved.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (at_least_float32(x) * cos + torch.stack((-b, a), dim=-1).flatten(-2) * sin).to(x.dtype)


@apply_rope_interleaved.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = x.float().clone()
    turned[..., 0::2] = x[..., 0::2].float() * cos - x[..., 1::2].float() * sin
    turned[..., 1::2] = x[..., 1::2].float() * cos + x[..., 0::2].float() * sin
    return turned.type_as(x)
