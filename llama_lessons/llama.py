"""Lesson 09. Llama: token embedding, a stack of pre-norm blocks, a last norm, and logits over the vocabulary.

A block adds to the residual stream twice: first what attention gathered from earlier tokens, then what the
feed-forward layer made of it. Each reads the stream through a norm; the stream itself is never normalised.

Positions: `count_positions` counts them, `rope` rotates queries and keys by them. Padding: `count_positions` skips
it, `causal_mask` hides it. Norms, rotation and softmax are computed in float32 at least, all else in the weights'
dtype.

Not done here: dropout (Llama has none), and other parts than Llama's, which `workbench` puts into this model.

Source: Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models", section 2.2.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from llama_lessons.attention import GroupedQueryAttention, KVCache, causal_mask
from llama_lessons.feed_forward import SwiGLU
from llama_lessons.norms import RMSNorm
from llama_lessons.rope import RotaryEmbedding, Rotate

if TYPE_CHECKING:  # for the annotation alone: most Llamas have no scaling
    from llama_lessons.rope_scaling import RopeScaling

__all__ = ["Block", "Llama", "LlamaConfig", "count_positions", "rotary_embedding"]


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """What it takes to build a Llama.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: channels of the residual stream.
        n_layers: blocks.
        n_heads: query heads.
        n_kv_heads: key/value heads, a divisor of n_heads.
        head_dim: channels of one head; n_heads * head_dim need not equal dim.
        hidden_dim: channels inside the feed-forward layer.
        max_seq_len: longest sequence of the training. Llama reads longer ones too, but worse.
        rope_theta: base of the rotary frequencies.
        rope_scaling: how the frequencies are changed for longer texts, if they are.
        norm_eps: eps of every norm.
        tied_embeddings: whether the head's weight is the embedding's.

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
    rope_scaling: "RopeScaling | None" = None
    norm_eps: float = 1e-5
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        sizes = "vocab_size dim n_layers n_heads n_kv_heads head_dim hidden_dim max_seq_len rope_theta norm_eps"
        for name in sizes.split():
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be positive")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.n_kv_heads})")

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.n_heads // self.n_kv_heads


class Block(nn.Module):
    """One layer: attention, then the feed-forward layer, each behind a norm and added to the residual stream.

    Args:
        config: sizes and constants.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = GroupedQueryAttention(config.dim, config.n_heads, config.n_kv_heads, config.head_dim)
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = SwiGLU(config.dim, config.hidden_dim)

    def forward(self, x: Tensor, rotate: Rotate, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Take the residual stream, (batch, seq_len, dim), and what attention needs; return the stream."""
        x = x + self.attention(self.attention_norm(x), rotate, mask, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


def rotary_embedding(config: LlamaConfig) -> RotaryEmbedding:
    """Make RoPE with the frequencies of config, scaled for longer texts if rope_scaling says so."""
    if config.rope_scaling is None:
        return RotaryEmbedding(config.head_dim, config.rope_theta)
    return config.rope_scaling.rotary_embedding(config.head_dim, config.rope_theta)


class Llama(nn.Module):
    """A causal language model, from token ids to logits.

    A part may be replaced later: `model.rope = RotaryEmbedding(64, 500_000.0)`.

    Args:
        config: sizes and constants.
    """

    position_limit: int | None = None  # positions that the model has, for `generation`: RoPE has no last one

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.rope = rotary_embedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight
        # Matrices are drawn from N(0, 0.02 ** 2), as in Hugging Face's Llama; gains are 1 already.
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        cache: list[KVCache] | None = None,
    ) -> Tensor:
        """Score, after each token, every token of the vocabulary as the next one.

        Args:
            tokens: token ids, shape (batch, seq_len).
            positions: where they stand, shape (seq_len,) or (batch, seq_len); by default how many tokens come before.
                They set the rotation alone: a token attends to those before it in the row.
            attention_mask: True at tokens and False at padding, bool, shape (batch, cached + seq_len); by default
                there is no padding. Padding may stand on either side; the logits at padding mean nothing.
            cache: from `new_cache`; the tokens follow those that it holds, and are kept in it. If padding is among
                them, each later call needs the attention_mask too.

        Returns:
            Logits, shape (batch, seq_len, vocab_size).

        Raises:
            ValueError: if tokens are not ids of the vocabulary in that shape, if positions, attention_mask or
                cache do not fit them, or if there are more tokens than the cache has room for.
        """
        return self.head(self.hidden_states(tokens, positions, attention_mask=attention_mask, cache=cache))

    def hidden_states(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        cache: list[KVCache] | None = None,
    ) -> Tensor:
        """Take what `forward` takes; return the final hidden states, (batch, seq_len, dim).

        Generation takes these, since it needs the head at the last token alone.
        """
        self._check_tokens(tokens)
        if cache is not None and len(cache) != len(self.blocks):
            raise ValueError(f"cache holds {len(cache)} layers, but the model has {len(self.blocks)}: use new_cache")
        cached = cache[0].length if cache else 0
        positions, mask = self.positions_and_mask(tokens, positions, attention_mask, cached)
        # (batch, seq_len) -> (batch, seq_len, dim)
        x = self.embed(tokens, positions)
        # RoPE's cosines and sines are computed once and serve all blocks.
        rotate = self.rope(positions)
        for i, block in enumerate(self.blocks):
            x = block(x, rotate, mask, cache[i] if cache else None)
        return self.norm(x)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The residual stream before the first block: the embedding of each token, wherever it stands."""
        return self.embedding(tokens)

    def positions_and_mask(
        self, tokens: Tensor, positions: Tensor | None, attention_mask: Tensor | None, cached: int
    ) -> tuple[Tensor, Tensor | None]:
        """Where the tokens stand, and which keys each may read; no mask where the causal rule alone does, faster."""
        batch, seq_len = tokens.shape
        key_len = cached + seq_len
        if attention_mask is not None and attention_mask.shape != (batch, key_len):
            raise ValueError(
                f"attention_mask {tuple(attention_mask.shape)} must be (batch, cached + seq_len) = {(batch, key_len)}"
            )
        mask = None if attention_mask is None else causal_mask(seq_len, key_len, attention_mask)
        if positions is None:
            # (key_len,) or (batch, key_len) -> the last seq_len of them
            positions = count_positions(key_len, attention_mask, tokens.device)[..., cached:]
        elif positions.shape not in ((seq_len,), (batch, seq_len)):
            raise ValueError(
                f"positions {tuple(positions.shape)} must be (seq_len,) or (batch, seq_len) for tokens "
                f"{tuple(tokens.shape)}"
            )
        return positions, mask

    def new_cache(self, batch: int, max_seq_len: int) -> list[KVCache]:
        """Allocate memory for the keys and values of max_seq_len tokens per row: one cache for each layer."""
        weight = self.norm.weight  # the matrices may be whole numbers, of 4 or 8 bits
        device_type = weight.device.type
        autocast = torch.is_autocast_enabled(device_type)
        dtype = torch.get_autocast_dtype(device_type) if autocast else weight.dtype
        return [
            KVCache(batch, layer.n_kv_heads, max_seq_len, layer.head_dim, dtype, weight.device)
            for layer in (block.attention for block in self.blocks)
        ]

    def _check_tokens(self, tokens: Tensor) -> None:
        if tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"tokens must be int64 or int32 ids, not {tokens.dtype}")
        if tokens.ndim != 2 or not tokens.numel():
            raise ValueError(f"tokens must be (batch, seq_len) with at least one token, not {tuple(tokens.shape)}")
        if torch.compiler.is_compiling():
            return  # to look at values would be a graph break
        low, high = (value.item() for value in tokens.aminmax())
        # On a GPU the embedding would meet a wrong id with a device-side assert, after which no CUDA call works.
        wrong = low if low < 0 else high
        if not 0 <= wrong < self.config.vocab_size:
            raise ValueError(f"token id {wrong} is not in the vocabulary: vocab_size is {self.config.vocab_size}")


def count_positions(key_len: int, attention_mask: Tensor | None = None, device: torch.device | None = None) -> Tensor:
    """How many tokens come before each one: 0, 1, 2 ..., where padding does not count.

    Args:
        key_len: tokens, those in the cache and the new ones, padding included.
        attention_mask: True at tokens and False at padding, bool, shape (batch, key_len).
        device: for the positions; that of attention_mask if there is one.

    Returns:
        int64, shape (key_len,), or (batch, key_len) with an attention_mask.
    """
    if attention_mask is None:
        return torch.arange(key_len, device=device)
    # On padding to the left the count is -1.
    return (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
