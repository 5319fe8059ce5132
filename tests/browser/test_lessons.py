"""A learner opens a lesson, runs it, and moves its sliders."""

from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# What a picture shows, read in one go, since a new one takes its place at any time.
VIEW = """figure => {
    const [picture, caption] = [figure.querySelector('img'), figure.querySelector('figcaption')];
    return {source: picture.src, alt: picture.alt, width: picture.naturalWidth, caption: caption.textContent};
}"""


@pytest.mark.parametrize(
    ("lesson", "widget", "sliders"),
    [
        ("00_start_here", "explore(draw_order", {"strength percent": lambda value: f"strength {value / 100:.1f}"}),
        (
            "03_rope",
            "explore(draw_clocks",
            {"position": lambda value: f"position {value}", "pair": lambda value: f"pair {value}"},
        ),
    ],
    ids=["00_start_here", "03_rope"],
)
def test_a_lesson_runs_and_its_sliders_move_the_picture(
    open_notebook, lesson: str, widget: str, sliders: dict[str, Callable[[int], str]]
) -> None:
    notebook = open_notebook(f"notebooks/{lesson}.ipynb")
    notebook.page.get_by_text("# Setup: finds the course.").first.wait_for()
    assert not notebook.page.get_by_text("REPOSITORY = os.environ").is_visible(), "the setup cell is folded"
    notebook.run_all()
    assert notebook.errors() == []

    cell = notebook.cell(widget)
    cell.scroll_into_view_if_needed()
    figure = cell.locator("figure")
    for name, words in sliders.items():
        slider = cell.locator(".widget-slider", has_text=name)
        handle, track = slider.locator(".noUi-handle"), slider.locator(".noUi-target").bounding_box()

        def by_key(handle=handle) -> None:
            handle.focus()
            notebook.page.keyboard.press("ArrowRight")

        def by_mouse(handle=handle, track=track) -> None:
            handle.hover()
            notebook.page.mouse.down()
            notebook.page.mouse.move(track["x"] + 0.8 * track["width"], track["y"] + track["height"] / 2)
            notebook.page.mouse.up()

        for move in (by_key, by_mouse):
            value, before = slider.locator(".widget-readout").inner_text(), figure.evaluate(VIEW)
            assert words(int(value)) in before["caption"]
            move()
            moved = slider.locator(".widget-readout").inner_text()
            assert moved != value
            expected = words(int(moved))
            notebook.wait_until(lambda old=before, new=expected: _follows(figure.evaluate(VIEW), old, new))


def _follows(view: dict, before: dict, words: str) -> bool:
    """Whether another picture has come, with a sentence that holds these words and is the alternative text too."""
    if view["source"] == before["source"] or view["caption"] == before["caption"] or words not in view["caption"]:
        return False
    assert view["alt"] == view["caption"]
    return view["width"] > 300  # 0 until the picture is decoded
