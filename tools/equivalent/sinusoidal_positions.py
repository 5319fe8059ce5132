"""Equivalent mutants of lesson 02."""

__all__ = ["EQUIVALENT"]

EQUIVALENT: dict[tuple[str, str], str] = {}
