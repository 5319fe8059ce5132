"""Tell which misconception an answer behaves like, by running both on the same inputs."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .exercise import Exercise, Misconception
from .expect import OutOfTime, plain, same_chance

__all__ = ["Outcome", "match_misconception", "observe"]


@dataclass(frozen=True)
class Outcome:
    """All that can be seen of one call: what it raised or returned, what it changed, its gradients."""

    error: type | None
    values: tuple
    changed: tuple[bool, ...]
    gradients: tuple

    def same(self, other: "Outcome") -> bool:
        """Whether two calls cannot be told apart, up to rounding."""
        if self.error is not None or other.error is not None:
            return self.error is other.error
        return (
            self.changed == other.changed
            and len(self.values) == len(other.values)
            and len(self.gradients) == len(other.gradients)
            and all(map(_same_value, self.values, other.values))
            and all(map(_same_value, self.gradients, other.gradients))
        )


def observe(function: Callable, args: tuple) -> Outcome:
    """Call `function` on copies of `args`, with gradients asked for on every floating-point tensor."""
    copies = tuple(_copy(arg) for arg in args)
    before = [arg.detach().clone() for arg in copies if isinstance(arg, Tensor)]
    try:
        with same_chance():
            result = plain(function(*copies))
        if inspect.iscoroutine(result):
            result.close()
        # Read before the backward pass: it may refuse an input that was changed in place.
        after = [arg.detach().clone() for arg in copies if isinstance(arg, Tensor)]
        values = result if isinstance(result, tuple) else (result,)
        gradients = _gradients(values, copies)
    except (OutOfTime, KeyboardInterrupt):
        raise
    except BaseException as error:
        return Outcome(type(error), (), (), ())
    changed = tuple(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return Outcome(None, values, changed, gradients)


def match_misconception(exercise: Exercise, function: Callable) -> Misconception | None:
    """The misconception that `function` cannot be told from, wherever that one differs from a right answer.

    Cases on which the misconception happens to be right do not count, so that a second, smaller mistake does
    not hide the first. Of several matches the one seen in most cases is taken.
    """
    cases = exercise.cases()
    right = [observe(exercise.reference, case) for case in cases]
    answers = [observe(function, case) for case in cases]
    best, most = None, 0
    for misconception in exercise.misconceptions:
        seen, value_seen = 0, False
        for case, reference, answer in zip(cases, right, answers, strict=True):
            wrong = observe(misconception.function, case)
            if wrong.same(reference):
                continue
            if not answer.same(wrong):
                break
            seen += 1
            value_seen = value_seen or wrong.error is None
        else:
            # An exception of the same type alone says too little.
            if value_seen and seen > most:
                best, most = misconception, seen
    return best


def _copy(arg: Any) -> Any:
    if not isinstance(arg, Tensor):
        return arg
    copy = arg.detach().clone()
    if not copy.is_floating_point():
        return copy
    # Not a leaf, so that an in-place change is seen as a change instead of raising.
    return copy.requires_grad_().clone() if torch.is_grad_enabled() else copy


def _gradients(values: tuple, copies: tuple) -> tuple:
    total = sum(
        (v.double() * _weights(v)).sum()
        for v in values
        if isinstance(v, Tensor) and v.is_floating_point() and v.requires_grad
    )
    if not isinstance(total, Tensor):
        return ()
    inputs = [c for c in copies if isinstance(c, Tensor) and c.requires_grad]
    return torch.autograd.grad(total, inputs, allow_unused=True)


def _weights(value: Tensor) -> Tensor:
    # Any fixed weights do, as long as no two neighbours get the same.
    return torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).view(value.shape).to(value.device)


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or a.shape != b.shape or a.device != b.device or a.layout != b.layout:
            return False
        a, b = a.detach(), b.detach()
        if not a.is_floating_point():
            return torch.equal(a, b)
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}.get(a.dtype, 1e-4)
        return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True)
    if isinstance(a, Tensor) or isinstance(b, Tensor) or type(a) is not type(b):
        return False
    return a is None or (isinstance(a, (bool, int, float, str)) and a == b)
