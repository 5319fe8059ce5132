"""Rules that hold for every committed notebook. That lessons and solutions run clean is seen by nbval."""

import base64
import re
from pathlib import Path

import pytest
from nbformat import NotebookNode

from tools.cells import EXERCISES, LESSONS, SOLUTIONS, notebooks, read, short, tags, text, where
from tools.cut import cut
from tools.normalise import check

ALL = notebooks(LESSONS, SOLUTIONS, EXERCISES)
LONGEST_CELL = 40  # lines: one screen
LARGEST_PICTURE = 150_000  # bytes


def code_cells(path: Path) -> list[tuple[str, NotebookNode]]:
    """Each code cell with its place."""
    cells = enumerate(read(path).cells, start=1)
    return [(where(path, number, cell), cell) for number, cell in cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    assert notebooks(LESSONS)
    assert notebooks(SOLUTIONS)
    assert notebooks(EXERCISES)


@pytest.mark.parametrize("path", notebooks(LESSONS), ids=short)
def test_a_lesson_has_exercises_and_their_solutions(path: Path) -> None:
    for folder in (SOLUTIONS, EXERCISES):
        assert (path.parent.parent / folder / path.name).exists(), folder


@pytest.mark.parametrize("path", notebooks(EXERCISES), ids=short)
def test_an_exercise_has_a_solution_and_is_what_it_gives(path: Path) -> None:
    solution = path.parent.parent / SOLUTIONS / path.name
    assert text(cut(read(solution), solution)) == path.read_text(encoding="utf-8"), "run `make notebooks`"


@pytest.mark.parametrize("path", ALL, ids=short)
def test_a_notebook_is_in_its_committed_form(path: Path) -> None:
    check(path)


@pytest.mark.parametrize("path", ALL, ids=short)
def test_a_cell_is_short_and_shows_no_error(path: Path) -> None:
    for place, cell in code_cells(path):
        assert len(cell.source.splitlines()) <= LONGEST_CELL, place
        assert not any(output.output_type == "error" for output in cell.outputs), place


@pytest.mark.parametrize("path", notebooks(LESSONS, SOLUTIONS), ids=short)
def test_cells_are_executed_in_order(path: Path) -> None:
    counts = [cell.execution_count for _, cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("path", ALL, ids=short)
def test_a_failing_check_cannot_be_expected(path: Path, checked) -> None:
    for place, cell in code_cells(path):
        if checked(cell):
            assert "raises-exception" not in tags(cell), place
            assert "nbval-skip" not in tags(cell), place
            assert "NBVAL_" not in cell.source, place


@pytest.mark.parametrize("path", ALL, ids=short)
def test_a_picture_is_small(path: Path) -> None:
    for place, cell in code_cells(path):
        for output in cell.outputs:
            assert len(base64.b64decode(output.get("data", {}).get("image/png", ""))) <= LARGEST_PICTURE, place


# What asks a reader for a guess: a text that says so, or whose last paragraph holds a question in bold.
ASKS = re.compile(
    r"\*\*Guess|[Gg]uess (?:which|the|two|its?)\b|, guess\b|[Gg]uess:|Guess first|Guess, then run"
    r"|[Bb]efore you (?:run|look)"
    r"|do you expect\?|\?\*\*[^\n]*$"
)


@pytest.mark.parametrize("path", notebooks(LESSONS), ids=short)
def test_a_guess_that_is_asked_for_is_not_given_away(path: Path) -> None:
    asked = False
    for number, cell in enumerate(read(path).cells, start=1):
        if cell.cell_type == "markdown":
            asked = bool(ASKS.search(cell.source.strip()))
        elif asked and cell.outputs and not cell.source.startswith("explore("):
            assert cell.metadata.get("jupyter", {}).get("outputs_hidden"), where(path, number, cell)
