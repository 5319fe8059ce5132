"""What the exercises of lesson 06 share: the lesson's name, and the look of numbers from a normal distribution."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...expect import Mismatch, exact


def std_of(draw_: Callable, fan_in: int, fan_out: int) -> float:
    """What torch's own initialization `draw_` multiplies standard normal numbers by."""
    plain, theirs = (
        draw(torch.empty(fan_out, fan_in), generator=torch.Generator().manual_seed(1)).norm().item()
        for draw in (nn.init.normal_, draw_)
    )
    return theirs / plain


# How much of a normal distribution lies within so many standard deviations
WITHIN = {0.5: 0.3829, 1: 0.6827, 2: 0.9545, 3: 0.9973}


def expect_normal(x: Tensor, std: float, *, where: str) -> None:
    """Refuse numbers that are not drawn from N(0, std ** 2), by six standard errors, as no seed is ours to choose."""
    single, matrix = x.dtype == torch.float32, exact(x.detach())
    x = matrix.flatten()
    if not x.isfinite().all():
        raise Mismatch(f"{where}: expected random numbers, but some are not finite")
    if (x == x[0]).all():
        raise Mismatch(f"{where}: expected random numbers, but all of them are {x[0].item():.4g}")
    got, mean, n = x.std().item(), x.mean().item(), len(x)
    if not abs(got - std) < 6 * std / math.sqrt(2 * n):
        raise Mismatch(f"{where}: expected a standard deviation of {std:.4g}, got {got:.4g}")
    if not abs(mean) < 6 * std / math.sqrt(n):
        raise Mismatch(f"{where}: expected a mean near 0, got {mean:.4g}")
    for limit, inside in WITHIN.items():
        share = (x.abs() < limit * std).double().mean().item()
        if not abs(share - inside) < 6 * math.sqrt(inside * (1 - inside) / n) + 6 / n:
            raise Mismatch(
                f"{where}: of a normal distribution with standard deviation {std:.4g}, {inside:.1%} lie between "
                f"{-limit * std:.4g} and {limit * std:.4g}, but here it is {share:.1%}"
            )
    for axis in range(matrix.ndim) if min(matrix.shape) > 30 and matrix.ndim == 2 else ():
        lengths = (matrix / std).square().mean(dim=axis)  # which differ by chance: orthogonal ones do not
        if not 0.3 < lengths.std() * math.sqrt(matrix.shape[axis] / 2) < 3:
            raise Mismatch(
                f"{where}: expected independent numbers, but its rows or columns are not as long as chance makes them"
            )
    values, counts = x.abs().unique(return_counts=True)
    if single and (len(values) < 0.95 * n or counts.max() > 8):  # half precision has too few numbers to tell
        often = values[counts.argmax()].item()
        seen = f"{counts.max()} of {n} are {often:.4g} in size, and only {len(values)} differ in size"
        raise Mismatch(f"{where}: expected each number to be drawn anew, but {seen}")


def looks_of(tensors: list[Tensor], std: float) -> tuple:
    """What chance does not change: size in steps of a fifth, mean in units of std, how heavy the tails are, zeros."""
    tensors = [exact(x).flatten() for x in tensors]
    if any((x == x[0]).all() for x in tensors):
        return tuple(x[0].item() for x in tensors)
    x, sizes = torch.cat(tensors), [x.std().item() for x in tensors]
    mean, size = x.mean().item(), x.std().item()
    if len(x) < 1000:  # too few to say more
        return "random", round(2 * mean)
    fourth_moment = ((x - mean) / size).pow(4).mean().item()
    tails = sum(fourth_moment > limit for limit in (1.4, 1.95, 2.7, 3.5))  # a normal distribution has 3
    centre = math.floor(mean / std + 0.55) if abs(mean) > 4 * size / math.sqrt(len(x)) else 0
    zeros, unequal = (x == 0).sum().item() > 3, max(sizes) > 1.25 * min(sizes)
    return round(4 * math.log2(size / std)), centre, tails, zeros, unequal
