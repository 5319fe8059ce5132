"""What the exercises of this lesson share.

What is expected is never taken from `llama_lessons.rope`, but from RoFormer's own form: one rotation matrix
for each position (its eq. 15), in float64.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llama_lessons import rope
from llama_lessons.lab.device import choose_device

from ...expect import random_tensor

LESSON = "03_rope"


def pair_channels(head_dim: int, layout: str) -> tuple[Tensor, Tensor]:
    """First and second channel of each pair."""
    first = torch.arange(head_dim // 2)
    return (first, first + head_dim // 2) if layout == "half" else (2 * first, 2 * first + 1)


def by_matrices(x: Tensor, positions: Tensor, layout: str, theta: float = 10_000.0) -> Tensor:
    """Turn x (..., seq_len, head_dim) by one rotation matrix a position, in float64 (RoFormer, eq. 15)."""
    head_dim = x.shape[-1]
    a, b = pair_channels(head_dim, layout)
    angles = positions.double().cpu()[:, None] * theta ** (-2 * torch.arange(head_dim // 2).double() / head_dim)
    matrices = torch.zeros(len(positions), head_dim, head_dim, dtype=torch.float64)
    matrices[:, a, a], matrices[:, b, b] = angles.cos(), angles.cos()
    matrices[:, a, b], matrices[:, b, a] = -angles.sin(), angles.sin()
    return torch.einsum("sij,...sj->...si", matrices, x.detach().double().cpu())


def tables(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin of each position and pair on the learner's device, float32, (seq_len, head_dim // 2)."""
    cos, sin = rope.rope_tables(positions, rope.rope_frequencies(head_dim))
    return cos.to(choose_device()), sin.to(choose_device())


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())


class CountOperations(TorchDispatchMode):
    """Counts the operations on tensors inside its `with` block."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))
