"""The grader: `check` your function, ask for a `hint`, see your `progress`."""

from . import exercises  # noqa: F401  (fills the registry)
from .api import check, hint, progress
from .report import CheckFailed

__all__ = ["CheckFailed", "check", "hint", "progress"]
