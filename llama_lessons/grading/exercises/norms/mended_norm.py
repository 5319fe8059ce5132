"""Exercise 6, a bug hunt: the norm that undoes itself."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import norms

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, SHAPES, at_least_float32, draw, exact_rms_norm, expect_gradients

__all__ = ["mended_norm"]


def cases() -> list[tuple]:
    made = []
    for seed, (shape, shift, factor, eps, dtype) in enumerate(
        [
            ((3, 4), 1.0, 5.0, 1e-5, torch.float32),
            ((2, 3, 6), 0.5, 2.0, 0.3, torch.float32),
            ((3, 3, 3), 0.0, 1.0, 1e-5, torch.float32),
            ((4, 8), 0.0, 1e-3, 1e-5, torch.float32),
            ((2, 5, 64), 3.0, 0.5, 1e-5, torch.float32),
            ((4, 64), 1.0, 1.0, 1e-5, torch.bfloat16),
        ]
    ):
        x = (draw(*shape, seed=seed) * factor + shift).to(dtype)
        made.append((x.requires_grad_(), draw(shape[-1], seed=seed + 20, dtype=dtype).requires_grad_(), eps))
    return made


mended_norm = Exercise(
    name="mended_norm",
    lesson=LESSON,
    points=5,
    minutes=6,
    parameters=("x", "weight", "eps"),
    reference=norms.rms_norm,
    cases=cases,
    returns=Tensor,
    hints=(
        "Read the cell's printout: what is the root mean square of a normalised token, and how does it change when x "
        "gets ten times as large?",
        "Follow `scale` through the function, with gains of 1: what is x divided by, and what multiplied by, in the "
        "end?",
        "There are two faults, and either alone is enough to fail. The second: RMSNorm ignores one thing about a "
        "token, LayerNorm two. How many does this function ignore?",
    ),
)


@mended_norm.property("a token ten times as large comes out the same")
def _(answer: Callable) -> None:
    x, weight = draw(2, 3, 16), draw(16, seed=1)
    got, want = answer(10 * x, weight, 0.0), answer(x, weight, 0.0)
    expect_close(got, want, where="10 x beside x, eps 0", atol=1e-4)


@mended_norm.property("a shifted token comes out otherwise")
def _(answer: Callable) -> None:
    x, weight = draw(2, 3, 16), draw(16, seed=1)
    if (answer(x + 5, weight, 0.0) - answer(x, weight, 0.0)).abs().max() < 0.1:
        raise Mismatch("x + 5 beside x, eps 0: expected another result, since RMSNorm keeps the mean; got the same")


@mended_norm.property("each token comes out with a mean square of 1")
def _(answer: Callable) -> None:
    x = draw(2, 3, 64) * 30 + 20
    mean_square = answer(x, torch.ones_like(x[0, 0]), 0.0).square().mean(dim=-1)
    expect_close(mean_square, torch.ones(2, 3), where="mean squares of the tokens, gains 1", atol=1e-4)


@mended_norm.property("agrees with RMSNorm's formula, gains included")
def _(answer: Callable) -> None:
    for seed, shape in enumerate(SHAPES):
        for eps in (1e-5, 0.3):
            x, weight = draw(*shape, seed=seed) / 2 + 1, draw(shape[-1], seed=seed + 20)
            want = exact_rms_norm(x, weight, eps)
            expect_close(answer(x, weight, eps), want, where=f"x of shape {shape}, eps {eps:g}", atol=2e-5)


@mended_norm.property("small tokens, and eps left out")
def _(answer: Callable) -> None:
    x, weight = draw(3, 8) / 500, draw(8, seed=1)
    expect_close(answer(x, weight), exact_rms_norm(x, weight, 1e-5), where="small numbers, eps left out", atol=2e-5)
    zeros = torch.zeros_like(x)
    expect_close(answer(zeros, weight), zeros, where="a token of zeros stays one")


@mended_norm.property("shape and dtype stay, and half precision is not computed in")
def _(answer: Callable) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        x, weight = draw(2, 3, 8, dtype=dtype) * 400, torch.ones(8, dtype=dtype, device=draw(1).device)
        got = answer(x, weight, 1e-5)
        expect_like(got, shape=(2, 3, 8), dtype=dtype, where=f"x of shape (2, 3, 8) in {str(dtype)[6:]}")
        want = exact_rms_norm(x, weight, 1e-5)
        expect_close(got, want, where=f"{str(dtype)[6:]} numbers near 400", rtol=1e-2, atol=1e-3)


@mended_norm.property("gradients flow back")
def _(answer: Callable) -> None:
    expect_gradients(answer, exact_rms_norm, draw(2, 3, 8), draw(8, seed=1), 1e-5, names=("x", "weight"))


def centred(x: Tensor) -> Tensor:
    return at_least_float32(x) - at_least_float32(x).mean(dim=-1, keepdim=True)


def scale_of(values: Tensor, eps: float) -> Tensor:
    return (values.square().mean(dim=-1, keepdim=True) + eps).sqrt()


@mended_norm.misconception(
    "as it was given",
    "This is still the function as you found it: what comes out is x minus its mean, times the gains. Print the root "
    "mean square of what comes out.",
    given=True,
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return (centred(x) * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "the mean is still taken away",
    "The scale is mended: a token ten times as large comes out the same. But the mean is still taken away, which makes "
    "it LayerNorm without a bias. RMSNorm leaves the mean in.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = centred(x)
    return (values / scale_of(values, eps) * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "the scale is still multiplied back",
    "The mean stays in now, as it should. But x is still divided by its scale and then multiplied by it: what comes "
    "out is x times the gains, and nothing is normalised.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return (at_least_float32(x) * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "the mean is taken away after the scale was measured",
    "The scale is that of x as it is, but the mean is still taken away.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return (centred(x) / scale_of(at_least_float32(x), eps) * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "scale of the centred values",
    "x is divided as it is, but by the scale of what is left without its mean, the standard deviation. RMSNorm squares "
    "x itself.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return (at_least_float32(x) / scale_of(centred(x), eps) * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "the gains went with the scale",
    "The scale is no longer multiplied back, but the gains are gone too. Each channel is still multiplied by its "
    "weight.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return (at_least_float32(x) / scale_of(at_least_float32(x), eps)).to(x.dtype)


@mended_norm.misconception(
    "no gains, and the mean taken away",
    "The scale is no longer multiplied back, but the gains are gone with it, and the mean is still taken away.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = centred(x)
    return (values / scale_of(values, eps)).to(x.dtype)


@mended_norm.misconception(
    "divided twice",
    "x is divided by its scale twice: by the gain as well, or because the root is gone from the scale. Once is enough, "
    "and the weight is left alone.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = at_least_float32(x)
    return (values / scale_of(values, eps) ** 2 * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "multiplied instead of divided",
    "You took out the division and kept the multiplication: large tokens come out larger still.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = at_least_float32(x)
    return (values * scale_of(values, eps) * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "divides by the gains",
    "The scale is mended, but x is divided by the weight too. Each channel is multiplied by it.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = at_least_float32(x)
    return (values / scale_of(values, eps) / at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "eps moved outside",
    "Both faults are mended, but eps has moved out of the root. It was right where it stood, added to the mean square.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = at_least_float32(x)
    return (values / (scale_of(values, 0.0) + eps) * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "eps lost",
    "Both faults are mended, but eps is gone from the scale. It was right where it stood.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = at_least_float32(x)
    return (values / scale_of(values, 0.0) * at_least_float32(weight)).to(x.dtype)


@mended_norm.misconception(
    "keepdim lost",
    "keepdim=True is gone from the mean, so the scale lines up with the wrong axis of x, or with none. It was right as "
    "it stood.",
)
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = at_least_float32(x)
    return (values / scale_of(values, eps).squeeze(-1) * at_least_float32(weight)).to(x.dtype)


@mended_norm.alternative
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    values = x.float()
    scale = (values.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return (values / scale * weight).to(x.dtype)


@mended_norm.alternative
def _(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    gain = weight.float() * torch.rsqrt((x.float() ** 2).mean(-1, True) + eps)
    return (x.float() * gain).type(x.dtype)
