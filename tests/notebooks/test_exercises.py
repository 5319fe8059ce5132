"""Every exercise as a learner first finds it: it runs, and fails at each check."""

import re
from pathlib import Path

import pytest

from tools.cells import EXERCISES, notebooks, read, short, where
from tools.normalise import execute


def definition(name: str, sources: list[str]) -> str:
    """The last cell that defines this name."""
    return [source for source in sources if re.search(rf"^(?:def|class) {name}\b", source, re.MULTILINE)][-1]


@pytest.mark.slow
@pytest.mark.parametrize("path", notebooks(EXERCISES), ids=short)
def test_an_unsolved_exercise_fails_at_each_check(path: Path, checked) -> None:
    """A stub is met with "not solved yet"; a bug hunt, whose flawed code runs, with a verdict on it."""
    cells = execute(read(path), path, allow_errors=True).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    checks = 0
    for number, cell in enumerate(cells, start=1):
        place = where(path, number, cell)
        errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        names = checked(cell)
        if not names:
            unsolved = [error for error in errors if error.ename == "NotImplementedError"]
            assert errors == unsolved, f"{place}: {errors[0].ename}: {errors[0].evalue}"
            continue
        checks += 1
        assert len(names) == 1, f"{place}: one check a cell, or the second one is never reached"
        assert [error.ename for error in errors] == ["CheckFailed"], place
        if "NotImplementedError" in definition(names[0], sources):
            assert f"{names[0]} is not solved yet" in errors[0].evalue, place
        else:
            assert f"{names[0]} is not right yet" in errors[0].evalue, place
    assert checks, f"{short(path)}: checks nothing"
