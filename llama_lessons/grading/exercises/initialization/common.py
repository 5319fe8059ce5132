"""What the exercises of lesson 06 share: where tensors lie, and how much of a number two answers may differ in."""

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...expect import Mismatch, random_tensor

__all__ = ["LESSON", "draw", "expect_number"]

LESSON = "06_initialization"


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers on the learner's device."""
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())


def expect_number(got: float, want: float, *, where: str, rtol: float = 1e-6) -> None:
    """Refuse a number further from `want` than rtol * |want|."""
    if not abs(got - want) <= rtol * abs(want):
        raise Mismatch(f"{where}: expected {want:.6g}, got {got:.6g}")
