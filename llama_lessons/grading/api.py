"""The three calls that learners make: check, hint and progress."""

import difflib
import html
from collections.abc import Callable
from typing import Any

import torch

from . import mine, records
from .engine import grade
from .exercise import REGISTRY, Exercise, find_exercise, lessons
from .records import Record
from .report import BLUE, CheckFailed, card, quiet_terminal, show, show_verdict
from .sources import CannotKeep

__all__ = ["check", "hint", "progress"]


def check(function: Callable[..., Any], keep: bool = True) -> None:
    """Grade `function`; its own name says for which exercise.

    Shows one line where it is right. A part of the learner's own Llama is then kept in the package my_llama.

    Args:
        function: the answer.
        keep: whether its points and its code are kept; of all tries the best points count, and the last right code.

    Raises:
        CheckFailed: where it is not right, with what was expected, what came, and the misconception behind it.
    """
    __tracebackhide__ = True
    quiet_terminal()
    try:
        exercise = _exercise_of(function)
    except CheckFailed:
        raise
    except Exception as error:  # an object may do anything when it is asked for its name
        raise CheckFailed(
            f"check takes a function or class, and this object cannot be asked its name: {error}"
        ) from None
    verdict = grade(exercise, function)
    if keep:
        attempts = 0 if verdict.unsolved else 1
        records.update(verdict.exercise, points=verdict.points, passed=verdict.passed, attempts=attempts)
    show_verdict(verdict)
    if keep and exercise.name in mine.PARTS:
        try:
            mine.keep(exercise, function)
        except CannotKeep as error:
            text = f"{exercise.name} is right, and is not kept in my_llama: {error}."
            show(text, card(text, "", BLUE))


def hint(function: Callable[..., Any] | str) -> None:
    """Show the next hint for an exercise, by its function or name; after the last one, all of them again."""
    __tracebackhide__ = True
    quiet_terminal()
    exercise = _exercise_of(function, by_name=True)
    seen = records.load().get(exercise.name, Record()).hints
    total = len(exercise.hints)
    if seen < total:
        records.update(exercise.name, hints=1)
        hints = [(seen + 1, exercise.hints[seen])]
    else:
        hints = list(enumerate(exercise.hints, 1))
    lines = [f"Hint {number} of {total} for {exercise.name}: {text}" for number, text in hints]
    show("\n".join(lines), "".join(card(f"Hint {n} of {total} for {exercise.name}", _div(t), BLUE) for n, t in hints))


def progress() -> None:
    """Show the points of each lesson, and what is still open."""
    kept = records.load()
    rows = [_lesson_row(lesson, exercises, kept) for lesson, exercises in lessons().items()]
    rows.append(("all lessons", sum(row[1] for row in rows), sum(row[2] for row in rows), ""))
    own = _own_parts()
    lines = [f"{lesson:<22} {got:>5} of {full:>3} points   {still}".rstrip() for lesson, got, full, still in rows]
    cells = "".join(
        f'<tr><th scope="row" style="text-align: left">{lesson}</th><td>{got} of {full}</td>'
        f'<td style="text-align: left; overflow-wrap: anywhere">{still}</td></tr>'
        for lesson, got, full, still in rows
    )
    titles = ("lesson", "points", "still open")
    head = "<tr>" + "".join(f'<th style="text-align: left">{title}</th>' for title in titles) + "</tr>"
    table = f"<table><thead>{head}</thead><tbody>{cells}</tbody></table>"
    show("\n".join([*lines, own]), card("Your points", table + _div(own), BLUE))


def _own_parts() -> str:
    own = [part for part, owner in mine.owners().items() if owner == "yours"]
    return f"my_llama: {len(own)} of {len(mine.PARTS)} parts are yours{': ' if own else ''}{', '.join(own)}"


def _lesson_row(lesson: str, exercises: list[Exercise], kept: dict[str, Record]) -> tuple[str, int, int, str]:
    own = [kept.get(exercise.name, Record()) for exercise in exercises]
    still = [exercise.name for exercise, record in zip(exercises, own, strict=True) if not record.passed]
    return lesson, sum(record.points for record in own), sum(e.points for e in exercises), ", ".join(still)


def _exercise_of(function: Any, by_name: bool = False) -> Exercise:
    __tracebackhide__ = True
    if isinstance(function, str) and not by_name:
        remedy = f"check({function})" if function.isidentifier() else "check(apply_rope)"
        raise CheckFailed(f"check takes your function itself, not its name in quotes: write {remedy}")
    name = function if isinstance(function, str) else _name_of(function)
    exercise = find_exercise(name) if isinstance(name, str) else None
    if exercise is None:
        if name in (None, "<lambda>"):
            raise CheckFailed("check goes by the function's name, and this one has none: write it with def")
        close = difflib.get_close_matches(name, REGISTRY, n=1)
        meant = f" Did you mean {close[0]}?" if close else " progress() lists them all."
        raise CheckFailed(f"no exercise is called {name!r}, and check goes by the function's name.{meant}")
    return exercise


def _name_of(function: Any) -> Any:
    __tracebackhide__ = True
    if not callable(function):
        raise CheckFailed(
            f"check and hint take your function itself, not a value of type {type(function).__name__}: write only its "
            "name, without brackets and arguments behind it"
        )
    return getattr(function, "name" if isinstance(function, torch.jit.ScriptFunction) else "__name__", None)


def _div(text: str) -> str:
    return f"<div>{html.escape(text)}</div>"
