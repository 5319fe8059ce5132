"""Exercise 6, a bug hunt: the norm that undoes itself."""

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import at_least_float32
from ...families import float32_out, needs_contiguous, no_gradient, overwrites
from . import rms_norm
from .common import EVERY_NORM, EVERY_RMS_NORM, norm_cases


def mended_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    v = at_least_float32(x)
    mean_square = v.square().mean(dim=-1, keepdim=True)
    return (v / (mean_square + eps).sqrt() * weight).to(x.dtype)


exercise = Exercise(
    mended_norm,
    points=5,
    minutes=6,
    cases=norm_cases,
    returns=Tensor,
    hints=(
        "Read the cell's printout: what is the root mean square of a normalised token, and how does it change when x "
        "gets ten times as large?",
        "Follow `scale` through the function, with gains of 1: what is x divided by, and what multiplied by, in the "
        "end?",
        "There are two faults, and either alone is enough to fail. The second: RMSNorm ignores one thing about a "
        "token, LayerNorm two. How many does this function ignore?",
    ),
)


exercise.property("a token ten times as large comes out the same")(rms_norm.scale_makes_no_difference)
exercise.property("a shifted token comes out otherwise")(rms_norm.shift_makes_a_difference)
exercise.property("each token comes out with a mean square of 1")(rms_norm.mean_square_of_one)
exercise.property("agrees with RMSNorm's formula, gains included")(rms_norm.formula)
exercise.property("eps still stands inside the root")(rms_norm.eps_inside_the_root)
exercise.property("eps is still 1e-5 where it is not given")(rms_norm.eps_by_default)
exercise.property("shape and dtype stay")(rms_norm.shape_and_dtype)
exercise.property("half precision is still not computed in")(rms_norm.half_precision)
exercise.property("numbers need not lie in memory in the order of their axes")(rms_norm.not_contiguous)
exercise.property("gradients flow back, through the root mean square too")(rms_norm.gradients)


@exercise.given
def as_it_was_given(x, weight, eps=1e-5):
    """It still gives what it gave when you found it: what comes out is x minus its mean, times the gains. Print the
    root mean square of what comes out.
    """
    values = at_least_float32(x)
    values = values - values.mean(dim=-1, keepdim=True)
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    gain = scale * at_least_float32(weight)
    return (values / scale * gain).to(x.dtype)


exercise.slips(EVERY_NORM)
exercise.slips(EVERY_RMS_NORM)
exercise.slips("""
    no gains, and the mean taken away: v = at_least_float32(x) -> v = at_least_float32(x - x.mean(-1, True)); weight = 1
        What comes out is normalised, but as by LayerNorm: the mean is still taken away. And the weight is not in it.
""")
float32_out(exercise, "x")
no_gradient(exercise, "x", "Nothing below would learn through this norm.")
no_gradient(exercise, "weight", "It would never learn.")
overwrites(exercise, "x", "The residual stream goes on past the norm.")
needs_contiguous(exercise, "x")
