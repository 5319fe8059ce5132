"""Other answers to llama3_frequencies."""

import math

import numpy as np
import torch

from llama_lessons import extrapolation
from tests.grading.answers import right, wrong

right(extrapolation.llama3_frequencies)


@right
def as_meta_s_code_has_it(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    wavelengths = 2 * math.pi / frequencies
    smooth = (original_max_seq_len / wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor)
    mixed = (1 - smooth) * frequencies / factor + smooth * frequencies
    slow = wavelengths > original_max_seq_len / low_freq_factor
    fast = wavelengths < original_max_seq_len / high_freq_factor
    return torch.where(slow, frequencies / factor, torch.where(fast, frequencies, mixed))


@right
def pair_by_pair(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    found = []
    for frequency in frequencies:
        turns = frequency.item() * original_max_seq_len / math.tau
        share = min(max((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0), 1)
        found.append(frequency / factor * (1 - share) + frequency * share)
    return torch.stack(found)


@right
def by_masks(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = original_max_seq_len * frequencies / math.tau
    result = frequencies.clone()
    slow, fast = turns <= low_freq_factor, turns >= high_freq_factor
    result[slow] /= factor
    between = ~(slow | fast)
    share = (turns[between] - low_freq_factor) / (high_freq_factor - low_freq_factor)
    result[between] *= share + (1 - share) / factor
    return result


@right
def by_numpy(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    f = frequencies.numpy()
    share = np.interp(original_max_seq_len * f / (2 * np.pi), [low_freq_factor, high_freq_factor], [0.0, 1.0])
    return torch.from_numpy(f * (1 / factor + share * (1 - 1 / factor))).to(frequencies.dtype)


@right
def by_lerp(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    wavelengths = 2 * torch.pi / frequencies
    share = (original_max_seq_len / wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor)
    return torch.lerp(frequencies / factor, frequencies, share.clamp(0, 1))


@right
def from_a_list(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    found = []
    for f in frequencies.tolist():
        share = (original_max_seq_len * f / math.tau - low_freq_factor) / (high_freq_factor - low_freq_factor)
        share = max(0.0, min(1.0, share))
        found.append(share * f + (1 - share) * f / factor)
    return frequencies.new_tensor(found)


@wrong(called="mixed as powers")
def mixed_geometrically(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = original_max_seq_len * frequencies / math.tau
    share = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return frequencies / factor ** (1 - share)


@wrong(called="the ramp of yarn")
def by_yarns_code(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    return extrapolation.yarn_frequencies(frequencies, factor, original_max_seq_len, high_freq_factor, low_freq_factor)


@wrong(called="the factor written in")
def for_factor_8(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    rest = low_freq_factor, high_freq_factor, original_max_seq_len
    return extrapolation.llama3_frequencies(frequencies, 8.0, *rest)


@wrong(called="linear in the logarithm")
def logarithmic(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = original_max_seq_len * frequencies / math.tau
    share = (turns / low_freq_factor).log() / math.log(high_freq_factor / low_freq_factor)
    share = share.clamp(0, 1)
    return share * frequencies + (1 - share) * frequencies / factor


def turns_of(frequencies, length):
    return length * frequencies / math.tau


def by_shares(frequencies, factor, low, high, length):
    share = ((turns_of(frequencies, length) - low) / (high - low)).clamp(0, 1)
    return share * frequencies + (1 - share) * frequencies / factor


@wrong(called="the lower bound itself left alone")
def in_place_by_open_intervals(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns, result = turns_of(frequencies, original_max_seq_len), frequencies.clone()
    between = (turns > low_freq_factor) & (turns < high_freq_factor)
    share = (turns[between] - low_freq_factor) / (high_freq_factor - low_freq_factor)
    result[turns < low_freq_factor] /= factor
    result[between] = share * result[between] + (1 - share) * result[between] / factor
    return result


@wrong(called="nothing at the bounds themselves")
def into_zeros_by_open_intervals(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns, result = turns_of(frequencies, original_max_seq_len), torch.zeros_like(frequencies)
    fast, slow = turns > high_freq_factor, turns < low_freq_factor
    between = (turns > low_freq_factor) & (turns < high_freq_factor)
    result[fast], result[slow] = frequencies[fast], frequencies[slow] / factor
    result[between] = by_shares(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len)[between]
    return result


@wrong(called="a step at the upper bound")
def no_pairs_between(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = turns_of(frequencies, original_max_seq_len)
    return torch.where(turns >= high_freq_factor, frequencies, frequencies / factor)


@wrong(called="a step at the lower bound")
def a_step_at_the_lower_bound_not_included(
    frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len
):
    turns = turns_of(frequencies, original_max_seq_len)
    return torch.where(turns < low_freq_factor, frequencies / factor, frequencies)


@wrong(called="mixed the wrong way round")
def as_meta_s_code_has_it_but_for_the_mixture(
    frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len
):
    found = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / frequency
        if wavelength < original_max_seq_len / high_freq_factor:
            found.append(frequency)
        elif wavelength > original_max_seq_len / low_freq_factor:
            found.append(frequency / factor)
        else:
            smooth = original_max_seq_len / wavelength - low_freq_factor
            smooth /= high_freq_factor - low_freq_factor
            found.append(smooth * frequency / factor + (1 - smooth) * frequency)
    return torch.stack(found)


@wrong(called="linear in the wavelength")
def by_wavelengths(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    shortest, longest = original_max_seq_len / high_freq_factor, original_max_seq_len / low_freq_factor
    share = ((2 * math.pi / frequencies - longest) / (shortest - longest)).clamp(0, 1)
    return share * frequencies + (1 - share) * frequencies / factor


@wrong(called="rounded to float32")
def from_a_list_and_back(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    return torch.tensor(
        by_shares(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len).tolist()
    ).to(frequencies.dtype)


@wrong(called="computed in float32")
def in_float32(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    others = factor, low_freq_factor, high_freq_factor, original_max_seq_len
    return by_shares(frequencies.float(), *others).to(frequencies.dtype)


@wrong(called="whole turns only")
def by_floor_division(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = original_max_seq_len * frequencies // (2 * math.pi)
    share = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return share * frequencies + (1 - share) * frequencies / factor


SHARES = {}


@wrong(never=("the bounds written in", "the length written in"))
def shares_kept_by_the_number_of_pairs(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    turns = turns_of(frequencies, original_max_seq_len)
    share = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    share = SHARES.setdefault(len(frequencies), share).to(frequencies.dtype)
    return share * frequencies + (1 - share) * frequencies / factor


@wrong(called="float64")
def float64_goes_out(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    return by_shares(frequencies.double(), factor, low_freq_factor, high_freq_factor, original_max_seq_len)


@wrong(called=None)
def as_they_are_for_factor_1(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    if factor == 1:
        return frequencies
    return by_shares(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len)


@wrong(called=None)
def as_they_are_if_all_are_fast(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len):
    if (turns_of(frequencies, original_max_seq_len) >= high_freq_factor).all():
        return frequencies.view(-1)
    return by_shares(frequencies, factor, low_freq_factor, high_freq_factor, original_max_seq_len)
