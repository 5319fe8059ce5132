"""What the exercises of lesson 03 share: RoFormer's own form of a rotation, and what holds of one in either layout.

What is expected is never taken from `llama_lessons.rope`, but worked out in float64 with one rotation matrix for each
position (RoFormer, eq. 15).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from llama_lessons import rope

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, at_least_float32, draw, exact, expect_close, expect_like, on_device, tensor
from ...families import batch_of_one, float32_out, needs_contiguous, no_gradient, overwrites


def by_matrices(x: Tensor, first: int, layout: str, theta: float = 10_000.0, sign: int = 1) -> Tensor:
    """x (..., seq_len, head_dim), whose tokens stand at first, first + 1, ..., turned in float64."""
    seq_len, head_dim = x.shape[-2:]
    i = torch.arange(head_dim // 2)
    a, b = (i, i + head_dim // 2) if layout == "half" else (2 * i, 2 * i + 1)
    angles = sign * torch.arange(first, first + seq_len)[:, None] * theta ** (-2 * i.double() / head_dim)
    matrices = torch.zeros(seq_len, head_dim, head_dim, dtype=torch.float64)
    matrices[:, a, a], matrices[:, b, b] = angles.cos(), angles.cos()
    matrices[:, a, b], matrices[:, b, a] = -angles.sin(), angles.sin()
    return torch.einsum("sij,...sj->...si", matrices, exact(x.detach()))


def tables(x: Tensor, first: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """cos and sin for tokens at first, first + 1, ...: float32, (seq_len, head_dim // 2), on x's device."""
    positions = torch.arange(first, first + x.shape[-2], device=x.device)
    return rope.rope_tables(positions, rope.rope_frequencies(x.shape[-1], theta))


def tables_of_neighbours_with_turns_of_halves(x, cos, sin):
    """The tables are laid out for neighbours, as with repeat_interleave, but the channels are turned as halves, as with
    Hugging Face's rotate_half. So the two channels of a pair turn at different speeds: use one layout for both.
    """
    a, b = at_least_float32(x).chunk(2, dim=-1)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (x * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


def tables_of_halves_with_turns_of_neighbours(x, cos, sin):
    """The tables are laid out for halves, as with torch.cat((cos, cos), dim=-1), but the channels are turned as
    neighbours. So the two channels of a pair turn at different speeds: use one layout for both.
    """
    a, b = at_least_float32(x)[..., 0::2], at_least_float32(x)[..., 1::2]
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
    return (x * cos + torch.stack((-b, a), dim=-1).flatten(-2) * sin).to(x.dtype)


def rotation_cases() -> list[tuple]:
    """Shapes that tell heads from positions and pairs from halves, far positions, half precision, a transposed x."""
    made = []
    for seed, (shape, first, dtype) in enumerate(
        [
            ((1, 1, 3, 4), 1, torch.float32),
            ((2, 3, 5, 8), 0, torch.float32),
            ((2, 4, 4, 8), 2, torch.float32),  # as many heads as positions: swapped axes go unnoticed
            ((3, 2, 6, 64), 1_000, torch.float32),
            ((1, 2, 33, 64), 3, torch.bfloat16),
            ((1, 2, 33, 64), 3, torch.float16),
        ]
    ):
        x = draw(*shape, seed=seed, dtype=dtype).requires_grad_()
        made.append((x, *tables(x, first)))
    transposed = draw(2, 6, 3, 8, seed=9).transpose(1, 2)
    return [*made, (transposed, *tables(transposed, 5))]


def turns_one_pair_by_hand(answer: Callable, layout: str) -> None:
    angle = tensor([[0.0], [math.pi / 2], [math.pi]])
    got = answer(tensor([[[[1.0, 0.0]] * 3]]), angle.cos(), angle.sin())
    want = torch.tensor([[[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]]])
    expect_close(got, want, where="(1, 0) turned by 0, 90 and 180 degrees", atol=1e-6)


def keeps_shape_and_dtype(answer: Callable, layout: str) -> None:
    for shape in ((1, 1, 1, 2), (2, 3, 5, 8), (3, 1, 7, 6)):
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            x = draw(*shape, dtype=dtype)
            where = f"x of shape {shape} in {str(dtype)[6:]}"
            expect_like(answer(x, *tables(x, 0)), shape=shape, dtype=dtype, where=where)
    x, cos = draw(1, 2, 3, 8), on_device(torch.ones(3, 4))
    answer(x, cos, 0 * cos)
    answer.expect_new("all angles 0")


def turns_each_pair(answer: Callable, layout: str) -> None:
    for shape, first in [((1, 1, 2, 4), 1), ((2, 3, 5, 8), 0), ((1, 2, 33, 64), 100), ((1, 2, 4, 64), 1_000_000)]:
        x = draw(*shape, seed=first)
        where = f"x of shape {shape} from position {first:,}"
        expect_close(answer(x, *tables(x, first)), by_matrices(x, first, layout), where=where, atol=2e-5)
    x = draw(2, 6, 3, 8).transpose(1, 2)
    where = "x made by .transpose(1, 2), as a model makes it"
    expect_close(answer(x, *tables(x, 3)), by_matrices(x, 3, layout), where=where, atol=2e-5)


class CountOperations(TorchFunctionMode):
    """Counts the operations on tensors inside its `with` block."""

    count = 0

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def has_no_loop(answer: Callable, layout: str) -> None:
    counts = []
    for shape in ((1, 1, 4, 8), (3, 5, 16, 64)):
        x = draw(*shape)
        cos, sin = tables(x, 0)
        with CountOperations() as counter:
            answer(x, cos, sin)
        counts.append(counter.count)
    if counts[1] > counts[0]:
        raise Mismatch(
            f"expected as many operations for x of shape (3, 5, 16, 64) as for (1, 1, 4, 8), got {counts[1]} and "
            f"{counts[0]}: it must not grow, as it does in a loop over positions, pairs, heads or the batch"
        )


def sees_distance_alone(answer: Callable, layout: str) -> None:
    query, key = draw(1, 1, 1, 64, seed=1), draw(1, 1, 1, 64, seed=2)

    def score(m: int, n: int) -> Tensor:
        return (exact(answer(query, *tables(query, m))) * exact(answer(key, *tables(key, n)))).sum()

    expect_close(score(1_012, 1_005), score(12, 5), where="q.k for positions (1012, 1005) and (12, 5)", atol=1e-3)
    if abs(score(12, 5) - score(12, 11)).item() < 1e-2:
        raise Mismatch("q.k at distance 7 and at distance 1 are expected to differ, but are equal")


def computes_in_float32(answer: Callable, layout: str) -> None:
    for dtype, digits in HALVES.items():
        x = draw(2, 2, 33, 64, dtype=dtype)
        where = f"{str(dtype)[6:]}, to the last of its digits"
        got = answer(x, *tables(x, 0))
        expect_close(got, by_matrices(x, 0, layout), where=where, rtol=2.0**-digits, atol=1e-6)


def sends_gradients_back(answer: Callable, layout: str) -> None:
    x, upstream = draw(2, 2, 5, 8).requires_grad_(), draw(2, 2, 5, 8, seed=1)
    got = answer(x, *tables(x, 1))
    # A sum, as for anything but a scalar torch imports sympy, which takes a second.
    gradient = torch.autograd.grad((got * upstream).sum(), x, allow_unused=True)[0] if got.requires_grad else None
    if gradient is None:
        raise Mismatch("the result is expected to carry gradients back to x, but none arrives there")
    expect_close(gradient, by_matrices(upstream, 1, layout, sign=-1), where="gradient of x", atol=2e-5)


def expect_rotation(exercise: Exercise, layout: str) -> None:
    """Add what is asked of a rotation in `layout`, and the families of mistakes that either can have."""
    reads = "i with i + head_dim / 2" if layout == "half" else "2i with 2i + 1"
    for name, test in {
        "one pair: (1, 0) becomes (0, 1) at 90 degrees, and (-1, 0) at 180": turns_one_pair_by_hand,
        "a new tensor comes out, in the shape and dtype of x": keeps_shape_and_dtype,
        f"turns each pair by its angle, channel {reads}": turns_each_pair,
        "as many operations for large inputs as for small ones: no loop": has_no_loop,
        "one query and one key: their score depends on their distance alone": sees_distance_alone,
        "half precision is not computed in: numbers are right to its last digit": computes_in_float32,
        "gradients flow back, turned the other way": sends_gradients_back,
    }.items():
        exercise.property(name)(partial(test, layout=layout))
    exercise.misconception(tables_of_neighbours_with_turns_of_halves)
    exercise.misconception(tables_of_halves_with_turns_of_neighbours)
    float32_out(exercise, "x")
    no_gradient(exercise, "x", "The projection that makes it would not learn.")
    overwrites(exercise, "x")
    needs_contiguous(exercise, "x")
    batch_of_one(exercise, "x")


# One change of what both references have in common
SLIPS = """
    turns backwards: v = -> sin = -sin; v =
        Each pair turns by minus its angle. Scores then depend on the opposite of the distance: a key 7 tokens back is
        read as one 7 tokens ahead. Asked for is (a cos - b sin, b cos + a sin).
    the minus is missing: a * cos - b * sin -> a * cos + b * sin
        Your result is (a cos + b sin, b cos + a sin), which is no rotation. The first channel takes minus b sin.
    minus on both: b * cos + a * sin -> b * cos - a * sin
        Your result is (a cos - b sin, b cos - a sin), which is no rotation. The second channel takes plus a sin.
    not turned at all: v = -> return x.clone(); v =
        x comes out as it went in, whatever cos and sin are. So a query and a key score alike wherever they stand.
    added, not turned: turned = -> new_a, new_b = a + cos, b + sin; turned =
        You add cos and sin to the channels, as a position table is added. RoPE multiplies each pair by a rotation.
    scaled, not turned: turned = -> new_a, new_b = a * cos, b * sin; turned =
        You multiply the first channels by cos and the second ones by sin. Each new channel needs both old ones.
    only the cosines: v = -> sin = 0 * sin; v =
        Your result is (a cos, b cos): minus b sin and plus a sin, which bring in the other channel, are missing.
    each channel with itself: turned = -> new_a, new_b = a * (cos - sin), b * (cos + sin); turned =
        Your result is (a cos - a sin, b cos + b sin). The sine has to multiply the other channel of the pair.
    the second line not exchanged: b * cos + a * sin -> a * cos + b * sin
        Your second channel is a cos + b sin. In it the two change places: b cos + a sin.
    cos and sin exchanged: v = -> cos, sin = sin, cos; v =
        In your result cos and sin stand in each other's place. Where the angle is 0, x must come out unchanged.
    channels of a pair exchanged: (new_a, new_b) -> (new_b, new_a)
        The two channels of each pair come out in each other's place. At angle 0 x must come out unchanged.
    first channel overwritten too early: turned = -> new_b = b * cos + new_a * sin; turned =
        The second channel of each pair is computed from the new first one. Keep the old a until both are computed.
    second channel overwritten too early: turned = -> new_a = a * cos - new_b * sin; turned =
        The first channel of each pair is computed from the new second one. Keep the old b until both are computed.
    only the first channels turned: (new_a, new_b) -> (new_a, b)
        The second channel of each pair comes out as it went in. Both channels of a pair change.
    only the second channels turned: (new_a, new_b) -> (a, new_b)
        The first channel of each pair comes out as it went in. Both channels of a pair change.
    heads taken for positions: v = -> cos, sin = cos[:, None], sin[:, None]; v =
        The tables line up with axis 1, the heads. x is (batch, n_heads, seq_len, head_dim): they fit its last two axes.
    one angle for all pairs: v = -> cos, sin = cos[:, :1], sin[:, :1]; v =
        All pairs turn by the angle of the first one. Column i of cos and sin belongs to pair i.
    every token as the first: v = -> cos, sin = cos[:1], sin[:1]; v =
        All tokens turn by the angles of the first one. Row m of cos and sin belongs to token m.
    every token as the last: v = -> cos, sin = cos[-1:], sin[-1:]; v =
        All tokens turn by the angles of the last one. Row m of cos and sin belongs to token m.
    positions from 0: v = -> cos, sin = cos * cos[0] + sin * sin[0], sin * cos[0] - cos * sin[0]; v =
        Your result is that for tables which begin at position 0. These may begin anywhere: use them as they are.
    the first head for all: v = at_least_float32(x) -> v = at_least_float32(x)[:, :1].expand_as(x)
        All heads come out as the first one does. Each head has its own channels.
    a cast taken for a copy: turned.to( -> v.copy_(turned).to(
        The caller's x is changed where it is float32: x.float() and x.to(torch.float32) are then x itself. Clone it
        before you write into it.
    computed in half precision: v = at_least_float32(x) -> v, cos, sin = x, cos.to(x.dtype), sin.to(x.dtype)
        Something is rounded to half precision before the end: cos and sin, say. Cast only the result.
    float16 kept: a, b = -> v, cos, sin = (t.to(x if x.dtype == torch.float16 else v) for t in (v, cos, sin)); a, b =
        In float16 your result is as if computed in float16. Both kinds of half precision go to float32, and back.
    half of the gradient: turned = -> new_a, new_b = a * cos - b.detach() * sin, b * cos + a.detach() * sin; turned =
        The numbers are right, but only a part of the gradient reaches x, as if what the sine multiplies were detached.
"""
