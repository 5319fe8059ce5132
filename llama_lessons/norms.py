"""Lesson 05. The two norms: LayerNorm subtracts the mean and divides by the standard deviation, RMSNorm by the
root mean square alone.

Both work on each token's vector by itself, in float32 at least: squares overflow in float16. The gain is applied
before the result is rounded; Hugging Face rounds first.

Sources: Ba et al. 2016, "Layer Normalization"; Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LayerNorm", "RMSNorm", "layer_norm", "rms_norm"]


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Scale each vector of x to a mean square of 1, then each channel by its weight (Zhang and Sennrich, eq. 4).

    x / sqrt(mean(x ** 2) + eps) * weight, where the mean goes over the last axis alone

    Args:
        x: shape (..., dim).
        weight: one gain per channel, shape (dim,).
        eps: keeps a vector of zeros from dividing by 0. It stands inside the root, beside the mean square.

    Returns:
        Like x in shape and dtype.

    Raises:
        ValueError: if weight is not (dim,), or x holds integers.
    """
    _check_channels("weight", weight, x)
    compute_dtype = torch.promote_types(x.dtype, torch.float32)
    x, weight, dtype = x.to(compute_dtype), weight.to(compute_dtype), x.dtype
    # torch's fused kernel, where there is one. vecdot would be rounded to half precision under autocast.
    if x.is_cuda or not torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
        return F.rms_norm(x, weight.shape, weight, eps).to(dtype)
    # With gradients on a CPU torch's rms_norm is no single kernel, and this is faster. (..., dim) -> (..., 1)
    mean_square = torch.linalg.vecdot(x, x).unsqueeze(-1) / x.shape[-1]
    return (x * torch.rsqrt(mean_square + eps) * weight).to(dtype)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Shift each vector of x to mean 0 and scale it to variance 1, then each channel by its gain and bias (Ba, eq. 4).

    (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, where both go over the last axis alone and the
    variance divides by dim

    Args:
        x: shape (..., dim).
        weight: one gain per channel, shape (dim,).
        bias: one shift per channel, shape (dim,).
        eps: keeps a vector of equal numbers from dividing by 0; inside the root.

    Returns:
        Like x in shape and dtype.

    Raises:
        ValueError: if weight or bias is not (dim,), or x holds integers.
    """
    _check_channels("weight", weight, x)
    _check_channels("bias", bias, x)
    compute_dtype = torch.promote_types(x.dtype, torch.float32)
    weight, bias = weight.to(compute_dtype), bias.to(compute_dtype)
    return F.layer_norm(x.to(compute_dtype), weight.shape, weight, bias, eps).to(x.dtype)


def _check_channels(name: str, values: Tensor, x: Tensor) -> None:
    if x.ndim < 1 or values.shape != x.shape[-1:]:
        raise ValueError(f"{name} {tuple(values.shape)} must hold one number for each channel of x {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x must hold floating point numbers, not {x.dtype}")


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


class LayerNorm(nn.Module):
    """`layer_norm` with a learned gain and shift for each channel, ones and zeros at the start.

    Args:
        dim: channels of a token.
        eps: see `layer_norm`.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Take x, (..., dim); return it normalised, in the same shape and dtype."""
        return layer_norm(x, self.weight, self.bias, self.eps)
