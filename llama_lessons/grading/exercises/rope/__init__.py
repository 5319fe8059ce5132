"""Exercises of lesson 03, in the order of its notebook."""

# isort: off
from . import rope_frequencies
from . import apply_rope
from . import apply_rope_interleaved
from . import to_interleaved
from . import rotate_new_tokens
from . import questions
# isort: on

__all__ = [
    "apply_rope",
    "apply_rope_interleaved",
    "questions",
    "rope_frequencies",
    "rotate_new_tokens",
    "to_interleaved",
]
