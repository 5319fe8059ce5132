"""Exercises of lesson 03: frequencies, rotation in both layouts, the permutation between them, and a bug hunt.

What is expected is never taken from `llama_lessons.rope`, but from RoFormer's own form: one rotation matrix
for each position (its eq. 15), in float64.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llama_lessons import rope
from llama_lessons.lab.device import choose_device

from ..exercise import Exercise
from ..expect import (
    Mismatch,
    expect_close,
    expect_like,
    expect_value_error,
    random_tensor,
)

LESSON = "03_rope"


def pair_channels(head_dim: int, layout: str) -> tuple[Tensor, Tensor]:
    """First and second channel of each pair."""
    first = torch.arange(head_dim // 2)
    return (first, first + head_dim // 2) if layout == "half" else (2 * first, 2 * first + 1)


def by_matrices(x: Tensor, positions: Tensor, layout: str, theta: float = 10_000.0) -> Tensor:
    """Turn x (..., seq_len, head_dim) by one rotation matrix a position, in float64 (RoFormer, eq. 15)."""
    head_dim = x.shape[-1]
    a, b = pair_channels(head_dim, layout)
    angles = positions.double().cpu()[:, None] * theta ** (-2 * torch.arange(head_dim // 2).double() / head_dim)
    matrices = torch.zeros(len(positions), head_dim, head_dim, dtype=torch.float64)
    matrices[:, a, a], matrices[:, b, b] = angles.cos(), angles.cos()
    matrices[:, a, b], matrices[:, b, a] = -angles.sin(), angles.sin()
    return torch.einsum("sij,...sj->...si", matrices, x.detach().double().cpu())


def tables(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin of each position and pair on the learner's device, float32, (seq_len, head_dim // 2)."""
    cos, sin = rope.rope_tables(positions, rope.rope_frequencies(head_dim))
    return cos.to(choose_device()), sin.to(choose_device())


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())


class CountOperations(TorchDispatchMode):
    """Counts the operations on tensors inside its `with` block."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


# ------------------------------------------------------------------------------------- rope_frequencies


def frequency_cases() -> list[tuple]:
    return [
        (2, 10_000.0),
        (6, 10_000.0),
        (8, 500_000.0),
        (64, 10_000.0),
        (64, 500_000.0),
        (128, 10_000.0),
        (7, 10_000.0),
    ]


rope_frequencies = Exercise(
    name="rope_frequencies",
    lesson=LESSON,
    points=3,
    minutes=5,
    parameters=("head_dim", "theta"),
    reference=rope.rope_frequencies,
    cases=frequency_cases,
    returns=Tensor,
    hints=(
        "How many pairs are there in head_dim channels? The result has one number for each pair.",
        "torch.arange(0, head_dim, 2, dtype=torch.float64) gives 0, 2, 4, ...: that is 2i for each pair i. "
        "What is left is one division and one power.",
        "The exponent is negative: the first pair is the fastest, at 1 radian a position, and all others are slower. "
        "An odd head_dim is refused before anything is computed.",
    ),
)


@rope_frequencies.property("one frequency for each pair of channels, in float64")
def _(answer: Callable) -> None:
    for head_dim in (2, 6, 64, 128):
        got = answer(head_dim, 10_000.0)
        expect_like(got, shape=(head_dim // 2,), dtype=torch.float64, where=f"head_dim {head_dim}")


@rope_frequencies.property("pair 0 turns by one radian a position, later pairs more slowly")
def _(answer: Callable) -> None:
    got = answer(8, 10_000.0)
    expect_close(got[:1], torch.ones(1), where="head_dim 8, the first frequency", rtol=1e-12, atol=0)
    if not (got[1:] < got[:-1]).all():
        raise Mismatch(f"head_dim 8: expected frequencies that fall from pair to pair, got {got.tolist()}")


@rope_frequencies.property("frequency[i] is theta ** (-2 i / head_dim), to the last digits of float64")
def _(answer: Callable) -> None:
    for head_dim in (4, 6, 64, 128):
        want = torch.tensor([math.pow(10_000.0, -2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float64)
        expect_close(answer(head_dim, 10_000.0), want, where=f"head_dim {head_dim}", rtol=1e-12, atol=0)


@rope_frequencies.property("theta is used")
def _(answer: Callable) -> None:
    for theta in (100.0, 500_000.0):
        want = torch.tensor([1.0, theta**-0.25, theta**-0.5, theta**-0.75], dtype=torch.float64)
        expect_close(answer(8, theta), want, where=f"head_dim 8, theta {theta:g}", rtol=1e-12, atol=0)


@rope_frequencies.property("theta is 10,000 where it is not given")
def _(answer: Callable) -> None:
    expect_close(answer(4), torch.tensor([1.0, 0.01]), where="rope_frequencies(4)", rtol=1e-7, atol=0)


@rope_frequencies.property("an odd head_dim is refused with a ValueError")
def _(answer: Callable) -> None:
    for head_dim in (1, 7, 65):
        expect_value_error(answer, head_dim, 10_000.0, where=f"head_dim {head_dim}")


def even(head_dim: int) -> Tensor:
    """0, 2, 4, ... below head_dim, after the check that all the wrong answers below have right."""
    if head_dim % 2:
        raise ValueError("odd")
    return torch.arange(0, head_dim, 2, dtype=torch.float64)


@rope_frequencies.misconception(
    "the 2 is missing",
    "Your exponents run from 0 to 1/2 instead of to 1: pair i has exponent -2i / head_dim, not -i / head_dim. "
    "There are head_dim / 2 pairs, so 2i / head_dim runs over the whole range from 0 to 1.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(even(head_dim) / 2 / head_dim)


@rope_frequencies.misconception(
    "the 2 twice",
    "Your exponents run from 0 to 2: 2i over head_dim / 2, or 4i over head_dim. arange(0, head_dim, 2) is 2i "
    "already; divide it by head_dim.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(even(head_dim) * 2 / head_dim)


@rope_frequencies.misconception(
    "positive exponent",
    "Your numbers grow. theta ** (+2i / head_dim) says after how many positions a pair has turned by one radian; the "
    "frequency is one over that.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** (even(head_dim) / head_dim)


@rope_frequencies.misconception(
    "theta written in",
    "You use 10,000 whatever theta is. Llama 3 uses 500,000, so take the argument.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return 10_000.0 ** -(even(head_dim) / head_dim)


@rope_frequencies.misconception(
    "one per channel",
    "You return each frequency twice, once for each channel of its pair. One number for each pair is asked for.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return (theta ** -(even(head_dim) / head_dim)).repeat_interleave(2)


@rope_frequencies.misconception(
    "one per channel, in two halves",
    "You return the row of frequencies twice, one after the other, as Hugging Face does for its tables. One number "
    "for each pair is asked for.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return (theta ** -(even(head_dim) / head_dim)).repeat(2)


@rope_frequencies.misconception(
    "last exponent is 1",
    "Your exponents run from 0 to 1 with both ends, like linspace. They are 2i / head_dim, and the last one is "
    "1 - 2 / head_dim.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -torch.linspace(0, 1, len(even(head_dim)), dtype=torch.float64)


@rope_frequencies.misconception(
    "pairs counted from 1",
    "Your first frequency is not 1, since you begin at i = 1. Pairs count from 0, and theta ** 0 is 1.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -((even(head_dim) + 2) / head_dim)


@rope_frequencies.misconception(
    "an angle step that is linear",
    "Your frequencies fall by a constant step. They are powers of theta, which fall by a constant factor from pair to "
    "pair.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return 1 - even(head_dim) / head_dim


@rope_frequencies.misconception(
    "exp without the logarithm",
    "You take e to the power -2i / head_dim. The base is theta: exp(-2i / head_dim * log(theta)).",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return torch.exp(-even(head_dim) / head_dim)


@rope_frequencies.misconception(
    "whole-number division",
    "All your frequencies are 1: with // every exponent 2i // head_dim is 0. Divide with /.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(even(head_dim) // head_dim)


@rope_frequencies.misconception(
    "float32",
    "The numbers are right, but in float32. At position 1,000,000 the rounding of a float32 frequency has grown to "
    "hundredths of a radian. Say dtype=torch.float64 where you make the exponents.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(even(head_dim).float() / head_dim)


@rope_frequencies.misconception(
    "float32, converted at the end",
    "The numbers are right to about seven digits only: they were computed in float32 and converted to float64 "
    "afterwards, which brings no digit back. Say dtype=torch.float64 where you make the exponents.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return (theta ** -(even(head_dim).float() / head_dim)).double()


@rope_frequencies.misconception(
    "odd sizes accepted",
    "You accept an odd head_dim, in which one channel has no partner. Raise ValueError first.",
)
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


@rope_frequencies.alternative
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    even(head_dim)
    return torch.exp(-math.log(theta) * torch.arange(head_dim // 2, dtype=torch.float64) * 2 / head_dim)


@rope_frequencies.alternative
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    if head_dim % 2 != 0:
        raise ValueError(f"head_dim {head_dim} is odd")
    return torch.tensor([theta ** (-2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float64)


@rope_frequencies.alternative
def _(head_dim: int, theta: float = 10_000.0) -> Tensor:
    return 1.0 / torch.pow(torch.tensor(theta, dtype=torch.float64), even(head_dim) / head_dim)


# ---------------------------------------------------------------------- apply_rope, apply_rope_interleaved


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


apply_rope = Exercise(
    name="apply_rope",
    lesson=LESSON,
    points=5,
    minutes=15,
    parameters=("x", "cos", "sin"),
    reference=lambda x, cos, sin: rope.apply_rope(x, cos, sin, layout="half"),
    cases=rotation_cases,
    returns=Tensor,
    hints=(
        "Start with the pairs. x.chunk(2, dim=-1) gives two tensors: all first channels a, all second channels b. "
        "Both then have the shape that cos and sin fit.",
        "Write the rotation of one pair as two lines, one for the new a and one for the new b. Both need the old a "
        "and the old b. At angle 0 nothing changes; at 90 degrees (1, 0) becomes (0, 1).",
        "torch.cat undoes chunk. For bfloat16, go to float32 before the arithmetic, and back to x.dtype at the end.",
    ),
)
add_rotation_properties(apply_rope, "half")


@apply_rope.misconception(
    "pairs are neighbours",
    "You pair channel 2i with 2i + 1: that is the layout of the paper, Meta and llama.cpp. This exercise asks for "
    "Hugging Face's: i with i + head_dim / 2. Both are right, each with weights of its own order.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    return join_neighbours(a * cos - b * sin, b * cos + a * sin, x)


add_rotation_misconceptions(apply_rope, halves, join_halves)


@apply_rope.misconception(
    "frequencies repeated in the other layout",
    "Channels are paired i with i + head_dim / 2, but the tables are spread over channels with repeat_interleave, so "
    "the two channels of a pair turn at different speeds. Lay the tables twice one after the other: torch.cat((cos, "
    "cos), dim=-1).",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (at_least_float32(x) * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


@apply_rope.misconception(
    "read as halves, written as neighbours",
    "You read pairs from the two halves and write them back side by side (stack and flatten). Put them back where "
    "they came from: torch.cat.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return join_neighbours(a * cos - b * sin, b * cos + a * sin, x)


@apply_rope.misconception(
    "read as neighbours, written as halves",
    "You read neighbours, 2i and 2i + 1, and write them back as halves. Here a pair is i with i + head_dim / 2, read "
    "and written: chunk and cat.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    return join_halves(a * cos - b * sin, b * cos + a * sin, x)


@apply_rope.misconception(
    "only one half is turned",
    "You compute the new first channels and leave the second ones as they were. Both channels of a pair change.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return join_halves(a * cos - b * sin, b, x)


@apply_rope.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return (at_least_float32(x) * torch.cat((cos, cos), -1) + torch.cat((-b, a), -1) * torch.cat((sin, sin), -1)).to(
        x.dtype
    )


@apply_rope.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = torch.complex(*(part.float() for part in halves(x))) * torch.complex(cos, sin)
    return join_halves(turned.real, turned.imag, x)


@apply_rope.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    result = torch.empty(x.shape, device=x.device)
    middle = x.shape[-1] // 2
    result[..., :middle] = x[..., :middle].float() * cos - x[..., middle:].float() * sin
    result[..., middle:] = x[..., middle:].float() * cos + x[..., :middle].float() * sin
    return result.to(x.dtype)


apply_rope_interleaved = Exercise(
    name="apply_rope_interleaved",
    lesson=LESSON,
    points=4,
    minutes=8,
    parameters=("x", "cos", "sin"),
    reference=lambda x, cos, sin: rope.apply_rope(x, cos, sin, layout="interleaved"),
    cases=rotation_cases,
    returns=Tensor,
    hints=(
        "Only the choice of pairs changes. x[..., 0::2] takes every second channel from 0 on. What takes the others?",
        "The new pairs have to go back to where they came from: 2i and 2i + 1. torch.stack makes a new last axis of "
        "two; flatten(-2) joins it with the axis before.",
        "Meta's code reads a pair as one complex number and multiplies by cos + i sin; torch.complex and "
        "torch.view_as_real do that. Cast to float32 first: there is no bfloat16 complex number.",
    ),
)
add_rotation_properties(apply_rope_interleaved, "interleaved")


@apply_rope_interleaved.misconception(
    "pairs are halves",
    "You pair channel i with i + head_dim / 2: that is Hugging Face's layout, and was the last exercise. Here "
    "channel 2i goes with 2i + 1.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return join_halves(a * cos - b * sin, b * cos + a * sin, x)


add_rotation_misconceptions(apply_rope_interleaved, neighbours, join_neighbours)


@apply_rope_interleaved.misconception(
    "read as neighbours, written as halves",
    "You read neighbours and put them back with torch.cat, all first channels before all second ones. The scores "
    "come out right, since q and k are reordered alike, but each pair has to go back to 2i and 2i + 1.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    return join_halves(a * cos - b * sin, b * cos + a * sin, x)


@apply_rope_interleaved.misconception(
    "read as halves, written as neighbours",
    "You read the two halves, i and i + head_dim / 2, and write them back side by side. Here a pair is 2i with 2i + 1, "
    "read and written.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = halves(x)
    return join_neighbours(a * cos - b * sin, b * cos + a * sin, x)


@apply_rope_interleaved.misconception(
    "frequencies repeated in the other layout",
    "Channels are paired 2i with 2i + 1, but the tables are laid twice one after the other with torch.cat, so the two "
    "channels of a pair turn at different speeds. Here repeat_interleave(2, dim=-1) spreads them over channels.",
)
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
    return (at_least_float32(x) * cos + torch.stack((-b, a), dim=-1).flatten(-2) * sin).to(x.dtype)


@apply_rope_interleaved.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


@apply_rope_interleaved.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = neighbours(x)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (at_least_float32(x) * cos + torch.stack((-b, a), dim=-1).flatten(-2) * sin).to(x.dtype)


@apply_rope_interleaved.alternative
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = x.float().clone()
    turned[..., 0::2] = x[..., 0::2].float() * cos - x[..., 1::2].float() * sin
    turned[..., 1::2] = x[..., 1::2].float() * cos + x[..., 0::2].float() * sin
    return turned.type_as(x)


# --------------------------------------------------------------------------------------- to_interleaved


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


# ------------------------------------------------------------------------------------ rotate_new_tokens


def turn(x: Tensor, positions: Tensor, theta: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Turn x in layout "half", with angles computed in `dtype`: what the answers below share."""
    frequencies = theta ** -(torch.arange(0, x.shape[-1], 2, dtype=torch.float64, device=x.device) / x.shape[-1])
    angles = positions.to(dtype)[:, None] * frequencies.to(dtype)
    cos, sin = angles.double().cos().float(), angles.double().sin().float()
    a, b = halves(x)
    return join_halves(a * cos - b * sin, b * cos + a * sin, x)


def new_positions(x: Tensor, start: int) -> Tensor:
    return torch.arange(start, start + x.shape[-2], device=x.device)


def reference_rotate(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, n_cached)
    return turn(q, positions, theta), turn(k, positions, theta)


def decoding_cases() -> list[tuple]:
    """Prefill, steps of one and of more tokens, grouped heads, half precision, far positions, another theta."""
    cases = []
    for seed, (n_heads, n_kv_heads, seq_len, head_dim, n_cached, theta, dtype) in enumerate(
        [
            (2, 2, 6, 8, 0, 10_000.0, torch.float32),
            (4, 2, 1, 8, 5, 10_000.0, torch.float32),
            (4, 1, 3, 16, 7, 10_000.0, torch.float32),
            (2, 1, 2, 8, 4_099, 500_000.0, torch.float32),
            (2, 1, 2, 8, 4_099, 10_000.0, torch.float16),
        ]
    ):
        q = draw(2, n_heads, seq_len, head_dim, seed=seed, dtype=dtype).requires_grad_()
        k = draw(2, n_kv_heads, seq_len, head_dim, seed=seed + 50, dtype=dtype).requires_grad_()
        cases.append((q, k, n_cached, theta))
    return cases


rotate_new_tokens = Exercise(
    name="rotate_new_tokens",
    lesson=LESSON,
    points=5,
    minutes=10,
    parameters=("q", "k", "n_cached", "theta"),
    reference=reference_rotate,
    cases=decoding_cases,
    returns=(Tensor, Tensor),
    hints=(
        "A first call with n_cached = 0 gives right results, so look for what n_cached changes.",
        "Print the positions for n_cached = 5 and one new token. Positions count from 0, and five tokens are cached. "
        "Which positions do these have? Which one is free?",
        "Compare eight tokens at once with five and then three: the rotated keys must be the same eight.",
    ),
)


def expect_turned(answer: Callable, q: Tensor, k: Tensor, n_cached: int, theta: float, atol: float = 2e-5) -> None:
    positions = torch.arange(n_cached, n_cached + q.shape[2])
    for name, given, got in zip("qk", (q, k), answer(q, k, n_cached, theta), strict=True):
        where = f"{name} of shape {tuple(q.shape if name == 'q' else k.shape)}, {n_cached} tokens cached"
        expect_like(got, shape=tuple(given.shape), dtype=given.dtype, where=where)
        expect_close(got, by_matrices(given, positions, "half", theta), where=where, rtol=1e-3, atol=atol)


@rotate_new_tokens.property("nothing cached: tokens stand at 0, 1, 2, ...")
def _(answer: Callable) -> None:
    expect_turned(answer, draw(2, 2, 6, 8), draw(2, 2, 6, 8, seed=1), 0, 10_000.0)
    expect_turned(answer, draw(1, 1, 1, 2), draw(1, 1, 1, 2, seed=1), 0, 10_000.0)


@rotate_new_tokens.property("five cached: the new token stands at position 5")
def _(answer: Callable) -> None:
    expect_turned(answer, draw(1, 2, 1, 8), draw(1, 2, 1, 8, seed=1), 5, 10_000.0)
    expect_turned(answer, draw(2, 2, 3, 16), draw(2, 2, 3, 16, seed=1), 7, 10_000.0)


@rotate_new_tokens.property("in pieces or at once, keys and queries come out the same")
def _(answer: Callable) -> None:
    q, k = draw(2, 2, 8, 8), draw(2, 2, 8, 8, seed=1)
    whole = answer(q, k, 0, 10_000.0)
    for sizes in ((5, 3), (1,) * 8, (1, 6, 1)):
        pieces, start = [], 0
        for size in sizes:
            part = slice(start, start + size)
            pieces.append(answer(q[:, :, part], k[:, :, part], start, 10_000.0))
            start += size
        for name, at_once, parts in zip("qk", whole, zip(*pieces, strict=True), strict=True):
            where = f"{name} in pieces of {', '.join(map(str, sizes))}, against 8 at once"
            expect_close(torch.cat(parts, dim=2), at_once, where=where)


@rotate_new_tokens.property("fewer key heads than query heads are fine")
def _(answer: Callable) -> None:
    expect_turned(answer, draw(2, 6, 3, 8), draw(2, 2, 3, 8, seed=1), 4, 10_000.0)
    expect_turned(answer, draw(1, 9, 1, 64), draw(1, 3, 1, 64, seed=1), 100, 10_000.0)


@rotate_new_tokens.property("theta is used, and 10,000 where it is not given")
def _(answer: Callable) -> None:
    q, k = draw(1, 2, 2, 8), draw(1, 2, 2, 8, seed=1)
    expect_turned(answer, q, k, 40, 500_000.0)
    for name, given, got in zip("qk", (q, k), answer(q, k, 2_000), strict=True):
        want = by_matrices(given, torch.arange(2_000, 2_002), "half")
        expect_close(got, want, where=f"{name}, 2000 tokens cached, no theta given", rtol=1e-3, atol=2e-3)


@rotate_new_tokens.property("far positions and half precision: angles stay exact")
def _(answer: Callable) -> None:
    # A float32 angle at 20,000 is off by a thousandth, and that is accepted; a float16 angle is off by turns.
    expect_turned(answer, draw(1, 2, 2, 64), draw(1, 2, 2, 64, seed=1), 20_000, 10_000.0, atol=2e-2)
    for dtype in (torch.float16, torch.bfloat16):
        q, k = draw(1, 2, 2, 64, dtype=dtype), draw(1, 2, 2, 64, seed=1, dtype=dtype)
        expect_turned(answer, q, k, 4_099, 10_000.0, atol=3e-2)


@rotate_new_tokens.property("gradients flow back to q and to k")
def _(answer: Callable) -> None:
    q, k = draw(1, 4, 3, 8).requires_grad_(), draw(1, 2, 3, 8, seed=1).requires_grad_()
    total = sum(got.sum() for got in answer(q, k, 5, 10_000.0))
    gradients = torch.autograd.grad(total, (q, k), allow_unused=True) if total.requires_grad else (None, None)
    for name, x, gradient in zip("qk", (q, k), gradients, strict=True):
        if gradient is None:
            raise Mismatch(f"the rotated {name} is expected to carry gradients back to {name}, but it is cut off")
        want = by_matrices(torch.ones_like(x), -torch.arange(5, 8), "half")
        expect_close(gradient, want, where=f"gradient of {name}", rtol=1e-3, atol=2e-5)


@rotate_new_tokens.misconception(
    "no gradients",
    "The numbers are right, but no gradient reaches q and k: .detach(), .data, torch.no_grad or a new torch.tensor "
    "cuts them off, and the model could not be trained with this.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference_rotate(q.detach(), k.detach(), n_cached, theta)


@rotate_new_tokens.misconception(
    "the planted bug",
    "The bug is still there: the prompt comes out right, tokens after it do not. Look at the two printed lines. From "
    "which key on do they differ, and at which position does the second call begin?",
    given=True,
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, max(n_cached - 1, 0))
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "one position behind",
    "The first token of a prompt stands at -1, and all others one too low. Positions count from 0: start at n_cached.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, n_cached - 1)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "the prompt begins at 1",
    "Tokens after the prompt are right now, but with nothing cached the first token stands at 1, not at 0. max(..., 0) "
    "hid that: start at n_cached, without it.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, max(n_cached - 1, 0) + 1)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "one position ahead",
    "All tokens stand one position too far, the first one at 1. Scores do not notice, since only distances count, but "
    "positions count from 0, and keys that another program cached would not fit yours.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, n_cached + 1)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "one position ahead when decoding",
    "The prompt is right, but with 5 tokens cached the new one gets position 6: positions count from 0, so the cached "
    "ones have 0 to 4 and 5 is free.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, n_cached + 1 if n_cached else 0)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "the cache is ignored",
    "New tokens start at position 0 in each call, so that every generated token believes it is the first. Start at "
    "n_cached.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, 0)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "every new token at n_cached",
    "All new tokens get the same position, n_cached. Decoding one token at a time hides it; a prompt of several "
    "tokens needs n_cached, n_cached + 1, and so on.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = torch.full_like(new_positions(q, 0), n_cached)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "keys left as they are",
    "Only the queries are turned. A score depends on distance alone when both ends turn.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return turn(q, new_positions(q, n_cached), theta), k


@rotate_new_tokens.misconception(
    "keys start at 0",
    "The queries start at n_cached, the new keys at 0. New keys belong to the same tokens as the new queries, and "
    "stand where these stand.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return turn(q, new_positions(q, n_cached), theta), turn(k, new_positions(k, 0), theta)


@rotate_new_tokens.misconception(
    "added, not turned",
    "cos and sin are added to q and k, as a position table would be. Then q.k depends on where the tokens stand, and "
    "the scores grow sums that have nothing to do with content. Turn each pair instead.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    def add(x: Tensor) -> Tensor:
        ones = torch.ones_like(x, dtype=torch.float32)
        ones[..., x.shape[-1] // 2 :] = 0  # (1, 0) turned by an angle is (cos, sin)
        return (x + turn(ones, new_positions(x, n_cached), theta)).to(x.dtype)

    return add(q), add(k)


@rotate_new_tokens.misconception(
    "frequencies repeated in the other layout",
    "The angles are spread over channels with repeat_interleave, which fits pairs of neighbours, while the channels "
    "are turned in halves. The two channels of a pair then turn at different speeds: lengths and distances break.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    def mix_up(x: Tensor) -> Tensor:
        angles = new_positions(x, n_cached)[:, None] * rope.rope_frequencies(x.shape[-1], theta).to(x.device)
        cos, sin = (table.float().repeat_interleave(2, dim=-1) for table in (angles.cos(), angles.sin()))
        a, b = halves(x)
        return (at_least_float32(x) * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)

    return mix_up(q), mix_up(k)


@rotate_new_tokens.misconception(
    "pairs are neighbours",
    "Channel 2i is paired with 2i + 1. That is a right RoPE in the other layout, but this cache is in layout half: i "
    "with i + head_dim / 2.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    cos, sin = rope.rope_tables(new_positions(q, n_cached), rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, cos, sin, "interleaved"), rope.apply_rope(k, cos, sin, "interleaved")


@rotate_new_tokens.misconception(
    "turns backwards",
    "The sines have the wrong sign: everything turns by minus the angle. Scores do not notice, but pretrained weights "
    "and keys cached by others expect (a cos - b sin, b cos + a sin).",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = -new_positions(q, n_cached)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "angles in half precision",
    "The angles are computed in the dtype of q. Beyond 2048 float16 cannot tell odd positions from even ones, and an "
    "angle of thousands of radians is off by whole ones. Compute angles in float32 or float64; cast what goes out.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    dtype = q.dtype if q.dtype in (torch.float16, torch.bfloat16) else torch.float64
    positions = new_positions(q, n_cached)
    return turn(q, positions, theta, dtype), turn(k, positions, theta, dtype)


@rotate_new_tokens.misconception(
    "theta written in",
    "You use 10,000 whatever theta is. Llama 3 uses 500,000, so take the argument.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference_rotate(q, k, n_cached)


@rotate_new_tokens.alternative
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = torch.arange(q.shape[2], device=q.device) + n_cached
    cos, sin = rope.rope_tables(positions, rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


@rotate_new_tokens.alternative
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    def turned(x: Tensor) -> Tensor:
        size = x.shape[-1] // 2
        speeds = theta ** (-torch.arange(size, device=x.device) / size)
        angles = torch.outer(torch.arange(n_cached, n_cached + x.shape[-2], device=x.device), speeds)
        a, b = x[..., :size].float(), x[..., size:].float()
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1).to(x.dtype)

    return turned(q), turned(k)


@rotate_new_tokens.alternative
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    # Turning q and k of all tokens so far and keeping the last ones is wasteful, but right.
    length = n_cached + q.shape[2]
    cos, sin = rope.rope_tables(torch.arange(length, device=q.device), rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, cos[n_cached:], sin[n_cached:]), rope.apply_rope(k, cos[n_cached:], sin[n_cached:])
