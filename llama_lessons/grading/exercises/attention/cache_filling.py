"""What KVCache is graded with: the function that fills a cache piece by piece, and caches to be got wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from .common import draw

Kept = tuple[Tensor, Tensor, bool, bool, str]


def fills(cache_class: Any) -> Callable[..., Kept]:
    """Make of a class the function that fills a cache piece by piece.

    It returns what the last append returned, whether all of it lay in one memory that is not the input's, whether
    `length` always told the places that were filled, and what was refused. A piece that is refused is left out, and
    the next one is cut from where it would have begun.
    """

    def fill(k: Tensor, v: Tensor, max_seq_len: int, sizes: tuple[int, ...]) -> Kept:
        batch, n_kv_heads, _, head_dim = k.shape
        cache = cache_class(batch, n_kv_heads, max_seq_len, head_dim, k.dtype, choose_device())
        kept, start, counted, refused = (k[:, :, :0], v[:, :, :0]), 0, True, []
        own, memory = memory_of(k, v), set()
        for size in sizes:
            end = start + size
            try:
                kept = cache.append(k[:, :, start:end], v[:, :, start:end])
            except Exception as error:
                if not isinstance(error, ValueError) and end <= max_seq_len:
                    raise
                refused.append(f"{size} after {start}: {type(error).__name__}")
            else:
                if not is_pair(kept):
                    came = "None" if kept is None else type(kept).__name__
                    raise TypeError(f"append returned {came}, where two tensors are expected: keys and values so far")
                start = end
                memory.add(memory_of(*kept))
            # A cache that keeps count in a way of its own has no length that could be wrong.
            counted = counted and bool(getattr(cache, "length", start) == start)
        in_place = len(memory) <= 1 and not any(set(own) & set(where) for where in memory)
        return (*kept, in_place, counted, ", ".join(refused))

    return fill


def in_words(refused: str) -> str:
    """What was refused, for a message: "1 after 4: ValueError" is "ValueError on appending 1 after 4"."""
    pieces = [piece.split(": ") for piece in refused.split(", ") if piece]
    return " and ".join(f"{error} on appending {where}" for where, error in pieces) or "no error"


def is_pair(kept: Any) -> bool:
    return isinstance(kept, (tuple, list)) and len(kept) == 2 and all(isinstance(x, Tensor) for x in kept)


def memory_of(keys: Tensor, values: Tensor) -> tuple[int, int]:
    return keys.untyped_storage().data_ptr(), values.untyped_storage().data_ptr()


class Base:
    """The constructor as the notebook gives it, and an append that is right, each step to be got wrong."""

    def __init__(
        self,
        batch: int,
        n_kv_heads: int,
        max_seq_len: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> None:
        self.length = 0
        self.keys = torch.zeros(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)

    def end(self, k: Tensor) -> int:
        return self.length + k.shape[2]

    def refuse(self, k: Tensor) -> None:
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise ValueError(f"{k.shape[2]} more do not fit after {self.length}")

    def write(self, k: Tensor, v: Tensor) -> None:
        self.keys[:, :, self.length : self.length + k.shape[2]] = k
        self.values[:, :, self.length : self.length + k.shape[2]] = v

    def kept(self) -> tuple[Tensor, Tensor]:
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.refuse(k)
        self.write(k, v)
        self.length = self.end(k)
        return self.kept()


class Joined(Base):
    """Joins the new tokens behind the whole memory, which grows."""

    def write(self, k: Tensor, v: Tensor) -> None:
        self.keys, self.values = torch.cat((self.keys, k), dim=2), torch.cat((self.values, v), dim=2)


def pair(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return draw(*shape, seed=seed, dtype=dtype), draw(*shape, seed=seed + 50, dtype=dtype)
