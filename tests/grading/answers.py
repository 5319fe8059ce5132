"""What the tests of answers share: collecting them, and what is true of a right and of a wrong one."""

from collections.abc import Callable
from typing import Any

import pytest

from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY

__all__ = ["Answers", "assert_fails", "assert_passes"]


class Answers:
    """Answers to some exercises: functions, or classes where a class is asked for."""

    def __init__(self) -> None:
        self.right_ones: list = []
        self.wrong_ones: list = []

    def right(self, exercise: str) -> Callable:
        """Collect what is decorated as a right answer to `exercise`."""
        return lambda answer: _collect(self.right_ones, exercise, answer)

    def wrong(self, exercise: str) -> Callable:
        """Collect what is decorated as a wrong answer to `exercise`."""
        return lambda answer: _collect(self.wrong_ones, exercise, answer)


def _collect(answers: list, exercise: str, answer: Any) -> Any:
    answers.append(pytest.param(exercise, answer, id=f"{exercise}-{answer.__name__}"))
    return answer


def assert_passes(exercise: str, answer: Any) -> None:
    verdict = grade(REGISTRY[exercise], answer)
    assert verdict.passed, [(result.name, result.message) for result in verdict.results if not result.passed]


def assert_fails(exercise: str, answer: Any) -> None:
    verdict = grade(REGISTRY[exercise], answer)
    assert not verdict.passed
    assert verdict.points < verdict.exercise.points
    assert not verdict.problem
