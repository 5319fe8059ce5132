"""Exercises of lesson 01, in the order of its notebook."""

# isort: off
from . import embedding, probe, gradient, prediction, bug_hunt, questions

__all__ = ["bug_hunt", "embedding", "gradient", "prediction", "probe", "questions"]
