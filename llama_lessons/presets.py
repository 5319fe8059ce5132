"""Lesson 09. Sizes of published Llamas, as in the configuration files that their makers published with them.

Sources: Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models", table 2; Touvron et al.
2023, "Llama 2: Open Foundation and Fine-Tuned Chat Models"; Grattafiori et al. 2024, "The Llama 3 Herd of
Models", table 3; Allal et al. 2025, "SmolLM2: When Smol Goes Big".
"""

from dataclasses import replace
from typing import TypeVar

from llama_lessons.feed_forward import swiglu_hidden_dim
from llama_lessons.llama import LlamaConfig
from llama_lessons.rope_scaling import Llama3Scaling

__all__ = ["llama1", "llama2", "llama3", "llama3_1", "llama3_2", "smollm2"]

T = TypeVar("T")


def llama1(size: str) -> LlamaConfig:
    """Llama 1 of size "7B", "13B", "33B" or "65B"."""
    dim, n_layers, n_heads = _choose(
        size, {"7B": (4096, 32, 32), "13B": (5120, 40, 40), "33B": (6656, 60, 52), "65B": (8192, 80, 64)}
    )
    return LlamaConfig(
        vocab_size=32_000,
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=128,
        hidden_dim=swiglu_hidden_dim(dim),
        max_seq_len=2048,
        norm_eps=1e-6,
    )


def llama2(size: str) -> LlamaConfig:
    """Llama 2 of size "7B", "13B" or "70B": twice the length, and 70B shares key/value heads."""
    as_in_llama1 = _choose(size, {"7B": "7B", "13B": "13B", "70B": "65B"})
    config = replace(llama1(as_in_llama1), max_seq_len=4096, norm_eps=1e-5)
    if size != "70B":
        return config
    return replace(config, n_kv_heads=8, hidden_dim=swiglu_hidden_dim(config.dim, 4096, 1.3))


def llama3(size: str) -> LlamaConfig:
    """Llama 3 of size "8B" or "70B": four times the vocabulary, a larger base of the rotation."""
    dim, n_layers, n_heads, multiple_of = _choose(size, {"8B": (4096, 32, 32, 1024), "70B": (8192, 80, 64, 4096)})
    return LlamaConfig(
        vocab_size=128_256,
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=8,
        head_dim=128,
        hidden_dim=swiglu_hidden_dim(dim, multiple_of, 1.3),
        max_seq_len=8192,
        rope_theta=500_000.0,
    )


def llama3_1(size: str) -> LlamaConfig:
    """Llama 3.1 of size "8B", "70B" or "405B": slow pairs turn 8 times slower, for texts 16 times as long."""
    changes = {"max_seq_len": 131_072, "rope_scaling": _llama3_scaling(factor=8.0)}
    if _choose(size, {"8B": False, "70B": False, "405B": True}):
        changes |= {"dim": 16_384, "n_layers": 126, "n_heads": 128, "hidden_dim": swiglu_hidden_dim(16_384, 4096, 1.2)}
        size = "70B"
    return replace(llama3(size), **changes)


def llama3_2(size: str) -> LlamaConfig:
    """Llama 3.2 of size "1B" or "3B", the text models: small, with a tied head."""
    sizes = {
        "1B": {
            "dim": 2048,
            "n_layers": 16,
            "n_heads": 32,
            "head_dim": 64,
            "hidden_dim": swiglu_hidden_dim(2048, 256, 1.5),
        },
        "3B": {"dim": 3072, "n_layers": 28, "n_heads": 24, "hidden_dim": swiglu_hidden_dim(3072)},
    }
    changes = _choose(size, sizes) | {"rope_scaling": _llama3_scaling(factor=32.0), "tied_embeddings": True}
    return replace(llama3_1("8B"), **changes)


def smollm2(size: str) -> LlamaConfig:
    """SmolLM2 of size "135M", "360M" or "1.7B"."""
    dim, n_layers, n_heads, n_kv_heads, hidden_dim, rope_theta = _choose(
        size,
        {
            "135M": (576, 30, 9, 3, 1536, 100_000.0),
            "360M": (960, 32, 15, 5, 2560, 100_000.0),
            "1.7B": (2048, 24, 32, 32, 8192, 130_000.0),
        },
    )
    return LlamaConfig(
        vocab_size=49_152,
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=64,
        hidden_dim=hidden_dim,
        max_seq_len=8192,
        rope_theta=rope_theta,
        tied_embeddings=True,
    )


def _llama3_scaling(factor: float) -> Llama3Scaling:
    return Llama3Scaling(factor=factor, low_freq_factor=1.0, high_freq_factor=4.0, original_max_seq_len=8192)


def _choose(size: str, sizes: dict[str, T]) -> T:
    if size not in sizes:
        raise ValueError(f"size ({size!r}) must be one of {', '.join(map(repr, sizes))}")
    return sizes[size]
