"""How large activations are after each layer of a plain stack."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, draw

__all__ = ["activation_rms"]

Activation = Callable[[Tensor], Tensor]


def by_hand(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    """The stack in float64, one number at a time for each sum of squares."""
    x, found = x.detach().double().cpu(), []
    for weight in weights:
        x = activation(torch.einsum("oi,...i->...o", weight.detach().double().cpu(), x))
        squares = [value * value for value in x.flatten().tolist()]
        found.append(math.sqrt(math.fsum(squares) / len(squares)))
    return torch.tensor(found, dtype=torch.float64)


def reference(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    found = []
    for weight in weights:
        x = activation(x @ weight.T)
        found.append(x.double().square().mean().sqrt())
    return torch.stack(found)


def stack(*widths: int, std: float, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Weights of shape (fan_out, fan_in) for layers between these widths."""
    return [(std * draw(b, a, seed=seed + i)).to(dtype) for i, (a, b) in enumerate(pairwise(widths))]


def cases() -> list[tuple]:
    # In float64, so that a wrong size is known by its name wherever it is rounded. The last, whose squares float32 does
    # not hold, shows who squares too early.
    f64 = torch.float64
    return [
        (draw(6, 8, dtype=f64), stack(8, 8, 8, 8, std=0.5, dtype=f64), torch.relu),
        (draw(6, 8, seed=1, dtype=f64), stack(8, 8, 8, 8, std=0.5, seed=1, dtype=f64), torch.tanh),
        (draw(5, 8, seed=2, dtype=f64), stack(8, 12, 3, 8, std=0.5, seed=2, dtype=f64), torch.relu),
        (draw(2, 3, 8, seed=3, dtype=f64) + 1, stack(8, 8, 8, 8, std=0.4, seed=3, dtype=f64), nn.Tanhshrink()),
        (1e25 * draw(4, 8, seed=4), stack(8, 8, 8, 8, std=0.5, seed=4), torch.relu),
    ]


activation_rms = Exercise(
    name="activation_rms",
    lesson=LESSON,
    points=4,
    minutes=12,
    parameters=("x", "weights", "activation"),
    reference=reference,
    cases=cases,
    returns=Tensor,
    hints=(
        "A loop over the weights: what one layer gives is what the next one reads. Keep one number a layer in a list, "
        "and torch.stack makes a tensor of it at the end.",
        "A linear layer keeps its weight as (fan_out, fan_in), so the product is with its transpose. The size is taken "
        "after the activation: root, mean, square, from the outside in.",
        "1e-30 squared is 1e-60, and the smallest float32 is about 1e-45. Go to float64 before you square.",
    ),
)


def expect_sizes(answer: Callable, x: Tensor, weights: list, activation: Activation, where: str, rtol: float) -> None:
    got = answer(x, [weight.clone() for weight in weights], activation)
    expect_close(got, by_hand(x, weights, activation), where=where, rtol=rtol, atol=0)


@activation_rms.property("one number a layer, in float64")
def _(answer: Callable) -> None:
    for n_layers in (1, 2, 7):
        got = answer(draw(3, 8), stack(*[8] * (n_layers + 1), std=0.3), torch.relu)
        expect_like(got, shape=(n_layers,), dtype=torch.float64, where=f"{n_layers} layers")


@activation_rms.property("3, -4, 0, 0 have a root mean square of 2.5, and of 1.5 after ReLU")
def _(answer: Callable) -> None:
    x = draw(2, 2).new_tensor([[3.0, -4.0], [0.0, 0.0]])
    same = torch.eye(2, device=x.device)
    expect_close(answer(x, [same], nn.Identity()), torch.tensor([2.5]), where="[[3, -4], [0, 0]], no activation")
    expect_close(answer(x, [same], torch.relu), torch.tensor([1.5]), where="[[3, -4], [0, 0]], ReLU")


@activation_rms.property("each layer reads what the layer before it gave, activation and all")
def _(answer: Callable) -> None:
    for activation in (torch.relu, F.gelu, torch.tanh, nn.Identity()):
        name = getattr(activation, "__name__", "no activation")
        expect_sizes(answer, draw(16, 32), stack(*[32] * 6, std=0.25), activation, f"5 layers, {name}", 1e-4)


@activation_rms.property("layers of different widths")
def _(answer: Callable) -> None:
    expect_sizes(answer, draw(9, 8), stack(8, 32, 5, 1, 16, std=0.3), F.gelu, "widths 8, 32, 5, 1, 16", 1e-4)
    expect_sizes(answer, draw(1, 1), stack(1, 1, std=0.3), nn.Identity(), "one channel", 1e-4)


@activation_rms.property("every number counts once, whatever the shape of x")
def _(answer: Callable) -> None:
    x = torch.cat((draw(3, 8), 100 * draw(1, 8, seed=1)))
    expect_sizes(answer, x, stack(8, 8, 8, std=0.3), torch.relu, "one token 100 times as large as the others", 1e-4)
    expect_sizes(answer, draw(2, 3, 5, 8), stack(8, 4, 8, std=0.3), torch.relu, "x of shape (2, 3, 5, 8)", 1e-4)
    expect_sizes(answer, draw(8), stack(8, 4, 8, std=0.3), torch.tanh, "x of shape (8,)", 1e-4)


@activation_rms.property("what has nearly vanished is measured, not rounded to 0")
def _(answer: Callable) -> None:
    x, weights = draw(8, 16), stack(*[16] * 8, std=1e-5)
    got, want = answer(x, list(weights), torch.relu), by_hand(x, weights, torch.relu)
    expect_like(got, shape=(7,), dtype=torch.float64, where="7 layers of std 1e-5")
    for layer in range(7):  # one by one: beside the first, the last would be printed as 0
        where = f"std 1e-5, after layer {layer + 1}"
        expect_close(got[layer], want[layer], where=where, rtol=1e-3, atol=0)


@activation_rms.property("weights stay as they were")
def _(answer: Callable) -> None:
    weights = stack(8, 8, 8, std=0.3)
    given = [weight.clone() for weight in weights]
    held = list(given)
    answer(draw(3, 8), given, torch.relu)
    if len(given) != len(held) or any(now is not then for now, then in zip(given, held, strict=True)):
        raise Mismatch("the list `weights` was changed. Whoever passed it in still needs it: leave it as it is")
    if not all(map(torch.equal, held, weights)):
        raise Mismatch("a weight was changed in place. Whoever passed it in still needs it: make a new tensor")


@activation_rms.property("half precision: squares do not overflow")
def _(answer: Callable) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x, weights = 400 * draw(8, 16, dtype=dtype), stack(16, 16, 16, std=0.3, dtype=dtype)
        expect_sizes(answer, x, weights, torch.relu, f"numbers near 400 in {str(dtype)[6:]}", 2e-2)


def wrong(name: str, diagnosis: str) -> Callable:
    """Make a misconception of a function that measures one layer, in place of the root mean square."""

    def add(measure: Callable[[Tensor], Tensor]) -> Callable:
        @activation_rms.misconception(name, diagnosis)
        def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
            found = []
            for weight in weights:
                x = activation(x @ weight.T)
                found.append(measure(x.double()))
            return torch.stack(found).double()

        return measure

    return add


@wrong(
    "the standard deviation",
    "You measure the standard deviation, which takes the mean away first. After ReLU the mean is not 0, and the next "
    "layer reads it too: what counts is the root mean square.",
)
def _(x: Tensor) -> Tensor:
    return x.std()


@wrong(
    "the standard deviation, divided by n",
    "You measure the standard deviation (the one that divides by n), which takes the mean away first. After ReLU the "
    "mean is not 0: what counts is the root mean square.",
)
def _(x: Tensor) -> Tensor:
    return x.std(correction=0)


@wrong(
    "the variance",
    "You measure the variance. The root is missing, and the mean is taken away first, which after ReLU is not 0.",
)
def _(x: Tensor) -> Tensor:
    return x.var()


@wrong(
    "the mean square",
    "Your numbers are the squares of what is asked for: the root is missing.",
)
def _(x: Tensor) -> Tensor:
    return x.square().mean()


@wrong(
    "the mean of absolute values",
    "You take the mean of the absolute values. That is another size, smaller than the root mean square, and the "
    "three-line argument of section 2 does not hold for it.",
)
def _(x: Tensor) -> Tensor:
    return x.abs().mean()


@wrong(
    "the norm",
    "You take the root of the *sum* of squares, which grows with the number of tokens and channels. Take the mean.",
)
def _(x: Tensor) -> Tensor:
    return x.norm()


@wrong(
    "divided by the channels alone",
    "You add up the squares of all tokens, and divide by the number of channels alone. The mean goes over all numbers: "
    "x.numel() of them.",
)
def _(x: Tensor) -> Tensor:
    return x.norm() / x.shape[-1] ** 0.5


@wrong(
    "a mean over tokens of each token's own",
    "You take each token's root mean square first, and then the mean of those. A mean of roots is not the root of the "
    "mean: take one mean over all numbers, then one root.",
)
def _(x: Tensor) -> Tensor:
    return x.square().mean(dim=-1).sqrt().mean()


@wrong(
    "the largest number",
    "You take the largest absolute value. It depends on how many numbers there are; the root mean square does not.",
)
def _(x: Tensor) -> Tensor:
    return x.abs().max()


@wrong(
    "the mean, squared too late",
    "You take the mean first, and square afterwards. Positive and negative numbers cancel in a mean: square first.",
)
def _(x: Tensor) -> Tensor:
    return x.mean().square().sqrt()


def rms(x: Tensor) -> Tensor:
    return x.double().square().mean().sqrt()


@activation_rms.misconception(
    "squares in float32",
    "Where numbers are as small as 1e-25 you get 0, and infinity where they are as large as 1e25: float32 does not "
    "hold their squares. Convert with .double() before you square, not afterwards.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    found = []
    for weight in weights:
        x = activation(x @ weight.T)
        found.append(x.square().mean().sqrt())
    return torch.stack(found).double()


@activation_rms.misconception(
    "measured before the activation",
    "You measure what the linear layer gives, before its activation. The next layer reads what comes after it.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    found = []
    for weight in weights:
        x = x @ weight.T
        found.append(rms(x))
        x = activation(x)
    return torch.stack(found)


@activation_rms.misconception(
    "no activation after the last layer",
    "The last layer goes without its activation in yours. Here it follows every layer, the last one too.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    found = []
    for layer, weight in enumerate(weights):
        x = x @ weight.T
        x = activation(x) if layer < len(weights) - 1 else x
        found.append(rms(x))
    return torch.stack(found)


@activation_rms.misconception(
    "no activation",
    "The activation is never applied: your numbers are those of linear layers alone.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    return reference(x, weights, lambda y: y)


@activation_rms.misconception(
    "the activation is measured, but not passed on",
    "You apply the activation only to what you measure. The next layer reads the result without it: put the activated "
    "result into x.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    found = []
    for weight in weights:
        x = x @ weight.T
        found.append(rms(activation(x)))
    return torch.stack(found)


@activation_rms.misconception(
    "the weight is not transposed",
    "You multiply by the weight as it is. A linear layer keeps it as (fan_out, fan_in), so the product is "
    "x @ weight.T. Square layers raise no error here.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    return reference(x, [weight.T for weight in weights], activation)


@activation_rms.misconception(
    "every layer reads the input",
    "Every layer reads the first x. In a stack, each layer reads what the one before it gave.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    return torch.stack([rms(activation(x @ weight.T)) for weight in weights])


@activation_rms.misconception(
    "the input counted as a layer",
    "Your first number is the size of the input. One number for each layer is asked for, after it.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    return torch.cat((rms(x)[None], reference(x, weights, activation)))


@activation_rms.misconception(
    "shifted by one layer",
    "You measure what each layer reads, in place of what it gives: the last layer's result is missing.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    return torch.cat((rms(x)[None], reference(x, weights, activation)[:-1]))


@activation_rms.misconception(
    "only the last layer",
    "You return the size after the last layer alone. One number for each layer is asked for.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    return reference(x, weights, activation)[-1]


@activation_rms.misconception(
    "only the first layer",
    "You return after the first layer. Does `return` stand inside the loop? Its indentation decides.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    return reference(x, weights[:1], activation)


@activation_rms.misconception(
    "returned in float32",
    "Your sizes are right, but they come back in float32. That is what torch.tensor makes of Python's numbers, and "
    "torch.zeros too, unless you add dtype=torch.float64.",
)
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    return reference(x, weights, activation).float()


@activation_rms.alternative
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    sizes = torch.empty(len(weights), dtype=torch.float64)
    for layer, weight in enumerate(weights):
        x = activation(F.linear(x, weight))
        sizes[layer] = x.to(torch.float64).pow(2).mean() ** 0.5
    return sizes.to(x.device)


@activation_rms.alternative
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    # The whole stack in float64.
    x, found = x.double(), []
    for weight in weights:
        x = activation(torch.einsum("...i,oi->...o", x, weight.double()))
        found.append(x.norm().item() / x.numel() ** 0.5)
    return torch.tensor(found, dtype=torch.float64, device=x.device)


@activation_rms.alternative
def _(x: Tensor, weights: list[Tensor], activation: Activation) -> Tensor:
    def sizes(x: Tensor, weights: list[Tensor]) -> list[float]:
        if not weights:
            return []
        x = activation(x @ weights[0].mT)
        return [float(x.double().var(correction=0) + x.double().mean() ** 2) ** 0.5, *sizes(x, weights[1:])]

    return torch.tensor(sizes(x, list(weights)), dtype=torch.float64).to(x.device)
