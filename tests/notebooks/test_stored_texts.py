"""What a committed notebook shows of a text that lives in the library is what it would show now."""

import re
from pathlib import Path

import pytest
from nbformat import NotebookNode

from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from llama_lessons.grading.report import verdict_text
from llama_lessons.lab.stored import stored
from llama_lessons.settings import FULL
from tools.cells import LESSONS, SOLUTIONS, notebooks, read, short, where

AGAIN = "stale; run `python -m tools.normalise {}`"


def shown(cell: NotebookNode) -> str:
    outputs = cell.get("outputs", [])
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def never() -> None:
    raise AssertionError("it is not to be run")


@pytest.mark.parametrize("path", notebooks(LESSONS), ids=short)
def test_a_stored_result_says_when_it_was_made(path: Path, capsys, monkeypatch) -> None:
    monkeypatch.delenv(FULL, raising=False)
    for number, cell in enumerate(read(path).cells, start=1):
        for line in re.findall(r"^Stored result of .*$", shown(cell), re.MULTILINE):
            stored(re.search(rf"{FULL}=(\w+)", line)[1], never)
            assert line == capsys.readouterr().out.strip(), f"{where(path, number, cell)}: {AGAIN.format(short(path))}"


@pytest.mark.parametrize("path", notebooks(SOLUTIONS), ids=short)
def test_a_question_says_why_its_choice_is_right(path: Path, checked) -> None:
    for number, cell in enumerate(read(path).cells, start=1):
        for exercise in (REGISTRY[name] for name in checked(cell)):
            if exercise.is_question:
                said = verdict_text(grade(exercise, exercise.reference))
                assert shown(cell) == said, f"{where(path, number, cell)}: {AGAIN.format(short(path))}"
