"""Equivalent mutants of lesson 06."""

__all__ = ["EQUIVALENT"]

EQUIVALENT: dict[tuple[str, str], str] = {}
