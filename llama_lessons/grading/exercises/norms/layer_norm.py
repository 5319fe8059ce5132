"""Exercise 1: LayerNorm."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from llama_lessons import norms

from ...exercise import Exercise
from ...expect import expect_close, expect_like
from .common import (
    HALVES,
    LESSON,
    SHAPES,
    draw,
    exact_layer_norm,
    expect_gradients,
    tensor,
)

__all__ = ["layer_norm"]


def cases() -> list[tuple]:
    """Several ranks, a large eps, a mean far from 0, tiny numbers, half precision up to large squares, and no eps."""
    made = []
    for seed, (shape, shift, factor, eps, dtype) in enumerate(
        [
            ((4,), 0.0, 1.0, 1e-5, torch.float32),
            ((3, 4), 1.0, 1.0, 1e-5, torch.float32),
            ((2, 3, 6), 0.5, 2.0, 0.3, torch.float32),
            ((3, 3, 3), 0.0, 1.0, 1e-5, torch.float32),
            ((2, 64), 30.0, 1.0, 1e-5, torch.float32),
            ((4, 8), 0.0, 1e-3, 1e-5, torch.float32),
            ((2, 8), 0.0, 1e-6, 1e-5, torch.float32),
            ((4, 64), 1.0, 1.0, 1e-5, torch.bfloat16),
            ((4, 8), 100.0, 400.0, 1e-5, torch.float16),
        ]
    ):
        x = (draw(*shape, seed=seed) * factor + shift).to(dtype)
        weight, bias = (draw(shape[-1], seed=seed + n, dtype=dtype) for n in (20, 40))
        made.append((x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), eps))
    made.append((draw(3, 8) / 500, draw(8, seed=1), draw(8, seed=2)))
    return made


layer_norm = Exercise(
    name="layer_norm",
    lesson=LESSON,
    points=4,
    minutes=10,
    parameters=("x", "weight", "bias", "eps"),
    reference=norms.layer_norm,
    cases=cases,
    returns=Tensor,
    hints=(
        "Each token needs a mean and a variance of its own. Over which axis do its channels lie? keepdim=True keeps "
        "that axis with length 1, so that the result lines up with x.",
        "Take the mean away first. The variance is the mean of the squares of what is left: divide by the number of "
        "channels, not by one less, which is what torch.var does unless it is told otherwise.",
        "eps is added to the variance, before the root. Gain and bias come last, in this order. Go to float32 before "
        "the first mean, and back to x.dtype after the bias.",
    ),
)


@layer_norm.property("the token (1, 7) becomes (-1, 1)")
def _(answer: Callable) -> None:
    got = answer(tensor([[1.0, 7.0]]), tensor([1.0, 1.0]), tensor([0.0, 0.0]), 0.0)
    expect_close(got, torch.tensor([[-1.0, 1.0]]), where="(1, 7), gains 1, biases 0, eps 0", atol=1e-6)


@layer_norm.property("shape and dtype stay")
def _(answer: Callable) -> None:
    for shape in SHAPES:
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            x, weight, bias = draw(*shape, dtype=dtype), draw(shape[-1], dtype=dtype), draw(shape[-1], dtype=dtype)
            got = answer(x, weight, bias, 1e-5)
            expect_like(got, shape=shape, dtype=dtype, where=f"x of shape {shape} in {str(dtype)[6:]}")


@layer_norm.property("each token comes out with mean 0 and variance 1")
def _(answer: Callable) -> None:
    x = draw(2, 3, 64) * 3 + 2
    got = answer(x, torch.ones_like(x[0, 0]), torch.zeros_like(x[0, 0]), 0.0)
    expect_close(got.mean(dim=-1), torch.zeros(2, 3), where="means of the tokens, gains 1, biases 0", atol=1e-4)
    variance = got.var(dim=-1, correction=0)
    expect_close(variance, torch.ones(2, 3), where="variances of the tokens (divided by dim)", atol=1e-4)


@layer_norm.property("agrees with the formula, gains and biases included")
def _(answer: Callable) -> None:
    for seed, shape in enumerate(SHAPES):
        x, weight, bias = draw(*shape, seed=seed) + 1, draw(shape[-1], seed=seed + 20), draw(shape[-1], seed=seed + 40)
        want = exact_layer_norm(x, weight, bias, 1e-5)
        expect_close(answer(x, weight, bias, 1e-5), want, where=f"x of shape {shape}", atol=2e-5)


@layer_norm.property("eps stands inside the root, and is used")
def _(answer: Callable) -> None:
    for eps in (1e-6, 0.01, 1.0):
        x, weight, bias = draw(3, 8) / 20, draw(8, seed=1), draw(8, seed=2)
        want = exact_layer_norm(x, weight, bias, eps)
        expect_close(answer(x, weight, bias, eps), want, where=f"small numbers, eps {eps:g}", atol=2e-5)
    flat, weight, bias = torch.full_like(x, 7.0), draw(8), draw(8, seed=1)
    expect_close(answer(flat, weight, bias, 1e-5), bias.expand(3, 8), where="a token of equal numbers gives the bias")


@layer_norm.property("eps is 1e-5 where it is not given")
def _(answer: Callable) -> None:
    x, weight, bias = draw(3, 8) / 500, draw(8, seed=1), draw(8, seed=2)
    want = exact_layer_norm(x, weight, bias, 1e-5)
    expect_close(answer(x, weight, bias), want, where="small numbers, eps left out", atol=2e-5)


@layer_norm.property("scale and shift of a token make no difference")
def _(answer: Callable) -> None:
    x, weight, bias = draw(2, 3, 16), draw(16, seed=1), draw(16, seed=2)
    scaled, moved = answer(10 * x, weight, bias, 0.0), answer(x + 5, weight, bias, 0.0)
    expect_close(scaled, answer(x, weight, bias, 0.0), where="10 x beside x, eps 0", atol=1e-4)
    expect_close(moved, answer(x, weight, bias, 0.0), where="x + 5 beside x, eps 0", atol=1e-4)


@layer_norm.property("no token sees another")
def _(answer: Callable) -> None:
    x, weight, bias = draw(2, 3, 8), draw(8, seed=1), draw(8, seed=2)
    before = answer(x, weight, bias, 1e-5).detach()
    changed = x.clone()
    changed[1, 2] = 100 * draw(8, seed=3)
    after = answer(changed, weight, bias, 1e-5).detach()
    expect_close(after[0], before[0], where="row 0 of the batch, after a token of row 1 changed")
    expect_close(after[1, :2], before[1, :2], where="tokens 0 and 1, after token 2 of their row changed")


@layer_norm.property("a mean far from 0 does no harm")
def _(answer: Callable) -> None:
    x, weight, bias = draw(3, 64) + 1000, draw(64, seed=1), draw(64, seed=2)
    want = exact_layer_norm(x, weight, bias, 1e-5)
    expect_close(answer(x, weight, bias, 1e-5), want, where="numbers near 1000", atol=3e-3)


@layer_norm.property("half precision comes in and goes out, but is not computed in")
def _(answer: Callable) -> None:
    for dtype, bits in HALVES.items():
        x, weight = (draw(33, 64) + 1).to(dtype), draw(64, seed=1, dtype=dtype)
        bias = torch.zeros_like(weight)
        want = exact_layer_norm(x, weight, bias, 1e-5)
        # Two roundings are forgiven, so that the gain may be applied after the result is rounded.
        where = f"{str(dtype)[6:]}, to its last digits"
        expect_close(answer(x, weight, bias, 1e-5), want, where=where, rtol=2.1 * 2.0**-bits, atol=1e-6)
    x = (draw(3, 8) * 1000).to(torch.float16)
    weight, bias = torch.ones_like(x[0]), torch.zeros_like(x[0])
    want = exact_layer_norm(x, weight, bias, 1e-5)
    where = "float16 numbers near 1000, whose squares float16 cannot hold"
    expect_close(answer(x, weight, bias, 1e-5), want, where=where, rtol=1e-3, atol=1e-3)


@layer_norm.property("gradients flow back, through mean and variance too")
def _(answer: Callable) -> None:
    x, weight, bias = draw(2, 3, 8), draw(8, seed=1), draw(8, seed=2)
    expect_gradients(answer, exact_layer_norm, x, weight, bias, 1e-5, names=("x", "weight", "bias"))


@layer_norm.alternative
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x.float(), weight.shape, weight.float(), bias.float(), eps).to(x.dtype)


@layer_norm.alternative
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    spread, mean = torch.var_mean(x.float(), dim=-1, correction=0, keepdim=True)
    return (x.float() - mean).mul(torch.rsqrt(spread + eps)).type_as(x) * weight + bias


@layer_norm.alternative
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    # In float64, by a projection along (1, 1, ..., 1)
    n = x.shape[-1]
    keep = torch.eye(n, dtype=torch.float64, device=x.device) - 1 / n
    y = x.double() @ keep
    return (weight * y / (torch.linalg.vector_norm(y, dim=-1, keepdim=True) ** 2 / n + eps) ** 0.5 + bias).to(x.dtype)
