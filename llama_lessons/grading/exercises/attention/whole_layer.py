"""How a whole attention layer is run and what it should give, for the exercises that have one.

What is expected is worked out in float64: rotated as complex numbers, attended query by query.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from llama_lessons.rope import rope_frequencies, rope_tables

from ...expect import Mismatch, draw, exact
from .common import by_formula

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


class Kept:
    """A cache like the learner's KVCache, which takes what it is given."""

    def __init__(self) -> None:
        self.keys = self.values = None

    @property
    def length(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.keys = k if self.keys is None else torch.cat((self.keys, k), dim=2)
        self.values = v if self.values is None else torch.cat((self.values, v), dim=2)
        return self.keys, self.values


def attends(layer_class: Any) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Make of a class the function that has its layer read x in pieces, and shows what the cache holds afterwards."""

    def run(x, wq, wk, wv, wo, head_dim, first=0, pieces=()):
        n_heads, n_kv_heads = len(wq) // head_dim, len(wk) // head_dim
        layer = layer_class(x.shape[-1], n_heads, n_kv_heads, head_dim)
        weights = dict(zip(PROJECTIONS, (wq, wk, wv, wo), strict=True))
        expect_weights(layer, {name: tuple(weight.shape) for name, weight in weights.items()})
        weights = {f"{name}.weight": weight for name, weight in weights.items()}
        positions = torch.arange(first, first + x.shape[1], device=x.device)
        tables = rope_tables(positions, rope_frequencies(head_dim))
        if not pieces:
            nothing = x.new_zeros(0)
            return functional_call(layer, weights, (x, *tables)), nothing, nothing
        cache = Kept()
        parts = zip(x.split(pieces, dim=1), *(table.split(pieces) for table in tables), strict=True)
        results = [functional_call(layer, weights, (*part, cache)) for part in parts]
        keys, values = (x.new_zeros(0) if kept is None else kept for kept in (cache.keys, cache.values))
        return torch.cat(results, dim=1), keys, values

    return run


def expect_weights(layer: nn.Module, wanted: dict[str, tuple[int, ...]]) -> None:
    """Refuse a layer whose parameters are not these weights alone."""
    found = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    expected = {f"{name}.weight": shape for name, shape in wanted.items()}
    if found != expected:
        got, want = (
            ", ".join(f"{name} {shape}" for name, shape in sorted(of.items() - other.items()))
            for of, other in ((found, expected), (expected, found))
        )
        has = f"has {got}" if got else "does not have them"
        raise Mismatch(f"parameters: expected {want or 'no more than the four weights'}, but your layer {has}")


def inputs(batch: int, seq_len: int, dim: int, n_heads: int, n_kv_heads: int, head_dim: int, seed: int = 0) -> tuple:
    q, kv = n_heads * head_dim, n_kv_heads * head_dim
    shapes = (q, dim), (kv, dim), (kv, dim), (dim, q)
    weights = [draw(*shape, seed=seed + 10 * i) / dim**0.5 * 1.5 for i, shape in enumerate(shapes, 1)]
    return draw(batch, seq_len, dim, seed=seed), *weights, head_dim


def rotated(x: Tensor, first: int) -> Tensor:
    """RoPE in float64, each pair as a complex number: x (batch, heads, seq_len, head_dim) from position first."""
    a, b = exact(x).chunk(2, dim=-1)
    powers = 10_000.0 ** (-torch.arange(a.shape[-1], dtype=torch.float64) / a.shape[-1])
    angles = torch.arange(first, first + x.shape[2])[:, None] * powers
    turned = torch.complex(a, b) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


def expected(x, wq, wk, wv, wo, head_dim, first=0, pieces=()) -> tuple[Tensor, Tensor, Tensor]:
    """What comes out, and the keys and values that belong into the cache, in float64."""
    q, k, v = ((exact(x) @ exact(w).T).unflatten(-1, (-1, head_dim)).transpose(1, 2) for w in (wq, wk, wv))
    q, k = rotated(q, first), rotated(k, first)
    return by_formula(q, k, v).transpose(1, 2).flatten(2) @ exact(wo).T, k, v
