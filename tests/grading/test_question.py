"""Quick questions are checked, hinted at and counted like any exercise; a wrong choice is told why it is wrong."""

import re

import pytest

from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from llama_lessons.grading.question import question
from llama_lessons.grading.report import verdict_text

REASONS = {"a": "A is what the Transformer of 2017 did.", "c": "C is a norm.", "d": "D adds nothing."}


@pytest.fixture
def asked():
    made = question(name="which_one", lesson="00_start_here", right="b", wrong=REASONS, hint="Count parameters.")
    yield made
    del REGISTRY["which_one"]


@pytest.mark.parametrize("letter", ["b", "B", "b)", " b "])
def test_the_right_letter_passes(asked, letter):
    verdict = grade(asked, lambda: letter)
    assert verdict.passed
    assert verdict.points == asked.points == 1
    assert asked.is_question


@pytest.mark.parametrize("letter", sorted(REASONS))
@pytest.mark.parametrize("written", ["{}", "{})"])
def test_a_wrong_letter_is_told_why_and_earns_nothing(asked, letter, written):
    verdict = grade(asked, lambda: written.format(letter))
    assert not verdict.passed
    assert verdict.points == 0
    assert verdict.misconception.name == f"choice {letter}"
    assert REASONS[letter] in verdict_text(verdict)
    assert '"b"' not in verdict_text(verdict)


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


@pytest.mark.parametrize("wrong", [{"a": "", "b": "right as well"}, {"a": "alone"}])
def test_a_question_that_cannot_be_asked_is_refused(wrong):
    with pytest.raises(ValueError, match=re.escape("which_one: 'b' is right")):
        question(name="which_one", lesson="00_start_here", right="b", wrong=wrong, hint="")
    assert "which_one" not in REGISTRY
