"""The locator: which part of a model is the first to differ from a model that is right, by how much, and why."""

from .caching import locate_in_cache
from .locate import locate
from .report import Fault, Report, Step
from .roles import find_modules

__all__ = ["Fault", "Report", "Step", "find_modules", "locate", "locate_in_cache"]
