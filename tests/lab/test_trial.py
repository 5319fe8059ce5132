"""A learner's answer in SmolLM2: right ones change nothing, wrong ones do, and none makes a cell fail."""

import re

import pytest
import torch

from llama_lessons.grading.exercise import find_exercise
from llama_lessons.lab import trial
from llama_lessons.lab.trial import PLACES, try_in_smollm2

pytestmark = pytest.mark.slow


def perplexities(out: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r": ([\d,.]+|nan|inf)\n", out)]


def solved(name: str):
    return find_exercise(name).reference


@pytest.mark.parametrize("name", [name for name in PLACES if name != "llama3_frequencies"])
def test_a_right_answer_changes_nothing(name, capsys):
    before = dict(trial._model().named_modules())
    try_in_smollm2(solved(name))
    out = capsys.readouterr().out
    usual, yours = perplexities(out)
    assert yours == pytest.approx(usual, rel=1e-3)
    assert 10 < usual < 40
    assert "should be the same" not in out
    assert before == dict(trial._model().named_modules()), "the model has its own parts back"


def test_llama_3_s_rule_is_tried_past_the_trained_length(capsys):
    try_in_smollm2(solved("llama3_frequencies"))
    unscaled, yours = perplexities(capsys.readouterr().out)
    assert yours < unscaled / 5


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("apply_rope", "a * cos - b * sin", "a * cos + b * sin"),
        ("rms_norm", "mean(dim=-1, keepdim=True)", "mean()"),
        ("grouped_query_attention", "// (n_heads // n_kv_heads)", "% n_kv_heads"),
    ],
)
def test_a_wrong_answer_is_measured_and_said(name, old, new, capsys):
    try_in_smollm2(find_exercise(name).changed(old, new))
    out = capsys.readouterr().out
    usual, yours = perplexities(out)
    assert yours > 1.5 * usual
    assert f"They should be the same: check({name}) says what is wrong." in out


def apply_rope(x, cos, sin):
    raise NotImplementedError("apply_rope is not solved yet")


def repeat_kv(x, group_size):
    raise RuntimeError("of two\nlines")


def test_what_is_not_solved_or_fails_is_said_in_a_line(capsys):
    try_in_smollm2(apply_rope)
    assert capsys.readouterr().out == "apply_rope is not solved yet. Once it is, this cell puts it into SmolLM2.\n"
    try_in_smollm2(repeat_kv)
    said = "In SmolLM2, repeat_kv raises RuntimeError: of two lines. check(repeat_kv) says more.\n"
    assert capsys.readouterr().out == said


def test_a_result_of_nan_is_no_right_one(capsys):
    def rms_norm(x, weight, eps):
        return x * torch.nan

    try_in_smollm2(rms_norm)
    assert "They should be the same" in capsys.readouterr().out


def test_without_the_model_its_remedy_is_printed(monkeypatch, capsys):
    def missing(name):
        raise trial.MaterialError("smollm2 is not in the cache: connect once")

    monkeypatch.setattr(trial, "fetch", missing)
    monkeypatch.setattr(trial, "_model", trial._model.__wrapped__)
    try_in_smollm2(apply_rope)
    assert capsys.readouterr().out == "smollm2 is not in the cache: connect once\n"


def test_what_has_no_place_is_refused():
    with pytest.raises(ValueError, match="gelu has no place in SmolLM2 by itself; these have: apply_rope"):
        try_in_smollm2(solved("gelu"))
