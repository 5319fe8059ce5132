"""The picture of what the locator has found."""

import pytest
from matplotlib.figure import Figure

from llama_lessons.grading.locator import Fault, Report, Step
from llama_lessons.lab import located

RIGHT = tuple(Step(role, 0.0, 1e-7, 1e-6) for role in ("embedding", "blocks.0.attention_norm", "blocks.0", "norm"))


@pytest.fixture
def shown(monkeypatch) -> list[tuple[Figure, str]]:
    seen: list[tuple[Figure, str]] = []
    monkeypatch.setattr(located, "show", lambda *what: seen.append(what))
    return seen


def test_the_first_fault_is_marked_and_said(shown):
    steps = (*RIGHT[:2], Step("blocks.0", 0.0, 0.5, 0.5), RIGHT[3])
    located.show_located(Report(steps, 2e-5, (Fault("blocks.0", "returned", 0.5),)))
    ((figure, sentence),) = shown
    assert (
        sentence
        == "The first part that differs is blocks.0, off by 5.0e-01 of its size; the 2 parts before it lie below 2e-05."
    )
    (axes,) = figure.axes
    (mark,) = [line for line in axes.lines if line.get_marker() == "X"]
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([2], [0.5])


def test_where_nothing_differs_nothing_is_marked(shown):
    located.show_located(Report(RIGHT, 2e-5))
    ((figure, sentence),) = shown
    assert sentence == "All 4 parts lie below 2e-05."
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "X"]


def test_a_part_that_is_not_called_is_drawn_too(shown):
    inf = float("inf")
    located.show_located(Report((*RIGHT, Step("head", inf, inf, inf)), 2e-5, (Fault("head", "called", inf),)))
    assert "head, not as it should be" in shown[0][1]
