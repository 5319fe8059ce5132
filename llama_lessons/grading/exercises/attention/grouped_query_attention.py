"""grouped_query_attention: from heads on axis 2, as projections make them, to what the output projection takes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...exercise import Exercise
from ...expect import expect_close, expect_like, expect_value_error
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
)
from .slips import add_slips


def refuse_odd_groups(q: Tensor, k: Tensor) -> None:
    if q.shape[2] % k.shape[2]:
        raise ValueError(f"n_heads ({q.shape[2]}) must be a multiple of n_kv_heads ({k.shape[2]})")


def shared(q: Tensor, k: Tensor, v: Tensor, dim: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A copy of its key/value head for each query head; heads on axis `dim`."""
    group_size = q.shape[dim] // k.shape[dim]
    return q, *(x.repeat_interleave(group_size, dim=dim) for x in (k, v))


def heads_first(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heads on axis 1, and as many key/value heads as query heads, after the check that all answers have right."""
    refuse_odd_groups(q, k)
    return shared(*(x.transpose(1, 2) for x in (q, k, v)))


def merged(x: Tensor) -> Tensor:
    """(batch, n_heads, query_len, head_dim) to (batch, query_len, n_heads * head_dim)."""
    return x.transpose(1, 2).flatten(2)


def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return merged(attend(*heads_first(q, k, v)))


def expected(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The formula, for heads on axis 2 and merged."""
    return merged(by_formula(*(x.transpose(1, 2) for x in (q, k, v))))


def inputs(
    batch: int, query_len: int, key_len: int, n_heads: int, n_kv_heads: int, head_dim: int, seed: int = 0,
    dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    q = draw(batch, query_len, n_heads, head_dim, seed=seed, dtype=dtype)
    k, v = (draw(batch, key_len, n_kv_heads, head_dim, seed=seed + 50 * i, dtype=dtype) for i in (1, 2))
    return q, k, v


def cases() -> list[tuple]:
    """Axes of different sizes and of equal ones, cached keys, half precision, extreme scores, a refusal."""
    sizes = [
        (2, 5, 5, 6, 3, 8, torch.float32),
        (4, 4, 4, 4, 2, 4, torch.float32),
        (2, 2, 6, 6, 2, 8, torch.float32),
        # A single key, so that rounding in bfloat16 tells no two ways of computing apart.
        (2, 1, 1, 4, 2, 8, torch.bfloat16),
    ]
    # Gradients of one case tell whether there are any, and cost as much as all the rest.
    found = [
        tuple(x.requires_grad_(seed == 0) for x in inputs(*size, seed=seed, dtype=dtype))
        for seed, (*size, dtype) in enumerate(sizes)
    ]
    q, k = (x.transpose(1, 2) for x in low_past_high_future())
    return [*found, (q, k, draw(1, 3, 1, 2)), inputs(1, 3, 3, 4, 3, 8)]


grouped_query_attention = Exercise(
    name="grouped_query_attention",
    lesson=LESSON,
    points=6,
    minutes=12,
    parameters=("q", "k", "v"),
    reference=reference,
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


@grouped_query_attention.property("shape (batch, query_len, n_heads * head_dim), dtype of q")
def _(answer: Callable) -> None:
    for size in ((1, 1, 1, 1, 1, 2), (2, 5, 5, 6, 3, 8), (1, 2, 7, 4, 1, 4)):
        for dtype in (torch.float32, *HALVES, torch.float64):
            q, k, v = inputs(*size, dtype=dtype)
            where = f"q of shape {tuple(q.shape)} and k of shape {tuple(k.shape)} in {str(dtype)[6:]}"
            shape = (q.shape[0], q.shape[1], q.shape[2] * q.shape[3])
            expect_like(answer(q, k, v), shape=shape, dtype=dtype, where=where)


@grouped_query_attention.property("the first token gets its own values, a copy for each query head of the group")
def _(answer: Callable) -> None:
    q, k, _ = inputs(1, 2, 2, 4, 2, 2)
    v = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]], device=q.device)
    want = torch.tensor([1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0])
    expect_close(answer(q, k, v)[0, 0], want, where="4 heads that share values [1, 2] and [3, 4], token 0")


def expect_formula(answer: Callable, *sizes: tuple[int, ...]) -> None:
    """Refuse an answer with other numbers than the formula's for inputs of any of these sizes."""
    for seed, size in enumerate(sizes):
        q, k, v = inputs(*size, seed=seed)
        where = f"q of shape {tuple(q.shape)} and k of shape {tuple(k.shape)}"
        expect_close(answer(q, k, v), expected(q, k, v), where=where)


@grouped_query_attention.property("as many key/value heads as query heads: multi-head attention")
def _(answer: Callable) -> None:
    expect_formula(answer, (2, 5, 5, 3, 3, 8), (3, 3, 3, 3, 3, 3), (1, 4, 4, 1, 1, 8))


@grouped_query_attention.property("a single key/value head: multi-query attention")
def _(answer: Callable) -> None:
    expect_formula(answer, (2, 5, 5, 3, 1, 8), (1, 4, 4, 8, 1, 4))


@grouped_query_attention.property("query head i reads key/value head i // group_size")
def _(answer: Callable) -> None:
    expect_formula(answer, (2, 5, 5, 6, 3, 8), (2, 5, 5, 6, 2, 8), (1, 3, 3, 9, 3, 16), (4, 4, 4, 4, 2, 4))


@grouped_query_attention.property("a key/value head reaches its own query heads, and no others")
def _(answer: Callable) -> None:
    q, k, v = inputs(1, 4, 4, 6, 3, 2)
    before = answer(q, k, v)
    for head in range(3):
        new = v.clone()
        new[:, :, head] += 1
        reached = (answer(q, k, new) - before).unflatten(-1, (6, 2)).abs().amax(dim=(0, 1, 3)) > 1e-3
        where = f"query heads (1 = reached) after values of key/value head {head} of 3 were changed"
        expect_close(reached.float(), (torch.arange(6) // 2 == head).float(), where=where)


@grouped_query_attention.property("later tokens and other rows of the batch change nothing")
def _(answer: Callable) -> None:
    q, k, v = inputs(3, 5, 5, 4, 2, 8)
    before = answer(q, k, v)
    new = [x.clone() for x in (q, k, v)]
    for i, x in enumerate(new):
        x[:, 3:] = draw(*x[:, 3:].shape, seed=7 + i)
        x[2] = draw(*x[2].shape, seed=11 + i)
    where = "tokens 0 to 2 of rows 0 and 1, after everything else was replaced at random"
    expect_close(answer(*new)[:2, :3], before[:2, :3], where=where)


@grouped_query_attention.property("with cached keys, the queries are the last places")
def _(answer: Callable) -> None:
    q, k, v = inputs(2, 7, 7, 4, 2, 8)
    for new in (1, 3):
        expect_close(
            answer(q[:, -new:], k, v), expected(q, k, v)[:, -new:], where=f"{counted(new, 'query')} and 7 keys"
        )
    expect_formula(answer, (1, 2, 2100, 2, 1, 4))


@grouped_query_attention.property("scores of any size, in the past and in the future")
def _(answer: Callable) -> None:
    q, k = (x.transpose(1, 2) for x in low_past_high_future())
    v = draw(1, 3, 1, 2)
    where = "scores below -100,000 in the past, above 100,000 in the future"
    expect_close(answer(q, k, v), expected(q, k, v), where=where)


@grouped_query_attention.property("half precision: nearly the same numbers")
def _(answer: Callable) -> None:
    for dtype in HALVES:
        q, k, v = inputs(2, 5, 5, 4, 2, 8, dtype=dtype)
        where = f"{str(dtype)[6:]}, within 0.05"
        expect_close(answer(q, k, v), expected(q, k, v), where=where, rtol=0, atol=0.05)


@grouped_query_attention.property("gradients flow back to q, k and v")
def _(answer: Callable) -> None:
    given = tuple(x.requires_grad_() for x in inputs(2, 5, 5, 4, 2, 8))
    upstream = draw(2, 5, 32, seed=3)
    q, k, v = (x.double().transpose(1, 2) for x in given)
    exact = F.scaled_dot_product_attention(q, *(x[:, [0, 0, 1, 1]] for x in (k, v)), is_causal=True)
    wanted = torch.autograd.grad((merged(exact) * upstream).sum(), given)
    expect_gradients(grouped_query_attention, answer, given, wanted, upstream)


@grouped_query_attention.property("n_heads that is no multiple of n_kv_heads is refused with a ValueError")
def _(answer: Callable) -> None:
    for n_heads, n_kv_heads in ((4, 3), (3, 2), (2, 4)):
        where = f"{n_heads} query heads and {n_kv_heads} key/value heads"
        expect_value_error(answer, *inputs(1, 3, 3, n_heads, n_kv_heads, 8), where=where)


@grouped_query_attention.misconception(
    "the row of key/value heads repeated",
    "Query heads take turns: head 0 reads key/value head 0, head 1 reads 1, and so on round again, as .repeat or i % "
    "n_kv_heads gives. Neighbours share: heads 0 and 1 of a group of two read the same one. Pretrained weights expect "
    "that, and nothing else will tell you.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_odd_groups(q, k)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return merged(attend(q, *(x.repeat(1, q.shape[1] // k.shape[1], 1, 1) for x in (k, v))))


@grouped_query_attention.misconception(
    "key/value heads in reverse order",
    "The groups are right, but the first group reads the last key/value head.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = heads_first(q, k, v)
    return merged(attend(q, k.flip(1), v.flip(1)))


@grouped_query_attention.misconception(
    "one key/value head for all",
    "All query heads read key/value head 0, so the others might as well not be there. That is multi-query attention; "
    "with n_kv_heads heads each group has one of its own.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = heads_first(q, k, v)
    return merged(attend(q, k[:, :1].expand_as(k), v[:, :1].expand_as(v)))


@grouped_query_attention.misconception(
    "the mean of all key/value heads",
    "You average over all key/value heads. Each group reads its own one, as it is; pooling is what is done once to the "
    "weights of a multi-head model.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = heads_first(q, k, v)
    return merged(attend(q, *(at_least_float32(x).mean(1, keepdim=True).expand_as(x) for x in (k, v))))


@grouped_query_attention.misconception(
    "keys shared one way, values another",
    "Keys are repeated in place (A A B B), but values as a row (A B A B), so a query head finds with the key of one "
    "head and takes the value of another.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group_size = q.shape[2] // k.shape[2]
    q, k, _ = heads_first(q, k, v)
    return merged(attend(q, k, v.transpose(1, 2).repeat(1, group_size, 1, 1)))


@grouped_query_attention.misconception(
    "merged without transposing back",
    "Attention is right, but the heads are joined while they still stand before the tokens. A row of your result "
    "holds several tokens of one head, later ones too, in place of all heads of one token. Exchange the axes first.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mixed = attend(*heads_first(q, k, v))
    return mixed.reshape(q.shape[0], q.shape[1], -1)


@grouped_query_attention.misconception(
    "not merged",
    "The numbers are right, but heads and channels still stand on two axes. The output projection takes one row for "
    "each token: join the last two axes.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(*heads_first(q, k, v)).transpose(1, 2)


@grouped_query_attention.misconception(
    "heads left first",
    "The numbers are right, but the heads still stand before the tokens. Exchange the two axes back and join the heads "
    "with their channels: (batch, query_len, n_heads * head_dim).",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(*heads_first(q, k, v))


@grouped_query_attention.misconception(
    "channel by channel, not head by head",
    "In each row you put channel 0 of all heads first, then channel 1. The output projection expects head by head: all "
    "channels of head 0, then those of head 1.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(*heads_first(q, k, v)).permute(0, 2, 3, 1).flatten(2)


@grouped_query_attention.misconception(
    "viewed, not transposed",
    "You reshape (batch, seq_len, heads, head_dim) to (batch, heads, seq_len, head_dim). The shape is right, but the "
    "numbers stay in their order, so a head gets pieces of several. Use transpose(1, 2).",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return merged(attend(*viewed(q, k, v)))


def viewed(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    refuse_odd_groups(q, k)
    return shared(*(x.reshape(x.shape[0], x.shape[2], x.shape[1], x.shape[3]) for x in (q, k, v)))


@grouped_query_attention.misconception(
    "viewed on the way in and out",
    "You reshape instead of exchanging axes, on the way in and on the way out. Shapes come out right, but each head "
    "gets pieces of several tokens and heads. Use transpose(1, 2).",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(*viewed(q, k, v)).reshape(q.shape[0], q.shape[1], -1)


@grouped_query_attention.misconception(
    "heads attend to heads",
    "The axes are not exchanged, so q @ k^T compares the heads of one token with each other. With as many queries as "
    "keys no token ever reads another one; with other lengths the shapes do not even fit. Heads have to stand before "
    "the tokens, on axis 1.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_odd_groups(q, k)
    if q.shape[1] != k.shape[1]:
        raise RuntimeError("as many queries as keys")
    return attend(*shared(q, k, v, dim=2)).flatten(2)


@grouped_query_attention.misconception(
    "batch and heads exchanged",
    "The batch and the heads of q stand in each other's place. Where there are as many rows as heads, nothing "
    "complains, and row 0 asks with the queries of other rows. Exchange axes 1 and 2, not 0.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = heads_first(q, k, v)
    if q.shape[0] != q.shape[1]:
        raise RuntimeError("sizes do not fit")
    return merged(attend(q.transpose(0, 1), k, v))


@grouped_query_attention.misconception(
    "only the first query heads",
    "You cut q down to as many heads as there are keys, so most queries are lost. All of them stay; it is keys and "
    "values that are shared.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_odd_groups(q, k)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return merged(attend(q[:, : k.shape[1]], k, v))


@grouped_query_attention.misconception(
    "query heads averaged",
    "You average the query heads of a group into one. All query heads stay, each with scores of its own; it is keys "
    "and values that are shared.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    refuse_odd_groups(q, k)
    group_size = q.shape[2] // k.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mean = q.unflatten(1, (-1, group_size)).mean(dim=2)
    return merged(attend(mean, k, v).repeat_interleave(group_size, dim=1))


add_slips(grouped_query_attention, lambda attention: lambda q, k, v: merged(attention(*heads_first(q, k, v))))


@grouped_query_attention.misconception(
    "every number of heads accepted",
    "Everything is right, but 4 query heads and 3 key/value heads are let pass. Groups would be of different sizes: "
    "check first, and raise a ValueError that names both numbers.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    n_heads, n_kv_heads = q.shape[2], k.shape[2]
    of_query = torch.arange(n_heads, device=q.device) // max(n_heads // n_kv_heads, 1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return merged(attend(q, *(x[:, of_query % n_kv_heads] for x in (k, v))))


@grouped_query_attention.alternative
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.shape[2] % k.shape[2]:
        raise ValueError("n_heads must be a multiple of n_kv_heads")
    past = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).tril(k.shape[1] - q.shape[1])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=past, enable_gqa=True).transpose(1, 2).flatten(2)


@grouped_query_attention.alternative
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # Query heads of a group on an axis of their own: nothing is copied.
    batch, query_len, n_heads, head_dim = q.shape
    if n_heads % k.shape[2]:
        raise ValueError("n_heads must be a multiple of n_kv_heads")
    grouped = q.unflatten(2, (k.shape[2], -1)).float()
    scores = torch.einsum("bikgd,bjkd->bkgij", grouped, k.float()) / head_dim**0.5
    future = torch.ones_like(scores[0, 0, 0], dtype=torch.bool).triu(k.shape[1] - query_len + 1)
    weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
    return torch.einsum("bkgij,bjkd->bikgd", weights, v.float()).reshape(batch, query_len, -1).to(q.dtype)


@grouped_query_attention.alternative
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group_size, rest = divmod(q.shape[2], k.shape[2])
    if rest:
        raise ValueError("n_heads must be a multiple of n_kv_heads")
    owner = [i // group_size for i in range(q.shape[2])]
    return torch.cat([attend(q[:, :, i], k[:, :, j], v[:, :, j]) for i, j in enumerate(owner)], dim=-1)
