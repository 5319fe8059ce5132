"""Exercises of lesson 05, in the order of its notebook."""

# isort: off
from .layer_norm import layer_norm
from . import layer_norm_mistakes
from .rms_norm import rms_norm
from . import rms_norm_mistakes
from .rms_norm_module import RMSNorm
from .questions import what_float16_gives, what_rms_norm_does, where_the_gradient_goes
from .predict_norms import predict_norms
from .pre_norm_block import pre_norm_block
from .mended_norm import mended_norm

__all__ = [
    "RMSNorm",
    "layer_norm",
    "layer_norm_mistakes",
    "mended_norm",
    "pre_norm_block",
    "predict_norms",
    "rms_norm",
    "rms_norm_mistakes",
    "what_float16_gives",
    "what_rms_norm_does",
    "where_the_gradient_goes",
]
