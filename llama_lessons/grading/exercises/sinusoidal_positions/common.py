"""What the exercises of lesson 02 share: encodings from the formula alone, in float64."""

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...expect import random_tensor

__all__ = ["LESSON", "draw", "even", "exact_frequencies", "exact_rows", "interleave"]

LESSON = "02_sinusoidal_positions"


def even(dim: int) -> Tensor:
    """0, 2, 4, ... below dim, after the check that most wrong answers have right."""
    if dim % 2:
        raise ValueError("odd")
    return torch.arange(0, dim, 2, dtype=torch.float64)


def exact_frequencies(dim: int, base: float = 10_000.0) -> Tensor:
    """The paper's frequencies, from Python's own power: float64, (dim // 2,)."""
    return torch.tensor([base ** (-2 * i / dim) for i in range(dim // 2)], dtype=torch.float64)


def interleave(sines: Tensor, cosines: Tensor) -> Tensor:
    """Sine, cosine, sine, cosine, ... along the last axis."""
    return torch.stack((sines, cosines), dim=-1).flatten(-2)


def exact_rows(positions: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """The paper's encodings in float64 on the CPU, (len(positions), dim)."""
    angles = positions.double().cpu()[:, None] * exact_frequencies(dim, base)
    return interleave(angles.sin(), angles.cos())


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers on the learner's device."""
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())
