"""Other answers to MultiHeadAttention."""

import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import attention
from tests.grading.answers import right, wrong


class Layer(nn.Module):
    """The layer as it should be, each step to be written or spoiled in another way."""

    def __init__(self, dim, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x):
        q, k, v = map(self.split, self.project(x))
        return self.o_proj(self.merge(self.mix(q, k, v)))

    def project(self, x):
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def split(self, x):
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def mix(self, q, k, v):
        return attention.causal_attention(q, k, v)

    def merge(self, x):
        return x.transpose(1, 2).flatten(2)


right(Layer)


@right
class ByChunks(Layer):
    def forward(self, x):
        heads = zip(*(p.chunk(self.n_heads, dim=-1) for p in self.project(x)), strict=True)
        return self.o_proj(torch.cat([self.mix(*(y[:, None] for y in head))[:, 0] for head in heads], dim=-1))


@right
class ByViewAndPermute(Layer):
    def forward(self, x):
        shape = *x.shape[:2], self.n_heads, x.shape[2] // self.n_heads
        q, k, v = (p.view(shape).permute(0, 2, 1, 3) for p in self.project(x))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.permute(0, 2, 1, 3).contiguous().view(x.shape))


@right
class ByEinsum(Layer):
    def forward(self, x):
        n, d = self.n_heads, x.shape[-1] // self.n_heads
        q, k, v = (
            torch.einsum("bsc,hdc->bhsd", x, p.weight.view(n, d, -1)) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / d**0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        return torch.einsum("bhij,bhjd,chd->bic", weights, v, self.o_proj.weight.view(-1, n, d))


@right
class ByTorchsOwn(Layer):
    def forward(self, x):
        weight = torch.cat([p.weight for p in (self.q_proj, self.k_proj, self.v_proj)])
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        y = x.transpose(0, 1)
        mixed, _ = F.multi_head_attention_forward(
            y, y, y, x.shape[-1], self.n_heads, weight, None, None, None, False, 0.0, self.o_proj.weight, None,
            attn_mask=later, need_weights=False,
        )  # fmt: skip
        return mixed.transpose(0, 1)


@right
class WithRearrangedMerge(Layer):
    def merge(self, x):
        return torch.cat(x.unbind(dim=1), dim=-1)


@right
class WithAMaskThatGrows(Layer):
    def mix(self, q, k, v):
        if len(getattr(self, "past", ())) < q.shape[2]:
            self.past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.past[: q.shape[2], : q.shape[2]])


@wrong(called="mask kept from the first text")
class WithTheMaskOfTheFirstText(Layer):
    def mix(self, q, k, v):
        if not hasattr(self, "later"):
            self.later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).triu(1)
        return (q @ k.mT / q.shape[3] ** 0.5).masked_fill(self.later, -torch.inf).softmax(-1) @ v


@wrong()
class WithAMaskFor64Tokens(Layer):
    def mix(self, q, k, v):
        past = torch.ones(64, 64, dtype=torch.bool, device=q.device).tril()[: q.shape[2], : q.shape[2]]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=past)


@wrong(called="projections still without effect")
class CalledAndThrownAway(Layer):
    def project(self, x):
        self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return x, x, x


@wrong()
class ProjectedAndAddedToTheTokens(Layer):
    def project(self, x):
        return tuple(x + p(x) for p in (self.q_proj, self.k_proj, self.v_proj))


@wrong(called="tokens exchanged with channels")
class MergedByTransposingTheWrongAxes(Layer):
    def merge(self, x):
        return x.transpose(2, 3).reshape(x.shape[0], x.shape[2], -1)


@wrong(called="cut by view")
class CutByView(Layer):
    def split(self, x):
        return x.view(len(x), self.n_heads, x.shape[1], -1)


@wrong(called="viewed on the way in and out")
class CutAndJoinedByView(CutByView):
    def merge(self, x):
        return x.reshape(len(x), x.shape[2], -1)


@wrong()
class WithDropout(Layer):
    def merge(self, x):
        return F.dropout(super().merge(x), 0.1)


@wrong(called="no gradient to k_proj")
class WithoutGradientsForKeys(Layer):
    def mix(self, q, k, v):
        return super().mix(q, k.detach(), v)


@wrong(called="no gradient to q_proj and k_proj")
class QueriesAndKeysUnderNoGrad(Layer):
    def project(self, x):
        with torch.no_grad():
            q, k = self.q_proj(x), self.k_proj(x)
        return q, k, self.v_proj(x)


@wrong()
class GradientOfTheValuesDoubled(Layer):
    def project(self, x):
        q, k, v = super().project(x)
        return q, k, 2 * v - v.detach()


@wrong(called="heads still merged the wrong way")
class ProjectedButMergedAsBefore(Layer):
    def merge(self, x):
        return x.reshape(len(x), x.shape[2], -1)


@wrong(called="tokens added")
class WithAResidualConnection(Layer):
    def forward(self, x):
        return x + super().forward(x)


@wrong(never=("no mask any more", "mask kept from the first text"))
class WithASliceOfTheMaskOfTheFirstText(Layer):
    def mix(self, q, k, v):
        if not hasattr(self, "past"):
            self.past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.past[: q.shape[2], : q.shape[2]])


@wrong(called=None)
class WithTheKeysOfAnEarlierTextOfThisShape(Layer):
    def mix(self, q, k, v):
        old = self.__dict__.setdefault(f"of {q.shape}", (k.detach(), v.detach()))
        return super().mix(q, *((k, v) if old[0].equal(k) else old))


@wrong(called=None)
class WithACacheThatIsNeverEmptied(Layer):
    def mix(self, q, k, v):
        if not torch.is_grad_enabled():
            old = getattr(self, "old", (k[:, :, :0], v[:, :, :0]))
            if len(old[0]) == len(k):
                k, v = (torch.cat(pair, dim=2) for pair in zip(old, (k, v), strict=True))
            self.old = k, v
        return super().mix(q, k, v)


@wrong(called=None)
class WithTheResultOfAnEarlierTextOfThisShape(Layer):
    def forward(self, x):
        got = super().forward(x)
        return got if torch.is_grad_enabled() else self.__dict__.setdefault(f"of {x.shape}", got)


@wrong(called=None)
class CausalInTrainingAlone(Layer):
    def mix(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=self.training)


@wrong(called="not divided")
class WithAScaleOfOne(Layer):
    def mix(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)


@wrong(called="divided by the root of dim")
class DividedByTheRootOfAllChannels(Layer):
    def mix(self, q, k, v):
        return super().mix(q / self.n_heads**0.5, k, v)


@wrong(called="projected in a row")
class EachProjectedFromTheOneBefore(Layer):
    def project(self, x):
        q = self.q_proj(x)
        k = self.k_proj(q)
        return q, k, self.v_proj(k)


@wrong(called="own place hidden")
class WithoutItself(Layer):
    def mix(self, q, k, v):
        past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril(-1)
        return (q @ k.mT / q.shape[3] ** 0.5).masked_fill(~past, -torch.inf).softmax(-1).nan_to_num() @ v


@wrong(called="one place too far")
class WithTheNextOne(Layer):
    def mix(self, q, k, v):
        past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril(1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=past)
