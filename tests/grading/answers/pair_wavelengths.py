"""Other answers to pair_wavelengths."""

import math

import numpy as np
import torch

from llama_lessons import positions
from tests.grading.answers import right, wrong


def refuse_odd(dim):
    if dim % 2:
        raise ValueError(f"dim {dim} is odd")


@right
def pair_by_pair(dim, base=10_000.0):
    refuse_odd(dim)
    frequencies = [base ** (-2 * pair / dim) for pair in range(dim // 2)]
    return torch.tensor([2 * math.pi / frequency for frequency in frequencies], dtype=torch.float64)


@right
def by_logarithms_that_grow_by_a_constant_step(dim, base=10_000.0):
    refuse_odd(dim)
    return torch.exp(math.log(2 * math.pi) + torch.arange(0, dim, 2, dtype=torch.float64) * (math.log(base) / dim))


@right
def by_numpy(dim, base=10_000.0):
    refuse_odd(dim)
    return torch.from_numpy(2 * np.pi * np.power(base, np.arange(0, dim, 2) / dim))


@right
def by_multiplying(dim, base=10_000.0):
    refuse_odd(dim)
    found = [math.tau]
    while len(found) < dim // 2:
        found.append(found[-1] * base ** (2 / dim))
    return torch.tensor(found, dtype=torch.float64)


@right
def by_logspace(dim, base=10_000.0):
    refuse_odd(dim)
    n = dim // 2
    return math.tau * torch.logspace(0, (n - 1) / n, n, base=base, dtype=torch.float64)


@right
def of_the_course(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base))


@right
def with_an_arccosine(dim, base=10_000.0):
    return 4 * torch.tensor(0.0, dtype=torch.float64).acos() / positions.sinusoidal_frequencies(dim, base)


@wrong(called="3.14159 for pi")
def a_rough_pi(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base)) * 3.14159 / math.pi


@wrong(called="rounded up")
def whole_positions(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base)).ceil()


@wrong(called="slowest pair first")
def reversed_order(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base)).flip(0)


@wrong(called="an axis too many")
def as_a_column(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base))[:, None]


@wrong(called="computed in float32")
def over_frequencies_of_integers(dim, base=10_000.0):
    refuse_odd(dim)
    return (2 * math.pi / base ** (-2 * torch.arange(dim // 2) / dim)).double()


@wrong(called="computed in float32")
def times_powers_of_integers(dim, base=10_000.0):
    refuse_odd(dim)
    return (2 * math.pi * base ** (torch.arange(0, dim, 2) / dim)).to(torch.float64)


@wrong(called="rounded to float32 on the way")
def listed_without_a_dtype(dim, base=10_000.0):
    refuse_odd(dim)
    return torch.tensor([2 * math.pi * base ** (i / dim) for i in range(0, dim, 2)]).double()


@wrong(called="float32 returned")
def listed_in_float32(dim, base=10_000.0):
    refuse_odd(dim)
    return torch.tensor([2 * math.pi * base ** (i / dim) for i in range(0, dim, 2)])


@wrong(called="frequencies in float32")
def frequencies_converted(dim, base=10_000.0):
    refuse_odd(dim)
    return 2 * math.pi / torch.exp(torch.arange(0, dim, 2) * (-math.log(base) / dim)).double()


@wrong(called="exponents in float32")
def exponents_converted(dim, base=10_000.0):
    refuse_odd(dim)
    return 2 * math.pi * base ** (torch.arange(0, dim, 2) / dim).double()


@wrong(called="2 pi times the frequency")
def multiplied(dim, base=10_000.0):
    return 2 * math.pi * positions.sinusoidal_frequencies(dim, base)


@wrong(called="the last exponent is -1")
def by_linspace(dim, base=10_000.0):
    refuse_odd(dim)
    return 2 * math.pi * base ** torch.linspace(0, 1, dim // 2, dtype=torch.float64)


KEPT: dict = {}


@wrong(called="base kept from an earlier call", never=("base written in",))
def kept_by_dim(dim, base=10_000.0):
    refuse_odd(dim)
    return KEPT.setdefault(dim, positions.wavelengths(positions.sinusoidal_frequencies(dim, base)))


@wrong()
def counted_until_a_row_comes_back(dim, base=10_000.0):
    refuse_odd(dim)
    steps = torch.arange(1, 100_000)
    angles = steps[:, None] * positions.sinusoidal_frequencies(dim, base)
    return steps[(1 - angles.cos()).argmin(dim=0)].double()


@wrong()
def as_long_as_the_period_is_whole(dim, base=10_000.0):
    return (2 * math.pi / positions.sinusoidal_frequencies(dim, base)).clamp(max=base)


@wrong()
def an_odd_dim_without_its_last_channel(dim, base=10_000.0):
    return torch.tensor([2 * math.pi * base ** (2 * i / dim) for i in range(dim // 2)], dtype=torch.float64)


@wrong(called=None)
def with_a_base_of_at_least_10000(dim, base=10_000.0):
    return pair_by_pair(dim, max(base, 10_000.0))


@wrong(called="2 pi times the frequency")
def divided_by_a_growing_frequency(dim, base=10_000.0):
    refuse_odd(dim)
    return 2 * math.pi / base ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
