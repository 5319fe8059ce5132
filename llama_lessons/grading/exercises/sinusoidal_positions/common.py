"""What the exercises of lesson 02 share: encodings in float64, and what goes wrong with frequencies."""

import torch
from torch import Tensor


def exact_frequencies(dim: int, base: float = 10_000.0) -> Tensor:
    """The paper's frequencies, from Python's own power: float64, (dim // 2,)."""
    return torch.tensor([base ** (-2 * i / dim) for i in range(dim // 2)], dtype=torch.float64)


def exact_rows(positions: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """The paper's encodings in float64 on the CPU, (len(positions), dim)."""
    angles = positions.cpu().double()[:, None] * exact_frequencies(dim, base)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


# Slips in the lines that three references share. Those of float32 are seen in every spelling, since the exercises'
# cases have dims and bases for which powers, quotients and exp(log) round alike: (4, 10_000.0), (6, 150.0) and others.
FREQUENCIES = """
    the 2 is missing: float64) / dim -> float64) / 2 / dim
        Your frequencies are base ** (-i / dim), those of exponents half as large as they should be: pair i has the
        frequency base ** (-2i / dim).
    the 2 twice: float64) / dim -> float64) * 2 / dim
        Your frequencies are base ** (-4i / dim), those of exponents twice as large as they should be.
        torch.arange(0, dim, 2) is 2i already, and 2i / dim is i divided by the number of pairs.
    the last exponent is -1: float64) / dim -> float64) / max(dim - 2, 1)
        The exponents of your frequencies run from 0 to -1, both ends included, as those of linspace do. They should
        be -2i / dim, and the last is then -1 + 2 / dim.
    pairs counted from 1: torch.arange(0, dim, 2 -> torch.arange(2, dim + 2, 2
        Your first pair has the frequency of the second. Pairs count from 0: the first frequency is 1.
    numbers of the odd channels: torch.arange(0, dim, 2 -> torch.arange(1, dim + 1, 2
        Your exponents are -(2i + 1) / dim, with the number of a pair's odd channel. Both channels of pair i take that
        of the even one, 2i: the first frequency is 1.
    the power is divided by dim: base**-exponents -> base ** -(exponents * dim) / dim
        Your frequencies are (base ** -2i) / dim. ** binds more strongly than / and *: bracket the exponent.
    the power is multiplied: base**-exponents -> base**-2 * (exponents / 2)
        Your frequencies are (base ** -2) * i / dim. ** binds more strongly than / and *: bracket the exponent.
    base written in: base**-exponents -> 10_000.0**-exponents
        Your result is that for a base of 10,000, whatever base is. Take the argument.
    base is 500,000 by itself: base: float = 10_000.0 -> base: float = 500_000.0
        Where no base is given, yours is 500,000, as in Llama 3. Here it is 10,000.
    exponents in float32: torch.arange(0, dim, 2, dtype=torch.float64) / dim -> (torch.arange(0, dim, 2) / dim).double()
        The exponents are those of float32, which keeps seven digits, and going to float64 afterwards brings none back.
        Be in float64 from the first step on: torch.arange(..., dtype=torch.float64).
    frequencies in float32: base**-exponents -> (base ** -exponents.float()).double()
        The frequencies are those of float32, which keeps seven digits, and going to float64 afterwards brings none
        back. Be in float64 from the first step on: torch.arange(..., dtype=torch.float64).
    powers in float32: base**-exponents -> 1 / (base ** exponents.float()).double()
        The powers of base are those of float32, which keeps seven digits, and going to float64 afterwards brings none
        back. Be in float64 from the first step on: torch.arange(..., dtype=torch.float64).
    frequencies rounded to float32: base**-exponents -> (base**-exponents).float().double()
        The frequencies are rounded to float32, which keeps seven digits: .float() does that, and torch.tensor and
        torch.zeros too, unless you say dtype=torch.float64.
    an odd dim accepted: if dim % 2: -> if False:
        You accept an odd dim, in which the last sine has no cosine. Raise ValueError before anything else.
    an assert for an odd dim: raise ValueError( -> raise AssertionError(
        For an odd dim an AssertionError comes. python -O leaves asserts out: raise ValueError.
    an error of torch for an odd dim: raise ValueError( -> raise RuntimeError(
        For an odd dim a RuntimeError comes, such as torch raises where shapes do not fit. Look at dim before anything
        else, and raise ValueError.
"""
