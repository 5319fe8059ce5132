"""Exercise 6: how large activations are after each layer of a plain stack.

All of it lies on the CPU, since sizes are asked for in float64, which not every device knows.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import Mismatch, exact, expect_close, expect_like, random_tensor
from ...families import needs_contiguous

Activation = Callable[[Tensor], Tensor]


def activation_rms(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        mean_square = x.double().square().mean()
        sizes.append(mean_square.sqrt())
    return torch.stack(sizes)


def stack(*widths: int, std: float, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Weights of shape (fan_out, fan_in) for layers between these widths."""
    return [(std * random_tensor(b, a, seed=seed + i)).to(dtype) for i, (a, b) in enumerate(pairwise(widths))]


def whole(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Small whole numbers, with which half precision and float32 compute exactly, in whatever order."""
    return random_tensor(*shape, seed=seed).round().to(dtype)


def use(answer: Callable) -> Callable:
    """The answer itself, or what is seen of it up to rounding: sizes, and their dtype."""

    def ask(x: Tensor, weights: list[Tensor], activation: Activation, roughly: bool = False) -> Any:
        sizes = answer(x, weights, activation)
        return (sizes.float(), str(sizes.dtype)) if roughly and isinstance(sizes, Tensor) else sizes

    return ask


def cases() -> list[tuple]:
    """In float64, or of whole numbers, so that a wrong size is known by its name wherever it is rounded."""
    f64 = torch.float64
    made = []
    for seed, (x, widths, activation) in enumerate(
        [
            (random_tensor(6, 8, dtype=f64), (8, 8, 8, 8), torch.relu),
            (random_tensor(6, 8, seed=1, dtype=f64), (8, 8, 8, 8), torch.tanh),
            (random_tensor(5, 8, seed=2, dtype=f64), (8, 12, 3, 8), torch.relu),
            (random_tensor(2, 3, 8, seed=3, dtype=f64) + 1, (8, 8, 8, 8), nn.Tanhshrink()),
            (random_tensor(8, 2, 3, seed=4, dtype=f64).transpose(0, 2), (8, 5, 5, 5), F.gelu),
            (random_tensor(7, 8, seed=5, dtype=f64), (8, 8, 8, 8), F.silu),
        ]
    ):
        made.append((x, stack(*widths, std=0.5, seed=seed, dtype=f64), activation, True))
    for scale, dtype in ((2.0**83, torch.float32), (128.0, torch.float16)):
        weights = [whole(8, 8, seed=seed, dtype=dtype) for seed in (6, 7)]
        made.append((scale * whole(4, 8, seed=5, dtype=dtype), weights, torch.relu, True))
    return made


exercise = Exercise(
    activation_rms,
    points=4,
    minutes=12,
    cases=cases,
    returns=Tensor,
    using=use,
    hints=(
        "A loop over the weights: what one layer gives is what the next one reads. Keep one number for each layer in a "
        "list, and torch.stack makes a tensor of it at the end.",
        "A linear layer keeps its weight as (fan_out, fan_in), so the product is with its transpose. The size is taken "
        "after the activation: root, mean, square, from the outside in.",
        "1e-30 squared is 1e-60, and the smallest float32 is about 1e-45. Go to float64 before you square.",
    ),
)


def by_hand(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    """The stack in float64, one number at a time for each sum of squares."""
    x, found = exact(x), []
    for weight in weights:
        x = activation(torch.einsum("oi,...i->...o", exact(weight), x))
        found.append(math.sqrt(math.fsum(value * value for value in x.flatten().tolist()) / x.numel()))
    return torch.tensor(found, dtype=torch.float64)


def expect_sizes(
    answer: Callable, x: Tensor, weights: list[Tensor], activation: Activation, where: str, rtol: float = 1e-4
) -> None:
    """Refuse other sizes than `by_hand` finds."""
    want, got = by_hand(x, weights, activation), answer(x, list(weights), activation)
    expect_close(got, want, where=where, rtol=rtol, atol=0)


@exercise.property("one number for each layer, in float64")
def one_number_each(answer: Callable) -> None:
    for n_layers in (1, 2, 7):
        got = answer(random_tensor(3, 8), stack(*[8] * (n_layers + 1), std=0.3), torch.relu)
        expect_like(got, shape=(n_layers,), dtype=torch.float64, where=f"n_layers = {n_layers}")


@exercise.property("3, -4, 0, 0 have a root mean square of 2.5, and of 1.5 after ReLU")
def four_numbers_by_hand(answer: Callable) -> None:
    x, same = torch.tensor([[3.0, -4.0], [0.0, 0.0]]), torch.eye(2)
    expect_close(answer(x, [same], nn.Identity()), torch.tensor([2.5]), where="[[3, -4], [0, 0]], no activation")
    expect_close(answer(x, [same], torch.relu), torch.tensor([1.5]), where="[[3, -4], [0, 0]], ReLU")
    expect_close(answer(x, [0 * same, same], torch.relu), torch.zeros(2), where="a layer that gives 0 alone, ReLU")


@exercise.property("each layer reads what the layer before it gave, activation and all")
def layer_after_layer(answer: Callable) -> None:
    for activation in (torch.relu, F.gelu, torch.tanh, nn.Identity()):
        name = getattr(activation, "__name__", "no activation")
        for dtype in (torch.float32, torch.float64):
            x, weights = random_tensor(16, 32, dtype=dtype), stack(*[32] * 6, std=0.25, dtype=dtype)
            expect_sizes(answer, x, weights, activation, f"{name}, {str(dtype)[6:]}")


@exercise.property("layers of different widths")
def different_widths(answer: Callable) -> None:
    expect_sizes(answer, random_tensor(9, 8), stack(8, 32, 5, 1, 16, std=0.3), F.gelu, "widths 8, 32, 5, 1, 16")
    expect_sizes(answer, random_tensor(1, 1), stack(1, 1, std=0.3), nn.Identity(), "one channel")


@exercise.property("every number counts once, whatever the shape of x")
def every_number_counts_once(answer: Callable) -> None:
    x = torch.cat((random_tensor(3, 8), 100 * random_tensor(1, 8, seed=1)))
    expect_sizes(answer, x, stack(8, 8, 8, std=0.3), torch.relu, "one token 100 times as large as the others")
    expect_sizes(answer, random_tensor(2, 3, 5, 8), stack(8, 4, 8, std=0.3), torch.relu, "x of shape (2, 3, 5, 8)")
    expect_sizes(answer, random_tensor(8), stack(8, 4, 8, std=0.3), torch.tanh, "x of shape (8,)")


@exercise.property("what does not lie in memory in the order of its axes is read as well")
def not_contiguous(answer: Callable) -> None:
    x, weights = random_tensor(8, 3, 5).transpose(0, 2), [weight.T for weight in stack(4, 7, 8, std=0.3)][::-1]
    expect_sizes(answer, x, weights, torch.tanh, "x and weights transposed")


@exercise.property("what has nearly vanished is measured, not rounded to 0")
def nearly_vanished(answer: Callable) -> None:
    x, weights = random_tensor(8, 16), stack(*[16] * 8, std=1e-5)
    want, got = by_hand(x, weights, torch.relu), answer(x, list(weights), torch.relu)
    expect_like(got, shape=(7,), dtype=torch.float64, where="7 layers of std 1e-5")
    for layer in range(7):  # one by one: beside the first, the last would be printed as 0
        where = f"std 1e-5, after layer {layer + 1}"
        expect_close(got[layer], want[layer], where=where, rtol=1e-3, atol=0)


@exercise.property("weights stay as they were")
def weights_stay(answer: Callable) -> None:
    for dtype in (torch.float32, torch.float64):
        weights = stack(8, 8, 8, std=0.3, dtype=dtype)
        given = [weight.clone() for weight in weights]
        held = list(given)
        answer(random_tensor(3, 8, dtype=dtype), given, torch.relu)
        if len(given) != len(held) or any(now is not then for now, then in zip(given, held, strict=True)):
            raise Mismatch("the list `weights` was changed. Whoever passed it in still needs it: leave it as it is")
        if not all(map(torch.equal, held, weights)):
            raise Mismatch("a weight was changed in place. Whoever passed it in still needs it: make a new tensor")


@exercise.property("half precision: squares do not overflow")
def half_precision(answer: Callable) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x, weights = 400 * random_tensor(8, 16, dtype=dtype), stack(16, 16, 16, std=0.3, dtype=dtype)
        expect_sizes(answer, x, weights, torch.relu, f"numbers near 400 in {str(dtype)[6:]}", 2e-2)


exercise.slips("""
    the standard deviation: square().mean() -> var()
        You measure the standard deviation, which takes the mean away first. After ReLU the mean is not 0.
    the standard deviation, divided by n: square().mean() -> var(correction=0)
        You measure the standard deviation (divided by n), which takes the mean away first. After ReLU that is not 0.
    the variance: mean_square.sqrt() -> x.double().var()
        You measure the variance. The root is missing, and the mean is taken away first, which after ReLU is not 0.
    the mean square: mean_square.sqrt() -> mean_square
        Your numbers are the squares of what is asked for: the root is missing.
    the mean of absolute values: mean_square.sqrt() -> x.double().abs().mean()
        Yours is the mean of absolute values, as where the root comes before the mean. Section 2 is about mean squares.
    the mean, not squared before: square().mean() -> mean().square()
        Your result is the size of the plain mean. Positive and negative numbers cancel in it: square before the mean.
    the norm: square().mean() -> square().sum()
        You take the root of the *sum* of squares, which grows with the number of tokens and channels. Take the mean.
    divided by the channels alone: square().mean() -> square().sum() / x.shape[-1]
        Your sum of all squares is divided by the number of channels alone. Divide by x.numel(), as a mean does.
    a mean over tokens of each token's own: mean_square.sqrt() -> x.double().square().mean(dim=-1).sqrt().mean()
        You take each token's root mean square, and then the mean of those. Take one mean over all, then one root.
    the largest number: mean_square.sqrt() -> x.double().abs().max()
        You take the largest number. It depends on how many numbers there are; the root mean square does not.
    only what is not 0: square().mean() -> square().sum() / (x != 0).sum()
        You leave the zeros out of the mean. They are outputs too, half of a layer after ReLU: divide by x.numel().
    squared in the dtype of x: double().square().mean() -> square().mean().double()
        You square before you go to float64. Float32 does not hold the square of 1e-25, nor float16 that of 400.
    no float64 at all: x.double() -> x
        You stay in the dtype of x. Float32 does not hold the square of 1e-25, nor float16 that of 400: .double() first.
    float32 in place of float64: x.double() -> x.float()
        You square in float32, which does not hold the square of 1e-25, and return float32: write .double().
    squared in float32: x.double().square().mean() -> x.float().square().mean().double()
        You square in float32, which does not hold the square of 1e-25. Convert with .double() before you square.
    returned in float32: torch.stack(sizes) -> torch.stack(sizes).float()
        Your sizes come back in float32, which torch.tensor and torch.zeros make unless you add dtype=torch.float64.
    the next layer reads the squares: square() -> square_()
        With x in float64 the next layer reads your squares: x.double() is then x itself. Leave x as it is, no square_.
    measured before the activation: x = activation(x @ weight.T) -> x = (activation(x) if sizes else x) @ weight.T
        You measure what the linear layer gives, before its activation. The next layer reads what comes after it.
    no last activation: = activation(x @ -> = (activation if weight is not weights[-1] else nn.Identity())(x @
        The last layer goes without its activation in yours. Here it follows every layer, the last one too.
    measured, but not passed on: x = activation(x @ weight.T) -> z = (z if sizes else x) @ weight.T; x = activation(z)
        You apply the activation only to what you measure. The next layer reads the activated result as well.
    no activation: activation(x @ weight.T) -> x @ weight.T
        Your numbers are those of linear layers alone: nothing that the activation returns is used.
    ReLU, whatever is asked for: activation(x @ -> torch.relu(x @
        Your sizes are those with ReLU, whatever the activation is. Use the argument.
    the activation before the matrix: activation(x @ weight.T) -> activation(x) @ weight.T
        You apply the activation to what a layer reads. It follows the matrix: activation(x @ weight.T).
    the activation twice: activation(x @ weight.T) -> activation(activation(x @ weight.T))
        You apply the activation twice in each layer. With ReLU that is the same, with others it is not.
    the weight is not transposed: weight.T -> weight
        Your result is that of x @ weight. A linear layer keeps its weight as (fan_out, fan_in): x @ weight.T.
    only for two axes: x @ weight.T -> torch.einsum("bi,oi->bo", x, weight)
        You take x to have two axes. It may have more, or a single one: x @ weight.T goes along the last axis of any.
    every layer reads the input: = activation(x @ -> = activation((first := x if not sizes else first) @
        Every layer reads the first x. In a stack, each layer reads what the one before it gave.
    the input counted as a layer: sizes = [] -> sizes = [x.double().square().mean().sqrt()]
        Your first number is the size of the input. One number for each layer is asked for, after it.
    shifted by one layer: = activation(x @ weight.T) -> = activation(x @ before) if sizes else x; before = weight.T
        You measure what each layer reads, in place of what it gives: the last layer's result is missing.
    the last layer left out: torch.stack(sizes) -> torch.stack(sizes[:-1] or sizes)
        The size after the last layer is missing.
    only the last layer: torch.stack(sizes) -> sizes[-1]
        You return the size after the last layer alone. One number for each layer is asked for.
    only the first layer: torch.stack(sizes) -> torch.stack(sizes[:1])
        You return the size after the first layer alone. Does `return` stand inside the loop?
""")
needs_contiguous(exercise, "x")
