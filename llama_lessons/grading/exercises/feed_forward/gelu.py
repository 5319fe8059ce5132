"""Exercise 1: GELU, as it is defined."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import (
    HALVES,
    at_least_float32,
    draw,
    exact,
    expect_close,
    expect_gradients,
    expect_like,
    expect_same_for_views,
    tensor,
)
from ...families import float32_out, needs_contiguous, no_gradient, overwrites


def gelu(x: Tensor) -> Tensor:
    v = at_least_float32(x)
    below = (1 + torch.erf(v / math.sqrt(2))) / 2
    result = v * below
    return result.to(x.dtype)


def exact_gelu(x: Tensor) -> Tensor:
    """x times the probability that a standard normal number is below x, in float64."""
    x = exact(x)
    return x * torch.special.ndtr(x)


def cases() -> list[tuple]:
    """Several shapes, small and large numbers, half precision, a gradient."""
    sizes = [((3, 4), 1.0), ((2, 3, 8), 3.0), ((7,), 30.0), ((5, 5), 0.01)]
    made = [(draw(*shape, seed=seed) * size,) for seed, (shape, size) in enumerate(sizes)]
    made[0][0].requires_grad_()
    made += [(draw(4, 64, seed=9, dtype=dtype),) for dtype in HALVES]
    return [*made, (draw(6, 4, seed=5).t(),), (tensor([0.0, -1.0, 1.0, -200.0, 200.0]),)]


exercise = Exercise(
    gelu,
    points=3,
    minutes=6,
    cases=cases,
    returns=Tensor,
    hints=(
        "The bell curve's area up to x is what a channel is multiplied by: 0 far left, a half at 0, 1 far right.",
        "torch.erf runs from -1 to 1, and the area from 0 to 1. And erf counts in units that are a root of 2 larger.",
        "Everything in float32, and back to the dtype of x at the end.",
    ),
)


@exercise.property("shape and dtype of x")
def shape_and_dtype(answer: Callable) -> None:
    for shape in ((5,), (2, 3, 4), (1, 1), ()):
        for dtype in (torch.float32, *HALVES):
            x = draw(*shape, dtype=dtype)
            expect_like(answer(x), shape=shape, dtype=dtype, where=f"x of shape {shape} in {str(dtype)[6:]}")
    answer(tensor([1.0, 2.0]))
    answer.expect_new("x of two numbers")


@exercise.property("0 stays 0; large numbers pass, and large negative ones become 0")
def ends(answer: Callable) -> None:
    x = tensor([0.0, 10.0, 300.0, -10.0, -300.0])
    expect_close(answer(x), torch.tensor([0.0, 10.0, 300.0, 0.0, 0.0]), where="x of 0, 10, 300, -10, -300")


@exercise.property("x times the area below the bell curve up to x, to the last digits of float32")
def formula(answer: Callable) -> None:
    for shape, size in (((9,), 1.0), ((3, 50), 2.0), ((100,), 0.1)):
        x = draw(*shape, seed=3) * size
        expect_close(answer(x), exact_gelu(x), where=f"x of shape {shape}", rtol=2e-6, atol=2e-6)


@exercise.property("x may lie in memory in any order")
def any_order(answer: Callable) -> None:
    expect_same_for_views(answer, draw(3, 5, seed=6), where="x")


@exercise.property("half precision is computed in float32")
def half_precision(answer: Callable) -> None:
    for dtype, bits in HALVES.items():
        x = draw(20, 64, seed=4, dtype=dtype)
        where = f"x in {str(dtype)[6:]}"
        expect_close(answer(x), exact_gelu(x), where=where, rtol=1.1 * 2.0**-bits, atol=1e-6)


@exercise.property("gradients flow back to x")
def gradients(answer: Callable) -> None:
    expect_gradients(answer, exact_gelu, draw(3, 8, seed=2), names=("x",))
    expect_gradients(answer, exact_gelu, tensor([0.0, 30.0, 300.0, -30.0, -300.0]), names=("x",))
    for dtype in HALVES:
        expect_gradients(answer, exact_gelu, draw(3, 8, seed=2, dtype=dtype), names=("x",), rtol=1e-2, atol=1e-2)


exercise.slips("""
    the tanh approximation: below = -> below = (1 + torch.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2; _ =
        Your result is the approximation with tanh, which GPT-2 uses. It differs from GELU in the fourth digit. The
        exact one is asked for, with torch.erf.
    the sigmoid approximation: below = -> below = torch.sigmoid(1.702 * v); _ =
        Your result is x * sigmoid(1.702 x), the coarser approximation of the paper. Asked for is the exact one, with
        torch.erf.
    SiLU: below = -> below = torch.sigmoid(v); _ =
        Your result is x * sigmoid(x), which is SiLU. GELU multiplies by the area below the bell curve.
    ReLU: below = -> below = (v > 0).to(v.dtype); _ =
        Your result is that of ReLU: all or nothing. GELU multiplies by the area below the bell curve up to x.
    leaky ReLU: below = -> below = torch.where(v > 0, 1.0, 0.01).to(v.dtype); _ =
        Your result is that of a leaky ReLU. GELU multiplies by the area below the bell curve up to x.
    ELU: result = v * below -> result = torch.where(v > 0, v, torch.expm1(v))
        Your result is that of ELU. GELU is x times the area below the bell curve up to x.
    softplus: result = v * below -> result = torch.log1p(torch.exp(-v.abs())) + v.clamp(min=0)
        Your result is that of softplus. GELU is x times the area below the bell curve up to x.
    the area alone: result = v * below -> result = below
        You return the area below the bell curve up to x. GELU is x times that.
    the bell curve itself: below = -> below = torch.exp(-(v**2) / 2) / math.sqrt(2 * math.pi); _ =
        You multiply by the height of the bell curve at x. GELU multiplies by the area below it up to x.
    the root of 2 is missing: v / math.sqrt(2) -> v
        erf is given x itself. The area below the bell curve up to x is (1 + erf(x / root of 2)) / 2.
    times the root of 2: v / math.sqrt(2) -> v * math.sqrt(2)
        erf is given x times the root of 2. It is x divided by it.
    halved, no root: v / math.sqrt(2) -> v / 2
        erf is given x / 2. It is x divided by the root of 2.
    not halved: torch.erf(v / math.sqrt(2))) / 2 -> torch.erf(v / math.sqrt(2)))
        1 + erf runs from 0 to 2, and you multiply by that: large numbers come out doubled. Half of it is the area.
    the 1 is missing: (1 + torch.erf(v / math.sqrt(2))) / 2 -> torch.erf(v / math.sqrt(2)) / 2
        You multiply by erf / 2, which runs from -1/2 to 1/2. The area runs from 0 to 1: add 1 before you halve.
    erf alone: (1 + torch.erf(v / math.sqrt(2))) / 2 -> torch.erf(v / math.sqrt(2))
        You multiply by erf, which runs from -1 to 1. The area runs from 0 to 1: (1 + erf) / 2.
    erfc for erf: torch.erf -> torch.erfc
        You use erfc, which is 1 - erf.
    the area above: (1 + torch -> (1 - torch
        You multiply by the area above x, so that large numbers become 0. It is the area below x.
    squared: result = v * below -> result = v * v * below
        Your result has one factor x too many.
    the size alone: result = v * below -> result = v.abs() * below
        Your result is never negative: you multiply by the size of x. It is x itself.
    computed in half precision: v = at_least_float32(x) -> v = x
        Where half precision comes in, your numbers are further off than its last digit, as where they are rounded on
        the way. Go to float32 first, compute the same formula there, and cast back at the end.
""")
float32_out(exercise, "x")
needs_contiguous(exercise, "x")
no_gradient(exercise, "x")
overwrites(exercise, "x")
