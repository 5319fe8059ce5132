"""Lesson 08. The feed-forward layer: the articles' two projections around a GELU, and Llama's SwiGLU.

In SwiGLU one projection opens and closes the gates of another. Three matrices take the place of two, so
their hidden size is two thirds as large for the same number of parameters.

Sources: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units"; Shazeer 2020, "GLU Variants Improve
Transformer"; the rule for the hidden size is that of Meta's code.
"""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GeluMLP", "SwiGLU", "swiglu_hidden_dim"]


def swiglu_hidden_dim(dim: int, multiple_of: int = 256, multiplier: float = 1.0) -> int:
    """Hidden size of Llama's SwiGLU: two thirds of 4 dim, times a multiplier, rounded up to a multiple.

    Args:
        dim: channels of a token.
        multiple_of: what the hidden size must be a multiple of, for the hardware's sake.
        multiplier: for larger layers; 1.3 in Llama 2 70B and Llama 3 8B and 70B, other sizes differ (`presets`).

    Raises:
        ValueError: if one of them is not positive.
    """
    if dim < 1 or multiple_of < 1 or multiplier <= 0:
        raise ValueError(f"dim ({dim}), multiple_of ({multiple_of}) and multiplier ({multiplier}) must all be positive")
    # Cut to a whole number twice, as in Meta's code.
    hidden_dim = int(multiplier * int(2 * 4 * dim / 3))
    return multiple_of * -(-hidden_dim // multiple_of)


class GeluMLP(nn.Module):
    """down(gelu(up(x))), with biases, as in GPT-2 (but with the exact GELU); no activation comes after down.

    Args:
        dim: channels of a token.
        hidden_dim: channels between the layers, 4 dim in GPT-2.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(dim, hidden_dim)
        self.down_proj = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Take x, (..., dim); return the same shape. Each token is worked on by itself."""
        # (..., dim) -> (..., hidden_dim) -> (..., dim)
        return self.down_proj(F.gelu(self.up_proj(x)))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases (Shazeer, eq. 6).

    Args:
        dim: channels of a token.
        hidden_dim: channels between the layers; `swiglu_hidden_dim` gives Llama's.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Take x, (..., dim); return the same shape. Each token is worked on by itself."""
        # (..., dim) -> (..., hidden_dim) -> (..., dim)
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
