"""Lesson 11. A KV cache in 8 bits: each key and value as whole numbers from -127 to 127 and one scale.

Not done here: attention on the 8-bit numbers themselves. They are turned into floats for each layer in turn, so that
what is saved is the memory between steps, not the time.

Source: Hooper et al. 2024, "KVQuant: Towards 10 Million Context Length LLM Inference with KV Cache Quantization".
"""

import torch
from torch import Tensor

from llama_lessons.attention import KVCache

__all__ = ["Int8KVCache"]


class Int8KVCache(KVCache):
    """Keys and values of earlier tokens in one layer, a byte each, with a float16 scale for each head of each token.

    Args:
        sizes: batch, n_kv_heads, max_seq_len and head_dim, as for `KVCache`.
        dtype: of what goes in and comes out.
        device: as for `KVCache`.
    """

    def __init__(
        self, *sizes: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> None:
        super().__init__(*sizes, torch.int8, device)
        self.dtype = dtype
        # Largest absolute value / 127 of each key and of each value
        self.scales = torch.empty(2, *sizes[:-1], 1, dtype=torch.float16, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, full or empty."""
        return super().nbytes + self.scales.nbytes

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens, rounded; return all stored so far, as floats.

        Raises:
            ValueError: as `KVCache.append`.
        """
        start = self.length
        scales = torch.stack([x.abs().amax(-1, keepdim=True) / 127 for x in (k, v)]).half()
        # A scale of 0 belongs to zeros alone. Rounding the scale down may ask for 128, which int8 has not.
        codes = [
            (x / s.clamp(min=1e-7)).round().clamp(-127, 127).to(torch.int8) for x, s in zip((k, v), scales, strict=True)
        ]
        stored = super().append(*codes)
        self.scales[:, :, :, start : self.length] = scales
        return tuple(
            x.to(self.dtype) * s.to(self.dtype)
            for x, s in zip(stored, self.scales[:, :, :, : self.length], strict=True)
        )
