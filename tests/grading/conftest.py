"""A learner's exercise notebooks, and what grading them says.

Two lessons stand for all: that each exercise fails unsolved and passes solved, notebook by notebook, is tested in
tests/notebooks and by nbval.
"""

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat import NotebookNode

from tools.cells import ROOT, SOLUTIONS, notebooks, read
from tools.cut import cut

LESSONS = ("00_start_here", "03_rope")


class Learner:
    """Somebody with a folder of exercises: unsolved ones first, as they were cut from the solutions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "exercises"
        self.folder.mkdir()
        self.progress = folder / "progress.json"
        paths = [path for path in notebooks(SOLUTIONS) if path.stem in LESSONS]
        self.solutions = {path.stem: read(path) for path in paths}
        self.notebooks = {path.stem: cut(read(path), path) for path in paths}

    def cell(self, start: str) -> NotebookNode:
        """The one cell whose code starts like this."""
        return _cell(self.notebooks, start)

    def solve(self, *names: str) -> None:
        """Write the right answers to the named exercises, or to all."""
        for lesson, solution in self.solutions.items():
            for cell, solved in [(cell, s) for s in solution.cells for cell in self.notebooks[lesson].cells]:
                if cell.id == solved.id and "BEGIN SOLUTION" in solved.source:
                    name = solved.source.removeprefix("def ").split("(")[0]
                    if not names or name in names:
                        cell.source = solved.source

    def remove(self, cell: NotebookNode) -> None:
        for nb in self.notebooks.values():
            nb.cells = [other for other in nb.cells if other is not cell]

    def save(self) -> None:
        """Write the notebooks into the folder."""
        for lesson, nb in self.notebooks.items():
            nbformat.write(nb, self.folder / f"{lesson}.ipynb")

    def start(self, *options: str, lessons: tuple[str, ...] = LESSONS, **variables: str) -> subprocess.Popen:
        """Save the notebooks and start to grade them."""
        self.save()
        command = [sys.executable, "-m", "llama_lessons.grading", "--exercises", str(self.folder)]
        command += [*options, *lessons]
        env = {**os.environ, "LLAMA_LESSONS_PROGRESS": str(self.progress), "LLAMA_LESSONS_DEVICE": "cpu", **variables}
        return subprocess.Popen(
            command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )

    def grade(self, *options: str, **more: Any) -> tuple[int, str, str]:
        """Exit code, output and errors of grading the notebooks as they are now."""
        process = self.start(*options, **more)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


def _cell(nbs: dict[str, NotebookNode], start: str) -> NotebookNode:
    (cell,) = [cell for nb in nbs.values() for cell in nb.cells if cell.source.startswith(start)]
    return cell


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A notebook's shell, empty; the process's own `__main__` comes back after the test."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.fixture
def learner(tmp_path: Path) -> Learner:
    return Learner(tmp_path)
