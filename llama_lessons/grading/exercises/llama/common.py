"""What the exercises of lesson 09 share: small Llamas with weights, and what they give, in float64 from the formulas.

Weights go by llama.cpp's names, as they stand in a file. What is expected comes from no module of the course.
"""

from typing import Any

import torch
from torch import Tensor

from llama_lessons.llama import LlamaConfig

from ...expect import draw, exact
from ..attention.common import by_formula
from ..norms.common import exact_rms_norm

# The weights of a block: their names in a file, and in a Block.
IN_BLOCK = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.q_proj",
    "attn_k": "attention.k_proj",
    "attn_v": "attention.v_proj",
    "attn_output": "attention.o_proj",
    "ffn_norm": "feed_forward_norm",
    "ffn_gate": "feed_forward.gate_proj",
    "ffn_up": "feed_forward.up_proj",
    "ffn_down": "feed_forward.down_proj",
}


def small(**sizes: Any) -> LlamaConfig:
    """Sizes that are all different, heads together wider than the model, and constants that are no defaults."""
    odd = {"vocab_size": 23, "dim": 10, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "hidden_dim": 14}
    return LlamaConfig(**({"max_seq_len": 64, "rope_theta": 500.0, "norm_eps": 0.1} | odd | sizes))


def described(config: LlamaConfig) -> str:
    heads = f"{config.n_heads} heads over {config.n_kv_heads} of {config.head_dim} channels"
    return f"dim {config.dim}, {heads}, norm_eps {config.norm_eps:g}"


def block_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """The weights of one block, by their names in a file without blk.0."""
    dim, q, kv = config.dim, config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    attention = {"attn_norm": (dim,), "attn_q": (q, dim), "attn_k": (kv, dim), "attn_v": (kv, dim)}
    hidden = config.hidden_dim
    feed_forward = {"ffn_norm": (dim,), "ffn_gate": (hidden, dim), "ffn_up": (hidden, dim), "ffn_down": (dim, hidden)}
    return attention | {"attn_output": (dim, q)} | feed_forward


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    """Gains around 1, and matrices that make of normal numbers some that are a little larger."""
    x = draw(*shape, seed=seed)
    return 1 + x / 2 if len(shape) == 1 else x * 1.5 / shape[1] ** 0.5


def block_weights(config: LlamaConfig, seed: int = 0) -> list[Tensor]:
    return [drawn(shape, 100 * seed + i) for i, shape in enumerate(block_shapes(config).values())]


def file_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """The weights of a whole Llama, by their names in a file."""
    shapes = {"token_embd.weight": (config.vocab_size, config.dim)}
    for i in range(config.n_layers):
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in block_shapes(config).items()}
    shapes["output_norm.weight"] = (config.dim,)
    if not config.tied_embeddings:
        shapes["output.weight"] = (config.vocab_size, config.dim)
    return shapes


def file_weights(config: LlamaConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random weights, as a file holds them."""
    return {name: drawn(shape, 1000 * seed + i) for i, (name, shape) in enumerate(file_shapes(config).items())}


def turned(x: Tensor, positions: Tensor, theta: float, layout: str) -> Tensor:
    """RoPE, each pair as a complex number: x (batch, heads, seq_len, head_dim) at these positions."""
    sizes, axis = ((2, -1), -2) if layout == "half" else ((-1, 2), -1)
    a, b = x.unflatten(-1, sizes).unbind(axis)
    powers = theta ** (-torch.arange(a.shape[-1], dtype=torch.float64) / a.shape[-1])
    angles = positions[:, None] * powers
    z = torch.complex(a, b) * torch.polar(torch.ones_like(angles), angles)
    return torch.stack((z.real, z.imag), dim=axis).flatten(-2)


def exact_block(
    x: Tensor, weights: dict[str, Tensor], config: LlamaConfig, positions: Tensor, layout: str = "half"
) -> dict[str, Tensor]:
    """What a block's parts return, by their names, and itself, as "block"; its keys and values as "k" and "v"."""
    w = {name: exact(weight) for name, weight in weights.items()}
    normed = exact_rms_norm(x, w["attn_norm"], config.norm_eps)
    q, k, v = (
        (normed @ w[name].T).unflatten(-1, (-1, config.head_dim)).transpose(1, 2)
        for name in ("attn_q", "attn_k", "attn_v")
    )
    q, k = (turned(y, positions, config.rope_theta, layout) for y in (q, k))
    attention = by_formula(q, k, v).transpose(1, 2).flatten(2) @ w["attn_output"].T
    mid = exact(x) + attention
    again = exact_rms_norm(mid, w["ffn_norm"], config.norm_eps)
    gate = again @ w["ffn_gate"].T
    fed = (gate / (1 + torch.exp(-gate)) * (again @ w["ffn_up"].T)) @ w["ffn_down"].T
    parts = {"attention_norm": normed, "attention": attention, "feed_forward_norm": again, "feed_forward": fed}
    return parts | {"block": mid + fed, "k": k, "v": v}


def exact_llama(
    config: LlamaConfig,
    weights: dict[str, Tensor],
    tokens: Tensor,
    layout: str = "interleaved",
    positions: Tensor | None = None,
) -> dict[str, Tensor]:
    """What a Llama and its parts return, by role, such as blocks.0.attention; the logits are those of "head"."""
    positions = torch.arange(tokens.shape[1]) if positions is None else positions
    x = exact(weights["token_embd.weight"])[tokens.cpu()]
    found = {"embedding": x}
    for i in range(config.n_layers):
        own = {name: weights[f"blk.{i}.{name}.weight"] for name in IN_BLOCK}
        parts = exact_block(x, own, config, positions, layout)
        x = parts["block"]
        found |= {f"blocks.{i}": x} | {f"blocks.{i}.{part}": parts[part] for part in list(parts)[:4]}
    x = exact_rms_norm(x, weights["output_norm.weight"], config.norm_eps)
    head = weights["token_embd.weight" if config.tied_embeddings else "output.weight"]
    return found | {"norm": x, "head": x @ exact(head).T}
