"""Causal grouped-query attention: each token reads from itself and the tokens before it.

Queries have n_heads heads, keys and values only n_kv_heads. Query heads group_size * i up to
group_size * (i + 1) - 1 share key/value head i. With n_kv_heads = n_heads this is multi-head attention,
with n_kv_heads = 1 multi-query attention.

Not done here: a cache of keys and values.

Sources: Vaswani et al. 2017, "Attention Is All You Need"; Ainslie et al. 2023, "GQA: Training Generalized
Multi-Query Transformer Models from Multi-Head Checkpoints".
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GroupedQueryAttention", "causal_attention"]


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Average the values of each token's past, weighted by how well its query fits their keys (Vaswani, eq. 1).

    softmax(q k^T / sqrt(head_dim)) v, where scores of later tokens are -inf before the softmax

    Args:
        q: shape (batch, n_heads, seq_len, head_dim).
        k: shape (batch, n_kv_heads, seq_len, head_dim).
        v: like k.

    Returns:
        Like q in shape and dtype.

    Raises:
        ValueError: if n_heads is not a multiple of n_kv_heads, or the shapes differ in anything else.
    """
    if k.shape != v.shape:
        raise ValueError(f"k {tuple(k.shape)} and v {tuple(v.shape)} must have the same shape")
    if q.ndim != 4 or k.ndim != 4 or (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        raise ValueError(
            f"q {tuple(q.shape)} and k {tuple(k.shape)} must be (batch, n_heads, seq_len, head_dim) and differ in "
            "n_heads alone"
        )
    n_heads, n_kv_heads = q.shape[1], k.shape[1]
    if n_heads % n_kv_heads:
        raise ValueError(f"n_heads ({n_heads}) must be a multiple of n_kv_heads ({n_kv_heads})")
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=n_heads != n_kv_heads)


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
        if n_heads % n_kv_heads:
            raise ValueError(f"n_heads ({n_heads}) must be a multiple of n_kv_heads ({n_kv_heads})")
        self.head_dim = head_dim
        self.q_proj = nn.Linear(dim, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, rotate: Callable[[Tensor], Tensor]) -> Tensor:
        """Take tokens, (batch, seq_len, dim); return what each gathered from its past, in the same shape.

        Args:
            x: shape (batch, seq_len, dim).
            rotate: puts the positions into q and k, each (batch, heads, seq_len, head_dim), shape kept; made
                by `RotaryEmbedding(...)(positions)`.
        """
        # (batch, heads, seq_len, head_dim)
        q = self._split_heads(self.q_proj(x))
        k = self._split_heads(self.k_proj(x))
        v = self._split_heads(self.v_proj(x))
        mixed = causal_attention(rotate(q), rotate(k), v)
        # (batch, seq_len, n_heads * head_dim)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
