"""A catalogue of mistakes: right code, and the same with one change each, by name and diagnosis."""

import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from typing import Any

__all__ = ["Catalogue", "Function", "Misconception"]

Function = Callable[..., Any]


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
class Catalogue:
    """Right code, and the mistakes that people make in it.

    Args:
        reference: the right code, written as plainly as a learner would; most misconceptions are this with a change.
    """

    reference: Function
    _: KW_ONLY
    misconceptions: list[Misconception] = field(default_factory=list)

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
        name = self.reference.__name__
        if source.count(old) != 1 or old == new:
            raise ValueError(f"{name}: {old!r} stands {source.count(old)} times in the reference, not once")
        names, file = dict(inspect.getmodule(self.reference).__dict__), inspect.getsourcefile(self.reference)
        # The empty lines let a traceback show the line that was changed.
        exec(compile("\n" * (line - 1) + source.replace(old, new), file, "exec"), names)
        return names[name]

    @cached_property
    def _source(self) -> tuple[str, int]:
        lines, first = inspect.getsourcelines(self.reference)
        return textwrap.dedent("".join(lines)), first
