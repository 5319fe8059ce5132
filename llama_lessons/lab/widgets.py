"""Figures that a learner moves with sliders."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from llama_lessons.lab.figures import figure_markup

__all__ = ["explore"]


def explore(
    draw: Callable[..., tuple[Figure, str]], **sliders: tuple[int, int, int] | tuple[Sequence[Any], Any]
) -> None:
    """Show the figure that `draw` makes, redrawn while its sliders move.

    A cell before it shows the same figure standing still, for GitHub and print. Sliders are moved with the arrow keys
    too, and each new figure's sentence is read out by a screen reader.

    Args:
        draw: takes one keyword argument for each slider; returns a figure and the sentence that says what it shows.
        sliders: by name of the argument, the lowest, the highest and the first value of a whole number; or the values
            to choose from, in order, and the first of them to show.

    Raises:
        ValueError: if a slider's first value is none of its values.
    """
    controls = {name: _slider(name, values) for name, values in sliders.items()}
    picture = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        picture.value = figure_markup(*draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    display(ipywidgets.VBox([*controls.values(), picture]))


def _slider(name: str, values: tuple[int, int, int] | tuple[Sequence[Any], Any]) -> ipywidgets.Widget:
    *allowed, first = values
    look = {
        "value": first,
        "description": name.replace("_", " "),
        "style": {"description_width": "9em"},
        "layout": {"width": "min(95%, 34em)"},
    }
    if len(allowed) == 1:
        (options,) = allowed
        if first not in options:
            raise ValueError(f"{name} begins at {first!r}, which is none of {', '.join(map(repr, options))}")
        return ipywidgets.SelectionSlider(options=options, **look)
    low, high = allowed
    if not low <= first <= high:
        raise ValueError(f"{name} begins at {first}, which is not between {low} and {high}")
    return ipywidgets.IntSlider(min=low, max=high, **look)
