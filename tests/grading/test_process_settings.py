"""An answer that changes torch's default dtype spoils no later verdict, and no later diagnosis."""

import pytest
import torch

from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from llama_lessons.grading.naming import known_outcomes

NAMES = ["rope_frequencies", "apply_rope", "to_interleaved", "mean_pool_kv_heads"]


def frequencies(head_dim, theta=10_000.0):
    if head_dim % 2:
        raise ValueError("odd")
    torch.set_default_dtype(torch.float64)
    return theta ** -(torch.arange(0, head_dim, 2) / head_dim)


def wrong_frequencies(head_dim, theta=10_000.0):
    return 2 * frequencies(head_dim, theta)


def wrong_rotation(x, cos, sin):
    torch.set_default_dtype(torch.float64)
    return 2 * x


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("rope_frequencies", frequencies),
        ("rope_frequencies", wrong_frequencies),
        ("apply_rope", wrong_rotation),
    ],
)
def test_later_verdicts_and_diagnoses_are_what_they_were(name, answer):
    known_outcomes.cache_clear()
    try:
        assert grade(REGISTRY[name], answer).passed is (answer is frequencies)
        assert torch.get_default_dtype() == torch.float32
        for exercise in map(REGISTRY.get, NAMES):
            assert grade(exercise, exercise.reference).passed
            for misconception in exercise.misconceptions[:3]:
                mistake = grade(exercise, misconception.make()).mistake
                assert mistake.name == misconception.name
    finally:
        known_outcomes.cache_clear()
