"""Exercise 2: what ALiBi adds to the scores."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import extrapolation

from ...exercise import Exercise
from ...expect import Mismatch, draw, exact, expect_close, expect_gradients, expect_like, expect_value_error, tensor
from ...families import no_gradient
from .common import one_changed


def alibi_bias(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    if query_len > key_len:
        raise ValueError("more queries than keys")
    keys = torch.arange(key_len, device=slopes.device)
    queries = torch.arange(key_len - query_len, key_len, device=slopes.device)
    distance = queries[:, None] - keys
    past = distance.clamp(min=0)
    penalty = slopes[:, None, None] * past
    return -penalty


def cases() -> list[tuple]:
    """Slopes of the rule and others, with and without a cache, far keys, and more queries than keys."""
    sizes = [(1, 1), (3, 3), (4, 4), (2, 5), (1, 6), (5, 7)]
    made = [(extrapolation.alibi_slopes(heads).to(draw(1).device), *size) for heads in (2, 4) for size in sizes]
    made += [(draw(3, seed=1).abs(), 2, 9), (draw(5, seed=2).requires_grad_(), 3, 4), (draw(3, seed=3).abs(), 2, 2102)]
    return [*made, (draw(2, seed=4), 4, 3)]


exercise = Exercise(
    alibi_bias,
    points=4,
    minutes=9,
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


def exact_bias(slopes: Tensor, query_len: int, key_len: int) -> Tensor:
    """Number by number, but for the heads."""
    first = key_len - query_len
    past = [[float(max(first + q - k, 0)) for k in range(key_len)] for q in range(query_len)]
    return torch.stack([-slope * torch.tensor(past, dtype=torch.float64) for slope in exact(slopes)])


def name_of(n_heads: int, query_len: int, key_len: int) -> str:
    return f"{n_heads} slope{'s' * (n_heads > 1)}, query_len {query_len}, key_len {key_len}"


def expect_bias(answer: Callable, slopes: Tensor, query_len: int, key_len: int) -> None:
    where = name_of(len(slopes), query_len, key_len)
    want = exact_bias(slopes, query_len, key_len)
    expect_close(answer(slopes, query_len, key_len), want, where=where, rtol=1e-6, atol=0)


@exercise.property("one bias for each head, query and key, in float32")
def shape_and_dtype(answer: Callable) -> None:
    for n_heads, query_len, key_len in ((1, 1, 1), (8, 3, 3), (3, 1, 7), (4, 2, 9), (2, 6, 6)):
        got = answer(draw(n_heads), query_len, key_len)
        shape = (n_heads, query_len, key_len)
        expect_like(got, shape=shape, dtype=torch.float32, where=name_of(*shape))


@exercise.property("the worked example: one head, slope 1/2, three tokens")
def three_tokens_by_hand(answer: Callable) -> None:
    want = torch.tensor([[[0, 0, 0], [-0.5, 0, 0], [-1, -0.5, 0]]])
    expect_close(answer(tensor([0.5]), 3, 3), want, where="slope 0.5, 3 queries, 3 keys", atol=1e-7)


@exercise.property("minus slope times distance, in each head")
def formula(answer: Callable) -> None:
    for n_heads, length in ((1, 2), (2, 5), (4, 4), (8, 16), (40, 3)):
        expect_bias(answer, draw(n_heads).abs(), length, length)


@exercise.property("the queries are the last ones: one token after a cache gets the last row")
def queries_after_a_cache(answer: Callable) -> None:
    for query_len, key_len in ((1, 2), (1, 9), (3, 8), (4, 5)):
        expect_bias(answer, draw(4).abs(), query_len, key_len)


@exercise.property("keys that come later get 0: hiding them is the mask's work")
def later_keys(answer: Callable) -> None:
    for query_len in (4, 2):
        later = torch.ones(query_len, 4, dtype=torch.bool).triu(5 - query_len)
        got = answer(draw(2).abs(), query_len, 4).cpu()[:, later]
        if (got != 0).any():
            where = f"query_len {query_len}, key_len 4"
            raise Mismatch(f"{where}: expected 0 for later keys, got {got.flatten().tolist()[:3]} ...")


@exercise.property("distances of thousands are exact, and any number of queries is served")
def large_sizes(answer: Callable) -> None:
    for query_len, key_len in ((1, 602), (2, 2102), (150, 200)):
        expect_bias(answer, tensor([1 / 2, 1 / 256]), query_len, key_len)


@exercise.property("slopes may be any numbers, and gradients reach them")
def any_slopes(answer: Callable) -> None:
    slopes = tensor([0.7, 0.0, -1.5])
    expect_bias(answer, slopes, 2, 3)
    expect_gradients(answer, exact_bias, slopes, 2, 3, names=("slopes",))


@exercise.property("nothing is kept from call to call")
def nothing_is_kept(answer: Callable) -> None:
    for args in one_changed((draw(3), 2, 5), (draw(3, seed=1), 4, 6)):
        expect_bias(answer, *args)


@exercise.property("more queries than keys are refused with a ValueError")
def more_queries_than_keys(answer: Callable) -> None:
    for query_len, key_len in ((2, 1), (9, 3), (4, 3)):
        where = f"query_len {query_len}, key_len {key_len}"
        expect_value_error(answer, tensor([0.5, 0.25]), query_len, key_len, where=where)


exercise.slips("""
    later keys get a bonus, and queries counted from 0: past = distance.clamp(min=0) -> past = distance - queries[0]
        Your bias is not 0 for keys that come later, and your queries stand at 0, 1, 2, ... Clamp the distance at 0, and
        let the queries be the last ones: with tokens in a cache they begin at key_len - query_len.
    powers of e: -penalty -> (-penalty).exp()
        You return e to the power of the bias. Softmax does that itself: the bias is added to the scores before it.
    a bonus for far tokens: -penalty -> penalty
        Your biases are positive where slopes are: far tokens get more attention. A penalty is -slope * distance.
    later keys get a bonus: distance.clamp(min=0) -> distance
        For keys that come later, where query position minus key position is negative, your bias is a bonus (with
        positive slopes). 0 is asked for there: clamp the distance.
    later keys get a penalty: distance.clamp(min=0) -> distance.abs()
        You use the distance without its sign, so later keys get a penalty as well. 0 is asked for there: the causal
        mask hides them.
    later keys are hidden: -penalty -> (-penalty).masked_fill(distance < 0, -torch.inf)
        You put -inf where keys come later. That is the causal mask, which is applied besides; 0 is asked for there.
    queries counted from 0: torch.arange(key_len - query_len, key_len, -> torch.arange(query_len,
        Your queries stand at positions 0, 1, 2, ... When tokens are in a cache, there are more keys than queries, and
        the queries are the last ones: they begin at key_len - query_len.
    all queries at the last place: queries[:, None] -> (0 * queries[:, None] + key_len - 1)
        Your rows are all alike: each query is taken to be the last token. They stand at the last query_len places.
    the key's position alone: -penalty -> slopes[:, None, None] * keys.expand(query_len, -1)
        Your bias is slope times key position, the same for each query. (BLOOM's code has it so: softmax ignores
        what all keys of a query share.) Here minus slope times distance is asked for, and 0 for later keys.
    queries and keys exchanged: * past -> * past.T
        Your last two axes are exchanged: a row is a query, a column is a key. Axis 1 is query_len long, axis 2 key_len.
    a slope for each key: slopes[:, None, None] -> slopes
        Your slopes line up with the last axis, the keys, and seldom fit it. They belong to the heads:
        slopes[:, None, None] puts them on axis 0.
    a slope for each query: slopes[:, None, None] -> slopes[:, None]
        Your slopes line up with the queries, and seldom fit them. They belong to the heads:
        slopes[:, None, None] puts them on axis 0.
    slopes along the keys: slopes[:, None, None] * past -> slopes * past.expand(len(slopes), -1, -1)
        There is an axis for the heads, but your slopes line up with the last one, the keys. Give them two axes of size
        1 behind their own: slopes[:, None, None].
    slopes along the queries: slopes[:, None, None] * past -> slopes[:, None] * past.expand(len(slopes), -1, -1)
        There is an axis for the heads, but your slopes line up with the queries. Give them two axes of size 1 behind
        their own: slopes[:, None, None].
    heads at the end: slopes[:, None, None] * past -> slopes * past[..., None]
        Your heads are the last axis. Scores are (batch, n_heads, query_len, key_len), so heads come first here.
    an axis too many: * past -> * past[None, None]
        Your result has one more axis at the front. (n_heads, query_len, key_len) is asked for.
    a token is one away from itself: queries[:, None] - keys -> queries[:, None] - keys + 1
        Your distances are one too large: a token's own key gets a penalty too. Its distance is 0.
    the last key is one away too few: queries[:, None] - keys -> queries[:, None] - keys - 1
        Your distances are one too small: the key before a token gets no penalty. Its distance is 1.
    the distance squared: * past -> * past**2
        Your penalty grows with the square of the distance. ALiBi's grows in a line: twice as far, twice the penalty.
    slopes left out: slopes[:, None, None] -> torch.ones_like(slopes)[:, None, None]
        Your heads are all alike: each distance is taken away as it is. Multiply it by the head's slope.
    slopes of the rule, whatever they are: slopes[ -> extrapolation.alibi_slopes(len(slopes)).to(slopes)[
        Your slopes are those of exercise 1 for as many heads, whatever slopes holds. Use the argument.
    the sizes of slopes: slopes[ -> slopes.abs()[
        A negative slope comes out as if it were positive. Slopes may be any numbers: use them with their sign.
    distances in half precision: * past -> * past.half()
        Far keys get a distance that is rounded: float16 holds whole numbers up to 2048. Keep integers, or float32.
    float64: slopes[ -> slopes.double()[
        The numbers are right, but they come in float64. Keep the dtype of slopes, float32: integer distances times
        float32 slopes give that.
    slopes overwritten: -penalty -> slopes.neg_()[:, None, None] * past
        The numbers are right, but slopes are changed in place, and their owner needs them. -slopes is a new tensor.
    too many queries accepted: query_len > key_len -> False
        You accept more queries than keys: some queries would then stand at negative positions. Raise ValueError first.
    as many queries as keys refused: query_len > key_len -> query_len >= key_len
        You refuse a text without a cache, which has as many queries as keys. Only more queries than keys are refused.
    clamped after multiplying: -penalty -> (-slopes[:, None, None] * distance).clamp(max=0)
        With a negative slope your biases are wrong, as if the product were clamped. The distance is what may not be
        below 0: clamp it first, then multiply.
    the diagonal of the first key: distance.clamp(min=0) -> distance.tril()
        You cut the later keys off along the diagonal that begins at the first key, as tril does by itself. When tokens
        are in a cache, the queries are the last places and the diagonal moves: diagonal=key_len - query_len.
    the past clamped away: distance.clamp(min=0) -> -distance.clamp(max=0)
        Earlier keys get 0 in your result, and later ones a penalty. It is later keys that get 0: the distance is query
        position minus key position, at least 0.
    the past clamped away, later keys with a bonus: distance.clamp(min=0) -> distance.clamp(max=0)
        Earlier keys get 0 in your result, and later ones a bonus. It is later keys that get 0.
""")
no_gradient(exercise, "slopes", "Use the tensor itself; tolist() cuts it off as well.")
