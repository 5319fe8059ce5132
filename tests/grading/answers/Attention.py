"""Other answers to Attention."""

import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import rope
from tests.grading.answers import right, wrong


class Projected(nn.Module):
    """The constructor that all have."""

    def __init__(self, dim, n_heads, n_kv_heads, head_dim):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.q_proj = nn.Linear(dim, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, dim, bias=False)

    def heads(self, x):
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)


def mask_of(q, k):
    return torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])


@right
class WithTheFusedCall(Projected):
    def forward(self, x, cos, sin, cache=None):
        q, k, v = self.heads(self.q_proj(x)), self.heads(self.k_proj(x)), self.heads(self.v_proj(x))
        q, k = rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_of(q, k), enable_gqa=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(*x.shape[:2], -1))


@right
class AsHuggingFaceWritesIt(Projected):
    def rotate(self, x, cos, sin):
        cos, sin = torch.cat((cos, cos), -1), torch.cat((sin, sin), -1)
        half = x.shape[-1] // 2
        return (x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin).to(x.dtype)

    def forward(self, x, cos, sin, cache=None):
        q, k, v = (self.heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        if cache:
            k, v = cache.append(k, v)
        k, v = (t.repeat_interleave(self.n_heads // self.n_kv_heads, 1) for t in (k, v))
        scores = q.float() @ k.float().transpose(2, 3) / self.head_dim**0.5
        weights = scores.masked_fill(~mask_of(q, k), float("-inf")).softmax(-1).to(q.dtype)
        return self.o_proj((weights @ v).transpose(1, 2).flatten(2))


@right
class HeadByHead(Projected):
    def forward(self, x, cos, sin, cache=None):
        q, k, v = self.heads(self.q_proj(x)), self.heads(self.k_proj(x)), self.heads(self.v_proj(x))
        q, k = rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        group = self.n_heads // self.n_kv_heads
        results = []
        for i in range(self.n_heads):
            scores = q[:, i] @ k[:, i // group].transpose(1, 2) / self.head_dim**0.5
            scores = scores.masked_fill(~mask_of(q, k), float("-inf"))
            results.append(scores.softmax(-1) @ v[:, i // group])
        return self.o_proj(torch.cat(results, dim=-1))


@right
class WithEinsum(Projected):
    def forward(self, x, cos, sin, cache=None):
        q, k, v = self.heads(self.q_proj(x)), self.heads(self.k_proj(x)), self.heads(self.v_proj(x))
        q, k = rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)
        k, v = cache.append(k, v) if cache is not None else (k, v)
        q = q.unflatten(1, (self.n_kv_heads, -1))
        scores = torch.einsum("bkgqd,bksd->bkgqs", q, k) / self.head_dim**0.5
        weights = scores.masked_fill(~mask_of(q[:, :, 0], k), float("-inf")).softmax(-1)
        return self.o_proj(torch.einsum("bkgqs,bksd->bqkgd", weights, v).flatten(2))


@wrong()
class SoftmaxOverTheQueries(Projected):
    def forward(self, x, cos, sin, cache=None):
        q, k, v = self.heads(self.q_proj(x)), self.heads(self.k_proj(x)), self.heads(self.v_proj(x))
        q, k = rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        k, v = (t.repeat_interleave(self.n_heads // self.n_kv_heads, 1) for t in (k, v))
        scores = (q @ k.transpose(2, 3) / self.head_dim**0.5).masked_fill(~mask_of(q, k), float("-inf"))
        return self.o_proj((scores.softmax(-2) @ v).transpose(1, 2).flatten(2))


@wrong()
class MergedWithoutTransposing(Projected):
    def forward(self, x, cos, sin, cache=None):
        q, k, v = self.heads(self.q_proj(x)), self.heads(self.k_proj(x)), self.heads(self.v_proj(x))
        q, k = rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_of(q, k), enable_gqa=True)
        return self.o_proj(mixed.reshape(*x.shape[:2], -1))


@wrong()
class ACacheOfItsOwn(Projected):
    def forward(self, x, cos, sin, cache=None):
        q, k, v = self.heads(self.q_proj(x)), self.heads(self.k_proj(x)), self.heads(self.v_proj(x))
        q, k = rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)
        if cache is not None:
            old = getattr(self, "kept", None)
            k, v = (k, v) if old is None else (torch.cat((old[0], k), 2), torch.cat((old[1], v), 2))
            self.kept = k, v
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_of(q, k), enable_gqa=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


@wrong()
class NoGroupsButTheFirst(Projected):
    def forward(self, x, cos, sin, cache=None):
        q, k, v = self.heads(self.q_proj(x)), self.heads(self.k_proj(x)), self.heads(self.v_proj(x))
        q, k = rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        owner = torch.arange(self.n_heads) % self.n_kv_heads
        k, v = k[:, owner], v[:, owner].flip(1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_of(q, k))
        return self.o_proj(mixed.transpose(1, 2).flatten(2))
