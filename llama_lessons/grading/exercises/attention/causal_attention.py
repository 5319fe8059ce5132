"""causal_attention: scores, mask, softmax, values."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import HALVES, LESSON, at_least_float32, attend, by_formula, draw, expect_gradients, places_up_to


def refuse_too_many_queries(q: Tensor, k: Tensor) -> None:
    if q.shape[2] > k.shape[2]:
        raise ValueError(f"{q.shape[2]} queries have only {k.shape[2]} keys")


def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v)


def cases() -> list[tuple]:
    """Axes of different sizes and of equal ones, cached keys, extreme scores, half precision, a refusal."""
    found = []
    for seed, (batch, heads, query_len, key_len, head_dim, dtype) in enumerate(
        [
            (2, 3, 5, 5, 8, torch.float32),
            (2, 2, 2, 6, 4, torch.float32),
            (1, 2, 1, 4, 8, torch.float32),
            (4, 4, 4, 4, 4, torch.float32),
            (2, 2, 4, 6, 16, torch.bfloat16),
        ]
    ):
        q = draw(batch, heads, query_len, head_dim, seed=seed, dtype=dtype).requires_grad_()
        k = draw(batch, heads, key_len, head_dim, seed=seed + 50, dtype=dtype).requires_grad_()
        found.append((q, k, draw(batch, heads, key_len, head_dim, seed=seed + 100, dtype=dtype).requires_grad_()))
    found.append((*low_past_high_future(), draw(1, 1, 3, 2)))
    found.append((draw(1, 2, 4, 8), draw(1, 2, 3, 8), draw(1, 2, 3, 8)))
    return found


def low_past_high_future() -> tuple[Tensor, Tensor]:
    """Queries and keys whose scores are far below -10,000 for places read, and above 10,000 for later ones."""
    q = draw(1, 1, 3, 2) * 0 + 400.0
    k = torch.stack((-q[..., 0, :], -q[..., 1, :] * 1.001, q[..., 2, :]), dim=-2)
    return q, k


causal_attention = Exercise(
    name="causal_attention",
    lesson=LESSON,
    points=5,
    minutes=12,
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
        where = f"{new} queries and 7 keys"
        expect_close(answer(q[:, :, -new:], k, v), by_formula(q, k, v)[:, :, -new:], where=where)


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
    wanted = torch.autograd.grad(exact, inputs, upstream.double())
    expect_gradients(causal_attention, answer, inputs, wanted, upstream)


@causal_attention.property("more queries than keys are refused with a ValueError")
def _(answer: Callable) -> None:
    for queries, keys in ((4, 3), (2, 1)):
        where = f"{queries} queries and {keys} keys"
        expect_value_error(answer, draw(1, 2, queries, 8), draw(1, 2, keys, 8), draw(1, 2, keys, 8), where=where)
    if answer(draw(1, 2, 3, 8), draw(1, 2, 3, 8), draw(1, 2, 3, 8)).shape[2] != 3:
        raise Mismatch("3 queries and 3 keys: expected 3 results")


@causal_attention.misconception(
    "no mask",
    "Every token reads every other, later ones too. A model that is to predict the next token would find it lying "
    "there. Hide the scores of later places before the softmax.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, allowed=torch.ones_like(places_up_to(q, k)))


@causal_attention.misconception(
    "mask turned round",
    "Each token reads itself and the tokens after it: your mask hides the past. Row i of the scores is query i, and "
    "it may read the keys, the columns, up to its own place: the lower triangle stays.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, allowed=~places_up_to(q, k, ahead=-1))


@causal_attention.misconception(
    "its own place hidden",
    "Each token reads the tokens before it, but not itself, so the first one has nothing to read and gets NaN. A token "
    "knows itself: it is the next one that is hidden. triu(..., diagonal=1), not 0.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, allowed=places_up_to(q, k, ahead=-1))


@causal_attention.misconception(
    "one place too far",
    "Each token reads one place too far, the very token that it is to predict. A token may read its own place and "
    "earlier ones.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, allowed=places_up_to(q, k, ahead=1))


@causal_attention.misconception(
    "counted from the first key",
    "With as many queries as keys you are right. With more keys, your first query stands at place 0 and reads only "
    "key 0. But the queries are the last places: with 2 queries and 5 keys the first one stands at place 3.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    first = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    return attend(q, k, v, allowed=first)


@causal_attention.misconception(
    "masked after the softmax",
    "You set weights to 0 after the softmax. The weights that are left no longer sum to 1, and later tokens still "
    "count in the sum that everything was divided by: that is a leak. Hide scores before the softmax.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    weights = every_weight(q, k) * places_up_to(q, k)
    return (weights @ at_least_float32(v)).to(q.dtype)


@causal_attention.misconception(
    "masked after the softmax, and divided again",
    "You set weights to 0 after the softmax and divide by what is left. With ordinary scores that is right, but where "
    "a later token has a much larger score, the softmax has rounded all others to 0: nothing is left to divide by. "
    "Hide scores before the softmax.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    weights = every_weight(q, k) * places_up_to(q, k)
    return (weights / weights.sum(dim=-1, keepdim=True) @ at_least_float32(v)).to(q.dtype)


def every_weight(q: Tensor, k: Tensor) -> Tensor:
    scores = at_least_float32(q) @ at_least_float32(k).transpose(-2, -1) / q.shape[-1] ** 0.5
    return scores.softmax(dim=-1)


@causal_attention.misconception(
    "hidden scores are 0",
    "You set the scores of later places to 0, or multiply them by 0. The softmax makes e to the power of a score, and "
    "e to the power 0 is 1: they still count. A hidden score is minus infinity.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, hidden=0.0)


@causal_attention.misconception(
    "hidden scores are not low enough",
    "You hide scores with a negative number that a real score can fall below: then the hidden places win. "
    'float("-inf") is below all of them, in every dtype.',
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, hidden=-1e4)


@causal_attention.misconception(
    "not divided",
    "Scores are not divided by the square root of head_dim. They spread by that root, and the softmax gives nearly "
    "everything to one key.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, divisor=1.0)


@causal_attention.misconception(
    "divided by head_dim",
    "You divide by head_dim, not by its square root. A sum of head_dim products spreads by the root of head_dim, so "
    "that is what is taken out. Divide by more, and the weights become nearly equal.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, divisor=q.shape[-1])


@causal_attention.misconception(
    "divided by the root of the length",
    "You divide by the root of the number of keys. A score is a sum over the channels of a head, q.shape[-1] of them, "
    "and it is this sum that grows.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, divisor=k.shape[-2] ** 0.5)


@causal_attention.misconception(
    "multiplied by the root",
    "You multiply by the square root of head_dim, where division is meant.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, divisor=q.shape[-1] ** -0.5)


@causal_attention.misconception(
    "divided after the softmax",
    "You divide the weights, not the scores: they sum to one over the root of head_dim, and the softmax saw scores "
    "that were too large.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return (at_least_float32(attend(q, k, at_least_float32(v), divisor=1.0)) / q.shape[-1] ** 0.5).to(q.dtype)


@causal_attention.misconception(
    "softmax over the queries",
    "Your softmax runs over the queries, axis -2: each column sums to 1. A query shares out its attention among the "
    "keys, so each row has to: dim=-1.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, softmax_dim=-2)


@causal_attention.misconception(
    "softmax over the heads",
    "Your softmax runs over the heads, axis 1, as if they competed. Heads work side by side; the keys of one head "
    "compete, along the last axis.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, k, v, softmax_dim=1)


@causal_attention.misconception(
    "no softmax",
    "The scores themselves are the weights, with 0 where they are hidden. They may be negative and sum to anything; "
    "the softmax makes shares of them.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    scores = at_least_float32(q) @ at_least_float32(k).transpose(-2, -1) / q.shape[-1] ** 0.5
    return ((scores * places_up_to(q, k)) @ at_least_float32(v)).to(q.dtype)


@causal_attention.misconception(
    "keys and values exchanged",
    "You compare queries with the values and mix the keys. Keys are there to be found by, values to be taken along.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q, v, k)


@causal_attention.misconception(
    "queries and keys exchanged",
    "Your scores are k q^T: row i is key i, asked by all queries. A row belongs to a query: q k^T.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(k, q, v)


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
    "float32 goes out",
    "The numbers are right, but in float32, where q was bfloat16 or float16. Convert the result back to the dtype of "
    "q: the rest of the model runs in it.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(*map(at_least_float32, (q, k, v)))


@causal_attention.misconception(
    "no gradients",
    "The numbers are right, but no gradient reaches q, k and v: .detach(), .data, torch.no_grad or a new torch.tensor "
    "cuts them off, and the model could not be trained with this.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_too_many_queries(q, k)
    return attend(q.detach(), k.detach(), v.detach())


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
