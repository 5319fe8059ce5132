"""Equivalent mutants of lesson 04."""

__all__ = ["EQUIVALENT"]

EQUIVALENT: dict[tuple[str, str], str] = {}
