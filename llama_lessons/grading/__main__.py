"""Grade your own exercise notebooks: `python -m llama_lessons.grading [LESSON ...]`, or `make grade`.

Each notebook is run from top to bottom in a fresh kernel, in a copy of its folder and of the course that is thrown
away afterwards. What counts are the verdicts that `check` gives in this run alone; of several, the last. Right answers
of the learner's own folder go into my_llama; those of another folder, such as a student's, do not.
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from llama_lessons.lab.device import choose_device

from . import mine
from .exercise import Exercise, lessons
from .notebooks import CELL_SECONDS, COURSE, Graded, count_cells, grade_notebook
from .report import headline, verdict_text
from .verdict import Verdict

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Grade the named lessons, or all; return 0 if every exercise is right, 1 if not, 2 if it cannot be done at all."""
    parser = argparse.ArgumentParser(prog="python -m llama_lessons.grading", description=__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="such as 03_rope; default: all lessons")
    parser.add_argument("--exercises", type=Path, metavar="DIR", help="default: exercises/ of the course")
    parser.add_argument("--cell-seconds", type=float, default=CELL_SECONDS, help="a cell is stopped after that many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all verdicts there too")
    options = parser.parse_args(arguments)
    known = lessons()
    own = next((f for f in (COURSE / "exercises", Path("exercises")) if f.is_dir()), None)
    folder = options.exercises or own
    try:
        choose_device()
        for lesson in options.lessons:
            if lesson not in known:
                raise ValueError(f"no lesson {lesson!r} has exercises. There are: {', '.join(known)}")
        if folder is None or not folder.is_dir():
            raise ValueError(f"no folder {folder or 'exercises'} is here")
        if options.json and not options.json.absolute().parent.is_dir():
            raise ValueError(f"no folder {options.json.absolute().parent} is here for {options.json.name}")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    asked = {lesson: known[lesson] for lesson in options.lessons or known}
    try:
        with tempfile.TemporaryDirectory() as scratch:
            is_own = own is not None and folder.resolve() == own.resolve()
            own_llama = mine.folder() if is_own else Path(scratch, mine.PACKAGE)
            graded = _grade(asked, folder, own_llama, options.cell_seconds)
        _print_details(graded)
        _print_points(graded)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted before the end: no points.", file=sys.stderr)
        return 130
    except OSError as error:  # a closed pipe, as of `make grade | head`, or a full disk
        with suppress(OSError):  # Python flushes stdout once more on leaving
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141  # what a shell reports of such a program
        print(f"the verdicts cannot be written: {error}", file=sys.stderr)
        return 2
    if options.json:
        try:
            options.json.write_text(json.dumps(as_json(graded), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            print(f"{options.json} cannot be written: {error}", file=sys.stderr)
            return 2
    return int(not all(verdict.passed for one in graded for verdict in one.verdicts))


def _grade(asked: dict[str, list[Exercise]], folder: Path, own_llama: Path, cell_seconds: float) -> list[Graded]:
    """Grade the notebook of each lesson, and say of each exercise in one line how it went."""
    graded = []
    total = sum(count_cells(folder / f"{lesson}.ipynb") for lesson in asked)
    with tqdm(total=total, unit="cell", leave=False, disable=None) as bar:
        for lesson, exercises in asked.items():
            bar.set_description(lesson)
            one = grade_notebook(folder / f"{lesson}.ipynb", exercises, own_llama, cell_seconds, bar.update)
            graded.append(one)
            for verdict in one.verdicts:
                bar.write(_line(verdict, verdict.exercise in one.retried))
            if not any(verdict.results for verdict in one.verdicts):
                for fault in one.faults[:1]:
                    bar.write(f"FAIL  {fault}")
    return graded


def _line(verdict: Verdict, retried: bool) -> str:
    if verdict.passed:
        note = " An earlier check in this notebook was not." if retried else ""
        points = f"{verdict.points} point{'s' * (verdict.points != 1)}"
        return f"ok    {verdict.exercise} is right: {points}.{note}"
    note = " An earlier check in this notebook said otherwise; the last one counts." if retried else ""
    return f"FAIL  {headline(verdict)}{note}"


def _print_details(graded: list[Graded]) -> None:
    for verdict in (verdict for one in graded for verdict in one.verdicts if not verdict.passed):
        body = "\n".join(verdict_text(verdict).splitlines()[1:]).strip()
        if body.count("\n"):  # more than where to find a hint
            print(f"\n--- {verdict.exercise} {'-' * (70 - len(verdict.exercise))}\n{body}")
    faults = [fault for one in graded for fault in one.faults]
    if faults:
        print("\nWhat failed outside of a verdict:", *(f"  {fault}" for fault in faults[:10]), sep="\n")
        if len(faults) > 10:
            print(f"  and {len(faults) - 10} more")


def _print_points(graded: list[Graded]) -> None:
    print()
    for one in graded:
        still = [verdict.exercise for verdict in one.verdicts if not verdict.passed]
        note = f"   not right yet: {', '.join(still)}" if still else ""
        print(f"{one.lesson:<22} {one.points:>5} of {one.full:<3} points{note}")


def as_json(graded: list[Graded]) -> dict:
    """All verdicts in the form that GitHub Classroom's grading reporter reads, and each verdict whole beside it."""
    verdicts = [verdict for one in graded for verdict in one.verdicts]
    return {
        "version": 1,
        "status": "pass" if all(verdict.passed for verdict in verdicts) else "fail",
        "score": sum(one.points for one in graded),
        "max_score": sum(one.full for one in graded),
        "tests": [
            {
                "name": f"{verdict.lesson}/{verdict.exercise}",
                "status": "pass" if verdict.passed else "fail",
                "score": verdict.points,
                "max_score": verdict.full,
                "message": verdict_text(verdict),
                "verdict": verdict.to_json(),
            }
            for verdict in verdicts
        ],
        "faults": [fault for one in graded for fault in one.faults],
    }


if __name__ == "__main__":
    sys.exit("stdout is closed, and the verdicts go there" if sys.stdout is None else main())
