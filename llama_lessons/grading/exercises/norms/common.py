"""What the exercises of lesson 05 share: both formulas in float64, and slips that every norm's code can have."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...expect import HALVES, draw, exact, expect_close, expect_gradients, expect_like

# What holds of the formula at every size and rank: a token alone, one channel, as many as in Llama, several batches
SHAPES = ((8,), (3, 1), (5, 6), (2, 3, 64), (2, 2, 3, 5), (1, 4096))


def exact_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Zhang and Sennrich's formula, token by token in float64."""
    x, weight = exact(x), exact(weight)
    tokens = [token / (token.dot(token) / len(token) + eps).sqrt() * weight for token in x.reshape(-1, x.shape[-1])]
    return torch.stack(tokens).reshape(x.shape)


def exact_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Ba's formula in float64: RMSNorm of each token less its mean, and then a bias."""
    x = exact(x)
    centred = x - x.sum(dim=-1, keepdim=True) / x.shape[-1]
    return exact_rms_norm(centred, weight, eps) + exact(bias)


def expect_shape_and_dtype(answer: Callable, parameters: int) -> None:
    """Refuse a norm whose result has another shape or dtype than x."""
    for shape in SHAPES:
        for dtype in (torch.float32, *HALVES):
            x, weight = draw(*shape, dtype=dtype), draw(shape[-1], dtype=dtype)
            got = answer(x, *[weight] * parameters, 1e-5)
            expect_like(got, shape=shape, dtype=dtype, where=f"x of shape {shape} in {str(dtype)[6:]}")


def expect_float32_inside(answer: Callable, exact_norm: Callable, biases: int = 0) -> None:
    """Refuse a norm that differs from the exact one in more than the last digits of half precision."""
    for dtype, bits in HALVES.items():
        # Two roundings are forgiven, so that the gain may be applied after the result is rounded.
        for factor, where in ((1, "to its last digits"), (1000, "numbers whose squares float16 cannot hold")):
            x, weight = (factor * (draw(33, 64) + 1)).to(dtype), draw(64, seed=1, dtype=dtype)
            args = (x, weight, *[torch.zeros_like(weight)] * biases, 1e-5)
            where = f"{str(dtype)[6:]}, {where}"
            expect_close(answer(*args), exact_norm(*args), where=where, rtol=2.1 * 2.0**-bits, atol=1e-6)


def expect_gradients_in_every_dtype(answer: Callable, exact_norm: Callable, *names: str) -> None:
    """Refuse a norm through which gradients of `names`, x first, do not flow back as through the exact one."""
    for dtype in (torch.float32, *HALVES):
        for shape in ((8,), (2, 3, 8)):
            args = [draw(*(shape if name == "x" else (8,)), seed=n, dtype=dtype) for n, name in enumerate(names)]
            called = tuple(f"{name} in {str(dtype)[6:]}" for name in names)
            close = {"rtol": 0.05, "atol": 0.1} if dtype in HALVES else {}
            expect_gradients(answer, exact_norm, *args, 1e-5, names=called, **close)


def expect_separate_tokens(answer: Callable, *parameters: Tensor) -> None:
    """Refuse a norm in which one token changes another."""
    x = draw(2, 3, 8)
    before = answer(x, *parameters, 1e-5).detach()
    changed = x.clone()
    changed[1, 2] = 100 * draw(8, seed=3)
    after = answer(changed, *parameters, 1e-5).detach()
    expect_close(after[0], before[0], where="row 0 of the batch, after a token of row 1 changed")
    expect_close(after[1, :2], before[1, :2], where="tokens 0 and 1, after token 2 of their row changed")


def inputs() -> list[tuple[Tensor, float]]:
    """x and eps: several ranks, a large eps, a mean far from 0, tiny numbers, half precision, squares too large."""
    return [
        ((draw(*shape, seed=seed) * factor + shift).to(dtype), eps)
        for seed, (shape, shift, factor, eps, dtype) in enumerate(
            [
                ((4,), 0.0, 1.0, 1e-5, torch.float32),
                ((3, 4), 1.0, 1.0, 1e-5, torch.float32),
                ((2, 3, 6), 0.5, 2.0, 0.3, torch.float32),
                ((3, 3, 3), 0.0, 0.02, 1e-3, torch.float32),
                ((2, 2, 16), 20.0, 1.0, 1e-5, torch.float32),
                ((2, 2, 8), 0.0, 1e-3, 1e-5, torch.float32),
                ((2, 8), 0.0, 1e-6, 1e-5, torch.float32),
                ((25, 64), 1.0, 1.0, 1e-5, torch.bfloat16),
                ((33, 64), 1.0, 1.0, 1e-5, torch.float16),
                ((49, 64), 0.0, 2000.0, 1e-5, torch.float16),
            ]
        )
    ]


def norm_cases() -> list[tuple]:
    """x, weight and eps for a norm that has no bias; in the last case eps is left out."""
    made = [
        (x.requires_grad_(), draw(x.shape[-1], seed=seed, dtype=x.dtype).requires_grad_(), eps)
        for seed, (x, eps) in enumerate(inputs(), 20)
    ]
    made.append((draw(2, 8, 3, seed=9).transpose(1, 2), draw(8, seed=29), 1e-5))
    return [*made, (draw(3, 8) / 500, draw(8, seed=1))]


EVERY_NORM = """
    gains counted from 1: * weight -> * (1 + at_least_float32(weight))
        You multiply by 1 + weight, as Gemma does, whose gains are kept so. Here the weight is the gain itself.
    gains twice: * weight -> * at_least_float32(weight) ** 2
        Each channel is multiplied by its gain twice. Once is enough.
    divides by the gains: * weight -> / weight
        Each channel is divided by its weight. A gain is multiplied.
    1e-5 whatever eps is: + eps) -> + 1e-5)
        Your result is that for an eps of 1e-5, whatever eps is. Models differ in it, so use what is given.
    1e-6 whatever eps is: + eps) -> + 1e-6)
        Your result is that for an eps of 1e-6, whatever eps is. Models differ in it, so use what is given.
    eps is 1e-6 by itself: eps: float = 1e-5 -> eps: float = 1e-6
        Where no eps is given, yours is 1e-6, as in the first Llama. Here it is 1e-5.
    eps squared: + eps) -> + eps**2)
        You add the square of eps. It is added as it is.
    over the whole tensor: dim=-1 -> dim=tuple(range(x.ndim))
        You take one mean for all tokens together: statistics of the whole tensor. Each token has its own, over the last
        axis; otherwise every token depends on all others, those to come included.
    over the tokens: dim=-1 -> dim=-2 if x.ndim > 1 else -1
        You take means over axis -2, the tokens. The channels of one token lie along the last axis, -1.
    over axis 1: dim=-1 -> dim=1
        You take means over axis 1, where the channels lie only if x has two axes. Count from the end: the last is -1.
    over the first axis: dim=-1 -> dim=0
        You take means over axis 0. In (batch, seq_len, dim) that is the batch: texts that happen to be read together
        change each other. The channels of one token lie along the last axis, -1.
    over each text: dim=-1 -> dim=(-2, -1) if x.ndim > 1 else -1
        You take means over the last two axes, a whole text at once. Each token has its own: the last axis alone.
    each channel over all tokens: dim=-1 -> dim=tuple(range(x.ndim - 1)) or -1
        You take means for each channel, over all tokens, as BatchNorm does. Take them per token, over its channels.
    keepdim forgotten: dim=-1, keepdim=True -> dim=-1
        A mean loses its axis and lines up with the wrong one of x, or with none. keepdim=True or [..., None] keeps it.
    bfloat16 is not cast: at_least_float32(x) -> x if x.dtype == torch.bfloat16 else at_least_float32(x)
        Bfloat16 is not computed in float32. It holds large squares, but only two to three digits: cast it too.
    float16 is not cast: at_least_float32(x) -> x if x.dtype == torch.float16 else at_least_float32(x)
        Float16 is not computed in float32. There the square of 256 is infinite: cast it too.
"""

EVERY_RMS_NORM = """
    the mean is taken away: v = at_least_float32(x) -> v = at_least_float32(x); v = v - v.mean(dim=-1, keepdim=True)
        You take each token's mean away first: that is LayerNorm without its bias. RMSNorm leaves the mean where it is.
    divides by the standard deviation: v.square().mean(dim=-1, -> v.var(dim=-1, correction=0,
        You divide by the standard deviation, whose squares are those of x less its mean. RMSNorm squares x as it is.
    eps outside the root: (mean_square + eps).sqrt() -> (mean_square.sqrt() + eps)
        You take the root first and add eps to it. It is added to the mean square, inside the root: tokens of small
        numbers come out otherwise.
    the root is missing: (mean_square + eps).sqrt() -> (mean_square + eps)
        You divide by the mean square, or by its root twice. The mean square has the unit of x squared, so 10 x comes
        out ten times smaller than x does: divide by the root, once.
    multiplies by the root: v / (mean -> v * (mean
        You multiply by the root mean square where you should divide by it (with torch.rsqrt, which is one over the
        root, it is the other way round). A token ten times as large comes out a hundred times as large.
    the mean is taken away too late: return (v / -> return ((v - v.mean(dim=-1, keepdim=True)) /
        You divide by the root mean square of x, mean included, and take the mean away from what is divided, or from the
        quotient. RMSNorm leaves it in.
    divides by torch's std: v.square().mean(dim=-1, -> v.var(dim=-1,
        You divide by the standard deviation as torch.std has it: the mean is taken away, and the sum of squares divided
        by one less than the number of channels. RMSNorm takes the mean of the squares of x as it is.
    torch's std plus eps: (mean_square + eps).sqrt() -> (v.std(dim=-1, keepdim=True) + eps)
        You divide by the standard deviation, as torch.std has it, plus eps. It takes the mean away and divides by one
        less than the number of channels; RMSNorm takes the mean of the squares of x as it is, and adds eps to that.
    sum of squares, not their mean: .mean(dim -> .sum(dim
        You add up the squares and do not divide by the number of channels. RMSNorm takes their mean.
    length plus eps: (mean_square + eps).sqrt() -> (v.norm(dim=-1, keepdim=True) + eps)
        You divide by the token's length plus eps. RMSNorm divides by the root of (mean square plus eps).
    length alone: (mean_square + eps).sqrt() -> v.norm(dim=-1, keepdim=True)
        You divide by the token's length, without eps. RMSNorm divides by the root of (mean square plus eps).
    length, at least eps: (mean_square + eps).sqrt() -> v.norm(dim=-1, keepdim=True).clamp(min=eps)
        You divide by the token's length, or by eps if larger. RMSNorm divides by the root of (mean square plus eps).
    divides by dim - 1: v.square().mean(dim=-1, keepdim=True) -> v.square().sum(-1, True) / max(x.shape[-1] - 1, 1)
        You divide the sum of squares by one less than the number of channels. RMSNorm takes their mean.
    square of the mean: v.square().mean(dim=-1, keepdim=True) -> v.mean(dim=-1, keepdim=True).square()
        You take the mean first and square it. Square each channel first, and then take the mean.
    a new axis in second place: .mean(dim=-1, keepdim=True) -> .mean(dim=-1)[:, None]
        Where x has three axes, what you divide by does not line up: its new axis is the second. Use keepdim=True.
    mean of absolute values: (mean_square + eps).sqrt() -> (v.abs().mean(dim=-1, keepdim=True) + eps)
        You divide by the mean of the absolute values. The root mean square squares first, then takes mean and root.
    not divided at all: v / (mean_square + eps).sqrt() -> v
        What comes out is x times the gains, as if nothing were normalised: either you divide by nothing, or what you
        divide by is multiplied back. A token ten times as large must come out the same.
    no gain: * weight).to -> ).to
        Your result is that for gains of 1, whatever weight holds. Multiply each channel by its weight, as it came.
    the gain is added: sqrt() * weight -> sqrt() + weight
        You add the weight like a bias. A gain is multiplied, and RMSNorm has no bias.
    gains before the norm: v = at_least_float32(x) -> v = at_least_float32(x) * at_least_float32(weight); weight = 1
        You multiply by the gains first and normalise the product, so that the norm takes the gains' common size away
        again. Normalise first, then scale each channel.
    torch's eps: (mean_square + eps) -> (mean_square + torch.finfo(torch.float32).eps)
        Your result is that for an eps of about 1e-7, whatever eps is. That is what torch's own rms_norm and nn.RMSNorm
        take where they are given none: pass eps on.
    torch's eps by itself: eps: float = 1e-5 -> eps: float = torch.finfo(torch.float32).eps
        Where no eps is given, yours is about 1e-7, as in torch's own rms_norm. Here it is 1e-5.
    eps as a floor: (mean_square + eps).sqrt() -> mean_square.sqrt().clamp(min=eps)
        You take eps as a floor under the root mean square. It is added, to the mean square, inside the root.
    eps as a floor inside the root: (mean_square + eps) -> mean_square.clamp(min=eps)
        You take eps as a floor under the mean square. It is added to the mean square.
    eps divided by dim: + eps) -> + eps / x.shape[-1])
        Your result is that for an eps divided by the number of channels, as if eps were added to the sum of the
        squares. It is added to their mean.
    no eps: (mean_square + eps) -> mean_square
        Your result is that for an eps of 0, whatever eps is. Inside the root, eps keeps a token of zeros, such as
        padding, from being 0 / 0, which is NaN, and tokens of tiny numbers from being blown up.
    computed in half precision: at_least_float32(x) -> x
        You compute in the dtype in which x came, or go back to it too early. Half precision keeps two to three digits,
        and from 256 on squares are infinite in float16. Go to float32 before you square, and back at the end.
    squared in half precision: v.square().mean(dim=-1, -> at_least_float32(x.square()).mean(dim=-1,
        You square x in the dtype in which it came, or round squares, their sum or mean to it. Half precision keeps few
        digits, and from 256 on squares are infinite in float16. Go to float32 before you square, and back at the end.
    scale in half precision: return (v / (mean_square + eps).sqrt() -> return (x / (mean_square + eps).sqrt().to(x)
        You round the root mean square, or one over it, to the dtype in which x came, before x is scaled by it: half
        precision keeps two to three digits. Stay in float32 until x is scaled.
    root mean square taken for a constant: (mean_square + eps).sqrt() -> (mean_square + eps).sqrt().detach()
        The numbers are right, but the root mean square is cut off from the gradient, as by no_grad, detach or .item().
        It depends on x too: without that, the gradient asks for a larger or smaller x, which changes nothing.
    a cast taken for a copy: return (v / (mean_square + eps).sqrt() -> v /= (mean_square + eps).sqrt(); return (v
        x.float() of a float32 tensor is x itself, so *= and /= change the caller's x, and what the gradient still
        needs. Write v = v / ..., which makes a new tensor.
"""
