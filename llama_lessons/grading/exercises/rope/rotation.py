"""What the rotations in both layouts share: cases, properties and mistakes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import CountOperations, by_matrices, draw, tables


def rotation_cases() -> list[tuple]:
    """Shapes that tell heads from positions and pairs from halves, far positions, and half precision."""
    cases = []
    for seed, (shape, start, dtype) in enumerate(
        [
            ((1, 1, 3, 4), 1, torch.float32),
            ((2, 3, 5, 8), 0, torch.float32),
            ((2, 4, 4, 8), 2, torch.float32),  # as many heads as positions: swapped axes go unnoticed
            ((1, 2, 6, 64), 1_000, torch.float32),
            ((1, 2, 6, 64), 3, torch.bfloat16),
        ]
    ):
        positions = torch.arange(start, start + shape[2])
        cases.append((draw(*shape, seed=seed, dtype=dtype).requires_grad_(), *tables(positions, shape[3])))
    return cases


def add_rotation_properties(exercise: Exercise, layout: str) -> None:
    """Give `exercise` what must hold of a rotation in `layout`."""
    reads = "i with i + head_dim / 2" if layout == "half" else "2i with 2i + 1"

    @exercise.property("one pair turns like the hand of a clock")
    def _(answer: Callable) -> None:
        angle = torch.tensor([[0.0], [math.pi / 2], [math.pi]], device=choose_device())
        x = torch.tensor([[[[1.0, 0.0]] * 3]], device=choose_device())
        want = torch.tensor([[[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]]])
        got = answer(x, angle.cos(), angle.sin())
        expect_close(got, want, where="(1, 0) turned by 0, 90 and 180 degrees", atol=1e-6)

    @exercise.property("shape and dtype stay")
    def _(answer: Callable) -> None:
        for shape in ((1, 1, 1, 2), (2, 3, 5, 8), (3, 1, 7, 6)):
            for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
                x = draw(*shape, dtype=dtype)
                got = answer(x, *tables(torch.arange(shape[2]), shape[3]))
                expect_like(got, shape=shape, dtype=dtype, where=f"x of shape {shape} in {str(dtype)[6:]}")

    @exercise.property(f"turns each pair by its angle, channel {reads}")
    def _(answer: Callable) -> None:
        for seed, (shape, start) in enumerate([((1, 1, 2, 4), 1), ((2, 3, 5, 8), 0), ((1, 2, 16, 64), 100)]):
            x, positions = draw(*shape, seed=seed), torch.arange(start, start + shape[2])
            want = by_matrices(x, positions, layout)
            got = answer(x, *tables(positions, shape[3]))
            expect_close(got, want, where=f"x of shape {shape} from position {start}", atol=2e-5)

    @exercise.property("x may be transposed, as a model makes it")
    def _(answer: Callable) -> None:
        x, positions = draw(2, 6, 3, 8).transpose(1, 2), torch.arange(6)
        got = answer(x, *tables(positions, 8))
        expect_close(got, by_matrices(x, positions, layout), where="x made by .transpose(1, 2)", atol=2e-5)

    @exercise.property("no loop: as many operations for large inputs as for small ones")
    def _(answer: Callable) -> None:
        counts = []
        for seq_len, head_dim in ((4, 8), (16, 64)):
            x, (cos, sin) = draw(1, 1, seq_len, head_dim), tables(torch.arange(seq_len), head_dim)
            with CountOperations() as counter:
                answer(x, cos, sin)
            counts.append(counter.count)
        if counts[1] > counts[0]:
            raise Mismatch(
                f"expected as many operations for 16 positions and 64 channels as for 4 and 8, got {counts[1]} and "
                f"{counts[0]}: a loop over positions, pairs or heads is slow on any device"
            )

    @exercise.property("works as well at position 1,000,000")
    def _(answer: Callable) -> None:
        x, positions = draw(1, 2, 4, 64), torch.arange(1_000_000, 1_000_004)
        got = answer(x, *tables(positions, 64))
        expect_close(got, by_matrices(x, positions, layout), where="from position 1,000,000", atol=2e-5)

    @exercise.property("a score depends on the distance of query and key alone")
    def _(answer: Callable) -> None:
        query, key = draw(1, 1, 1, 64, seed=1), draw(1, 1, 1, 64, seed=2)

        def score(m: int, n: int) -> Tensor:
            turned = [answer(v, *tables(torch.tensor([p]), 64)).double().cpu() for v, p in ((query, m), (key, n))]
            return (turned[0] * turned[1]).sum().reshape(1)

        expect_close(score(1_012, 1_005), score(12, 5), where="q.k for positions (1012, 1005) and (12, 5)", atol=1e-3)
        if abs(score(12, 5) - score(12, 11)).item() < 1e-2:
            raise Mismatch("q.k at distance 7 and at distance 1 are expected to differ, but are equal")

    @exercise.property("half precision comes in and goes out, but is not computed in")
    def _(answer: Callable) -> None:
        for dtype, digits in ((torch.bfloat16, 8), (torch.float16, 11)):
            x, positions = draw(2, 2, 33, 64, dtype=dtype), torch.arange(33)
            got = answer(x, *tables(positions, 64))
            want = by_matrices(x, positions, layout)
            where = f"{str(dtype)[6:]}, to the last of its digits"
            expect_close(got, want, where=where, rtol=2.0**-digits, atol=1e-6)

    @exercise.property("gradients flow back, turned the other way")
    def _(answer: Callable) -> None:
        x, upstream, positions = draw(2, 2, 5, 8).requires_grad_(), draw(2, 2, 5, 8, seed=1), torch.arange(5)
        got = answer(x, *tables(positions, 8))
        if not got.requires_grad:
            raise Mismatch("the result is expected to carry gradients back to x, but it is cut off from x")
        (gradient,) = torch.autograd.grad(got, x, upstream, allow_unused=True)
        if gradient is None:
            raise Mismatch("the result is expected to carry gradients back to x, but it does not depend on x")
        expect_close(gradient, by_matrices(upstream, -positions, layout), where="gradient of x", atol=2e-5)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """First and second channels of the pairs in layout "half", in float32 at least."""
    return at_least_float32(x).chunk(2, dim=-1)


def neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """First and second channels of the pairs in layout "interleaved", in float32 at least."""
    return at_least_float32(x)[..., 0::2], at_least_float32(x)[..., 1::2]


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def join_halves(first: Tensor, second: Tensor, like: Tensor) -> Tensor:
    return torch.cat((first, second), dim=-1).to(like.dtype)


def join_neighbours(first: Tensor, second: Tensor, like: Tensor) -> Tensor:
    return torch.stack((first, second), dim=-1).flatten(-2).to(like.dtype)


def add_rotation_misconceptions(exercise: Exercise, split: Callable, join: Callable) -> None:
    """Give `exercise` the mistakes that can be made in either layout."""

    @exercise.misconception(
        "turns backwards",
        "Both sines have the wrong sign (or the two channels of each pair were taken the wrong way round): you turn by "
        "minus the angle. The scores come out as they should, since only "
        "distances count, but a pretrained model's weights expect (a cos - b sin, b cos + a sin).",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        return join(a * cos + b * sin, b * cos - a * sin, x)

    @exercise.misconception(
        "the minus is missing",
        "Your result is (a cos + b sin, b cos + a sin). That is no rotation: lengths change with the position. The "
        "first channel takes minus b sin.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        return join(a * cos + b * sin, b * cos + a * sin, x)

    @exercise.misconception(
        "minus on both",
        "Your result is (a cos - b sin, b cos - a sin). That is no rotation: the second channel takes plus a sin.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        return join(a * cos - b * sin, b * cos - a * sin, x)

    @exercise.misconception(
        "added, not turned",
        "You add cos and sin to the channels, as a position table is added. RoPE adds nothing: each pair (a, b) is "
        "multiplied by a 2 x 2 rotation. Added positions make q.k depend on where the two tokens stand.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        return join(a + cos, b + sin, x)

    @exercise.misconception(
        "scaled, not turned",
        "You multiply the first channels by cos and the second ones by sin. Each new channel needs both old ones: "
        "(a cos - b sin, b cos + a sin).",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        return join(a * cos, b * sin, x)

    @exercise.misconception(
        "cos and sin exchanged",
        "cos and sin stand in each other's place: at position 0, where the angle is 0, x must come out unchanged.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        return join(a * sin - b * cos, b * sin + a * cos, x)

    @exercise.misconception(
        "channels of a pair exchanged",
        "Each pair comes out turned, but with its two channels in each other's place. At position 0 x must come out "
        "unchanged.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        return join(b * cos + a * sin, a * cos - b * sin, x)

    @exercise.misconception(
        "uses what it has just overwritten",
        "The second channel of each pair is computed from the first one after that was overwritten. Keep the old "
        "value of a until both new ones are computed.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        a = a * cos - b * sin
        return join(a, b * cos + a * sin, x)

    @exercise.misconception(
        "heads taken for positions",
        "The tables line up with axis 1, the heads, so that all tokens of a head turn alike. x is (batch, n_heads, "
        "seq_len, head_dim): the tables (seq_len, head_dim // 2) fit its last two axes as they are.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        cos, sin = cos[:, None], sin[:, None]
        return join(a * cos - b * sin, b * cos + a * sin, x)

    @exercise.misconception(
        "float32 goes out",
        "The numbers are right, but bfloat16 comes in and float32 goes out: cast the result back with .to(x.dtype).",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        result = join(a * cos - b * sin, b * cos + a * sin, a)
        return result.to(torch.promote_types(x.dtype, torch.float32))

    @exercise.misconception(
        "computed in half precision",
        "The tables are rounded to the dtype of x before use, so that bfloat16 inputs are turned by angles of two or "
        "three digits. Compute in float32 and cast only the result.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        parts = split(torch.arange(x.shape[-1], device=x.device))
        a, b = (x[..., part.long()] for part in parts)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        return join(a * cos - b * sin, b * cos + a * sin, x)

    @exercise.misconception(
        "x overwritten",
        "The numbers are right, but you write them into x itself. Whoever passed x in may still need it: make a new "
        "tensor.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x)
        x.copy_(join(a * cos - b * sin, b * cos + a * sin, x))
        return x

    @exercise.misconception(
        "no gradients",
        "The numbers are right, but no gradient reaches x: .detach(), .data, torch.no_grad or a new torch.tensor cuts "
        "it off, and the query projection would never learn.",
    )
    def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = split(x.detach())
        return join(a * cos - b * sin, b * cos + a * sin, x)
