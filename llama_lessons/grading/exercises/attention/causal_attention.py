"""Exercise 1: scores, mask, softmax, values."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
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
from .common import SLIPS, by_formula, hard_inputs


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    dtype, head_dim = q.dtype, q.shape[3]
    if q.shape[2] > k.shape[2]:
        raise ValueError("more queries than keys")
    q, k, v = (at_least_float32(x) for x in (q, k, v))
    query_len, key_len = q.shape[2], k.shape[2]
    scores = q @ k.transpose(2, 3) / head_dim**0.5
    later = torch.ones(query_len, key_len, dtype=torch.bool, device=q.device).triu(key_len - query_len + 1)
    hidden = scores.masked_fill(later, float("-inf"))
    weights = hidden.softmax(dim=-1)
    mixed = weights @ v
    return mixed.to(dtype)


def inputs(
    batch: int, heads: int, query_len: int, key_len: int, head_dim: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    lengths = enumerate((query_len, key_len, key_len))
    return tuple(draw(batch, heads, length, head_dim, seed=50 * i, dtype=dtype) for i, length in lengths)


def cases() -> list[tuple]:
    """Axes of different sizes and of equal ones, cached keys, half precision, extreme scores, a refusal."""
    cached = (2, 2, 7, 10, 8), (2, 2, 7, 7, 8), (2, 2, 8, 13, 4), (1, 2, 1, 7, 4)
    square = (4, 4, 4, 4, 4), (1, 1, 3, 3, 2), (3, 2, 6, 6, 16), (1, 2, 9, 9, 32), (2, 1, 12, 12, 8), (2, 4, 3, 3, 5)
    made = [inputs(*size) for size in ((2, 3, 5, 5, 8), *cached, *square, (1, 3, 11, 11, 4))]
    # Gradients of one case tell whether there are any, and cost as much as all the rest.
    made[0] = tuple(x.requires_grad_() for x in made[0])
    made.append(tuple(x.transpose(1, 2) for x in inputs(2, 5, 3, 3, 8)))
    made += [inputs(2, 2, 33, 33, 64, dtype) for dtype in HALVES]
    # Scores of 2 and 0, exact in half precision, and values that nearly cancel: what is left depends on the weights.
    q, k, v = [[[[2.0, 0.0, 0.0, 0.0]] * 2]], [[[[2.0, 1.0, 0.0, 0.0], [0.0] * 4]]], [[[[1000.0] * 4, [-7392.0] * 4]]]
    made.append(tuple(tensor(x, torch.bfloat16) for x in (q, k, v)))
    made += [given for _, *given in hard_inputs()]
    q, k, v = inputs(1, 2, 4, 3, 8)
    return [*made, (q, k, v * torch.nan)]  # whatever is made of values that are NaN is NaN


exercise = Exercise(
    causal_attention,
    points=5,
    minutes=16,
    cases=cases,
    returns=Tensor,
    hints=(
        "Four steps, as in section 2 of the lesson: scores, mask, softmax, values. Only the mask needs thought: print "
        "it for 2 queries and 5 keys. The first query stands at place 3, so how many keys may it read?",
        "For the scores, exchange the last two axes of k: the result is (batch, n_heads, query_len, key_len). A key at "
        "place j is hidden from the query in row i if j is greater than i plus the number of cached keys.",
        "Hide scores before the softmax, with minus infinity. The softmax runs over the keys, the last axis. Convert "
        "q, k and v with .float() first, and the result with .to(...) last.",
    ),
)


@exercise.property("the first token reads only itself")
def first_token(answer: Callable) -> None:
    q, k, v = inputs(2, 3, 4, 4, 8)
    expect_close(answer(q, k, v)[:, :, 0], v[:, :, 0], where="the result of the first token, against its own value")


@exercise.property("equal scores: each token gets the mean of the values up to its own")
def equal_scores(answer: Callable) -> None:
    q = torch.zeros_like(draw(1, 1, 4, 2))
    v = q + tensor([1.0, 3.0, 8.0, 0.0])[:, None]
    got = answer(q, draw(1, 1, 4, 2), v)
    expect_close(got[0, 0, :, 0], torch.tensor([1.0, 2.0, 4.0, 3.0]), where="queries of zeros, values 1, 3, 8, 0")


@exercise.property("softmax(q k^T / sqrt(head_dim)) v, over the past")
def formula(answer: Callable) -> None:
    for shape in ((1, 1, 3, 4), (2, 3, 5, 8), (3, 2, 2, 2), (3, 3, 3, 3), (1, 2, 33, 64)):
        q, k, v = (draw(*shape, seed=50 * i) for i in range(3))
        expect_close(answer(q, k, v), by_formula(q, k, v), where=f"q, k and v of shape {shape}")


@exercise.property("without cached keys: nothing changes when later tokens are replaced")
def later_tokens(answer: Callable) -> None:
    given = inputs(2, 2, 6, 6, 8)
    before = answer(*given)
    for first in (5, 2):
        for size in (1.0, 100.0):
            new = [x.clone() for x in given]
            for i, x in enumerate(new):
                x[:, :, first:] = size * draw(*x[:, :, first:].shape, seed=7 + i)
            where = f"tokens 0 to {first - 1} of 6, after the later ones were replaced at random"
            expect_close(answer(*new)[:, :, :first], before[:, :, :first], where=where)


@exercise.property("with cached keys, the queries are the last places")
def cached_keys(answer: Callable) -> None:
    for query_len, key_len in ((1, 7), (2, 7), (5, 7), (2, 2100), (5, 6)):
        given = inputs(2, 2, query_len, key_len, 8)
        where = f"queries of the last {query_len} of {key_len:,} places"
        expect_close(answer(*given), by_formula(*given), where=where)


@exercise.property("scores of any size, in the past and in the future")
def scores_of_any_size(answer: Callable) -> None:
    for where, *given in hard_inputs():
        expect_close(answer(*given), by_formula(*given), where=where, rtol=0.005)


@exercise.property("shape and dtype of q come back, in a new tensor")
def shape_and_dtype(answer: Callable) -> None:
    for dtype in (torch.float32, *HALVES):
        for query_len, key_len in ((4, 4), (1, 5), (1, 1)):
            q, k, v = inputs(2, 3, query_len, key_len, 8, dtype)
            where = f"q of shape {tuple(q.shape)} in {str(dtype)[6:]}"
            expect_like(answer(q, k, v), shape=(2, 3, query_len, 8), dtype=dtype, where=where)
            answer.expect_new(where)


@exercise.property("q, k and v may be transposed, as a model makes them")
def not_contiguous(answer: Callable) -> None:
    q, k, v = (x.transpose(1, 2) for x in inputs(2, 5, 3, 3, 8))
    expect_close(answer(q, k, v), by_formula(q, k, v), where="q, k and v made by .transpose(1, 2)")
    expect_same_for_views(answer, q, k, v, where="q, k and v")


@exercise.property("half precision comes in and goes out, but is not computed in")
def half_precision(answer: Callable) -> None:
    for dtype, bits in HALVES.items():
        for size, head_dim in ((1, 64), (3, 128)):
            q, k, v = inputs(2, 2, 33, 33, head_dim, dtype)
            q, k = q * size, k * size
            where = f"{str(dtype)[6:]}, q and k of size {size}, to the last digits"
            expect_close(answer(q, k, v), by_formula(q, k, v), where=where, rtol=2.0**-bits, atol=2e-5 * size**2)


@exercise.property("gradients flow back to q, k and v")
def gradients(answer: Callable) -> None:
    expect_gradients(answer, by_formula, *inputs(2, 2, 5, 5, 8), names=("q", "k", "v"))
    for dtype, query_len in ((torch.float32, 3), *((dtype, 5) for dtype in HALVES)):
        names = tuple(f"{name} ({query_len} queries, 5 keys, {str(dtype)[6:]})" for name in "qkv")
        expect_gradients(answer, by_formula, *inputs(2, 2, query_len, 5, 8, dtype), names=names, rtol=0.02, atol=0.05)


@exercise.property("more queries than keys are refused with a ValueError")
def too_many_queries(answer: Callable) -> None:
    for queries, keys in ((4, 3), (7, 2)):
        where = f"{queries} queries and {keys} keys"
        expect_value_error(answer, *inputs(1, 2, queries, keys, 8), where=where)


exercise.slips(SLIPS)
exercise.slips("""
    computed in half precision: at_least_float32(x) for x -> x for x
        q, k and v are multiplied in the dtype in which they came. Half precision rounds scores and weights to two or
        three digits, and in float16 a sum beyond 65,504 is infinite. Convert with .float() first, and back at the end.
    bfloat16 is not cast: at_least_float32(x) for x -> (x if x.dtype == torch.bfloat16 else at_least_float32(x)) for x
        Bfloat16 is not computed in float32. It holds large scores, but only two to three digits of them: cast it first.
    float16 is not cast: at_least_float32(x) for x -> (x if x.dtype == torch.float16 else at_least_float32(x)) for x
        Float16 is not computed in float32. It keeps three digits, and a sum beyond 65,504 is infinite: cast it first.
    weights in half precision: hidden.softmax(dim=-1) -> at_least_float32(hidden.softmax(dim=-1).to(dtype))
        The weights are rounded to half precision before they mix the values. Convert the result alone, at the end.
    only is_causal=True: q, k, v = ( -> return F.scaled_dot_product_attention(q, k, v, is_causal=True); q, k, v = (
        is_causal=True lets the queries begin at place 0, but with cached keys they are the last places: give a mask of
        your own as attn_mask, True where a key may be read. And scaled_dot_product_attention rounds half precision on
        its way: convert q, k and v with .float() first, and the result back.
    nothing but is_causal=True: dtype, h -> return F.scaled_dot_product_attention(q, k, v, is_causal=True); dtype, h
        Three things are missing. With cached keys the queries are the last places, and is_causal=True begins at place
        0. Half precision is to be converted with .float() first, and back. More queries than keys are to be refused.
    more queries than keys accepted: q.shape[2] > k.shape[2] -> False
        4 queries are let pass with 3 keys. Each query has a key of its own, so that cannot be: raise a ValueError.
    cached keys refused: q.shape[2] > k.shape[2] -> q.shape[2] != k.shape[2]
        You refuse more keys than queries: those are the cached ones, and read. Refuse more queries than keys alone.
    as many queries as keys refused: q.shape[2] > k.shape[2] -> q.shape[2] >= k.shape[2]
        You refuse as many queries as keys, as a text has that is read all at once. Refuse more queries than keys alone.
""")
another_error(exercise)
float32_out(exercise, "q")
for name in ("q", "k", "v"):
    no_gradient(exercise, name)


@exercise.misconception
def the_formula_alone(q, k, v):
    """Three things are missing. With cached keys the mask needs query_len rows and key_len columns. Half precision is
    to be converted with .float() first, and back at the end. And more queries than keys are to be refused.
    """
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    later = torch.triu(torch.ones(q.shape[2], q.shape[2], device=q.device), 1)
    return scores.masked_fill(later == 1, float("-inf")).softmax(dim=-1) @ v


@exercise.misconception
def the_formula_alone_with_a_mask_of_float32(q, k, v):
    """Three things stop with an error. With cached keys the mask needs query_len rows and key_len columns. Half
    precision is to be converted with .float() first, and back at the end. More queries than keys want a ValueError.
    """
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    mask = torch.full((q.shape[2], q.shape[2]), float("-inf"), device=q.device)
    return (scores + mask.triu(1)).softmax(dim=-1) @ v


@exercise.misconception
def the_formula_alone_counted_from_the_first_key(q, k, v):
    """Three things that are asked for are missing. With cached keys the queries are the last places, but yours begin at
    place 0: add key_len - query_len, in triu or tril too. Half precision has to be converted with .float() first, and
    back at the end. And more queries than keys are to be refused.
    """
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    return scores.masked_fill(torch.ones_like(scores).triu(1) == 1, float("-inf")).softmax(dim=-1) @ v


@exercise.misconception
def half_precision_rounded_on_the_way(q, k, v):
    """Half precision is rounded on the way, as by scaled_dot_product_attention: .float() first, .to(q.dtype) last."""
    if q.shape[2] > k.shape[2]:
        raise ValueError("more queries than keys")
    past = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=past)
