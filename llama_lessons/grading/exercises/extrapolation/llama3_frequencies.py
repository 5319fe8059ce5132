"""Exercise 6: Llama 3.1's rule."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import extrapolation

from ...exercise import Exercise
from ...expect import exact, expect_close, expect_like, on_device
from ...families import overwrites
from .common import frequencies_of, one_changed

# head_dim, theta, factor, low_freq_factor, high_freq_factor, original_max_seq_len
LLAMA_3_1 = (128, 500_000.0, 8.0, 1.0, 4.0, 8192)
LLAMA_3_2 = (64, 500_000.0, 32.0, 1.0, 4.0, 8192)
OTHERS = [(16, 10_000.0, 4.0, 1.0, 4.0, 512), (32, 10_000.0, 3.0, 2.0, 16.0, 1000), (8, 100.0, 1.5, 0.5, 3.0, 64)]
SETTINGS = [LLAMA_3_1, LLAMA_3_2, *OTHERS]


def llama3_frequencies(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    low, high = low_freq_factor, high_freq_factor
    turns = original_max_seq_len * frequencies / (2 * math.pi)
    share = (turns - low) / (high - low)
    stays = share.clamp(0, 1)
    slow = frequencies / factor
    mixed = stays * frequencies + (1 - stays) * slow
    return mixed.to(frequencies.dtype)


def made(setting: tuple, dtype: torch.dtype = torch.float64) -> tuple:
    """The arguments of a call."""
    head_dim, theta, *others = setting
    return (on_device(frequencies_of(head_dim, theta).to(dtype)), *others)


def that_turn(times: list[float], length: int) -> Tensor:
    """Frequencies of pairs that turn so many times, exactly so if the length is a power of two."""
    return 2 * math.pi * torch.tensor(times, dtype=torch.float64) / length


exercise = Exercise(
    llama3_frequencies,
    points=4,
    minutes=9,
    cases=lambda: [
        *(made(setting) for setting in [(24, 70_000.0, 5.0, 0.8, 5.0, 3000), *SETTINGS]),
        made(OTHERS[0], torch.float32),
        (that_turn([9, 4, 3.3, 1, 0.3], 4096), 8.0, 1.0, 4.0, 4096),
    ],
    returns=Tensor,
    hints=(
        "Work out first how often each pair turns within original_max_seq_len: one line, for all pairs at once.",
        "From the turns make a share between 0 and 1: 0 at low_freq_factor turns, 1 at high_freq_factor, a line "
        "between, and clamped outside.",
        "What comes back is a mixture of the unchanged frequencies, with that share, and the divided ones, with the "
        "rest. For the fast pairs and the slow ones the clamped share is already right.",
    ),
)


def name_of(setting: tuple) -> str:
    head_dim, theta, factor, low, high, length = setting
    return f"head_dim {head_dim}, theta {theta:,g}, factor {factor:g}, bounds {low:g} and {high:g}, length {length}"


def by_wavelengths(frequencies: Tensor, factor: float, low: float, high: float, length: int) -> Tensor:
    """The rule as Meta's code has it, pair by pair, in float64."""
    found = []
    for frequency in exact(frequencies).tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < length / high:
            found.append(frequency)
        elif wavelength > length / low:
            found.append(frequency / factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            found.append((1 - smooth) * frequency / factor + smooth * frequency)
    return torch.tensor(found, dtype=torch.float64)


@exercise.property("shape and dtype stay")
def shape_and_dtype(answer: Callable) -> None:
    for setting in OTHERS:
        for dtype in (torch.float64, torch.float32):
            got = answer(*made(setting, dtype))
            where = f"{name_of(setting)}, {str(dtype)[6:]}"
            expect_like(got, shape=(setting[0] // 2,), dtype=dtype, where=where)


@exercise.property("fast pairs are left alone, slow ones are divided by factor")
def fast_and_slow_pairs(answer: Callable) -> None:
    for setting in SETTINGS:
        frequencies, factor, low, high, length = made(setting)
        got, turns = answer(*made(setting)), frequencies * length / (2 * math.pi)
        for pairs, words, want in (
            (turns >= high, f"{high:g} times or more", frequencies),
            (turns <= low, f"{low:g} times or less", frequencies / factor),
        ):
            where = f"{name_of(setting)}, pairs that turn {words}"
            expect_close(got[pairs], want[pairs], where=where, rtol=1e-12, atol=0)


@exercise.property("between the bounds they are mixed by their turns")
def pairs_between(answer: Callable) -> None:
    frequencies = that_turn([3.25, 2.5, 1.75], 1000)  # so that 3/4, 1/2 and 1/4 stay
    want = frequencies * torch.tensor([0.75 + 0.25 / 8, 0.5 + 0.5 / 8, 0.25 + 0.75 / 8], dtype=torch.float64)
    where = "three pairs that turn 3.25, 2.5 and 1.75 times, factor 8, bounds 1 and 4"
    expect_close(answer(frequencies, 8.0, 1.0, 4.0, 1000), want, where=where, rtol=1e-9, atol=0)


@exercise.property("a pair that turns exactly as often as a bound says belongs to those beyond it")
def pairs_at_the_bounds(answer: Callable) -> None:
    for low, high, length in ((1.0, 4.0, 4096), (0.5, 2.0, 1024)):
        frequencies = that_turn([high, low], length)
        want = frequencies / torch.tensor([1, 8])
        where = f"two pairs that turn {high:g} and {low:g} times, factor 8, bounds {low:g} and {high:g}"
        expect_close(answer(frequencies, 8.0, low, high, length), want, where=where, rtol=1e-9, atol=0)


@exercise.property("the settings of Llama 3.1 and 3.2, and others, whatever was asked before")
def formula(answer: Callable) -> None:
    for setting in [*SETTINGS, *one_changed(OTHERS[0], (16, 5000.0, 6.0, 1.5, 7.0, 700))]:
        for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
            want = by_wavelengths(*made(setting, dtype))
            expect_close(answer(*made(setting, dtype)), want, where=name_of(setting), rtol=rtol, atol=0)


@exercise.property("a factor of 1, and fast pairs alone, change nothing: a new tensor comes out all the same")
def nothing_to_change(answer: Callable) -> None:
    frequencies, factor, *others = made(LLAMA_3_1)
    for given, divisor, where in ((frequencies, 1.0, "factor 1"), (frequencies[:9], factor, "fast pairs alone")):
        expect_close(answer(given, divisor, *others), given, where=where, rtol=1e-9, atol=0)
        answer.expect_new(where)


exercise.slips("""
    fast and slow exchanged: stays = share.clamp(0, 1) -> stays = 1 - share.clamp(0, 1)
        You divide the fast pairs and leave the slow ones alone. The slow ones are those that meet new angles.
    fast and slow alone exchanged: share.clamp(0, 1) -> share.where((share > 0) & (share < 1), (share <= 0).double())
        Between the bounds you mix as asked, but beyond them you divide the fast pairs and leave the slow ones alone.
        The slow ones are those that meet angles they never saw.
    mixed the wrong way round: share.clamp(0, 1) -> torch.where((share > 0) & (share < 1), 1 - share, share.clamp(0, 1))
        Between the bounds the two shares are exchanged. Near high_freq_factor turns a pair should be almost unchanged.
    the 2 pi is missing: frequencies / (2 * math.pi) -> frequencies
        You take length times frequency for the number of turns. That is the angle in radians; a turn is 2 pi of them.
    pi for 2 pi: frequencies / (2 * math.pi) -> frequencies / math.pi
        You count half turns: a full turn is 2 pi radians.
    wavelengths taken for turns: (turns - low) -> (2 * math.pi / frequencies - low)
        You compare wavelengths, which are positions, with low_freq_factor and high_freq_factor, which are numbers of
        turns. A pair turns original_max_seq_len / wavelength times.
    whole turns only: (turns - low) -> (turns.floor() - low)
        You cut the number of turns, so the share rises in jumps. A pair that turns 2.5 times counts as 2.5.
    turns cut by int(): (turns - low) -> (turns.int() - low)
        You cut the number of turns, so the share rises in jumps. A pair that turns 2.5 times counts as 2.5.
    turns rounded: (turns - low) -> (turns.round() - low)
        You round the number of turns, so the share rises in jumps. A pair that turns 2.6 times counts as 2.6.
    a step at the lower bound: share.clamp(0, 1) -> (share > 0).to(frequencies)
        You leave alone every pair that turns more than low_freq_factor times. Between the bounds pairs are mixed.
    a step at the upper bound: share.clamp(0, 1) -> (share >= 1).to(frequencies)
        You divide every pair that turns less than high_freq_factor times. Between the bounds pairs are mixed.
    half and half between the bounds: share.clamp(0, 1) -> share.clamp(0, 1).where((share <= 0) | (share >= 1), 0.5)
        Every pair between the bounds keeps one half. The share rises with the turns, from 0 to 1.
    the lower bound itself left alone: share.clamp(0, 1) -> share.clamp(0, 1).where(share != 0, 1)
        You leave alone a pair that turns exactly low_freq_factor times. It is divided, as those that turn less are.
    the upper bound itself divided: share.clamp(0, 1) -> share.clamp(0, 1).where(share != 1, 0)
        You divide a pair that turns exactly high_freq_factor times. It stays, as those that turn more do.
    nothing at the bounds themselves: mixed.to( -> (mixed * ((share != 0) & (share != 1))).to(
        A pair that turns exactly as often as a bound says gets a frequency of 0, as if it belonged to no group.
        Exactly high_freq_factor turns stay, exactly low_freq_factor turns are divided.
    linear in the wavelength: (turns - low) / -> (turns - low) * high / turns /
        Between the bounds your mixture is linear in the wavelength. It is linear in the number of turns.
    linear in the logarithm: (turns - low) / (high - low) -> (turns / low).log() / math.log(high / low)
        Between the bounds your mixture is linear in the logarithm of the turns. It is linear in the number of turns.
    not clamped: share.clamp(0, 1) -> share
        The share goes on above 1 and below 0, so that fast pairs become faster still. Clamp it.
    above 1: share.clamp(0, 1) -> share.clamp(min=0)
        The share goes on above 1, so that fast pairs become faster still. Clamp it there as well.
    below 0: share.clamp(0, 1) -> share.clamp(max=1)
        The share goes on below 0, so that slow pairs are slowed too much, or turn backwards. Clamp it there as well.
    the lower bound at 0: (turns - low) / (high - low) -> turns / high
        Your share is turns / high_freq_factor: the line begins at 0 turns. It begins at low_freq_factor.
    divided by the upper bound alone: (high - low) -> high
        You divide turns - low_freq_factor by high_freq_factor. The line has to reach 1 at high_freq_factor turns:
        divide by high_freq_factor - low_freq_factor.
    the bounds written in: low, high = low_freq_factor, high_freq_factor -> low, high = 1, 4
        Your result is that for bounds of 1 and 4, whatever low_freq_factor and high_freq_factor are.
    the length written in: original_max_seq_len * -> 8192 *
        Your result is that for a length of 8192, whatever original_max_seq_len is.
    the longer text's length: original_max_seq_len * -> factor * original_max_seq_len *
        You count the turns within factor * original_max_seq_len, the length of the longer text. Fast and slow are said
        of the length that the model was first trained on.
    the factor written in: / factor -> / 8
        Your result is that for a factor of 8, whatever factor is. Llama 3.2 has 32.
    slow pairs made faster: / factor -> * factor
        You multiply the slow pairs by factor. They have to turn more slowly: divide.
    all pairs divided: mixed = stays * frequencies + (1 - stays) * slow -> mixed = frequencies / factor
        You divide all pairs by factor: that is position interpolation. Fast pairs are left alone here.
    nothing divided: mixed = stays * frequencies + (1 - stays) * slow -> mixed = frequencies.clone()
        All your frequencies come back as they were. Slow pairs are divided by factor.
    wavelengths mixed: stays * frequencies + (1 - stays) * slow -> frequencies / (stays + (1 - stays) * factor)
        You mix wavelengths, f / (s + (1 - s) * factor). It is frequencies that are mixed, s * f + (1 - s) * f / factor.
    the part that stays left out: stays * frequencies + (1 - stays) * slow -> (1 - stays) * slow
        Fast pairs come out as 0: the part that stays is missing, s * f in s * f + (1 - s) * f / factor.
    the divided part counted whole: (1 - stays) * slow -> slow
        You add the whole divided frequency. It gets the rest of the share: s * f + (1 - s) * f / factor.
    mixed as powers: stays * frequencies + (1 - stays) * slow -> frequencies / factor ** (1 - stays)
        You divide by a power of factor, f / factor ** (1 - s). Frequencies are mixed: s * f + (1 - s) * f / factor.
    the shares alone: mixed = stays * frequencies + (1 - stays) * slow -> mixed = stays + (1 - stays) / factor
        You return what the frequencies are to be multiplied by. The new frequencies themselves are asked for.
    float32: mixed.to(frequencies.dtype) -> mixed.float()
        Float64 comes in and float32 goes out, with seven digits. Keep the dtype of frequencies.
    rounded to float32: mixed.to( -> mixed.float().to(
        Your frequencies are right to seven digits only, as if float32 stood between, and far positions need more:
        .double() does not bring lost digits back.
    float64: low, high = low -> frequencies = frequencies.double(); low, high = low
        Float32 comes in and float64 goes out. Keep the dtype of frequencies.
    the turns in float32: (turns - low) -> (turns.float() - low)
        Between the bounds your numbers are right to seven digits only: something is float32. Keep the dtype.
    the share in float32: share.clamp(0, 1) -> share.clamp(0, 1).float()
        Your shares, and so the mixed frequencies, are right to seven digits only: something is float32. Keep the dtype.
""")
overwrites(exercise, "frequencies")


@exercise.misconception
def the_ramp_of_yarn(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    """Between the bounds your share rises in equal steps from pair to pair: that is YaRN's code. Llama 3's share rises
    with the number of turns."""
    return extrapolation.yarn_frequencies(frequencies, factor, original_max_seq_len, high_freq_factor, low_freq_factor)


@exercise.misconception
def computed_in_float32(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    """Your frequencies are right to seven digits only, as if all were computed in float32, and far positions need more:
    .double() does not bring lost digits back."""
    f = frequencies.float()
    share = (original_max_seq_len * f / (2 * math.pi) - low_freq_factor) / (high_freq_factor - low_freq_factor)
    share = share.clamp(0, 1)
    return (share * f + (1 - share) * f / factor).to(frequencies.dtype)
