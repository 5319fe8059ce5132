"""Other answers to ntk_theta."""

import math

import numpy as np
import torch

from llama_lessons import extrapolation
from tests.grading.answers import right, wrong

right(extrapolation.ntk_theta)


def refuse(head_dim):
    if head_dim < 4:
        raise ValueError(f"head_dim ({head_dim}) must be at least 4")


@right
def by_the_slowest_pair(theta, factor, head_dim):
    refuse(head_dim)
    exponent = (head_dim - 2) / head_dim
    return (theta**exponent * factor) ** (1 / exponent)


@right
def by_natural_logarithms(theta, factor, head_dim):
    refuse(head_dim)
    last_pair = head_dim // 2 - 1
    return math.exp(math.log(theta) + math.log(factor) * head_dim / (2 * last_pair))


@right
def by_logarithms(theta, factor, head_dim):
    refuse(head_dim)
    return 2 ** (math.log2(theta) + head_dim / (head_dim - 2) * math.log2(factor))


@right
def by_bisection(theta, factor, head_dim):
    refuse(head_dim)
    share = (head_dim - 2) / head_dim
    low, high = math.log(theta), math.log(theta) + 100
    for _ in range(200):
        middle = (low + high) / 2
        if (middle - math.log(theta)) * share < math.log(factor):
            low = middle
        else:
            high = middle
    return math.exp(low)


@right
def by_pairs(theta, factor, head_dim):
    pairs = head_dim // 2
    if pairs < 2:
        raise ValueError("one pair")
    return float(np.power(factor, pairs / (pairs - 1)) * theta)


@right
def by_a_tensor(theta, factor, head_dim):
    refuse(head_dim)
    factor = torch.tensor(float(factor), dtype=torch.float64)
    return (theta * factor ** (1 + 2 / (head_dim - 2))).item()


@wrong()
def in_float32(theta, factor, head_dim):
    refuse(head_dim)
    return (torch.tensor(float(theta)) * torch.tensor(float(factor)) ** (head_dim / (head_dim - 2))).item()


@wrong()
def for_smollm2(theta, factor, head_dim):
    refuse(head_dim)
    return theta * factor ** (64 / 62)


@wrong()
def as_a_tensor(theta, factor, head_dim):
    return torch.tensor(extrapolation.ntk_theta(theta, factor, head_dim))


@wrong()
def that_divides_by_zero(theta, factor, head_dim):
    return theta * factor ** (head_dim / (head_dim - 2))


@wrong(called="theta times factor")
def without_a_thought(theta, factor, head_dim):
    return theta * factor


@wrong(called="theta times factor")
def with_the_pairs_counted_from_1(theta, factor, head_dim):
    refuse(head_dim)
    slowest = head_dim / 2
    return theta * factor ** (head_dim / (2 * slowest))


@wrong(called="the exponent upside down")
def by_one_minus_a_pair_s_share(theta, factor, head_dim):
    refuse(head_dim)
    return theta * factor ** (1 - 2 / head_dim)


@wrong(called="pairs in place of channels")
def from_the_number_of_pairs(theta, factor, head_dim):
    refuse(head_dim)
    n_pairs = head_dim // 2
    return theta * factor ** (n_pairs / (n_pairs - 2))


@wrong(called="one over the base")
def solved_without_the_minus(theta, factor, head_dim):
    refuse(head_dim)
    slowest = theta ** (-(head_dim - 2) / head_dim) / factor
    return slowest ** (head_dim / (head_dim - 2))


@wrong(called="a smaller base")
def with_the_slowest_pair_made_faster(theta, factor, head_dim):
    refuse(head_dim)
    slowest = theta ** (-(head_dim - 2) / head_dim) * factor
    return slowest ** (-head_dim / (head_dim - 2))


@wrong()
def rounded(theta, factor, head_dim):
    refuse(head_dim)
    return float(round(extrapolation.ntk_theta(theta, factor, head_dim)))


@wrong(called="half of head_dim below the line")
def channels_over_pairs(theta, factor, head_dim):
    refuse(head_dim)
    return theta * factor ** (head_dim / (head_dim / 2 - 1))


@wrong(called="computed in float32")
def with_tensors(theta, factor, head_dim):
    refuse(head_dim)
    return (torch.tensor(float(theta)) * torch.tensor(float(factor)).pow(head_dim / (head_dim - 2))).item()
