"""What the exercises of lesson 01 share."""

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...expect import random_tensor

__all__ = ["LESSON", "by_hand", "draw"]

LESSON = "01_learned_positions"


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())


def by_hand(table: Tensor, x: Tensor, start_pos: int = 0) -> Tensor:
    """Token i of each sequence plus row start_pos + i of the table, one token at a time, in float64 on the CPU."""
    rows, tokens = table.detach().double().cpu(), x.detach().double().cpu()
    result = tokens.clone()
    for sequence in result:
        for i, token in enumerate(sequence):
            token += rows[start_pos + i]
    return result
