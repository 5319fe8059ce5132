"""Exercise 2: RMSNorm as a function."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, at_least_float32, draw, expect_close, expect_same_for_views, expect_value_error, tensor
from ...families import another_error, float32_out, needs_contiguous, no_gradient, overwrites
from .common import (
    EVERY_NORM,
    EVERY_RMS_NORM,
    SHAPES,
    exact_rms_norm,
    expect_float32_inside,
    expect_gradients_in_every_dtype,
    expect_separate_tokens,
    expect_shape_and_dtype,
    norm_cases,
)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    if weight.shape != x.shape[-1:]:
        raise ValueError("one gain for each channel")
    v = at_least_float32(x)
    mean_square = v.square().mean(dim=-1, keepdim=True)
    return (v / (mean_square + eps).sqrt() * weight).to(x.dtype)


def cases() -> list[tuple]:
    misfits = (1,), (4,), (1, 8), (2, 8)
    return norm_cases() + [(draw(2, 8), draw(*shape, seed=1), 1e-5) for shape in misfits]


exercise = Exercise(
    rms_norm,
    points=5,
    minutes=6,
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


@exercise.property("the token (1, 7) becomes (0.2, 1.4)")
def one_token_by_hand(answer: Callable) -> None:
    got = answer(tensor([[1.0, 7.0]]), tensor([1.0, 1.0]), 0.0)
    expect_close(got, torch.tensor([[0.2, 1.4]]), where="(1, 7), gains 1, eps 0", atol=1e-6)


@exercise.property("shape and dtype stay")
def shape_and_dtype(answer: Callable) -> None:
    expect_shape_and_dtype(answer, parameters=1)


@exercise.property("each token comes out with a mean square of 1")
def mean_square_of_one(answer: Callable) -> None:
    x = draw(2, 3, 64) * 3 + 2
    mean_square = answer(x, torch.ones_like(x[0, 0]), 0.0).square().mean(dim=-1)
    expect_close(mean_square, torch.ones(2, 3), where="mean squares of the tokens, gains 1", atol=1e-4)


@exercise.property("agrees with the formula, gains included")
def formula(answer: Callable) -> None:
    for seed, shape in enumerate(SHAPES):
        x, weight = draw(*shape, seed=seed) + 1, draw(shape[-1], seed=seed + 20)
        want = exact_rms_norm(x, weight, 1e-5)
        expect_close(answer(x, weight, 1e-5), want, where=f"x of shape {shape}", atol=2e-5)


@exercise.property("eps stands inside the root, and is used")
def eps_inside_the_root(answer: Callable) -> None:
    for eps in (1e-6, 0.01, 1.0):
        x, weight = draw(3, 8) / 20, draw(8, seed=1)
        want = exact_rms_norm(x, weight, eps)
        expect_close(answer(x, weight, eps), want, where=f"small numbers, eps {eps:g}", atol=2e-5)
    zeros = torch.zeros_like(x)
    expect_close(answer(zeros, weight, 1e-5), zeros, where="a token of zeros stays one")


@exercise.property("eps is 1e-5 where it is not given")
def eps_by_default(answer: Callable) -> None:
    x, weight = draw(3, 8) / 500, draw(8, seed=1)
    expect_close(answer(x, weight), exact_rms_norm(x, weight, 1e-5), where="small numbers, eps left out", atol=2e-5)


@exercise.property("a token ten times as large comes out the same")
def scale_makes_no_difference(answer: Callable) -> None:
    x, weight = draw(2, 3, 16), draw(16, seed=1)
    got, want = answer(10 * x, weight, 0.0), answer(x, weight, 0.0)
    expect_close(got, want, where="10 x beside x, eps 0", atol=1e-4)


@exercise.property("a shifted token comes out otherwise")
def shift_makes_a_difference(answer: Callable) -> None:
    x, weight = draw(2, 3, 16), draw(16, seed=1)
    if (answer(x + 5, weight, 0.0) - answer(x, weight, 0.0)).abs().max() < 0.1:
        raise Mismatch(
            "x + 5 beside x, eps 0: expected results that differ, as RMSNorm keeps the mean; they are within 0.1"
        )


@exercise.property("no token sees another")
def tokens_are_separate(answer: Callable) -> None:
    expect_separate_tokens(answer, draw(8, seed=1))


@exercise.property("half precision comes in and goes out, but is not computed in")
def half_precision(answer: Callable) -> None:
    expect_float32_inside(answer, exact_rms_norm)


@exercise.property("numbers need not lie in memory in the order of their axes")
def not_contiguous(answer: Callable) -> None:
    expect_same_for_views(answer, draw(2, 3, 8), draw(8, seed=1), 1e-5)


@exercise.property("gradients flow back, through the root mean square too")
def gradients(answer: Callable) -> None:
    expect_gradients_in_every_dtype(answer, exact_rms_norm, "x", "weight")


@exercise.property("a token of zeros has a gradient that is a number")
def gradient_at_zeros(answer: Callable) -> None:
    x = tensor([[0.0, 0.0, 0.0, 0.0]]).requires_grad_()
    weight = torch.ones_like(x[0]).detach()
    (gradient,) = torch.autograd.grad(answer(x, weight, 1e-4).sum(), x, allow_unused=True)
    if gradient is None:
        raise Mismatch("the result is expected to carry gradients back to x, but it is cut off from it")
    expect_close(gradient, torch.full((1, 4), 100.0), where="gradient of a sum, at zeros, eps 1e-4", rtol=1e-3)


@exercise.property("a weight that does not fit is refused with a ValueError")
def misfits_refused(answer: Callable) -> None:
    misfits = ((2, 3, 8), (1,)), ((2, 3, 8), (4,)), ((2, 3, 1), (8,)), ((2, 8), (2, 8)), ((2, 8), (1, 8)), ((2, 8), ())
    for shape, weight in misfits:
        where = f"x of shape {shape} and a weight of shape {weight}"
        expect_value_error(answer, draw(*shape), draw(*weight, seed=1), 1e-5, where=where)


exercise.slips(EVERY_NORM)
exercise.slips(EVERY_RMS_NORM)
exercise.slips("""
    weight of two axes accepted: weight.shape != x.shape[-1:] -> weight.shape[-1:] != x.shape[-1:]
        A weight of two axes gets through where its last one fits, of shape (2, 8) or (1, 8) for 8 channels. Compare
        weight.shape with x.shape[-1:].
    any weight accepted: weight.shape != x.shape[-1:] -> False
        No ValueError comes for a weight of shape (1,), say, or (1, 8), where x has 8 channels. A single number is
        broadcast without a word: compare weight.shape with x.shape[-1:] and raise ValueError.
""")
another_error(exercise)
float32_out(exercise, "x")
no_gradient(exercise, "x", "Nothing below would learn through this norm.")
no_gradient(exercise, "weight", "It would never learn.")
overwrites(exercise, "x", "The residual stream goes on past the norm.")
needs_contiguous(exercise, "x")
