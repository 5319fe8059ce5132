"""What the exercises of lesson 04 share: its name, frequencies in float64, and calls that differ in one argument."""

import math

import torch
from torch import Tensor


def frequencies_of(head_dim: int, theta: float) -> Tensor:
    """theta ** (-2 i / head_dim) for each pair, (head_dim // 2,), in float64 on the CPU."""
    return torch.tensor([math.pow(theta, -2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float64)


def one_changed(args: tuple, others: tuple) -> list[tuple]:
    """args, then args with each of others in its place, one at a time, and args again: nothing may be kept."""
    return [args, *((*args[:i], other, *args[i + 1 :]) for i, other in enumerate(others)), args]
