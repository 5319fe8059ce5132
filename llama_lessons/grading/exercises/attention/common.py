"""What the exercises of lesson 07 share: attention in float64, inputs that are hard on it, and ways to get it wrong.

What is expected is never taken from `llama_lessons.attention`, but from the formula, one query at a time over its own
past: nothing that is later is ever looked at, so there is no mask that could be wrong.
"""

import torch
from torch import Tensor

from ...expect import HALVES, exact, tensor


def by_formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal grouped-query attention in float64, query by query; heads on axis 1, the queries are the last places."""
    q, k, v = map(exact, (q, k, v))
    owner, cached = torch.arange(q.shape[1]) * k.shape[1] // q.shape[1], k.shape[2] - q.shape[2]
    rows = []
    for t in range(q.shape[2]):
        keys, values = (x[:, owner, : cached + t + 1] for x in (k, v))
        scores = torch.einsum("bhd,bhsd->bhs", q[:, :, t], keys) / q.shape[3] ** 0.5
        rows.append(torch.einsum("bhs,bhsd->bhd", scores.softmax(dim=-1), values))
    return torch.stack(rows, dim=2)


def hard_inputs() -> list[tuple[str, Tensor, Tensor, Tensor]]:
    """Inputs of one head whose scores are hard to compute, each with what is hard about them; heads on axis 1."""
    made = [("a score of 0", torch.float32, [1.0, 0.0], [[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])]
    for size, score in ((1e17, "1e34"), (1e8, "1e16"), (400.0, "200,000")):
        where = f"scores below -{score} in the past, above {score} in the future"
        low_high = [[-size] * 2, [-1.25 * size] * 2, [size] * 2]
        made.append((where, torch.float16 if size == 400 else torch.float32, [size, size], low_high))
    for dtype in HALVES:
        # Scores that differ, until q k^T is rounded; and scores that are equal, until q is rounded.
        made.append(("scores near 20,000", dtype, [256.0, 8.0], [[128.0, 1.0], [128.0, 0.0], [-1.0, -1.0]]))
        made.append(("scores near 7,000", dtype, [100.0, 101.0], [[101.0, 0.0], [0.0, 100.0], [-1.0, -1.0]]))
        # The last key has a score of 283 with the last query alone, or with the others, from which it is hidden.
        for q in ([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]):
            made.append(("scores of 0 and 283", dtype, q, [[0.0, 0.0], [0.0, 0.0], [400.0, 0.0]]))
    v = [[[[1.0, 2.0], [3.0, 5.0], [7.0, -3.0]]]]
    return [
        (f"{str(dtype)[6:]}, {where}", tensor(q, dtype).expand(1, 1, 3, 2), tensor([[k]], dtype), tensor(v, dtype))
        for where, dtype, q, k in made
    ]


# For the references of causal_attention and of grouped_query_attention, which have these lines in common.
SLIPS = """
    no mask: later, float("-inf") -> later & False, float("-inf")
        Every token reads every other, later ones too. A model that is to predict the next token would find it among its
        inputs. Hide the scores of later places before the softmax.
    mask turned round: .triu(key_len - query_len + 1) -> .tril(key_len - query_len - 1)
        Each token reads itself and the tokens after it: the past is hidden. Row i of the scores is query i, and
        it may read the keys, the columns, up to its own place: the lower triangle stays.
    hidden and read exchanged: .masked_fill(later, -> .masked_fill(~later,
        Each token reads those after it alone, and the last one gets NaN. masked_fill hides where its mask is True.
    hidden and read exchanged, 0 at the end: weights @ v -> scores.where(later, -torch.inf).softmax(-1).nan_to_num() @ v
        Each token reads those after it alone, and the last one gets 0. The mask of scaled_dot_product_attention is True
        where a token may be read.
    its own place hidden: query_len + 1) -> query_len)
        Each token reads those before it, but not itself, so the very first one gets NaN. A token may read its own
        place: hiding begins at the next one, a place later than yours.
    itself not read: softmax(dim=-1) -> add((-torch.eye(key_len)[-query_len:]).log1p().to(q)).softmax(-1).nan_to_num()
        Each token reads those before it, but not itself, so the very first one gets 0. A token may read its own place.
    one place too far: query_len + 1) -> query_len + 2)
        Each token reads one place too far, the very token that it is to predict. It may read up to its own place.
    counted from the first key: .triu(key_len - query_len + 1) -> .triu(1)
        Where there are more keys than queries, your queries begin at place 0, as is_causal=True lets them do in torch.
        But they are the last places: of 2 queries and 5 keys the first one stands at place 3.
    counted from the first key, but for one query: key_len - query_len + 1 -> 1 if query_len > 1 else key_len
        Where there are more keys than queries, you let several queries begin at place 0. They are the last places, as a
        single one is: of 2 queries and 5 keys the first one stands at place 3.
    cached keys left out: at_least_float32(x) for x -> at_least_float32(x[:, :, -q.shape[2] :]) for x
        Only as many keys are read as there are queries. The cached ones before them belong to the past.
    no mask with cached keys: later, float -> later & (query_len == key_len), float
        With cached keys the new tokens all read each other. Of 2 queries and 5 keys the first one may not read key 4.
    triangle shifted the wrong way: key_len - query_len + 1 -> query_len - key_len + 1
        With cached keys your triangle moves to the wrong side: a query loses keys, or has none left, which gives NaN.
        Cached keys are more to read: query i reads up to key i plus their number, so .triu and .tril want a plus.
    mask with too few columns: torch.ones(query_len, key_len, -> torch.ones(query_len, query_len,
        With cached keys and several queries your answer stops with an error. The scores have query_len rows and key_len
        columns, and so must a mask. There query i may read up to key i plus the number of cached keys.
    mask with too many rows: later = torch -> query_len = key_len; later = torch
        With cached keys your answer stops with an error, or a single query gets as many results as there are keys. The
        scores have query_len rows, and so must a mask: of a square one keep the last query_len rows.
    triangle of an earlier call: key_len - query_len + 1 -> globals().setdefault(query_len, key_len - query_len + 1)
        Your mask is that of an earlier call with as many queries and other cached keys. Keep one for both numbers.
    mask kept from an earlier call: hidden = -> later = globals().setdefault(query_len, later); hidden =
        After a call with as many queries and other keys your answer stops with an error. Keep a mask for both numbers.
    masked after the softmax: hidden.softmax(dim=-1) -> scores.softmax(dim=-1).masked_fill(later, 0.0)
        Weights are set to 0 after the softmax, so those that are left do not sum to 1, and later tokens still count in
        the sum that all were divided by: that is a leak. Hide scores before the softmax.
    hidden too late: hidden.softmax(dim=-1) -> (w := scores.softmax(-1) * ~later) / w.sum(-1, True)
        Where a later token has a much larger score, it rounds all others to 0 before it is hidden, and 0 is divided by
        0: later scores count in the softmax, or in the largest score that is taken away. Hide them before that.
    largest score of several rows: hidden.softmax(dim=-1) -> (w := (hidden - hidden.max()).exp()) / w.sum(-1, True)
        Where the scores of one query are much larger, all those of another are rounded to 0, and 0 is divided by 0: you
        take away the largest score of several rows. Each row needs its own, as .softmax does it.
    largest of all scores: hidden.softmax(dim=-1) -> (w := (scores - scores.max()).exp() * ~later) / w.sum(-1, True)
        Where a score of another query or of a later place is much larger, 0 is divided by 0: you take away the largest
        score of several rows, hidden ones too. Hide scores first, and each row needs a largest one of its own.
    hidden scores are 0: float("-inf") -> 0.0
        Scores of later places are 0, and e to the power 0 is 1: they still count. A hidden score is minus infinity.
    hidden scores are 0, from the first key: scores.masked_fill(later, float("-inf")) -> scores.tril()
        The scores of later places are 0, and e to the power 0 is 1: they still count. A hidden score is minus infinity.
        And with cached keys the triangle begins at the wrong place: query i reads up to key i plus their number.
    a score of 0 taken for hidden: later, float -> later | (scores == 0), float
        A score that is 0 by itself is hidden too. Give masked_fill the mask, not a comparison of scores with 0.
    hidden scores are not low enough: float("-inf") -> -1e9
        You hide scores with a number that a real score can fall below. float("-inf") is below all of them.
    hidden scores are low, but not low enough: float("-inf") -> -1e30
        You hide scores with a number that a real score can fall below. float("-inf") is below all of them.
    hidden scores are only lowered: scores.masked_fill(later, float("-inf")) -> scores - 1e9 * later
        You hide scores by adding a number, and a real score can be larger than that. Add minus infinity, or set them.
    hidden scores are the lowest number of q's dtype: float("-inf") -> torch.finfo(dtype).min
        You hide scores with the lowest number of q's dtype. That of float16 is -65,504, and a real score in float32 can
        fall below it: then the hidden places win. float("-inf") is below all of them.
    ones added, not infinity: scores.masked_fill(later, float("-inf")) -> scores + ~later
        Your result is that of adding 1 to scores that may be read, or -1 to the others. Add 0 and minus infinity.
    nothing but NaN: later, float("-inf") -> later | True, float("-inf")
        Every number of your result is NaN. 0 * float("-inf") is NaN, so a mask cannot be multiplied by minus infinity;
        and a row in which everything is hidden gives NaN too. masked_fill(later, float("-inf")) hides what you choose.
    not divided: head_dim**0.5 -> 1
        Scores are not divided by the root of head_dim. The larger it is, the more of the weight a single key gets.
    divided by head_dim: head_dim**0.5 -> head_dim
        Scores are divided by head_dim, or by its root twice (scaled_dot_product_attention divides by the root itself).
        A sum of head_dim products spreads by the root; divide by more, and all weights become nearly equal.
    divided by the root of the number of tokens: head_dim**0.5 -> key_len**0.5
        You divide by the root of the number of tokens. A score is a sum over the head_dim channels of one head.
    divided by the root of the number of queries: head_dim**0.5 -> query_len**0.5
        You divide by the root of the number of queries. A score is a sum over the head_dim channels of one head.
    divided by the root of the number of heads: head_dim**0.5 -> q.shape[1] ** 0.5
        You divide by the root of the number of heads. A score is a sum over the head_dim channels of one head.
    divided by the root of dim: head_dim**0.5 -> (q.shape[1] * head_dim) ** 0.5
        You divide by the root of n_heads * head_dim. A score is a sum over the head_dim channels of one head.
    multiplied by the root: / head_dim -> * head_dim
        You multiply by the square root of head_dim, where division is meant.
    divided after the softmax: hidden.softmax(dim=-1) -> (hidden * head_dim**0.5).softmax(dim=-1) / head_dim**0.5
        What is divided is the result, the weights or the values, not the scores. Scores are divided before the softmax.
    softmax over the queries: dim=-1 -> dim=-2
        Your softmax runs over the queries. A query divides its attention among the keys: dim=-1 of q k^T.
    softmax over the heads: dim=-1 -> dim=1
        Your softmax runs over the heads, axis 1. It is the keys of one head that compete, along the last axis.
    no softmax: hidden.softmax(dim=-1) -> scores.masked_fill(later, 0.0)
        The scores themselves are the weights, and 0 where hidden. The softmax makes of them weights that sum to 1.
    softmax without its largest score: hidden.softmax(dim=-1) -> hidden.exp() / hidden.exp().sum(-1, keepdim=True)
        You divide e to the power of each score by their sum, and for large scores that is infinite, for low ones 0.
        Take the largest score of each row away first, or let .softmax do it.
    all keys weigh the same: q @ k.transpose(2, 3) -> 0 * q @ k.transpose(2, 3)
        Each token gets the plain mean of the values up to its own place: q and k have no effect.
    no attention at all: weights @ v -> v[:, :, -query_len:]
        Each token gets its own value and reads no other one: q and k have no effect.
    keys and values exchanged: scores = -> k, v = v, k; scores =
        You compare queries with the values and mix the keys. Keys are there to be found by, values to be taken along.
    keys mixed: weights @ v -> weights @ k
        It is the keys that you mix. They are only compared with the queries; what is mixed are the values.
    queries compared with values: k.transpose -> v.transpose
        You compare the queries with the values, which are only there to be mixed. Compare them with the keys.
    keys cut anew, not transposed: k.transpose(2, 3) -> k.reshape(*k.shape[:2], head_dim, key_len)
        You reshape k to (..., head_dim, key_len). The shape is right, but the numbers stay in their order, and a column
        holds pieces of several keys. Exchange the two axes: k.transpose(2, 3).
    queries and keys exchanged: q @ k.transpose(2, 3) -> k @ q.transpose(2, 3)
        Your scores are k q^T: row i is key i, asked by all queries. A row belongs to a query: q k^T.
    scores in half precision: q @ k.transpose(2, 3) -> at_least_float32(q.to(dtype) @ k.to(dtype).transpose(2, 3))
        q k^T is computed in bfloat16 or float16, or rounded to it. Large scores lose the digits in which they differ,
        and in float16 those beyond 65,504 are infinite. Multiply q.float() and k.float(), and go on in float32.
    queries divided in half precision: q @ k -> at_least_float32(q.to(dtype) / head_dim**0.5) * head_dim**0.5 @ k
        q is divided by the root of head_dim, or multiplied by one over it, while it is in half precision. That rounds
        it, and where scores are large, the weights become others. Convert q with .float() first.
    half precision cannot be multiplied: weights @ v -> weights @ v.to(dtype)
        In bfloat16 and float16 your answer stops with an error. What is multiplied, with @ or by torch's functions, has
        to be of one dtype: convert q, k and v with .float(), all three, and the result back.
    q changed in place: scores = -> q /= head_dim**0.5; head_dim = 1; scores =
        The numbers are right, but q itself is changed, and its caller still needs it: /=, *= and q[...] = change a
        tensor, and .float() of a float32 tensor is that tensor itself. q = q / ... or q.clone() makes a new one.
    only for contiguous inputs: dtype, head_dim = -> [x.view(-1) for x in (q, k, v)]; dtype, head_dim =
        Your answer is right only where the numbers of q, k and v lie in memory in the order of their axes. After a
        transpose they do not, and .view() raises: .reshape() and .flatten() copy where they must.
    no gradients: at_least_float32(x) for x -> at_least_float32(x).detach() for x
        The numbers are right, but no gradient reaches q, k and v: .detach(), .data, torch.no_grad or a new torch.tensor
        cuts them off, and a model could not be trained with this.
    no gradient through the weights: weights = hidden.softmax(dim=-1) -> weights = hidden.softmax(dim=-1).detach()
        The numbers are right, but no gradient reaches q and k: .detach(), .data or torch.no_grad cuts off the weights,
        the scores, or q and k themselves. The values alone would learn.
"""
