"""Other answers to tutorial_table."""

import math

import torch
from torch import nn

from llama_lessons import positions
from tests.grading.answers import right, wrong

right(positions.sinusoidal_positions)


def by_loop(max_seq_len, dim, sine, cosine):
    """The loop of the notebook with other exponents."""
    table = torch.zeros(max_seq_len, dim)
    for position in range(max_seq_len):
        for channel in range(0, dim, 2):
            table[position, channel] = math.sin(position / 10_000 ** sine(channel))
            table[position, channel + 1] = math.cos(position / 10_000 ** cosine(channel))
    return table


@right
def by_columns(max_seq_len, dim):
    angles = torch.arange(max_seq_len).double()[:, None] / 10_000.0 ** (torch.arange(0, dim, 2).double() / dim)
    table = torch.empty(max_seq_len, dim)
    table[:, ::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


@right
def by_halving(max_seq_len, dim):
    return by_loop(max_seq_len, dim, lambda c: 2 * (c // 2) / dim, lambda c: 2 * (c // 2) / dim)


@right
def pair_by_pair(max_seq_len, dim):
    table = torch.zeros(max_seq_len, dim)
    for i in range(dim // 2):
        angle = torch.arange(max_seq_len).double() * 10_000 ** (-2 * i / dim)
        table[:, 2 * i], table[:, 2 * i + 1] = angle.sin(), angle.cos()
    return table


@wrong()
def for_eight_channels(max_seq_len, dim):
    return by_loop(max_seq_len, dim, lambda c: c / 8, lambda c: c / 8)


@wrong()
def lengths_by_force(max_seq_len, dim):
    table = by_loop(max_seq_len, dim, lambda c: 2 * c / dim, lambda c: 2 * (c + 1) / dim)
    return nn.functional.normalize(table, dim=1) * math.sqrt(dim / 2)


@wrong()
def for_twenty_positions(max_seq_len, dim):
    return positions.sinusoidal_positions(min(max_seq_len, 20), dim)


@wrong(called="one frequency, but too slow")
def divided_by_the_number_of_pairs(max_seq_len, dim):
    return by_loop(max_seq_len, dim, lambda c: c / (dim // 2), lambda c: c / (dim // 2))


@wrong(called="right exponents, but two frequencies")
def each_channel_its_own(max_seq_len, dim):
    return by_loop(max_seq_len, dim, lambda c: c / dim, lambda c: (c + 1) / dim)


@wrong(called="the exponents halved once too often")
def halved_again(max_seq_len, dim):
    return by_loop(max_seq_len, dim, lambda c: (c // 2) / dim, lambda c: (c // 2) / dim)


@wrong()
def the_cosine_one_pair_earlier(max_seq_len, dim):
    return by_loop(max_seq_len, dim, lambda c: c / dim, lambda c: (c - 2) / dim)


@wrong(called=None)
def another_base(max_seq_len, dim):
    return positions.sinusoidal_positions(max_seq_len, dim, 1_000.0)


@wrong(called="float64 returned")
def in_float64(max_seq_len, dim):
    return positions.sinusoidal_positions(max_seq_len, dim, dtype=torch.float64)


@wrong()
def a_row_too_many(max_seq_len, dim):
    return positions.sinusoidal_positions(max_seq_len + 1, dim)


LONGEST = {}


@wrong(called=None)
def returns_the_longest_table_so_far(max_seq_len, dim):
    if len(LONGEST.get(dim, ())) < max_seq_len:
        LONGEST[dim] = positions.sinusoidal_positions(max_seq_len, dim)
    return LONGEST[dim]
