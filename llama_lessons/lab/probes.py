"""Questions that lessons ask of any function of a token sequence, answered by trying."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["is_causal", "is_identity_at_zero", "is_order_blind", "mixes_batch_rows"]

Mix = Callable[[Tensor], Tensor]


def is_order_blind(mix: Mix, x: Tensor, tries: int = 8, tolerance: float = 1e-4) -> bool:
    """Whether each token gets the same result in whatever order the tokens come.

    Args:
        mix: takes and returns (batch, seq_len, dim).
        x: tokens to try it on, shape (batch, seq_len, dim); at least two of them, and not all alike.
        tries: random orders tried, besides the reversed one.
        tolerance: differences of sums that are merely taken in another order stay below this.
    """
    generator = torch.Generator().manual_seed(0)
    orders = [torch.arange(x.shape[1] - 1, -1, -1)]
    orders += [torch.randperm(x.shape[1], generator=generator) for _ in range(tries)]
    result = mix(x)
    return all(_close(mix(x[:, order]), result[:, order], tolerance) for order in (o.to(x.device) for o in orders))


def is_causal(mix: Mix, x: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether no token's result changes when later tokens do.

    Tokens are replaced at random: adding a constant would be hidden by a norm.

    Args:
        mix: takes (batch, seq_len, dim), returns (batch, seq_len, anything).
        x: tokens to try it on, shape (batch, seq_len, dim).
        tolerance: differences by rounding stay below this.
    """
    result = mix(x)
    generator = torch.Generator().manual_seed(0)
    for first in range(1, x.shape[1]):
        changed = x.clone()
        changed[:, first:] = torch.randn(changed[:, first:].shape, generator=generator).to(x)
        if not _close(mix(changed)[:, :first], result[:, :first], tolerance):
            return False
    return True


def mixes_batch_rows(mix: Mix, x: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether a row's result depends on the other rows of its batch, or on its place among them.

    Args:
        mix: takes (batch, seq_len, dim), returns (batch, ...).
        x: at least two different rows, shape (batch, seq_len, dim).
        tolerance: differences by rounding stay below this.
    """
    result = mix(x)
    return not all(_close(mix(x[i : i + 1]), result[i : i + 1], tolerance) for i in range(x.shape[0]))


@torch.no_grad()
def is_identity_at_zero(block: nn.Module, projections: list[nn.Linear], x: Tensor, tolerance: float = 1e-6) -> bool:
    """Whether a block returns its input unchanged when its output projections are zero, as a residual block does.

    Args:
        block: takes and returns (batch, seq_len, dim).
        projections: the last linear layer of each sublayer of the block; their weights are put back afterwards.
        x: shape (batch, seq_len, dim).
        tolerance: differences by rounding stay below this.
    """
    parameters = [parameter for projection in projections for parameter in projection.parameters()]
    kept = [parameter.clone() for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.zero_()
        return _close(block(x), x, tolerance)
    finally:
        for parameter, old in zip(parameters, kept, strict=True):
            parameter.copy_(old)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)
