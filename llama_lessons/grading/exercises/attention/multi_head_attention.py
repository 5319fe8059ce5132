"""Bug hunt: a multi-head attention whose projections are never called, and whose heads are merged the wrong way."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, attend, counted, draw, places_up_to

WEIGHTS = ("q_proj", "k_proj", "v_proj", "o_proj")


def attends(layer_class: Any) -> Callable[..., Tensor]:
    """Make of a class the function that runs its layer with the given weights."""

    def run(x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, n_heads: int) -> Tensor:
        layer = layer_class(x.shape[-1], n_heads)
        weights = {f"{name}.weight": w for name, w in zip(WEIGHTS, (wq, wk, wv, wo), strict=True)}
        return functional_call(layer, weights, (x,))

    return run


class Base(nn.Module):
    """The layer as it should be, each step to be got wrong."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v)

    def merge(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.o_proj(self.merge(self.mix(*map(self.split, self.project(x)))))


class NotCalled(Base):
    """The first bug: queries, keys and values are the tokens themselves."""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, x, x


class NotTransposed(Base):
    """The second bug: heads are joined while they stand before the tokens."""

    def merge(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[2], -1)


def layer_inputs(batch: int, seq_len: int, dim: int, seed: int = 0) -> tuple[Tensor, ...]:
    weights = [0.5 * draw(dim, dim, seed=seed + 10 * i) for i in range(1, 5)]
    return draw(batch, seq_len, dim, seed=seed), *weights


def cases() -> list[tuple]:
    """One head and several, axes of equal sizes, one token, one row."""
    return [
        (*(x.requires_grad_(seed == 0) for x in layer_inputs(batch, seq_len, dim, seed)), n_heads)
        for seed, (batch, seq_len, dim, n_heads) in enumerate(
            [(2, 5, 12, 3), (1, 4, 8, 4), (2, 4, 8, 1), (4, 4, 16, 4), (2, 1, 8, 2)]
        )
    ]


def by_torch(x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, n_heads: int) -> Tensor:
    """torch's own multi-head attention, in float64."""
    x, wq, wk, wv, wo = (t.double().cpu() for t in (x, wq, wk, wv, wo))
    future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    result, _ = F.multi_head_attention_forward(
        *[x.transpose(0, 1)] * 3,
        x.shape[-1],
        n_heads,
        torch.cat((wq, wk, wv)),
        None,
        None,
        None,
        False,
        0.0,
        wo,
        None,
        attn_mask=future,
        need_weights=False,
    )
    return result.transpose(0, 1)


multi_head_attention = Exercise(
    name="MultiHeadAttention",
    lesson=LESSON,
    points=5,
    minutes=10,
    parameters=("dim", "n_heads"),
    reference=Base,
    cases=cases,
    returns=Tensor,
    using=attends,
    hints=(
        "There are two bugs, and each probe of the cell sees only one of them. Look at the gradients first: what does "
        "None say about a weight?",
        "q, k and v all come from x, but by what path? The constructor makes four layers. Which of them does forward "
        "call?",
        "For the second one, follow the shapes. scaled_dot_product_attention returns (batch, n_heads, seq_len, "
        "head_dim). In which order do its numbers lie, and what does reshape do with that order?",
    ),
)


@multi_head_attention.property("shape of x comes back")
def _(answer: Callable) -> None:
    for batch, seq_len, dim, n_heads in ((1, 1, 4, 1), (2, 5, 12, 3), (1, 3, 8, 8)):
        got = answer(*layer_inputs(batch, seq_len, dim), n_heads)
        where = f"x of shape {(batch, seq_len, dim)}, {counted(n_heads, 'head')}"
        expect_like(got, shape=(batch, seq_len, dim), dtype=torch.float32, where=where)


@multi_head_attention.property("each of the four projections gets a gradient")
def _(answer: Callable) -> None:
    x, *weights = layer_inputs(2, 5, 12)
    weights = [w.requires_grad_() for w in weights]
    got = answer(x, *weights, 3)
    if not got.requires_grad:
        raise Mismatch("the result is expected to carry gradients to the weights, but is cut off from all of them")
    gradients = torch.autograd.grad(got.square().sum(), weights, allow_unused=True)
    unused = [name for name, gradient in zip(WEIGHTS, gradients, strict=True) if gradient is None]
    if unused:
        raise Mismatch(f"no gradient reaches the weight of {', '.join(unused)}: it is never used")


@multi_head_attention.property("one token alone: its value, projected twice")
def _(answer: Callable) -> None:
    x, wq, wk, wv, wo = layer_inputs(2, 1, 8)
    want = x.double() @ wv.double().T @ wo.double().T
    expect_close(answer(x, wq, wk, wv, wo, 2), want, where="x of one token, 2 heads", atol=1e-4)


@multi_head_attention.property("causal: later tokens change nothing")
def _(answer: Callable) -> None:
    x, *weights = layer_inputs(2, 6, 12)
    for n_heads in (1, 3):
        before = answer(x, *weights, n_heads)
        for first in (5, 3, 1):
            new = x.clone()
            new[:, first:] = draw(*new[:, first:].shape, seed=9)
            where = (
                f"{counted(n_heads, 'head')}, tokens 0 to {first - 1} of 6, after later ones were replaced at random"
            )
            expect_close(answer(new, *weights, n_heads)[:, :first], before[:, :first], where=where, atol=1e-4)


@multi_head_attention.property("rows of the batch change nothing in each other")
def _(answer: Callable) -> None:
    x, *weights = layer_inputs(4, 4, 16)
    whole = answer(x, *weights, 4)
    for row in range(4):
        where = f"row {row} of 4, read alone and in its batch"
        expect_close(answer(x[row : row + 1], *weights, 4), whole[row : row + 1], where=where, atol=1e-4)


@multi_head_attention.property("agrees with torch's own multi-head attention")
def _(answer: Callable) -> None:
    for seed, (batch, seq_len, dim, n_heads) in enumerate(
        [(2, 5, 12, 1), (2, 5, 12, 3), (4, 4, 16, 4), (1, 300, 8, 8)]
    ):
        given = layer_inputs(batch, seq_len, dim, seed)
        where = f"x of shape {(batch, seq_len, dim)}, {counted(n_heads, 'head')}"
        expect_close(answer(*given, n_heads), by_torch(*given, n_heads), where=where, atol=1e-4)


@multi_head_attention.misconception(
    "both bugs",
    "Both bugs are still there. The gradients of three weights are None, so these layers are never called; and a token "
    "changes when a later one does. Begin with the gradients.",
    given=True,
)
class _(NotCalled, NotTransposed):
    """Both at once."""


@multi_head_attention.misconception(
    "projections still not called",
    "The heads are merged well now, but queries, keys and values are still the tokens themselves: q_proj, k_proj and "
    "v_proj are made and never called, and their gradients are None.",
)
class _(NotCalled):
    """This one alone."""


@multi_head_attention.misconception(
    "heads still merged the wrong way",
    "The projections are called now. But the heads are still joined while they stand before the tokens, so one row of "
    "the result holds several tokens of one head: token 0 gets part of later ones. Exchange axes 1 and 2 first.",
)
class _(NotTransposed):
    """This one alone."""


@multi_head_attention.misconception(
    "only the queries projected",
    "q_proj is called now, k_proj and v_proj are not: keys and values are still the tokens themselves.",
)
class _(Base):
    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), x, x


@multi_head_attention.misconception(
    "values not projected",
    "q_proj and k_proj are called now, but what is mixed are still the tokens themselves: v_proj is missing.",
)
class _(Base):
    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.k_proj(x), x


@multi_head_attention.misconception(
    "one projection for keys and values",
    "Keys and values come from the same projection. What a token is found by and what it hands over are two things: "
    "k_proj for the keys, v_proj for the values.",
)
class _(Base):
    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.k_proj(x), self.k_proj(x)


@multi_head_attention.misconception(
    "keys from the projection of values",
    "Keys and values come from each other's projection. With weights made for this layer that is another model.",
)
class _(Base):
    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.v_proj(x), self.k_proj(x)


@multi_head_attention.misconception(
    "queries from the projection of keys",
    "Keys and queries come from each other's projection. With weights made for this layer that is another model.",
)
class _(Base):
    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.k_proj(x), self.q_proj(x), self.v_proj(x)


@multi_head_attention.misconception(
    "keys projected a second time",
    "Keys, or values, are made from the projected queries, not from x: projections stand side by side, not in a row.",
)
class _(Base):
    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = self.q_proj(x)
        return q, self.k_proj(q), self.v_proj(q)


@multi_head_attention.misconception(
    "output projection not called",
    "The result of the heads is returned as it is. o_proj mixes what the heads found.",
)
class _(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.merge(self.mix(*map(self.split, self.project(x))))


@multi_head_attention.misconception(
    "no mask any more",
    "The mask got lost on the way: tokens read later ones. is_causal=True was right.",
)
class _(Base):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, allowed=torch.ones_like(places_up_to(q, k)))


@multi_head_attention.misconception(
    "a single head",
    "All channels make one large head, so n_heads does nothing. Each head has scores of its own.",
)
class _(Base):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.split(attend(*map(self.merge, (q, k, v))))


@multi_head_attention.misconception(
    "heads that only rescale",
    "All channels make one large head, and n_heads only changes what scores are divided by. Such a layer runs with any "
    "number of heads, even with 7 on 64 channels. Split the channels: each head has scores of its own.",
)
class _(Base):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = map(self.merge, (q, k, v))
        return self.split(attend(q, k, v, divisor=(q.shape[-1] / self.n_heads) ** 0.5))


@multi_head_attention.misconception(
    "heads attend to heads",
    "The axes are no longer exchanged before attention, so the heads of one token are compared with each other, and no "
    "token ever reads another one.",
)
class _(Base):
    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1))

    def merge(self, x: Tensor) -> Tensor:
        return x.flatten(2)


@multi_head_attention.misconception(
    "cut the other way",
    "You cut the channels as if heads came last: a head gets every n_heads-th channel. The channels of a head stand "
    "side by side, head after head: n_heads before head_dim.",
)
class _(Base):
    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)


@multi_head_attention.misconception(
    "cut and joined the other way",
    "You cut the channels as if heads came last, so a head gets every n_heads-th channel, and join them in the same "
    "way. Trained from nothing that would do, but weights made for this layer expect the channels of a head side by "
    "side: n_heads before head_dim.",
)
class _(Base):
    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)

    def merge(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(2)


@multi_head_attention.misconception(
    "channel by channel, not head by head",
    "In each row all heads' channel 0 comes first, then channel 1. o_proj expects head by head: exchange axes 1 and 2, "
    "and no others, then join the last two.",
)
class _(Base):
    def merge(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(2)


@multi_head_attention.misconception(
    "heads exchanged with channels",
    "You exchange the last two axes, tokens and channels, so the heads still stand first: a row of the result holds "
    "numbers of several tokens. It is heads and tokens that change places, axes 1 and 2.",
)
class _(Base):
    def merge(self, x: Tensor) -> Tensor:
        return x.transpose(2, 3).reshape(x.shape[0], x.shape[2], -1)


@multi_head_attention.alternative
class _(Base):
    def forward(self, x: Tensor) -> Tensor:
        heads = []
        for q, k, v in zip(*(p.chunk(self.n_heads, dim=-1) for p in self.project(x)), strict=True):
            heads.append(attend(q, k, v))
        return self.o_proj(torch.cat(heads, dim=-1))


@multi_head_attention.alternative
class _(Base):
    def forward(self, x: Tensor) -> Tensor:
        batch, seq_len, dim = x.shape
        q, k, v = (
            p.view(batch, seq_len, self.n_heads, dim // self.n_heads).permute(0, 2, 1, 3) for p in self.project(x)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.permute(0, 2, 1, 3).contiguous().view(batch, seq_len, dim))
