"""The questions of lesson 04; their choices stand in the notebook."""

from ...question import question
from .common import LESSON

__all__ = ["what_extrapolates", "what_leaks", "why_worse_at_home"]

why_worse_at_home = question(
    name="why_worse_at_home",
    lesson=LESSON,
    right="c",
    wrong={
        "a": "At each length both lines read the same text; only the frequencies differ.",
        "b": "Position interpolation rounds nothing: frequencies are divided, and positions stay whole. (That was the "
        "bug of exercise 7.)",
        "d": "Turning a vector keeps its length, at whatever speed it is turned. Position interpolation has no "
        "attention factor either.",
    },
    hint="Within its trained length the model has seen every angle of the slow pairs. Which pairs does position "
    "interpolation slow down as well, and what do they tell apart?",
)

what_extrapolates = question(
    name="what_extrapolates",
    lesson=LESSON,
    right="b",
    wrong={
        "a": "Each distance has a score, that is true, but the distances beyond the trained length come with angles of "
        "the slow pairs that no weight was ever trained on. The lesson's measurement shows what becomes of the "
        "reading.",
        "c": "The rotation is computed as exactly at position 1,000,000 as at 0 (lesson 03, section 6), and the "
        "reading fails all the same.",
        "d": "There is no table that ends: angles are computed for any position. Nothing raises an error, and that is "
        "the trouble.",
    },
    hint="Look at the picture of angles seen and angles met later. Which hands reach new ones, and does anything warn "
    "you?",
)

what_leaks = question(
    name="what_leaks",
    lesson=LESSON,
    right="a",
    wrong={
        "b": "Sines, cosines, learned rows and rotations depend on the position alone, and not on which tokens stand "
        "at other positions. They carry nothing from one token to another.",
        "c": "Dynamic scaling knows how long the text is, not what stands in it: exchanging the last token for another "
        "one leaves the length as it was.",
        "d": "Rounding is not so selective. In the lesson, earlier scores moved by exactly 0 when the mask was there.",
    },
    hint="In the lesson's measurement, which single part made the difference between exactly 0 and a large change?",
)
