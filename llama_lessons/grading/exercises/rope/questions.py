"""Quick questions of lesson 03."""

from ...question import question
from .common import LESSON

__all__ = ["what_is_rope", "what_keeps_scores", "what_slow_hands_do"]

what_is_rope = question(
    name="what_is_rope",
    lesson=LESSON,
    right="d",
    wrong={
        "a": "Nothing is learned: the angle is position times a fixed frequency. The rotary part of a Llama has no "
        "parameter.",
        "b": "Adding is what lessons 01 and 02 did, and section 1 shows what it does to a score: three of the four "
        "terms know an absolute place. RoPE multiplies by a rotation.",
        "c": "Values are passed on as they are, and the tokens' stream is not touched: each layer turns its queries "
        "and keys, just before their dot product.",
    },
    hint="Say it to yourself in one sentence: what is turned, by what angle, where in the model?",
)

what_keeps_scores = question(
    name="what_keeps_scores",
    lesson=LESSON,
    right="b",
    wrong={
        "a": "The distances are doubled too, so each pair of tokens meets at twice the angle. Scores know distances.",
        "c": "Then a score is q R(n) k, with the key's own place n in it: the distance is gone, an absolute place is "
        "left.",
        "d": "Every distance changes its sign. A key seven places back is then read as one seven places ahead: "
        "section 9 calls it turned backwards, and it ruins the model.",
    },
    hint="The proof of section 3 leaves n - m, the key's place less the query's. Which change leaves n - m as it was?",
)

what_slow_hands_do = question(
    name="what_slow_hands_do",
    lesson=LESSON,
    right="c",
    wrong={
        "a": "The experiment was made on 1024 tokens, where they hardly move. About a text of 100,000 it says nothing.",
        "b": "Which hands are slow follows from theta and head_dim, not from training: frequencies are not learned.",
        "d": "Turned the other way round: a fast hand repeats after some six positions, so it is near tokens that it "
        "tells apart. It is the slow ones that could tell far ones apart.",
    },
    hint="By how much of a turn does the fastest of the slow four move in 1024 tokens? The cell of section 11 says it.",
)
