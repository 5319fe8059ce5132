"""Run exercise notebooks, each in a copy of the course that is thrown away, and gather what `check` said."""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

from llama_lessons.settings import MINE, PLAIN, PROGRESS, VERDICTS

from .exercise import Exercise
from .expect import visible
from .report import MIME
from .verdict import Verdict

__all__ = ["CELL_SECONDS", "COURSE", "Graded", "count_cells", "grade_notebook"]

CELL_SECONDS = 300.0
PACKAGE = Path(__file__).resolve().parents[1]
COURSE = PACKAGE.parent
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", ".git")
TIMEOUT = "Timeout"


@dataclass(frozen=True)
class Graded:
    """How a notebook did.

    Args:
        lesson: its name.
        verdicts: one for each exercise, in order.
        retried: the exercises of which an earlier check in the notebook said something else.
        faults: what failed besides checks, each in one line.
    """

    lesson: str
    verdicts: tuple[Verdict, ...]
    retried: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        return sum(verdict.points for verdict in self.verdicts)

    @property
    def full(self) -> int:
        return sum(verdict.full for verdict in self.verdicts)


def count_cells(path: Path) -> int:
    """How many cells of a notebook will be run; 0 of one that cannot be read."""
    try:
        return len(_code_cells(_read(path)))
    except ValueError:
        return 0


def grade_notebook(
    path: Path,
    exercises: list[Exercise],
    own_llama: Path,
    cell_seconds: float = CELL_SECONDS,
    progress: Callable[[], Any] = lambda: None,
) -> Graded:
    """Run a notebook from top to bottom and gather the verdicts on `exercises`.

    Args:
        path: the notebook. Its folder and the course are copied, so that no cell changes what the next notebook finds.
        exercises: those of its lesson.
        own_llama: the folder my_llama, which right answers go into, and later lessons read.
        cell_seconds: a cell is interrupted after that many.
        progress: called after each cell.
    """
    run = _Run(path.stem, own_llama, cell_seconds, progress)
    nb = None
    try:
        nb = _read(path)
        run.execute(nb, path.parent)
    except ValueError as error:
        run.faults.append(str(error))
    verdicts, retried = [], set()
    for exercise in exercises:
        said = [verdict for verdict in run.verdicts if verdict.exercise == exercise.name]
        if said:
            verdicts.append(replace(said[-1], lesson=exercise.lesson, full=exercise.points))
            if len({verdict.passed for verdict in said}) > 1:
                retried.add(exercise.name)
        else:
            problem = _unseen(exercise.name, nb, run)
            verdicts.append(Verdict(exercise.name, exercise.lesson, exercise.points, problem=problem))
    return Graded(path.stem, tuple(verdicts), frozenset(retried), tuple(map(visible, run.faults)))


def _read(path: Path) -> NotebookNode:
    """The notebook without stored outputs.

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    place = f"{path.parent.name}/{path.name}"
    try:
        nb = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ValueError(f"{place} is missing.") from None
    except Exception as error:  # bad JSON, encoding or schema: each raises something else
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{place} is not a notebook that can be read: {reason}") from None
    for cell in _code_cells(nb):
        cell.outputs, cell.execution_count = [], None
        cell.metadata.pop("tags", None)
    return nb


def _code_cells(nb: NotebookNode) -> list[NotebookNode]:
    """Those that are run, so that the n-th is In [n] in JupyterLab: an empty one is passed over."""
    return [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]


class _Run:
    """One run of one notebook: what `check` said in it, and what went wrong besides."""

    def __init__(self, lesson: str, own_llama: Path, cell_seconds: float, progress: Callable[[], Any]) -> None:
        self.lesson, self.own_llama, self.cell_seconds, self.progress = lesson, own_llama, cell_seconds, progress
        self.word = secrets.token_hex()  # verdicts bear it, and a cell does not know it
        self.verdicts: list[Verdict] = []
        self.faults: list[str] = []
        self.died = False
        self._cells: list[NotebookNode] = []
        self._number = 0  # of the cell that was run last, from 1

    def execute(self, nb: NotebookNode, folder: Path) -> None:
        """Run the notebook.

        Raises:
            ValueError: if its folder cannot be copied.
        """
        self._cells = _code_cells(nb)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            place = Path(scratch, folder.name or "exercises")
            try:
                shutil.copytree(folder, place, ignore=LEFT_OUT, ignore_dangling_symlinks=True)
                shutil.copytree(PACKAGE, Path(scratch, "course", PACKAGE.name), ignore=LEFT_OUT)
            except OSError as error:
                raise ValueError(f"{folder} cannot be copied: {error}") from None
            client = NotebookClient(
                nb,
                timeout=self.cell_seconds,
                interrupt_on_timeout=True,
                error_on_timeout={"ename": TIMEOUT, "evalue": "", "traceback": []},
                kernel_name="python3",
                resources={"metadata": {"path": str(place)}},
                allow_errors=True,
                log=logging.getLogger(f"{__name__}.silent"),
                on_notebook_start=lambda notebook: _leave_ctrl_c_alone(),
                on_cell_executed=self._executed,
            )
            client.create_kernel_manager().kernel_spec.argv[0] = sys.executable  # not whatever is called python3
            paths = [str(Path(scratch, "course")), *filter(None, [os.environ.get("PYTHONPATH")])]
            env = os.environ | {
                PROGRESS: str(Path(scratch, "progress.json")),
                MINE: str(self.own_llama.absolute()),
                PLAIN: "1",
                VERDICTS: self.word,
                "PYTHONPATH": os.pathsep.join(paths),
            }
            try:
                client.execute(env=env, stderr=subprocess.DEVNULL)
            except (DeadKernelError, RuntimeError) as error:  # the second where it does not even start
                self.died = True
                self._fault(self._number + 1, f"Python itself ended here ({error}).")

    def _executed(self, cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        self.progress()
        self._number += 1
        failed = False
        for output in cell.outputs:
            data = output.get("data", {}).get(MIME)
            # Anything else is not from `check`: a cell can show what it likes.
            if isinstance(data, dict) and data.get("word") == self.word:
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    self.verdicts.append(Verdict.from_json(data["verdict"]))
                    failed = failed or not self.verdicts[-1].passed
        reply = execute_reply["content"]
        if reply["status"] == "error" and not failed:
            timeout = f"still running after {self.cell_seconds:g} seconds. Look for a loop that never ends"
            why = timeout if reply["ename"] == TIMEOUT else reply["evalue"]
            self._fault(self._number, f"{reply['ename']}: {why}")

    def _fault(self, number: int, text: str) -> None:
        cell = next(iter(self._cells[number - 1 : number]), None)
        first_line = cell.source.strip().splitlines()[0] if cell else ""
        place = f"{self.lesson}, code cell {number}, `{first_line[:60]}`"
        self.faults.append(f"{place}: {' '.join(text.split())[:300]}")


def _leave_ctrl_c_alone() -> None:
    """nbclient takes Ctrl-C for the end of its kernel; here it ends everything, as elsewhere."""
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def _unseen(name: str, nb: NotebookNode | None, run: _Run) -> str:
    """Why no verdict on exercise `name` was seen."""
    if nb is None:
        return "its notebook could not be run"
    if run.died:
        return "Python itself ended before its check, or within it"
    source = "\n".join(cell.source for cell in _code_cells(nb))
    if re.search(rf"^[^#\n]*\bcheck\(\s*{name}\b", source, re.MULTILINE):
        return f"its check cell did not get as far as check({name})"
    return f"it was never checked. Put check({name}) into a code cell"
