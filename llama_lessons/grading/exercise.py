"""What an exercise is: what it asks for, its properties, the mistakes that people make in it, and hints."""

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from .catalogue import Catalogue, Function, Misconception

if TYPE_CHECKING:
    from .verdict import Mistake

__all__ = ["REGISTRY", "Exercise", "Misconception", "Property", "catalogued", "find_exercise", "lessons"]


@dataclass(frozen=True)
class Property:
    """One named test: `test(answer)` calls the learner's function and raises Mismatch where it is wrong."""

    name: str
    test: Function


@dataclass
class Exercise(Catalogue):
    """One graded function, or class.

    Properties and misconceptions are added with the methods below, so that an exercise reads from top to bottom as a
    list of what is asked and of what goes wrong.

    Args:
        reference: a right answer, which bears the exercise's name, written as plainly as a learner would. Most
            misconceptions are this one with a change; it tells where they show, and never what is expected.
        points: full points.
        minutes: how long a learner may take.
        cases: makes the argument tuples on which an answer is compared with each misconception.
        returns: the type that an answer returns, or a tuple of types for a tuple.
        hints: from a nudge to nearly there; never the answer.
        using: where the answer is a class, or has to be tidied: makes of it the function that properties and cases
            call. It may raise only inside that function.
        reason: of a question: why the right choice is right.
        seconds: how long an answer may compute.
        diagnose: finds the mistake, in place of a catalogue: where the answer is a whole model. It takes what
            properties call.
        is_question: whether the answer is the letter of a choice; made by `question`.
        name: where it is not the reference's own.
        lesson: such as "03_rope"; given where all exercises are listed.
    """

    _: KW_ONLY
    points: int
    minutes: int
    cases: Callable[[], list[tuple]]
    returns: Any
    hints: tuple[str, ...]
    using: Callable[[Any], Function] | None = None
    reason: str = ""
    seconds: float = 10.0
    diagnose: Callable[[Function], "Mistake | None"] | None = None
    is_question: bool = False
    name: str = ""
    lesson: str = ""
    properties: list[Property] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.name or self.reference.__name__
        self.parameters = tuple(inspect.signature(self.reference).parameters)
        if self.name in REGISTRY:
            raise ValueError(f"two exercises are called {self.name!r}")
        REGISTRY[self.name] = self

    def called(self, answer: Any) -> Function:
        """The function that properties and cases call: the answer itself, or what `using` makes of it."""
        return self.using(answer) if self.using else answer

    def property(self, name: str) -> Callable[[Function], Function]:
        """Add the decorated function as the property `name`."""

        def add(test: Function) -> Function:
            self.properties.append(Property(name, test))
            return test

        return add


REGISTRY: dict[str, Exercise] = {}


def find_exercise(name: str) -> Exercise | None:
    """The exercise called `name`, or None."""
    return REGISTRY.get(name)


def catalogued() -> dict[str, Exercise]:
    """The exercises whose mistakes stand in a catalogue, by name: all but those that find them by themselves."""
    return {name: exercise for name, exercise in REGISTRY.items() if not exercise.diagnose}


def lessons() -> dict[str, list[Exercise]]:
    """Exercises by lesson, both in the order of the course."""
    by_lesson: dict[str, list[Exercise]] = {}
    for exercise in REGISTRY.values():
        by_lesson.setdefault(exercise.lesson, []).append(exercise)
    return dict(sorted(by_lesson.items()))
