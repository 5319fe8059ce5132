"""Lesson 11. Quantization: weights in 4 or 8 bits, in blocks with a scale of their own, and multiplied as they are.

To choose one token, a model reads each of its weights once; on a CPU, and on a GPU with one prompt, the memory is the
limit. In fewer bytes a token comes sooner, and now and then it is another one, where two were about as probable.

A block of 32 weights is stored as llama.cpp's Q4_1 has it: its minimum, a scale, and for each weight a code from 0 to
15, so that weight = scale * code + minimum, with scale = (maximum - minimum) / 15. That is 5 bits for a weight: 4, and
32 bits of scale and minimum for 32 weights.

torch's kernels for such weights take activations in bfloat16 (4 bits) and run on a CPU.

Not done here: choosing codes by their effect on the outputs (Frantar et al. 2022, "GPTQ"), other formats, training.

Sources: Dettmers and Zettlemoyer 2023, "The case for 4-bit precision: k-bit Inference Scaling Laws"; the GGUF format.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Int4Linear",
    "Int8Embedding",
    "Int8Head",
    "dequantize_blocks",
    "has_kernels",
    "quantize_blocks",
    "quantize_symmetric",
]

BLOCK_SIZE = 32
LARGEST_CODE = 15


def quantize_blocks(x: Tensor, block_size: int = BLOCK_SIZE) -> tuple[Tensor, Tensor, Tensor]:
    """Round each block of consecutive values to 16 levels, evenly spaced from its minimum to its maximum.

    Args:
        x: shape (..., n).
        block_size: values that share a scale and a minimum, a divisor of n.

    Returns:
        Codes, uint8, (..., n); scales and minima, dtype of x, each (..., n // block_size). Where a block's values
        are all the same, its scale and codes are 0.

    Raises:
        ValueError: if n is no multiple of block_size.
    """
    if block_size < 1 or x.shape[-1] % block_size:
        raise ValueError(f"the last axis of x ({x.shape[-1]}) must be a multiple of block_size ({block_size})")
    # (..., n) -> (..., n // block_size, block_size)
    blocks = x.unflatten(-1, (-1, block_size))
    minimum, maximum = blocks.aminmax(dim=-1, keepdim=True)
    scale = (maximum - minimum) / LARGEST_CODE
    codes = ((blocks - minimum) / scale.where(scale > 0, 1)).round().clamp(0, LARGEST_CODE)
    return codes.to(torch.uint8).flatten(-2), scale.squeeze(-1), minimum.squeeze(-1)


def dequantize_blocks(codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """Turn what `quantize_blocks` returns, or a file holds, back into values: scale * code + minimum, (..., n)."""
    blocks = codes.unflatten(-1, (scale.shape[-1], -1))
    return (scale.unsqueeze(-1) * blocks + minimum.unsqueeze(-1)).flatten(-2)


def quantize_symmetric(x: Tensor, block_size: int = BLOCK_SIZE) -> tuple[Tensor, Tensor]:
    """Round each block to whole numbers from -127 to 127, as Q8_0 does; what comes back has zero where x has it.

    Args:
        x: shape (..., n).
        block_size: values that share a scale, a divisor of n.

    Returns:
        Codes, int8, (..., n), and scales, (..., n // block_size): x is about scale * code.
    """
    blocks = x.unflatten(-1, (-1, block_size))
    scale = blocks.abs().amax(dim=-1, keepdim=True) / 127
    codes = (blocks / scale.where(scale > 0, 1)).round().to(torch.int8)
    return codes.flatten(-2), scale.squeeze(-1)


def has_kernels() -> bool:
    """Whether this torch multiplies weights in 4 bits on a CPU: from 2.6 on."""
    return hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")


class Int4Linear(nn.Module):
    """A linear layer without bias whose weights are blocks of 32 codes, multiplied as they are.

    Args:
        codes: uint8 from 0 to 15, shape (out_features, in_features).
        scale: shape (out_features, in_features // 32).
        minimum: as scale.

    Raises:
        ValueError: if this torch cannot multiply such weights.
    """

    def __init__(self, codes: Tensor, scale: Tensor, minimum: Tensor) -> None:
        super().__init__()
        if not has_kernels():
            raise ValueError(
                f"torch {torch.__version__} multiplies no weights in 4 bits on a CPU: take 2.6 or later, or float32"
            )
        # The kernel takes a multiple of 16 rows: those that are added are cut off again.
        self.out_features = len(codes)
        codes, scale, minimum = (F.pad(part, (0, 0, 0, -len(part) % 16)) for part in (codes, scale, minimum))
        # Two codes a byte, in the order that the kernel reads them in.
        self.register_buffer("codes", torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1))
        # The kernel computes scale * (code - 8) + zero. (out, in // 32) -> (in // 32, out, 2)
        scale_and_zero = torch.stack([scale, minimum + 8 * scale], dim=-1).transpose(0, 1)
        self.register_buffer("scale_and_zero", scale_and_zero.bfloat16().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Take (..., in_features); return (..., out_features), dtype of x, from products in bfloat16."""
        # (..., in_features) -> (tokens, in_features): the kernel takes rows
        rows = x.reshape(-1, x.shape[-1]).bfloat16()
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.codes, BLOCK_SIZE, self.scale_and_zero)
        return y[:, : self.out_features].to(x.dtype).reshape(*x.shape[:-1], -1)


class Int8Embedding(nn.Module):
    """An embedding table in 8 bits, in blocks of 32.

    Args:
        codes: int8, shape (vocab_size, dim).
        scale: shape (vocab_size, dim // 32).
    """

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """Take token ids; return (*tokens.shape, dim), float32."""
        # (*tokens.shape, dim // 32, 32) * (*tokens.shape, dim // 32, 1) -> (*tokens.shape, dim)
        return (self.codes[tokens].unflatten(-1, (-1, BLOCK_SIZE)) * self.scale[tokens].unsqueeze(-1)).flatten(-2)


class Int8Head(nn.Module):
    """A head in 8 bits: bfloat16 products for all tokens of the vocabulary, and float32 ones for the best of them.

    bfloat16 has 8 significant bits: logits from 16 to 32 are an eighth apart, and many of them are equal. So the best
    ones are computed anew, from the table's own blocks.

    Args:
        table: the embedding that the head is tied to, or a table of its own.
        n_best: logits of a token to compute in float32.
    """

    def __init__(self, table: Int8Embedding, n_best: int = 64) -> None:
        super().__init__()
        self.table, self.n_best = table, n_best
        vocab_size, dim = table.codes.shape
        self.register_buffer("codes", torch.empty(vocab_size, dim, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(vocab_size, dtype=torch.bfloat16))
        # The kernel takes one scale for each row: a second, coarser rounding. In pieces, to need little memory.
        for rows in torch.arange(vocab_size).split(4096):
            self.codes[rows], scale = quantize_symmetric(table(rows), dim)
            self.scale[rows] = scale.squeeze(-1).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Take (..., dim); return logits, (..., vocab_size), dtype of x."""
        # The kernel takes float32 too, and is then slower than a matrix in float32.
        rows = x.reshape(-1, x.shape[-1]).bfloat16()
        logits = torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scale).to(x.dtype).view(*x.shape[:-1], -1)
        best = logits.topk(min(self.n_best, logits.shape[-1]), sorted=False).indices
        # (..., n_best, dim) @ (..., dim, 1) -> (..., n_best)
        exact = (self.table(best) @ x.unsqueeze(-1).float()).squeeze(-1)
        return logits.scatter(-1, best, exact.to(x.dtype))
