"""layer_norm: what goes wrong in it."""

import torch
from torch import Tensor

from .common import (
    at_least_float32,
)
from .layer_norm import layer_norm

__all__: list[str] = []


def centred(x: Tensor) -> Tensor:
    x = at_least_float32(x)
    return x - x.mean(dim=-1, keepdim=True)


def variance(x: Tensor) -> Tensor:
    return centred(x).square().mean(dim=-1, keepdim=True)


def finish(normalised: Tensor, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return (normalised * at_least_float32(weight) + at_least_float32(bias)).to(x.dtype)


@layer_norm.misconception(
    "divides by dim - 1",
    "Your variance divides by one less than the number of channels, as torch.var and torch.std do unless told "
    "otherwise. LayerNorm divides by the number of channels: correction=0, or the mean of the squares.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    spread = at_least_float32(x).var(dim=-1, keepdim=True)
    return finish(centred(x) / (spread + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "eps outside the root",
    "You take the root first and add eps to the standard deviation. It is added to the variance, inside the root: for "
    "a token of small numbers the two are far apart, and for one of equal numbers the gradient of the root is NaN.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x).sqrt() + eps), weight, bias, x)


@layer_norm.misconception(
    "the root is missing",
    "You divide by the variance. It has the unit of x squared, so 10 x would come out ten times smaller than x: take "
    "the root of variance plus eps.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) + eps), weight, bias, x)


@layer_norm.misconception(
    "over the whole tensor",
    "You take one mean and one variance of all tokens together. Each token is normalised by itself, over the last "
    "axis; otherwise every token depends on all others, those to come included.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    y = y - y.mean()
    return finish(y / (y.square().mean() + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "over the tokens",
    "You take means over axis -2, the tokens: each channel is normalised along the text. The channels of one token lie "
    "along the last axis, -1.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    axis, y = (-2 if x.ndim > 1 else -1), at_least_float32(x)
    y = y - y.mean(dim=axis, keepdim=True)
    return finish(y / (y.square().mean(dim=axis, keepdim=True) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "over axis 1",
    "You take means over axis 1. That is where the channels lie only if x has two axes. Count from the end: the last "
    "axis is -1, however many there are.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    y = y - y.mean(dim=1, keepdim=True)
    return finish(y / (y.square().mean(dim=1, keepdim=True) + eps).sqrt(), weight, bias, x)


def forget_keepdim(name: str, *, at_the_mean: bool) -> None:
    @layer_norm.misconception(
        name,
        "A mean without keepdim=True loses its axis, and then lines up with the wrong axis of x, or with none. Keep "
        "it: mean(dim=-1, keepdim=True).",
    )
    def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
        y = at_least_float32(x) - at_least_float32(x).mean(dim=-1, keepdim=not at_the_mean)
        return finish(y / (y.square().mean(dim=-1) + eps).sqrt(), weight, bias, x)


forget_keepdim("keepdim forgotten", at_the_mean=True)
forget_keepdim("keepdim forgotten at the variance", at_the_mean=False)


@layer_norm.misconception(
    "over the first axis",
    "You take means over axis 0, the batch, so that texts that happen to be read together change each other. The "
    "channels of one token lie along the last axis, -1.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    y = y - y.mean(dim=0, keepdim=True)
    return finish(y / (y.square().mean(dim=0, keepdim=True) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "over each text",
    "You take mean and variance over the last two axes, a whole text at once. Each token has its own: the last axis "
    "alone.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    axes, y = ((-2, -1) if x.ndim > 1 else (-1,)), at_least_float32(x)
    y = y - y.mean(dim=axes, keepdim=True)
    return finish(y / (y.square().mean(dim=axes, keepdim=True) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "the mean stays in",
    "You divide x itself by the standard deviation. LayerNorm takes the mean away first: a shift of all channels must "
    "make no difference.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(at_least_float32(x) / (variance(x) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "divides by the root mean square of x",
    "You take the mean away, but divide by the root mean square of x as it was. The variance is the mean square of "
    "what is left once the mean is away.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    mean_square = at_least_float32(x).square().mean(dim=-1, keepdim=True)
    return finish(centred(x) / (mean_square + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "RMSNorm with a bias",
    "You divide x by its root mean square and leave its mean in. That is RMSNorm, the next exercise. LayerNorm takes "
    "the mean away first.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    return finish(y / (y.square().mean(dim=-1, keepdim=True) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "variance from a difference of large numbers",
    "You take the variance as the mean of x squared minus the square of the mean. On paper that is the same; in "
    "float32 it is the difference of two large numbers as soon as the mean is large, and few digits are left. Take the "
    "mean away first, then square.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    spread = y.square().mean(dim=-1, keepdim=True) - y.mean(dim=-1, keepdim=True).square()
    return finish(centred(x) / (spread.clamp(min=0) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "multiplies by the root",
    "You multiply by the standard deviation where you should divide by it (with torch.rsqrt, which is one over the "
    "root, it is the other way round).",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) * (variance(x) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "sum of squares, not their mean",
    "You add up the squares and do not divide by the number of channels, so that each token gets length 1. Its "
    "variance is to become 1: take the mean of the squares.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) * x.shape[-1] + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "bias before the gain",
    "You add the bias first and multiply the sum by the gain. The gain comes first, and the bias is added as it is.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    normalised = centred(x) / (variance(x) + eps).sqrt() + at_least_float32(bias)
    return (normalised * at_least_float32(weight)).to(x.dtype)


@layer_norm.misconception("no bias", "Your result is right but for the bias, which is never added.")
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) + eps).sqrt(), weight, torch.zeros_like(bias), x)


@layer_norm.misconception("no gain", "Your result is right but for the gains: multiply each channel by its weight.")
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) + eps).sqrt(), torch.ones_like(weight), bias, x)


@layer_norm.misconception(
    "gains counted from 1",
    "You multiply by 1 + weight. Some models keep their gains so (Gemma does), but here the weight is the gain itself.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) + eps).sqrt(), 1 + at_least_float32(weight), bias, x)


@layer_norm.misconception(
    "minus the wrong way round",
    "You take x away from its mean. It is x minus the mean: all your signs are turned before gain and bias.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(-centred(x) / (variance(x) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "eps written in",
    "You use 1e-5 whatever eps is. Models differ in it, so take the argument.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) + 1e-5).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "eps is 1e-6 by itself",
    "Where no eps is given, yours is 1e-6. Here it is 1e-5.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    return finish(centred(x) / (variance(x) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "eps as a floor",
    "You take eps as a floor: the larger of the standard deviation and eps. It is added, to the variance, inside the "
    "root.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / variance(x).sqrt().clamp(min=eps), weight, bias, x)


@layer_norm.misconception(
    "no eps",
    "You leave eps out. A token of equal numbers, such as padding, has variance 0, and 0 / 0 is NaN.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / variance(x).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "computed in half precision",
    "The formula is right, but you compute in the dtype of x. In float16 the square of 256 is infinite already, and "
    "bfloat16 keeps two to three digits. Go to float32 before the first mean, and back at the end.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = x - x.mean(dim=-1, keepdim=True)
    return y / (y.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.misconception(
    "float32 goes out",
    "The numbers are right, but half precision comes in and float32 goes out: cast the result back with .to(x.dtype).",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) + eps).sqrt(), weight, bias, at_least_float32(x))


@layer_norm.misconception(
    "no gradients",
    "The numbers are right, but no gradient reaches x: .detach(), .data, torch.no_grad or a new torch.tensor cuts it "
    "off, and nothing below this norm would learn.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    x = x.detach()
    return finish(centred(x) / (variance(x) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "the gains are cut off from the gradient",
    "The numbers are right, but no gradient reaches weight: .detach() or .data cuts it off, and it would never learn.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) + eps).sqrt(), weight.detach(), bias, x)


@layer_norm.misconception(
    "gains and bias are cut off from the gradient",
    "The numbers are right, but no gradient reaches weight and bias: .detach() or .data cuts them off, and they would "
    "never learn.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return finish(centred(x) / (variance(x) + eps).sqrt(), weight.detach(), bias.detach(), x)


@layer_norm.misconception(
    "mean and variance taken for constants",
    "The numbers are right, but mean and variance are cut off from the gradient (no_grad, detach, .item()). They "
    "depend on x too: without that, the gradient points where the norm lets nothing through.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    mean, spread = at_least_float32(x).mean(dim=-1, keepdim=True).detach(), variance(x).detach()
    return finish((at_least_float32(x) - mean) / (spread + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "x overwritten",
    "The numbers are right, but you write them into x itself. The stream goes on past the norm and still needs x: make "
    "a new tensor.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    x.copy_(finish(centred(x) / (variance(x) + eps).sqrt(), weight, bias, x))
    return x


@layer_norm.misconception(
    "x.float() taken for a copy",
    "x.float() of a float32 tensor is x itself, so -= changes the caller's x. Write v = v - ..., which makes a new "
    "tensor.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    y -= y.mean(dim=-1, keepdim=True)
    return finish(y / (y.square().mean(dim=-1, keepdim=True) + eps).sqrt(), weight, bias, x)


@layer_norm.misconception(
    "x.float() taken for a copy, and divided in place",
    "x.float() of a float32 tensor is x itself, so -= and /= change the caller's x, and /= also what the gradient "
    "still needs. Write v = v - ... and v = v / ..., which make new tensors.",
)
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = at_least_float32(x)
    y -= y.mean(dim=-1, keepdim=True)
    y /= (y.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return finish(y, weight, bias, x)
