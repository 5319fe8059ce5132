"""Exercise 3: from heads on axis 2, as projections make them, to what the output projection takes."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import (
    HALVES,
    at_least_float32,
    draw,
    expect_close,
    expect_gradients,
    expect_like,
    expect_same_for_views,
    expect_value_error,
    tensor,
)
from ...families import another_error, float32_out, no_gradient
from .causal_attention import causal_attention
from .common import SLIPS, by_formula, hard_inputs


def grouped_query_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    n_heads, n_kv_heads = q.shape[2], k.shape[2]
    if n_heads % n_kv_heads:
        raise ValueError("n_heads must be a multiple of n_kv_heads")
    dtype, head_dim = q.dtype, q.shape[3]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    q, k, v = (at_least_float32(x) for x in (q, k, v))
    owner = torch.arange(n_heads, device=q.device) // (n_heads // n_kv_heads)
    k, v = k[:, owner], v[:, owner]
    query_len, key_len = q.shape[2], k.shape[2]
    scores = q @ k.transpose(2, 3) / head_dim**0.5
    later = torch.ones(query_len, key_len, dtype=torch.bool, device=q.device).triu(key_len - query_len + 1)
    hidden = scores.masked_fill(later, float("-inf"))
    weights = hidden.softmax(dim=-1)
    mixed = weights @ v
    return mixed.transpose(1, 2).flatten(2).to(dtype)


def inputs(
    batch: int, query_len: int, key_len: int, heads: int, kv_heads: int, dim: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    sizes = enumerate(((query_len, heads), (key_len, kv_heads), (key_len, kv_heads)))
    return tuple(draw(batch, *size, dim, seed=50 * i, dtype=dtype) for i, size in sizes)


def heads_behind_tokens(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.transpose(1, 2) for x in tensors)


def expected(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The formula, for heads on axis 2 and merged."""
    return by_formula(*heads_behind_tokens(q, k, v)).transpose(1, 2).flatten(2)


def cases() -> list[tuple]:
    """Axes of different sizes and of equal ones, cached keys, half precision, extreme scores, a refusal."""
    sizes = (2, 5, 5, 6, 3, 8), (4, 4, 4, 4, 2, 4), (2, 7, 10, 6, 2, 8), (2, 7, 7, 6, 2, 8), (2, 8, 13, 6, 3, 4)
    made = [inputs(*size) for size in (*sizes, (1, 1, 7, 4, 2, 4), (2, 5, 5, 3, 3, 8), (2, 5, 5, 4, 1, 8))]
    # Gradients of one case tell whether there are any, and cost as much as all the rest.
    made[0] = tuple(x.requires_grad_() for x in made[0])
    made.append(tuple(draw(2, n, 5, 8, seed=n).transpose(1, 2) for n in (4, 2, 2)))
    # A single key: how the weights are rounded is not asked.
    made += [inputs(2, 1, 1, 4, 2, 8, dtype) for dtype in HALVES]
    made += [heads_behind_tokens(*given) for _, *given in hard_inputs()]
    q, k, v = inputs(1, 3, 3, 4, 3, 8)
    return [*made, (q, k, v * torch.nan)]  # whatever is made of values that are NaN is NaN


exercise = Exercise(
    grouped_query_attention,
    points=6,
    minutes=12,
    cases=cases,
    returns=Tensor,
    hints=(
        "You have two of three parts: causal_attention and repeat_kv. Both want heads on axis 1; here they stand on "
        "axis 2, because a projection makes all channels of a token side by side.",
        "transpose(1, 2) exchanges two axes; reshape and view only cut the same row of numbers elsewhere, and would "
        "mix tokens with heads.",
        "At the end the way back: first exchange the two axes again, so that all heads of one token stand together, "
        "then join the last two axes. The check of n_heads and n_kv_heads comes before everything else.",
    ),
)


@exercise.property("shape (batch, query_len, n_heads * head_dim), dtype of q")
def shape_and_dtype(answer: Callable) -> None:
    for size in ((1, 3, 3, 1, 1, 2), (2, 5, 5, 6, 3, 8), (1, 6, 9, 4, 1, 4)):
        for dtype in (torch.float32, *HALVES):
            q, k, v = inputs(*size, dtype)
            where = f"q of shape {tuple(q.shape)} and k of shape {tuple(k.shape)} in {str(dtype)[6:]}"
            expect_like(answer(q, k, v), shape=q.flatten(2).shape, dtype=dtype, where=where)


@exercise.property("the first token gets its own values, a copy for each query head of the group")
def first_token(answer: Callable) -> None:
    q, k, _ = inputs(1, 2, 2, 4, 2, 2)
    v = tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    want = torch.tensor([1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0])
    expect_close(answer(q, k, v)[0, 0], want, where="4 heads that share values [1, 2] and [3, 4], token 0")


def expect_formula(answer: Callable, *sizes: tuple[int, ...]) -> None:
    """Refuse an answer with other numbers than the formula's for inputs of any of these sizes."""
    for size in sizes:
        q, k, v = inputs(*size)
        where = f"q of shape {tuple(q.shape)} and k of shape {tuple(k.shape)}"
        expect_close(answer(q, k, v), expected(q, k, v), where=where)


@exercise.property("as many key/value heads as query heads, and a single one: multi-head and multi-query attention")
def multi_head_and_multi_query(answer: Callable) -> None:
    expect_formula(answer, (2, 5, 5, 3, 3, 8), (3, 3, 3, 3, 3, 3), (1, 4, 4, 1, 1, 8))
    expect_formula(answer, (2, 5, 5, 3, 1, 8), (1, 4, 4, 8, 1, 4))


@exercise.property("query head i reads key/value head i // group_size")
def grouped(answer: Callable) -> None:
    expect_formula(answer, (2, 5, 5, 6, 3, 8), (2, 5, 5, 6, 2, 8), (1, 3, 3, 9, 3, 16), (4, 4, 4, 4, 2, 4))


@exercise.property("a key/value head reaches its own query heads, and no others")
def reach(answer: Callable) -> None:
    q, k, v = inputs(1, 4, 4, 6, 3, 2)
    before = answer(q, k, v)
    for head in range(3):
        new = v.clone()
        new[:, :, head] += 1
        reached = (answer(q, k, new) - before).unflatten(-1, (6, 2)).abs().amax(dim=(0, 1, 3)) > 1e-3
        where = f"query heads (1 = reached) after values of key/value head {head} of 3 were changed"
        expect_close(reached.float(), (torch.arange(6) // 2 == head).float(), where=where)


@exercise.property("without cached keys: later tokens and other rows of the batch change nothing")
def later_tokens(answer: Callable) -> None:
    given = inputs(3, 5, 5, 4, 2, 8)
    before = answer(*given)
    new = [x.clone() for x in given]
    for i, x in enumerate(new):
        x[:, 3:] = draw(*x[:, 3:].shape, seed=7 + i)
        x[2] = draw(*x[2].shape, seed=11 + i)
    where = "tokens 0 to 2 of rows 0 and 1, after everything else was replaced at random"
    expect_close(answer(*new)[:2, :3], before[:2, :3], where=where)


@exercise.property("with cached keys, the queries are the last places")
def cached_keys(answer: Callable) -> None:
    for query_len, key_len in ((1, 7), (3, 7), (2, 2100), (3, 4)):
        given = inputs(2, query_len, key_len, 4, 2, 8)
        where = f"queries of the last {query_len} of {key_len:,} places"
        expect_close(answer(*given), expected(*given), where=where)


@exercise.property("scores of any size, in the past and in the future")
def scores_of_any_size(answer: Callable) -> None:
    for where, q, k, v in hard_inputs():
        given = heads_behind_tokens(q, k, v)
        expect_close(answer(*given), expected(*given), where=where, atol=0.05)


@exercise.property("half precision: nearly the same numbers, with scores of any size")
def half_precision(answer: Callable) -> None:
    for dtype in HALVES:
        for size, head_dim in ((1, 8), (3, 128), (100, 64)):
            q, k, v = inputs(2, 16, 16, 4, 2, head_dim, dtype)
            q, k = q * size, k * size
            where = f"{str(dtype)[6:]}, q and k of size {size}, within 0.05"
            expect_close(answer(q, k, v), expected(q, k, v), where=where, rtol=0, atol=0.05)


@exercise.property("q, k and v may be transposed")
def not_contiguous(answer: Callable) -> None:
    expect_same_for_views(answer, *inputs(2, 5, 5, 4, 2, 8), where="q, k and v")


@exercise.property("gradients flow back to q, k and v")
def gradients(answer: Callable) -> None:
    expect_gradients(answer, expected, *inputs(2, 5, 5, 4, 2, 8), names=("q", "k", "v"))
    for dtype, query_len in ((torch.float32, 3), *((dtype, 5) for dtype in HALVES)):
        names = tuple(f"{name} ({query_len} queries, 5 keys, {str(dtype)[6:]})" for name in "qkv")
        expect_gradients(answer, expected, *inputs(2, query_len, 5, 4, 2, 8, dtype), names=names, rtol=0.02, atol=0.05)


@exercise.property("n_heads that is no multiple of n_kv_heads is refused with a ValueError")
def odd_groups(answer: Callable) -> None:
    for n_heads, n_kv_heads in ((4, 3), (3, 2), (2, 4)):
        where = f"{n_heads} query heads and {n_kv_heads} key/value heads"
        expect_value_error(answer, *inputs(1, 3, 3, n_heads, n_kv_heads, 8), where=where)


exercise.slips("""
    the row of key/value heads repeated: // (n_heads // n_kv_heads) -> % n_kv_heads
        Query heads take turns: head 0 reads key/value head 0, head 1 reads 1, and so on round again, as .repeat or i %
        n_kv_heads gives. Neighbours share: heads 0 and 1 of a group of two read the same one.
    in turns, from key 0: // (n_heads // n_kv_heads) -> % n_kv_heads; k, v = (x[:, :, : q.shape[2]] for x in (k, v))
        Query heads take turns (A B A B), where neighbours share (A A B B): .repeat_interleave, not .repeat. And with
        cached keys your queries begin at place 0, as is_causal=True lets them do, but they are the last places.
    head i // n_kv_heads read: // (n_heads // n_kv_heads) -> // n_kv_heads; owner = owner.clamp(max=n_kv_heads - 1)
        Query head i reads key/value head i // n_kv_heads, or the last one. Divide i by the size of a group.
    query heads taken in turns: k, v = k -> q = q.unflatten(1, (-1, n_kv_heads)).transpose(1, 2).flatten(1, 2); k, v = k
        The query heads are cut as (group_size, n_kv_heads): head i reads key/value head i % n_kv_heads, and the result
        has its heads in another order. Cut them as (n_kv_heads, group_size).
    key/value heads in reverse order: q.device) // -> q.device).flip(0) //
        The first group of query heads reads the last key/value head, and the last group the first one.
    one key/value head for all: // (n_heads // n_kv_heads) -> * 0
        All query heads read key/value head 0. That is multi-query attention; here each group has a head of its own.
    the mean of all key/value heads: k[:, owner], v[:, owner] -> k.mean(1, keepdim=True), v.mean(1, keepdim=True)
        You average over all key/value heads. Each group of query heads reads its own one, as it is.
    values shared in another way: v[:, owner] -> v.repeat(1, n_heads // n_kv_heads, 1, 1)
        Keys are repeated in place (A A B B), but values as a row (A B A B): a head finds the values of another one.
    keys shared in another way: k[:, owner] -> k.repeat(1, n_heads // n_kv_heads, 1, 1)
        Values are repeated in place (A A B B), but keys as a row (A B A B): a head finds the values of another one.
    no copy for each query head: k[:, owner], v[:, owner] -> k, v
        Your answer stops with an error where query heads share one of several key/value heads. Each query head needs a
        copy of the one that it reads, as repeat_kv makes it; .expand() makes none that .view() could join.
    repeated n_kv_heads times: k[:, owner], v[:, owner] -> (x.repeat_interleave(n_kv_heads, 1) for x in (k, v))
        Your answer runs only with a single key/value head, or as many groups as heads in a group. Each key/value head
        is needed once for each query head of its group: n_heads // n_kv_heads times.
    tokens repeated: k[:, owner], v[:, owner] -> (x.repeat_interleave(n_heads // n_kv_heads, 2) for x in (k, v))
        It is the tokens that you repeat. Repeat the heads: axis 1 once the axes are exchanged, axis 2 before.
    merged without transposing back: mixed.transpose(1, 2).flatten(2) -> mixed.reshape(len(q), query_len, -1)
        The heads are joined while they still stand before the tokens. A row of your result holds several tokens of one
        head, later ones too, in place of all heads of one token. Exchange the axes first.
    not merged: .flatten(2) -> .contiguous()
        Heads and channels still stand on two axes. Join the last two: (batch, query_len, n_heads * head_dim).
    heads left first: mixed.transpose(1, 2).flatten(2) -> mixed
        The heads still stand before the tokens. Exchange the two axes back, and join the heads with their channels.
    channel by channel, not head by head: mixed.transpose(1, 2) -> mixed.permute(0, 2, 3, 1)
        In each row channel 0 of all heads comes first. All channels of head 0 are to come first, then those of head 1.
    viewed, not transposed: x.transpose(1, 2) for -> x.reshape(len(x), x.shape[2], -1, x.shape[3]) for
        You reshape (batch, seq_len, heads, head_dim) to (batch, heads, seq_len, head_dim). The shape is right, but the
        numbers stay in their order, so a head gets pieces of several. Use transpose(1, 2).
    only the first query heads: k, v = k[:, owner], v[:, owner] -> q = q[:, :n_kv_heads]
        You cut q down to as many heads as there are keys. All of them stay; it is keys and values that are shared.
    query heads averaged: k, v = k[ -> q = q.unflatten(1, (n_kv_heads, -1)).mean(2)[:, owner]; k, v = k[
        You average the query heads of a group into one. All of them stay; it is keys and values that are shared.
""")
exercise.slips(SLIPS)
another_error(exercise)
float32_out(exercise, "q")
for name in ("q", "k", "v"):
    no_gradient(exercise, name)


@exercise.misconception
def viewed_on_the_way_in_and_out(q, k, v):
    """You reshape instead of exchanging axes, on the way in and on the way out. Shapes come out right, but each head
    gets pieces of several tokens and heads. Use transpose(1, 2).
    """
    if q.shape[2] % k.shape[2]:
        raise ValueError("n_heads must be a multiple of n_kv_heads")
    q, k, v = (x.reshape(len(x), x.shape[2], -1, x.shape[3]) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    return causal_attention(q, k, v).reshape(len(q), q.shape[2], -1)


@exercise.misconception
def heads_attend_to_heads(q, k, v):
    """The axes are not exchanged, so the heads of one token are compared with each other, and with as many queries as
    keys no token ever reads another one. Heads have to stand before the tokens, on axis 1.
    """
    if q.shape[2] % k.shape[2]:
        raise ValueError("n_heads must be a multiple of n_kv_heads")
    k, v = (x.repeat_interleave(q.shape[2] // x.shape[2], dim=2) for x in (k, v))
    return causal_attention(q, k, v).flatten(2)


@exercise.misconception
def every_number_of_heads_accepted(q, k, v):
    """4 query heads and 3 key/value heads are let pass, but groups would differ in size: raise a ValueError."""
    if q.shape[2] % k.shape[2]:
        k, v = k[:, :, :1], v[:, :, :1]
    return grouped_query_attention(q, k, v)
