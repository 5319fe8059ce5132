"""RMSNorm: divide each token's vector by its own root mean square.

Not done here: subtracting the mean and adding a bias, which are LayerNorm's.

Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["RMSNorm", "rms_norm"]


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Scale each vector of x to a mean square of 1, then each channel by its weight (Zhang and Sennrich, eq. 4).

    x / sqrt(mean(x ** 2) + eps) * weight, where the mean goes over the last axis alone

    Args:
        x: shape (..., dim).
        weight: one gain a channel, shape (dim,).
        eps: keeps a vector of zeros from dividing by 0. It stands inside the root, beside the mean square.

    Returns:
        Like x in shape and dtype; computed in float32 at least, since squares overflow in float16.

    Raises:
        ValueError: if weight is not (dim,).
    """
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"weight {tuple(weight.shape)} must hold one gain for each channel of x {tuple(x.shape)}")
    compute_dtype = torch.promote_types(x.dtype, torch.float32)
    return F.rms_norm(x.to(compute_dtype), weight.shape, weight.to(compute_dtype), eps).to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned gain for each channel, all ones at the start.

    Args:
        dim: channels of a token.
        eps: see `rms_norm`.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Take x, (..., dim); return it normalised, in the same shape and dtype."""
        return rms_norm(x, self.weight, self.eps)
