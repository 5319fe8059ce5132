"""Figures that a learner moves with sliders."""

from collections.abc import Callable
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from llama_lessons.lab.figures import figure_markup

__all__ = ["explore"]


def explore(draw: Callable[..., tuple[Figure, str]], **sliders: tuple[int, int, int]) -> None:
    """Show the figure that `draw` makes, redrawn while its sliders move.

    A cell before it shows the same figure standing still, for GitHub and print. Sliders are moved with the arrow keys
    too, and each new figure's sentence is read out by a screen reader.

    Args:
        draw: takes one keyword argument for each slider; returns a figure and the sentence that says what it shows.
        sliders: by name of the argument, the lowest, the highest and the first value.

    Raises:
        ValueError: if a slider's first value is not between its lowest and highest.
    """
    controls = {}
    for name, (low, high, first) in sliders.items():
        if not low <= first <= high:
            raise ValueError(f"{name} begins at {first}, which is not between {low} and {high}")
        controls[name] = ipywidgets.IntSlider(
            value=first,
            min=low,
            max=high,
            description=name.replace("_", " "),
            style={"description_width": "9em"},
            layout={"width": "min(95%, 34em)"},
        )
    picture = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        picture.value = figure_markup(*draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    display(ipywidgets.VBox([*controls.values(), picture]))
