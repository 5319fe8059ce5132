"""Quick questions of lesson 02."""

from ...question import question
from .common import LESSON

__all__ = ["what_dot_products_know", "what_long_texts_bring", "why_sine_and_cosine"]

why_sine_and_cosine = question(
    name="why_sine_and_cosine",
    lesson=LESSON,
    right="c",
    wrong={
        "a": "Even and odd are the channels, not the positions: every position has sines and cosines.",
        "b": "A cosine repeats after 2 pi, as a sine does. It is a sine that started a quarter of a turn earlier.",
        "d": "They are not added up, and sin(a) + cos(a) is not sin(2a): at a = 0 the one is 1 and the other 0.",
    },
    hint="Section 4: which two positions could the sine not tell apart, and what could it not say about the next step?",
)

what_dot_products_know = question(
    name="what_dot_products_know",
    lesson=LESSON,
    right="a",
    wrong={
        "b": "Look again: the curve falls in waves, and here and there a row further away has the larger dot product.",
        "c": "The curve is the same on both sides of 0, since cos((m - n) f) does not mind the sign of m - n.",
        "d": "The three curves, to rows 100, 250 and 500, lie on each other. Nothing fades along the text.",
    },
    hint="Compare the left panel's two sides, then its three curves, then follow one curve outwards.",
)

what_long_texts_bring = question(
    name="what_long_texts_bring",
    lesson=LESSON,
    right="d",
    wrong={
        "a": "Every position has its encoding, but the model never met the later ones: in section 12 its skill is gone "
        "beyond the trained length.",
        "b": "Nothing is raised: that is the learned table. A computed encoding has no last row.",
        "c": "The fastest channel has the same root mean square at 0 and at 1,000,000. What is new is never-met "
        "encodings, not weak ones.",
    },
    hint="Section 12: what happens beyond position 31? Then section 10: what is the same far out, and what is new?",
)
