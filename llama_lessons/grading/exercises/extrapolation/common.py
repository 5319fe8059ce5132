"""What the exercises of lesson 04 share: its name, counts in words, and frequencies worked out in float64."""

import math

import torch
from torch import Tensor

__all__ = ["LESSON", "counted", "frequencies_of", "turns_of"]

LESSON = "04_extrapolation"


def counted(number: int, thing: str) -> str:
    """Such as "1 head" or "12 heads"; -8 and 0 take the plural too."""
    return f"{number} {thing if number == 1 else {'query': 'queries'}.get(thing, thing + 's')}"


def frequencies_of(head_dim: int, theta: float, dtype: torch.dtype = torch.float64, device: object = "cpu") -> Tensor:
    """theta ** (-2 i / head_dim) for each pair, (head_dim // 2,)."""
    found = [math.pow(theta, -2 * i / head_dim) for i in range(head_dim // 2)]
    return torch.tensor(found, dtype=torch.float64).to(dtype).to(device)


def turns_of(head_dim: int, theta: float, length: int) -> list[float]:
    """How often each pair turns within `length` positions."""
    return [length * math.pow(theta, -2 * i / head_dim) / (2 * math.pi) for i in range(head_dim // 2)]
