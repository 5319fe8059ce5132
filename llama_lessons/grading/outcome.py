"""Tell which misconception an answer behaves like, by running both on the same inputs."""

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from .exercise import REGISTRY, Exercise, Misconception
from .expect import OutOfTime, plain, same_chance

__all__ = ["Outcome", "match_misconception", "observe"]


# How many of the cases in which a misconception shows have to agree with it: a second mistake may spoil some.
ENOUGH = 0.75

FACETS = {"numbers", "types", "changed", "gradients"}


@dataclass(frozen=True)
class Outcome:
    """All that can be seen of one call: what it raised or returned, what it changed, its gradients."""

    error: type | None
    values: tuple
    changed: tuple[bool, ...]
    gradients: tuple

    def differences(self, other: "Outcome") -> set[str]:
        """In which of FACETS two calls can be told apart, beyond rounding: in all if only one of them raised."""
        if self.error is not None or other.error is not None:
            return set() if self.error is other.error else set(FACETS)
        same = {
            "numbers": _all_close(self.values, other.values),
            "types": [_type(v) for v in self.values] == [_type(v) for v in other.values],
            "changed": self.changed == other.changed,
            "gradients": _all_close(self.gradients, other.gradients, coarse=True),
        }
        return {facet for facet, is_same in same.items() if not is_same}


def observe(function: Callable, args: tuple, gradients_too: bool = True) -> Outcome:
    """Call `function` on copies of `args`, and ask for gradients of those tensors that require them."""
    copies = tuple(_copy(arg, gradients_too) for arg in args)
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
        if gradients_too and isinstance(error, RuntimeError):
            # For the sake of gradients torch forbids some changes in place.
            return observe(function, args, gradients_too=False)
        return Outcome(type(error), (), (), ())
    changed = tuple(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return Outcome(None, values, changed, gradients)


def match_misconception(exercise: Exercise, function: Callable) -> Misconception | None:
    """The misconception that `function` behaves like, wherever that one differs from a right answer.

    First one is looked for that cannot be told from the answer in any of these cases. If there is none, one is taken
    whose numbers the answer shares in most of them, so that a second, smaller mistake, such as a wrong dtype beside
    a wrong sign, does not hide the first. Of several, the one seen in most cases is taken.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what wrong code makes torch say is not said to the learner
        answers = _outcomes(exercise, function)
        place = choose_device(), torch.get_default_dtype()
        right = _known_outcomes(exercise.name, exercise.reference, *place)
        wrong = [_known_outcomes(exercise.name, m.function, *place) for m in exercise.misconceptions]
    compared = [list(map(_Compared, outcomes, right, answers)) for outcomes in wrong]
    for exactly in (True, False):
        seen = [_cases_alike(cases, exactly) for cases in compared]
        if seen and max(seen):
            return exercise.misconceptions[seen.index(max(seen))]
    return None


def _outcomes(exercise: Exercise, answer: Any) -> list[Outcome]:
    return [observe(exercise.called(answer), case) for case in exercise.cases()]


@cache
def _known_outcomes(exercise: str, answer: Any, device: torch.device, dtype: torch.dtype) -> list[Outcome]:
    """Outcomes of what the grader itself holds: always the same, so only the first wrong answer waits for them."""
    return _outcomes(REGISTRY[exercise], answer)


class _Compared:
    """One case: how a misconception differs from a right answer, and the learner's from both."""

    def __init__(self, bad: Outcome, good: Outcome, answer: Outcome) -> None:
        self.bad, self.good, self.answer = bad, good, answer

    @cached_property
    def shown(self) -> set[str]:
        return self.bad.differences(self.good)

    @cached_property
    def from_bad(self) -> set[str]:
        return self.answer.differences(self.bad)

    @cached_property
    def from_good(self) -> set[str]:
        return self.answer.differences(self.good)


def _cases_alike(cases: list[_Compared], exactly: bool) -> int:
    """In how many cases the answer shares what is wrong with the misconception; 0 where that is too few to tell."""
    shown = agreed = values = 0
    for case in cases:
        facets = case.shown
        if not facets:
            # An answer that raises where the misconception is right has another cause.
            if case.answer.error is not None and case.good.error is None:
                return 0
            continue
        shown += 1
        if "numbers" in facets:
            facets = facets - {"gradients"}  # those of wrong numbers are wrong too, which says nothing more
        alike = not case.from_bad & (FACETS if exactly else facets | {"numbers"})
        if alike and case.from_good & facets:
            agreed += 1
            values += case.bad.error is None
        elif exactly:
            return 0
    # Exceptions of the same type alone say too little.
    return agreed if values and agreed >= (1 if exactly else ENOUGH) * shown else 0


def _copy(arg: Any, gradients_too: bool) -> Any:
    if not isinstance(arg, Tensor):
        return arg
    copy = arg.detach().clone()
    # Not a leaf, so that an in-place change is seen as a change instead of raising.
    return copy.requires_grad_().clone() if gradients_too and arg.requires_grad else copy


def _gradients(values: tuple, copies: tuple) -> tuple:
    total = sum(
        (v.double() * _weights(v)).sum()
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
    return torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).view(value.shape).to(value.device)


def _type(value: Any) -> Any:
    return (value.dtype, value.device.type, value.layout) if isinstance(value, Tensor) else type(value)


def _all_close(ours: tuple, theirs: tuple, coarse: bool = False) -> bool:
    return len(ours) == len(theirs) and all(_close(a, b, coarse) for a, b in zip(ours, theirs, strict=True))


def _close(a: Any, b: Any, coarse: bool) -> bool:
    """Whether two values are equal up to rounding: if coarse, or of two dtypes, some steps of the coarser dtype."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        if isinstance(a, float) and isinstance(b, float):
            close = math.isclose(a, b, rel_tol=1e-10, abs_tol=1e-10) or (math.isnan(a) and math.isnan(b))
            return type(a) is type(b) and close
        return type(a) is type(b) and (a is None or (isinstance(a, (bool, int, str)) and a == b))
    if a.shape != b.shape or a.layout != b.layout or a.is_meta or b.is_meta:
        return False
    a, b = a.detach().cpu(), b.detach().cpu()
    if not (a.is_floating_point() and b.is_floating_point()):
        return a.dtype == b.dtype and torch.equal(a, b)
    if a.dtype == b.dtype and not coarse:
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}.get(a.dtype, 1e-4)
    else:
        tolerance = max(8 * max(torch.finfo(a.dtype).eps, torch.finfo(b.dtype).eps), 1e-5)
    return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True)
