"""Exercise 2: top-k."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, expect_like, tensor
from ...families import overwrites


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    k = min(k, logits.shape[-1])
    kth = logits.topk(k).values[..., -1:]
    cut = logits < kth
    return logits.masked_fill(cut, -torch.inf)


INF = float("inf")


def cases() -> list[tuple]:
    sizes = [((8,), 3), ((3, 8), 2), ((2, 3, 6), 4), ((4, 5), 1), ((2, 5), 5), ((2, 5), 40), ((3, 3), 2)]
    made = [(draw(*shape, seed=seed), k) for seed, (shape, k) in enumerate(sizes)]
    made += [(draw(2, 7, seed=20, dtype=dtype), 3) for dtype in HALVES]
    return [*made, (tensor([[1.0, 3.0, 2.0, 2.0, 2.0, -INF]]), 2), (tensor([[5.0, -INF, -1.0, -INF]]), 1)]


exercise = Exercise(
    keep_top_k,
    points=2,
    minutes=6,
    cases=cases,
    returns=Tensor,
    hints=(
        "logits.topk(k).values are the k highest of each row, in falling order. Which of them has to be compared with?",
        "masked_fill(mask, -torch.inf) makes a new tensor. Where k is more than there are tokens, topk fails: take the "
        "smaller of both.",
    ),
)


def expect_kept(answer: Callable, rows: list, k: int, kept: list[list[bool]]) -> None:
    logits = tensor(rows)
    got = answer(logits, k)
    expect_like(
        got, shape=tuple(logits.shape), dtype=logits.dtype, where=f"logits of shape {tuple(logits.shape)}, k {k}"
    )
    for row, mine, stays in zip(rows, got.tolist(), kept, strict=True):
        want = [x if keep else -INF for x, keep in zip(row, stays, strict=True)]
        if mine != want:
            shown = [f"{x:g}" for x in mine]
            raise Mismatch(f"logits {row}, k {k}: expected {[f'{x:g}' for x in want]}, got {shown}")


@exercise.property("shape and dtype are those of logits")
def shape(answer: Callable) -> None:
    for size in ((6,), (3, 7), (2, 2, 5)):
        for dtype in (torch.float32, *HALVES):
            where = f"logits of shape {size} in {str(dtype)[6:]}"
            expect_like(answer(draw(*size, dtype=dtype), 2), shape=size, dtype=dtype, where=where)


@exercise.property("the k highest of each row stay as they are, all others are -inf")
def highest(answer: Callable) -> None:
    expect_kept(answer, [[0.5, 3.0, -1.0, 2.0]], 2, [[False, True, False, True]])
    expect_kept(answer, [[9.0, 8.0, 7.0], [1.0, 3.0, 2.0]], 1, [[True, False, False], [False, True, False]])
    expect_kept(answer, [[-4.0, -3.0, -2.0, -1.0]], 3, [[False, True, True, True]])
    expect_kept(answer, [[2.0, 1.0, 0.0]], 3, [[True] * 3])
    for size, k in (((40,), 7), ((3, 25), 24)):
        rows = draw(*size, seed=k).view(-1, size[-1]).tolist()
        kept = [[x in sorted(row)[-k:] for x in row] for row in rows]
        expect_kept(answer, rows, k, kept)


@exercise.property("logits that equal the k-th highest stay too")
def equals(answer: Callable) -> None:
    expect_kept(answer, [[1.0, 2.0, 2.0, 3.0, 2.0]], 2, [[False, True, True, True, True]])
    expect_kept(answer, [[7.0, 7.0, 7.0, 0.0]], 1, [[True, True, True, False]])


@exercise.property("a k above the size of the vocabulary keeps all")
def large_k(answer: Callable) -> None:
    expect_kept(answer, [[0.5, 3.0, -1.0]], 4, [[True] * 3])
    expect_kept(answer, [[0.5, 3.0, -1.0]], 1000, [[True] * 3])


@exercise.property("what is -inf already stays so")
def cut_before(answer: Callable) -> None:
    expect_kept(answer, [[-INF, 3.0, -INF, 1.0, 2.0]], 2, [[False, True, False, False, True]])
    expect_kept(answer, [[-INF, 3.0, -INF]], 2, [[False, True, False]])


exercise.slips("""
    the lowest: logits.topk(k) -> logits.topk(k, largest=False)
        You compare with the k lowest logits of each row.
    one too few: logits < kth -> logits <= kth
        The k-th highest is cut too: with <= in place of <, or by counting one too few.
    the best alone: values[..., -1:] -> values[..., :1]
        You compare with the highest, so that it alone stays. The k-th highest is the last of what topk returns.
    k too large: k = min(k, logits.shape[-1]) -> pass
        A k above the number of tokens fails. It keeps all.
    over all rows: logits.topk(k).values[..., -1:] -> logits.flatten().topk(min(k, logits.numel())).values[-1]
        You take the k highest of all rows together. Each row has k of its own.
    0 in place of -inf: , -torch.inf) -> , 0.0)
        What is cut becomes 0, which the softmax makes e to the power of 0 of, no zero. It has to be -inf.
    a large negative number: , -torch.inf) -> , -1e4)
        What is cut becomes a large negative number. -inf is certain in every softmax: torch.inf has it.
    NaN: , -torch.inf) -> , torch.nan)
        What is cut becomes NaN.
    the others kept: logits < kth -> logits >= kth
        You cut the k highest, and keep the others.
    probabilities: return logits.masked_fill(cut, -torch.inf) -> return logits.masked_fill(cut, -torch.inf).softmax(-1)
        You return probabilities. Logits are asked for: what is kept stays as it is.
    only what is kept: return logits.masked_fill(cut, -torch.inf) -> return logits.topk(k).values
        You return the k highest alone, in their order. The result has a place for each token of the vocabulary.
    one more: k = min(k, -> k = min(k + 1,
        You keep one more than k.
""")
overwrites(exercise, "logits")


@exercise.misconception
def equal_ones_are_cut(logits, k):
    """Of logits that equal the k-th highest, you keep only some. Nothing tells them apart: all of them stay."""
    values, ids = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, values)
