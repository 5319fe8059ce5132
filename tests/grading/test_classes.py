"""An answer may be a class: its constructor and its calls are graded together."""

import pytest
import torch
from torch import Tensor, nn

from llama_lessons.grading.engine import UNCHANGED, grade
from llama_lessons.grading.exercise import REGISTRY, Exercise
from llama_lessons.grading.expect import Mismatch, expect_close, random_tensor
from llama_lessons.grading.families import float32_out, kept_from_the_first_call
from llama_lessons.grading.report import verdict_text
from llama_lessons.grading.verdict import Mistake


class Scale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.weight


class ScaleInPlace(Scale):
    def forward(self, x):
        with torch.no_grad():
            return x.mul_(self.weight)


class ScaleCrashes(Scale):
    def forward(self, x):
        return x * self.wait


class ScaleLater(Scale):
    def forward(self, x):
        raise NotImplementedError("Scale is not solved yet")


def use(answer):
    def run(tokens: Tensor, gains: Tensor) -> Tensor:
        module = answer(len(gains))
        if not list(module.parameters()):
            raise Mismatch("expected a parameter, found none")
        with torch.no_grad():
            module.weight.copy_(gains)
        return module(tokens)

    return run


def cases():
    return [(random_tensor(2, 3, seed=seed), random_tensor(3, seed=seed + 1)) for seed in range(3)]


@pytest.fixture
def scale():
    exercise = Exercise(
        Scale,
        lesson="00_start_here",
        points=2,
        minutes=5,
        cases=cases,
        hints=("a", "b"),
        returns=Tensor,
        using=use,
    )

    @exercise.property("scales")
    def scales(answer):
        for tokens, gains in cases():
            expect_close(answer(tokens, gains), tokens * gains, where="x of shape (2, 3)")

    exercise.slips("""
        gains twice: x * self.weight -> x * self.weight * self.weight
            You multiply by the gains twice.
    """)
    float32_out(exercise, "x")
    kept_from_the_first_call(exercise, "x")
    yield exercise
    del REGISTRY["Scale"]


def test_a_right_class_passes(scale):
    verdict = grade(scale, Scale)
    assert verdict.passed
    assert verdict.points == 2


def test_a_wrong_class_is_named(scale):
    class Mine(Scale):
        def forward(self, x):
            return x * self.weight**2

    verdict = grade(scale, Mine)
    assert verdict.mistake == Mistake("gains twice", "You multiply by the gains twice.")


def test_an_input_changed_in_place_is_named_by_the_call(scale):
    verdict = grade(scale, ScaleInPlace)
    assert [result.name for result in verdict.results if not result.passed] == [UNCHANGED]
    assert "tokens was changed in place" in verdict_text(verdict)


def test_a_crash_in_a_method_shows_the_learners_line(scale):
    text = verdict_text(grade(scale, ScaleCrashes))
    assert "AttributeError" in text
    assert "return x * self.wait" in text


def test_what_the_class_lacks_is_said_in_the_grader_s_words(scale):
    class Mine(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.weight = torch.ones(dim)

    text = verdict_text(grade(scale, Mine))
    assert "expected a parameter, found none" in text
    assert "Mismatch" not in text
    assert "raised" not in text


def test_a_stub_in_a_method_is_not_solved_yet(scale):
    assert grade(scale, ScaleLater).unsolved


def test_a_constructor_with_other_parameters_is_refused(scale):
    class Mine(Scale):
        def __init__(self, dim, eps):
            super().__init__(dim)

    verdict = grade(scale, Mine)
    assert "Scale(dim) is asked for" in verdict.problem
