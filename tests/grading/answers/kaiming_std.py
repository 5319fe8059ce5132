"""Other answers to kaiming_std."""

import math

import numpy as np
import torch
from torch import nn

from llama_lessons import initialization
from tests.grading.answers import right, wrong

right(initialization.kaiming_std)

RELU = nn.init.calculate_gain("relu")


def refuse(*fans):
    for fan in fans:
        if fan < 1:
            raise ValueError(f"a fan of {fan}")


@right
def root_of_the_variance(fan_in, gain=2**0.5):
    if fan_in < 1:
        raise ValueError(f"fan_in ({fan_in}) must be positive")
    return (gain**2 / fan_in) ** 0.5


@right
def with_torch_s_gain(fan_in, gain=RELU):
    if not fan_in > 0:
        raise ValueError("a layer needs inputs")
    return gain * fan_in**-0.5


@right
def by_logarithms(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain * math.exp(-math.log(fan_in) / 2)


@right
def by_torch(fan_in, gain=2**0.5):
    refuse(fan_in)
    return float(torch.tensor(fan_in, dtype=torch.float64).rsqrt() * gain)


@right
def without_a_default_in_sight(fan_in, gain=None):
    refuse(fan_in)
    return (math.sqrt(2) if gain is None else gain) / math.sqrt(fan_in)


@right
def with_a_root_in_the_product(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain / fan_in * fan_in**0.5


@wrong()
def with_a_rough_root(fan_in, gain=1.4):
    refuse(fan_in)
    return gain / math.sqrt(fan_in)


@wrong()
def for_small_layers(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain / math.sqrt(min(fan_in, 512)) if fan_in < 10 else math.sqrt(2 / fan_in)


@wrong()
def zero_refused_alone(fan_in, gain=2**0.5):
    if fan_in == 0:
        raise ValueError("no inputs")
    return gain / math.sqrt(abs(fan_in))


@wrong()
def by_division_by_zero(fan_in, gain=2**0.5):
    return gain / math.sqrt(fan_in)


@wrong()
def half_gain(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain**0.5 * 2**0.25 / math.sqrt(fan_in)


@wrong(called="a gain of 1 for ReLU")
def root_of_the_whole(fan_in, gain=1.0):
    return gain * math.sqrt(1 / fan_in)


@wrong(called="the limit of the uniform variant")
def limit_whatever_gain_is(fan_in, gain=2**0.5):
    refuse(fan_in)
    return math.sqrt(6 / fan_in)


@wrong(called="gain upside down")
def with_what_relu_keeps(fan_in, gain=0.5**0.5):
    refuse(fan_in)
    return gain / fan_in**0.5


@wrong(called="gain squared", never=("a gain of 2 for ReLU",))
def the_square_over_the_root(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain**2 / math.sqrt(fan_in)


@wrong(called="gain squared", never=("a gain of 2 for ReLU",))
def the_gain_twice(fan_in, gain=RELU):
    refuse(fan_in)
    return gain * gain * fan_in**-0.5


@wrong(called="the 2 twice")
def relu_s_formula_times_its_gain(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain * (2 / fan_in) ** 0.5


@wrong(called="the 2 in place of the default")
def relu_s_formula_times_a_gain_of_1(fan_in, gain=1.0):
    refuse(fan_in)
    return (2 / fan_in) ** 0.5 * gain


@wrong(called="the variance")
def the_square_over_the_fan(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain * gain * (1 / fan_in)


@wrong(called="the gain written in")
def torch_s_for_relu(fan_in, gain=2**0.5):
    refuse(fan_in)
    return math.sqrt(2) / math.sqrt(fan_in)


@wrong(called="a gain of 2 for ReLU")
def the_2_of_the_paper(fan_in, gain=2):
    refuse(fan_in)
    return gain * math.sqrt(1 / fan_in)


@wrong(called="gain under the root, where ReLU's is 2")
def the_paper_s_formula(fan_in, gain=2):
    refuse(fan_in)
    return (gain / fan_in) ** 0.5


@wrong(called="0 is divided by")
def without_a_check(fan_in, gain=2**0.5):
    return gain / math.sqrt(fan_in)


@wrong()
def half_of_the_fan(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain / math.sqrt(fan_in // 2 or 1)


@wrong(called="0 is divided by")
def a_power_without_a_check(fan_in, gain=2**0.5):
    return gain * fan_in**-0.5


@wrong(called="infinity for 0")
def numpy_without_a_check(fan_in, gain=2**0.5):
    with np.errstate(all="ignore"):
        return float(np.float64(gain) / np.sqrt(fan_in))


@wrong(called="the power before the division")
def round_brackets_forgotten(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain / fan_in**1 / 2
