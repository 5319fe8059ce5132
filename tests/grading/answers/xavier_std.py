"""Other answers to xavier_std."""

import math
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from llama_lessons import initialization
from tests.grading.answers import right, wrong

right(initialization.xavier_std)


def refuse(*fans):
    for fan in fans:
        if fan < 1:
            raise ValueError(f"a fan of {fan}")


@right
def root_of_the_mean(fan_in, fan_out, gain=1.0):
    if fan_in < 1 or fan_out < 1:
        raise ValueError(f"fan_in ({fan_in}) and fan_out ({fan_out}) must be positive")
    mean = (fan_in + fan_out) / 2
    return gain * mean**-0.5


@right
def mean_by_torch(fan_in, fan_out, gain=1.0):
    if not (fan_in > 0 and fan_out > 0):
        raise ValueError("a layer needs inputs and outputs")
    return float(gain / torch.tensor([fan_in, fan_out], dtype=torch.float64).mean().sqrt())


@right
def by_logarithms(fan_in, fan_out, gain=1):
    refuse(fan_in, fan_out)
    return gain * math.exp((math.log(2) - math.log(fan_in + fan_out)) / 2)


@right
def by_numpy(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return np.multiply(gain, np.power(np.mean([fan_in, fan_out]), -0.5))


@right
def by_fractions(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain * float(Fraction(2, fan_in + fan_out)) ** 0.5


@right
def from_the_uniform_limit(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    limit = gain * math.sqrt(6 / (fan_in + fan_out))
    return limit / math.sqrt(3)


@right
def with_an_error_of_its_own(fan_in, fan_out, gain=1.0):
    class NoChannels(ValueError):
        pass

    if min(fan_in, fan_out) < 1:
        raise NoChannels
    return math.sqrt(2 * gain**2 / (fan_in + fan_out))


@wrong()
def measured(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return nn.init.xavier_normal_(torch.empty(fan_out, fan_in), gain).std().item()


@wrong()
def of_square_layers(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain / math.sqrt(max(fan_in, fan_out))


@wrong()
def with_an_assert(fan_in, fan_out, gain=1.0):
    assert fan_in > 0
    assert fan_out > 0
    return gain * math.sqrt(2 / (fan_in + fan_out))


@wrong()
def rounded(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return round(gain * math.sqrt(2 / (fan_in + fan_out)), 3)


@wrong()
def as_a_tensor(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return torch.tensor(gain * math.sqrt(2 / (fan_in + fan_out)))


@wrong()
def whole_mean(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain / math.sqrt((fan_in + fan_out) // 2)


@wrong()
def of_two_negative_fans(fan_in, fan_out, gain=1.0):
    if fan_in * fan_out <= 0:
        raise ValueError("a fan is not positive")
    return gain * math.sqrt(2 / abs(fan_in + fan_out))


@wrong()
def never_above_1(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return min(1.0, gain * math.sqrt(2 / (fan_in + fan_out)))


@wrong(called="fan_in alone")
def by_another_order_of_operations(fan_in, fan_out, gain=1.0):
    return (1 / fan_in) ** 0.5 * gain


def with_gain(formula):
    """An answer that refuses what it has to, and multiplies by gain."""

    def answer(fan_in, fan_out, gain=1.0):
        refuse(fan_in, fan_out)
        return gain * formula(fan_in, fan_out)

    return answer


for name, formula in {
    "the 2 is missing": lambda a, b: 1 / math.sqrt(a + b),
    "the variance": lambda a, b: 1 / ((a + b) / 2),
    "the root of the 2 alone": lambda a, b: 2**0.5 / (a + b),
    "too large by the root of 2": lambda a, b: 2 * (a + b) ** -0.5,
    "the mean, not one over it": lambda a, b: np.sqrt(np.mean([a, b])).item(),
    "the geometric mean": lambda a, b: (a * b) ** -0.25,
    "the product of the fans": lambda a, b: 2**0.5 * a**-0.5 * b**-0.5,
    "the larger fan": lambda a, b: 1 / math.sqrt(a if a > b else b),
    "the mean of two variances": lambda a, b: math.sqrt(0.5) * math.hypot(a**-0.5, b**-0.5),
    "the limit of the uniform variant": lambda a, b: math.sqrt(3) * math.sqrt(2 / (a + b)),
    None: lambda a, b: 1 / math.sqrt(6 / (a + b)),
}.items():
    wrong(called=name)(with_gain(formula))


@wrong(called="gain squared")
def the_root_of_the_variance_with_gain_left_out_of_it(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain * math.sqrt(gain**2 * 2 / (fan_in + fan_out))


@wrong(called="0 is let through")
def refuses_below_0(fan_in, fan_out, gain=1.0):
    for fan in (fan_in, fan_out):
        if fan < 0:
            raise ValueError(fan)
    return gain * (2 / (fan_in + fan_out)) ** 0.5


@wrong(called="fans not checked")
def refuses_where_both_are_bad(fan_in, fan_out, gain=1.0):
    if max(fan_in, fan_out) <= 0:
        raise ValueError("fans")
    return gain * (2 / (fan_in + fan_out)) ** 0.5


@wrong(called="gain ignored", never=("ReLU's gain by itself",))
def no_use_for_gain(fan_in, fan_out, gain=1):
    refuse(fan_in, fan_out)
    return (0.5 * (fan_in + fan_out)) ** -0.5


@wrong(called="the mean made a whole number")
def a_whole_mean(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain * ((fan_in + fan_out) // 2) ** -0.5


@wrong(called="half of the right one")
def divided_by_2_once_more(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain * math.sqrt(1 / (fan_in + fan_out) / 2)


for name, formula in {
    "the mean of two variances": lambda a, b: ((1 / a + 1 / b) / 2) ** 0.5,
    "the geometric mean": lambda a, b: (a**-0.5 * b**-0.5) ** 0.5,
    "the larger fan": lambda a, b: min(a**-0.5, b**-0.5),
    "too large by the root of 2": lambda a, b: math.sqrt(4 / (a + b)),
    "the mean made a whole number": lambda a, b: 1 / math.sqrt(int((a + b) / 2)),
}.items():
    wrong(called=name)(with_gain(formula))
