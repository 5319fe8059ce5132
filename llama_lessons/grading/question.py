"""Quick questions: an exercise whose answer is the letter of a choice."""

from collections.abc import Callable, Mapping
from functools import partial

from .exercise import Exercise
from .expect import Mismatch

__all__ = ["question"]


def question(*, name: str, right: str, reasons: Mapping[str, str], hint: str) -> Exercise:
    """Make an exercise of a question with choices, whose texts stand in the notebook.

    The answer is a function without parameters that returns a letter: so it is checked, hinted at and counted like
    any other.

    Args:
        name: the function's name.
        right: the letter of the right choice.
        reasons: by letter of each choice, why it is right or wrong, said to whoever chose it.
        hint: what to think of, or to try.

    Raises:
        ValueError: if right is not among the choices, or there are fewer than three.
    """
    if right not in reasons or len(reasons) < 3:
        raise ValueError(f"{name}: {right!r} is right, and {', '.join(map(repr, reasons))} are not enough choices")
    letters = sorted(reasons)
    exercise = Exercise(
        partial(_say, right),
        name=name,
        points=1,
        minutes=2,
        cases=lambda: [()],
        returns=str,
        using=_letter,
        hints=(hint,),
        reason=reasons[right],
        is_question=True,
    )

    @exercise.property("the right choice")
    def is_the_right_choice(answer: Callable[[], str]) -> None:
        chosen = answer()
        if chosen not in letters:
            raise Mismatch(f'expected one of the letters {", ".join(letters)}, such as "{letters[0]}", got "{chosen}"')
        if chosen != right:
            raise Mismatch(f'"{chosen}" is not the right choice')

    for letter in letters:
        if letter != right:
            exercise.add(f"choice {letter}", reasons[letter], partial(partial, _say, letter))
    return exercise


def _letter(answer: Callable[[], str]) -> Callable[[], str]:
    """The answer with its letter as it stands in the notebook: "B" and "b)" say b."""

    def letter() -> str:
        said = answer()
        return str.__str__(said).strip().removesuffix(")").lower() if isinstance(said, str) else said

    return letter


def _say(letter: str) -> str:
    return letter
