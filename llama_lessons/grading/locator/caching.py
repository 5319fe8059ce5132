"""Where a model goes wrong that reads a text rightly at once, and not in pieces with a cache of keys and values."""

from typing import Any

import torch
from torch import Tensor, nn

from llama_lessons.llama import LlamaConfig
from llama_lessons.rope import apply_rope, rope_frequencies, rope_tables

from ..verdict import Mistake

__all__ = ["locate_in_cache"]

CLOSE = {"rtol": 1e-3, "atol": 1e-3}


class _Noted:
    """A cache that notes what is appended to it, and what it returns."""

    def __init__(self, cache: Any) -> None:
        self.__dict__.update(cache=cache, given=[], returned=[])

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.given.append((k.clone(), v.clone()))
        returned = self.cache.append(k, v)
        self.returned.append(tuple(x.clone() for x in returned))
        return returned

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.cache, name, value)


@torch.inference_mode()
def locate_in_cache(model: nn.Module, tokens: Tensor, new_cache: Any, config: LlamaConfig) -> Mistake | None:
    """The first thing that is not as it should be when tokens are read in two pieces; None if all of it is.

    Args:
        model: called as model(tokens, caches), with a cache for each layer, whose append(k, v) takes and returns keys
            and values, (batch, n_kv_heads, seq_len, head_dim).
        tokens: ids, (batch, seq_len), that it reads rightly without caches.
        new_cache: makes the caches of all layers, with room for the tokens of all layers in each.
        config: of the model.
    """
    half = tokens.shape[1] // 2
    at_once, in_pieces = ([_Noted(cache) for cache in new_cache()] for _ in range(2))
    model(tokens, at_once)
    for piece in (tokens[:, :half], tokens[:, half:]):
        model(piece, in_pieces)
    for layer, (whole, noted) in enumerate(zip(at_once, in_pieces, strict=True)):
        if layer and noted.given and not _close(noted.given[-1][1], whole.given[0][1][:, :, half:]):
            return _attention(layer - 1)  # what this block reads is wrong already
        if found := _in_layer(layer, whole, noted, half, config):
            name, what = found
            return Mistake(name, f"The cache of block {layer}, when a text is read in two pieces: {what}", True)
    return _attention(len(at_once) - 1)


def _attention(layer: int) -> Mistake:
    return Mistake(
        "attention with a cache",
        f"The cache of block {layer} holds the right keys and values, but what this block makes of them is wrong where "
        "a second piece is read. Each new token may read all that came before its piece, and in its own piece itself "
        "and those before it.",
        True,
    )


def _in_layer(layer: int, whole: _Noted, noted: _Noted, half: int, config: LlamaConfig) -> tuple[str, str] | None:
    if len(noted.given) != 2 or len(whole.given) != 1:
        if not noted.given:
            return "the cache not handed on", "nothing is appended to it. Hand each block the cache of its own layer."
        return (
            "a cache for several blocks",
            f"keys and values are appended to it {len(noted.given)} times, not once for each piece. Each block has a "
            "cache of its own.",
        )
    (all_keys, all_values), (_, (k, v)), (_, (keys, values)) = whole.given[0], noted.given, noted.returned
    if not _close(k, all_keys[:, :, half:]):
        return _moved(k, all_keys[:, :, half:], half, config)
    if not _close(v, all_values[:, :, half:]):
        return "other values", "the values of the new tokens differ from those of the same tokens read at once."
    for name, got, want, other in (("keys", keys, all_keys, all_values), ("values", values, all_values, all_keys)):
        if got.shape[2] < want.shape[2]:
            return (
                "append forgets",
                f"append returns the {name} of {got.shape[2]} tokens, and {want.shape[2]} were read.",
            )
        if not _close(got, want):
            confused = _close(got[:, :, :half], other[:, :, :half]) or _close(got, other)
            mixed = f" They are those of the {'values' if name == 'keys' else 'keys'}." if confused else ""
            return f"other {name} come back", f"the {name} that append returns are not those that were appended.{mixed}"
    if noted.length != all_keys.shape[2]:
        return "its length", f"after {all_keys.shape[2]} tokens its length says {noted.length}."
    return None


def _moved(k: Tensor, want: Tensor, half: int, config: LlamaConfig) -> tuple[str, str]:
    """How far from their positions the new tokens' keys were rotated."""
    frequencies = rope_frequencies(config.head_dim, config.rope_theta).to(k.device)
    for by in (-half, -1, 1, half):
        cos, sin = rope_tables(torch.full((k.shape[2],), by, device=k.device), frequencies)
        if any(_close(k, apply_rope(want, cos, sin, layout=layout)) for layout in ("half", "interleaved")):
            if by == -half:
                return (
                    "positions restart",
                    "the keys of the second piece are rotated as if it began at position 0 again.",
                )
            way = "too far on" if by > 0 else "too far back"
            return (
                "positions are off",
                f"the keys of the second piece are rotated by positions that are {abs(by)} {way}.",
            )
    return "other keys", "the keys of the second piece's tokens differ from those of the same tokens read at once."


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, **CLOSE)
