"""Quick questions: an exercise whose answer is the letter of a choice."""

from collections.abc import Callable, Mapping
from functools import partial

from .exercise import Exercise
from .expect import Mismatch

__all__ = ["question"]


def question(*, name: str, lesson: str, right: str, wrong: Mapping[str, str], hint: str) -> Exercise:
    """Make an exercise of a question with choices, whose texts stand in the notebook.

    The answer is a function without parameters that returns a letter: so it is checked, hinted at and counted like
    any other.

    Args:
        name: the function's name.
        lesson: such as "03_rope".
        right: the letter of the right choice.
        wrong: by letter of each other choice, why it is wrong, said to whoever chose it.
        hint: what to think of, or to try.

    Raises:
        ValueError: if right is among the wrong ones, or there are fewer than two wrong ones.
    """
    if right in wrong or len(wrong) < 2:
        raise ValueError(f"{name}: {right!r} is right, and {', '.join(map(repr, wrong))} are not enough wrong choices")
    letters = sorted([right, *wrong])
    exercise = Exercise(
        name=name,
        lesson=lesson,
        points=1,
        minutes=2,
        parameters=(),
        reference=partial(_say, right),
        cases=lambda: [()],
        returns=str,
        using=_letter,
        hints=(hint,),
        is_question=True,
    )

    @exercise.property("the right choice")
    def _(answer: Callable[[], str]) -> None:
        chosen = answer()
        if chosen not in letters:
            raise Mismatch(f'expected one of the letters {", ".join(letters)}, such as "{letters[0]}", got "{chosen}"')
        if chosen != right:
            raise Mismatch(f'"{chosen}" is not the right choice')

    for letter, reason in wrong.items():
        exercise.misconception(f"choice {letter}", reason)(partial(_say, letter))
    return exercise


def _letter(answer: Callable[[], str]) -> Callable[[], str]:
    """The answer with its letter as it stands in the notebook: "B" and "b)" say b."""

    def letter() -> str:
        said = answer()
        return said.strip().removesuffix(")").lower() if isinstance(said, str) else said

    return letter


def _say(letter: str) -> str:
    return letter
