"""rms_norm: what goes wrong in it."""

from collections.abc import Callable

import torch
from torch import Tensor

from .common import (
    at_least_float32,
)
from .rms_norm import rms_norm

__all__: list[str] = []


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
