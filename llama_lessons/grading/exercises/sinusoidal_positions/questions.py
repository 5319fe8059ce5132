"""Quick questions of lesson 02."""

from ...question import question

question(
    name="why_sine_and_cosine",
    right="c",
    reasons={
        "a": "Even and odd are the channels, not the positions: every position has sines and cosines.",
        "b": "A cosine repeats after 2 pi, as a sine does. It is a sine that started a quarter of a turn earlier.",
        "c": "A sine alone has the same value on its way up and on its way down, and the cosine tells the two apart: "
        "together they are a point on a circle. To move that point on takes one rotation, which is the same at every "
        "position. No such step leads from one sine to the next.",
        "d": "They are not added up, and sin(a) + cos(a) is not sin(2a): at a = 0 the one is 1 and the other 0.",
    },
    hint="Section 4: which two positions could the sine not tell apart, and what could it not say about the next step?",
)

question(
    name="what_dot_products_know",
    right="a",
    reasons={
        "a": "The dot product of rows m and n is the sum of cos((m - n) f) over the pairs. It knows the distance "
        "alone, and neither position; and as a cosine is the same for m - n and n - m, the direction is lost.",
        "b": "Look again: the curve falls in waves, and here and there a row further away has the larger dot product.",
        "c": "The curve is the same on both sides of 0, since cos((m - n) f) is the same for either sign of m - n.",
        "d": "The three curves, to rows 100, 250 and 500, lie on each other. Nothing fades along the text.",
    },
    hint="Compare the left panel's two sides, then its three curves, then follow one curve outwards.",
)

question(
    name="what_long_texts_bring",
    right="d",
    reasons={
        "a": "Every position has its encoding, but the model never met the later ones: in section 12 its skill is gone "
        "beyond the trained length.",
        "b": "Nothing is raised: that is the learned table. A computed encoding has no last row.",
        "c": "The fastest channel has the same root mean square at 0 and at 1,000,000. The later encodings are as "
        "strong as the first; what is new is that the model has never met them.",
        "d": "An encoding can be computed for any position, so nothing is raised. But the weights were trained on the "
        "first 32 encodings alone: in the slow pairs the later ones have values that no training text had, and nothing "
        "made the model right there.",
    },
    hint="Section 12: what happens beyond position 31? Then section 10: what is the same far out, and what is new?",
)
