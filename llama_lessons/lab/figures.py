"""Figures in one style, each with a sentence that says in words what it shows."""

import base64
import html
import io
from math import cos, sin
from typing import Any

import matplotlib as mpl
from IPython.display import Markdown, display
from matplotlib.figure import Figure

__all__ = ["COLOURS", "clock", "figure_markup", "show", "subplots"]

# Okabe and Ito's palette (2008): told apart with any kind of colour vision, and in print by lightness.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "pink": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#E69F00",
    "grey": "#6E6E6E",
}
STYLE = {
    "axes.prop_cycle": mpl.cycler(color=list(COLOURS.values())),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.size": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
# For the whole process: titles and legends, which lessons add later, follow it too.
mpl.rcParams.update(STYLE)


def subplots(rows: int = 1, columns: int = 1, width: float = 7.5, height: float = 3.2, **more: Any) -> tuple:
    """A new figure in the course's style, and its axes.

    Unlike pyplot's, it is no global state: nothing is shown twice, and nothing has to be closed.

    Args:
        rows: rows of axes.
        columns: columns of axes.
        width: of the figure in inches.
        height: of the figure in inches.
        more: further arguments of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **more)


def show(figure: Figure, sentence: str) -> None:
    """Display `figure`, and below it `sentence`, which is its alternative text as well."""
    png = _png(figure)
    display({"image/png": png, "text/plain": sentence}, metadata={"image/png": {"alt": sentence}}, raw=True)
    display(Markdown(f"*{sentence}*"))


def figure_markup(figure: Figure, sentence: str) -> str:
    """`figure` as HTML for a widget, its sentence as alternative text and as a caption that is read out on change."""
    source = base64.b64encode(_png(figure)).decode()
    text = html.escape(sentence, quote=True)
    return (
        f'<figure style="margin: 0"><img src="data:image/png;base64,{source}" alt="{text}" style="max-width: 100%">'
        f'<figcaption aria-live="polite" style="font-style: italic">{text}</figcaption></figure>'
    )


def clock(axes: Any, hands: dict[str, tuple[float, str]], title: str) -> None:
    """Draw a clock face whose hands show angles, as RoPE turns a pair of channels.

    Args:
        axes: where to draw.
        hands: by label, the angle in radians, counted anticlockwise from the right, and a colour.
        title: what the face stands for.
    """
    circle = mpl.patches.Circle((0, 0), 1, fill=False, color=COLOURS["grey"], linewidth=1)
    axes.add_patch(circle)
    for (label, (angle, colour)), style in zip(hands.items(), ("-", "--", ":", "-."), strict=False):
        axes.plot([0, cos(angle)], [0, sin(angle)], style, color=colour, linewidth=2.5, label=label)
        axes.plot(cos(angle), sin(angle), "o", color=colour, markersize=5)
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal")
    axes.set_title(title, fontsize=9, loc="center")
    axes.set_axis_off()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # No version and date in the file: the same figure is the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
