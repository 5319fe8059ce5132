"""Lessons 01 to 09. The workbench: the model of `llama` with one part exchanged, so that a part can be judged alone.

A `Decoder` does what a `Llama` does, and its parts are passed in. Sizes stay those of the config: for the GELU layer
with as many parameters as SwiGLU, set hidden_dim to 1.5 times. With `Parts()` it is a Llama; with `ARTICLE_PARTS`
it is the model that most articles describe; `dataclasses.replace` exchanges one part.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", for the articles' parts; Vaswani
et al. 2017, "Attention Is All You Need", for the order of norms in `PostNormBlock`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from llama_lessons.attention import GroupedQueryAttention, KVCache, causal_mask
from llama_lessons.feed_forward import GeluMLP, SwiGLU
from llama_lessons.initialization import llama_init_, xavier_init_
from llama_lessons.llama import Block, Llama, LlamaConfig, count_positions, rotary_embedding
from llama_lessons.norms import LayerNorm, RMSNorm
from llama_lessons.positions import LearnedPositionalEmbedding
from llama_lessons.rope import Rotate

__all__ = ["ARTICLE_PARTS", "Decoder", "NoPositions", "Parts", "PostNormBlock", "PreNormBlock"]


class NoPositions(nn.Module):
    """A part to put in the place of `RotaryEmbedding`: it leaves queries and keys as they are."""

    def forward(self, positions: Tensor) -> Rotate:
        """Take positions; return the identity."""
        return nn.Identity()


class PreNormBlock(Block):
    """Llama's `Block`, made of parts.

    Args:
        config: sizes and constants.
        parts: what it is made of.
    """

    def __init__(self, config: LlamaConfig, parts: "Parts") -> None:
        nn.Module.__init__(self)  # not Block's: each part is made once, from parts
        self.attention_norm = parts.norm(config)
        self.attention = parts.attention(config)
        self.feed_forward_norm = parts.norm(config)
        self.feed_forward = parts.feed_forward(config)


class PostNormBlock(PreNormBlock):
    """The original Transformer's order: each sum is normalised, so that no residual connection bypasses the norms.

    `Decoder` adds its last norm all the same, which the original does not have.
    """

    def forward(self, x: Tensor, rotate: Rotate, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Take the residual stream, (batch, seq_len, dim), and what attention needs; return the stream."""
        x = self.attention_norm(x + self.attention(x, rotate, mask, cache))
        return self.feed_forward_norm(x + self.feed_forward(x))


def _grouped_query_attention(config: LlamaConfig) -> nn.Module:
    return GroupedQueryAttention(config.dim, config.n_heads, config.n_kv_heads, config.head_dim)


def _multi_head_attention(config: LlamaConfig) -> nn.Module:
    return GroupedQueryAttention(config.dim, config.n_heads, config.n_heads, config.head_dim)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """How to make each part of a decoder from its config; by default Llama's way.

    Positions can come in at three places: added to the embeddings, as a rotation of queries and keys, or added to
    the scores of attention.

    Args:
        positions: makes what adds positions to the residual stream, called as (x, positions=...); None: nothing does.
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
    rope: Callable[[LlamaConfig], nn.Module] = rotary_embedding
    bias: Callable[[LlamaConfig], nn.Module] | None = None
    norm: Callable[[LlamaConfig], nn.Module] = lambda config: RMSNorm(config.dim, config.norm_eps)
    attention: Callable[[LlamaConfig], nn.Module] = _grouped_query_attention
    feed_forward: Callable[[LlamaConfig], nn.Module] = lambda config: SwiGLU(config.dim, config.hidden_dim)
    block: Callable[[LlamaConfig, "Parts"], nn.Module] = PreNormBlock
    initialize: Callable[[nn.Module], None] = llama_init_


ARTICLE_PARTS = Parts(
    positions=lambda config: LearnedPositionalEmbedding(config.max_seq_len, config.dim),
    rope=lambda config: NoPositions(),
    norm=lambda config: LayerNorm(config.dim, config.norm_eps),
    attention=_multi_head_attention,
    feed_forward=lambda config: GeluMLP(config.dim, config.hidden_dim),
    initialize=xavier_init_,
)


class Decoder(Llama):
    """A Llama made of other parts: what they are is said here, what is done with them is `Llama`'s.

    Args:
        config: sizes and constants.
        parts: what to make it of; by default Llama's own.
    """

    def __init__(self, config: LlamaConfig, parts: Parts | None = None) -> None:
        nn.Module.__init__(self)  # not Llama's: each part is made once, from parts
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

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The residual stream before the first block, with positions added if a part does that."""
        x = super().embed(tokens, positions)
        return x if self.positions is None else self.positions(x, positions=positions)

    def positions_and_mask(
        self, tokens: Tensor, positions: Tensor | None, attention_mask: Tensor | None, cached: int
    ) -> tuple[Tensor, Tensor | None]:
        """As in `Llama`; with a bias, the mask holds it where a key may be read and -inf elsewhere.

        Raises:
            ValueError: if a bias needs the positions of cached tokens, which are not known where the caller counts.
        """
        of_queries, mask = super().positions_and_mask(tokens, positions, attention_mask, cached)
        if self.bias is None:
            return of_queries, mask
        if positions is not None and cached:
            raise ValueError("positions of the cached tokens are not known: leave positions out to have them counted")
        seq_len, key_len = tokens.shape[1], cached + tokens.shape[1]
        if mask is None:
            mask = causal_mask(seq_len, key_len).to(tokens.device)
        of_keys = of_queries if positions is not None else count_positions(key_len, attention_mask, tokens.device)
        return of_queries, self.bias(of_queries, of_keys).masked_fill(~mask, float("-inf"))

    @property
    def position_limit(self) -> int | None:
        """How many positions the model has: the rows of a learned table, else None."""
        return len(self.positions.weight) if isinstance(self.positions, LearnedPositionalEmbedding) else None
