"""Other answers to rope_frequencies."""

import math

import numpy as np
import torch
from torch import nn

from llama_lessons import rope
from tests.grading.answers import right, wrong

right(rope.rope_frequencies)


def refuse_odd(head_dim):
    if head_dim % 2:
        raise ValueError(f"head_dim {head_dim} is odd")


@right
def by_exp_and_log(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.exp(-math.log(theta) * torch.arange(head_dim // 2, dtype=torch.float64) * 2 / head_dim)


@right
def one_by_one(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.tensor([theta ** (-2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float64)


@right
def one_over_a_power(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return 1.0 / torch.pow(torch.tensor(theta, dtype=torch.float64), torch.arange(0, head_dim, 2).double() / head_dim)


@right
def by_numpy(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.from_numpy(np.power(theta, -np.arange(0, head_dim, 2) / head_dim))


@right
def by_logspace(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    n = head_dim // 2
    return torch.logspace(0, -(n - 1) / n, n, base=theta, dtype=torch.float64)


@right
def as_a_parameter(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return nn.Parameter(theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim))


@right
def not_contiguous(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return (theta ** (torch.arange(0, -head_dim, -1, dtype=torch.float64) / head_dim))[::2]


@right
def by_multiplying(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    found = [1.0]
    while len(found) < head_dim // 2:
        found.append(found[-1] * theta ** (-2 / head_dim))
    return torch.tensor(found, dtype=torch.float64)


@right
def by_complex_numbers(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    exponents = torch.arange(0, head_dim, 2).double() * (-math.log(theta) / head_dim)
    return torch.exp(torch.complex(exponents, torch.zeros_like(exponents))).real


@right
def changes_the_default_dtype(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    torch.set_default_dtype(torch.float64)
    return theta ** -(torch.arange(0, head_dim, 2) / head_dim)


NUMBERS = ("10,000 whatever theta is", "500,000 whatever theta is")


@wrong(called="exponents in float32")
def cast_before_the_power(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return 1.0 / (theta ** (torch.arange(0, head_dim, 2).float() / head_dim).double())


@wrong(called="exponents in float32")
def whole_numbers_divided_too_early(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.pow(theta, (-2 * torch.arange(head_dim // 2) / head_dim).double())


@wrong(called="float32")
def a_base_in_float64_is_not_enough(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.tensor(theta).double() ** (-2 * torch.arange(head_dim // 2) / head_dim)


@wrong(called="one over a float32 power, converted")
def cast_at_the_end(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return (1.0 / (theta ** (torch.arange(0, head_dim, 2).float() / head_dim))).double()


@wrong(called="float32")
def as_llama_has_it(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return 1.0 / (theta ** (torch.arange(0, head_dim, 2)[: (head_dim // 2)].float() / head_dim))


@wrong()
def with_an_assert(head_dim, theta=10_000.0):
    assert head_dim % 2 == 0
    return rope.rope_frequencies(head_dim, theta)


@wrong(called=None)
def as_a_column(head_dim, theta=10_000.0):
    return rope.rope_frequencies(head_dim, theta)[:, None]


@wrong(called="theta is 500,000 by default")
def for_one_theta(head_dim, theta=500_000.0):
    return rope.rope_frequencies(head_dim, theta)


TABLES = {}


@wrong(called="theta kept from an earlier call", never=NUMBERS)
def kept_by_head_dim(head_dim, theta=10_000.0):
    if head_dim not in TABLES:
        TABLES[head_dim] = rope.rope_frequencies(head_dim, theta)
    return TABLES[head_dim]


@wrong(called=None)
def a_million_whatever_theta_is(head_dim, theta=10_000.0):
    return rope.rope_frequencies(head_dim, 1_000_000.0)


@wrong(called="last exponent is 1")
def by_linspace(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return theta ** -torch.linspace(0, 1, head_dim // 2, dtype=torch.float64)


@wrong(called="the 2 is missing")
def divided_by_the_channels(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    i = torch.arange(head_dim / 2, dtype=torch.float64)
    return torch.exp(-i / head_dim * math.log(theta))


@wrong(called="positive exponent")
def inverted_twice(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return 1 / theta ** -(torch.arange(0, head_dim, 2).double() / head_dim)


@wrong(called="an exponent for each channel")
def every_channel(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return theta ** -(torch.arange(head_dim, dtype=torch.float64) / head_dim)


@wrong(called=None)
def the_2_missing_and_float32(head_dim, theta=10_000.0):
    return theta ** -(torch.arange(head_dim // 2) / head_dim + 0.1)


@wrong(called=None)
def sizes_that_are_no_power_of_two_refused(head_dim, theta=10_000.0):
    if head_dim & (head_dim - 1):
        raise ValueError("head_dim")
    return rope.rope_frequencies(head_dim, theta)


@wrong(called="turns")
def turns_per_position(head_dim, theta=10_000.0):
    return rope.rope_frequencies(head_dim, theta) / (2 * math.pi)


@wrong(called="float32 and back")
def a_list_of_floats_cast_afterwards(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.tensor([theta ** (-2 * i / head_dim) for i in range(head_dim // 2)]).double()


@wrong(never=("the 2 is missing", "float32"))
def exact_where_float32_is(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    if head_dim < 64:
        return rope.rope_frequencies(head_dim, theta)
    return 1.0 / theta ** (torch.arange(0, head_dim, 2) / head_dim).double()


@wrong(called="all frequencies are 1")
def rounded_down(head_dim, theta=10_000.0):
    refuse_odd(head_dim)
    return torch.tensor([theta ** (-2 * (i // head_dim)) for i in range(head_dim // 2)], dtype=torch.float64)


@wrong(called="theta made a whole number")
def a_whole_theta(head_dim, theta=10_000.0):
    return rope.rope_frequencies(head_dim, int(theta))


@wrong(called="exp and log in float32")
def exp_of_whole_numbers_divided(head_dim, theta=10_000.0):
    if head_dim % 2:
        raise ValueError("odd")
    i = torch.arange(head_dim // 2)
    return torch.exp(-2 * i / head_dim * math.log(theta)).double()


KEPT_RIGHTLY = {}


@right
def kept_for_the_same_arguments(head_dim, theta=10_000.0):
    if (head_dim, theta) not in KEPT_RIGHTLY:
        KEPT_RIGHTLY[head_dim, theta] = rope.rope_frequencies(head_dim, theta)
    return KEPT_RIGHTLY[head_dim, theta]
