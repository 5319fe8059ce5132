"""Reorder the rows of a projection from layout "half" to "interleaved"."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import rope
from llama_lessons.lab.device import choose_device

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import LESSON, by_matrices, draw


def permutation_cases() -> list[tuple]:
    shapes = [((4, 3), 1), ((8, 3), 2), ((8, 8), 2), ((12, 5), 2), ((16, 4), 1), ((24, 5), 3), ((24, 24), 4)]
    shapes += [((16,), 2), ((6, 2), 4)]
    return [(draw(*shape, seed=seed).requires_grad_(), n_heads) for seed, (shape, n_heads) in enumerate(shapes)]


to_interleaved = Exercise(
    name="to_interleaved",
    lesson=LESSON,
    points=4,
    minutes=12,
    parameters=("weight", "n_heads"),
    reference=rope.to_interleaved,
    cases=permutation_cases,
    returns=Tensor,
    hints=(
        "Take one head of four rows, r0 r1 r2 r3. In layout half its pairs are (r0, r2) and (r1, r3). In which order "
        "must the four stand so that these pairs become neighbours?",
        "Give the rows a shape that shows what they mean: (n_heads, which half, which pair). weight.unflatten(0, ...) "
        "or reshape does that. The order you want is (n_heads, which pair, which half).",
        "transpose(1, 2) exchanges the two, flatten(0, 2) makes rows of them again. All axes behind the rows stay "
        "as they are, so a bias works too.",
    ),
)


@to_interleaved.property("one head of four rows: 0 1 2 3 becomes 0 2 1 3")
def _(answer: Callable) -> None:
    weight = torch.arange(4.0, device=choose_device())[:, None].expand(4, 2).contiguous()
    expect_close(answer(weight, 1)[:, 0], torch.tensor([0.0, 2.0, 1.0, 3.0]), where="rows of one head of size 4")


@to_interleaved.property("each head keeps its own rows")
def _(answer: Callable) -> None:
    weight = torch.arange(12.0, device=choose_device())[:, None].expand(12, 2).contiguous()
    want = torch.tensor([0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0])
    expect_rows(answer(weight, 2), want, "rows of two heads of size 6")


def expect_rows(got: Tensor, want: Tensor, where: str) -> None:
    expect_like(got, shape=(len(want), 2), dtype=torch.float32, where=where)
    rows = got[:, 0].tolist()
    if rows != want.tolist():
        shown = [" ".join(f"{row:g}" for row in order) for order in (want.tolist(), rows)]
        raise Mismatch(f"{where}: expected the order {shown[0]}, got {shown[1]}")


@to_interleaved.property("columns, shape and dtype stay")
def _(answer: Callable) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        weight = draw(8, 8, dtype=dtype)
        got = answer(weight, 2)
        expect_like(got, shape=(8, 8), dtype=dtype, where=f"weight (8, 8) in {str(dtype)[6:]}")
        expect_close(got[0], weight[0], where="row 0, which does not move", rtol=0, atol=0)
        expect_close(got[1], weight[2], where="row 1 of the result, which is row 2 of weight", rtol=0, atol=0)


@to_interleaved.property("scores stay: each version of the weights in its own layout")
def _(answer: Callable) -> None:
    dim, seq_len = 10, 6
    positions = torch.arange(seq_len)
    x = draw(2, seq_len, dim, seed=7).double().cpu()
    for n_heads, head_dim in ((1, 8), (3, 4), (4, 6)):
        wq, wk = draw(n_heads * head_dim, dim, seed=1), draw(n_heads * head_dim, dim, seed=2)

        def scores(wq: Tensor, wk: Tensor, layout: str, n_heads: int = n_heads) -> Tensor:
            q, k = ((x @ w.double().cpu().T).unflatten(-1, (n_heads, -1)).transpose(1, 2) for w in (wq, wk))
            return by_matrices(q, positions, layout) @ by_matrices(k, positions, layout).transpose(-1, -2)

        where = f"scores of {n_heads} heads of size {head_dim}"
        moved = [answer(weight, n_heads) for weight in (wq, wk)]
        for weight in moved:
            expect_like(weight, shape=tuple(wq.shape), dtype=torch.float32, where=where)
        got = scores(*moved, "interleaved")
        expect_close(got, scores(wq, wk, "half"), where=where, atol=1e-4)


@to_interleaved.property("a bias, which has rows only, is reordered too")
def _(answer: Callable) -> None:
    got = answer(torch.arange(8.0, device=choose_device()), 2)
    expect_close(got, torch.tensor([0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]), where="bias 0..7 of two heads")


@to_interleaved.property("rows that do not make n_heads heads of even size are refused with a ValueError")
def _(answer: Callable) -> None:
    expect_value_error(answer, draw(8, 2), 3, where="8 rows for 3 heads")
    expect_value_error(answer, draw(6, 2), 4, where="6 rows for 4 heads")
    expect_value_error(answer, draw(6, 2), 2, where="6 rows for 2 heads, of 3 rows each")


def refuse_uneven(weight: Tensor, n_heads: int) -> None:
    """The check that all the wrong answers below have right."""
    if weight.shape[0] % (2 * n_heads):
        raise ValueError("rows")


@to_interleaved.misconception(
    "the other direction",
    "You go from interleaved to half: rows 0 1 2 3 4 5 of a head became 0 2 4 1 3 5. Asked for is the way back: "
    "0 3 1 4 2 5.",
)
def _(weight: Tensor, n_heads: int) -> Tensor:
    refuse_uneven(weight, n_heads)
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


@to_interleaved.misconception(
    "heads forgotten",
    "You treat all rows as one big head, so that rows of different heads become neighbours. Split into n_heads "
    "first, then reorder inside each head.",
)
def _(weight: Tensor, n_heads: int) -> Tensor:
    refuse_uneven(weight, n_heads)
    return weight.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)


@to_interleaved.misconception(
    "heads mixed with channels",
    "You exchange the axis of heads with another one, so that heads come out woven into each other. The heads keep "
    "their order; inside each one, halves and pairs are exchanged.",
)
def _(weight: Tensor, n_heads: int) -> Tensor:
    refuse_uneven(weight, n_heads)
    return weight.unflatten(0, (n_heads, -1)).transpose(0, 1).flatten(0, 1)


@to_interleaved.misconception(
    "columns instead of rows",
    "You reorder the columns. nn.Linear keeps its weight as (out_features, in_features): the channels of heads are "
    "its rows, the columns belong to the model's own channels.",
)
def _(weight: Tensor, n_heads: int) -> Tensor:
    refuse_uneven(weight, n_heads)
    return weight.unflatten(-1, (n_heads, 2, -1)).transpose(-2, -1).flatten(-3)


@to_interleaved.misconception(
    "reshaped, not exchanged",
    "The rows come out as they went in. reshape and view cut the same row order in other pieces; to bring halves "
    "together you need a transpose between them.",
)
def _(weight: Tensor, n_heads: int) -> Tensor:
    refuse_uneven(weight, n_heads)
    return weight.clone()


@to_interleaved.misconception(
    "n_heads taken for head_dim",
    "You split the rows into heads of n_heads rows each. There are n_heads heads, of rows / n_heads rows each.",
)
def _(weight: Tensor, n_heads: int) -> Tensor:
    refuse_uneven(weight, n_heads)
    if n_heads % 2:
        raise RuntimeError("shape")
    return weight.unflatten(0, (-1, 2, n_heads // 2)).transpose(1, 2).flatten(0, 2)


@to_interleaved.misconception(
    "bad sizes accepted",
    "The order is right, but sizes that do not fit are not refused with a ValueError: rows must be a multiple of "
    "n_heads, and each head must be even. Check before you reorder.",
)
def _(weight: Tensor, n_heads: int) -> Tensor:
    head_dim = weight.shape[0] // n_heads
    rows = [
        weight[head * head_dim + half * (head_dim // 2) + pair]
        for head in range(n_heads)
        for pair in range(head_dim // 2)
        for half in range(2)
    ]
    return torch.stack(rows) if rows else weight[:0]


@to_interleaved.alternative
def _(weight: Tensor, n_heads: int) -> Tensor:
    rows = weight.shape[0]
    if rows % n_heads != 0 or rows // n_heads % 2 != 0:
        raise ValueError("sizes")
    head_dim = rows // n_heads
    order = [
        head * head_dim + pair + half * head_dim // 2
        for head in range(n_heads)
        for pair in range(head_dim // 2)
        for half in (0, 1)
    ]
    return weight[order]


@to_interleaved.alternative
def _(weight: Tensor, n_heads: int) -> Tensor:
    refuse_uneven(weight, n_heads)
    heads = weight.reshape(n_heads, weight.shape[0] // n_heads, -1)
    first, second = heads.chunk(2, dim=1)
    return torch.stack((first, second), dim=2).reshape(weight.shape)


@to_interleaved.alternative
def _(weight: Tensor, n_heads: int) -> Tensor:
    refuse_uneven(weight, n_heads)
    result = torch.empty_like(weight)
    size = weight.shape[0] // n_heads
    for start in range(0, weight.shape[0], size):
        result[start : start + size : 2] = weight[start : start + size // 2]
        result[start + 1 : start + size : 2] = weight[start + size // 2 : start + size]
    return result
