"""Exercise 1: LayerNorm."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import HALVES, at_least_float32, draw, expect_close, expect_same_for_views, tensor
from ...families import float32_out, needs_contiguous, no_gradient, overwrites
from .common import (
    EVERY_NORM,
    SHAPES,
    exact_layer_norm,
    expect_float32_inside,
    expect_gradients_in_every_dtype,
    expect_separate_tokens,
    expect_shape_and_dtype,
    inputs,
)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    mean_of = partial(torch.mean, dim=-1, keepdim=True)
    v = at_least_float32(x)
    mean = mean_of(v)
    variance = mean_of((v - mean).square())
    return ((v - mean) / (variance + eps).sqrt() * weight + bias).to(x.dtype)


def cases() -> list[tuple]:
    """Several ranks, a large eps, large means, tiny numbers, half precision up to large squares, and no eps."""
    made = []
    for seed, (x, eps) in enumerate(inputs(), 20):
        weight, bias = (draw(x.shape[-1], seed=seed + n, dtype=x.dtype) for n in (0, 20))
        if x.dtype in HALVES:  # a bias that cancels most of a number leaves little but its rounding
            bias = torch.zeros_like(bias)
        made.append((x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), eps))
    made.append((draw(2, 8, 3, seed=9).transpose(1, 2), draw(8, seed=29), draw(8, seed=49), 1e-5))
    made.append((draw(3, 8) / 500, draw(8, seed=1), draw(8, seed=2)))
    for n in (1, 2, 3):  # in float32 the mean of these squares is the square of 8192, however it is computed
        made.append((tensor([[8191.0, 8193.0]] * n), draw(2, seed=1), draw(2, seed=2), 1e-5))
    return made


exercise = Exercise(
    layer_norm,
    points=4,
    minutes=10,
    cases=cases,
    returns=Tensor,
    hints=(
        "Each token needs a mean and a variance of its own. Over which axis do its channels lie? keepdim=True keeps "
        "that axis with length 1, so that the result lines up with x.",
        "Take the mean away first. The variance is the mean of the squares of what is left: divide by the number of "
        "channels, not by one less, which is what torch.var does unless it is told otherwise.",
        "eps is added to the variance, before the root. Gain and bias come last, in this order. Go to float32 before "
        "the first mean, and back to x.dtype at the end.",
    ),
)


@exercise.property("the token (1, 7) becomes (-1, 1)")
def one_token_by_hand(answer: Callable) -> None:
    got = answer(tensor([[1.0, 7.0]]), tensor([1.0, 1.0]), tensor([0.0, 0.0]), 0.0)
    expect_close(got, torch.tensor([[-1.0, 1.0]]), where="(1, 7), gains 1, biases 0, eps 0", atol=1e-6)


@exercise.property("shape and dtype stay")
def shape_and_dtype(answer: Callable) -> None:
    expect_shape_and_dtype(answer, parameters=2)


@exercise.property("each token comes out with mean 0 and variance 1")
def mean_and_variance(answer: Callable) -> None:
    x = draw(2, 3, 64) * 3 + 2
    got = answer(x, torch.ones_like(x[0, 0]), torch.zeros_like(x[0, 0]), 0.0)
    expect_close(got.mean(dim=-1), torch.zeros(2, 3), where="means of the tokens, gains 1, biases 0", atol=1e-4)
    variance = got.var(dim=-1, correction=0)
    expect_close(variance, torch.ones(2, 3), where="variances of the tokens (divided by dim)", atol=1e-4)


@exercise.property("agrees with the formula, gains and biases included")
def formula(answer: Callable) -> None:
    for seed, shape in enumerate(SHAPES):
        x, weight, bias = draw(*shape, seed=seed) + 1, draw(shape[-1], seed=seed + 20), draw(shape[-1], seed=seed + 40)
        want = exact_layer_norm(x, weight, bias, 1e-5)
        expect_close(answer(x, weight, bias, 1e-5), want, where=f"x of shape {shape}", atol=2e-5)


@exercise.property("eps stands inside the root, and is used")
def eps_inside_the_root(answer: Callable) -> None:
    for eps in (1e-6, 0.01, 1.0):
        x, weight, bias = draw(3, 8) / 20, draw(8, seed=1), draw(8, seed=2)
        want = exact_layer_norm(x, weight, bias, eps)
        expect_close(answer(x, weight, bias, eps), want, where=f"small numbers, eps {eps:g}", atol=2e-5)
    flat, weight, bias = torch.full_like(x, 7.0), draw(8), draw(8, seed=1)
    where = "a token of equal numbers gives the bias"  # 1e-3: x * r - mean * r, with r near 316, is right too
    expect_close(answer(flat, weight, bias, 1e-5), bias.expand(3, 8), where=where, atol=1e-3)


@exercise.property("eps is 1e-5 where it is not given")
def eps_by_default(answer: Callable) -> None:
    x, weight, bias = draw(3, 8) / 500, draw(8, seed=1), draw(8, seed=2)
    want = exact_layer_norm(x, weight, bias, 1e-5)
    expect_close(answer(x, weight, bias), want, where="small numbers, eps left out", atol=2e-5)


@exercise.property("scale and shift of a token make no difference")
def scale_and_shift(answer: Callable) -> None:
    x, weight, bias = draw(2, 3, 16), draw(16, seed=1), draw(16, seed=2)
    scaled, moved = answer(10 * x, weight, bias, 0.0), answer(x + 5, weight, bias, 0.0)
    expect_close(scaled, answer(x, weight, bias, 0.0), where="10 x beside x, eps 0", atol=1e-4)
    expect_close(moved, answer(x, weight, bias, 0.0), where="x + 5 beside x, eps 0", atol=1e-4)


@exercise.property("no token sees another")
def tokens_are_separate(answer: Callable) -> None:
    expect_separate_tokens(answer, draw(8, seed=1), draw(8, seed=2))


@exercise.property("a mean far from 0 does no harm")
def mean_far_from_zero(answer: Callable) -> None:
    x, weight, bias = draw(3, 64) + 1000, draw(64, seed=1), draw(64, seed=2)
    want = exact_layer_norm(x, weight, bias, 1e-5)
    expect_close(answer(x, weight, bias, 1e-5), want, where="numbers near 1000", atol=3e-3)


@exercise.property("half precision comes in and goes out, but is not computed in")
def half_precision(answer: Callable) -> None:
    expect_float32_inside(answer, exact_layer_norm, biases=1)


@exercise.property("numbers need not lie in memory in the order of their axes")
def not_contiguous(answer: Callable) -> None:
    expect_same_for_views(answer, draw(2, 3, 8), draw(8, seed=1), draw(8, seed=2), 1e-5)


@exercise.property("gradients flow back, through mean and variance too")
def gradients(answer: Callable) -> None:
    expect_gradients_in_every_dtype(answer, exact_layer_norm, "x", "weight", "bias")


exercise.slips(EVERY_NORM)
exercise.slips("""
    divides by dim - 1: mean_of((v - mean).square()) -> v.var(-1, keepdim=True)
        Your variance divides by one less than the number of channels, as torch.var and torch.std do unless told
        otherwise. LayerNorm divides by the number of channels: correction=0, or the mean of the squares.
    torch's std plus eps: (variance + eps).sqrt() -> (v.std(-1, keepdim=True) + eps)
        You divide by the standard deviation, as torch.std has it, plus eps. Unless told correction=0, torch.std divides
        by one less than the number of channels; and eps is added to the variance, inside the root.
    eps outside the root: (variance + eps).sqrt() -> (variance.sqrt() + eps)
        You take the root first and add eps to the standard deviation. It is added to the variance, inside the root:
        tokens of small numbers come out otherwise.
    the root is missing: (variance + eps).sqrt() -> (variance + eps)
        You divide by the variance, or by its root twice. Divide by the root of variance plus eps, once.
    multiplies by the root: (v - mean) / -> (v - mean) *
        You multiply by the standard deviation, or divide by torch.rsqrt, which is one over the root. Divide by it.
    not divided at all: / (variance + eps).sqrt() -> / 1
        You take the mean away, but do not divide by the standard deviation, or you multiply it back.
    sum of squares, not their mean: mean_of((v - mean).square()) -> (v - mean).square().sum(-1, True)
        You add up the squares and do not divide by the number of channels. The variance is the mean of the squares.
    mean of absolute values: (variance + eps).sqrt() -> (mean_of((v - mean).abs()) + eps)
        You divide by the mean of the absolute deviations. The standard deviation squares first, then mean and root.
    one variance for all tokens: mean_of((v - mean).square()) -> (v - mean).square().mean()
        Each token loses its own mean, but all are divided by one root. Each has its own variance, over the last axis.
    keepdim forgotten, torch's var: mean_of((v - mean).square()) -> v.var(-1, correction=0); mean = mean[..., 0]
        Without keepdim=True mean and variance lose their axis, and line up with the wrong one, or with none: keep it.
    a new axis in second place: mean_of((v - mean).square()) -> v.var(-1, False)[:, None]; mean = v.mean(-1)[:, None]
        Where x has three axes, mean and variance do not line up: their new axis is the second. Use keepdim=True.
    keepdim forgotten at the variance: mean_of((v - mean).square()) -> (v - mean).square().mean(-1)
        Without keepdim=True a variance loses its axis, and lines up with the wrong axis, or with none: keep it.
    the mean stays in: ((v - mean) / -> (v /
        You divide x itself by the standard deviation. LayerNorm takes the mean away first.
    divides by the root mean square of x: (v - mean).square() -> v.square()
        You take the mean away, but divide by the root mean square of x as it was, not of what is left.
    RMSNorm with a bias: mean_of(v) -> 0
        You divide x by its root mean square, mean left in, as RMSNorm does. LayerNorm takes the mean away first.
    minus the wrong way round: ((v - mean) / -> ((mean - v) /
        All your signs are turned before gain and bias: it is x minus the mean, not the mean minus x.
    bias times the gain: + bias -> + bias * weight
        Your bias comes out multiplied by the gain. The gain comes first, and the bias is added as it is.
    no bias: + bias -> + 0
        The bias is missing from your result: it is added last.
    no gain: * weight -> * 1
        Your result is that for gains of 1, whatever weight holds. Multiply each channel by its weight, as it came.
    gains before the norm: v = at_least_float32(x) -> v = at_least_float32(x) * at_least_float32(weight); weight = 1
        You multiply by the gains first and normalise the product. Normalise first, then scale each channel.
    no gain and no bias: * weight + bias -> * 1
        Gains and biases are missing from your result: multiply each channel by its weight, and add its bias.
    gain and bias exchanged: * weight + bias -> * bias + weight
        You multiply by the bias and add the weight. The weight is the gain, which is multiplied.
    eps as a floor: (variance + eps).sqrt() -> variance.sqrt().clamp(min=eps)
        You take eps as a floor under the standard deviation. It is added, to the variance, inside the root.
    eps as a floor inside the root: (variance + eps) -> variance.clamp(min=eps)
        You take eps as a floor under the variance. It is added to the variance.
    no eps: (variance + eps) -> variance
        Your result is that for an eps of 0, whatever eps is. A token of equal numbers, such as padding, has variance 0,
        and eps, inside the root, keeps it from being 0 / 0, which is NaN.
    computed in half precision: at_least_float32(x) -> x
        You compute in the dtype in which x came, or go back to it too early. In float16 the square of 256 is infinite
        already, and bfloat16 keeps two to three digits. Go to float32 before the first mean, and back at the end.
    mean in half precision: mean = mean_of(v) -> v, mean = at_least_float32(x - mean_of(x)), 0
        You compute the mean, or take it away, in the dtype in which x came: half precision keeps few digits. Go to
        float32 before, and stay there.
    variance in half precision: mean_of((v - mean).square()) -> x.var(-1, False, True).float()
        You take the variance, or its squares, in the dtype in which x came, or round it to that. Half precision keeps
        two to three digits, and beyond 65,504 float16 is infinite: go to float32 before, and stay there.
    difference of large numbers: mean_of((v - mean).square()) -> mean_of(v**2) - mean**2
        You take the variance as the mean of x squared minus the square of the mean. On paper that is the same; in
        float32 it is the difference of two large numbers as soon as the mean is large, and few digits are left. Take
        the mean away first, then square.
    no gradient to weight and bias: * weight + bias -> * weight.detach() + bias.detach()
        The numbers are right, but no gradient reaches weight and bias: something cuts them off, such as .detach(),
        .data, torch.no_grad or new parameters, those of an nn.LayerNorm that you make in here included.
    mean and variance taken for constants: (v - mean) / (variance -> (v - mean.detach()) / (variance.detach()
        The numbers are right, but mean and variance are cut off from the gradient, as by no_grad or .item(). They
        depend on x too: without that, the gradient points where the norm lets nothing through.
    variance taken for a constant: (variance + eps).sqrt() -> (variance + eps).sqrt().detach()
        The numbers are right, but the standard deviation is cut off from the gradient, as by no_grad or .item(). It
        depends on x too: without that, the gradient asks for a larger or smaller x, which changes nothing.
    a cast taken for a copy: mean = mean_of(v) -> v -= mean_of(v); mean = 0
        x.float() of a float32 tensor is x itself, so -= and /= change the caller's x. Write v = v - ..., a new tensor.
""")
float32_out(exercise, "x")
no_gradient(exercise, "x", "Nothing below would learn through this norm.")
no_gradient(exercise, "weight", "It would never learn.")
no_gradient(exercise, "bias", "It would never learn.")
overwrites(exercise, "x", "The residual stream goes on past the norm.")
needs_contiguous(exercise, "x")
