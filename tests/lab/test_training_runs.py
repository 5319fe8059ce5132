"""The short trainings of lesson 10: each mistake is made, and its curve shows what the grader says that it shows."""

import math

import pytest
import torch
from matplotlib.figure import Figure

from llama_lessons.grading.exercises.training.name_the_curves import RIGHT, SHOWS
from llama_lessons.lab import training_runs
from llama_lessons.lab.training_runs import (
    LETTERS,
    MISTAKES,
    SEEDS,
    SHOWN,
    STEPS,
    band,
    draw_in_band,
    draw_lettered_curves,
    draw_shown_curves,
    first_step_outside,
    kept_runs,
    kept_shown,
    remove_mask_,
    run,
    small_llama,
)

FREQUENCIES, PAIRS, NOTHING = 3.33, 2.50, math.log(84)


@pytest.fixture(scope="module")
def runs():
    return kept_runs()


def test_the_exercise_asks_for_the_curves_that_are_drawn():
    numbers = {name: number for number, name in enumerate(MISTAKES, 1)}
    assert {letter: numbers[name] for letter, name in LETTERS.items()} == RIGHT
    assert len(SHOWS) == len(MISTAKES) == len(LETTERS) + 1


def test_five_seeds_of_the_right_run_and_three_of_each_mistake_are_kept(runs):
    assert {name: len(curves) for name, curves in runs.items()} == {
        name: len(SEEDS) if name == "none" else 3 for name in MISTAKES
    }
    assert all(len(c["training"]) == 20 and len(c["validation"]) == 21 for curves in runs.values() for c in curves)


SIGNS = {
    "none": lambda t, v: t[-1] < PAIRS - 0.3 and v[-1] < PAIRS - 0.3 and abs(t[-1] - v[-1]) < 0.1,
    "not shifted": lambda t, v: t[-1] < 0.05 and v[-1] > 2 * NOTHING,
    "shifted twice": lambda t, v: 2.6 < t[-1] < 2.9 and v[-1] > min(v) + 0.1,
    "other rows": lambda t, v: all(abs(loss - FREQUENCIES) < 0.05 for loss in (*t[-5:], *v[-5:])),
    "softmax": lambda t, v: t[-1] > 4.1 and v[-1] > 2 * NOTHING,
    "no zero_grad": lambda t, v: 2.2 < t[-1] < PAIRS and abs(t[-1] - v[-1]) < 0.1 and min(v) > v[-1] - 0.02,
    "padding counted": lambda t, v: t[-1] < v[-1] - 0.8 and min(v) > v[-1] - 0.02 and v[-1] < PAIRS,
    "little text": lambda t, v: 0.1 < t[-1] < 1 and v[-1] > min(v) + 1 and min(t) > t[-1] - 0.02,
    "small rate": lambda t, v: 3.1 < t[-1] < FREQUENCIES and abs(t[-1] - v[-1]) < 0.1 and t[5] > t[-1] + 0.2,
}


@pytest.mark.parametrize("name", MISTAKES)
def test_every_seed_shows_what_is_said_of_the_mistake(runs, name):
    for curve in runs[name]:
        assert SIGNS[name](curve["training"], curve["validation"])


@pytest.mark.parametrize("name", MISTAKES)
def test_no_other_curve_shows_it(runs, name):
    """So that each of the eight has one answer."""
    for other in MISTAKES.keys() - {name}:
        assert not SIGNS[name](runs[other][0]["training"], runs[other][0]["validation"])


def test_each_mistake_is_made(monkeypatch):
    monkeypatch.setattr(training_runs, "STEPS", 20)
    curves = {name: run(name) for name in MISTAKES | SHOWN}
    for name, curve in curves.items():
        assert len(curve["training"]) == 1
        assert len(curve["validation"]) == 2
        # In the warm-up nothing is wrong yet with a schedule that ends early.
        assert (curve == curves["none"]) == (name in ("none", "short schedule"))


SHOWN_SIGNS = {
    "no mask": lambda t, v: t[-1] < 0.1 and v[-1] < 0.1,
    "high rate": lambda t, v: t[0] > 10 and 2.7 < t[-1] < FREQUENCIES and abs(t[-1] - v[-1]) < 0.15,
    "bfloat16 weights": lambda t, v: abs(t[-1] - 2.07) < 0.05 and abs(t[-1] - v[-1]) < 0.1,
    "short text": lambda t, v: t[-1] < 1.6 and v[-1] > min(v) + 0.1,
    "short schedule": lambda t, v: 2.2 < t[-1] < PAIRS and t[5] - t[-1] < 0.25 and abs(t[-1] - v[-1]) < 0.1,
}


@pytest.mark.parametrize("name", SHOWN)
def test_every_seed_shows_what_the_lesson_says(name):
    curves = kept_shown()[name]
    assert len(curves) == 3
    for curve in curves:
        assert SHOWN_SIGNS[name](curve["training"], curve["validation"])


def test_without_a_mask_a_token_reads_those_that_come():
    model, tokens = small_llama(12, seed=0), torch.arange(8)[None]
    changed = tokens.clone()
    changed[0, -1] = 11
    with torch.no_grad():
        assert torch.allclose(model(tokens)[:, :-1], model(changed)[:, :-1])
        remove_mask_(model)
        assert not torch.allclose(model(tokens)[:, :-1], model(changed)[:, :-1])


def test_the_figure_names_no_mistake(runs):
    figure, sentence = draw_lettered_curves({"frequencies": FREQUENCIES})
    assert isinstance(figure, Figure)
    assert [ax.get_title(loc="left") for ax in figure.axes] == list("ABCDEFGH")
    assert not any(word in sentence for name in MISTAKES for word in (name, MISTAKES[name]))


def test_an_unknown_mistake_is_refused():
    with pytest.raises(KeyError):
        run("typo")


@pytest.mark.parametrize("named", [False, True])
def test_the_lesson_s_figure_names_mistakes_only_when_asked(runs, named):
    _, sentence = draw_shown_curves(runs | kept_shown(), {"frequencies": FREQUENCIES}, named)
    assert all((SHOWN[name] in sentence) == named for name in SHOWN)


def test_a_run_is_drawn_among_the_right_ones(runs):
    middle, spread = band(runs)
    assert middle.shape == spread.shape == (20,)
    _, sentence = draw_in_band(runs, [3.0] * STEPS, {"frequencies": FREQUENCIES})
    assert f"your run ends at 3.00, the five others at {middle[-1]:.2f}" in sentence


@pytest.mark.parametrize("name", MISTAKES | SHOWN)
def test_the_band_finds_all_mistakes_that_a_curve_shows(runs, name):
    for curve in (runs | kept_shown())[name]:
        losses = [loss for loss in curve["training"] for _ in range(20)]
        assert (first_step_outside(runs, losses) is None) == (name in ("none", "bfloat16 weights"))
