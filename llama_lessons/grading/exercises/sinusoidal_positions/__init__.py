"""Exercises of lesson 02, in the order of its notebook."""

# isort: off
from . import sinusoidal_positions
from . import pair_wavelengths
from . import predict_dot_products
from . import shift_matrix
from . import fit_shift
from . import embed_with_positions
from . import questions
from . import tutorial_table
# isort: on

__all__ = [
    "embed_with_positions",
    "fit_shift",
    "pair_wavelengths",
    "predict_dot_products",
    "questions",
    "shift_matrix",
    "sinusoidal_positions",
    "tutorial_table",
]
