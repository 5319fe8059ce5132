"""What a misconception is made of, when an answer is told of it, and how surely."""

import pytest
import torch
from torch import Tensor

from llama_lessons.grading import CheckFailed, check
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY, Exercise
from llama_lessons.grading.expect import draw, expect_close, expect_value_error
from llama_lessons.grading.families import (
    batch_of_one,
    float32_out,
    kept_from_the_first_call,
    needs_contiguous,
    no_gradient,
    overwrites,
)
from llama_lessons.grading.naming import known_outcomes
from llama_lessons.grading.report import verdict_html, verdict_text
from llama_lessons.grading.verdict import Mistake, Verdict


def shifted(x: Tensor, by: float = 1.0) -> Tensor:
    if by < 0:
        raise ValueError("by")
    doubled = 2 * x
    return doubled + by


def cases():
    return [
        (draw(5, 4, seed=1).requires_grad_(), 3.0),
        (draw(5, 4, seed=2).transpose(0, 1), 4.0),
        (draw(2, 3, seed=3),),
        (draw(33, 64, seed=4, dtype=torch.bfloat16), 2.0),
        (draw(2, 3), -1.0),
    ]


@pytest.fixture
def exercise():
    made = Exercise(
        shifted, lesson="00_start_here", points=4, minutes=3, cases=cases, returns=Tensor, hints=("one", "two")
    )

    @made.property("2 x + by")
    def formula(answer):
        for by in (0.5, 2.0):
            expect_close(answer(draw(3, 4), by), 2 * draw(3, 4) + by, where=f"by {by}")

    @made.property("negative numbers are refused")
    def refusal(answer):
        expect_value_error(answer, draw(3), -1.0, where="by -1")

    made.slips("""
        not doubled: 2 * x -> x
            You add to x, which is to be
            doubled first.
        1 whatever by is: doubled + by -> doubled + 1.0
            Your result is that for by = 1, whatever by is.

        negative accepted: if by < 0 -> if False
            The numbers are right, but a negative number is to be refused.
    """)
    yield made
    del REGISTRY["shifted"]
    known_outcomes.cache_clear()


def test_a_slip_is_the_reference_with_one_change(exercise):
    first, second, third = exercise.misconceptions
    assert first.name == "not doubled"
    assert first.diagnosis == "You add to x, which is to be doubled first."
    assert torch.equal(first.make()(torch.ones(2), 3.0), torch.full((2,), 4.0))
    assert torch.equal(second.make()(torch.ones(2), 3.0), torch.full((2,), 3.0))
    assert torch.equal(third.make()(torch.ones(2), -3.0), torch.full((2,), -1.0))


@pytest.mark.parametrize(("old", "new", "times"), [("doubled", "x", 2), ("tripled", "x", 0), ("2 * x", "2 * x", 1)])
def test_a_change_that_is_not_one_change_is_refused(exercise, old, new, times):
    with pytest.raises(ValueError, match=f"shifted: '.*' stands {times} times in the reference, not once"):
        exercise.changed(old, new)


def test_a_traceback_through_a_slip_shows_the_line_that_was_changed(exercise):
    wrong = exercise.changed("2 * x", "2 * missing")
    with pytest.raises(NameError) as error:
        wrong(torch.ones(2))
    frame = error.traceback[-1]
    assert frame.path.name == "test_misconceptions.py"
    assert str(frame.statement).strip() == "doubled = 2 * x"


def test_a_function_is_named_by_its_mistake_and_its_docstring_is_the_diagnosis(exercise):
    @exercise.given
    def turned_round(x, by=1.0):
        """You subtract
        where you should add."""
        return 2 * x - by

    found = exercise.misconceptions[-1]
    assert (found.name, found.given) == ("turned round", True)
    assert found.diagnosis == "You subtract where you should add."
    verdict = grade(exercise, lambda x, by=1.0: 2 * x - by)
    assert verdict.mistake == Mistake("turned round", found.diagnosis, sure=True, given=True)
    assert verdict.points == 0


def test_what_an_answer_does_in_every_case_it_is_told_surely(exercise):
    def mine(x, by=1.0):
        if by < 0:
            raise ValueError
        return 2 * x + 1

    verdict = grade(exercise, mine)
    assert verdict.mistake == Mistake("1 whatever by is", "Your result is that for by = 1, whatever by is.", sure=True)
    assert "What seems to have happened (1 whatever by is):" in verdict_text(verdict)


def test_a_second_mistake_makes_it_a_guess(exercise):
    verdict = grade(exercise, lambda x, by=1.0: 2 * x + 1)
    assert verdict.mistake == Mistake("1 whatever by is", "Your result is that for by = 1, whatever by is.", sure=False)
    assert "One of your mistakes may be (1 whatever by is):\n  Your result" in verdict_text(verdict)
    assert "One of your mistakes may be (1 whatever by is):" in verdict_html(verdict)


def test_that_all_else_is_right_is_said_only_where_it_was_seen(exercise):
    no_gradient(exercise, "x")
    sure = grade(exercise, lambda x, by=1.0: exercise.reference(x.detach(), by)).mistake
    assert sure is None  # the properties ask for no gradient, so it passes
    verdict = grade(exercise, lambda x, by=1.0: 2 * x + by)
    assert verdict.mistake.sure
    assert verdict.mistake.diagnosis.startswith("The numbers are right, but a negative number")


def test_a_name_is_not_given_where_the_misconception_is_right_and_the_answer_raises(exercise):
    def mine(x, by=1.0):
        if by != 3.0:
            raise KeyError
        return x + by

    assert grade(exercise, mine).mistake is None


FAMILIES = {
    "no gradient to x": (lambda e: no_gradient(e, "x"), lambda x, by=1.0: shifted(x.data, by)),
    "x overwritten": (
        lambda e: overwrites(e, "x"),
        lambda x, by=1.0: x.mul_(2).add_(by) if by >= 0 else shifted(x, by),
    ),
    "float32 goes out": (lambda e: float32_out(e, "x"), lambda x, by=1.0: shifted(x.float(), by)),
    "only for a contiguous x": (
        lambda e: needs_contiguous(e, "x"),
        lambda x, by=1.0: shifted(x.view(-1), by).view(x.shape),
    ),
    "only the first row of the batch": (
        lambda e: batch_of_one(e, "x"),
        lambda x, by=1.0: shifted(x[0], by).expand(x.shape),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_name_what_they_say(exercise, name):
    add, mine = FAMILIES[name]

    @exercise.property("fails")
    def fails(answer):
        expect_close(answer(draw(2)), draw(3), where="always")

    add(exercise)
    assert grade(exercise, mine).mistake == Mistake(name, exercise.misconceptions[-1].diagnosis, sure=True)


def test_what_is_kept_from_an_earlier_call_is_named(exercise):
    kept_from_the_first_call(exercise, "by")
    kept = []

    def mine(x, by=1.0):
        if by < 0:
            raise ValueError
        kept.append(by)
        return 2 * x + kept[0]

    wrong = exercise.misconceptions[-1].make()
    assert torch.equal(wrong(torch.zeros(1), 5.0), wrong(torch.zeros(1), 6.0))
    assert torch.equal(exercise.misconceptions[-1].make()(torch.zeros(1), 6.0), torch.tensor([6.0]))  # made anew
    assert grade(exercise, mine).mistake is None  # the first call was one of a property, and by another number


@pytest.mark.parametrize(("returns", "answered"), [(bool, bool), ((bool, bool), lambda yes: (yes, yes))])
def test_answers_of_yes_and_no_are_named_only_where_they_all_agree(returns, answered):
    def is_large(x: float) -> bool:
        return answered(x > 0)

    made = Exercise(
        is_large, lesson="00_start_here", points=1, minutes=1, cases=lambda: [(x,) for x in range(-9, 9)],
        returns=returns, hints=("one",),
    )  # fmt: skip
    made.property("is wrong")(lambda answer: expect_close(draw(2), draw(3), where=f"{answer(1.0)}"))
    made.add("turned round", "It is the other way round.", lambda: lambda x: answered(x <= 0))
    try:
        assert grade(made, lambda x: answered(x <= 0)).mistake.sure
        assert grade(made, lambda x: answered(x <= 0 or x == 5)).mistake is None
    finally:
        del REGISTRY["is_large"]
        known_outcomes.cache_clear()


def remembers_by_shape(x, by=1.0, kept={}):  # noqa: B006
    """A table of an earlier call, kept under the shape alone."""
    return shifted(kept.setdefault(x.shape, x), by)


def counts_its_calls(x, by=1.0, calls=[]):  # noqa: B006
    calls.append(by)
    return shifted(x, by) * len(calls)


def writes_into_one_buffer(x, by=1.0, kept={}):  # noqa: B006
    result = kept.setdefault((x.shape, x.dtype), torch.empty_like(x, requires_grad=False)).detach()
    return result.copy_(shifted(x, by).detach())


@pytest.mark.parametrize(
    ("answer", "name", "words"),
    [
        (remembers_by_shape, "the same for other numbers", "Your result stays the same where the inputs hold other"),
        (counts_its_calls, "kept from call to call", "The same call gives another result after other calls"),
    ],
)
def test_whatever_is_kept_between_calls_is_seen(exercise, answer, name, words):
    @exercise.property("other numbers")
    def other_numbers(answer):
        for seed in range(3):
            expect_close(answer(draw(4, seed=seed), 2.0), 2 * draw(4, seed=seed) + 2, where=f"seed {seed}")

    verdict = grade(exercise, answer)
    assert verdict.mistake.name == name
    assert verdict.mistake.sure
    assert verdict.mistake.diagnosis.startswith(words)


def test_a_result_that_a_later_call_overwrites_is_seen(exercise):
    verdict = grade(exercise, writes_into_one_buffer)
    (failed,) = [result for result in verdict.results if not result.passed]
    assert failed.message.startswith("a result that had been returned was changed by a later call")


def test_a_verdict_travels_as_json(exercise):
    for answer in (shifted, lambda x, by=1.0: 2 * x + 1, lambda x: x):
        verdict = grade(exercise, answer)
        assert Verdict.from_json(verdict.to_json()) == verdict
    assert verdict.to_json()["points"] == 0
    for nonsense in ({}, {"results": []}, {"results": [{"a": 1}], "mistake": None}, {**verdict.to_json(), "more": 1}):
        with pytest.raises((KeyError, TypeError)):
            Verdict.from_json(nonsense)


def test_a_failure_holds_the_verdict_as_data():
    def rope_frequencies(head_dim, theta=10_000.0):
        return torch.ones(head_dim // 2)

    with pytest.raises(CheckFailed) as failure:
        check(rope_frequencies, keep=False)
    verdict = failure.value.verdict
    assert (verdict.exercise, verdict.lesson, verdict.passed) == ("rope_frequencies", "03_rope", False)
    assert 0 <= verdict.seconds < 60
