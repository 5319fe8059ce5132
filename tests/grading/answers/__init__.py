"""Answers that no catalogue lists, a file for each exercise, named after it: unusual right ones, and wrong ones.

A wrong one may say what its mistake has to be called, or what it must never be called since that is not true of it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Wrong", "collect", "right", "wrong"]

ANY = "anything, or nothing"


@dataclass(frozen=True)
class Wrong:
    """A wrong answer.

    Args:
        answer: the function or class.
        called: the name of the misconception that the grader has to see; None for none at all.
        never: names that it must not see.
    """

    answer: Any
    called: str | None = ANY
    never: tuple[str, ...] = ()


RIGHT: list[tuple[str, Any]] = []
WRONG: list[tuple[str, Wrong]] = []


def right(answer: Any) -> Any:
    """Collect the decorated function or class as a right answer to the exercise that the file is named after."""
    RIGHT.append((_exercise(), answer))
    return answer


def wrong(*, called: str | None = ANY, never: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Collect the decorated function or class as a wrong answer to the exercise that the file is named after."""
    exercise = _exercise()

    def add(answer: Any) -> Any:
        WRONG.append((exercise, Wrong(answer, called, never)))
        return answer

    return add


def collect() -> tuple[list[tuple[str, Any]], list[tuple[str, Wrong]]]:
    """All right and all wrong answers, each with the name of its exercise."""
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        import_module(f"{__name__}.{path.stem}")
    return RIGHT, WRONG


def _exercise() -> str:
    """The name of the file that collects an answer."""
    return Path(sys._getframe(2).f_code.co_filename).stem
