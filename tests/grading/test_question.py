"""Quick questions are checked, hinted at and counted like any exercise; a wrong choice is told why it is wrong."""

import re

import pytest

from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from llama_lessons.grading.question import question
from llama_lessons.grading.report import verdict_html, verdict_text

REASONS = {
    "a": "A is what the Transformer of 2017 did.",
    "b": "B turns queries and keys.",
    "c": "C is a norm.",
    "d": "D adds nothing.",
}


@pytest.fixture
def asked():
    made = question(name="which_one", right="b", reasons=REASONS, hint="Count parameters.")
    yield made
    del REGISTRY["which_one"]


@pytest.mark.parametrize("letter", ["b", "B", "b)", " b "])
def test_the_right_letter_passes(asked, letter):
    verdict = grade(asked, lambda: letter)
    assert verdict.passed
    assert verdict.points == asked.points == 1
    assert asked.is_question
    text = "which_one is right: 1 of 1 checks, 1 of 1 points.\n  B turns queries and keys."
    assert verdict_text(verdict) == text
    assert "B turns queries and keys." in verdict_html(verdict)


@pytest.mark.parametrize("letter", sorted(REASONS.keys() - {"b"}))
@pytest.mark.parametrize("written", ["{}", "{})"])
def test_a_wrong_letter_is_told_why_and_earns_nothing(asked, letter, written):
    verdict = grade(asked, lambda: written.format(letter))
    assert not verdict.passed
    assert verdict.points == 0
    assert verdict.mistake.name == f"choice {letter}"
    assert REASONS[letter] in verdict_text(verdict)
    assert '"b"' not in verdict_text(verdict)
    assert REASONS["b"] not in verdict_text(verdict) + verdict_html(verdict)


@pytest.mark.parametrize("answer", ["e", "bb", "(b", ""])
def test_what_is_no_choice_is_told_the_choices(asked, answer):
    verdict = grade(asked, lambda: answer)
    assert not verdict.passed
    assert verdict.points == 0
    assert f'expected one of the letters a, b, c, d, such as "a", got "{answer}"' in verdict_text(verdict)


def test_an_answer_of_another_type_is_told_so(asked):
    text = verdict_text(grade(asked, lambda: 2))
    assert "which_one returned an int, where a str is expected" in text


def test_a_stub_is_not_solved_yet(asked):
    def stub():
        raise NotImplementedError("which_one is not solved yet")

    assert grade(asked, stub).unsolved


@pytest.mark.parametrize("reasons", [{"a": "no", "c": "no", "d": "no"}, {"a": "no", "b": "yes"}])
def test_a_question_that_cannot_be_asked_is_refused(reasons):
    with pytest.raises(ValueError, match=re.escape("which_one: 'b' is right")):
        question(name="which_one", right="b", reasons=reasons, hint="")
    assert "which_one" not in REGISTRY
