"""Llama: token embedding, a stack of pre-norm blocks, a last norm, and a score for each token of the vocabulary.

A block adds to the stream twice: what attention gathered from the past, then what the feed-forward layer
made of it. Each reads the stream through an RMSNorm; the stream itself is never normalised.

Not done here: initialisation (weights are as torch draws them), a cache of keys and values, dropout (Llama
has none).

Source: Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models", section 2.2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llama_lessons.attention import GroupedQueryAttention
from llama_lessons.feed_forward import SwiGLU
from llama_lessons.norms import RMSNorm
from llama_lessons.rope import RotaryEmbedding

__all__ = ["Block", "Llama", "LlamaConfig", "NoPositions", "smollm2_135m"]


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """What it takes to build a Llama.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: channels of a token.
        n_layers: blocks.
        n_heads: query heads.
        n_kv_heads: key/value heads, a divisor of n_heads.
        head_dim: channels of one head; n_heads * head_dim need not equal dim.
        hidden_dim: channels inside the feed-forward layer.
        max_seq_len: tokens that the model learned to read at once. Nothing stops there; it only gets worse.
        rope_theta: base of the rotary frequencies.
        norm_eps: eps of every RMSNorm.
        tied_embeddings: whether the head scores tokens with the embedding's own weight.

    Raises:
        ValueError: if a size is not positive, or n_heads is not a multiple of n_kv_heads.
    """

    vocab_size: int
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_dim: int
    max_seq_len: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        sizes = "vocab_size dim n_layers n_heads n_kv_heads head_dim hidden_dim max_seq_len rope_theta norm_eps"
        for name in sizes.split():
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be positive")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.n_kv_heads})")

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.n_heads // self.n_kv_heads


def smollm2_135m() -> LlamaConfig:
    """SmolLM2-135M (Allal et al. 2025, "SmolLM2: When Smol Goes Big")."""
    return LlamaConfig(
        vocab_size=49_152,
        dim=576,
        n_layers=30,
        n_heads=9,
        n_kv_heads=3,
        head_dim=64,
        hidden_dim=1536,
        max_seq_len=8192,
        rope_theta=100_000.0,
        tied_embeddings=True,
    )


class NoPositions(nn.Module):
    """A part to put in the place of `RotaryEmbedding`: it leaves queries and keys as they are."""

    def forward(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """Take positions; return the identity."""
        return nn.Identity()


class Block(nn.Module):
    """One layer: attention, then the feed-forward layer, each behind a norm and added to the stream."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = GroupedQueryAttention(config.dim, config.n_heads, config.n_kv_heads, config.head_dim)
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = SwiGLU(config.dim, config.hidden_dim)

    def forward(self, x: Tensor, rotate: Callable[[Tensor], Tensor]) -> Tensor:
        """Take the stream, (batch, seq_len, dim), and what puts positions into q and k; return the stream."""
        x = x + self.attention(self.attention_norm(x), rotate)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Llama(nn.Module):
    """The whole model, from token ids to logits.

    Args:
        config: sizes and constants.
        rope: the part that gives, for positions, the function applied to queries and keys; by default a
            `RotaryEmbedding` made from config. It may be replaced later too: `model.rope = NoPositions()`.
    """

    def __init__(self, config: LlamaConfig, rope: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.rope = RotaryEmbedding(config.head_dim, config.rope_theta) if rope is None else rope
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Score, after each token, every token of the vocabulary as the next one.

        Args:
            tokens: token ids, shape (batch, seq_len).
            positions: where they stand, shape (seq_len,) or (batch, seq_len); by default 0, 1, 2, ...

        Returns:
            Logits, shape (batch, seq_len, vocab_size).

        Raises:
            ValueError: if tokens are not ids of the vocabulary in that shape, or positions do not fit them.
        """
        self._check_tokens(tokens)
        batch, seq_len = tokens.shape
        if positions is None:
            positions = torch.arange(seq_len, device=tokens.device)
        elif positions.shape not in ((seq_len,), (batch, seq_len)):
            raise ValueError(
                f"positions {tuple(positions.shape)} must be (seq_len,) or (batch, seq_len) for tokens "
                f"{tuple(tokens.shape)}"
            )
        # The tables are made once and serve every layer.
        rotate = self.rope(positions)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, rotate)
        return self.head(self.norm(x))

    def _check_tokens(self, tokens: Tensor) -> None:
        if tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"tokens must be int64 or int32 ids, not {tokens.dtype}")
        if tokens.ndim != 2 or not tokens.numel():
            raise ValueError(f"tokens must be (batch, seq_len) with at least one token, not {tuple(tokens.shape)}")
        low, high = tokens.min().item(), tokens.max().item()
        # Left to the embedding, a wrong id on a GPU ends the process's use of it.
        if low < 0 or high >= self.config.vocab_size:
            wrong = low if low < 0 else high
            raise ValueError(f"token id {wrong} is not in the vocabulary: vocab_size is {self.config.vocab_size}")
