"""Lesson 03. Rotary position embeddings: rotate each pair of channels by an angle that grows with the position.

RoPE has no parameters, and adds no vector. Queries and keys are cut into pairs of channels, and the pair
with frequency f is rotated by the angle position * f. Rotating a query and a key by the same extra angle keeps
their dot product, so scores depend on positions through the distance between two tokens alone. Values are not
rotated: they are what is read, and say nothing about where.

Which channels make a pair is a convention, called the layout here:

- "half": channel i goes with channel i + head_dim / 2 (Hugging Face).
- "interleaved": channel 2i goes with channel 2i + 1 (the paper, Meta, and llama.cpp for Llama models).

A checkpoint works in the layout of its training only; `to_interleaved` and `to_half` reorder its weights.
Not done here: changes of the frequencies for longer contexts, which are lesson 04.

Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = [
    "LAYOUTS",
    "Layout",
    "RotaryEmbedding",
    "Rotate",
    "apply_rope",
    "rope_frequencies",
    "rope_tables",
    "to_half",
    "to_interleaved",
]

Layout = Literal["half", "interleaved"]
LAYOUTS: tuple[Layout, ...] = ("half", "interleaved")
Rotate = Callable[[Tensor], Tensor]  # queries or keys, (batch, heads, seq_len, head_dim), rotated to their positions


def rope_frequencies(head_dim: int, theta: float = 10_000.0) -> Tensor:
    """Angle by which each channel pair is rotated from one position to the next (RoFormer, section 3.2.2).

    frequency[i] = theta ** (-2 i / head_dim), as in the sinusoidal position embeddings of Vaswani et al. The paper
    calls it theta_i, and has no name for its base, 10,000, which is `theta` here and `rope_theta` in configurations.

    Args:
        head_dim: channels of one head, even.
        theta: base of the frequencies; a larger one makes the slow pairs slower still.

    Returns:
        Radians per position, shape (head_dim // 2,), float64 on the CPU, fastest pair first. In float64
        because a float32 frequency times a position of a million is wrong by hundredths of a radian.

    Raises:
        ValueError: if head_dim is odd or not positive, or theta is not positive.
    """
    if head_dim <= 0 or head_dim % 2:
        raise ValueError(f"head_dim ({head_dim}) must be even and positive: RoPE rotates channels in pairs")
    if not theta > 0:
        raise ValueError(f"theta ({theta}) must be positive")
    return theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim)


def rope_tables(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of each pair at each position (RoFormer, eq. 34).

    The angle is taken in float64 and only its cosine and sine are rounded, so that a table is as exact
    at position 1,000,000 as at 0.

    Args:
        positions: integers, shape (seq_len,) or (batch, seq_len), from any start.
        frequencies: radians per position, shape (head_dim // 2,).

    Returns:
        cos and sin, each of shape (*positions.shape, head_dim // 2), float32, on the device of positions.

    Raises:
        ValueError: if positions are not integers or have another rank, or frequencies are not 1-D.
    """
    if positions.is_floating_point() or positions.is_complex() or positions.dtype == torch.bool:
        raise ValueError(f"positions must be integers, not {positions.dtype}")
    if positions.ndim not in (1, 2):
        raise ValueError(f"positions must be (seq_len,) or (batch, seq_len), not {tuple(positions.shape)}")
    if frequencies.ndim != 1:
        raise ValueError(f"frequencies must be (head_dim // 2,), not {tuple(frequencies.shape)}")
    # Apple's mps has no float64: the angles are taken on the CPU there.
    device = "cpu" if positions.device.type == "mps" else positions.device
    # (..., seq_len) -> (..., seq_len, head_dim // 2)
    angles = positions.to(device, torch.float64)[..., None] * frequencies.to(device, torch.float64)
    return angles.cos().float().to(positions.device), angles.sin().float().to(positions.device)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout = "half") -> Tensor:
    """Rotate each channel pair (a, b) of x to (a cos - b sin, b cos + a sin) (RoFormer, eq. 34).

    The formula, to be read. A model uses `RotaryEmbedding`, which is equal to it and faster.

    Args:
        x: queries or keys, shape (batch, n_heads, seq_len, head_dim), or with fewer leading axes.
        cos: shape (seq_len, head_dim // 2), or (batch, seq_len, head_dim // 2) where rows of the batch
            stand at different positions.
        sin: like cos.
        layout: which channels make a pair, "half" or "interleaved".

    Returns:
        Like x in shape and dtype; computed in float32 at least.

    Raises:
        ValueError: if head_dim is odd, x holds integers, the tables do not fit x, or layout is unknown.
    """
    _check_layout(layout)
    _check_tables(x, cos, sin)
    cos, sin = _for_all_heads(cos), _for_all_heads(sin)
    x, dtype = x.to(torch.promote_types(x.dtype, cos.dtype)), x.dtype
    # (..., head_dim) -> 2 x (..., head_dim // 2), and back
    a, b = x.chunk(2, dim=-1) if layout == "half" else x.unflatten(-1, (-1, 2)).unbind(-1)
    rotated = a * cos - b * sin, b * cos + a * sin
    return (torch.cat(rotated, dim=-1) if layout == "half" else torch.stack(rotated, dim=-1).flatten(-2)).to(dtype)


def _for_all_heads(table: Tensor) -> Tensor:
    table = table.to(torch.promote_types(table.dtype, torch.float32))
    # (batch, seq_len, head_dim // 2) -> (batch, 1, seq_len, head_dim // 2): all heads of a row share its positions
    return table.unsqueeze(1) if table.ndim == 3 else table


def _check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"layout ({layout!r}) must be one of {', '.join(map(repr, LAYOUTS))}")


def _check_tables(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    if x.ndim < 2 or x.shape[-1] % 2 or not x.is_floating_point():
        raise ValueError(f"x must be floats (..., seq_len, even head_dim), not {x.dtype} {tuple(x.shape)}")
    if cos.shape != sin.shape:
        raise ValueError(f"cos {tuple(cos.shape)} and sin {tuple(sin.shape)} must have the same shape")
    seq_len, head_dim = x.shape[-2:]
    if cos.ndim not in (2, 3) or cos.shape[-2:] != (seq_len, head_dim // 2):
        raise ValueError(
            f"cos {tuple(cos.shape)} does not fit x {tuple(x.shape)}: it must be (seq_len, head_dim // 2) = "
            f"({seq_len}, {head_dim // 2}), with or without a batch axis before"
        )
    if cos.ndim == 3 and (x.ndim != 4 or cos.shape[0] not in (1, x.shape[0])):
        raise ValueError(
            f"cos {tuple(cos.shape)} has a batch axis, so x must be (batch, n_heads, seq_len, head_dim) with the "
            f"same batch, not {tuple(x.shape)}"
        )


def to_interleaved(weight: Tensor, n_heads: int) -> Tensor:
    """Reorder the rows of a query or key projection from layout "half" to "interleaved".

    In each head, rows i and i + head_dim / 2 become neighbours 2i and 2i + 1. Each version, rotated in its own
    layout, gives the same scores.

    Args:
        weight: shape (n_heads * head_dim, ...): a projection's weight, or its bias.
        n_heads: heads in the rows of weight (for a key projection, the key/value heads).

    Returns:
        The same rows in another order, like weight in shape and dtype.

    Raises:
        ValueError: if the rows do not divide into n_heads heads of an even size.
    """
    return _swap_row_axes(weight, n_heads, (2, -1))


def to_half(weight: Tensor, n_heads: int) -> Tensor:
    """Reorder the rows of a query or key projection from layout "interleaved" to "half".

    The inverse of `to_interleaved`, with the same arguments, result and errors.
    """
    return _swap_row_axes(weight, n_heads, (-1, 2))


def _swap_row_axes(weight: Tensor, n_heads: int, head_shape: tuple[int, int]) -> Tensor:
    rows = weight.shape[0]
    if n_heads <= 0 or rows % n_heads or (rows // n_heads) % 2:
        raise ValueError(f"rows ({rows}) must be n_heads ({n_heads}) times an even head_dim")
    # to_interleaved: (n_heads * head_dim, ...) -> (n_heads, 2, head_dim // 2, ...) -> (n_heads, head_dim // 2, 2, ...)
    return weight.unflatten(0, (n_heads, *head_shape)).transpose(1, 2).flatten(0, 2)


class RotaryEmbedding(nn.Module):
    """Make, for given positions, the function that rotates queries and keys there.

    It has no parameters. Its frequencies are no buffer either: a model cast to bfloat16 casts its
    buffers too, and angles made from bfloat16 frequencies are wrong after a few hundred positions.

    Args:
        head_dim: channels of one head, even.
        theta: base of the frequencies.
        layout: the layout that the model's query and key weights are in.
    """

    def __init__(self, head_dim: int, theta: float = 10_000.0, layout: Layout = "half") -> None:
        super().__init__()
        _check_layout(layout)
        self.layout = layout
        self.frequencies = rope_frequencies(head_dim, theta)

    def forward(self, positions: Tensor) -> Rotate:
        """Take positions, (seq_len,) or (batch, seq_len); return the function x -> x rotated there."""
        return self._rotate_by(*rope_tables(positions, self.frequencies))

    def _rotate_by(self, cos: Tensor, sin: Tensor) -> Rotate:
        # `apply_rope` in one pass over x, with what depends on the tables alone computed once for all layers.
        wide_cos, signed_sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        wide_cos, signed_sin = _for_all_heads(wide_cos), _for_all_heads(signed_sin)
        cos_and_sin = torch.complex(_for_all_heads(cos), _for_all_heads(sin))

        def rotate(x: Tensor) -> Tensor:
            _check_tables(x, cos, sin)
            x, dtype = x.to(torch.promote_types(x.dtype, wide_cos.dtype)), x.dtype
            if self.layout == "half":
                # (a, b) * (cos, cos) + (b, a) * (-sin, sin), where roll makes (b, a) of (a, b)
                x = torch.addcmul(x * wide_cos, x.roll(x.shape[-1] // 2, dims=-1), signed_sin.to(x.dtype))
            else:
                # (a + ib)(cos + i sin); a view as complex numbers has to start at an even place in memory
                x = x.clone(memory_format=torch.contiguous_format) if x.storage_offset() % 2 else x.contiguous()
                x = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * cos_and_sin).flatten(-2)
            return x.to(dtype)

        return rotate
