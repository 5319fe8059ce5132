"""Exercise 3: top-p."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, exact, expect_like, tensor
from ...families import batch_of_one, overwrites


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    if p == 1:
        return logits.clone()
    probabilities = logits.float().softmax(-1)
    ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    cut = before >= p
    in_place = cut.scatter(-1, ids, cut)
    return logits.masked_fill(in_place, -torch.inf)


INF = float("inf")


def logits_of(*probabilities: float) -> Tensor:
    """Logits with these probabilities, shifted, so that they are no logarithms of them."""
    return tensor(probabilities).log() + 1.5


def cases() -> list[tuple]:
    sizes = [((9,), 0.6), ((3, 12), 0.8), ((2, 3, 6), 0.5), ((4, 30), 0.9), ((4, 4), 0.3)]
    made = [(draw(*shape, seed=seed) * 2, p) for seed, (shape, p) in enumerate(sizes)]
    made += [(draw(2, 300, seed=20, dtype=dtype), p) for dtype in HALVES for p in (0.5, 0.9)]
    made += [(logits_of(0.1, 0.6, 0.3), p) for p in (0.05, 0.59, 0.61, 0.89, 0.91, 1.0)]
    made.append((tensor([[0.0, -30.0, -60.0], [1.0, 1.0, 1.0]]), 1.0))
    return [*made, (tensor([[2.0, -INF, 1.0, -INF]]), 0.9), (tensor([[1.0] * 8]), 0.55)]


exercise = Exercise(
    keep_top_p,
    points=4,
    minutes=12,
    cases=cases,
    returns=Tensor,
    hints=(
        "A token stays as long as all more probable ones together are still below p. Which sum is that, when the "
        "probabilities stand in falling order?",
        "values, ids = x.sort(dim=-1, descending=True, stable=True) says where each came from. mask.scatter(-1, ids, "
        "mask) puts a mask in that order back into the order of the vocabulary.",
    ),
)


def smallest_set(row: list[float], p: float) -> set[int]:
    """The ids that stay, one by one, from probabilities in float64."""
    probabilities = exact(torch.tensor(row)).softmax(-1).tolist()
    kept, total = set(), 0.0
    for token in sorted(range(len(row)), key=lambda token: (-probabilities[token], token)):
        if total >= p and p < 1:
            break
        kept.add(token)
        total += probabilities[token]
    return kept


def expect_kept(answer: Callable, logits: Tensor, p: float, where: str = "") -> None:
    got, size = answer(logits, p), logits.shape[-1]
    where = where or f"logits of shape {tuple(logits.shape)}"
    expect_like(got, shape=tuple(logits.shape), dtype=logits.dtype, where=f"{where}, p {p:g}")
    for row, mine in zip(logits.reshape(-1, size).tolist(), got.reshape(-1, size).tolist(), strict=True):
        kept = smallest_set(row, p)
        stays = {token for token, value in enumerate(mine) if value != -INF}
        finite = {token for token in kept if row[token] != -INF}
        if stays != finite:
            raise Mismatch(f"{where}, p {p:g}: expected to be kept: tokens {_few(finite)}; kept: {_few(stays)}")
        if other := [token for token in sorted(finite) if mine[token] != row[token]]:
            token = other[0]
            raise Mismatch(
                f"{where}, p {p:g}: a kept logit is not what it was: expected {row[token]:g} at token {token}, "
                f"got {mine[token]:g}"
            )


def _few(tokens: set[int]) -> str:
    shown = ", ".join(map(str, sorted(tokens)[:8]))
    return (f"{shown} and {len(tokens) - 8} more" if len(tokens) > 8 else shown) or "none"


@exercise.property("the smallest set that reaches p; the token with which it does stays in")
def smallest(answer: Callable) -> None:
    three = logits_of(0.1, 0.6, 0.3)
    for p in (0.05, 0.59, 0.61, 0.89, 0.91):
        expect_kept(answer, three, p, "probabilities 0.1, 0.6, 0.3")


@exercise.property("a token more probable than p is kept alone")
def one_stays(answer: Callable) -> None:
    expect_kept(answer, logits_of(0.02, 0.95, 0.03), 0.5, "probabilities 0.02, 0.95, 0.03")
    expect_kept(answer, tensor([[0.0, 40.0, 0.0], [0.0, 0.0, 40.0]]), 0.01)


@exercise.property("logits of any shape and dtype, each row by itself")
def any_shape(answer: Callable) -> None:
    for seed, (shape, p) in enumerate((((20,), 0.7), ((3, 15), 0.45), ((2, 2, 9), 0.85), ((5, 1), 0.3))):
        expect_kept(answer, 2 * draw(*shape, seed=40 + seed), p)
    expect_kept(answer, 0.1 * draw(3, 20, seed=45), 0.2)
    for dtype in HALVES:
        expect_kept(answer, 2 * draw(3, 12, seed=50, dtype=dtype), 0.6, f"logits in {str(dtype)[6:]}")


@exercise.property("of equally probable tokens, lower ids come first")
def equals(answer: Callable) -> None:
    expect_kept(answer, tensor([[1.0] * 8]), 0.55, "eight equal logits")
    expect_kept(answer, tensor([[1.0] * 8]), 0.5, "eight equal logits")
    expect_kept(answer, logits_of(0.2, 0.4, 0.2, 0.2), 0.7, "probabilities 0.2, 0.4, 0.2, 0.2")


@exercise.property("half precision: the probabilities are added up in float32")
def half_precision(answer: Callable) -> None:
    for dtype in HALVES:
        logits = torch.zeros(1, 1000, dtype=dtype)
        logits = logits.to(draw(1).device)
        got = int((answer(logits, 0.5) != -INF).sum())
        if abs(got - 500) > 1:
            raise Mismatch(f"1,000 equal logits in {str(dtype)[6:]}, p 0.5: expected 500 tokens to be kept, got {got}")


@exercise.property("p = 1 keeps all, however improbable")
def all_kept(answer: Callable) -> None:
    expect_kept(answer, tensor([[0.0, -30.0, -60.0]]), 1.0, "logits 0, -30, -60")
    expect_kept(answer, draw(2, 50, seed=3), 1.0)


@exercise.property("what is -inf already stays so")
def cut_before(answer: Callable) -> None:
    expect_kept(answer, tensor([[2.0, -INF, 1.0, -INF, 0.0]]), 0.8, "logits 2, -inf, 1, -inf, 0")


exercise.slips("""
    the token that reaches p is cut: before = ordered.cumsum(-1) - ordered -> before = ordered.cumsum(-1)
        The token with which the sum reaches p is cut. It stays in: compare the sum of all tokens *before* it with p.
    one too many: cut = before >= p -> cut = torch.cat([before[..., :1] > 1, before[..., :-1] >= p], -1)
        You keep one token more than is needed to reach p.
    the least probable first: descending=True, -> descending=False,
        You begin with the least probable tokens.
    the mask in the sorted order: cut.scatter(-1, ids, cut) -> cut
        Your mask stands in the order of probability and is laid over logits in the order of the vocabulary.
    gather for scatter: cut.scatter(-1, ids, cut) -> cut.gather(-1, ids)
        You use ids the wrong way round, as gather does. What stands at place i of the sorted row goes to ids[i]: that
        is scatter.
    sorted logits: return logits.masked_fill(in_place -> return logits.gather(-1, ids).masked_fill(cut
        Your result stands in the order of probability. Each token has to stay in its place.
    logits added up: probabilities = logits.float().softmax(-1) -> probabilities = logits.float()
        You add up logits. Make probabilities of them first.
    e to the logits: logits.float().softmax(-1) -> logits.float().exp()
        You add up e to the power of the logits, which do not sum to 1.
    over another axis: logits.float().softmax(-1) -> logits.float().softmax(0)
        Your softmax is over the first axis, which is the batch where there is one.
    min-p: cut = before >= p -> cut = ordered < p * ordered[..., :1]
        You keep tokens at least p times as probable as the best one. That is min-p.
    probability below p: cut = before >= p -> cut = ordered < p
        You cut each token whose own probability is below p. It is the sum that counts.
    below p, the best kept: cut = before >= p -> cut = (ordered < p) & (ordered < ordered[..., :1])
        You cut each token whose own probability is below p, but for the best. It is the sum that counts.
    the wrong side of 1: before >= p -> before >= 1 - p
        You compare with 1 - p.
    probabilities: return logits.masked_fill(in_place, -torch.inf) -> return (probabilities * ~in_place).to(logits)
        You return probabilities. Logits are asked for: what is kept stays as it is.
    logarithms of probabilities: return logits.masked_fill(in_place -> return logits.log_softmax(-1).where(~in_place
        You return logarithms of probabilities. The logits that are kept stay as they are.
    0 in place of -inf: , -torch.inf) -> , 0.0)
        What is cut becomes 0, and that is a logit like others. It has to be -inf.
    the others: masked_fill(in_place -> masked_fill(~in_place
        You cut what should stay, and keep the rest.
    half precision: logits.float().softmax(-1) -> logits.softmax(-1)
        In half precision your probabilities are rounded, and so are their sums: many tokens do not add up to p.
    p = 1 cuts: if p == 1 -> if p > 1
        For p = 1 you cut what is left when float32's sum has reached 1 by rounding. p = 1 keeps all.
""")
overwrites(exercise, "logits")
batch_of_one(exercise, "logits")


@exercise.misconception
def the_best_stays_and_the_one_that_reaches_p_is_cut(logits, p):
    """The best token always stays, but any other one with which the sum reaches p is cut. It stays in."""
    if p == 1:
        return logits.clone()
    ordered, ids = logits.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
    cut = ordered.cumsum(-1) > p
    cut[..., 0] = False
    return logits.masked_fill(cut.scatter(-1, ids, cut), -torch.inf)


@exercise.misconception
def equal_ones_all_stay(logits, p):
    """Tokens as probable as the last one kept all stay, so that the set is larger than it need be."""
    kept = keep_top_p(logits, p)
    least = kept.masked_fill(kept == -torch.inf, torch.inf).amin(-1, keepdim=True)
    return logits.masked_fill(logits < least, -torch.inf)


@exercise.misconception
def the_last_of_equals_first(logits, p):
    """Of equally probable tokens, yours are those with the higher ids. The lower ones come first."""
    return keep_top_p(logits.flip(-1), p).flip(-1)
