"""Other answers to learning_rate."""

import math

import numpy as np
import torch

from tests.grading.answers import right, wrong


@right
def by_the_halves_sum(step, warmup_steps, total_steps, peak, lowest):
    if step <= warmup_steps:
        return peak * ((step + 1) / (warmup_steps + 1))
    angle = math.pi * (step - warmup_steps) / (total_steps - warmup_steps - 1)
    return float((peak + lowest) / 2 + (peak - lowest) / 2 * math.cos(angle))


@right
def by_a_squared_cosine(step, warmup_steps, total_steps, peak, lowest):
    """(1 + cos x) / 2 is cos(x / 2) squared."""
    if step < warmup_steps:
        return float(np.linspace(0, peak, warmup_steps + 2)[step + 1])
    share = (step - warmup_steps) / (total_steps - 1 - warmup_steps)
    return lowest + (peak - lowest) * math.cos(share * math.pi / 2) ** 2


@right
def with_torch(step, warmup_steps, total_steps, peak, lowest):
    up = torch.arange(1, warmup_steps + 1, dtype=torch.float64) / (warmup_steps + 1) * peak
    angles = torch.linspace(0, math.pi, total_steps - warmup_steps, dtype=torch.float64)
    down = lowest + (peak - lowest) * (1 + angles.cos()) / 2
    return torch.cat([up, down])[step].item()


@wrong()
def a_root(step, warmup_steps, total_steps, peak, lowest):
    """The original Transformer's: it falls with one over the root of the step."""
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return max(lowest, peak * math.sqrt((warmup_steps + 1) / (step + 1)))


@wrong()
def a_cosine_up_too(step, warmup_steps, total_steps, peak, lowest):
    if step < warmup_steps:
        return peak * (1 - math.cos(math.pi * (step + 1) / (warmup_steps + 1))) / 2
    return by_the_halves_sum(step, warmup_steps, total_steps, peak, lowest)


@wrong()
def exponential(step, warmup_steps, total_steps, peak, lowest):
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    share = (step - warmup_steps) / (total_steps - 1 - warmup_steps)
    return peak * (max(lowest, 1e-9) / peak) ** share
