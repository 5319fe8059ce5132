"""Answers that no catalogue lists: right ones pass, wrong ones fail, and none is told what is not true of it."""

import pytest

from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY, catalogued
from llama_lessons.grading.naming import OTHERWISE, THE_SAME
from tests.grading.answers import ANY, collect

RIGHT, WRONG = collect()


@pytest.mark.parametrize(("name", "answer"), [pytest.param(*r, id=f"{r[0]}-{r[1].__name__}") for r in RIGHT])
def test_a_right_answer_passes(name, answer):
    verdict = grade(REGISTRY[name], answer)
    assert verdict.passed, (verdict.problem, verdict.first_failure, verdict.mistake)


@pytest.mark.parametrize(("name", "wrong"), [pytest.param(*w, id=f"{w[0]}-{w[1].answer.__name__}") for w in WRONG])
def test_a_wrong_answer_fails_and_is_called_what_it_is(name, wrong):
    exercise = REGISTRY[name]
    known = {misconception.name for misconception in exercise.misconceptions} | {OTHERWISE.name, THE_SAME.name}
    assert set(wrong.never) | ({wrong.called} - {ANY, None}) <= known
    verdict = grade(exercise, wrong.answer)
    assert not verdict.passed
    assert verdict.points < exercise.points
    assert not verdict.problem
    seen = verdict.mistake and verdict.mistake.name
    assert seen not in wrong.never, verdict.mistake
    assert wrong.called in (ANY, seen), verdict.mistake


@pytest.mark.parametrize("name", [name for name, exercise in catalogued().items() if not exercise.is_question])
def test_every_exercise_has_another_right_answer(name):
    assert name in {exercise for exercise, _ in RIGHT}
