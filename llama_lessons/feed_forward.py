"""SwiGLU, Llama's feed-forward layer: one projection opens and closes the gates of another.

Source: Shazeer 2020, "GLU Variants Improve Transformer".
"""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SwiGLU"]


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases (Shazeer, eq. 6).

    Args:
        dim: channels of a token.
        hidden_dim: channels between the layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Take x, (..., dim); return the same shape. Each token is worked on by itself."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
