"""Exercise 4: min-p."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, exact, expect_like, tensor
from ...families import batch_of_one, overwrites


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    probabilities = logits.float().softmax(-1)
    best = probabilities.amax(-1, keepdim=True)
    cut = probabilities < p * best
    return logits.masked_fill(cut, -torch.inf)


INF = float("inf")


def logits_of(*probabilities: float) -> Tensor:
    return tensor(probabilities).log() + 1.5


def cases() -> list[tuple]:
    sizes = [((9,), 0.2), ((3, 12), 0.1), ((2, 3, 6), 0.4), ((4, 30), 0.05), ((5, 5), 0.3)]
    made = [(draw(*shape, seed=seed) * 2, p) for seed, (shape, p) in enumerate(sizes)]
    made += [(draw(2, 40, seed=20, dtype=dtype), 0.3) for dtype in HALVES]
    made += [(logits_of(0.08, 0.6, 0.32), p) for p in (0.0, 0.1, 0.2, 0.5, 0.6, 1.0)]
    return [
        *made,
        (tensor([[0.0, -200.0, -1.0]]), 0.0),
        (tensor([[2.0, -INF, 1.0]]), 0.5),
        (tensor([[3.0, 3.0, 1.0]]), 1.0),
    ]


exercise = Exercise(
    keep_min_p,
    points=2,
    minutes=6,
    cases=cases,
    returns=Tensor,
    hints=(
        "Each row has a best probability, and a token is compared with p times that.",
        "x.amax(-1, keepdim=True) is the best of each row, in a shape that fits beside x.",
    ),
)


def expect_kept(answer: Callable, logits: Tensor, p: float, where: str = "") -> None:
    got, size = answer(logits, p), logits.shape[-1]
    where = where or f"logits of shape {tuple(logits.shape)}"
    expect_like(got, shape=tuple(logits.shape), dtype=logits.dtype, where=f"{where}, p {p:g}")
    for row, mine in zip(logits.reshape(-1, size).tolist(), got.reshape(-1, size).tolist(), strict=True):
        probabilities = exact(torch.tensor(row)).softmax(-1).tolist()
        # Where both are the same but for rounding, either will do; none of the cases has such a token but the best.
        want = [
            x if q >= p * max(probabilities) * (1 - 1e-9) else -INF for x, q in zip(row, probabilities, strict=True)
        ]
        if mine != want:
            token = next(i for i, pair in enumerate(zip(mine, want, strict=True)) if pair[0] != pair[1])
            raise Mismatch(f"{where}, p {p:g}: at token {token} expected {want[token]:g}, got {mine[token]:g}")


@exercise.property("tokens at least p times as probable as the best one stay as they are, all others are -inf")
def at_least(answer: Callable) -> None:
    three = logits_of(0.08, 0.6, 0.32)
    for p in (0.1, 0.2, 0.5, 0.6):
        expect_kept(answer, three, p, "probabilities 0.08, 0.6, 0.32")


@exercise.property("logits of any shape and dtype, each row by itself")
def any_shape(answer: Callable) -> None:
    for seed, (shape, p) in enumerate((((20,), 0.1), ((3, 15), 0.3), ((2, 2, 9), 0.02))):
        expect_kept(answer, 2 * draw(*shape, seed=40 + seed), p)
    for dtype in HALVES:
        expect_kept(answer, 2 * draw(3, 12, seed=50, dtype=dtype), 0.15, f"logits in {str(dtype)[6:]}")


@exercise.property("p = 0 keeps all, p = 1 the best and what equals it")
def ends(answer: Callable) -> None:
    expect_kept(answer, tensor([[0.0, -200.0, -1.0]]), 0.0, "logits 0, -200, -1")
    expect_kept(answer, tensor([[3.0, 3.0, 1.0]]), 1.0, "logits 3, 3, 1")
    expect_kept(answer, draw(4, 9, seed=7), 1.0)


@exercise.property("what is -inf already stays so")
def cut_before(answer: Callable) -> None:
    expect_kept(answer, tensor([[2.0, -INF, 1.0, -5.0]]), 0.2, "logits 2, -inf, 1, -5")
    expect_kept(answer, tensor([[2.0, -INF, 1.0, -5.0]]), 0.0, "logits 2, -inf, 1, -5")


@exercise.property("logits of any size")
def any_size(answer: Callable) -> None:
    expect_kept(answer, tensor([[1000.0, 999.0, 990.0], [-1000.0, -999.0, -1010.0]]), 0.1)


exercise.slips("""
    a fixed probability: probabilities < p * best -> probabilities < p
        You cut whatever is less probable than p. Compare with p times the best token's probability.
    of the logits: probabilities < p * best -> logits < p * logits.amax(-1, keepdim=True)
        You take p times the best logit. It is probabilities that are compared.
    with 1 - p: probabilities < p * best -> probabilities < (1 - p) * best
        You compare with 1 - p times the best.
    of all rows: probabilities.amax(-1, keepdim=True) -> probabilities.amax()
        You compare with the best of all rows. Each row has its own.
    of the mean: probabilities.amax(-1, keepdim=True) -> probabilities.mean(-1, keepdim=True)
        You compare with the mean probability, not with that of the best token.
    the best cut too: probabilities < p * best -> probabilities <= p * best
        What is exactly p times as probable is cut: for p = 1 that is the best token itself. "At least" includes it.
    over another axis: logits.float().softmax(-1) -> logits.float().softmax(0)
        Your softmax is over the first axis, which is the batch where there is one.
    0 in place of -inf: , -torch.inf) -> , 0.0)
        What is cut becomes 0, and that is a logit like others. It has to be -inf.
    the others: probabilities < p * best -> probabilities >= p * best
        You cut what should stay, and keep the rest.
    probabilities: return logits.masked_fill(cut, -torch.inf) -> return (probabilities * ~cut).to(logits.dtype)
        You return probabilities. Logits are asked for: what is kept stays as it is.
    the square of the best: probabilities < p * best -> probabilities < best * best * p
        You compare with p times the square of the best probability.
    the range: probabilities < p * best -> probabilities < p * (best - probabilities.amin(-1, keepdim=True))
        You measure p from the least probable token up. It is a share of the best probability.
""")
overwrites(exercise, "logits")
batch_of_one(exercise, "logits")
