"""Tell which misconception an answer behaves like, by running both on the same inputs."""

import inspect
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from .exercise import REGISTRY, Exercise
from .expect import HALVES, OutOfTime, exact, plain, same_chance
from .process_settings import use_ordinary_settings
from .time_limit import TimeLimit
from .verdict import Mistake

__all__ = ["Outcome", "match_misconception", "observe"]


# How many of the cases in which a misconception shows have to agree with it: a second mistake may spoil some.
ENOUGH = 0.75

# And of the cases in which the answer is wrong: what explains fewer of them may only look like its mistake.
EXPLAINED = 0.2

# How a diagnosis begins whose mistake leaves the numbers as they should be.
ALL_ELSE = "The numbers are right, but "

FACETS = {"numbers", "types", "changed", "gradients"}

NOTHING = (0.0, 0)


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
        return values, after, _gradients(values, copies)

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


def match_misconception(exercise: Exercise, function: Callable, limit: TimeLimit) -> Mistake | None:
    """The misconception that `function` behaves like.

    Sure is one that cannot be told from the answer in any case: where it shows, both do the same, and where it is
    right, the answer is too. If there is none, one is taken whose numbers the answer shares in most of the cases in
    which it shows, since a second mistake beside it spoils some. Of several, the one with the largest share is taken.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what wrong code makes torch say is not said to the learner
        answers = [observe(exercise.called(function), case, limit) for case in exercise.cases()]
        right, wrong = known_outcomes(exercise.name, choose_device())
    compared = [list(map(_Compared, outcomes, right, answers)) for outcomes in wrong]
    # Answers of yes and no, and one that is always the same, agree with many a misconception now and then.
    told_little = exercise.returns in (bool, (bool, bool)) or (
        exercise.returns in (int, float) and len({outcome.values for outcome in answers}) == 1
    )
    for sure in (True,) if told_little else (True, False):
        seen = [_cases_alike(cases, sure, 2 if exercise.parameters else 1) for cases in compared]
        if seen and max(seen) > NOTHING:
            found = exercise.misconceptions[seen.index(max(seen))]
            diagnosis = found.diagnosis
            if not sure:  # what else there is has not been looked at
                diagnosis = re.sub(f"^{ALL_ELSE}(.)", lambda match: match[1].upper(), diagnosis)
            return Mistake(found.name, diagnosis, sure, found.given)
    return None


@cache
def known_outcomes(exercise: str, device: torch.device) -> tuple[list[Outcome], list[list[Outcome]]]:
    """Outcomes of the reference and of each misconception: always the same, so only the first wrong answer waits."""
    known = REGISTRY[exercise]
    made = [known.reference, *(misconception.make() for misconception in known.misconceptions)]
    outcomes = [[observe(known.called(function), case) for case in known.cases()] for function in made]
    return outcomes[0], outcomes[1:]


class _Compared:
    """One case: how a misconception differs from a right answer, and the learner's from both."""

    def __init__(self, bad: Outcome, good: Outcome, answer: Outcome) -> None:
        self.bad, self.good, self.answer = bad, good, answer

    @cached_property
    def shown(self) -> set[str]:
        return self.bad.differences(self.good)

    @cached_property
    def from_bad(self) -> set[str]:
        return self.answer.differences(self.bad, coarse=True)

    @cached_property
    def from_good(self) -> set[str]:
        return self.answer.differences(self.good)

    @cached_property
    def is_nearer_to_bad(self) -> bool:
        """Whether the answer lies clearly nearer to the misconception than to a right answer.

        In half precision, where numbers of another spelling differ, what is close to one may be close to both;
        elsewhere what is close to the misconception is far from a right answer.
        """
        if not any(isinstance(value, Tensor) and value.dtype in HALVES for value in self.answer.values):
            return True
        to_bad, to_good = (
            sum(
                (exact(a.detach()) - exact(b.detach())).nan_to_num().abs().sum().item()
                for a, b in zip(self.answer.values, other.values, strict=False)
                if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape
            )
            for other in (self.bad, self.good)
        )
        return to_bad <= to_good / 2


def _tells(value: Any, args: tuple) -> bool:
    if not isinstance(value, Tensor):
        return isinstance(value, bool) or (isinstance(value, (int, float)) and value not in (0, 1))
    if value.is_nested or value.is_meta or value.layout != torch.strided or value.numel() < 2:
        return False
    value = value.detach()
    handed_back = any(isinstance(arg, Tensor) and _close(arg, value, coarse=False) for arg in args)
    return not handed_back and bool((value != value.flatten()[0]).any())


def _cases_alike(cases: list[_Compared], sure: bool, fewest: int) -> tuple[float, int]:
    """In which share, and how many, of the cases in which the misconception shows the answer does the same.

    Nothing where that is too little to tell: one case may be chance, so where it is not sure there have to be `fewest`.
    """
    shown = agreed = telling = elsewhere = right = 0
    for case in cases:
        facets = case.shown
        if not facets:
            if sure and case.from_good:
                return NOTHING
            elsewhere += bool(case.from_good) and case.good.error is None
            right += case.good.error is None
            continue
        shown += 1
        # Gradients of wrong numbers are wrong too, and those of an input that was changed may not be had: no news.
        silent = {"gradients"} if facets & {"numbers", "changed"} else set()
        compared = FACETS if sure else facets | {"numbers"}
        alike = not case.from_bad & (compared - silent) and case.from_good & (facets - silent)
        # What the misconception leaves right has to be right in the answer as well, to the last digit.
        alike = alike and not case.from_good & (compared - silent - facets)
        if alike and (sure or "numbers" not in facets or case.is_nearer_to_bad):
            agreed += 1
            telling += case.bad.telling
            right += case.bad.error is None
        elif sure:
            return NOTHING
    wrong = sum(bool(case.from_good) for case in cases)
    # Exceptions of the same type alone say too little, unless all else is right; so does a single case, unless the only
    # other fault is that nothing is refused.
    if agreed == shown and not elsewhere:
        enough = right and agreed
    else:
        enough = telling and agreed >= max(fewest, ENOUGH * shown, EXPLAINED * wrong)
    return (agreed / shown, agreed) if enough else NOTHING


def _copy(arg: Any, gradients_too: bool) -> Any:
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
    if a.is_nested or b.is_nested or a.shape != b.shape or a.layout != b.layout or a.is_meta or b.is_meta:
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
