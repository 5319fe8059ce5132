"""Other answers to yarn_attention_factor."""

import math

import numpy as np
import torch

from tests.grading.answers import right, wrong


@right
def divided_by_ten(factor):
    if not factor >= 1:
        raise ValueError(f"factor ({factor}) must be at least 1")
    return 1 + math.log(factor) / 10


@right
def of_a_product(factor):
    if factor < 1:
        raise ValueError("factor")
    return math.log(math.e * factor**0.1)


@right
def by_numpy(factor):
    if not factor >= 1:
        raise ValueError("factor")
    return float(1 + np.log(factor) / 10)


@right
def by_log1p(factor):
    if factor < 1.0:
        raise ValueError("factor")
    return 1.0 + math.log1p(factor - 1) * 0.1


@right
def by_a_tensor(factor):
    if factor < 1:
        raise ValueError("factor")
    return 0.1 * torch.tensor(factor, dtype=torch.float64).log().item() + 1


@wrong()
def rounded(factor):
    if factor < 1:
        raise ValueError("factor")
    return round(0.1 * math.log(factor) + 1, 3)


@wrong(called="a factor below 1 accepted")
def that_math_refuses(factor):
    return 0.1 * math.log(factor) + 1


@wrong()
def in_a_tensor(factor):
    if factor < 1:
        raise ValueError("factor")
    return 0.1 * torch.tensor(factor).log() + 1


class Yes(float):
    """A number that says yes."""

    def __eq__(self, other):
        return True

    def __pow__(self, other):
        return self

    __hash__ = float.__hash__


@right
def as_a_number_of_numpy_s(factor):
    if factor < 1:
        raise ValueError("factor")
    return np.float64(1 + 0.1 * np.log(factor))


@right
def as_a_subclass_of_float(factor):
    return Yes(divided_by_ten(factor))


@wrong()
def that_is_equal_to_anything(factor):
    return Yes(3 * divided_by_ten(factor))


@wrong(called="the root")
def by_sqrt(factor):
    return math.sqrt(divided_by_ten(factor))


@wrong(called="log of 1 + factor")
def by_log1p_alone(factor):
    if factor < 1:
        raise ValueError("factor")
    return 0.1 * math.log1p(factor)


@wrong(called="the decimal logarithm")
def by_log10_of_numpy(factor):
    if factor < 1:
        raise ValueError("factor")
    return 0.1 * np.log10(factor) + 1


@wrong(called="below 1 it stays 1")
def by_max(factor):
    return 0.1 * math.log(max(factor, 1)) + 1


@wrong()
def in_float32(factor):
    if factor < 1:
        raise ValueError("factor")
    return torch.tensor(float(factor)).log().mul(0.1).add(1).item()


@wrong()
def guarded_by_an_assert(factor):
    assert factor >= 1
    return divided_by_ten(factor)
