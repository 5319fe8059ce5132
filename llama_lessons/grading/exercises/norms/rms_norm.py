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
    at_least_float32,
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


def mean_square(x: Tensor, weight: Tensor) -> Tensor:
    """Of each token, after the check that all the wrong answers below have right."""
    if weight.shape != x.shape[-1:]:
        raise ValueError("weight")
    return at_least_float32(x).square().mean(dim=-1, keepdim=True)


def finish(normalised: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    return (normalised * at_least_float32(weight)).to(x.dtype)


@rms_norm.misconception(
    "the mean is taken away",
    "You take each token's mean away first. That is LayerNorm without its bias. RMSNorm leaves the mean where it is, "
    "and that is the whole difference.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    y = at_least_float32(x) - at_least_float32(x).mean(dim=-1, keepdim=True)
    return finish(y / (y.square().mean(dim=-1, keepdim=True) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "divides by the standard deviation",
    "You divide by the standard deviation, which is the root mean square once the mean is taken away. RMSNorm squares "
    "x as it is.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    return finish(
        at_least_float32(x) / (at_least_float32(x).var(-1, correction=0, keepdim=True) + eps).sqrt(), weight, x
    )


@rms_norm.misconception(
    "eps outside the root",
    "You take the root first and add eps to it. It is added to the mean square, inside the root: tokens of small "
    "numbers come out otherwise, and for a token of zeros the gradient of the root is NaN.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight).sqrt() + eps), weight, x)


@rms_norm.misconception(
    "the root is missing",
    "You divide by the mean square. It has the unit of x squared, so 10 x would come out ten times smaller than x: "
    "take the root.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) + eps), weight, x)


@rms_norm.misconception(
    "multiplies by the root",
    "You multiply by the root mean square where you should divide by it (with torch.rsqrt, which is one over the root, "
    "it is the other way round). A token ten times as large comes out a hundred times as large.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) * (mean_square(x, weight) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "sum of squares, not their mean",
    "You add up the squares and do not divide by the number of channels: each token gets length 1, whatever its size. "
    "RMSNorm gives it a mean square of 1.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) * x.shape[-1] + eps).sqrt(), weight, x)


def divide_by_length(name: str, length: Callable[[Tensor, float], Tensor]) -> None:
    @rms_norm.misconception(
        name,
        "You divide by the token's length, the root of the sum of its squares. RMSNorm divides by the root of their "
        "mean, and eps is added inside that root.",
    )
    def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
        mean_square(x, weight)
        return finish(at_least_float32(x) / length(at_least_float32(x).norm(dim=-1, keepdim=True), eps), weight, x)


divide_by_length("length plus eps", lambda length, eps: length + eps)
divide_by_length("length, at least eps", lambda length, eps: length.clamp(min=eps))
divide_by_length("length alone", lambda length, eps: length)


@rms_norm.misconception(
    "square of the mean",
    "You take the mean first and square it, so that channels of unlike sign cancel. Square each channel first, and "
    "then take the mean.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    mean = at_least_float32(x).mean(dim=-1, keepdim=True)
    return finish(at_least_float32(x) / (mean.square() + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "mean of absolute values",
    "You divide by the mean of the absolute values. The root mean square squares first, so that large channels count "
    "more.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    return finish(at_least_float32(x) / (at_least_float32(x).abs().mean(dim=-1, keepdim=True) + eps), weight, x)


@rms_norm.misconception(
    "over the whole tensor",
    "You take one mean square of all tokens together: statistics of the whole tensor. Each token has its own, over the "
    "last axis; otherwise every token depends on all others, those to come included.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight).mean() + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "over the tokens",
    "You take means over axis -2, the tokens: each channel is scaled along the text. The channels of one token lie "
    "along the last axis, -1.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    y = at_least_float32(x)
    return finish(y / (y.square().mean(-2 if x.ndim > 1 else -1, keepdim=True) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "over axis 1",
    "You take the mean over axis 1. That is where the channels lie only if x has two axes. Count from the end: the "
    "last axis is -1, however many there are.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    y = at_least_float32(x)
    return finish(y / (y.square().mean(1, keepdim=True) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "keepdim forgotten",
    "A mean without keepdim=True loses its axis, and then lines up with the wrong axis of x, or with none. Keep it: "
    "mean(dim=-1, keepdim=True).",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight).squeeze(-1) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "over the first axis",
    "You take means over axis 0, the batch, so that texts that happen to be read together change each other. The "
    "channels of one token lie along the last axis, -1.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    y = at_least_float32(x)
    return finish(y / (y.square().mean(0, keepdim=True) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "over each text",
    "You take the mean square over the last two axes, a whole text at once. Each token has its own: the last axis "
    "alone.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    axes = (-2, -1) if x.ndim > 1 else (-1,)
    return finish(at_least_float32(x) / (mean_square(x, weight).mean(axes, keepdim=True) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "multiplies its own scale back",
    "You divide by the root mean square and multiply by it again: the norm undoes itself, and what comes out is x "
    "times the gains. A token ten times as large must come out the same.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    return finish(at_least_float32(x), weight, x)


@rms_norm.misconception("no gain", "Your result is right but for the gains: multiply each channel by its weight.")
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) + eps).sqrt(), torch.ones_like(weight), x)


@rms_norm.misconception(
    "gains counted from 1",
    "You multiply by 1 + weight. Some models keep their gains so (Gemma does), but here the weight is the gain itself.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) + eps).sqrt(), 1 + at_least_float32(weight), x)


@rms_norm.misconception(
    "the gain is added",
    "You add the weight like a bias. A gain is multiplied, and RMSNorm has no bias.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return (at_least_float32(x) / (mean_square(x, weight) + eps).sqrt() + at_least_float32(weight)).to(x.dtype)


@rms_norm.misconception(
    "gains before the norm",
    "You multiply by the gains first and normalise the product, so that the norm takes the gains' common size away "
    "again. Normalise first, then scale each channel.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    y = at_least_float32(x) * at_least_float32(weight)
    return (y / (y.square().mean(dim=-1, keepdim=True) + eps).sqrt()).to(x.dtype)


@rms_norm.misconception(
    "eps written in",
    "You use 1e-5 whatever eps is. Llama 1 used 1e-6 and Llama 2 uses 1e-5, so take the argument.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) + 1e-5).sqrt(), weight, x)


@rms_norm.misconception(
    "eps is 1e-6 by itself",
    "Where no eps is given, yours is 1e-6, as in the first Llama. Here it is 1e-5.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "eps as a floor",
    "You take eps as a floor: the larger of the root mean square and eps. It is added, to the mean square, inside the "
    "root.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / mean_square(x, weight).sqrt().clamp(min=eps), weight, x)


@rms_norm.misconception(
    "eps as a floor inside the root",
    "You take eps as a floor: the larger of the mean square and eps. It is added to the mean square.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / mean_square(x, weight).clamp(min=eps).sqrt(), weight, x)


@rms_norm.misconception(
    "no eps",
    "You leave eps out. A token of zeros, such as padding, would be 0 / 0, which is NaN.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / mean_square(x, weight).sqrt(), weight, x)


@rms_norm.misconception(
    "computed in half precision",
    "The formula is right, but you compute in the dtype of x. In float16 the square of 256 is infinite already, and "
    "bfloat16 keeps two to three digits. Go to float32 before you square, and back at the end.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


@rms_norm.misconception(
    "bfloat16 is not cast",
    "You go to float32 for float16 only. Bfloat16 holds large squares, but only two to three digits: cast it too.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    y = x.float() if x.dtype == torch.float16 else x
    mean_square(x, weight)
    return (y * torch.rsqrt(y.square().mean(dim=-1, keepdim=True) + eps) * weight).to(x.dtype)


@rms_norm.misconception(
    "squared in half precision",
    "You square x first and go to float32 afterwards. By then the squares are rounded, and in float16, from 256 on, "
    "infinite. Cast before you square.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square(x, weight)
    squares = x.square().to(torch.promote_types(x.dtype, torch.float32))
    return finish(at_least_float32(x) / (squares.mean(dim=-1, keepdim=True) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "float32 goes out",
    "The numbers are right, but half precision comes in and float32 goes out: cast the result back with .to(x.dtype).",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) + eps).sqrt(), weight, at_least_float32(x))


@rms_norm.misconception(
    "no gradients",
    "The numbers are right, but no gradient reaches x: .detach(), .data, torch.no_grad or a new torch.tensor cuts it "
    "off, and nothing below this norm would learn.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    x = x.detach()
    return finish(at_least_float32(x) / (mean_square(x, weight) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "the gains are cut off from the gradient",
    "The numbers are right, but no gradient reaches weight: .detach() or .data cuts it off, and it would never learn.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) + eps).sqrt(), weight.detach(), x)


@rms_norm.misconception(
    "root mean square taken for a constant",
    "The numbers are right, but the root mean square is cut off from the gradient (no_grad, detach, .item()). It "
    "depends on x too: without that, the gradient asks for a larger x, which changes nothing.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (mean_square(x, weight) + eps).sqrt().detach(), weight, x)


@rms_norm.misconception(
    "x overwritten",
    "The numbers are right, but you write them into x itself. The stream goes on past the norm and still needs x: make "
    "a new tensor.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    x.copy_(finish(at_least_float32(x) / (mean_square(x, weight) + eps).sqrt(), weight, x))
    return x


@rms_norm.misconception(
    "x.float() taken for a copy",
    "x.float() of a float32 tensor is x itself, so *= and /= change the caller's x, and what the gradient still needs. "
    "Write v = v / ..., which makes a new tensor.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    y /= (mean_square(y, weight) + eps).sqrt()
    return finish(y, weight, x)


@rms_norm.misconception(
    "weight of two axes accepted",
    "You compare the number of gains with the number of channels, but not the number of axes: a weight of shape "
    "(2, 8) or (1, 8) gets through. Compare weight.shape with x.shape[-1:].",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    if weight.shape[-1] != x.shape[-1]:
        raise ValueError("weight")
    return finish(at_least_float32(x) / (mean_square(x, x[(0,) * (x.ndim - 1)]) + eps).sqrt(), weight, x)


@rms_norm.misconception(
    "any weight accepted",
    "You accept a weight that does not hold one number for each channel. One of a single number is broadcast without a "
    "word: compare weight.shape with x.shape[-1:] and raise ValueError.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    return finish(y / (y.square().mean(dim=-1, keepdim=True) + eps).sqrt(), weight, x)


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
