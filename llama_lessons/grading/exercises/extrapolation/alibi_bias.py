"""Exercise 2: what ALiBi adds to the scores."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import LESSON, counted

__all__ = ["alibi_bias"]


def refuse(query_len: int, key_len: int) -> None:
    if query_len > key_len:
        raise ValueError("more queries than keys")


def distances(query_len: int, key_len: int) -> Tensor:
    """Position of each query minus position of each key, (query_len, key_len)."""
    refuse(query_len, key_len)
    return torch.arange(key_len - query_len, key_len)[:, None] - torch.arange(key_len)


def reference(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    past = distances(query_len, key_len).clamp(min=0).to(slopes.device)
    return -slopes[:, None, None] * past


def one_by_one(slopes: list[float], query_len: int, key_len: int) -> Tensor:
    """The bias, number by number in float64."""
    first = key_len - query_len
    rows = [[[-s * max(first + q - k, 0) for k in range(key_len)] for q in range(query_len)] for s in slopes]
    return torch.tensor(rows, dtype=torch.float64)


def some_slopes(n_heads: int) -> Tensor:
    return torch.tensor([2 ** (-8 * (i + 1) / n_heads) for i in range(n_heads)], device=choose_device())


def cases() -> list[tuple]:
    return [
        (some_slopes(n_heads), query_len, key_len)
        for n_heads, query_len, key_len in (
            (1, 1, 1),
            (2, 3, 3),
            (4, 4, 4),  # slopes along the wrong axis go unnoticed by the shape
            (3, 2, 5),
            (2, 1, 6),
            (8, 5, 7),
            (5, 5, 9),
            (2, 4, 3),
        )
    ] + [(torch.tensor([0.7, -1.5], device=choose_device(), requires_grad=True), 2, 4)]


def sizes(n_heads: int, query_len: int, key_len: int) -> str:
    return ", ".join((counted(n_heads, "head"), counted(query_len, "query"), counted(key_len, "key")))


alibi_bias = Exercise(
    name="alibi_bias",
    lesson=LESSON,
    points=4,
    minutes=9,
    parameters=("slopes", "query_len", "key_len"),
    reference=reference,
    cases=cases,
    returns=Tensor,
    hints=(
        "Write down the positions first: the keys stand at 0 to key_len - 1, and the queries at the last query_len of "
        "these places. With 2 queries and 5 keys, where do the queries stand?",
        "Positions of queries as a column minus positions of keys as a row give all distances at once, shape "
        "(query_len, key_len). Where is such a distance negative, and what is asked for there?",
        "For one slope a head, give slopes two more axes: slopes[:, None, None]. Tensors that you make yourself have "
        "to be on the device of slopes.",
    ),
)


@alibi_bias.property("one bias for each head, query and key, in float32")
def _(answer: Callable) -> None:
    for n_heads, query_len, key_len in ((1, 1, 1), (8, 3, 3), (3, 1, 7), (4, 2, 9), (2, 6, 6)):
        got = answer(some_slopes(n_heads), query_len, key_len)
        where = sizes(n_heads, query_len, key_len)
        expect_like(got, shape=(n_heads, query_len, key_len), dtype=torch.float32, where=where)


@alibi_bias.property("the worked example: one head, slope 1/2, three tokens")
def _(answer: Callable) -> None:
    got = answer(torch.tensor([0.5], device=choose_device()), 3, 3)
    want = torch.tensor([[[0, 0, 0], [-0.5, 0, 0], [-1, -0.5, 0]]])
    expect_close(got, want, where="slope 0.5, 3 queries, 3 keys", atol=1e-7)


@alibi_bias.property("minus slope times distance, in each head")
def _(answer: Callable) -> None:
    for n_heads, length in ((1, 2), (2, 5), (4, 4), (8, 16), (3, 40)):
        slopes = some_slopes(n_heads)
        want = one_by_one(slopes.tolist(), length, length)
        expect_close(answer(slopes, length, length), want, where=sizes(n_heads, length, length), atol=1e-5)


@alibi_bias.property("the queries are the last ones: one token after a cache gets the last row")
def _(answer: Callable) -> None:
    slopes = some_slopes(4)
    for query_len, key_len in ((1, 2), (1, 9), (3, 8), (4, 5)):
        want = one_by_one(slopes.tolist(), query_len, key_len)
        expect_close(answer(slopes, query_len, key_len), want, where=sizes(4, query_len, key_len), atol=1e-5)


@alibi_bias.property("keys that come later get 0: hiding them is the mask's work")
def _(answer: Callable) -> None:
    got = answer(some_slopes(2), 4, 4)
    future = torch.ones(4, 4, dtype=torch.bool).triu(1)
    if (got.cpu()[:, future] != 0).any():
        raise Mismatch(f"4 tokens: expected 0 for later keys, got {got.cpu()[:, future].flatten().tolist()[:3]} ...")


@alibi_bias.property("between equal scores, attention falls by e ** -slope a position")
def _(answer: Callable) -> None:
    slopes = some_slopes(4)
    weights = answer(slopes, 1, 12).softmax(dim=-1)[:, 0]  # (n_heads, key_len)
    ratio = (weights[:, :-1] / weights[:, 1:]).cpu()
    want = torch.tensor([math.exp(-slope) for slope in slopes.tolist()])[:, None].expand(4, 11)
    expect_close(ratio, want, where="weight of each key over that of the key after it", atol=1e-4)


@alibi_bias.property("a distance of thousands is exact")
def _(answer: Callable) -> None:
    slopes = torch.tensor([1 / 2, 1 / 256], device=choose_device())
    got = answer(slopes, 1, 3002)
    want = torch.tensor([-3001 * slope for slope in slopes.tolist()])  # an odd distance, which half precision rounds
    expect_close(got[:, 0, 0], want, where="the first of 3002 keys", rtol=1e-6, atol=0)


@alibi_bias.property("slopes may be any numbers, and gradients reach them")
def _(answer: Callable) -> None:
    slopes = torch.tensor([0.7, 0.0, -1.5], device=choose_device()).requires_grad_()
    got = answer(slopes, 2, 3)
    expect_close(got, one_by_one([0.7, 0.0, -1.5], 2, 3), where="slopes 0.7, 0 and -1.5", atol=1e-6)
    if not got.requires_grad:
        raise Mismatch("slopes that require gradients: expected a result that depends on them, got one without")
    (gradient,) = torch.autograd.grad(got.sum(), [slopes])
    expect_close(
        gradient, torch.tensor([-4.0] * 3), where="slopes 0.7, 0 and -1.5: gradient of the sum, for each", atol=1e-5
    )


@alibi_bias.property("more queries than keys are refused with a ValueError")
def _(answer: Callable) -> None:
    for query_len, key_len in ((2, 1), (9, 3)):
        expect_value_error(answer, some_slopes(2), query_len, key_len, where=sizes(2, query_len, key_len))


@alibi_bias.misconception(
    "a bonus for far tokens",
    "Your biases are positive, so far tokens get more attention than near ones. It is a penalty: minus slope times "
    "distance.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return -reference(slopes, query_len, key_len)


@alibi_bias.misconception(
    "later keys get a bonus",
    "Your bias goes on above 0 for keys that come later, where query position minus key position is negative. 0 is "
    "asked for there: clamp the distance.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return -slopes[:, None, None] * distances(query_len, key_len).to(slopes.device)


@alibi_bias.misconception(
    "later keys get a penalty",
    "You use the distance without its sign, so later keys get a penalty as well. 0 is asked for there: hiding them is "
    "the causal mask's work.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return -slopes[:, None, None] * distances(query_len, key_len).abs().to(slopes.device)


@alibi_bias.misconception(
    "later keys are hidden",
    "You put -inf where keys come later. That is the causal mask, which is applied besides; 0 is asked for there.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    future = distances(query_len, key_len).to(slopes.device) < 0
    return reference(slopes, query_len, key_len).masked_fill(future, -math.inf)


@alibi_bias.misconception(
    "queries counted from 0",
    "Your queries stand at positions 0, 1, 2, ... When tokens are in a cache, there are more keys than queries, and "
    "the queries are the last ones: they begin at key_len - query_len.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    refuse(query_len, key_len)
    past = (torch.arange(query_len)[:, None] - torch.arange(key_len)).clamp(min=0)
    return -slopes[:, None, None] * past.to(slopes.device)


@alibi_bias.misconception(
    "queries and keys exchanged",
    "Your last two axes are exchanged: a row is a query, a column is a key. Row 0, the first query, has no past.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return reference(slopes, query_len, key_len).transpose(1, 2)


@alibi_bias.misconception(
    "a slope for each key",
    "Your slopes line up with the last axis, the keys. They belong to the heads, axis 0: slopes[:, None, None].",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    past = distances(query_len, key_len).clamp(min=0).to(slopes.device)
    return -slopes * past.expand(len(slopes), -1, -1)


@alibi_bias.misconception(
    "a slope for each query",
    "Your slopes line up with the queries. They belong to the heads, axis 0: slopes[:, None, None].",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    past = distances(query_len, key_len).clamp(min=0).to(slopes.device)
    return -slopes[:, None] * past.expand(len(slopes), -1, -1)


@alibi_bias.misconception(
    "heads at the end",
    "Your heads are the last axis. The scores are (batch, n_heads, query_len, key_len), so heads come first here.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return reference(slopes, query_len, key_len).permute(1, 2, 0)


@alibi_bias.misconception(
    "an axis too many",
    "You return an axis of size 1 at the front, for the batch. It broadcasts, but (n_heads, query_len, key_len) is "
    "asked for.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return reference(slopes, query_len, key_len)[None]


@alibi_bias.misconception(
    "a token is one away from itself",
    "You count the distance from 1: a token's own key gets a penalty too. Its distance is 0.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    past = (distances(query_len, key_len) + 1).clamp(min=0).to(slopes.device)
    return -slopes[:, None, None] * past


@alibi_bias.misconception(
    "the distance squared",
    "Your penalty grows with the square of the distance. ALiBi's grows in a line: twice as far, twice the penalty.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    past = distances(query_len, key_len).clamp(min=0).to(slopes.device)
    return -slopes[:, None, None] * past**2


@alibi_bias.misconception(
    "slopes left out",
    "Your heads are all alike: each distance is taken away as it is. Multiply it by the head's slope.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    past = distances(query_len, key_len).clamp(min=0).to(slopes.device)
    return -torch.ones_like(slopes)[:, None, None] * past


@alibi_bias.misconception(
    "float64",
    "The numbers are right, but in float64. Keep the dtype of slopes, float32: integer distances times float32 slopes "
    "give that.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return reference(slopes.double(), query_len, key_len)


@alibi_bias.misconception(
    "too many queries accepted",
    "You accept more queries than keys: some queries would then stand at negative positions. Raise ValueError first.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    past = torch.arange(key_len - query_len, key_len)[:, None] - torch.arange(key_len)
    return -slopes[:, None, None] * past.clamp(min=0).to(slopes.device)


@alibi_bias.misconception(
    "clamped after multiplying",
    "You multiply first and clamp the product. With a negative slope, or with 0 where gradients are asked for, that "
    "clamps the wrong side. Clamp the distance, then multiply.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return (-slopes[:, None, None] * distances(query_len, key_len).to(slopes.device)).clamp(max=0)


@alibi_bias.misconception(
    "the diagonal of the first key",
    "You cut the later keys off along the diagonal that begins at the first key, as tril does by itself. When tokens "
    "are in a cache, the queries are the last places and the diagonal moves: diagonal=key_len - query_len.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return -slopes[:, None, None] * distances(query_len, key_len).tril().to(slopes.device)


@alibi_bias.misconception(
    "the past clamped away",
    "You clamp the wrong side: earlier keys get 0, and later ones a penalty. It is later keys that get 0.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return slopes[:, None, None] * distances(query_len, key_len).clamp(max=0).to(slopes.device)


@alibi_bias.misconception(
    "the past clamped away, later keys with a bonus",
    "You clamp the wrong side: earlier keys get 0, and later ones a bonus. It is later keys that get 0.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return -slopes[:, None, None] * distances(query_len, key_len).clamp(max=0).to(slopes.device)


@alibi_bias.misconception(
    "cut off from gradients",
    "The numbers are right, but gradients do not reach slopes: use the tensor itself, without detach, tolist or "
    "no_grad.",
)
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    return reference(slopes.detach(), query_len, key_len)


@alibi_bias.alternative
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    if key_len < query_len:
        raise ValueError(f"{query_len} queries do not fit {key_len} keys")
    positions = torch.arange(key_len, device=slopes.device)
    past = (positions[None, :] - positions[-query_len:, None]).clamp(max=0)
    return torch.einsum("h,qk->hqk", slopes, past.to(slopes.dtype))


@alibi_bias.alternative
def _(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    if query_len > key_len:
        raise ValueError("too many queries")
    # How many later places up to the query there are: ones below the diagonal, summed from the right.
    ones = torch.ones(key_len, key_len, device=slopes.device).tril(-1)
    past = ones.flip(1).cumsum(1).flip(1)[key_len - query_len :]
    return -(slopes.view(-1, 1, 1) * past)
