"""Ways to get attention wrong that have the same names in both exercises that ask for it."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from .common import at_least_float32, attend, places_up_to

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

SLIPS: list[tuple[str, str, Attention]] = []


def add_slips(exercise: Exercise, answer_with: Callable[[Attention], Attention]) -> None:
    """Add each slip as a misconception of the exercise.

    `answer_with` makes an answer of a slip, which takes as many heads in k and v as in q, all on axis 1.
    """
    for name, diagnosis, attention in SLIPS:
        exercise.misconception(name, diagnosis)(answer_with(attention))


def slip(name: str, diagnosis: str) -> Callable[[Attention], Attention]:
    def add(attention: Attention) -> Attention:
        SLIPS.append((name, diagnosis, attention))
        return attention

    return add


def all_scores(q: Tensor, k: Tensor) -> Tensor:
    """Scores of all keys, later ones too."""
    return at_least_float32(q) @ at_least_float32(k).transpose(-2, -1) / q.shape[-1] ** 0.5


def mixed(weights: Tensor, v: Tensor) -> Tensor:
    return (weights @ at_least_float32(v)).to(v.dtype)


# ---------------------------------------------------------------------------------------------- the mask


@slip(
    "no mask",
    "Every token reads every other, later ones too. A model that is to predict the next token would find it lying "
    "there. Hide the scores of later places before the softmax.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=torch.ones_like(places_up_to(q, k)))


@slip(
    "mask turned round",
    "Each token reads itself and the tokens after it: your mask hides the past. Row i of the scores is query i, and "
    "it may read the keys, the columns, up to its own place: the lower triangle stays.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=~places_up_to(q, k, ahead=-1))


@slip(
    "hidden and read exchanged",
    "What a token may read is hidden, and it reads the tokens after it; the last one has nothing left and gets NaN. "
    "masked_fill hides where its mask is True.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=~places_up_to(q, k))


@slip(
    "hidden and read exchanged, and 0 from nothing",
    "What a token may read is hidden, and it reads the tokens after it; the last one has nothing left and gets 0. "
    "scaled_dot_product_attention reads where its mask is True, and hides where it is False.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=~places_up_to(q, k)).nan_to_num()


@slip(
    "its own place hidden",
    "Each token reads the tokens before it, but not itself, so the first one has nothing to read and gets NaN. A token "
    "knows itself: it is the next one that is hidden. triu(..., diagonal=1), not 0.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=places_up_to(q, k, ahead=-1))


@slip(
    "one place too far",
    "Each token reads one place too far, the very token that it is to predict. A token may read its own place and "
    "earlier ones.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=places_up_to(q, k, ahead=1))


@slip(
    "counted from the first key",
    "Where there are more keys than queries, you let several queries begin at place 0, as is_causal=True has it in "
    "torch: the first one reads only key 0. But they are the last places: of 2 queries and 5 keys the first one stands "
    "at place 3.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=torch.ones_like(places_up_to(q, k)).tril())


@slip(
    "no mask with cached keys",
    "Where there are more keys than queries, the new tokens all read each other. A single new token may read every "
    "key, but of 2 queries and 5 keys the first one may not read key 4.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    allowed = places_up_to(q, k)
    return attend(q, k, v, allowed=allowed if q.shape[2] == k.shape[2] else torch.ones_like(allowed))


@slip(
    "triangle shifted the wrong way",
    "With cached keys your triangle moves to the wrong side: a query loses keys, or has none left, which gives NaN. "
    "Cached keys are more to read: query i reads up to key i plus their number, so .triu and .tril want a plus.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=places_up_to(q, k, ahead=-2 * (k.shape[-2] - q.shape[-2])))


@slip(
    "masked after the softmax",
    "You set weights to 0 after the softmax. The weights that are left no longer sum to 1, and later tokens still "
    "count in the sum that everything was divided by: that is a leak. Hide scores before the softmax.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return mixed(all_scores(q, k).softmax(dim=-1) * places_up_to(q, k), v)


@slip(
    "masked after the softmax, and divided again",
    "You set weights to 0 after the softmax and divide by what is left. With ordinary scores that is right, but where "
    "a later token has a much larger score, the softmax has rounded all others to 0: nothing is left to divide by. "
    "Hide scores before the softmax.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = all_scores(q, k).softmax(dim=-1) * places_up_to(q, k)
    return mixed(weights / weights.sum(dim=-1, keepdim=True), v)


@slip(
    "hidden scores are 0",
    "You set the scores of later places to 0, or multiply them by 0. The softmax makes e to the power of a score, and "
    "e to the power 0 is 1: they still count. A hidden score is minus infinity.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, hidden=0.0)


@slip(
    "hidden scores are not low enough",
    "You hide scores with a number that a real score can fall below: then the hidden places win. "
    'float("-inf") is below all of them, in every dtype.',
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, hidden=-1e4)


@slip(
    "ones and zeros added",
    "You add 1 to scores that may be read and 0 to the others. That shifts the shares a little, and hides nothing. "
    "What is added has to be 0 and minus infinity.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return mixed((all_scores(q, k) + places_up_to(q, k)).softmax(dim=-1), v)


@slip(
    "nothing but NaN",
    'Every number of your result is NaN. 0 * float("-inf") is NaN, so a mask cannot be multiplied by minus infinity; '
    'and a row in which everything is hidden gives NaN too. masked_fill(later, float("-inf")) hides what you choose.',
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, allowed=torch.zeros_like(places_up_to(q, k)))


# ------------------------------------------------------------------------------------------- the divisor


@slip(
    "not divided",
    "Scores are not divided by the square root of head_dim. They spread by that root, and the softmax gives nearly "
    "everything to one key.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, divisor=1.0)


@slip(
    "divided by head_dim",
    "Scores are divided by head_dim, not by its square root, or by the root twice (scaled_dot_product_attention "
    "divides by itself). A sum of head_dim products spreads by the root; divide by more, and all weights become nearly "
    "equal.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, divisor=q.shape[-1])


@slip(
    "divided by the root of the length",
    "You divide by the root of the number of keys. A score is a sum over the channels of a head, q.shape[-1] of them, "
    "and it is this sum that grows.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, divisor=k.shape[-2] ** 0.5)


@slip(
    "divided by the root of the number of heads",
    "You divide by the root of the number of heads. A score is a sum over the channels of one head, q.shape[-1] of "
    "them, and it is this sum that grows.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, divisor=q.shape[1] ** 0.5)


@slip(
    "divided by the root of dim",
    "You divide by the root of n_heads * head_dim. A score is a sum over the channels of one head, head_dim of them.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, divisor=(q.shape[1] * q.shape[-1]) ** 0.5)


@slip(
    "multiplied by the root",
    "You multiply by the square root of head_dim, where division is meant.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, divisor=q.shape[-1] ** -0.5)


@slip(
    "divided after the softmax",
    "You divide the weights, not the scores: they sum to one over the root of head_dim, and the softmax saw scores "
    "that were too large.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (attend(*map(at_least_float32, (q, k, v)), divisor=1.0) / q.shape[-1] ** 0.5).to(q.dtype)


# ------------------------------------------------------------------------------ the softmax and the roles


@slip(
    "softmax over the queries",
    "Your softmax runs over the queries, axis -2: each column sums to 1. A query shares out its attention among the "
    "keys, so each row has to: dim=-1.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, softmax_dim=-2)


@slip(
    "softmax over the heads",
    "Your softmax runs over the heads, axis 1, as if they competed. Heads work side by side; the keys of one head "
    "compete, along the last axis.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, softmax_dim=1)


@slip(
    "no softmax",
    "The scores themselves are the weights, with 0 where they are hidden. They may be negative and sum to anything; "
    "the softmax makes shares of them.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return mixed(all_scores(q, k) * places_up_to(q, k), v)


@slip(
    "keys and values exchanged",
    "You compare queries with the values and mix the keys. Keys are there to be found by, values to be taken along.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, v, k)


@slip(
    "queries and keys exchanged",
    "Your scores are k q^T: row i is key i, asked by all queries. A row belongs to a query: q k^T.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(k, q, v)


# ------------------------------------------------------------------------------------ dtype and gradients


@slip(
    "float32 goes out",
    "The numbers are right, but in float32, where q was bfloat16 or float16. Convert the result back to the dtype of "
    "q: the rest of the model runs in it.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(*map(at_least_float32, (q, k, v)))


@slip(
    "no gradients",
    "The numbers are right, but no gradient reaches q, k and v: .detach(), .data, torch.no_grad or a new torch.tensor "
    "cuts them off, and the model could not be trained with this.",
)
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q.detach(), k.detach(), v.detach())
