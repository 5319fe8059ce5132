"""Exercise 6: Llama 3.1's rule."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import extrapolation
from llama_lessons.lab.device import choose_device

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, frequencies_of

__all__ = ["llama3_frequencies"]

# head_dim, theta, factor, low_freq_factor, high_freq_factor, original_max_seq_len
LLAMA_3_1 = (128, 500_000.0, 8.0, 1.0, 4.0, 8192)
LLAMA_3_2 = (64, 500_000.0, 32.0, 1.0, 4.0, 8192)
SETTINGS = [
    LLAMA_3_1,
    LLAMA_3_2,
    (16, 10_000.0, 4.0, 1.0, 4.0, 512),
    (32, 10_000.0, 2.0, 2.0, 16.0, 1000),
    (8, 100.0, 4.0, 0.5, 3.0, 64),
]


def settings_named(case: tuple) -> str:
    head_dim, theta, factor, low, high, length = case
    return f"head_dim {head_dim}, theta {theta:,.0f}, factor {factor:g}, bounds {low:g} and {high:g}, length {length}"


def made(case: tuple, dtype: torch.dtype = torch.float64) -> tuple:
    """The arguments of a call."""
    head_dim, theta, *others = case
    device = choose_device() if dtype != torch.float64 else "cpu"
    return (frequencies_of(head_dim, theta, dtype, device), *others)


def by_wavelengths(frequencies: Tensor, factor: float, low: float, high: float, length: int) -> Tensor:
    """The rule as Meta's code has it, pair by pair, in float64."""
    found = []
    for frequency in frequencies.double().cpu().tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < length / high:
            found.append(frequency)
        elif wavelength > length / low:
            found.append(frequency / factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            found.append((1 - smooth) * frequency / factor + smooth * frequency)
    return torch.tensor(found, dtype=torch.float64)


llama3_frequencies = Exercise(
    name="llama3_frequencies",
    lesson=LESSON,
    points=4,
    minutes=9,
    parameters=("frequencies", "factor", "low_freq_factor", "high_freq_factor", "original_max_seq_len"),
    reference=extrapolation.llama3_frequencies,
    cases=lambda: [made(case) for case in SETTINGS] + [made(SETTINGS[2], torch.float32)],
    returns=Tensor,
    hints=(
        "Work out first how often each pair turns within original_max_seq_len: one line, for all pairs at once.",
        "From the turns make a share between 0 and 1: 0 at low_freq_factor turns, 1 at high_freq_factor, a line "
        "between, and clamped outside.",
        "What comes back is a mixture of the unchanged frequencies, with that share, and the divided ones, with the "
        "rest. For the fast pairs and the slow ones the clamped share is already right.",
    ),
)


@llama3_frequencies.property("shape and dtype stay")
def _(answer: Callable) -> None:
    for case in SETTINGS[2:]:
        for dtype in (torch.float64, torch.float32):
            got = answer(*made(case, dtype))
            where = f"{settings_named(case)}, {str(dtype)[6:]}"
            expect_like(got, shape=(case[0] // 2,), dtype=dtype, where=where)


@llama3_frequencies.property("fast pairs are left alone")
def _(answer: Callable) -> None:
    for case in SETTINGS:
        frequencies, _, _, high, length = made(case)
        fast = frequencies * length / (2 * math.pi) >= high
        where = f"{settings_named(case)}, pairs that turn {high:g} times or more"
        expect_close(answer(*made(case))[fast], frequencies[fast], where=where, rtol=1e-12, atol=0)


@llama3_frequencies.property("slow pairs are divided by factor")
def _(answer: Callable) -> None:
    for case in SETTINGS:
        frequencies, factor, low, _, length = made(case)
        slow = frequencies * length / (2 * math.pi) <= low
        where = f"{settings_named(case)}, pairs that turn {low:g} times or less"
        expect_close(answer(*made(case))[slow], frequencies[slow] / factor, where=where, rtol=1e-12, atol=0)


@llama3_frequencies.property("between the bounds they are mixed by their turns")
def _(answer: Callable) -> None:
    # Made so that the pairs turn exactly 2.5, 1.75 and 3.25 times: shares of 1/2, 1/4 and 3/4.
    frequencies = torch.tensor([3.25, 2.5, 1.75], dtype=torch.float64) * 2 * math.pi / 1000
    want = frequencies * torch.tensor([0.75 + 0.25 / 8, 0.5 + 0.5 / 8, 0.25 + 0.75 / 8], dtype=torch.float64)
    got = answer(frequencies, 8.0, 1.0, 4.0, 1000)
    expect_close(got, want, where="three pairs that turn 3.25, 2.5 and 1.75 times, factor 8, bounds 1 and 4", rtol=1e-9)


@llama3_frequencies.property("the settings of Llama 3.1 and 3.2, and others")
def _(answer: Callable) -> None:
    for case in SETTINGS:
        want = by_wavelengths(*made(case))
        expect_close(answer(*made(case)), want, where=settings_named(case), rtol=1e-9, atol=0)


@llama3_frequencies.property("a factor of 1 changes nothing, and no pair gets ahead of a faster one")
def _(answer: Callable) -> None:
    head_dim, theta, _, *others = LLAMA_3_1
    frequencies = frequencies_of(head_dim, theta)
    expect_close(answer(frequencies, 1.0, *others), frequencies, where="factor 1", rtol=1e-9, atol=0)
    got = answer(*made(LLAMA_3_2))
    if not (got[1:] < got[:-1]).all():
        raise Mismatch(f"{settings_named(LLAMA_3_2)}: expected frequencies that fall from pair to pair")


def parts(frequencies: Tensor, low: float, high: float, length: int) -> Tensor:
    """The share of each pair that stays."""
    turns = length * frequencies / (2 * math.pi)
    return ((turns - low) / (high - low)).clamp(0, 1)


@llama3_frequencies.misconception(
    "fast and slow exchanged",
    "You divide the fast pairs and leave the slow ones alone. The slow ones are those that meet angles they never saw.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len)
    return kept * frequencies / factor + (1 - kept) * frequencies


@llama3_frequencies.misconception(
    "mixed the wrong way round",
    "Fast and slow pairs are right, but between the bounds the two shares are exchanged: a pair that turns almost "
    "high_freq_factor times should be almost unchanged.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len)
    kept = torch.where((kept > 0) & (kept < 1), 1 - kept, kept)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "the 2 pi is missing",
    "You take length times frequency for the number of turns. That is the angle in radians; a turn is 2 pi of them.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len * 2 * math.pi)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "a step at the lower bound",
    "You leave alone every pair that turns more than low_freq_factor times. Between the bounds pairs are mixed.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = (parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len) > 0).to(frequencies)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "a step at the upper bound",
    "You divide every pair that turns less than high_freq_factor times. Between the bounds pairs are mixed.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = (parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len) >= 1).to(frequencies)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "linear in the wavelength",
    "Between the bounds your mixture is linear in the wavelength. It is linear in the number of turns.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    longest, shortest = original_max_seq_len / low_freq_factor, original_max_seq_len / high_freq_factor
    kept = ((longest - 2 * math.pi / frequencies) / (longest - shortest)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "not clamped",
    "The share goes on above 1 and below 0, so that fast pairs become faster still. Clamp it.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    turns = original_max_seq_len * frequencies / (2 * math.pi)
    kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "the lower bound at 0",
    "Your share is turns / high_freq_factor: the line begins at 0 turns. It begins at low_freq_factor.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, 0, high_freq_factor, original_max_seq_len)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "divided by the upper bound alone",
    "You divide turns - low_freq_factor by high_freq_factor. The line has to reach 1 at high_freq_factor turns: divide "
    "by high_freq_factor - low_freq_factor.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    turns = original_max_seq_len * frequencies / (2 * math.pi)
    kept = ((turns - low_freq_factor) / high_freq_factor).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "slow pairs made faster",
    "You multiply the slow pairs by factor. They have to turn more slowly: divide.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len)
    return kept * frequencies + (1 - kept) * frequencies * factor


@llama3_frequencies.misconception(
    "all pairs divided",
    "You divide all pairs by factor: that is position interpolation. Fast pairs are left alone here.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    return frequencies / factor


@llama3_frequencies.misconception(
    "the bounds written in",
    "You use 1 and 4 whatever low_freq_factor and high_freq_factor are.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, 1, 4, original_max_seq_len)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "the length written in",
    "You use 8192 whatever original_max_seq_len is.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, 8192)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "the longer text's length",
    "You count the turns within factor * original_max_seq_len, the length of the longer text. Fast and slow are said "
    "of the length that the model was first trained on.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len * factor)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "float32",
    "The numbers are right to about seven digits only: float64 comes in and float32 goes out. Keep the dtype of "
    "frequencies.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len)
    return (kept * frequencies + (1 - kept) * frequencies / factor).float()


@llama3_frequencies.misconception(
    "frequencies overwritten",
    "The numbers are right, but you write them into frequencies itself. Whoever passed it in may still need it: make a "
    "new tensor.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len)
    frequencies *= kept + (1 - kept) / factor
    return frequencies


@llama3_frequencies.misconception(
    "whole turns only",
    "You cut the number of turns to a whole number, so the share rises in jumps. A pair that turns 2.5 times counts as "
    "2.5.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    turns = (original_max_seq_len * frequencies / (2 * math.pi)).floor()
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "wavelengths mixed",
    "Your shares are right, but you mix wavelengths, f / (s + (1 - s) * factor). It is frequencies that are mixed, "
    "s * f + (1 - s) * f / factor.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = parts(frequencies, low_freq_factor, high_freq_factor, original_max_seq_len)
    return frequencies / (kept + (1 - kept) * factor)


@llama3_frequencies.misconception(
    "YaRN's ramp",
    "Between the bounds your share rises in equal steps from pair to pair: that is YaRN's code. Llama 3's share rises "
    "with the number of turns.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    bounds = high_freq_factor, low_freq_factor
    return extrapolation.yarn_frequencies(frequencies, factor, original_max_seq_len, *bounds)


@llama3_frequencies.misconception(
    "wavelengths taken for turns",
    "You compare wavelengths, which are positions, with low_freq_factor and high_freq_factor, which are numbers of "
    "turns. A pair turns original_max_seq_len / wavelength times.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    kept = ((2 * math.pi / frequencies - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


@llama3_frequencies.misconception(
    "nothing divided",
    "All your frequencies come back as they were. Slow pairs are divided by factor.",
)
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    return frequencies.clone()


@llama3_frequencies.alternative
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    wavelengths = 2 * math.pi / frequencies
    smooth = (original_max_seq_len / wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor)
    mixed = (1 - smooth) * frequencies / factor + smooth * frequencies
    slow = wavelengths > original_max_seq_len / low_freq_factor
    fast = wavelengths < original_max_seq_len / high_freq_factor
    return torch.where(slow, frequencies / factor, torch.where(fast, frequencies, mixed))


@llama3_frequencies.alternative
def _(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    found = []
    for frequency in frequencies:
        turns = frequency.item() * original_max_seq_len / math.tau
        share = min(max((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0), 1)
        found.append(frequency / factor * (1 - share) + frequency * share)
    return torch.stack(found)
