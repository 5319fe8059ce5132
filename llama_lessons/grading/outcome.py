"""All that can be seen of one call of an answer, and in what two calls differ."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .expect import OutOfTime, exact, plain, same_chance
from .process_settings import use_ordinary_settings
from .time_limit import TimeLimit

__all__ = ["FACETS", "Outcome", "observe"]


FACETS = {"numbers", "types", "changed", "gradients"}


@dataclass(frozen=True)
class Outcome:
    """All that can be seen of one call: what it raised or returned, what it changed, its gradients.

    It is `telling` if its numbers are none that come about in many ways, such as zeros or an input handed back.
    """

    error: type | None
    values: tuple
    changed: tuple[bool, ...]
    gradients: tuple
    telling: bool = False

    def differences(self, other: "Outcome", coarse: bool = False) -> set[str]:
        """In which of FACETS two calls can be told apart: in all if only one of them raised.

        Args:
            coarse: whether numbers in half precision may differ by some of its steps, as they do where the same
                formula is computed in it in another order.
        """
        if self.error is not None or other.error is not None:
            return set() if self.error is other.error else set(FACETS)
        same = {
            "numbers": _all_close(self.values, other.values, coarse),
            "types": [_type(v) for v in self.values] == [_type(v) for v in other.values],
            "changed": self.changed == other.changed,
            "gradients": _all_close(self.gradients, other.gradients, coarse=True),
        }
        return {facet for facet, is_same in same.items() if not is_same}


def observe(function: Callable, args: tuple, limit: TimeLimit | None = None, gradients_too: bool = True) -> Outcome:
    """Call `function` on copies of `args`, and ask for gradients of those tensors that require them."""
    use_ordinary_settings()
    copies = tuple(_copy(arg, gradients_too) for arg in args)
    before = [arg.detach().clone() for arg in copies if isinstance(arg, Tensor)]

    def call() -> tuple:
        result = plain(function(*copies))
        if inspect.iscoroutine(result):
            result.close()
        # Read before the backward pass: it may refuse an input that was changed in place.
        after = [arg.detach().clone() for arg in copies if isinstance(arg, Tensor)]
        values = result if isinstance(result, tuple) else (result,)
        gradients = _gradients(values, copies)
        # As copies, since a later call may write into what this one returned.
        return tuple(v.detach().clone() if isinstance(v, Tensor) else v for v in values), after, gradients

    try:
        with same_chance():
            values, after, gradients = limit.run(call) if limit else call()
    except (OutOfTime, KeyboardInterrupt):
        raise
    except BaseException as error:
        if gradients_too and isinstance(error, RuntimeError):
            # For the sake of gradients torch forbids some changes in place.
            return observe(function, args, limit, gradients_too=False)
        return Outcome(type(error), (), (), ())
    finally:
        use_ordinary_settings()
    changed = tuple(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return Outcome(None, values, changed, gradients, any(_tells(value, args) for value in values))


def _tells(value: Any, args: tuple) -> bool:
    if not isinstance(value, Tensor):
        return isinstance(value, bool) or (isinstance(value, (int, float)) and value not in (0, 1))
    if value.is_nested or value.is_meta or value.layout != torch.strided or value.is_complex() or value.numel() < 2:
        return False
    value = value.detach()
    handed_back = any(isinstance(arg, Tensor) and _close(arg, value, coarse=False) for arg in args)
    return not handed_back and bool((value != value.flatten()[0]).any())


def _copy(arg: Any, gradients_too: bool) -> Any:
    if isinstance(arg, (list, tuple)):
        return type(arg)(_copy(item, gradients_too) for item in arg)
    if not isinstance(arg, Tensor):
        return arg
    copy = arg.detach().clone()
    # Not a leaf, so that an in-place change is seen as a change instead of raising.
    return copy.requires_grad_().clone() if gradients_too and arg.requires_grad else copy


def _gradients(values: tuple, copies: tuple) -> tuple:
    total = sum(
        (exact(v) * _weights(v)).sum()
        for v in values
        if isinstance(v, Tensor) and v.is_floating_point() and v.requires_grad
    )
    if not isinstance(total, Tensor):
        return ()
    inputs = [c for c in copies if isinstance(c, Tensor) and c.requires_grad]
    try:
        return torch.autograd.grad(total, inputs, allow_unused=True)
    except RuntimeError:
        return ("cannot be had",)  # something that they need was changed in place


def _weights(value: Tensor) -> Tensor:
    # Any fixed weights do, as long as no two neighbours get the same.
    return torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).view(value.shape)


def _type(value: Any) -> Any:
    return (value.dtype, value.device.type, value.layout) if isinstance(value, Tensor) else type(value)


def _all_close(ours: tuple, theirs: tuple, coarse: bool) -> bool:
    return len(ours) == len(theirs) and all(_close(a, b, coarse) for a, b in zip(ours, theirs, strict=True))


def _close(a: Any, b: Any, coarse: bool) -> bool:
    """Whether two values are equal up to rounding: if coarse, or of two dtypes, some steps of the coarser dtype."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return _all_close(a, b, coarse)
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        if isinstance(a, float) and isinstance(b, float):
            tolerance = 1e-6 if coarse else 1e-10  # coarse: as if it had gone through float32
            close = math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-10) or (math.isnan(a) and math.isnan(b))
            return type(a) is type(b) and close
        return type(a) is type(b) and (a is None or (isinstance(a, (bool, int, str)) and a == b))
    odd = a.is_nested or a.is_meta or a.is_complex() or b.is_meta or b.is_complex() or a.layout != torch.strided
    if odd or b.is_nested or a.shape != b.shape or a.layout != b.layout:
        return False
    a, b = a.detach().cpu(), b.detach().cpu()
    if not (a.is_floating_point() and b.is_floating_point()):
        return a.dtype == b.dtype and torch.equal(a, b)
    step = max(torch.finfo(a.dtype).eps, torch.finfo(b.dtype).eps)
    if step < torch.finfo(torch.float16).eps:
        rtol = atol = 1e-10 if step < 1e-10 else 1e-5
    elif coarse or a.dtype != b.dtype:
        rtol = atol = 8 * step
    else:  # a right answer may be rounded once more on its way, no further
        rtol, atol = 1.05 * step, step / 64
    return torch.allclose(a.double(), b.double(), rtol=rtol, atol=atol, equal_nan=True)
