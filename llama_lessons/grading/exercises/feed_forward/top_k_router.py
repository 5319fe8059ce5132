"""Exercise 7: which experts a token is sent to, and how much each counts."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import (
    HALVES,
    Mismatch,
    at_least_float32,
    draw,
    exact,
    expect_close,
    expect_gradients,
    expect_like,
    expect_value_error,
    tensor,
)
from ...families import another_error, no_gradient


def top_k_router(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    n_experts = logits.shape[-1]
    if not 1 <= k <= n_experts:
        raise ValueError("k must be from 1 to the number of experts")
    scores = at_least_float32(logits)
    best, experts = scores.topk(k, dim=-1)
    weights = best.softmax(dim=-1)
    return weights.to(logits.dtype), experts


def cases() -> list[tuple]:
    """Tokens and experts in all shapes, as many of each, half precision, refusals."""
    sizes = [((5, 8), 2), ((2, 3, 6), 3), ((4, 4), 2), ((7,), 1), ((3, 5), 5), ((6, 4), 4), ((2, 16), 2)]
    made = [(draw(*shape, seed=seed) * 2, k) for seed, (shape, k) in enumerate(sizes)]
    made[0][0].requires_grad_()
    halves = [(draw(4, 8, seed=20, dtype=dtype), 2) for dtype in HALVES]
    made.append((tensor([[0.0, 3.0, -1.0, 3.0], [2.0, 2.0, 2.0, 2.0]]), 2))
    return [*made, *halves, (draw(3, 4), 0), (draw(3, 4), 5), (draw(5, 3, seed=8).t(), 2)]


exercise = Exercise(
    top_k_router,
    points=4,
    minutes=8,
    cases=cases,
    returns=(Tensor, Tensor),
    hints=(
        "x.topk(k) gives the k largest of the last axis and where they stand, the largest first.",
        "The weights of the chosen experts should sum to 1. A softmax over all experts sums to 1 over all of them, so "
        "think of the order of the two steps.",
    ),
)


def expected_weights(logits: Tensor, k: int) -> Tensor:
    best = exact(logits).sort(dim=-1, descending=True).values[..., :k].exp()
    return best / best.sum(dim=-1, keepdim=True)


@exercise.property("weights and experts of shape (..., k), in the dtype of logits and int64")
def shapes(answer: Callable) -> None:
    for shape, k in (((5, 8), 2), ((2, 3, 6), 3), ((4,), 4), ((4, 1, 8), 2)):
        for dtype in (torch.float32, *HALVES):
            logits = draw(*shape, dtype=dtype)
            weights, experts = answer(logits, k)
            where = f"logits of shape {shape} in {str(dtype)[6:]}, k {k}"
            expect_like(weights, shape=(*shape[:-1], k), dtype=dtype, where=f"weights, {where}")
            expect_like(experts, shape=(*shape[:-1], k), dtype=torch.int64, where=f"experts, {where}")


@exercise.property("the k experts with the highest logits, the best first")
def best_experts(answer: Callable) -> None:
    _, experts = answer(tensor([[0.0, 3.0, -1.0, 2.0], [5.0, 1.0, 4.0, -7.0]]), 2)
    expect_close(
        experts.float(), torch.tensor([[1.0, 3.0], [0.0, 2.0]]), where="logits (0, 3, -1, 2) and (5, 1, 4, -7)"
    )
    for shape, k in (((6, 8), 3), ((2, 5, 4), 1), ((3, 9), 9)):
        logits = draw(*shape, seed=k)
        want = exact(logits).argsort(dim=-1, descending=True)[..., :k]
        expect_close(answer(logits, k)[1].float(), want.float(), where=f"experts, logits of shape {shape}, k {k}")
    turned = draw(9, 5, seed=3).t()
    expect_close(
        answer(turned, 2)[1].float(),
        exact(turned).argsort(dim=-1, descending=True)[:, :2].float(),
        where="experts, logits that are not contiguous, as after a transpose",
    )


@exercise.property("equal logits: different experts, of equal weight")
def ties(answer: Callable) -> None:
    for values, k in (([0.0, 3.0, -1.0, 3.0], 2), ([3.0, 3.0, 3.0, 0.0], 2), ([1.0, 1.0, 1.0, 1.0], 3)):
        weights, experts = answer(tensor([values]), k)
        where = f"logits {', '.join(f'{v:g}' for v in values)}, k {k}"
        expect_close(weights, torch.full((1, k), 1 / k), where=f"weights, {where}")
        chosen = experts.flatten().tolist()
        if len(set(chosen)) != k or any(values[expert] != max(values) for expert in chosen):
            raise Mismatch(f"{where}: expected {k} different experts with the highest logit, got {chosen}")


@exercise.property("the softmax of the chosen logits alone: weights sum to 1")
def weights_sum_to_1(answer: Callable) -> None:
    weights, _ = answer(tensor([[0.0, 1.0, 1.0, -3.0]]), 2)
    expect_close(weights, torch.tensor([[0.5, 0.5]]), where="logits (0, 1, 1, -3), k 2")
    for shape, k in (((6, 8), 3), ((2, 5, 4), 1), ((3, 9), 9), ((8, 8), 2)):
        logits = draw(*shape, seed=k) * 3
        where = f"weights, logits of shape {shape}, k {k}"
        expect_close(answer(logits, k)[0], expected_weights(logits, k), where=where)


@exercise.property("logits of any size")
def any_size(answer: Callable) -> None:
    logits = tensor([[1000.0, 999.0, -1000.0], [-1e4, -1e4 - 1, -2e4], [1000.0, 0.0, 5.0]])
    want = expected_weights(logits - logits.amax(-1, keepdim=True), 2)
    # A logarithm of their sum, which is 1,000, has fewer digits behind the point.
    expect_close(answer(logits, 2)[0], want, where="logits of 1,000", atol=1e-4)


@exercise.property("half precision is computed in float32")
def half_precision(answer: Callable) -> None:
    for dtype, bits in HALVES.items():
        logits = draw(40, 8, seed=5, dtype=dtype)
        where = f"weights of logits in {str(dtype)[6:]}"
        expect_close(answer(logits, 3)[0], expected_weights(logits, 3), where=where, rtol=1.1 * 2.0**-bits, atol=1e-6)


@exercise.property("gradients flow back to logits through the weights")
def gradients(answer: Callable) -> None:
    given = draw(4, 6, seed=2)
    expect_gradients(lambda x: answer(x, 3)[0], lambda x: expected_weights(x, 3), given, names=("logits",))


@exercise.property("k below 1 or above the number of experts is refused with a ValueError")
def refused(answer: Callable) -> None:
    for k in (0, -1, 5):
        expect_value_error(answer, draw(3, 4), k, where=f"4 experts, k {k}")


exercise.slips("""
    softmax before the choice: weights = best.softmax(dim=-1) -> weights = scores.softmax(dim=-1).topk(k, dim=-1).values
        You take the softmax over all experts and keep the largest weights: they sum to less than 1. Here the softmax is
        over the chosen ones alone, as in Mixtral.
    softmax twice: weights = best.softmax(dim=-1) -> weights = scores.softmax(dim=-1).topk(k, dim=-1).values.softmax(-1)
        You take a softmax of what has been through one: the weights come out nearly equal. One is enough.
    no softmax: best.softmax(dim=-1) -> best
        Your weights are the logits themselves. They have to be positive and sum to 1: a softmax over the chosen ones.
    divided by their sum: best.softmax(dim=-1) -> best / best.sum(dim=-1, keepdim=True)
        You divide the logits by their sum. They may be negative: take e to their power first, as the softmax does.
    sigmoid: best.softmax(dim=-1) -> best.sigmoid()
        Your weights are sigmoids, each by itself. Here they are a softmax over the chosen ones, which sums to 1.
    sigmoids that sum to 1: best.softmax(dim=-1) -> best.sigmoid() / best.sigmoid().sum(dim=-1, keepdim=True)
        Your weights are sigmoids divided by their sum, as in some newer models. Here they are a softmax.
    all the same: best.softmax(dim=-1) -> torch.full_like(best, 1 / k) + 0 * best
        Each chosen expert gets the same weight. The better its logit, the more it counts.
    the log of it: best.softmax(dim=-1) -> best.log_softmax(dim=-1)
        Your weights are logarithms: that is log_softmax.
    the worst experts: scores.topk(k, dim=-1) -> scores.topk(k, dim=-1, largest=False)
        You choose the experts with the lowest logits.
    the best last: weights = best -> best, experts = best.flip(-1), experts.flip(-1); weights = best
        Your experts come with the best one last. The best comes first.
    the best last, weights first: weights = best -> experts = experts.flip(-1); weights = best
        The weights are in order, the best first, but the experts in the opposite one: each gets the weight of another.
    one expert fewer: scores.topk(k, dim=-1) -> scores.topk(max(k - 1, 1), dim=-1)
        You choose one expert fewer than asked.
    one expert more: scores.topk(k, dim=-1) -> scores.topk(min(k + 1, n_experts), dim=-1)
        You choose one expert more than asked.
    always two: scores.topk(k, dim=-1) -> scores.topk(min(2, n_experts), dim=-1)
        You choose two experts, whatever k is.
    by size: weights = best -> experts = scores.abs().topk(k).indices; best = scores.gather(-1, experts); weights = best
        You choose by the size of the logits, so that a very negative one is taken. The highest are wanted.
    over the tokens: best.softmax(dim=-1) -> best.softmax(dim=0)
        Your softmax is over the first axis: over tokens where there are several. Each token shares its own 1 among its
        experts, on the last axis.
    float32 goes out: weights.to(logits.dtype) -> weights
        The numbers are right, but half precision comes in and float32 weights go out: cast them back.
    experts in int32: weights = best -> experts = experts.int(); weights = best
        Your experts are int32. As indices they are wanted in int64.
    experts as numbers with a point: weights = best -> experts = experts.float(); weights = best
        Your experts are floating-point numbers. As indices they are wanted in int64.
    a weight for each expert: best.softmax(dim=-1) -> (scores - torch.inf).scatter(-1, experts, best).softmax(-1)
        You return a weight for every expert, 0 for those not chosen. Asked for are the k weights of the chosen ones.
    k cut to what there is: not 1 <= k <= n_experts -> not (k := min(k, n_experts)) >= 1
        A k above the number of experts is cut down without a word. Raise a ValueError.
    k of 0 accepted: not 1 <= k <= n_experts -> k > n_experts or k < 0
        A k of 0 gets a result with nothing in it. Raise a ValueError.
""")
another_error(exercise)
no_gradient(exercise, "logits")
