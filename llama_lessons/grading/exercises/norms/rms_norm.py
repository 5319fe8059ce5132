"""Exercise 2: RMSNorm as a function."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from llama_lessons import norms

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, expect_value_error
from .common import (
    HALVES,
    LESSON,
    SHAPES,
    draw,
    exact_rms_norm,
    expect_gradients,
    tensor,
)

__all__ = ["rms_norm"]


def cases() -> list[tuple]:
    """Several ranks, a large eps, tiny numbers, half precision, no eps, and weights that do not fit."""
    made = []
    for seed, (shape, shift, factor, eps, dtype) in enumerate(
        [
            ((4,), 0.0, 1.0, 1e-5, torch.float32),
            ((3, 4), 1.0, 1.0, 1e-5, torch.float32),
            ((2, 3, 6), 0.5, 2.0, 0.3, torch.float32),
            ((3, 3, 3), 0.0, 1.0, 1e-5, torch.float32),
            ((4, 8), 0.0, 1e-3, 1e-5, torch.float32),
            ((2, 8), 0.0, 1e-6, 1e-5, torch.float32),
            ((4, 64), 1.0, 1.0, 1e-5, torch.bfloat16),
            ((4, 8), 100.0, 400.0, 1e-5, torch.float16),
        ]
    ):
        x = (draw(*shape, seed=seed) * factor + shift).to(dtype)
        weight = draw(shape[-1], seed=seed + 20, dtype=dtype)
        made.append((x.requires_grad_(), weight.requires_grad_(), eps))
    made.append((draw(3, 8) / 500, draw(8, seed=1)))
    made.append((draw(2, 3, 8), draw(1, seed=1), 1e-5))
    made.append((draw(2, 8), draw(1, 8, seed=1), 1e-5))
    made.append((draw(2, 8), draw(2, 8, seed=1), 1e-5))
    return made


rms_norm = Exercise(
    name="rms_norm",
    lesson=LESSON,
    points=5,
    minutes=6,
    parameters=("x", "weight", "eps"),
    reference=norms.rms_norm,
    cases=cases,
    returns=Tensor,
    hints=(
        "Read the name backwards: square, then mean, then root. Nothing is taken away from x. The mean goes over one "
        "axis, and keepdim=True lets the result line up with x.",
        "eps joins the mean square before the root is taken. Divide x by the root, and multiply each channel by its "
        "gain.",
        "Half precision: .float() before the square, .to(x.dtype) at the end. And compare weight.shape with "
        "x.shape[-1:] before anything else: a weight of one number would fit every x without a word.",
    ),
)


@rms_norm.property("the token (1, 7) becomes (0.2, 1.4)")
def _(answer: Callable) -> None:
    got = answer(tensor([[1.0, 7.0]]), tensor([1.0, 1.0]), 0.0)
    expect_close(got, torch.tensor([[0.2, 1.4]]), where="(1, 7), gains 1, eps 0", atol=1e-6)


@rms_norm.property("shape and dtype stay")
def _(answer: Callable) -> None:
    for shape in SHAPES:
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            x, weight = draw(*shape, dtype=dtype), draw(shape[-1], dtype=dtype)
            got = answer(x, weight, 1e-5)
            expect_like(got, shape=shape, dtype=dtype, where=f"x of shape {shape} in {str(dtype)[6:]}")


@rms_norm.property("each token comes out with a mean square of 1")
def _(answer: Callable) -> None:
    x = draw(2, 3, 64) * 3 + 2
    mean_square = answer(x, torch.ones_like(x[0, 0]), 0.0).square().mean(dim=-1)
    expect_close(mean_square, torch.ones(2, 3), where="mean squares of the tokens, gains 1", atol=1e-4)


@rms_norm.property("agrees with the formula, gains included")
def _(answer: Callable) -> None:
    for seed, shape in enumerate(SHAPES):
        x, weight = draw(*shape, seed=seed) + 1, draw(shape[-1], seed=seed + 20)
        want = exact_rms_norm(x, weight, 1e-5)
        expect_close(answer(x, weight, 1e-5), want, where=f"x of shape {shape}", atol=2e-5)


@rms_norm.property("eps stands inside the root, and is used")
def _(answer: Callable) -> None:
    for eps in (1e-6, 0.01, 1.0):
        x, weight = draw(3, 8) / 20, draw(8, seed=1)
        want = exact_rms_norm(x, weight, eps)
        expect_close(answer(x, weight, eps), want, where=f"small numbers, eps {eps:g}", atol=2e-5)
    zeros = torch.zeros_like(x)
    expect_close(answer(zeros, weight, 1e-5), zeros, where="a token of zeros stays one")


@rms_norm.property("eps is 1e-5 where it is not given")
def _(answer: Callable) -> None:
    x, weight = draw(3, 8) / 500, draw(8, seed=1)
    expect_close(answer(x, weight), exact_rms_norm(x, weight, 1e-5), where="small numbers, eps left out", atol=2e-5)


@rms_norm.property("scale makes no difference, shift does")
def _(answer: Callable) -> None:
    x, weight = draw(2, 3, 16), draw(16, seed=1)
    before = answer(x, weight, 0.0)
    expect_close(answer(10 * x, weight, 0.0), before, where="10 x beside x, eps 0", atol=1e-4)
    if (answer(x + 5, weight, 0.0) - before).abs().max() < 0.1:
        raise Mismatch("x + 5 beside x, eps 0: expected another result, since RMSNorm keeps the mean; got the same")


@rms_norm.property("no token sees another")
def _(answer: Callable) -> None:
    x, weight = draw(2, 3, 8), draw(8, seed=1)
    before = answer(x, weight, 1e-5).detach()
    changed = x.clone()
    changed[1, 2] = 100 * draw(8, seed=3)
    after = answer(changed, weight, 1e-5).detach()
    expect_close(after[0], before[0], where="row 0 of the batch, after a token of row 1 changed")
    expect_close(after[1, :2], before[1, :2], where="tokens 0 and 1, after token 2 of their row changed")


@rms_norm.property("half precision comes in and goes out, but is not computed in")
def _(answer: Callable) -> None:
    for dtype, bits in HALVES.items():
        x, weight = draw(33, 64, dtype=dtype), draw(64, seed=1, dtype=dtype)
        want = exact_rms_norm(x, weight, 1e-5)
        # Two roundings are forgiven, so that the gain may be applied after the result is rounded.
        where = f"{str(dtype)[6:]}, to its last digits"
        expect_close(answer(x, weight, 1e-5), want, where=where, rtol=2.1 * 2.0**-bits, atol=1e-6)
    x = tensor([[300.0, -300.0, 300.0, 300.0], [2e4, 1e4, 0.0, -6e4]]).to(torch.float16)
    weight = torch.ones_like(x[0])
    want = exact_rms_norm(x, weight, 1e-5)
    where = "float16 numbers from 300 on, whose squares float16 cannot hold"
    expect_close(answer(x, weight, 1e-5), want, where=where, rtol=1e-3, atol=1e-3)


@rms_norm.property("gradients flow back, through the root mean square too")
def _(answer: Callable) -> None:
    expect_gradients(answer, exact_rms_norm, draw(2, 3, 8), draw(8, seed=1), 1e-5, names=("x", "weight"))


@rms_norm.property("a token of zeros has a gradient that is a number")
def _(answer: Callable) -> None:
    x = tensor([[0.0, 0.0, 0.0, 0.0]]).requires_grad_()
    weight = torch.ones_like(x[0]).detach()
    (gradient,) = torch.autograd.grad(answer(x, weight, 1e-4).sum(), x, allow_unused=True)
    if gradient is None:
        raise Mismatch("the result is expected to carry gradients back to x, but it is cut off from it")
    expect_close(gradient, torch.full((1, 4), 100.0), where="gradient of a sum, at zeros, eps 1e-4", rtol=1e-3)


@rms_norm.property("a weight that does not fit is refused with a ValueError")
def _(answer: Callable) -> None:
    misfits = ((2, 3, 8), (1,)), ((2, 3, 8), (4,)), ((2, 3, 1), (8,)), ((2, 8), (2, 8)), ((2, 8), (1, 8)), ((2, 8), ())
    for shape, weight in misfits:
        where = f"x of shape {shape} and a weight of shape {weight}"
        expect_value_error(answer, draw(*shape), draw(*weight, seed=1), 1e-5, where=where)


@rms_norm.alternative
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    # Meta's and Hugging Face's way: rounded before the gain
    if tuple(weight.shape) != (x.shape[-1],):
        raise ValueError(f"weight {tuple(weight.shape)}")
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)).type_as(x) * weight


@rms_norm.alternative
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    if weight.shape != x.shape[-1:]:
        raise ValueError("one gain a channel")
    return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)


@rms_norm.alternative
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    if weight.ndim != 1 or len(weight) != x.size(-1):
        raise ValueError("one gain a channel")
    y = x.double()
    squares = torch.einsum("...d,...d->...", y, y)[..., None] / x.size(-1)
    return (y * weight / torch.sqrt(squares + eps)).to(x.dtype)
