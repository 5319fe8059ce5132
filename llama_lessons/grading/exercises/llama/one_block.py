"""How a block is run and what it should give, for the exercise that asks for one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from llama_lessons.rope import rope_frequencies, rope_tables

from ...expect import Mismatch, draw
from ..attention.whole_layer import Kept
from .common import IN_BLOCK, block_shapes, block_weights, exact_block, small


def runs(block_class: Any) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Make of a class the function that has its block read x in pieces, and shows what the cache holds afterwards."""

    def run(x, attn_norm, wq, wk, wv, wo, ffn_norm, gate, up, down, config, first=0, pieces=()):
        block = block_class(config)
        weights = dict(zip(IN_BLOCK.values(), (attn_norm, wq, wk, wv, wo, ffn_norm, gate, up, down), strict=True))
        expect_names(block, {f"{name}.weight": tuple(weight.shape) for name, weight in weights.items()})
        weights = {f"{name}.weight": weight for name, weight in weights.items()}
        positions = torch.arange(first, first + x.shape[1], device=x.device)
        tables = rope_tables(positions, rope_frequencies(config.head_dim, config.rope_theta))
        if not pieces:
            nothing = x.new_zeros(0)
            return functional_call(block, weights, (x, *tables)), nothing, nothing
        cache = Kept()
        parts = zip(x.split(pieces, dim=1), *(table.split(pieces) for table in tables), strict=True)
        results = [functional_call(block, weights, (*part, cache)) for part in parts]
        keys, values = (x.new_zeros(0) if kept is None else kept for kept in (cache.keys, cache.values))
        return torch.cat(results, dim=1), keys, values

    return run


def expect_names(block: Any, wanted: dict[str, tuple[int, ...]]) -> None:
    """Refuse a block whose weights are not these alone."""
    if not isinstance(block, nn.Module):
        raise Mismatch("Block is expected to be an nn.Module")
    found = {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}
    if found != wanted:
        got, want = (
            ", ".join(f"{name} {shape}" for name, shape in of.items() if (name, shape) not in other.items())
            for of, other in ((found, wanted), (wanted, found))
        )
        raise Mismatch(f"parameters: expected {want or 'no others'}, but your block has {got or 'none of that name'}")
    if more := block.state_dict().keys() - wanted.keys():
        raise Mismatch(f"the state_dict is expected to hold the weights alone, but it holds {', '.join(sorted(more))}")


def given(seed: int, batch: int = 2, seq_len: int = 5, size: float = 1.0, **sizes: Any) -> tuple:
    """An x of that size, weights, and a config."""
    config = small(**sizes)
    return size * draw(batch, seq_len, config.dim, seed=900 + seed), *block_weights(config, seed), config


def exact_of(x: Tensor, *more: Any) -> dict[str, Tensor]:
    """What is expected for what the block is given."""
    *weights, config = more[:10]
    (first,) = more[10:11] or (0,)
    positions = torch.arange(first, first + x.shape[1])
    return exact_block(x, dict(zip(IN_BLOCK, weights, strict=True)), config, positions)


def expected(*args: Any) -> Tensor:
    return exact_of(*args)["block"]


def silenced(args: tuple, *names: str) -> tuple:
    """The same, but for weights of 0 in the named matrices."""
    places = [1 + list(block_shapes(args[-1])).index(name) for name in names]
    return tuple(torch.zeros_like(arg) if i in places else arg for i, arg in enumerate(args))
