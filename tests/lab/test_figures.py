"""Figures carry their words, look alike, and are the same bytes each time; widgets redraw what they show."""

import re

import pytest
from ipywidgets import HTML, IntSlider, SelectionSlider, VBox

from llama_lessons.lab import figures, widgets
from llama_lessons.lab.figures import COLOURS, clock, figure_markup, show, subplots
from llama_lessons.lab.widgets import explore


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list:
    """What is displayed, each as (object, metadata)."""
    seen: list = []
    for module in (figures, widgets):
        monkeypatch.setattr(module, "display", lambda thing, metadata=None, raw=False: seen.append((thing, metadata)))
    return seen


def line(height: float = 1.0):
    figure, ax = subplots()
    ax.plot([0, height])
    return figure, f'A line up to "{height}".'


def test_show_gives_the_sentence_as_alternative_text_and_as_caption(shown: list) -> None:
    show(*line())
    (bundle, metadata), (caption, _) = shown
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert metadata == {"image/png": {"alt": 'A line up to "1.0".'}}
    assert bundle["text/plain"] == 'A line up to "1.0".'
    assert caption.data == '*A line up to "1.0".*'


def test_the_same_figure_is_the_same_bytes() -> None:
    assert figure_markup(*line()) == figure_markup(*line())
    assert figure_markup(*line()) != figure_markup(*line(2.0))


def test_markup_escapes_the_sentence_and_announces_changes() -> None:
    markup = figure_markup(line()[0], 'a < b & "c"')
    assert 'alt="a &lt; b &amp; &quot;c&quot;"' in markup
    assert 'aria-live="polite"' in markup


def contrast_with_white(colour: str) -> float:
    """WCAG 2.1 contrast ratio."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_the_line_colours_stand_out_from_white() -> None:
    for name in ("blue", "orange", "green", "grey"):
        assert contrast_with_white(COLOURS[name]) >= 3, name


def test_a_clock_shows_each_hand_at_its_angle() -> None:
    _, ax = subplots()
    clock(ax, {"query": (0.0, COLOURS["blue"]), "key": (3.14159265 / 2, COLOURS["orange"])}, "a face")
    tips = [line.get_xydata()[-1].round(6).tolist() for line in ax.lines if line.get_label() in ("query", "key")]
    assert tips == [[1.0, 0.0], [0.0, 1.0]]
    # Told apart without colour too.
    assert len({line.get_linestyle() for line in ax.lines if line.get_label() in ("query", "key")}) == 2
    assert ax.get_title() == "a face"


def test_explore_redraws_when_a_slider_moves(shown: list) -> None:
    explore(lambda height, width: line(height + width), height=(0, 9, 1), width=(1, 3, 2))
    (box, _), *rest = shown
    assert not rest
    assert isinstance(box, VBox)
    height, width, picture = box.children
    assert (type(height), type(width), type(picture)) == (IntSlider, IntSlider, HTML)
    assert [(s.description, s.min, s.max, s.value) for s in (height, width)] == [
        ("height", 0, 9, 1),
        ("width", 1, 3, 2),
    ]
    assert "A line up to &quot;3&quot;." in picture.value
    before = re.search(r"base64,([^\"]+)", picture.value)[1]
    height.value = 7
    assert "A line up to &quot;9&quot;." in picture.value
    assert re.search(r"base64,([^\"]+)", picture.value)[1] != before


def test_explore_offers_values_to_choose_from(shown: list) -> None:
    explore(
        lambda heads, norm: line(heads + len(norm)), heads=([8, 4, 1], 4), norm=(["RMSNorm", "LayerNorm"], "RMSNorm")
    )
    ((box, _),) = shown
    heads, norm, picture = box.children
    assert (type(heads), type(norm)) == (SelectionSlider, SelectionSlider)
    assert (heads.options, heads.value, norm.value) == ((8, 4, 1), 4, "RMSNorm")
    assert "A line up to &quot;11&quot;." in picture.value
    norm.index = 1
    heads.index = 2
    assert "A line up to &quot;10&quot;." in picture.value


def test_explore_refuses_a_first_value_that_is_no_choice(shown: list) -> None:
    with pytest.raises(ValueError, match="heads begins at 3, which is none of 8, 4, 1"):
        explore(line, heads=([8, 4, 1], 3))


def test_explore_refuses_a_first_value_outside(shown: list) -> None:
    with pytest.raises(ValueError, match="height begins at 10, which is not between 0 and 9"):
        explore(line, height=(0, 9, 10))
