"""Other answers to gelu."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.grading.answers import right, wrong


@right
def by_torch(x):
    return F.gelu(x)


@right
def by_a_module(x):
    return nn.GELU()(x.float()).to(x.dtype)


@right
def by_ndtr(x):
    return (x.float() * torch.special.ndtr(x.float())).to(x.dtype)


@right
def by_erfc(x):
    v = x.float()
    return (0.5 * v * torch.erfc(-v * math.sqrt(0.5))).to(x.dtype)


@right
def by_the_normal_distribution(x):
    v = x.float()
    return (v * torch.distributions.Normal(0.0, 1.0).cdf(v)).to(x.dtype)


@right
def in_float64(x):
    v = x.double()
    return (v * 0.5 * (1 + torch.erf(v / 2**0.5))).to(x.dtype)


@wrong(called="the tanh approximation")
def by_torch_s_approximation(x):
    return F.gelu(x, approximate="tanh")


@wrong(called="SiLU")
def by_torch_s_silu(x):
    return F.silu(x)


@wrong()
def mish(x):
    return F.mish(x)


@wrong()
def hardswish(x):
    return F.hardswish(x)


@wrong()
def clamped(x):
    return F.gelu(x).clamp(min=-0.1)


@wrong()
def relu_for_large_numbers(x):
    return torch.where(x.abs() > 2, F.relu(x), F.gelu(x))


@wrong()
def square_root_of_pi(x):
    return (x.float() * 0.5 * (1 + torch.erf(x.float() / math.sqrt(math.pi)))).to(x.dtype)


@wrong()
def over_the_last_axis(x):
    return (x.float() * x.float().softmax(-1)).to(x.dtype)
