"""Grade your own exercise notebooks: `python -m llama_lessons.grading.grade [LESSON ...]`, or `make grade`.

Each notebook is run from top to bottom in a fresh kernel by nbval. It is run as a cleaned copy, so that stored outputs,
tags and nbval's comments count for nothing; what counts are the verdicts that `check` gives in this run alone.
"""

import argparse
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import pytest
from nbformat import NotebookNode
from tqdm import tqdm

from llama_lessons.lab.device import choose_device

from .exercise import Exercise, lessons
from .progress import VARIABLE, Record, load
from .report import PLAIN

__all__ = ["clean", "main"]

CELL_SECONDS = 300.0
COURSE = Path(__file__).resolve().parents[2]
MARKER = re.compile(r"\s*#[#\s]*(NBVAL_\w+|PYTEST_VALIDATE_\w+)\s*")

Lessons = dict[str, list[Exercise]]


def main(arguments: list[str] | None = None) -> int:
    """Grade the named lessons, or all; return 0 if every exercise is right, 1 if not, 2 if it cannot be done at all."""
    parser = argparse.ArgumentParser(prog="python -m llama_lessons.grading.grade", description=__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="such as 03_rope; default: all lessons")
    parser.add_argument("--exercises", type=Path, metavar="DIR", help="default: exercises/ of the course")
    parser.add_argument("--cell-seconds", type=float, default=CELL_SECONDS, help="a cell is stopped after that many")
    options = parser.parse_args(arguments)
    asked = lessons()
    folder = options.exercises or next((f for f in (COURSE / "exercises", Path("exercises")) if f.is_dir()), None)
    try:
        choose_device()
        for lesson in options.lessons:
            if lesson not in asked:
                raise ValueError(f"no lesson {lesson!r} has exercises. There are: {', '.join(asked)}")
        if folder is None or not folder.is_dir():
            raise ValueError(f"no folder {folder or 'exercises'} is here")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        return _grade({lesson: asked[lesson] for lesson in options.lessons or asked}, folder, options.cell_seconds)
    except KeyboardInterrupt:
        print("Interrupted before the end: no points.", file=sys.stderr)
        return 130


def clean(nb: NotebookNode) -> NotebookNode:
    """A copy of the notebook without outputs, tags and nbval's comments: each can make a cell pass that fails."""
    nb = nbformat.from_dict(nb)
    nb.metadata = {}
    for cell in nb.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = "\n".join("#" if MARKER.fullmatch(line) else line for line in cell.source.splitlines())
    return nbformat.from_dict(nb)


def _grade(asked: Lessons, folder: Path, cell_seconds: float) -> int:
    watch = Watch({exercise.name for exercises in asked.values() for exercise in exercises})
    with tempfile.TemporaryDirectory() as scratch, _environment(scratch, folder):
        sources = {}
        for lesson in asked:
            try:
                nb = clean(nbformat.read(folder / f"{lesson}.ipynb", as_version=4))
                nbformat.write(nb, Path(scratch, f"{lesson}.ipynb"))
                sources[lesson] = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "code")
            except FileNotFoundError:
                watch.say(lesson, f"FAIL  {folder.name}/{lesson}.ipynb is missing.")
            except Exception as error:  # bad JSON, encoding or schema: each raises something else
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                watch.say(lesson, f"FAIL  {folder.name}/{lesson}.ipynb is not a notebook that can be read: {reason}")
        if sources:
            _run(scratch, [f"{scratch}/{lesson}.ipynb" for lesson in sources], cell_seconds, watch)
        records = load()
    for lesson, source in sources.items():
        for exercise in asked[lesson]:
            if exercise.name not in watch.said:
                watch.say(exercise.name, f"FAIL  {_unseen(exercise.name, source, exercise.name in records)}")
    _print_details(watch)
    return _print_points(asked, records)


@contextlib.contextmanager
def _environment(scratch: str, folder: Path) -> Iterator[None]:
    """What the kernel needs: a fresh record, plain verdicts, and the learner's own modules beside the notebook."""
    paths = [str(COURSE), str(folder.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    changes = {
        VARIABLE: f"{scratch}/progress.json",
        PLAIN: "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTEST_ADDOPTS": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    with patch.dict(os.environ, changes):
        yield


def _run(scratch: str, notebooks: list[str], cell_seconds: float, watch: "Watch") -> None:
    arguments = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={cell_seconds}", "--noconftest"]
    arguments += ["-p", "nbval.plugin", "-p", "no:cacheprovider", "-p", "no:terminalreporter"]
    code = pytest.main([*arguments, f"--rootdir={scratch}", "-c", os.devnull, *notebooks], plugins=[watch])
    watch.close()
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt


@dataclass
class Watch:
    """A pytest plugin that says in one line how an exercise went as soon as its check has run.

    Args:
        names: the exercises to look for.
        said: the last line said of an exercise.
        verdicts: the whole verdict of an exercise that is not right.
        faults: what failed besides checks.
    """

    names: set[str]
    said: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    bar: tqdm | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # The first cells wait for a kernel and for torch, which takes seconds.
        self.bar = tqdm(total=len(session.items), unit="cell", desc="starting", leave=False, disable=None)

    def pytest_runtest_makereport(self, item: Any, call: pytest.CallInfo) -> None:
        if call.when == "call":
            self.bar.set_description(item.path.stem, refresh=False)
            self.bar.update()
        if call.excinfo is not None:
            self._fault(item, call.excinfo.value)
        for name, record in load().items():
            if record.passed and name in self.names and name not in self.said:
                self.say(name, f"ok    {name} is right: {record.points:g} points.")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.faults.append(f"{Path(report.nodeid).stem}: {report.longreprtext.strip().splitlines()[-1]}")

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.faults.append(f"pytest stopped: {str(excrepr).strip().splitlines()[-1]}")

    def _fault(self, item: Any, error: BaseException) -> None:
        raised = next((out for out in item.test_outputs or [] if out.output_type == "error"), None)
        timeout = str(error).startswith("Timeout")
        if raised is None or timeout:
            text = f"{error}. Look for a loop that never ends" if timeout else str(error)
        elif raised.ename == "CheckFailed" and (name := raised.evalue.split(" ", 1)[0]) in self.names:
            self.verdicts[name] = raised.evalue
            self.say(name, f"FAIL  {raised.evalue.splitlines()[0]}")
            return
        else:
            text = f"{raised.ename}: {raised.evalue}"
        first_line = next(iter(item.cell.source.strip().splitlines()), "")
        place = f"{item.path.stem}, code cell {item.cell_num + 1}, `{first_line[:60]}`"
        self.faults.append(f"{place}: {' '.join(text.split())[:300]}")

    def say(self, name: str, line: str) -> None:
        """Print one line about exercise `name`, above the progress bar."""
        self.said[name] = line
        tqdm.write(line)

    def close(self) -> None:
        """Take the progress bar away."""
        if self.bar is not None:
            self.bar.close()


def _unseen(name: str, source: str, checked: bool) -> str:
    """Why no verdict on exercise `name` was seen."""
    if checked:
        return f"{name} was checked and is not right yet, but its cell hides the verdict."
    if re.search(rf"^[^#\n]*\bcheck\(\s*{name}\b", source, re.MULTILINE):
        return f"{name} was not checked: its check cell did not get as far as check({name})."
    return f"{name} was never checked: its check cell is missing. Put check({name}) into a code cell."


def _print_details(watch: Watch) -> None:
    for name, text in watch.verdicts.items():
        body = "\n".join(text.splitlines()[1:]).strip()
        if body.count("\n"):  # more than where to find a hint
            print(f"\n--- {name} {'-' * (70 - len(name))}\n{body}")
    if watch.faults:
        print("\nCells that failed outside of a verdict:", *(f"  {fault}" for fault in watch.faults[:10]), sep="\n")
        if len(watch.faults) > 10:
            print(f"  and {len(watch.faults) - 10} more")


def _print_points(asked: Lessons, records: dict[str, Record]) -> int:
    """Print the points of each lesson; return 0 if every exercise is right, else 1."""
    print()
    still_open = 0
    for lesson, exercises in asked.items():
        got = [records.get(exercise.name, Record()) for exercise in exercises]
        still = [exercise.name for exercise, record in zip(exercises, got, strict=True) if not record.passed]
        points, full = sum(record.points for record in got), sum(exercise.points for exercise in exercises)
        note = f"   not right yet: {', '.join(still)}" if still else ""
        print(f"{lesson:<22} {points:>5g} of {full:<3} points{note}")
        still_open += len(still)
    return int(still_open > 0)


if __name__ == "__main__":
    sys.exit(main())
