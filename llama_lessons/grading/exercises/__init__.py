"""The exercises of each lesson, with a file for each exercise."""

from . import attention, extrapolation, initialization, learned_positions, norms, rope, sinusoidal_positions, start_here

__all__ = [
    "attention",
    "extrapolation",
    "initialization",
    "learned_positions",
    "norms",
    "rope",
    "sinusoidal_positions",
    "start_here",
]
