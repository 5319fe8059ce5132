"""Exercises of lesson 06, in the order of its notebook."""

# isort: off
from .xavier_std import xavier_std
from .kaiming_std import kaiming_std
from .init_weights import init_weights
from .questions import how_relu_fades, which_scheme_is_llamas, why_small_weights_do_not_die
from .predict_first_losses import predict_first_losses
from .activation_rms import activation_rms
from .tied_model import tied_model
# isort: on

__all__ = [
    "activation_rms",
    "how_relu_fades",
    "init_weights",
    "kaiming_std",
    "predict_first_losses",
    "tied_model",
    "which_scheme_is_llamas",
    "why_small_weights_do_not_die",
    "xavier_std",
]
