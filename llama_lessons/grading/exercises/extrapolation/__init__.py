"""Exercises of lesson 04, in the order of its notebook."""

# isort: off
from .alibi_slopes import alibi_slopes
from .alibi_bias import alibi_bias
from .ntk_theta import ntk_theta
from .yarn_ramp import yarn_ramp
from .yarn_attention_factor import yarn_attention_factor
from .llama3_frequencies import llama3_frequencies
from .rotate_interpolated import rotate_interpolated
from .questions import what_extrapolates, what_leaks, why_worse_at_home
# isort: on

__all__ = [
    "alibi_bias",
    "alibi_slopes",
    "llama3_frequencies",
    "ntk_theta",
    "rotate_interpolated",
    "what_extrapolates",
    "what_leaks",
    "why_worse_at_home",
    "yarn_attention_factor",
    "yarn_ramp",
]
