"""What the exercises of lesson 07 share: random inputs, and attention written out in float64.

What is expected is never taken from `llama_lessons.attention`, but from the formula, one query at a time over its own
past: nothing that is later is ever looked at, so there is no mask that could be wrong.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, random_tensor

LESSON = "07_attention"
HALVES = (torch.bfloat16, torch.float16)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers on the learner's device."""
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())


def counted(n: int, what: str) -> str:
    """A number with its noun: 1 key, 2 keys, 3 queries."""
    return f"{n} {what}" if n == 1 else f"{n} queries" if what == "query" else f"{n} {what}s"


def at_least_float32(x: Tensor) -> Tensor:
    """In float32, or in float64 if it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def by_formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal grouped-query attention in float64, query by query; heads on axis 1, the queries are the last places."""
    q, k, v = (x.double().cpu() for x in (q, k, v))
    group_size, cached = q.shape[1] // k.shape[1], k.shape[2] - q.shape[2]
    heads = []
    for head in range(q.shape[1]):
        keys, values = k[:, head // group_size], v[:, head // group_size]
        rows = []
        for t in range(q.shape[2]):
            end = cached + t + 1
            scores = torch.einsum("bd,bsd->bs", q[:, head, t], keys[:, :end]) / q.shape[-1] ** 0.5
            rows.append(torch.einsum("bs,bsd->bd", scores.softmax(dim=-1), values[:, :end]))
        heads.append(torch.stack(rows, dim=1))
    return torch.stack(heads, dim=1)


def low_past_high_future() -> tuple[Tensor, Tensor]:
    """Queries and keys of one head whose scores are below -100,000 for places read, above 100,000 for later ones."""
    q = torch.full_like(draw(1, 1, 3, 2), 400.0)
    return q, torch.stack((-q[..., 0, :], -q[..., 1, :] * 1.001, q[..., 2, :]), dim=-2)


def places_up_to(q: Tensor, k: Tensor, ahead: int = 0) -> Tensor:
    """True where a key is at most `ahead` places after the query; heads on axis 1, the queries are the last places."""
    key_places = torch.arange(k.shape[-2], device=q.device)
    return key_places <= key_places[k.shape[-2] - q.shape[-2] :, None] + ahead


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    allowed: Tensor | None = None,
    divisor: float | None = None,
    softmax_dim: int = -1,
    hidden: float = float("-inf"),
) -> Tensor:
    """Causal attention with as many heads in k and v as in q, and each of its steps to be got wrong."""
    dtype = q.dtype
    q, k, v = map(at_least_float32, (q, k, v))
    allowed = places_up_to(q, k) if allowed is None else allowed
    scores = q @ k.transpose(-2, -1) / (q.shape[-1] ** 0.5 if divisor is None else divisor)
    return (scores.masked_fill(~allowed, hidden).softmax(dim=softmax_dim) @ v).to(dtype)


def expect_gradients(exercise: Exercise, answer: Callable, inputs: tuple[Tensor, ...], wanted: tuple[Tensor, ...],
                     upstream: Tensor) -> None:  # fmt: skip
    """Refuse an answer through which gradients do not flow back, or are not `wanted`."""
    got = answer(*inputs)
    expect_like(got, shape=tuple(upstream.shape), dtype=upstream.dtype, where="with inputs that require gradients")
    if not got.requires_grad:
        raise Mismatch(f"the result is expected to carry gradients back to {exercise.parameters[0]}, but is cut off")
    # A scalar: for anything else torch imports sympy the first time, which takes seconds.
    gradients = torch.autograd.grad((got * upstream).sum(), inputs, allow_unused=True)
    for name, gradient, want in zip(exercise.parameters, gradients, wanted, strict=False):
        if gradient is None:
            raise Mismatch(f"the result is expected to carry gradients back to {name}, but is cut off from it")
        expect_close(gradient, want, where=f"gradient of {name}", rtol=1e-4, atol=1e-5)
