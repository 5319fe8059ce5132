"""Minutes and points are the same wherever they are said: in the README's map, in notebooks, and by the grader."""

import re
from pathlib import Path

import pytest

from llama_lessons.grading.exercise import lessons
from tools.cells import LESSONS, ROOT, SOLUTIONS, notebooks, read, short

ROWS = re.compile(
    r"^\| (?P<number>\d\d) \| \[.+?\]\(notebooks/(?P<lesson>\w+)\.ipynb\) \| .+? \| (?P<minutes>\d+) min "
    r"\| \[(?P<exercises>\d+)\]\(exercises/(?P=lesson)\.ipynb\), (?P<exercise_minutes>\d+) min \|$",
    re.MULTILINE,
)
MAP = {row["lesson"]: row for row in ROWS.finditer((ROOT / "README.md").read_text(encoding="utf-8"))}


def said(pattern: str, path: Path) -> list[str]:
    """What the notebook's text says where the pattern's group stands."""
    texts = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    return re.findall(pattern, texts, re.MULTILINE)


def test_the_map_has_every_lesson_once() -> None:
    assert list(MAP) == [path.stem for path in notebooks(LESSONS)]
    assert list(MAP) == list(lessons())


@pytest.mark.parametrize("path", notebooks(LESSONS), ids=short)
def test_a_lesson_takes_the_minutes_that_the_map_says(path: Path) -> None:
    assert said(r"\*\*About (\d+) minutes", path) == [MAP[path.stem]["minutes"]]
    assert said(r"\.\./exercises/\w+\.ipynb\), about (\d+) minutes", path) == [MAP[path.stem]["exercise_minutes"]]


@pytest.mark.parametrize("path", notebooks(SOLUTIONS), ids=short)
def test_exercises_take_the_minutes_that_the_map_says(path: Path) -> None:
    exercises = lessons()[path.stem]
    assert int(MAP[path.stem]["exercises"]) == len(exercises)
    head = int(MAP[path.stem]["exercise_minutes"])
    assert said(r"^# Solutions .*\n\n.+?, about (\d+) minutes\.", path) == [str(head)]
    assert abs(head - sum(exercise.minutes for exercise in exercises)) < 5  # rounded


@pytest.mark.parametrize("path", notebooks(SOLUTIONS), ids=short)
def test_a_statement_says_the_grader_s_points_and_minutes(path: Path, checked) -> None:
    stated, numbers = {}, None
    for cell in read(path).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            numbers = re.search(r"^\*\*(\d+) points?, about (\d+) minutes\.\*\* ", cell.source, re.MULTILINE)
        stated |= {name: numbers and (int(numbers[1]), int(numbers[2])) for name in checked(cell)}
    assert stated == {exercise.name: (exercise.points, exercise.minutes) for exercise in lessons()[path.stem]}
