"""causal_attention: scores, mask, softmax, values."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import (
    HALVES,
    LESSON,
    at_least_float32,
    attend,
    by_formula,
    counted,
    draw,
    expect_gradients,
    low_past_high_future,
    places_up_to,
)
from .slips import add_slips


def refuse_too_many_queries(q: Tensor, k: Tensor) -> None:
    if q.shape[2] > k.shape[2]:
        raise ValueError(f"{q.shape[2]} queries have only {k.shape[2]} keys")


def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v)


def cases() -> list[tuple]:
    """Axes of different sizes and of equal ones, cached keys, half precision, extreme scores, a refusal."""
    found = []
    for seed, (batch, heads, query_len, key_len, head_dim, dtype) in enumerate(
        [
            (2, 3, 5, 5, 8, torch.float32),
            (2, 2, 2, 6, 4, torch.float32),
            (4, 4, 4, 4, 4, torch.float32),
            (2, 2, 4, 6, 16, torch.bfloat16),
        ]
    ):
        q = draw(batch, heads, query_len, head_dim, seed=seed, dtype=dtype)
        k, v = (draw(batch, heads, key_len, head_dim, seed=seed + 50 * i, dtype=dtype) for i in (1, 2))
        # Gradients of one case tell whether there are any, and cost as much as all the rest.
        found.append(tuple(x.requires_grad_(seed == 0) for x in (q, k, v)))
    found.append((*low_past_high_future(), draw(1, 1, 3, 2)))
    return [*found, (draw(1, 2, 4, 8), draw(1, 2, 3, 8), draw(1, 2, 3, 8))]


causal_attention = Exercise(
    name="causal_attention",
    lesson=LESSON,
    points=5,
    minutes=16,
    parameters=("q", "k", "v"),
    reference=reference,
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


@causal_attention.property("the first token reads only itself")
def _(answer: Callable) -> None:
    q, k, v = draw(2, 3, 4, 8), draw(2, 3, 4, 8, seed=1), draw(2, 3, 4, 8, seed=2)
    where = "the result of the first token, against its own value"
    expect_close(answer(q, k, v)[:, :, 0], v[:, :, 0], where=where)


@causal_attention.property("equal scores: each token gets the mean of the values up to its own")
def _(answer: Callable) -> None:
    q = torch.zeros_like(draw(1, 1, 4, 2))
    v = q + torch.tensor([1.0, 3.0, 8.0, 0.0], device=q.device)[:, None]
    got = answer(q, draw(1, 1, 4, 2), v)
    expect_close(got[0, 0, :, 0], torch.tensor([1.0, 2.0, 4.0, 3.0]), where="queries of zeros, values 1, 3, 8, 0")


@causal_attention.property("softmax(q k^T / sqrt(head_dim)) v, over the past")
def _(answer: Callable) -> None:
    for seed, shape in enumerate([(1, 1, 3, 4), (2, 3, 5, 8), (3, 2, 2, 2), (3, 3, 3, 3), (1, 2, 33, 64)]):
        q, k, v = (draw(*shape, seed=seed + 50 * i) for i in range(3))
        expect_close(answer(q, k, v), by_formula(q, k, v), where=f"q, k and v of shape {shape}")


@causal_attention.property("later tokens change nothing, whatever they are")
def _(answer: Callable) -> None:
    q, k, v = (draw(2, 2, 6, 8, seed=i) for i in range(3))
    before = answer(q, k, v)
    for first in (5, 2):
        for size in (1.0, 100.0):
            new = [x.clone() for x in (q, k, v)]
            for i, x in enumerate(new):
                x[:, :, first:] = size * draw(*x[:, :, first:].shape, seed=7 + i)
            where = f"tokens 0 to {first - 1} of 6, after the later ones were replaced at random"
            expect_close(answer(*new)[:, :, :first], before[:, :, :first], where=where)


@causal_attention.property("with cached keys, the queries are the last places")
def _(answer: Callable) -> None:
    q, k, v = (draw(2, 2, 7, 8, seed=i) for i in range(3))
    for new in (1, 2, 5):
        where = f"{counted(new, 'query')} and 7 keys"
        expect_close(answer(q[:, :, -new:], k, v), by_formula(q, k, v)[:, :, -new:], where=where)
    q, k, v = draw(1, 1, 2, 4), draw(1, 1, 2100, 4, seed=1), draw(1, 1, 2100, 4, seed=2)
    expect_close(answer(q, k, v), by_formula(q, k, v), where="2 queries and 2,100 keys")


@causal_attention.property("scores of any size, in the past and in the future")
def _(answer: Callable) -> None:
    q, k = low_past_high_future()
    v = draw(1, 1, 3, 2)
    where = "scores below -100,000 in the past, above 100,000 in the future"
    expect_close(answer(q, k, v), by_formula(q, k, v), where=where)


@causal_attention.property("shape and dtype of q come back")
def _(answer: Callable) -> None:
    for dtype in (torch.float32, *HALVES, torch.float64):
        for query_len, key_len in ((4, 4), (1, 5)):
            q, k, v = (draw(2, 3, size, 8, dtype=dtype) for size in (query_len, key_len, key_len))
            where = f"q of shape {tuple(q.shape)} in {str(dtype)[6:]}"
            expect_like(answer(q, k, v), shape=(2, 3, query_len, 8), dtype=dtype, where=where)


@causal_attention.property("q, k and v may be transposed, as a model makes them")
def _(answer: Callable) -> None:
    q, k, v = (draw(2, 5, 3, 8, seed=i).transpose(1, 2) for i in range(3))
    expect_close(answer(q, k, v), by_formula(q, k, v), where="q, k and v made by .transpose(1, 2)")


@causal_attention.property("half precision comes in and goes out, but is not computed in")
def _(answer: Callable) -> None:
    for dtype, digits in zip(HALVES, (8, 11), strict=True):
        q, k, v = (draw(2, 2, 33, 64, seed=i, dtype=dtype) for i in range(3))
        where = f"{str(dtype)[6:]}, to the last of its digits"
        expect_close(answer(q, k, v), by_formula(q, k, v), where=where, rtol=2.0**-digits, atol=2e-5)
    q = torch.full_like(draw(1, 1, 4, 64, dtype=torch.float16), 40.0)
    v = draw(1, 1, 4, 64, dtype=torch.float16)
    where = "float16, where q.k is 102,400 and the largest number of float16 is 65,504"
    expect_close(answer(q, q, v), by_formula(q, q, v), where=where, rtol=1e-3, atol=1e-4)


@causal_attention.property("gradients flow back to q, k and v")
def _(answer: Callable) -> None:
    inputs = tuple(draw(2, 2, 5, 8, seed=i).requires_grad_() for i in range(3))
    upstream = draw(2, 2, 5, 8, seed=3)
    exact = F.scaled_dot_product_attention(*(x.double() for x in inputs), is_causal=True)
    wanted = torch.autograd.grad((exact * upstream).sum(), inputs)
    expect_gradients(causal_attention, answer, inputs, wanted, upstream)


@causal_attention.property("more queries than keys are refused with a ValueError")
def _(answer: Callable) -> None:
    for queries, keys in ((4, 3), (2, 1)):
        where = f"{counted(queries, 'query')} and {counted(keys, 'key')}"
        expect_value_error(answer, draw(1, 2, queries, 8), draw(1, 2, keys, 8), draw(1, 2, keys, 8), where=where)
    if answer(draw(1, 2, 3, 8), draw(1, 2, 3, 8), draw(1, 2, 3, 8)).shape[2] != 3:
        raise Mismatch("3 queries and 3 keys: expected 3 results")


def answer_with(attention: Callable) -> Callable:
    def answer(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        refuse_too_many_queries(q, k)
        return attention(q, k, v)

    return answer


add_slips(causal_attention, answer_with)


@causal_attention.misconception(
    "computed in half precision",
    "The numbers are nearly right, but scores or weights were rounded to bfloat16 or float16 on the way, and in "
    "float16 a product beyond 65,504 is infinite. Convert q, k and v with .float() before anything else.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return scores.masked_fill(~places_up_to(q, k), float("-inf")).softmax(dim=-1) @ v


@causal_attention.misconception(
    "scores in half precision",
    "The numbers are nearly right, but q k^T was summed up in bfloat16 or float16: float32 came too late, and in "
    "float16 a product beyond 65,504 is infinite. Convert q and k with .float() before you multiply them.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    scores = at_least_float32(q @ k.transpose(-2, -1)) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~places_up_to(q, k), float("-inf")).softmax(dim=-1)
    return (weights @ at_least_float32(v)).to(q.dtype)


@causal_attention.misconception(
    "weights in half precision",
    "The numbers are nearly right, but the weights are rounded to bfloat16 or float16 before they mix the values. Stay "
    "in float32 up to the end, and convert the result.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    scores = at_least_float32(q) @ at_least_float32(k).transpose(-2, -1) / q.shape[-1] ** 0.5
    return scores.masked_fill(~places_up_to(q, k), float("-inf")).softmax(dim=-1).to(q.dtype) @ v


@causal_attention.misconception(
    "is_causal=True and nothing else",
    "scaled_dot_product_attention does two things otherwise than asked. is_causal=True lets the queries begin at place "
    "0, but with cached keys they are the last places: give it a mask of your own as attn_mask, True where a key may "
    "be read. And half precision is not taken to float32: convert q, k and v with .float() first, and the result back.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@causal_attention.misconception(
    "is_causal=True, and more queries than keys accepted",
    "scaled_dot_product_attention does three things otherwise than asked. is_causal=True lets the queries begin at "
    "place 0, but with cached keys they are the last places: give it a mask of your own as attn_mask, True where a key "
    "may be read. Half precision has to be taken to float32 first. And more queries than keys are to be refused.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@causal_attention.misconception(
    "more queries than keys accepted",
    "Everything is right, but more queries than keys are let pass. Each query has a key of its own, so that cannot be: "
    "raise a ValueError.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    places = torch.arange(k.shape[2], device=q.device)
    queries = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device)
    return attend(q, k, v, allowed=places <= queries[:, None])


@causal_attention.alternative
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if k.shape[2] < q.shape[2]:
        raise ValueError("fewer keys than queries")
    past = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=past).to(q.dtype)


@causal_attention.alternative
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    cached = k.shape[2] - q.shape[2]
    if cached < 0:
        raise ValueError("fewer keys than queries")
    future = torch.full((q.shape[2], k.shape[2]), float("-inf"), device=q.device).triu(cached + 1)
    scores = torch.einsum("bhid,bhjd->bhij", q.float(), k.float()) * q.shape[-1] ** -0.5 + future
    return torch.einsum("bhij,bhjd->bhid", torch.softmax(scores, dim=3), v.float()).type_as(q)


@causal_attention.alternative
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    rows = []
    for i in range(q.shape[2]):
        end = k.shape[2] - q.shape[2] + i + 1
        weights = (q[:, :, i : i + 1].float() @ k[:, :, :end].float().mT / q.shape[-1] ** 0.5).softmax(-1)
        rows.append(weights @ v[:, :, :end].float())
    return torch.cat(rows, dim=2).to(q.dtype)
