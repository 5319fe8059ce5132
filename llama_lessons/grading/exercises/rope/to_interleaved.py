"""Exercise 4: reorder the rows of a projection from layout "half" to "interleaved"."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, draw, exact, expect_close, expect_like, expect_value_error, on_device
from ...families import float32_out, overwrites
from .common import by_matrices


def to_interleaved(weight: Tensor, n_heads: int) -> Tensor:
    rows = weight.shape[0]
    if rows % (2 * n_heads):
        raise ValueError("rows do not make n_heads heads of an even size")
    heads = weight.unflatten(0, (n_heads, 2, -1))  # (n_heads, which half, which pair, ...)
    return heads.transpose(1, 2).flatten(0, 2)


def cases() -> list[tuple]:
    """Most are square, so that columns can be taken for rows; no gradients, since a conversion needs none."""
    square = [(8, 1), (8, 2), (12, 2), (16, 2), (24, 3), (24, 4), (32, 4)]
    shapes = [*(((rows, rows), n_heads) for rows, n_heads in square), ((24, 5), 2), ((24,), 2)]
    shapes += [((6, 2), 4), ((6, 2), 2)]
    made = [(draw(*shape, seed=seed), n_heads) for seed, (shape, n_heads) in enumerate(shapes)]
    finer = draw(16, 16, seed=21, dtype=torch.float64) / 3
    return [*made, (draw(16, 16, seed=20, dtype=torch.bfloat16), 2), (finer, 2)]


exercise = Exercise(
    to_interleaved,
    points=4,
    minutes=12,
    cases=cases,
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


def expect_rows(answer: Callable, n_heads: int, want: list[int]) -> None:
    weight = on_device(torch.arange(float(len(want)))[:, None].repeat(1, 2))
    where = f"rows 0 to {len(want) - 1} of {n_heads} head{'s' * (n_heads > 1)}"
    got = answer(weight, n_heads)
    expect_like(got, shape=(len(want), 2), dtype=torch.float32, where=where)
    if not torch.equal(got[:, 0], got[:, 1]):
        raise Mismatch(f"{where}: expected rows of two equal numbers, as weight has them, got {got.tolist()}")
    if got[:, 0].tolist() != want:
        rows = [" ".join(f"{row:g}" for row in order) for order in (want, got[:, 0].tolist())]
        raise Mismatch(f"{where}: expected the order {rows[0]}, got {rows[1]}")


@exercise.property("one head of four rows: 0 1 2 3 becomes 0 2 1 3")
def one_head_by_hand(answer: Callable) -> None:
    expect_rows(answer, 1, [0, 2, 1, 3])


@exercise.property("two heads of six rows, each by itself: 0 1 2 3 4 5 becomes 0 3 1 4 2 5")
def heads_kept_apart(answer: Callable) -> None:
    expect_rows(answer, 2, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11])


@exercise.property("columns, shape, dtype and all digits stay")
def columns_stay(answer: Callable) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        weight = draw(8, 8, dtype=dtype) / 3  # so that float64 holds what float32 does not
        got = answer(weight, 2)
        expect_like(got, shape=(8, 8), dtype=dtype, where=f"weight (8, 8) in {str(dtype)[6:]}")
        expect_close(got[0], weight[0], where="row 0, which does not move", rtol=0, atol=0)
        expect_close(got[1], weight[2], where="row 1 of the result, which is row 2 of weight", rtol=0, atol=0)


@exercise.property("scores stay: each version of the weights in its own layout")
def scores_stay(answer: Callable) -> None:
    x = exact(draw(2, 6, 10, seed=7))
    for n_heads, head_dim in ((1, 8), (3, 4), (4, 6)):
        wq, wk = (draw(n_heads * head_dim, 10, seed=seed) for seed in (1, 2))

        def scores(wq: Tensor, wk: Tensor, layout: str, n_heads: int = n_heads) -> Tensor:
            q, k = ((x @ exact(w).T).unflatten(-1, (n_heads, -1)).transpose(1, 2) for w in (wq, wk))
            return by_matrices(q, 0, layout) @ by_matrices(k, 0, layout).mT

        where = f"scores of {n_heads} head{'s' * (n_heads > 1)} of size {head_dim}"
        moved = [answer(weight, n_heads) for weight in (wq, wk)]
        for weight in moved:
            expect_like(weight, shape=tuple(wq.shape), dtype=torch.float32, where=where)
        expect_close(scores(*moved, "interleaved"), scores(wq, wk, "half"), where=where, atol=1e-4)


@exercise.property("a bias, which has rows only, is reordered too")
def bias_too(answer: Callable) -> None:
    got = answer(on_device(torch.arange(8.0)), 2)
    expect_close(got, torch.tensor([0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]), where="bias 0..7 of two heads")


@exercise.property("rows that do not make n_heads heads of even size are refused with a ValueError")
def uneven_sizes_refused(answer: Callable) -> None:
    expect_value_error(answer, draw(8, 2), 3, where="8 rows for 3 heads")
    expect_value_error(answer, draw(6, 2), 4, where="6 rows for 4 heads")
    expect_value_error(answer, draw(6, 2), 2, where="6 rows for 2 heads, of 3 rows each")


exercise.slips("""
    the other direction: (n_heads, 2, -1) -> (n_heads, -1, 2)
        You go from interleaved to half: 0 1 2 3 4 5 become 0 2 4 1 3 5. Asked for is the way back: 0 3 1 4 2 5.
    not reordered: heads.transpose(1, 2) -> heads
        The rows come out as they went in, as after reshape and view alone, or stack along the axis that was cut.
    one big head: (n_heads, 2, -1) -> (1, 2, -1)
        Your result is that of one big head: rows of different heads become neighbours. Cut into (n_heads, 2, -1) first.
    one big head, and the other direction: (n_heads, 2, -1) -> (1, -1, 2)
        You take all even rows and then all odd ones. In each head bring row i and row i + head_dim / 2 together.
    n_heads taken for head_dim: (n_heads, 2, -1) -> (-1, 2, n_heads // 2)
        Your result is that for heads of n_heads rows each. There are n_heads heads, of rows / n_heads rows each.
    heads woven into each other: transpose(1, 2) -> movedim(0, 2)
        Row 0 of each head comes first, then row 1 of each, and so on. Exchange axes 1 and 2 of (n_heads, 2, -1) alone.
    first halves before second halves: transpose(1, 2) -> transpose(0, 1)
        The first halves of all heads come before all second halves. Exchange axes 1 and 2 of (n_heads, 2, -1) alone.
    heads exchanged with pairs: transpose(1, 2) -> transpose(0, 2)
        The order comes out as (which pair, which half, head). Exchange axes 1 and 2 of (n_heads, 2, -1) alone.
    pairs before heads: transpose(1, 2) -> movedim(2, 0)
        The order comes out as (which pair, head, which half). Exchange axes 1 and 2 of (n_heads, 2, -1) alone.
    cut into halves before heads: (n_heads, 2, -1)) -> (2, n_heads, -1))
        Your result is that of (2, n_heads, -1) with its last two axes exchanged. The rows lie as (n_heads, 2, -1).
    second half first: (n_heads, 2, -1) -> (n_heads, 2, -1)).flip((1,)
        The rows of each pair come out in each other's place: 0 1 2 3 become 2 0 3 1. Asked for is 0 2 1 3.
    halves exchanged: heads.transpose(1, 2) -> heads.flip(1)
        The second half of each head comes out before the first: 0 1 2 3 become 2 3 0 1. Asked for is 0 2 1 3.
    the first head for all: heads.transpose(1, 2) -> heads[:1].expand_as(heads).transpose(1, 2)
        The rows of the first head come out in the place of all others.
    woven along the columns: heads.transpose(1, 2).flatten(0, 2) -> heads.movedim(1, -1).reshape(weight.shape)
        Two rows are woven into each other number by number. The new axis, which half, has to stand before them.
    columns instead of rows: heads = -> return weight.unflatten(-1, (n_heads, 2, -1)).mT.flatten(-3); heads =
        The columns are reordered. nn.Linear keeps (out_features, in_features): the heads' channels are rows.
    as many columns as rows: (n_heads, 2, -1) -> (n_heads, 2, weight.shape[-1] // n_heads // 2)
        A weight that is not square ends in an error or comes out wrong, as where one of its two sizes is taken for the
        other. A head has weight.shape[0] / n_heads rows, and the columns stay as many as they are.
    a bias left as it is: heads.transpose(1, 2) -> (heads.transpose(1, 2) if weight.ndim > 1 else heads)
        A bias, which has one axis, comes out as it went in. Its numbers belong to the rows, and move as they do.
    float32 whatever weight is: .flatten(0, 2) -> .flatten(0, 2).float()
        Float32 goes out whatever weight is: float64 loses digits, bfloat16 comes back as float32. Keep weight.dtype.
    rounded to float32 on the way: weight.unflatten -> weight.float().to(weight.dtype).unflatten
        The rows are where they belong, but float64 loses digits, as if it went through float32. Move the rows alone.
    columns asked for: heads = -> weight.shape[1]; heads =
        For a bias, which has one axis, an IndexError is raised, as by weight.shape[1]. Keep all axes behind the rows.
    two axes asked for: rows = weight.shape[0] -> rows, _ = weight.shape
        For a bias a ValueError is raised, as by rows, dim = weight.shape. Take weight.shape[0] alone.
    a RuntimeError for sizes that do not fit: rows % (2 * n_heads) -> False
        Where rows and n_heads do not fit, a RuntimeError is raised, such as torch's own. Raise a ValueError before.
    odd heads: rows % (2 * n_heads) -> rows % n_heads
        Heads of an odd size, in which one row has no partner, are not refused with a ValueError.
""")
float32_out(exercise, "weight")
overwrites(exercise, "weight")


@exercise.misconception
def only_the_first_head(weight, n_heads):
    """The first head is reordered, and all others come out as they went in. Each head is reordered by itself."""
    right = to_interleaved(weight, n_heads)
    head_dim = len(weight) // n_heads
    return torch.cat((right[:head_dim], weight[head_dim:]))


@exercise.misconception
def bad_sizes_accepted(weight, n_heads):
    """Sizes that do not fit get a result. Compare rows with n_heads before you reorder, and raise a ValueError."""
    head_dim = len(weight) // n_heads
    heads, half = range(n_heads), head_dim // 2
    return weight[[head * head_dim + i + j * half for head in heads for i in range(half) for j in (0, 1)]]


@exercise.misconception
def odd_heads_lose_a_row(weight, n_heads):
    """Heads of an odd size get a result, in which a row of each is missing. Raise a ValueError for them as well."""
    if len(weight) % n_heads:
        raise ValueError("rows do not make n_heads heads")
    return bad_sizes_accepted(weight, n_heads)
