"""Tell which misconception an answer behaves like."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from .exercise import REGISTRY, Exercise
from .expect import HALVES, exact
from .outcome import FACETS, Outcome, observe
from .time_limit import TimeLimit
from .verdict import Mistake

__all__ = ["OTHERWISE", "THE_SAME", "known_outcomes", "match_misconception"]

# How many of the cases in which a misconception shows have to agree with it: a second mistake may spoil some.
ENOUGH = 0.75

# And of the cases in which the answer is wrong: what explains fewer of them may only look like its mistake.
EXPLAINED = 0.2

# How a diagnosis begins whose mistake leaves the numbers as they should be.
ALL_ELSE = "The numbers are right, but "

NOTHING = (0.0, 0)


def match_misconception(exercise: Exercise, function: Callable, limit: TimeLimit) -> Mistake | None:
    """The misconception that `function` behaves like.

    Sure is one that cannot be told from the answer in any case: where it shows, both do the same, and where it is
    right, the answer is too. If there is none, it is tried whether anything is kept from call to call. Then one is
    taken whose numbers the answer shares in most of the cases in which it shows, since a second mistake beside it
    spoils some. Of several, the one with the largest share is taken.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what wrong code makes torch say is not said to the learner
        return _match(exercise, function, limit)


def _match(exercise: Exercise, function: Any, limit: TimeLimit) -> Mistake | None:
    answers = [observe(exercise.called(function), case, limit) for case in exercise.cases()]
    right, wrong = known_outcomes(exercise.name, choose_device())
    compared = [list(map(_Compared, outcomes, right, answers)) for outcomes in wrong]
    # Answers of yes and no, and one that is always the same, agree with many a misconception now and then.
    told_little = exercise.returns in (bool, (bool, bool)) or (
        exercise.returns in (int, float)
        and not any(outcome.differences(answers[0]) & {"numbers"} for outcome in answers)
    )
    for sure in (True, False):
        if not sure and ((state := _state(exercise, function, answers, limit)) or told_little):
            return state
        seen = [_cases_alike(alike, sure, 2 if exercise.parameters else 1) for alike in compared]
        if seen and max(seen) > NOTHING:
            found = exercise.misconceptions[seen.index(max(seen))]
            diagnosis = found.diagnosis
            if not sure:  # what else there is has not been looked at
                diagnosis = re.sub(f"^{ALL_ELSE}they ", "Your numbers ", diagnosis)
                diagnosis = re.sub(f"^{ALL_ELSE}(.)", lambda match: match[1].upper(), diagnosis)
            return Mistake(found.name, diagnosis, sure, found.given)
    return None


OTHERWISE = Mistake(
    "kept from call to call",
    "The same call gives another result after other calls: something is kept from call to call and changes, such as a "
    "default value, a list or a table that is changed in place, or a counter.",
)
THE_SAME = Mistake(
    "the same for other numbers",
    "Your result stays the same where the inputs hold other numbers in the same shapes. Something is kept from an "
    "earlier call under a key that leaves the numbers out, such as their shape; or the numbers are not used at all.",
)


def _state(exercise: Exercise, function: Any, answers: list[Outcome], limit: TimeLimit) -> Mistake | None:
    """What is seen of an answer that keeps something between calls, whatever it is."""
    cases = [(case, before) for case, before in zip(exercise.cases(), answers, strict=True) if before.telling]
    for case, before in cases[:3]:
        now = observe(exercise.called(function), case, limit)
        # In float32, since what was rounded to it inside need not be rounded alike twice, as in torch.linalg.lstsq.
        if "types" in now.differences(before) or "numbers" in _in_float32(now).differences(_in_float32(before)):
            return OTHERWISE
    alike = []
    for case, before in [pair for pair in cases if any(map(_has_numbers, pair[0]))][:6]:
        other = tuple(_other_numbers(arg) if _has_numbers(arg) else arg for arg in case)
        mine, right = exercise.called(function), exercise.called(exercise.reference)
        if observe(right, other).differences(observe(right, case)) & {"numbers"}:
            alike.append(not observe(mine, other, limit).differences(before) & {"numbers"})
    return THE_SAME if len(alike) > 1 and all(alike) else None


def _other_numbers(x: Tensor) -> Tensor:
    # Each by a factor of its own: some wrong results are the same for all multiples, or in any order.
    return x.detach().flip(-1) * torch.linspace(0.4, 0.6, x.numel()).view(x.shape).to(x)


def _in_float32(outcome: Outcome) -> Outcome:
    doubles = [isinstance(value, Tensor) and value.dtype == torch.float64 for value in outcome.values]
    return replace(outcome, values=tuple(v.float() if d else v for v, d in zip(outcome.values, doubles, strict=True)))


def _has_numbers(arg: Any) -> bool:
    return isinstance(arg, Tensor) and arg.is_floating_point() and arg.ndim > 0


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
