"""What the locator has found, as data and in words."""

from dataclasses import dataclass

import torch

from ..verdict import Mistake
from .roles import place_of

__all__ = ["Fault", "Report", "Step"]


@dataclass(frozen=True)
class Step:
    """How one part compares with its counterpart, as shares of the size of what is wanted, at the worst token.

    Args:
        role: which part.
        given: how far off what it is given is, while all other parts return what is wanted.
        returned: how far off what it returns is, if it is given what is wanted.
        along: how far off what it returns is as the model runs by itself, with all its mistakes.
    """

    role: str
    given: float
    returned: float
    along: float


@dataclass(frozen=True)
class Fault:
    """What is wrong with one part: it is not "called" once, or what it is "given" or what it "returned" is wrong."""

    role: str
    side: str
    off: float

    @property
    def place(self) -> str:
        """Where the fault lies: in the part itself, or in how a block, or the stack of blocks, connects its parts."""
        if self.side == "returned":
            return self.role
        return place_of(self.role)

    @property
    def said(self) -> str:
        """In a sentence."""
        if self.side == "called":
            return "It is not called once."
        if self.side == "given":
            return f"What it is given is {_far(self.off)}, though all parts before it return the right thing."
        if self.role.count(".") == 1:
            return f"All parts before it return the right thing, but what it makes of them is {_far(self.off)}."
        if self.role == "logits":
            return f"All parts before it return the right thing, but the model's result is {_far(self.off)}."
        return f"Given the right input, it returns what is {_far(self.off)}."


@dataclass(frozen=True)
class Report:
    """What `locate` found; as text it is said in a few lines.

    Args:
        steps: all parts, in the order in which a Llama calls them, and the logits.
        tolerance: what counts as the same.
        faults: what is wrong, in the same order.
        mistake: what the first fault looks like, if that is known; sure if it explains all that is wrong.
    """

    steps: tuple[Step, ...]
    tolerance: float
    faults: tuple[Fault, ...] = ()
    mistake: Mistake | None = None

    @property
    def first(self) -> str:
        """The role of the first part that is wrong; empty if none is."""
        return self.faults[0].role if self.faults else ""

    def __str__(self) -> str:
        if not self.faults:
            return f"All {len(self.steps)} parts agree to {self.tolerance:.0e} of their size."
        first = self.faults[0]
        before = [step.role for step in self.steps].index(first.role)
        lines = [f"The first part that differs is {first.role}. {first.said}"]
        if before:
            lines.append(f"The {before} parts before it agree to {self.tolerance:.0e} of their size.")
        kind = first.role.split(".")[2:]
        others = sum(fault.role.split(".")[2:] == kind and "." in fault.role for fault in self.faults[1:])
        if others and "." in first.role:
            lines.append(f"In {others} other block{'s' * (others > 1)} this part differs too.")
        if self.mistake:
            how = "It looks like this" if self.mistake.sure else "One of the mistakes may be"
            lines.append(f"{how} ({self.mistake.name}): {self.mistake.diagnosis}")
        return "\n".join(lines)


def _far(off: float) -> str:
    return "of another shape, or not a number," if off == torch.inf else f"off by {off:.2g} of its size"
