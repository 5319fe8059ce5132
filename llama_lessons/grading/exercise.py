"""What an exercise is: its properties, its misconceptions, other right answers, and hints."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["REGISTRY", "Exercise", "Misconception", "Property", "find_exercise", "lessons"]

Function = Callable[..., Any]


@dataclass(frozen=True)
class Property:
    """One named test: `test(answer)` calls the learner's function and raises Mismatch where it is wrong."""

    name: str
    test: Function


@dataclass(frozen=True)
class Misconception:
    """A wrong implementation that people write, with the sentence that tells what was misunderstood.

    A bug hunt begins with one, which is `given` and earns no points.
    """

    name: str
    diagnosis: str
    function: Function
    given: bool = False


@dataclass(kw_only=True)
class Exercise:
    """One graded function, or class.

    Properties, misconceptions and alternatives are added with the decorators of the same names, so that an
    exercise reads from top to bottom as a list of what is asked and of what goes wrong.

    Args:
        name: the function's or class's name, by which `check` finds its exercise.
        lesson: name of the lesson, such as "03_rope".
        points: full points.
        minutes: how long a learner may take.
        parameters: names of the parameters, in order; of a class those of its constructor.
        reference: a right implementation; used to tell where a misconception can be seen, never as what is expected.
        cases: makes the argument tuples on which an answer is compared with each misconception.
        hints: from a nudge to nearly there; never the answer.
        returns: the type that an answer returns, or a tuple of types for a tuple.
        using: where the answer is a class, or a letter to be tidied: makes of it the function that properties and
            cases call. It may raise only inside that function.
        is_question: whether the answer is the letter of a choice; made by `question`.
    """

    name: str
    lesson: str
    points: int
    minutes: int
    parameters: tuple[str, ...]
    reference: Function
    cases: Callable[[], list[tuple]]
    hints: tuple[str, ...]
    returns: Any
    using: Callable[[Any], Function] | None = None
    is_question: bool = False
    properties: list[Property] = field(default_factory=list)
    misconceptions: list[Misconception] = field(default_factory=list)
    alternatives: list[Function] = field(default_factory=list)

    def __post_init__(self) -> None:
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

    def misconception(self, name: str, diagnosis: str, *, given: bool = False) -> Callable[[Function], Function]:
        """Add the decorated function as a wrong answer; `diagnosis` speaks to whoever wrote it, or was given it."""

        def add(function: Function) -> Function:
            self.misconceptions.append(Misconception(name, diagnosis, function, given))
            return function

        return add

    def alternative(self, function: Function) -> Function:
        """Add the decorated function as another right answer."""
        self.alternatives.append(function)
        return function


REGISTRY: dict[str, Exercise] = {}


def find_exercise(name: str) -> Exercise | None:
    """The exercise called `name`, or None."""
    return REGISTRY.get(name)


def lessons() -> dict[str, list[Exercise]]:
    """Exercises by lesson, both in the order of the course."""
    by_lesson: dict[str, list[Exercise]] = {}
    for exercise in REGISTRY.values():
        by_lesson.setdefault(exercise.lesson, []).append(exercise)
    return dict(sorted(by_lesson.items()))
