"""A learner opens a lesson, runs what its widgets need, and moves their sliders. nbval runs the rest."""

import ast
import re
import symtable
from collections.abc import Callable
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from tools.cells import LESSONS, ROOT, read, write

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# What a picture shows, read in one go, since a new one takes its place at any time.
VIEW = """figure => {
    const [picture, caption] = [figure.querySelector('img'), figure.querySelector('figcaption')];
    return {source: picture.src, alt: picture.alt, width: picture.naturalWidth, caption: caption.textContent};
}"""


Captions = dict[str, Callable[[str], str]]

# By lesson and widget's first words: for each slider what the caption says of the value that it shows.
WIDGETS: dict[str, dict[str, Captions]] = {
    "00_start_here": {
        "explore(draw_order": {"strength percent": lambda value: f"strength {int(value) / 100:.1f}"},
    },
    "01_learned_positions": {
        "explore(draw_rows": {
            "training length": lambda value: f"texts of {value} letters",
            "steps": lambda value: f"after {value} steps",
        },
    },
    "02_sinusoidal_positions": {
        "explore(draw_encoding": {
            "number of pairs": lambda value: f"with {2 * int(value)} channels",
            "position": lambda value: f"at position {value} ",
            "pair": lambda value: f"of pair {value},",
        },
    },
    "03_rope": {
        "explore(draw_clocks": {
            "position": lambda value: f"position {value}",
            "pair": lambda value: f"pair {value}",
        },
    },
    "04_extrapolation": {
        "explore(draw_angles": {
            "length factor": lambda value: f"Length factor {value}",
            "scaling": lambda value: f"scaling: {value}",
        },
    },
    "05_norms": {
        "explore(draw_norms": {
            "scale percent": lambda value: f"times {int(value) / 100:.2f}",
            "shift percent": lambda value: f"plus {int(value) / 100:.2f}",
        },
        "explore(draw_depth": {
            "n layers": lambda value: f"of {value} blocks",
            "std thousandths": lambda value: f"deviation {int(value) / 1000:g}, one draw",
        },
    },
    "06_initialization": {
        "explore(draw_depth": {
            "scheme": lambda value: f"Chosen: {value};",
            "activation": lambda value: f"with {'no activation' if value == 'none' else value}",
            "depth": lambda value: f"after {value} layers",
        },
    },
    "07_attention": {
        "explore(draw_sharing": {"n kv heads": lambda value: f"{value} key/value head"},
    },
    "08_feed_forward": {
        "explore(draw_neuron": {
            "gate weight": lambda value: f"gate weight {value.replace('−', '-')},",
            "up weight": lambda value: f"up weight {value.replace('−', '-')}:",
        },
        "explore(draw_answers": {
            "layer": lambda value: f"of layer {value} over",
            "neuron": lambda value: f"Neuron {value} of",
        },
    },
    "09_llama": {
        "explore(draw_lens": {
            "text": lambda value: f'to follow "{value}"',
            "after block": lambda value: f"After block {value},",
        },
    },
    "10_training": {
        "explore(draw_valley": {
            "rate": lambda value: f"learning rate of {value}",
            "steps": lambda value: f"After {value} steps",
        },
    },
    "11_generation": {
        "explore(draw_choice": {
            "text": lambda value: f"After {value!r} at",
            "temperature": lambda value: f"at temperature {float(value):g} the best",
        },
    },
}


def needed(cells: list[NotebookNode], widgets: Captions) -> list[NotebookNode]:
    """The setup cell, the widgets' cells, and those before them that make, or change in place, what they use."""
    kept: list[NotebookNode] = []
    wanted: set[str] = set()
    for cell in reversed([cell for cell in cells if cell.cell_type == "code"]):
        python = TransformerManager().transform_cell(cell.source)
        names = symtable.symtable(python, "cell", "exec")
        made = {name.get_name() for name in names.get_symbols() if name.is_assigned() or name.is_imported()}
        places = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Subscript | ast.Attribute)]
        changed = {ast.unparse(place.value) for place in places if isinstance(place.ctx, ast.Store)}
        if cell.metadata.get("name") == "setup" or cell.source.startswith(tuple(widgets)) or (made | changed) & wanted:
            kept.append(cell)
            wanted = (wanted - made) | _used(names)
    return kept[::-1]


def _used(names: symtable.SymbolTable) -> set[str]:
    """The names that a cell does not make itself, those in its functions included."""
    own = {name.get_name() for name in names.get_symbols() if name.is_referenced() and not name.is_local()}
    own |= {name.get_name() for name in names.get_symbols() if names.get_type() == "module" and name.is_referenced()}
    return own.union(*(_used(inner) for inner in names.get_children()))


@pytest.mark.parametrize("lesson", WIDGETS)
def test_a_lesson_s_sliders_move_the_picture(open_notebook, lab, lesson: str) -> None:
    path = lab.root / LESSONS / f"{lesson}.ipynb"
    nb = read(path)
    nb.cells = needed(nb.cells, WIDGETS[lesson])
    write(nb, path)
    notebook = open_notebook(f"notebooks/{lesson}.ipynb")
    notebook.page.get_by_text("# @title Setup: run this cell first").first.wait_for()
    assert not notebook.page.get_by_text("import find_spec").is_visible(), "the setup cell is folded"
    notebook.run_all()
    assert notebook.errors() == []
    for widget, sliders in WIDGETS[lesson].items():
        cell = notebook.cell(widget)
        cell.scroll_into_view_if_needed()
        for name, words in sliders.items():
            _move(notebook, cell, name, words)


def _move(notebook: Any, cell: Any, name: str, words: Callable[[str], str]) -> None:
    """Move a slider by key and by mouse, and see each time that the picture and its caption follow."""
    figure = cell.locator("figure")
    slider = cell.locator(".widget-slider", has_text=re.compile(rf"^\s*{name}"))
    handle, track = slider.locator(".noUi-handle"), slider.locator(".noUi-target").bounding_box()

    def by_key() -> None:
        before = slider.locator(".widget-readout").inner_text()
        handle.focus()
        notebook.page.keyboard.press("ArrowRight")
        if slider.locator(".widget-readout").inner_text() == before:  # it stands at its end
            notebook.page.keyboard.press("ArrowLeft")

    def by_mouse() -> None:
        # Away from the end that it is near to, so that it moves in any case.
        share = 0.9 if handle.bounding_box()["x"] < track["x"] + track["width"] / 2 else 0.1
        handle.hover()
        notebook.page.mouse.down()
        notebook.page.mouse.move(track["x"] + share * track["width"], track["y"] + track["height"] / 2)
        notebook.page.mouse.up()

    # A slider is there before its number is.
    notebook.wait_until(lambda: slider.locator(".widget-readout").inner_text().strip())
    for move in (by_key, by_mouse):
        value, before = slider.locator(".widget-readout").inner_text(), figure.evaluate(VIEW)
        assert words(value) in before["caption"]
        move()
        moved = slider.locator(".widget-readout").inner_text()
        assert moved != value
        expected = words(moved)
        notebook.wait_until(lambda old=before, new=expected: _follows(figure.evaluate(VIEW), old, new))


def _follows(view: dict, before: dict, words: str) -> bool:
    """Whether another picture has come, with a sentence that holds these words and is the alternative text too."""
    if view["source"] == before["source"] or view["caption"] == before["caption"] or words not in view["caption"]:
        return False
    assert view["alt"] == view["caption"]
    return view["width"] > 300  # 0 until the picture is decoded


def test_the_answer_to_a_guess_is_hidden_until_its_cell_is_run(open_notebook, lab) -> None:
    """As committed, with its stored outputs."""
    write(read(ROOT / LESSONS / "08_feed_forward.ipynb"), lab.root / LESSONS / "08_feed_forward.ipynb")
    notebook = open_notebook(f"{LESSONS}/08_feed_forward.ipynb")
    cell = notebook.cell("weights = torch.randn(6, 6)")
    cell.scroll_into_view_if_needed()
    answer = cell.get_by_text("two projections are one matrix: True")
    assert not answer.is_visible()
    notebook.run("import math")
    notebook.run("weights = torch.randn(6, 6)")
    answer.wait_for()
