"""Exercises of lesson 01, in the order of its notebook."""

# isort: off
from . import embedding, embedding_mistakes, probe, gradient, prediction, bug_hunt, questions

__all__ = ["bug_hunt", "embedding", "embedding_mistakes", "gradient", "prediction", "probe", "questions"]
