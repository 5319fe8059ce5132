"""Llama: token embedding, a stack of pre-norm blocks, a last norm, and a score for each token of the vocabulary.

A block adds to the stream twice: what attention gathered from the past, then what the feed-forward layer
made of it. Each reads the stream through a norm; the stream itself is never normalised.

`Decoder` is that structure, and its parts are passed in. With Llama's own it is `Llama`; with
`ARTICLE_PARTS` it is the model that most articles describe; `dataclasses.replace` swaps one part.

Not done here: dropout (Llama has none).

Sources: Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models", section 2.2; Radford et
al. 2019, "Language Models are Unsupervised Multitask Learners", for the other parts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llama_lessons.attention import GroupedQueryAttention, KVCache, causal_mask
from llama_lessons.feed_forward import GeluMLP, SwiGLU
from llama_lessons.initialization import llama_init_, xavier_init_
from llama_lessons.norms import LayerNorm, RMSNorm
from llama_lessons.positions import LearnedPositionalEmbedding
from llama_lessons.rope import RotaryEmbedding
from llama_lessons.rope_scaling import RopeScaling, ScaledRotaryEmbedding

__all__ = ["ARTICLE_PARTS", "Block", "Decoder", "Llama", "LlamaConfig", "NoPositions", "Parts", "PostNormBlock"]


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
        max_seq_len: tokens that the model learned to read at once. Llama does not stop there; it only gets worse.
        rope_theta: base of the rotary frequencies.
        rope_scaling: how the frequencies are changed for longer texts, if they are.
        norm_eps: eps of every norm.
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
    rope_scaling: RopeScaling | None = None
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


class NoPositions(nn.Module):
    """A part to put in the place of `RotaryEmbedding`: it leaves queries and keys as they are."""

    def forward(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """Take positions; return the identity."""
        return nn.Identity()


class Block(nn.Module):
    """One layer: attention, then the feed-forward layer, each behind a norm and added to the stream.

    Args:
        config: sizes and constants.
        parts: what it is made of; by default Llama's.
    """

    def __init__(self, config: LlamaConfig, parts: "Parts | None" = None) -> None:
        super().__init__()
        parts = Parts() if parts is None else parts
        self.attention_norm = parts.norm(config)
        self.attention = parts.attention(config)
        self.feed_forward_norm = parts.norm(config)
        self.feed_forward = parts.feed_forward(config)

    def forward(
        self,
        x: Tensor,
        rotate: Callable[[Tensor], Tensor],
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Take the stream, (batch, seq_len, dim), and what attention needs; return the stream."""
        x = x + self.attention(self.attention_norm(x), rotate, mask, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class PostNormBlock(Block):
    """The original Transformer's order: each sum is normalised, so that no path leads past the norms."""

    def forward(
        self,
        x: Tensor,
        rotate: Callable[[Tensor], Tensor],
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Take the stream, (batch, seq_len, dim), and what attention needs; return the stream."""
        x = self.attention_norm(x + self.attention(x, rotate, mask, cache))
        return self.feed_forward_norm(x + self.feed_forward(x))


def _rotary_embedding(config: LlamaConfig) -> nn.Module:
    if config.rope_scaling is None:
        return RotaryEmbedding(config.head_dim, config.rope_theta)
    return ScaledRotaryEmbedding(config.head_dim, config.rope_theta, config.rope_scaling)


def _grouped_query_attention(config: LlamaConfig) -> nn.Module:
    return GroupedQueryAttention(config.dim, config.n_heads, config.n_kv_heads, config.head_dim)


def _multi_head_attention(config: LlamaConfig) -> nn.Module:
    return GroupedQueryAttention(config.dim, config.n_heads, config.n_heads, config.head_dim)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """How to make each part of a decoder from its config; by default Llama's way.

    Positions can come in at three places: added to the tokens, turned into queries and keys, or added to the
    scores of attention.

    Args:
        positions: makes what adds positions to the stream, called as (x, positions=...); None: nothing does.
        rope: makes what gives, for positions, the function applied to queries and keys.
        bias: makes what gives, for positions of queries and of keys, floats to add to the scores, such as ALiBi;
            None: nothing does.
        norm: makes a norm.
        attention: makes an attention layer, called like `GroupedQueryAttention`.
        feed_forward: makes a feed-forward layer.
        block: makes a block from config and parts.
        initialize: draws the weights of the whole model, in place.
    """

    positions: Callable[[LlamaConfig], nn.Module] | None = None
    rope: Callable[[LlamaConfig], nn.Module] = _rotary_embedding
    bias: Callable[[LlamaConfig], nn.Module] | None = None
    norm: Callable[[LlamaConfig], nn.Module] = lambda config: RMSNorm(config.dim, config.norm_eps)
    attention: Callable[[LlamaConfig], nn.Module] = _grouped_query_attention
    feed_forward: Callable[[LlamaConfig], nn.Module] = lambda config: SwiGLU(config.dim, config.hidden_dim)
    block: Callable[[LlamaConfig, "Parts"], nn.Module] = Block
    initialize: Callable[[nn.Module], None] = llama_init_


ARTICLE_PARTS = Parts(
    positions=lambda config: LearnedPositionalEmbedding(config.max_seq_len, config.dim),
    rope=lambda config: NoPositions(),
    norm=lambda config: LayerNorm(config.dim, config.norm_eps),
    attention=_multi_head_attention,
    feed_forward=lambda config: GeluMLP(config.dim, config.hidden_dim),
    initialize=xavier_init_,
)


class Decoder(nn.Module):
    """A causal language model made of parts, from token ids to logits.

    Parts may be replaced later too: `model.rope = NoPositions()`.

    Args:
        config: sizes and constants.
        parts: what to make it of; by default Llama's.
    """

    def __init__(self, config: LlamaConfig, parts: Parts | None = None) -> None:
        super().__init__()
        parts = Parts() if parts is None else parts
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.positions = parts.positions(config) if parts.positions else None
        self.rope = parts.rope(config)
        self.bias = parts.bias(config) if parts.bias else None
        self.blocks = nn.ModuleList(parts.block(config, parts) for _ in range(config.n_layers))
        self.norm = parts.norm(config)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight
        parts.initialize(self)

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
            attention_mask: True at tokens and False at padding, bool, shape (batch, cached + seq_len); by default
                there is no padding. Padding may stand on either side; what the model says there means nothing.
            cache: from `new_cache`; the tokens go on after those that it holds, and are kept in it.

        Returns:
            Logits, shape (batch, seq_len, vocab_size).

        Raises:
            ValueError: if tokens are not ids of the vocabulary in that shape, if positions, attention_mask or
                cache do not fit them, or if there are more than a learned table or the cache has room for.
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
        """Take what `forward` takes; return what the head scores, (batch, seq_len, dim)."""
        self._check_tokens(tokens)
        self._check_cache(cache)
        batch, seq_len = tokens.shape
        cached = cache[0].length if cache else 0
        # A mask is made only where the causal rule does not do, since the rule alone is faster.
        mask = None
        if attention_mask is None:
            counted = torch.arange(cached + seq_len, device=tokens.device)
        elif attention_mask.shape != (batch, cached + seq_len):
            raise ValueError(
                f"attention_mask {tuple(attention_mask.shape)} must be (batch, cached + seq_len) = "
                f"{(batch, cached + seq_len)}"
            )
        else:
            mask = causal_mask(seq_len, cached + seq_len, attention_mask)
            # On padding to the left the count is -1.
            counted = (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
        if positions is None:
            positions = counted[..., cached:]
        elif positions.shape not in ((seq_len,), (batch, seq_len)):
            raise ValueError(
                f"positions {tuple(positions.shape)} must be (seq_len,) or (batch, seq_len) for tokens "
                f"{tuple(tokens.shape)}"
            )
        elif self.bias is not None and cached:
            raise ValueError("positions of the cached tokens are not known: leave positions out to have them counted")
        else:
            counted = positions
        if self.bias is not None:
            mask = causal_mask(seq_len, cached + seq_len).to(tokens.device) if mask is None else mask
            mask = self.bias(positions, counted).masked_fill(~mask, float("-inf"))
        x = self.embedding(tokens)
        if self.positions is not None:
            x = self.positions(x, positions=positions)
        # The tables are made once and serve every layer.
        rotate = self.rope(positions)
        for i, block in enumerate(self.blocks):
            x = block(x, rotate, mask, cache[i] if cache else None)
        return self.norm(x)

    def new_cache(self, batch: int, max_seq_len: int) -> list[KVCache]:
        """Take memory for the keys and values of max_seq_len tokens a row, one cache for each layer."""
        weight = self.embedding.weight
        return [
            KVCache(batch, layer.n_kv_heads, max_seq_len, layer.head_dim, weight.dtype, weight.device)
            for layer in (block.attention for block in self.blocks)
        ]

    def _check_tokens(self, tokens: Tensor) -> None:
        if tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"tokens must be int64 or int32 ids, not {tokens.dtype}")
        if tokens.ndim != 2 or not tokens.numel():
            raise ValueError(f"tokens must be (batch, seq_len) with at least one token, not {tuple(tokens.shape)}")
        if torch.compiler.is_compiling():
            return  # to look at values would cut the compiled graph in two
        low, high = (value.item() for value in tokens.aminmax())
        # Left to the embedding, a wrong id on a GPU ends the process's use of it.
        if low < 0 or high >= self.config.vocab_size:
            wrong = low if low < 0 else high
            raise ValueError(f"token id {wrong} is not in the vocabulary: vocab_size is {self.config.vocab_size}")

    def _check_cache(self, cache: list[KVCache] | None) -> None:
        if cache is not None and len(cache) != len(self.blocks):
            raise ValueError(f"cache holds {len(cache)} layers, but the model has {len(self.blocks)}: use new_cache")


class Llama(Decoder):
    """The decoder with Llama's parts, and with no others: what a Llama checkpoint fits.

    Args:
        config: sizes and constants.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
