"""What the exercises of lesson 06 share: where tensors lie, and how much of a number two answers may differ in."""

import math

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...expect import Mismatch, random_tensor

__all__ = ["LESSON", "draw", "expect_normal", "expect_number"]

LESSON = "06_initialization"


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers on the learner's device."""
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())


def expect_number(got: float, want: float, *, where: str, rtol: float = 1e-6) -> None:
    """Refuse a number further from `want` than rtol * |want|."""
    if not abs(got - want) <= rtol * abs(want):
        raise Mismatch(f"{where}: expected {want:.6g}, got {got:.6g}")


def expect_normal(x: Tensor, std: float, *, where: str) -> None:
    """Refuse numbers that are not drawn from N(0, std ** 2)."""
    x = x.detach().double().cpu().flatten()
    if not x.isfinite().all():
        raise Mismatch(
            f"{where}: expected random numbers with a standard deviation of {std:.4g}, but some are not finite"
        )
    if (x == x[0]).all():
        raise Mismatch(f"{where}: expected random numbers, but all of them are {x[0].item():.4g}")
    got = x.std().item()
    # Six standard errors, as no seed is ours to choose.
    if not abs(got - std) < 6 * std / math.sqrt(2 * len(x)):
        raise Mismatch(f"{where}: expected a standard deviation of {std:.4g}, got {got:.4g}")
    if not abs(x.mean().item()) < 6 * std / math.sqrt(len(x)):
        raise Mismatch(f"{where}: expected a mean near 0, got {x.mean().item():.4g}")
    inside = (x.abs() < std).double().mean().item()
    if not abs(inside - 0.683) < 3 / math.sqrt(len(x)):
        raise Mismatch(
            f"{where}: a normal distribution has 68% of its numbers within one standard deviation, but here it is "
            f"{inside:.0%}"
        )
