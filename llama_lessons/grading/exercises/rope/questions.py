"""Quick questions of lesson 03."""

from ...question import question

what_is_rope = question(
    name="what_is_rope",
    right="d",
    reasons={
        "a": "Nothing is learned: the angle is position times a fixed frequency. The rotary part of a Llama has no "
        "parameter.",
        "b": "Adding is what lessons 01 and 02 did, and section 1 shows what it does to a score: two of the four terms "
        "mix content with an absolute place. RoPE multiplies by a rotation.",
        "c": "The residual stream is not turned, and neither are values: each layer turns its queries and keys, just "
        "before their dot product.",
        "d": "Each pair of channels turns by its own frequency times the position. In the dot product of a query and a "
        "key only the difference of the two angles is left, which is the distance.",
    },
    hint="Say it to yourself in one sentence: what is turned, by what angle, where in the model?",
)

what_keeps_scores = question(
    name="what_keeps_scores",
    right="b",
    reasons={
        "a": "The distances are doubled too, so each pair of tokens meets at twice the angle. Scores know distances.",
        "b": "Query and key are moved alike, so n - m is what it was, and with it the angle between them. No score can "
        "tell where a text begins, not even below 0.",
        "c": "Then a score is q R(n) k, with the key's own place n in it: the distance is gone, an absolute place is "
        "left.",
        "d": "Every distance changes its sign. A key seven places back is then read as one seven places ahead: "
        "section 9 calls it turned backwards, and it ruins the model.",
    },
    hint="The proof of section 3 leaves n - m, the key's place less the query's. Which change leaves n - m as it was?",
)

what_slow_hands_do = question(
    name="what_slow_hands_do",
    right="c",
    reasons={
        "a": "The experiment was made on 1024 tokens, where they hardly move. About a text of 100,000 it says nothing.",
        "b": "Which pairs are slow follows from theta and head_dim, not from training: frequencies are not learned. "
        "And whether the model needs them at longer distances was not tried.",
        "c": "The fastest of the four makes less than a hundredth of a turn in 1024 tokens, so stopping it changes "
        "nothing. The length of the text was not varied, so nothing follows for longer ones.",
        "d": "Turned the other way round: a fast pair repeats after some six positions, so it is near tokens that it "
        "tells apart. It is the slow ones that could tell far ones apart.",
    },
    hint="By how much of a turn does the fastest of the slow four move in 1024 tokens? The cell of section 11 says it.",
)
