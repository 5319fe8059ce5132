"""Draw what the locator has found: how far off each part is, alone and as the model runs."""

from math import isfinite

from llama_lessons.grading.locator import Report
from llama_lessons.lab.figures import COLOURS, show, subplots

__all__ = ["show_located"]

LEAST = 1e-8  # what is nearer is drawn as near as this


def show_located(report: Report) -> None:
    """Draw each part's difference on a logarithmic scale, in the order in which a Llama calls them."""
    steps = report.steps
    figure, axes = subplots(height=3.4)
    along = [min(max(step.along, LEAST), 1e3) for step in steps]
    alone = [min(max(step.given, step.returned, LEAST), 1e3) for step in steps]
    axes.semilogy(along, color=COLOURS["grey"], label="as the model runs, mistakes before it included")
    axes.semilogy(alone, "o", color=COLOURS["blue"], markersize=4, label="alone, all other parts being right")
    axes.axhline(report.tolerance, color=COLOURS["green"], linestyle=":", label="what counts as the same")
    title, sentence = "No part differs", f"All {len(steps)} parts lie below {report.tolerance:.0e}."
    if report.first:
        place = [step.role for step in steps].index(report.first)
        axes.plot(place, alone[place], "X", color=COLOURS["orange"], markersize=11, label=f"first: {report.first}")
        title = f"The first part that differs is {report.first}"
        off = report.faults[0].off
        far = f"off by {off:.1e} of its size" if isfinite(off) else "not as it should be"
        sentence = f"{title}, {far}; the {place} parts before it lie below {report.tolerance:.0e}."
    starts = [i for i, step in enumerate(steps) if step.role.endswith(".attention_norm")]
    every = max(1, len(starts) // 8)
    axes.set_xticks(starts[::every], [step.role.split(".")[1] for step in (steps[i] for i in starts[::every])])
    axes.set(title=title, xlabel="parts in the order of their calls, by block", ylabel="difference, share of the size")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    show(figure, sentence)
