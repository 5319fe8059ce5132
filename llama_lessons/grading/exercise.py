"""What an exercise is: what it asks for, its properties, the mistakes that people make in it, and hints."""

import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .verdict import Mistake

__all__ = ["REGISTRY", "Exercise", "Misconception", "Property", "find_exercise", "lessons"]

Function = Callable[..., Any]


@dataclass(frozen=True)
class Property:
    """One named test: `test(answer)` calls the learner's function and raises Mismatch where it is wrong."""

    name: str
    test: Function


@dataclass(frozen=True)
class Misconception:
    """A wrong implementation that people write, with the sentences that tell what was misunderstood.

    `make` gives the wrong function, anew each time, so that none remembers what it was given before. A bug hunt begins
    with a misconception, which is `given` and earns no points.
    """

    name: str
    diagnosis: str
    make: Callable[[], Function]
    given: bool = False


@dataclass
class Exercise:
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

    reference: Function
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
    misconceptions: list[Misconception] = field(default_factory=list)

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

    def slips(self, catalogue: str, *, given: bool = False) -> None:
        """Add misconceptions that are the reference with one change.

        Args:
            catalogue: one after another, `name: old -> new`, and indented below it the diagnosis, which speaks to
                whoever made the change. The text `old` stands in the reference exactly once.
            given: whether a bug hunt begins with it.
        """
        for entry in re.split(r"\n+(?=\S)", inspect.cleandoc(catalogue)):
            head, _, diagnosis = entry.partition("\n")
            name, _, change = head.partition(": ")
            old, _, new = change.partition(" -> ")
            self.add(name, diagnosis, partial(self.changed, old, new), given=given)

    def misconception(self, wrong: Function, *, given: bool = False) -> Function:
        """Add the decorated function or class: its name is the misconception's, its docstring the diagnosis."""
        self.add(wrong.__name__.replace("_", " "), wrong.__doc__, lambda: wrong, given=given)
        return wrong

    def given(self, wrong: Function) -> Function:
        """Add the decorated function or class as the misconception that a bug hunt begins with."""
        return self.misconception(wrong, given=True)

    def add(self, name: str, diagnosis: str, make: Callable[[], Function], *, given: bool = False) -> None:
        """Add a misconception whose wrong function is made when it is wanted."""
        self.misconceptions.append(Misconception(name, " ".join(diagnosis.split()), make, given))

    def changed(self, old: str, new: str) -> Function:
        """The reference with one change, in a namespace of its own: what it keeps in globals() is kept for it alone.

        Raises:
            ValueError: if `old` does not stand in the reference exactly once.
        """
        source, line = self._source
        if source.count(old) != 1 or old == new:
            raise ValueError(f"{self.name}: {old!r} stands {source.count(old)} times in the reference, not once")
        names, file = dict(inspect.getmodule(self.reference).__dict__), inspect.getsourcefile(self.reference)
        # The empty lines let a traceback show the line that was changed.
        exec(compile("\n" * (line - 1) + source.replace(old, new), file, "exec"), names)
        return names[self.reference.__name__]

    @cached_property
    def _source(self) -> tuple[str, int]:
        lines, first = inspect.getsourcelines(self.reference)
        return textwrap.dedent("".join(lines)), first


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
