"""Exercise 8: say what is wrong with a training from its curve."""

from collections.abc import Callable
from functools import partial

from ...exercise import Exercise
from ...expect import Mismatch
from ...prediction import number_by_number

# In the order in which the notebook lists them, from 1: what the curve shows, said to whoever names another cause
SHOWS = (
    "both losses go down together, past the frequencies of pairs",
    "the training loss goes to 0, since the answer stands in the input, and the validation loss, which asks for the "
    "next token, becomes worse than that of a model that knows nothing",
    "the training loss stays well above that of a right run, since two tokens ahead less can be known; the validation "
    "loss begins to fall and then rises, since another question is learned",
    "both losses come down to the entropy of single characters and stay there: where targets have nothing to do with "
    "the input, frequencies are all that can be learned",
    "the training loss stays near ln V, since a cross-entropy of probabilities can't come below about ln V - 1, while "
    "the validation loss, with the logits themselves, becomes very large",
    "both losses go down together and end below the frequencies of pairs, only higher than in a right run",
    "the training loss is far below the validation loss from early on, since each padded place is easy to predict "
    "and counts; the validation loss falls all the same",
    "the training loss goes on falling, and the validation loss turns and rises: the text is learned by heart",
    "both losses go down together along a smooth curve, and at the end are still above the frequencies of single "
    "characters or just there, and still falling",
)
RIGHT = {"A": 4, "B": 8, "C": 2, "D": 1, "E": 5, "F": 3, "G": 7, "H": 9}


def name_the_curves() -> tuple[int, int, int, int, int, int, int, int]:
    a = 4
    b = 8
    c = 2
    d = 1
    e = 5
    f = 3
    g = 7
    h = 9
    return a, b, c, d, e, f, g, h


exercise = Exercise(
    name_the_curves,
    points=4,
    minutes=12,
    cases=lambda: [(number,) for number in range(1, len(RIGHT) + 1)],
    returns=float,
    using=number_by_number("name_the_curves", len(RIGHT), digits=0),
    hints=(
        "For each curve: where does the training loss end, compared with the dotted lines? Does the validation loss go "
        "with it, or another way?",
        "A loss near 0 of a text that nobody knows by heart is too good: the answer was in the input. A loss that "
        "stays at a dotted line says what was learned, and what was not.",
        "Four curves have a validation loss that turns and rises. Of their training losses one goes to 0 at once, one "
        "falls slowly past all lines, one stays near ln V, and one stops between frequencies and pairs.",
    ),
)


def expect_cause(number: int, right: int, answer: Callable) -> None:
    if (said := answer(number)) != right:
        raise Mismatch(f"{said:g} is not the cause" if said in range(1, len(SHOWS) + 1) else f"{said:g} is no cause")


for number, (letter, right) in enumerate(RIGHT.items(), 1):
    exercise.property(f"curve {letter}")(partial(expect_cause, number, right))
    for other, shows in enumerate(SHOWS, 1):
        if other != right:
            exercise.slips(f"""
                {letter} named {other}: {letter.lower()} = {right} -> {letter.lower()} = {other}
                    Curve {letter} is another one. In the run that is {other} in the list, {shows}.
            """)
