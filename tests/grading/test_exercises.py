"""Every exercise: what passes, what fails, what it is called, and that hints do not give the answer away."""

import ast
import inspect
import re
import textwrap
from pathlib import Path

import pytest
import torch
from torch import Tensor

from llama_lessons.grading import exercises
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY, catalogued, lessons
from llama_lessons.grading.report import headline, verdict_html, verdict_text
from llama_lessons.grading.verdict import Mistake
from tests.grading.answers import collect
from tools.grader_report import solutions

EXERCISES = [pytest.param(exercise, id=name) for name, exercise in catalogued().items()]
MISCONCEPTIONS = [
    pytest.param(exercise, misconception, id=f"{exercise.name}-{misconception.name}")
    for exercise in REGISTRY.values()
    for misconception in exercise.misconceptions
]
SOLVED = solutions()
RIGHT, _ = collect()


def failures(verdict):
    return [(result.name, result.message) for result in verdict.results if not result.passed]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_catalogue_is_complete(exercise):
    if exercise.is_question:
        assert len(exercise.misconceptions) >= 2
        assert exercise.hints
    else:
        assert len(exercise.misconceptions) >= 4
        assert 2 <= len(exercise.hints) <= 3
        assert 3 <= exercise.minutes <= 20
    assert exercise.points > 0
    for kind in (exercise.properties, exercise.misconceptions):
        names = [item.name for item in kind]
        assert len(set(names)) == len(names)
    for misconception in exercise.misconceptions:
        assert misconception.diagnosis.endswith((".", "?", ")"))


def test_every_file_is_named_after_its_exercise():
    """Whoever reads of an exercise finds its file, and whoever writes a file has to name it in one place."""
    folder = Path(exercises.__file__).parent
    listed = {folder / lesson[3:] / f"{name}.py" for lesson, names in exercises.EXERCISES.items() for name in names}
    named = {Path(inspect.getfile(e.reference)): e.name for e in REGISTRY.values() if not e.is_question}
    assert {path: path.stem for path in listed if path.stem != "questions"} == named
    assert {path for path in folder.glob("*/*.py") if "= Exercise(" in path.read_text()} == set(named)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_reference_passes(exercise):
    verdict = grade(exercise, exercise.reference)
    assert verdict.passed, failures(verdict)
    assert verdict.points == exercise.points
    assert not verdict.printed
    assert verdict_text(verdict).splitlines()[0] == headline(verdict)
    assert " ".join(verdict_text(verdict).split()) == f"{headline(verdict)} {exercise.reason}".strip()


@pytest.mark.parametrize(("exercise", "misconception"), MISCONCEPTIONS)
def test_misconception_is_rejected_and_named(exercise, misconception):
    verdict = grade(exercise, misconception.make())
    assert not verdict.passed
    assert 0 <= verdict.points < exercise.points
    assert verdict.mistake == Mistake(misconception.name, misconception.diagnosis, True, misconception.given), verdict

    text, markup = verdict_text(verdict), verdict_html(verdict)
    assert misconception.diagnosis in " ".join(text.split())
    assert len(text.splitlines()) <= 40
    for tag in ("div", "pre", "details", "ul", "li"):
        assert markup.count(f"<{tag}") == markup.count(f"</{tag}>")


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("text", ["", "{} is not solved yet"])
def test_stub_is_not_solved_yet(exercise, text):
    def stub(*args):
        raise NotImplementedError(*([text.format(exercise.name)] if text else []))

    verdict = grade(exercise, stub)
    assert verdict.unsolved
    assert not verdict.passed
    assert verdict.points == 0


def returns_none(*args):
    return None


def returns_first(*args):
    return args[0]


def returns_all(*args):
    return tuple(arg for arg in args if isinstance(arg, Tensor))


def returns_zeros(*args):
    return torch.zeros_like(next((arg for arg in args if isinstance(arg, Tensor)), torch.zeros(4)))


def returns_true(*args):
    return True


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("blank", [returns_none, returns_first, returns_all, returns_zeros, returns_true])
def test_an_answer_without_a_thought_does_not_pass(exercise, blank):
    verdict = grade(exercise, blank)
    assert not verdict.passed
    assert verdict.points <= exercise.points / 2
    if blank is returns_none:
        assert verdict.points == 0


@pytest.mark.parametrize("exercise", EXERCISES)
def test_verdict_is_the_same_each_time(exercise):
    function = exercise.misconceptions[0].make()
    torch.manual_seed(1)
    first = grade(exercise, function)
    torch.manual_seed(2)
    assert grade(exercise, function) == first


def code_lines(source):
    """The lines of code in `source` that would give something away, without comments and blanks."""
    lines = {" ".join(line.split()) for line in ast.unparse(ast.parse(source)).splitlines()}
    return {line for line in lines if len(line) >= 20 and not line.startswith(("def ", '"""', "raise ", "return x"))}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_hints_hold_no_line_of_an_answer(exercise):
    right = [answer for name, answer in RIGHT if name == exercise.name and inspect.getsourcefile(answer)]
    sources = [textwrap.dedent(inspect.getsource(answer)) for answer in right]
    sources = [source[re.search(r"^(?:def|class) ", source, re.MULTILINE).start() :] for source in sources]
    if exercise.name in SOLVED:
        sources.append(SOLVED[exercise.name].source)
    hints = " ".join(" ".join(exercise.hints).split())
    for source in sources:
        for line in code_lines(source):
            assert line.removeprefix("return ") not in hints


def test_lessons_come_in_the_order_of_the_course():
    assert list(lessons()) == sorted(lessons())
    assert sum(len(of_lesson) for of_lesson in lessons().values()) == len(REGISTRY)


@pytest.mark.parametrize("name", sorted(SOLVED.keys() & catalogued().keys()))
def test_the_solution_notebook_passes(name):
    verdict = grade(REGISTRY[name], SOLVED[name].function())
    assert verdict.passed, failures(verdict)
