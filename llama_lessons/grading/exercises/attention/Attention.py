"""Exercise 5: the whole layer, from the residual stream's tokens and back: projections, rotation, cache, heads."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_lessons.rope import rope_frequencies, rope_tables

from ...exercise import Exercise
from ...expect import HALVES, draw, expect_close, expect_gradients, expect_like
from ...families import no_gradient
from ..rope.apply_rope import apply_rope
from ..rope.apply_rope_interleaved import apply_rope_interleaved  # noqa: F401  # what a slip below calls
from .grouped_query_attention import grouped_query_attention
from .whole_layer import PROJECTIONS, attends, expected, inputs


class Attention(nn.Module):
    def __init__(self, dim: int, n_heads: int, n_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(dim, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Any = None) -> Tensor:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        shape = (-1, self.head_dim)
        q, k, v = (y.unflatten(-1, shape).transpose(1, 2) for y in (q, k, v))
        q, k = (apply_rope(y, cos, sin) for y in (q, k))
        if cache is not None:
            k, v = cache.append(k, v)
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        mixed = grouped_query_attention(q, k, v)
        return self.o_proj(mixed)


SIZES = [(2, 5, 12, 6, 2, 4), (1, 4, 16, 2, 2, 6), (3, 3, 8, 4, 1, 4), (2, 4, 8, 4, 4, 2), (1, 6, 24, 4, 2, 8)]


def cases() -> list[tuple]:
    """Heads of all kinds, head_dim of its own, far positions, and texts read in pieces."""
    made = [inputs(*size, seed=seed) for seed, size in enumerate(SIZES)]
    made[0] = (*(x.requires_grad_() for x in made[0][:5]), made[0][5])
    made += [(*inputs(*SIZES[0], seed=7), 50), (*inputs(*SIZES[0], seed=8), 0, (3, 1, 1))]
    made += [(*inputs(*SIZES[4], seed=9), 2, (4, 2)), (*inputs(*SIZES[2], seed=11), 0, (1, 1, 1))]
    made += [(*inputs(2, 4, 8, 4, 2, 4, seed=12), 0, (3, 1)), inputs(1, 1, 8, 4, 2, 4, seed=13)]
    for dtype in HALVES:
        made.append((*(x.to(dtype) for x in inputs(1, 1, 8, 4, 2, 4, seed=14)[:5]), 4))
    return made


exercise = Exercise(
    Attention,
    points=7,
    minutes=20,
    cases=cases,
    returns=(Tensor, Tensor, Tensor),
    using=attends,
    hints=(
        "Write down the shape after each step: projected, heads split off, axes exchanged, rotated, from the cache, "
        "axes exchanged back, attended, projected out. Each function that you have says which order of axes it wants.",
        "unflatten(-1, (-1, head_dim)) splits the last axis into heads. apply_rope and the cache want heads before "
        "tokens; grouped_query_attention wants them behind, and merges them itself.",
        "Rotate queries and keys before anything goes into the cache: what lies there is rotated for its own position, "
        "once and for all. What append returns is all that the new queries may read.",
    ),
)


def shown(x: Tensor, wq: Tensor, wk: Tensor, head_dim: int) -> str:
    return f"{len(wq) // head_dim} query heads over {len(wk) // head_dim}, head_dim {head_dim}, x of {tuple(x.shape)}"


@exercise.property("x comes back in its shape and dtype")
def shape_and_dtype(answer: Callable) -> None:
    for size in SIZES:
        for dtype in (torch.float32, *HALVES):
            x, wq, wk, wv, wo = (t.to(dtype) for t in inputs(*size)[:5])
            got, _, _ = answer(x, wq, wk, wv, wo, size[-1])
            expect_like(got, shape=x.shape, dtype=dtype, where=f"{shown(x, wq, wk, size[-1])} in {str(dtype)[6:]}")


@exercise.property("one token alone: its value, projected twice")
def one_token(answer: Callable) -> None:
    for size in ((2, 1, 12, 2, 2, 4), (1, 1, 8, 4, 2, 4)):
        given = inputs(*size)
        where = shown(*given[:3], given[-1])
        expect_close(answer(*given)[0], expected(*given)[0], where=where, atol=1e-4)


@exercise.property("the formula: rotated queries and keys, values as they are, grouped heads")
def formula(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        given = inputs(*size, seed=seed)
        expect_close(answer(*given)[0], expected(*given)[0], where=shown(*given[:3], given[-1]), atol=1e-4)


@exercise.property("far positions give the same: scores see distances alone")
def distances(answer: Callable) -> None:
    given = inputs(*SIZES[0], seed=3)
    where = f"{shown(*given[:3], given[-1])}, from position 1000"
    expect_close(answer(*given, 1000)[0], expected(*given)[0], where=where, atol=1e-3)


@exercise.property("with a cache: rotated keys and values of n_kv_heads go in, once")
def into_the_cache(answer: Callable) -> None:
    for size, pieces in ((SIZES[0], (5,)), (SIZES[4], (4, 2)), (SIZES[2], (1, 1, 1))):
        given = (*inputs(*size, seed=4), 3, pieces)
        where = f"{shown(*given[:3], given[5])}, read in pieces of {', '.join(map(str, pieces))}"
        _, keys, values = answer(*given)
        _, k, v = expected(*given)
        expect_close(keys, k, where=f"keys in the cache, {where}", atol=1e-4)
        expect_close(values, v, where=f"values in the cache, {where}", atol=1e-4)


@exercise.property("with a cache: in pieces the same as at once")
def in_pieces(answer: Callable) -> None:
    for size, pieces in ((SIZES[0], (4, 1)), (SIZES[0], (1,) * 5), (SIZES[4], (2, 3, 1)), (SIZES[1], (4,))):
        given = (*inputs(*size, seed=5), 0, pieces)
        where = f"{shown(*given[:3], given[5])}, read in pieces of {', '.join(map(str, pieces))}"
        expect_close(answer(*given)[0], expected(*given)[0], where=where, atol=1e-4)


@exercise.property("later tokens and other rows of the batch change nothing")
def causal(answer: Callable) -> None:
    x, *weights = inputs(3, 6, 12, 4, 2, 4, seed=6)
    changed = x.clone()
    changed[:, 4:], changed[2] = draw(3, 2, 12, seed=20), draw(6, 12, seed=21)
    where = "tokens 0 to 3 of rows 0 and 1, after everything else was replaced at random"
    expect_close(answer(changed, *weights)[0][:2, :4], answer(x, *weights)[0][:2, :4], where=where)


@exercise.property("gradients flow back to x and to all four weights")
def gradients(answer: Callable) -> None:
    for size in SIZES[:2]:
        *tensors, head_dim = inputs(*size)
        names = ("x", *(f"{name}.weight" for name in PROJECTIONS))
        expect_gradients(
            lambda *given, d=head_dim: answer(*given, d)[0],
            lambda *given, d=head_dim: expected(*given, d)[0],
            *tensors,
            names=names,
            atol=1e-3,
        )


def own_tables(cos: Tensor) -> tuple[Tensor, Tensor]:
    """Tables as large as cos, from position 0."""
    positions = torch.arange(len(cos), device=cos.device)
    return rope_tables(positions, rope_frequencies(2 * cos.shape[1]))


def copied(q: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Keys and values, heads before tokens, for each query head."""
    return [x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in tensors]


def in_turns(q: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Keys and values, heads behind tokens, as a row that is repeated."""
    return [x.repeat(1, 1, q.shape[2] // x.shape[2], 1) for x in tensors]


def torch_s_attention(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> Tensor:
    """torch's own call, for heads behind tokens; is_causal counts queries from the first key."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=True)
    return mixed.transpose(1, 2).flatten(2)


exercise.slips("""
    values rotated too: q, k = ( -> v = apply_rope(v, cos, sin); q, k = (
        You rotate the values too. Positions belong into the scores: queries and keys are rotated, values stay.
    keys not rotated: q, k = (apply_rope(y, cos, sin) for y in (q, k)) -> q = apply_rope(q, cos, sin)
        You rotate the queries alone, so scores depend on where a query stands, not on the distance. Rotate the keys.
    queries not rotated: q, k = (apply_rope(y, cos, sin) for y in (q, k)) -> k = apply_rope(k, cos, sin)
        You rotate the keys alone, so scores depend on where a key stands, not on the distance. Rotate the queries.
    nothing rotated: q, k = (apply_rope(y, cos, sin) for y in (q, k)) -> pass
        Your result is that without positions: neither queries nor keys are rotated by cos and sin.
    keys rotated twice: q, k = ( -> k = apply_rope(k, cos, sin); q, k = (
        Your keys are rotated twice. Rotate each once, by the tables of its own position.
    queries rotated twice: q, k = ( -> q = apply_rope(q, cos, sin); q, k = (
        Your queries are rotated twice. Rotate each once, by the tables of its own position.
    turned backwards: (y, cos, sin) -> (y, cos, -sin)
        You rotate by minus the angle. A model's weights know the other direction.
    cos and sin exchanged: (y, cos, sin) -> (y, sin, cos)
        cos and sin stand in each other's place when you rotate.
    the other layout: apply_rope(y, cos, sin) -> apply_rope_interleaved(y, cos, sin)
        You rotate channel 2i with 2i + 1. Asked for is layout half, as in apply_rope: channel i with i + head_dim / 2.
    every token by the first angle: (y, cos, sin) -> (y, cos[:1].expand_as(cos), sin[:1].expand_as(sin))
        All new tokens are rotated by the angles of the first one. Row m of cos and sin belongs to token m.
    tables of its own: (y, cos, sin) -> (y, *own_tables(cos))
        Your result is that for tables which begin at position 0, whatever cos and sin are given. After a cache,
        positions go on: use the tables that come in.
    the cache filled and not read: k, v = cache.append -> cache.append
        The new tokens go into the cache, but your queries read only the new keys and values. append returns all so far.
    the cache never used: k, v = cache.append(k, v) -> pass
        Nothing goes into the cache. New keys and values have to be appended, and what append returns is read.
    keys and values exchanged going in: cache.append(k, v) -> cache.append(v, k)
        You hand the values to append first. It takes the keys, then the values.
    keys and values exchanged coming out: k, v = cache.append -> v, k = cache.append
        You take what append returns in the wrong order. It gives the keys, then the values.
    appended twice: k, v = cache -> cache.append(k, v); k, v = cache
        The new keys and values go into the cache twice, so each new token is read twice.
    copies for each query head cached: cache.append(k, v) -> cache.append(*copied(q, k, v))
        The numbers are right, but you cache a copy of each key and value for each query head: that gives away what
        grouping saves. Cache n_kv_heads of them, and share them afterwards.
    values made of keys: self.v_proj(x) -> self.k_proj(x)
        Your values are made by k_proj. v_proj makes them.
    keys made of values: self.k_proj(x), self -> self.v_proj(x), self
        Your keys are made by v_proj. k_proj makes them.
    viewed, not transposed: y.unflatten(-1, shape).transpose(1, 2) -> y.reshape(len(y), -1, y.shape[1], self.head_dim)
        You reshape the projections to (batch, heads, seq_len, head_dim). The shape is right, but the numbers stay in
        their order, so a head gets pieces of several tokens. Split the heads off first, then exchange the axes.
    channels first: shape).transpose(1, 2) for -> (self.head_dim, -1)).permute(0, 3, 1, 2) for
        You split a projection into (head_dim, heads), so a head gets channels from all over. Head 0 has the first
        head_dim of them: split into (heads, head_dim).
    o_proj forgotten: self.o_proj(mixed) -> mixed
        The merged heads come back as they are. o_proj mixes them, and brings them back to dim channels.
    the residual added: self.o_proj(mixed) -> x + self.o_proj(mixed)
        You add x. The residual connection is the block's: this layer returns only what it found.
    key/value heads taken in turns: query_attention(q, k, v) -> query_attention(q, *in_turns(q, k, v))
        Query heads take turns (A B A B), where neighbours share a key/value head (A A B B), as in your
        grouped_query_attention.
    one key/value head for all: mixed = -> k, v = k[:, :, :1], v[:, :, :1]; mixed =
        All query heads read key/value head 0. Each group has a head of its own.
    no mask: grouped_query_attention(q, k, v) -> torch_s_attention(q, k, v, False)
        Every new token reads every other, later ones too. A token may read itself and what comes before it.
    counted from the first key: grouped_query_attention(q, k, v) -> torch_s_attention(q, k, v, True)
        With a cache, your queries begin at place 0, as is_causal=True lets them do. They are the last places.
    not scaled: mixed = -> q = q * self.head_dim**0.5; mixed =
        Your scores are not divided by the root of head_dim.
    scaled twice: mixed = -> q = q / self.head_dim**0.5; mixed =
        Your scores are divided by the root of head_dim twice: grouped_query_attention does it already.
    scaled by the width: mixed = -> q = q * (self.head_dim / x.shape[-1]) ** 0.5; mixed =
        Your scores are divided by the root of dim. It is the root of head_dim.
    float32 goes out: self.o_proj(mixed) -> self.o_proj(mixed).float()
        The numbers are right, but half precision comes in and float32 goes out.
    no gradient through the heads: self.o_proj(mixed) -> self.o_proj(mixed.detach())
        The numbers are right, but no gradient gets past o_proj: something cuts it off, such as .detach() or .data.
    no gradient through the scores: mixed = -> q = q.detach(); mixed =
        The numbers are right, but no gradient reaches q_proj: something cuts it off, such as .detach() or .data.
    no gradient to keys: mixed = -> k = k.detach(); mixed =
        The numbers are right, but no gradient reaches k_proj: something cuts it off, such as .detach() or .data.
""")
no_gradient(exercise, "x")


@exercise.misconception
class keys_cached_before_they_are_rotated(Attention):
    """Unrotated keys go into the cache, and what comes back of earlier tokens is read unrotated. Rotate each key when
    it is new, by the tables of its own position; in the cache it stays as it is.
    """

    def forward(self, x, cos, sin, cache=None):
        if cache is None:
            return super().forward(x, cos, sin)

        class Unrotated:
            def append(_, k, v):
                keys, values = cache.append(apply_rope(k, cos, -sin), v)
                return torch.cat((keys[:, :, : -k.shape[2]], k), dim=2), values

        return super().forward(x, cos, sin, Unrotated())
