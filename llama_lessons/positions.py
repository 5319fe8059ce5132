"""Lessons 01 and 02. Positions that are added to the embeddings: a learned table, and sines and cosines.

Without them attention reads a bag of tokens. Both parts here take x as (batch, seq_len, dim) and add to each
token the encoding of the place where it stands, counted from 0. The learned table has a row for each position
and an end. The sinusoids are computed for whatever position is asked, and have none.

Llama uses neither: it rotates queries and keys instead, which is lesson 03.
Not done here: scaling x by sqrt(dim) before the sum and dropout after it, which the paper has.

Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.5.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "LearnedPositionalEmbedding",
    "SinusoidalPositionalEncoding",
    "shift_matrix",
    "sinusoidal_encoding",
    "sinusoidal_frequencies",
    "sinusoidal_positions",
    "wavelengths",
]


def sinusoidal_frequencies(dim: int, base: float = 10_000.0) -> Tensor:
    """Angle by which each sine and cosine pair moves on from one position to the next (Vaswani, section 3.5).

    frequency[i] = base ** (-2 i / dim)

    Args:
        dim: channels of a token, even.
        base: a larger one makes the slow pairs slower still.

    Returns:
        Radians per position, shape (dim // 2,), float64 on the CPU, fastest pair first.

    Raises:
        ValueError: if dim is odd or not positive, or base is not positive.
    """
    if dim <= 0 or dim % 2:
        raise ValueError(f"dim ({dim}) must be even and positive: each frequency has a sine and a cosine")
    if base <= 0:
        raise ValueError(f"base ({base}) must be positive")
    exponents = torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") / dim
    return base**-exponents


def wavelengths(frequencies: Tensor) -> Tensor:
    """Positions that each pair needs for a full turn: 2 pi / frequency.

    Args:
        frequencies: radians per position, any shape.

    Returns:
        Positions per turn, like frequencies in shape and dtype.
    """
    return 2 * math.pi / frequencies


def sinusoidal_encoding(positions: Tensor, frequencies: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The encoding of each position: a sine and a cosine of every frequency, side by side (Vaswani, section 3.5).

    channel 2i = sin(position * frequency[i]),  channel 2i + 1 = cos(position * frequency[i])

    The angle is taken in float64 and only its sine and cosine are rounded, so that the encoding is as exact
    at position 1,000,000 as at 0.

    Args:
        positions: integer positions, any shape.
        frequencies: radians per position, shape (dim // 2,).
        dtype: what the sines and cosines are rounded to.

    Returns:
        Shape (*positions.shape, dim), on the device of positions.

    Raises:
        ValueError: if positions are not integers, or frequencies are not one row.
    """
    _check_integers(positions)
    if frequencies.ndim != 1:
        raise ValueError(f"frequencies must be (dim // 2,), not {tuple(frequencies.shape)}")
    # Apple's mps has no float64: the angles are taken on the CPU there.
    device = "cpu" if positions.device.type == "mps" else positions.device
    angles = positions.to(device, torch.float64)[..., None] * frequencies.to(device, torch.float64)
    # (..., dim // 2, 2), and flat: sine and cosine of one frequency are neighbours
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(dtype).to(positions.device)


def sinusoidal_positions(
    max_seq_len: int, dim: int, base: float = 10_000.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The encodings of positions 0 to max_seq_len - 1 as one table (Vaswani, section 3.5).

    Args:
        max_seq_len: rows of the table.
        dim: channels of a token, even.
        base: see `sinusoidal_frequencies`.
        dtype: see `sinusoidal_encoding`.

    Returns:
        Shape (max_seq_len, dim), on the CPU.

    Raises:
        ValueError: if dim is odd or not positive, or base is not positive.
    """
    positions = torch.arange(max_seq_len, device="cpu")
    return sinusoidal_encoding(positions, sinusoidal_frequencies(dim, base), dtype)


def shift_matrix(k: int, dim: int, base: float = 10_000.0) -> Tensor:
    """The matrix that moves any encoding on by k positions, whichever position it is of (Vaswani, section 3.5).

    encoding(p + k) = shift_matrix(k) @ encoding(p),  and for the rows of a table  table[k:] = table[:-k] @ M.T

    Each pair (sin, cos) is turned by the angle k * frequency, by the theorems for the sine and cosine of a sum:
    sin((p + k) f) = cos(k f) sin(p f) + sin(k f) cos(p f),  cos((p + k) f) = cos(k f) cos(p f) - sin(k f) sin(p f).

    Args:
        k: positions to move on by; a negative one moves back.
        dim: channels of a token, even.
        base: see `sinusoidal_frequencies`.

    Returns:
        Shape (dim, dim), float64 on the CPU: one 2 x 2 rotation for each pair along the diagonal, zeros elsewhere.

    Raises:
        ValueError: if dim is odd or not positive, or base is not positive.
    """
    angles = k * sinusoidal_frequencies(dim, base)
    cos, sin = angles.cos(), angles.sin()
    # (dim // 2, 2, 2)
    turns = torch.stack((cos, sin, -sin, cos), dim=-1).unflatten(-1, (2, 2))
    return torch.block_diag(*turns)


class SinusoidalPositionalEncoding(nn.Module):
    """Add to each token the sines and cosines of its position.

    It has no parameters, no table and no end. Its frequencies are no buffer either: a model cast to bfloat16
    casts its buffers too, and angles made from bfloat16 frequencies are wrong after a few hundred positions.

    Args:
        dim: channels of a token, even.
        base: see `sinusoidal_frequencies`.

    Raises:
        ValueError: if dim is odd or not positive, or base is not positive.
    """

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.dim = dim
        self.frequencies = sinusoidal_frequencies(dim, base)

    def forward(self, x: Tensor, start_pos: int = 0, positions: Tensor | None = None) -> Tensor:
        """Take tokens; return them with their encodings added, in the same shape and dtype.

        Args:
            x: shape (batch, seq_len, dim).
            start_pos: position of the first token of each row; the others follow it.
            positions: where each token stands, integers, (seq_len,) or (batch, seq_len). If given, start_pos
                is not read.

        Raises:
            ValueError: if x has another rank or dim, or positions are not integers or do not fit x.
        """
        _check_tokens(x, self.dim, positions)
        if positions is None:
            positions = torch.arange(start_pos, start_pos + x.shape[1], device=x.device)
        # In float32 at least, so that the sum alone is rounded to x's dtype
        encoding_dtype = torch.promote_types(x.dtype, torch.float32)
        rows = sinusoidal_encoding(positions.to(x.device), self.frequencies, encoding_dtype)
        return (x + rows).to(x.dtype)


class LearnedPositionalEmbedding(nn.Module):
    """Add to each token the row of a learned table that belongs to its position.

    A row learns only from tokens that stood there, and there is no row past the end.

    Args:
        max_seq_len: rows of the table; positions are 0 to max_seq_len - 1.
        dim: channels of a token.

    Raises:
        ValueError: if max_seq_len or dim is not positive.
    """

    def __init__(self, max_seq_len: int, dim: int) -> None:
        super().__init__()
        for name, size in (("max_seq_len", max_seq_len), ("dim", dim)):
            if size <= 0:
                raise ValueError(f"{name} ({size}) must be positive")
        self.weight = nn.Parameter(torch.empty(max_seq_len, dim))
        nn.init.normal_(self.weight, std=0.02)  # as Hugging Face's GPT-2 draws its table

    def forward(self, x: Tensor, start_pos: int = 0, positions: Tensor | None = None) -> Tensor:
        """Take tokens; return them with their rows added, in the same shape and dtype.

        Args:
            x: shape (batch, seq_len, dim).
            start_pos: position of the first token of each row of the batch; the others follow it.
            positions: where each token stands, integers, (seq_len,) or (batch, seq_len). If given, start_pos
                is not read.

        Raises:
            ValueError: if x has another rank or dim, positions are not integers or do not fit x, or a token
                stands outside of the table.
        """
        max_seq_len, dim = self.weight.shape
        _check_tokens(x, dim, positions)
        if positions is None:
            seq_len = x.shape[1]
            if start_pos < 0 or start_pos + seq_len > max_seq_len:
                raise ValueError(
                    f"start_pos ({start_pos}) + seq_len ({seq_len}) = {start_pos + seq_len} must stay within 0 and "
                    f"max_seq_len ({max_seq_len}): the table has no other rows"
                )
            rows = self.weight[start_pos : start_pos + seq_len]
        else:
            self._check_in_table(positions)
            rows = F.embedding(positions.to(self.weight.device, torch.int64), self.weight)
        return (x + rows).to(x.dtype)

    def _check_in_table(self, positions: Tensor) -> None:
        # To look at values would be a graph break.
        if torch.compiler.is_compiling() or not positions.numel():
            return
        low, high = positions.min().item(), positions.max().item()
        # On a GPU the lookup would meet a wrong row with a device-side assert, after which no CUDA call works.
        if low < 0 or high >= len(self.weight):
            raise ValueError(
                f"position {low if low < 0 else high} is not in the table: max_seq_len is {len(self.weight)}"
            )


def _check_tokens(x: Tensor, dim: int, positions: Tensor | None) -> None:
    # A table read along the wrong axis encodes the row of the batch instead of the position, and nothing crashes.
    if x.ndim != 3 or x.shape[-1] != dim:
        raise ValueError(f"x must be (batch, seq_len, dim) with dim = {dim}, not {tuple(x.shape)}")
    if positions is None:
        return
    _check_integers(positions)
    if positions.shape not in (x.shape[1:2], x.shape[:2]):
        raise ValueError(
            f"positions {tuple(positions.shape)} must be (seq_len,) or (batch, seq_len) for x {tuple(x.shape)}"
        )


def _check_integers(positions: Tensor) -> None:
    if positions.is_floating_point() or positions.is_complex() or positions.dtype == torch.bool:
        raise ValueError(f"positions must be integers, not {positions.dtype}")
