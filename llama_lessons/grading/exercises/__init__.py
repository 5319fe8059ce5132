"""The exercises of each lesson, in the order of the course."""

from . import rope, start_here

__all__ = ["rope", "start_here"]
