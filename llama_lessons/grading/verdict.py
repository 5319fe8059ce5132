"""What a check found, as data: cards, terminal text and `make grade` are views of it."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Mistake", "Result", "Verdict"]


@dataclass(frozen=True)
class Result:
    """How one property went: `message` says what was wrong, `trace` is the learner's own traceback."""

    name: str
    passed: bool
    message: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Mistake:
    """The misconception that an answer behaves like.

    It is `sure` if the answer behaves like it in every case, also where the misconception is right; if not, the answer
    has other mistakes besides. Of a bug hunt it may be `given`: the code that was to be mended.
    """

    name: str
    diagnosis: str
    sure: bool = True
    given: bool = False


@dataclass(frozen=True)
class Verdict:
    """How an answer did in an exercise.

    Args:
        exercise: its name.
        lesson: such as "03_rope".
        full: points of a right answer.
        results: of each property, in order; none if the answer could not be run.
        mistake: the misconception that was seen.
        unsolved: whether the answer is still the stub.
        problem: why the answer cannot be checked.
        printed: what it printed, up to the first failure.
        reason: of a question answered rightly: why that choice is right.
        seconds: how long it took.
    """

    exercise: str
    lesson: str
    full: int
    results: tuple[Result, ...] = ()
    mistake: Mistake | None = None
    unsolved: bool = False
    problem: str = ""
    printed: str = ""
    reason: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.passed for result in self.results)

    @property
    def first_failure(self) -> Result | None:
        return next((result for result in self.results if not result.passed), None)

    @property
    def points(self) -> int:
        """Full points only for all properties; else their share, rounded down; none for what was given."""
        if self.passed:
            return self.full
        if self.unsolved or (self.mistake and self.mistake.given):
            return 0
        share = sum(result.passed for result in self.results) / max(len(self.results), 1)
        return min(int(share * self.full), self.full - 1)

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold, points included."""
        return asdict(self) | {"points": self.points, "passed": self.passed}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Verdict":
        """A verdict from what `to_json` gave.

        Raises:
            ValueError, TypeError, KeyError: if it is something else.
        """
        fields = {name: value for name, value in data.items() if name not in ("points", "passed")}
        fields["results"] = tuple(Result(**result) for result in data["results"])
        fields["mistake"] = Mistake(**data["mistake"]) if data["mistake"] else None
        return cls(**fields)
