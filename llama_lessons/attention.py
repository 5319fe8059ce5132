"""Lesson 07. Causal grouped-query attention, and the KV cache, with which it reads one token at a time.

Queries have n_heads heads, keys and values only n_kv_heads. Query heads group_size * i up to
group_size * (i + 1) - 1 share key/value head i. With n_kv_heads = n_heads this is multi-head attention,
with n_kv_heads = 1 multi-query attention.

A mask says which keys a query may attend to, True for yes; a mask of floats is added to the scores, -inf
for no. A query that may attend to nothing gets zeros. Without a mask, attention is causal; a mask takes the
place of that rule, so it has to hold it too: `causal_mask` makes one.

Scores and their softmax are computed in float32 at least, outside of autocast: sums of half-precision products
lose digits, and may overflow.

Sources: Vaswani et al. 2017, "Attention Is All You Need"; Shazeer 2019, "Fast Transformer Decoding: One
Write-Head is All You Need"; Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models
from Multi-Head Checkpoints".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_lessons.rope import Rotate

__all__ = [
    "GroupedQueryAttention",
    "KVCache",
    "attention_weights",
    "causal_attention",
    "causal_mask",
    "kv_cache_bytes",
    "manual_causal_attention",
    "mean_pool_kv_heads",
    "repeat_kv",
]


def causal_mask(query_len: int, key_len: int, attention_mask: Tensor | None = None) -> Tensor:
    """Which keys each query may attend to: its own and the earlier ones, as far as they are tokens.

    The queries stand at the last query_len of the key_len positions, as they do when a cache holds the first ones.

    Args:
        query_len: queries.
        key_len: keys, at least query_len.
        attention_mask: True at tokens and False at padding, bool, shape (batch, key_len).

    Returns:
        True where a query may attend, shape (query_len, key_len), or (batch, 1, query_len, key_len) with an
        attention_mask. Each position may attend to itself, padding too, so that no row is empty.

    Raises:
        ValueError: if there are more queries than keys, or attention_mask has another shape or dtype.
    """
    if query_len > key_len:
        raise ValueError(f"query_len ({query_len}) must not exceed key_len ({key_len}): each query has its own key")
    device = None if attention_mask is None else attention_mask.device
    # (query_len, 1) and (key_len,) -> (query_len, key_len)
    of_queries = torch.arange(key_len - query_len, key_len, device=device)[:, None]
    of_keys = torch.arange(key_len, device=device)
    past = of_keys <= of_queries
    if attention_mask is None:
        return past
    if attention_mask.dtype != torch.bool or attention_mask.ndim != 2 or attention_mask.shape[1] != key_len:
        raise ValueError(
            f"attention_mask must be bool (batch, {key_len}), True at tokens, not {attention_mask.dtype} "
            f"{tuple(attention_mask.shape)}"
        )
    # (query_len, key_len) and (batch, 1, key_len) -> (batch, 1, query_len, key_len): the same for all heads
    return (past & (attention_mask[:, None] | (of_keys == of_queries))).unsqueeze(1)


def repeat_kv(x: Tensor, group_size: int) -> Tensor:
    """Give each query head a copy of the key/value head that it shares: head i becomes heads i * group_size, ...

    Args:
        x: keys or values, shape (batch, n_kv_heads, seq_len, head_dim).
        group_size: query heads that share a key/value head.

    Returns:
        Shape (batch, n_kv_heads * group_size, seq_len, head_dim).

    Raises:
        ValueError: if x has another rank or group_size is not positive.
    """
    if x.ndim != 4 or group_size < 1:
        raise ValueError(
            f"x {tuple(x.shape)} must be (batch, n_kv_heads, seq_len, head_dim), and group_size ({group_size}) positive"
        )
    return x.repeat_interleave(group_size, dim=1)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much attention each query pays to each key (Vaswani, eq. 1, before the values).

    softmax(q k^T / sqrt(head_dim)), where scores that the mask forbids are -inf before the softmax. A dot product of
    head_dim products of variance 1 has variance head_dim: the root brings it back to 1.

    Args:
        q: shape (batch, n_heads, query_len, head_dim).
        k: shape (batch, n_kv_heads, key_len, head_dim).
        mask: see the module; its shape must broadcast to (batch, n_heads, query_len, key_len).

    Returns:
        Shape (batch, n_heads, query_len, key_len), dtype of q; each row sums to 1, or holds zeros where the mask
        forbids all keys.

    Raises:
        ValueError: if n_heads is not a multiple of n_kv_heads, the shapes differ in anything else, or mask holds
            integers.
    """
    _check_shapes(q, k, k, mask)
    if mask is None:
        mask = causal_mask(q.shape[-2], k.shape[-2]).to(q.device)
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, float("-inf"))
    q, k, dtype = _at_least_float32(q), _at_least_float32(k), q.dtype
    # (..., query_len, head_dim) @ (..., head_dim, key_len) -> (batch, n_heads, query_len, key_len)
    scores = q @ repeat_kv(k, q.shape[1] // k.shape[1]).transpose(-2, -1) / q.shape[-1] ** 0.5 + mask
    empty = (scores == float("-inf")).all(dim=-1, keepdim=True)
    # Filled twice: the second 0 is the result, the first one keeps nan out of the gradient.
    return scores.masked_fill(empty, 0).softmax(dim=-1).masked_fill(empty, 0).to(dtype)


def manual_causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`causal_attention` as the paper writes it, with all weights in memory at once; same arguments and result.

    The formula, to be read. A model uses `causal_attention`, whose kernel keeps no weights.
    """
    _check_shapes(q, k, v, mask)
    q, k, v, dtype = _at_least_float32(q), _at_least_float32(k), _at_least_float32(v), q.dtype
    # (..., query_len, key_len) @ (..., key_len, head_dim) -> (batch, n_heads, query_len, head_dim)
    return (attention_weights(q, k, mask) @ repeat_kv(v, q.shape[1] // v.shape[1])).to(dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average the values of each token's past, weighted by how well its query fits their keys (Vaswani, eq. 1).

    softmax(q k^T / sqrt(head_dim)) v, where scores of later tokens are -inf before the softmax

    Args:
        q: shape (batch, n_heads, query_len, head_dim).
        k: shape (batch, n_kv_heads, key_len, head_dim); the queries stand at the last query_len positions.
        v: like k.
        mask: in place of the causal rule, see the module; its shape must broadcast to
            (batch, n_heads, query_len, key_len).

    Returns:
        Like q in shape and dtype. On CUDA the kernel rounds the weights to the dtype of q.

    Raises:
        ValueError: if n_heads is not a multiple of n_kv_heads, the shapes differ in anything else, or mask holds
            integers.
    """
    _check_shapes(q, k, v, mask)
    if not q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
        return causal_attention(q.float(), k.float(), v.float(), mask).to(q.dtype)
    if mask is not None:
        # (key_len,) -> (1, key_len), as torch's function wants it
        mask = torch.atleast_2d(mask if mask.dtype == torch.bool else mask.to(q.dtype))
    (batch, n_heads, query_len, head_dim), n_kv_heads = q.shape, k.shape[1]
    if query_len == 1:
        # (batch, n_heads, 1, head_dim) -> (batch, n_kv_heads, group_size, head_dim): as if a group were several
        # queries of one head, so that no key is copied.
        q = q.reshape(batch, n_kv_heads, n_heads // n_kv_heads, head_dim)
        if mask is not None and mask.ndim > 2 and mask.shape[-3] > 1:
            # (..., n_heads, 1, key_len) -> (..., n_kv_heads, group_size, key_len)
            mask = mask.unflatten(-3, (n_kv_heads, -1)).squeeze(-2)
        # Without a mask: the last token may attend to all keys.
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).reshape(batch, n_heads, 1, head_dim)
    if mask is None and query_len == k.shape[2]:
        # is_causal needs no mask in memory, but takes the first query for the one at the first key. enable_gqa makes
        # a group share its key/value head, as `repeat_kv` does by copies.
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=n_heads != n_kv_heads)
    if mask is None:
        mask = causal_mask(query_len, k.shape[2]).to(q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=n_heads != n_kv_heads)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    if k.shape != v.shape:
        raise ValueError(f"k {tuple(k.shape)} and v {tuple(v.shape)} must have the same shape")
    if q.ndim != 4 or k.ndim != 4 or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[2] > k.shape[2]:
        raise ValueError(
            f"q {tuple(q.shape)} and k {tuple(k.shape)} must be (batch, n_heads, query_len, head_dim) and (batch, "
            "n_kv_heads, key_len, head_dim), with key_len at least query_len"
        )
    _check_heads(q.shape[1], k.shape[1])
    if mask is None:
        return
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(f"mask must be bool, True where a query may attend, or floats to add, not {mask.dtype}")
    wanted = (*q.shape[:3], k.shape[2])
    if mask.ndim > 4 or any(m not in (1, w) for m, w in zip(mask.shape[::-1], wanted[::-1], strict=False)):
        raise ValueError(
            f"mask {tuple(mask.shape)} must broadcast to (batch, n_heads, query_len, key_len) = {tuple(wanted)}"
        )


def _check_heads(n_heads: int, n_kv_heads: int) -> None:
    if n_kv_heads < 1 or n_heads % n_kv_heads:
        raise ValueError(f"n_heads ({n_heads}) must be a multiple of n_kv_heads ({n_kv_heads})")


class KVCache:
    """The keys and values of the tokens that one layer has read, in memory allocated beforehand.

    Without it, each new token would need the keys and values of all tokens before it to be computed again. For use
    under torch.no_grad() or inference_mode(): `append` writes in place.

    Args:
        batch: rows read side by side.
        n_kv_heads: key/value heads.
        max_seq_len: tokens that there is room for.
        head_dim: channels of one head.
        dtype: that of the keys.
        device: that of the keys.
    """

    def __init__(
        self,
        batch: int,
        n_kv_heads: int,
        max_seq_len: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        self.length = 0
        self.keys = torch.empty(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)

    @property
    def max_seq_len(self) -> int:
        """Tokens that there is room for."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, full or empty."""
        return self.keys.nbytes + self.values.nbytes

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens, (batch, n_kv_heads, seq_len, head_dim); return all stored so far.

        Raises:
            ValueError: if there is no room for them, or they differ from the cache in shape or dtype. The cache is
                then as it was.
        """
        batch, n_kv_heads, max_seq_len, head_dim = self.keys.shape
        if k.shape != v.shape or k.ndim != 4 or (*k.shape[:2], k.shape[3]) != (batch, n_kv_heads, head_dim):
            raise ValueError(
                f"k {tuple(k.shape)} and v {tuple(v.shape)} must both be (batch, n_kv_heads, seq_len, head_dim) = "
                f"({batch}, {n_kv_heads}, seq_len, {head_dim})"
            )
        if k.dtype != self.keys.dtype or v.dtype != self.keys.dtype:
            raise ValueError(f"k ({k.dtype}) and v ({v.dtype}) must have the cache's dtype ({self.keys.dtype})")
        end = self.length + k.shape[2]
        if end > max_seq_len:
            raise ValueError(
                f"{k.shape[2]} more tokens do not fit: the cache holds {self.length} of max_seq_len ({max_seq_len})"
            )
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


def kv_cache_bytes(
    *, n_layers: int, n_kv_heads: int, head_dim: int, seq_len: int, batch: int = 1, dtype: torch.dtype = torch.float32
) -> int:
    """Bytes of the caches of all layers: a key and a value for each token, head and layer."""
    return 2 * n_layers * batch * n_kv_heads * seq_len * head_dim * dtype.itemsize


def mean_pool_kv_heads(weight: Tensor, n_kv_heads: int, pooled_kv_heads: int) -> Tensor:
    """Make fewer key/value heads of many: each new head is the mean of those that it replaces (Ainslie, section 2.1).

    Args:
        weight: a key or value projection, shape (n_kv_heads * head_dim, dim).
        n_kv_heads: heads in its rows.
        pooled_kv_heads: heads to have afterwards, a divisor of n_kv_heads.

    Returns:
        Shape (pooled_kv_heads * head_dim, dim).

    Raises:
        ValueError: if the rows do not divide into n_kv_heads heads, or these not into pooled_kv_heads.
    """
    if n_kv_heads < 1 or weight.shape[0] % n_kv_heads:
        raise ValueError(f"rows ({weight.shape[0]}) must be a multiple of n_kv_heads ({n_kv_heads})")
    if pooled_kv_heads < 1 or n_kv_heads % pooled_kv_heads:
        raise ValueError(f"n_kv_heads ({n_kv_heads}) must be a multiple of pooled_kv_heads ({pooled_kv_heads})")
    # (pooled_kv_heads, heads that become one, head_dim, dim)
    heads = weight.unflatten(0, (pooled_kv_heads, n_kv_heads // pooled_kv_heads, -1))
    return heads.mean(dim=1).flatten(0, 1)


class GroupedQueryAttention(nn.Module):
    """Project to queries, keys and values, attend in each head, and mix the heads; no biases, as in Llama.

    Args:
        dim: channels of a token.
        n_heads: query heads.
        n_kv_heads: key/value heads, a divisor of n_heads.
        head_dim: channels of one head; n_heads * head_dim need not equal dim.

    Raises:
        ValueError: if n_heads is not a multiple of n_kv_heads.
    """

    def __init__(self, dim: int, n_heads: int, n_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        _check_heads(n_heads, n_kv_heads)
        self.n_kv_heads = n_kv_heads
        self.head_dim = head_dim
        self.q_proj = nn.Linear(dim, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, rotate: Rotate, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Take tokens, (batch, seq_len, dim); return what each gathered from those it attends to, in the same shape.

        Args:
            x: shape (batch, seq_len, dim).
            rotate: puts the positions into q and k, each (batch, heads, seq_len, head_dim), shape kept; made
                by `RotaryEmbedding(...)(positions)`.
            mask: in place of the causal rule, see `causal_attention`.
            cache: holds the tokens before these, and takes these in.
        """
        # (batch, seq_len, dim) -> (batch, n_heads or n_kv_heads, seq_len, head_dim)
        q = rotate(self._split_heads(self.q_proj(x)))
        k = rotate(self._split_heads(self.k_proj(x)))
        v = self._split_heads(self.v_proj(x))
        if cache is not None:
            # k and v: (batch, n_kv_heads, seq_len, head_dim) -> (batch, n_kv_heads, cached + seq_len, head_dim)
            k, v = cache.append(k, v)
        # (batch, n_heads, seq_len, head_dim) -> (batch, seq_len, n_heads * head_dim) -> (batch, seq_len, dim)
        mixed = causal_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        return self.o_proj(mixed)

    def _split_heads(self, x: Tensor) -> Tensor:
        # (batch, seq_len, heads * head_dim) -> (batch, heads, seq_len, head_dim)
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
