"""What the exercises of lesson 05 share: inputs, and both formulas in float64."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...expect import Mismatch, expect_close, random_tensor

LESSON = "05_norms"

# What holds of the formula at every size and rank: a token alone, one channel, many channels, several batches
SHAPES = ((8,), (3, 1), (5, 6), (2, 3, 64), (2, 2, 3, 5))
HALVES = {torch.bfloat16: 8, torch.float16: 11}  # bits of a number's digits


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())


def tensor(values: list) -> Tensor:
    return torch.tensor(values, device=choose_device())


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exact(x: Tensor) -> Tensor:
    """x in float64 on the CPU, its gradients kept."""
    return x.to("cpu", torch.float64)


def exact_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Zhang and Sennrich's formula, token by token in float64."""
    x, weight = exact(x), exact(weight)
    tokens = [token / (token.dot(token) / len(token) + eps).sqrt() * weight for token in x.reshape(-1, x.shape[-1])]
    return torch.stack(tokens).reshape(x.shape)


def exact_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Ba's formula, token by token in float64."""
    x, weight, bias = exact(x), exact(weight), exact(bias)
    tokens = []
    for token in x.reshape(-1, x.shape[-1]):
        centred = token - token.sum() / len(token)
        tokens.append(centred / (centred.dot(centred) / len(token) + eps).sqrt() * weight + bias)
    return torch.stack(tokens).reshape(x.shape)


def expect_gradients(answer: Callable, exact_answer: Callable, *args: Tensor | float, names: tuple[str, ...]) -> None:
    """Refuse gradients of the tensors among args, called by their names, that differ from those of the formula."""
    tensors = [arg.detach().clone().requires_grad_() for arg in args if isinstance(arg, Tensor)]
    others = [arg for arg in args if not isinstance(arg, Tensor)]
    got = answer(*tensors, *others)
    if not got.requires_grad:
        raise Mismatch("the result is expected to carry gradients, but it is cut off from all inputs")
    upstream = draw(*got.shape, seed=9).to(got)
    found = torch.autograd.grad(got, tensors, upstream, allow_unused=True)
    wanted = torch.autograd.grad(exact_answer(*tensors, *others), tensors, exact(upstream))
    for name, gradient, want in zip(names, found, wanted, strict=True):
        if gradient is None:
            raise Mismatch(f"the result is expected to carry gradients back to {name}, but it is cut off from it")
        expect_close(gradient, want, where=f"gradient of {name}", rtol=1e-4, atol=1e-5)
