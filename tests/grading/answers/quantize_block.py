"""Other answers to quantize_block."""

import torch

from llama_lessons.quantization import quantize_blocks
from tests.grading.answers import right, wrong


@right
def by_the_library(x):
    codes, scale, minimum = quantize_blocks(x)
    return codes, scale.squeeze(-1), minimum.squeeze(-1)


@right
def by_distance(x):
    """The nearest of 16 levels."""
    low, high = x.amin(-1), x.amax(-1)
    scale = (high - low) / 15
    levels = low[..., None] + scale[..., None] * torch.arange(16, device=x.device)
    codes = (x[..., None] - levels[..., None, :]).abs().argmin(-1)
    return codes.to(torch.uint8), scale, low


@right
def by_the_inverse(x):
    low = x.min(dim=-1).values
    scale = (x.max(dim=-1).values - low) / 15
    inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
    return ((x - low[..., None]) * inverse[..., None] + 0.5).clamp(0, 15).byte(), scale, low


@wrong()
def symmetric(x):
    scale = x.abs().amax(-1) / 7
    codes = (x / scale.where(scale > 0, 1)[..., None]).round() + 8
    return codes.clamp(0, 15).byte(), scale, -8 * scale


@wrong()
def truncated(x):
    low = x.amin(-1)
    scale = (x.amax(-1) - low) / 15
    return ((x - low[..., None]) / scale.where(scale > 0, 1)[..., None]).byte(), scale, low


@wrong(called="16 steps")
def sixteen(x):
    low = x.amin(-1)
    scale = (x.amax(-1) - low) / 16
    return ((x - low[..., None]) / scale.where(scale > 0, 1)[..., None]).round().clamp(0, 15).byte(), scale, low


@wrong()
def scale_in_half_precision(x):
    codes, scale, low = by_distance(x)
    return codes, scale.half().float(), low


@wrong()
def minimum_in_bfloat16(x):
    codes, scale, low = by_distance(x)
    return codes, scale, low.bfloat16().float()


@wrong()
def packed(x):
    codes, scale, low = by_distance(x)
    return codes[..., ::2] + 16 * codes[..., 1::2], scale, low


@wrong()
def a_scale_for_each_half(x):
    codes, scale, low = (part.unflatten(-1, (2, -1)) for part in by_distance(x.unflatten(-1, (2, 16))))
    return codes.flatten(-3), scale.flatten(-2), low.flatten(-2)


@wrong()
def clipped_at_two_deviations(x):
    centre, spread = x.mean(-1, keepdim=True), 2 * x.std(-1, keepdim=True)
    return by_distance(x.clamp(centre - spread, centre + spread))


@wrong()
def nothing_for_small_blocks(x):
    codes, scale, low = by_distance(x)
    small = scale < 1e-4
    return codes.masked_fill(small[..., None], 0), scale.masked_fill(small, 0), low


@wrong()
def integers(x):
    codes, scale, low = by_distance(x)
    return codes.int(), scale, low
