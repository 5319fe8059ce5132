"""Other answers to alibi_slopes."""

import math

import numpy as np
import torch
from torch import nn

from llama_lessons import extrapolation
from tests.grading.answers import right, wrong

right(extrapolation.alibi_slopes)


def refuse_no_heads(n_heads):
    if n_heads < 1:
        raise ValueError(f"n_heads {n_heads}")


def row(power):
    return [2 ** (-8 * h / power) for h in range(1, power + 1)]


@right
def by_exp2(n_heads):
    if n_heads <= 0:
        raise ValueError("n_heads must be positive")
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = torch.exp2(-8 * torch.arange(1, power + 1) / power)
    more = torch.exp2(-4 * torch.arange(1, 2 * power + 1, 2) / power)
    return torch.cat((slopes, more))[:n_heads]


@right
def by_recursion(n_heads):
    if n_heads < 1:
        raise ValueError("n_heads")

    def slopes(n):
        if n & (n - 1) == 0:
            first = 2 ** (-8 / n)
            return [first**i for i in range(1, n + 1)]
        closest = 2 ** (n.bit_length() - 1)
        return slopes(closest) + slopes(2 * closest)[0::2][: n - closest]

    return torch.tensor(slopes(n_heads))


@right
def by_numpy(n_heads):
    refuse_no_heads(n_heads)
    below = 2 ** int(np.log2(n_heads))
    first = np.power(2.0, -8 * np.arange(1, below + 1) / below)
    more = np.power(2.0, -4 * np.arange(1, 2 * below, 2) / below)
    return torch.from_numpy(np.concatenate((first, more))[:n_heads]).float()


@right
def written_into_a_tensor(n_heads):
    refuse_no_heads(n_heads)
    below = 1 << (n_heads.bit_length() - 1)
    found = torch.empty(n_heads)
    for h in range(n_heads):
        step = (h + 1) / below if h < below else (2 * (h - below) + 1) / (2 * below)
        found[h] = 0.5 ** (8 * step)
    return found


@right
def as_a_parameter(n_heads):
    refuse_no_heads(n_heads)
    return nn.Parameter(extrapolation.alibi_slopes(n_heads))


@right
def by_multiplying(n_heads):
    refuse_no_heads(n_heads)

    def row(power):
        factor = 2 ** (-8 / power)
        return torch.full((power,), factor).cumprod(0)

    below = max(p for p in (2**i for i in range(12)) if p <= n_heads)
    return torch.cat((row(below), row(2 * below)[0::2]))[:n_heads]


@wrong()
def from_a_list_of_known_models(n_heads):
    known = {4: extrapolation.alibi_slopes(4), 8: extrapolation.alibi_slopes(8), 12: extrapolation.alibi_slopes(12)}
    refuse_no_heads(n_heads)
    return known.get(n_heads, torch.ones(n_heads))


@wrong()
def as_a_column(n_heads):
    refuse_no_heads(n_heads)
    return extrapolation.alibi_slopes(n_heads)[:, None]


@wrong()
def guarded_by_an_assert(n_heads):
    assert n_heads > 0
    return extrapolation.alibi_slopes(n_heads)


@wrong(called="powers of two alone")
def of_powers_only(n_heads):
    refuse_no_heads(n_heads)
    if n_heads & (n_heads - 1):
        raise ValueError("not a power of two")
    return extrapolation.alibi_slopes(n_heads)


@right
def as_the_paper_s_code_has_it(n_heads):
    def of_a_power(n):
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(n_heads).is_integer():  # which raises ValueError for 0
        return torch.tensor(of_a_power(n_heads))
    below = 2 ** math.floor(math.log2(n_heads))
    return torch.tensor(of_a_power(below) + of_a_power(2 * below)[0::2][: n_heads - below])


@wrong(called="the formula for powers of two, for all")
def without_a_thought_of_other_numbers(n_heads):
    return torch.tensor([2.0 ** (-8 * (i + 1) / n_heads) for i in range(n_heads)])


@wrong(called="the first slopes of the power above")
def without_the_step_of_two(n_heads):
    refuse_no_heads(n_heads)
    below = 2 ** math.floor(math.log2(n_heads))
    return torch.tensor(row(below) + row(2 * below)[: n_heads - below])


@wrong(called="the power above, cut off")
def by_ceil(n_heads):
    refuse_no_heads(n_heads)
    return torch.tensor(row(2 ** math.ceil(math.log2(n_heads)))[:n_heads])


@wrong(called="1/2 to 1/256 for all")
def by_logspace(n_heads):
    refuse_no_heads(n_heads)
    return torch.logspace(-1, -8, n_heads, base=2)


@wrong(called="the row below goes on")
def beyond_the_row(n_heads):
    refuse_no_heads(n_heads)
    below = 1 << (n_heads.bit_length() - 1)
    return 2 ** (-8 * torch.arange(1, n_heads + 1) / below)


@wrong()
def in_the_order_of_a_set(n_heads):
    refuse_no_heads(n_heads)
    below = 1 << (n_heads.bit_length() - 1)
    return torch.tensor(list({*row(below), *row(2 * below)[::2][: n_heads - below]}))


@wrong(called="no heads accepted")
def with_no_guard(n_heads):
    below = 2 ** math.floor(math.log2(max(n_heads, 1)))
    return torch.tensor((row(below) + row(2 * below)[::2])[:n_heads])


@wrong()
def that_refuses_0_alone(n_heads):
    if n_heads == 0:
        raise ValueError("n_heads")
    return with_no_guard(n_heads)


@wrong(called="the rest by itself")
def recursive_in_the_rest(n_heads):
    if n_heads < 1:
        raise ValueError("no heads")
    below = 1 << (n_heads.bit_length() - 1)
    slopes = torch.tensor([2 ** (-8 * h / below) for h in range(1, below + 1)])
    return slopes if below == n_heads else torch.cat((slopes, recursive_in_the_rest(n_heads - below)))
