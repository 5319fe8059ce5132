"""Exercise 7, a bug hunt: a layer whose projections are never called, and whose heads are merged the wrong way."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ...exercise import Exercise
from ...expect import Mismatch, draw, exact, expect_close, expect_gradients, expect_like
from ...families import no_gradient

WEIGHTS = tuple(f"{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
MODES = (True, "in training"), (False, "after .eval(), under torch.no_grad()")


class MultiHeadAttention(nn.Module):
    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        shape = (self.n_heads, -1)
        q, k, v = (y.unflatten(-1, shape).transpose(1, 2) for y in (q, k, v))
        past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=past)
        joined = mixed.transpose(1, 2).flatten(2)
        return self.o_proj(joined)


def attends(layer_class: Any) -> Callable[..., Tensor]:
    """Make of a class the function that runs its layer: after an earlier text, in training or as a model generates."""

    def run(x, wq, wk, wv, wo, n_heads, earlier=None, training=True):
        layer = layer_class(x.shape[-1], n_heads).train(bool(training))
        weights = dict(zip(WEIGHTS, (wq, wk, wv, wo), strict=True))
        with torch.set_grad_enabled(training is not False):
            for text in (x,) if earlier is None else (earlier, x):
                got = functional_call(layer, weights, (text,))
        return got

    return run


def layer_inputs(batch: int, seq_len: int, dim: int, seed: int = 0) -> tuple[Tensor, ...]:
    weights = [0.5 * draw(dim, dim, seed=seed + 10 * i) for i in range(1, 5)]
    return draw(batch, seq_len, dim, seed=seed), *weights


def cases() -> list[tuple]:
    """One head and several, axes of equal sizes, one token, one row, and a second text."""
    sizes = (2, 5, 12, 3), (1, 4, 8, 4), (2, 4, 8, 1), (4, 4, 16, 4), (2, 1, 8, 2)
    made = [(*layer_inputs(*size, seed), n_heads) for seed, (*size, n_heads) in enumerate(sizes)]
    made[0] = (*(x.requires_grad_() for x in made[0][:-1]), made[0][-1])
    return [*made, *((*layer_inputs(2, 5, 12), 3, draw(1, seq_len, 12, seed=9)) for seq_len in (3, 7))]


def by_torch(x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, n_heads: int) -> Tensor:
    """torch's own multi-head attention, in float64."""
    x, wq, wk, wv, wo = map(exact, (x, wq, wk, wv, wo))
    layer = nn.MultiheadAttention(x.shape[-1], n_heads, bias=False, batch_first=True, dtype=torch.float64, device="cpu")
    weights = {"in_proj_weight": torch.cat((wq, wk, wv)), "out_proj.weight": wo}
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device="cpu").triu(1)
    return functional_call(layer, weights, (x, x, x), {"attn_mask": later, "need_weights": False})[0]


exercise = Exercise(
    MultiHeadAttention,
    points=5,
    minutes=10,
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


@exercise.property("shape of x comes back")
def shape(answer: Callable) -> None:
    for shape, n_heads in (((1, 1, 4), 1), ((2, 5, 12), 3), ((1, 3, 8), 8)):
        got = answer(*layer_inputs(*shape), n_heads)
        expect_like(got, shape=shape, dtype=torch.float32, where=f"x of shape {shape}, n_heads {n_heads}")


@exercise.property("each of the four projections gets a gradient")
def gradients_arrive(answer: Callable) -> None:
    x, *weights = layer_inputs(2, 5, 12)
    weights = [w.requires_grad_() for w in weights]
    got = answer(x, *weights, 3)
    gradients = torch.autograd.grad(got.square().sum(), weights, allow_unused=True) if got.requires_grad else [None] * 4
    missing = [name for name, gradient in zip(WEIGHTS, gradients, strict=True) if gradient is None]
    if missing:
        raise Mismatch(f"no gradient arrives at {', '.join(missing)}")


@exercise.property("one token alone: its value, projected twice")
def one_token(answer: Callable) -> None:
    x, wq, wk, wv, wo = layer_inputs(2, 1, 8)
    want = exact(x) @ exact(wv).T @ exact(wo).T
    expect_close(answer(x, wq, wk, wv, wo, 2), want, where="x of one token, 2 heads", atol=1e-4)


@exercise.property("causal: later tokens change nothing")
def causal(answer: Callable) -> None:
    x, *weights = layer_inputs(2, 6, 12)
    for n_heads, training in ((1, True), (3, True), (3, False)):
        before = answer(x, *weights, n_heads, None, training)
        for first in (5, 3, 1):
            new = torch.cat((x[:, :first], draw(2, 6 - first, 12, seed=9)), dim=1)
            where = f"n_heads {n_heads}, {dict(MODES)[training]}, tokens 0 to {first - 1} of 6, later ones replaced"
            after = answer(new, *weights, n_heads, None, training)
            expect_close(after[:, :first], before[:, :first], where=where, atol=1e-4)


@exercise.property("agrees with torch's own multi-head attention, in training and after it")
def formula(answer: Callable) -> None:
    for shape, n_heads in (((2, 5, 12), 1), ((2, 5, 12), 3), ((4, 4, 16), 4), ((1, 300, 8), 8)):
        given = (*layer_inputs(*shape), n_heads)
        for training, mode in MODES:
            where = f"x of shape {shape}, n_heads {n_heads}, {mode}"
            expect_close(answer(*given, None, training), by_torch(*given), where=where, atol=1e-4)


@exercise.property("the gradients of x and of the projections are right")
def gradients(answer: Callable) -> None:
    for read in (answer, lambda *given: answer(*given, None, None)):  # in training, and after .eval()
        expect_gradients(read, by_torch, *layer_inputs(2, 5, 12), 3, names=("x", *WEIGHTS), rtol=1e-3, atol=1e-3)


@exercise.property("one text after another: nothing is kept from the first one")
def texts_after_each_other(answer: Callable) -> None:
    given = (*layer_inputs(2, 5, 12), 3)
    for training, mode in MODES:
        alone = answer(*given, None, training)
        for batch, seq_len in ((1, 3), (3, 8), (2, 5)):
            got = answer(*given, draw(batch, seq_len, 12, seed=9), training)
            where = f"x of shape (2, 5, 12), read after one of shape {(batch, seq_len, 12)}, {mode}"
            expect_close(got, alone, where=where, atol=1e-4)


exercise.slips("""
    projections still without effect: self.q_proj(x), self.k_proj(x), self.v_proj(x) -> x, x, x
        Queries, keys and values are still the tokens themselves: q_proj, k_proj and v_proj have no effect.
    heads still merged the wrong way: mixed.transpose(1, 2).flatten(2) -> mixed.reshape(x.shape)
        The heads are still joined while they stand before the tokens, so one row of the result holds several tokens of
        one head, later ones too. Exchange axes 1 and 2 first.
    only the queries projected: self.k_proj(x), self.v_proj(x) -> x, x
        Keys and values are still the tokens themselves: k_proj and v_proj have no effect.
    one projection for keys and values: self.v_proj(x) -> self.k_proj(x)
        Keys and values both come from k_proj. The values have a projection of their own, v_proj.
    one projection for queries and keys: self.k_proj(x) -> self.q_proj(x)
        Queries and keys both come from q_proj. The keys have a projection of their own, k_proj.
    one projection for queries and values: self.v_proj(x) -> self.q_proj(x)
        Queries and values both come from q_proj. The values have a projection of their own, v_proj.
    one projection for all: self.k_proj(x), self.v_proj(x) -> self.q_proj(x), self.q_proj(x)
        Queries, keys and values all come from q_proj. Keys and values have projections of their own.
    keys and values exchanged: self.k_proj(x), self.v_proj(x) -> self.v_proj(x), self.k_proj(x)
        Keys and values come from each other's projection. With weights made for this layer that is another model.
    queries and keys exchanged: self.q_proj(x), self.k_proj(x) -> self.k_proj(x), self.q_proj(x)
        Keys and queries come from each other's projection. With weights made for this layer that is another model.
    projected twice: self.k_proj(x), self.v_proj(x) -> self.k_proj(self.q_proj(x)), self.v_proj(self.q_proj(x))
        Keys and values are made from the projected queries, not from x: projections stand side by side, not in a row.
    projected in a row: self.k_proj(x), self.v_proj(x) -> (k := self.k_proj(self.q_proj(x))), self.v_proj(k)
        Keys are made from the projected queries, and values from these keys. All three are made from x, side by side.
    output projection without effect: self.o_proj(joined) -> joined
        The result of the heads is returned as it is. o_proj mixes what the heads found.
    tokens added: self.o_proj(joined) -> x + self.o_proj(joined)
        You add x to the result. That is the residual connection, which stands outside of this layer, in the block.
    no mask any more: attn_mask=past -> attn_mask=None
        The mask got lost on the way: tokens read later ones. is_causal=True was right.
    hidden and read exchanged: attn_mask=past -> attn_mask=~past
        Each token reads those after it alone, and the last one gets 0: attn_mask is True where a token may be read.
    own place hidden: .tril() -> .tril(-1)
        Each token reads the tokens before it, but not itself: the first one gets 0. is_causal=True was right.
    one place too far: .tril() -> .tril(1)
        Each token reads one place too far, the very token that it is to predict. is_causal=True was right.
    mask kept from the first text: mixed = F -> past = self.__dict__.setdefault("past", past); mixed = F
        After a text of another length the layer stops with an error: it keeps something, such as a mask, from that one.
    a single head: (self.n_heads, -1) -> (1, -1)
        All channels make one large head, so n_heads does nothing. Each head has scores of its own.
    heads that only rescale: shape = (self.n_heads, -1) -> shape = (1, -1); q = q * self.n_heads**0.5
        All channels make one large head, and n_heads only changes what scores are divided by. Split the channels: each
        head has scores of its own.
    divided by head_dim: attention(q, -> attention(q / q.shape[3] ** 0.5,
        Scores are divided by head_dim, or by its root twice: scaled_dot_product_attention divides by the root itself.
    not divided: attn_mask=past -> attn_mask=past, scale=1.0
        Scores are not divided by the root of head_dim. scaled_dot_product_attention does it if scale is left out.
    divided by the root of dim: attn_mask=past -> attn_mask=past, scale=x.shape[2] ** -0.5
        Scores are divided by the root of dim, not of head_dim: a score is a sum over the channels of one head.
    cut by view: y.unflatten(-1, shape).transpose(1, 2) -> y.reshape(len(x), self.n_heads, x.shape[1], -1)
        You cut (batch, seq_len, dim) straight to (batch, n_heads, seq_len, head_dim), so a head gets pieces of several
        tokens. Cut the channels alone, and then exchange axes 1 and 2, as it was.
    cut the other way: shape).transpose(1, 2) -> (-1, self.n_heads)).permute(0, 3, 1, 2)
        You cut the channels as if heads came last: a head gets every n_heads-th one. n_heads stands before head_dim.
    channel by channel, not head by head: mixed.transpose(1, 2) -> mixed.permute(0, 2, 3, 1)
        In each row channel 0 of all heads comes first. o_proj expects head by head: exchange axes 1 and 2 alone.
    tokens exchanged with channels: mixed.transpose(1, 2).flatten(2) -> mixed.transpose(2, 3).reshape(x.shape)
        You exchange the last two axes, tokens and channels, so a row of the result holds numbers of several tokens. It
        is heads and tokens that change places, axes 1 and 2.
    no gradient to q_proj and k_proj: attention(q, k, -> attention(q.detach(), k.detach(),
        The numbers are right, but no gradient arrives at q_proj and k_proj: .detach(), .data or torch.no_grad cuts off
        queries and keys, or the weights that they make.
    no gradient to q_proj, k_proj and v_proj: joined = mixed -> joined = mixed.detach()
        The numbers are right, but a gradient arrives at o_proj alone: .detach(), .data or torch.no_grad cuts it off.
""")
for what, name in (("queries", "q_proj"), ("keys", "k_proj"), ("values", "v_proj")):
    exercise.slips(f"""
        {what} not projected: self.{name}(x) -> x
            The {what} are still the tokens themselves: {name} has no effect.
        no gradient to {name}: self.{name}(x) -> self.{name}(x).detach()
            The numbers are right, but no gradient arrives at {name}: .detach(), .data or torch.no_grad cuts it off.
    """)
no_gradient(exercise, "x", "Nothing below this layer would learn.")


@exercise.given
class both_bugs(MultiHeadAttention):
    """Both bugs are there. Three projections get no gradient, and a token changes when a later one does. Begin with the
    gradients: what do they say about forward?
    """

    def forward(self, x):
        q = x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, q, q, is_causal=True)
        return self.o_proj(mixed.reshape(x.shape))


@exercise.misconception
class heads_attend_to_heads(MultiHeadAttention):
    """The axes are not exchanged before attention: heads of one token are compared, and no token reads another one."""

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (self.n_heads, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).flatten(2))


@exercise.misconception
class viewed_on_the_way_in_and_out(MultiHeadAttention):
    """You reshape instead of exchanging axes, on the way in and on the way out: a head gets pieces of several tokens.
    Cut the channels alone, exchange axes 1 and 2, and exchange them again before you join the heads.
    """

    def forward(self, x):
        shape = len(x), self.n_heads, x.shape[1], -1
        q, k, v = (p(x).reshape(shape) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))


@exercise.misconception
class cut_and_joined_the_other_way(MultiHeadAttention):
    """You cut the channels as if heads came last, and join them in the same way: a head gets every n_heads-th channel.
    Weights made for this layer expect the channels of a head side by side: n_heads before head_dim.
    """

    def forward(self, x):
        projections = self.q_proj, self.k_proj, self.v_proj
        q, k, v = (p(x).unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2) for p in projections)
        return self.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).permute(0, 2, 3, 1).flatten(2))
