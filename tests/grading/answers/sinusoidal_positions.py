"""Other answers to sinusoidal_positions."""

import functools
import math

import numpy as np
import torch
from torch import nn

from llama_lessons import positions
from tests.grading.answers import right, wrong

right(positions.sinusoidal_positions)


def refuse_odd(dim):
    if dim % 2:
        raise ValueError(f"dim {dim} is odd")


def side_by_side(angles):
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()


@right
def by_exp_and_log(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    frequencies = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(base) / dim))
    angles = torch.outer(torch.arange(max_seq_len, dtype=torch.float64), frequencies)
    table = torch.zeros(max_seq_len, dim)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


@right
def number_by_number(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    rows = []
    for position in range(max_seq_len):
        row = []
        for pair in range(dim // 2):
            angle = position / base ** (2 * pair / dim)
            row.extend((math.sin(angle), math.cos(angle)))
        rows.append(row)
    return torch.tensor(rows)


@right
def a_cosine_is_a_sine_that_started_earlier(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    channels = torch.arange(dim, dtype=torch.float64)
    frequencies = base ** -((channels - channels % 2) / dim)
    return torch.sin(torch.arange(max_seq_len)[:, None] * frequencies + channels % 2 * math.pi / 2).float()


@right
def by_numpy(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    angles = np.outer(np.arange(max_seq_len), base ** (-np.arange(0, dim, 2) / dim))
    return torch.from_numpy(np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(max_seq_len, dim)).float()


@right
def by_complex_numbers(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    angles = torch.arange(max_seq_len).double()[:, None] * positions.sinusoidal_frequencies(dim, base)
    turned = torch.polar(torch.ones_like(angles), angles)  # cosine + i sine
    return torch.view_as_real(turned).flip(-1).flatten(1).float()


@right
def by_einsum(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    angles = torch.einsum("p,i->pi", torch.arange(max_seq_len).double(), positions.sinusoidal_frequencies(dim, base))
    return torch.cat((angles.sin()[..., None], angles.cos()[..., None]), -1).reshape(max_seq_len, dim).float()


@right
def as_a_parameter(max_seq_len, dim, base=10_000.0):
    return nn.Parameter(positions.sinusoidal_positions(max_seq_len, dim, base), requires_grad=False)


@right
def turned_step_by_step(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    step, row = positions.shift_matrix(1, dim, base).T, torch.tensor([0.0, 1.0] * (dim // 2)).double()
    rows = []
    for _ in range(max_seq_len):
        rows.append(row)
        row = row @ step
    return torch.stack(rows).float()


@right
def not_contiguous(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    angles = (positions.sinusoidal_frequencies(dim, base)[:, None] * torch.arange(max_seq_len)).repeat_interleave(2, 0)
    angles[1::2] += math.pi / 2
    return angles.sin().float().T


@right
def frequencies_kept_under_all_they_depend_on(max_seq_len, dim, base=10_000.0):
    return side_by_side(torch.arange(max_seq_len)[:, None] * kept_frequencies(dim, base))


@functools.cache
def kept_frequencies(dim, base):
    return positions.sinusoidal_frequencies(dim, base)


@wrong(called="base is 500,000 by itself")
def base_of_llama_3(max_seq_len, dim, base=500_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, base)


@wrong()
def rounded(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, base, torch.bfloat16).float()


@wrong()
def ends_at_512(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(min(max_seq_len, 512), dim, base)


@wrong(called="an assert for an odd dim")
def with_an_assert(max_seq_len, dim, base=10_000.0):
    assert dim % 2 == 0
    return positions.sinusoidal_positions(max_seq_len, dim, base)


@wrong(called="cosines only")
def two_cosines(max_seq_len, dim, base=10_000.0):
    table = positions.sinusoidal_positions(max_seq_len, dim, base)
    return table[:, 1::2].repeat_interleave(2, dim=1)


@wrong()
def pairs_in_reverse(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, base).unflatten(1, (-1, 2)).flip(1).flatten(1)


@wrong(called="an axis for a batch")
def with_a_batch_axis(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, base)[None]


KEPT: dict = {}


@wrong(called="base kept from an earlier call", never=("base written in",))
def frequencies_kept_by_dim(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    frequencies = KEPT.setdefault(dim, positions.sinusoidal_frequencies(dim, base))
    return side_by_side(torch.arange(max_seq_len)[:, None] * frequencies)


@wrong(called="base kept from an earlier call", never=("base written in",))
def table_kept_by_both_sizes(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    return KEPT.setdefault((max_seq_len, dim), positions.sinusoidal_positions(max_seq_len, dim, base))


@wrong(never=("base written in",))
def table_kept_by_dim(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    return KEPT.setdefault(("table", dim), positions.sinusoidal_positions(max_seq_len, dim, base))


@wrong(called="dim kept from an earlier call")
def table_kept_by_length(max_seq_len, dim, base=10_000.0):
    return KEPT.setdefault((max_seq_len, base), positions.sinusoidal_positions(max_seq_len, dim, base))


def in_float32(frequencies, called, integers=False):
    """A table from frequencies in float32, whose angles are taken in float32 too, or in float64 if `integers`."""

    @wrong(called=called)
    def answer(max_seq_len, dim, base=10_000.0):
        refuse_odd(dim)
        places = torch.arange(max_seq_len, dtype=torch.float64 if integers else torch.float32)
        return side_by_side(places[:, None] * frequencies(torch.arange(0, dim, 2), dim, base))

    return answer


for spelled in (
    lambda twice, dim, base: base ** (-twice / dim),
    lambda twice, dim, base: base ** (-2 * torch.arange(dim // 2) / dim),
    lambda twice, dim, base: 1.0 / base ** (twice.float() / dim),
    lambda twice, dim, base: torch.exp(twice * -(math.log(base) / dim)),
    lambda twice, dim, base: torch.exp(-math.log(base) * twice / dim),
    lambda twice, dim, base: torch.pow(torch.tensor(base), -twice / dim),
):
    in_float32(spelled, "angles in float32")
    in_float32(spelled, "frequencies in float32", integers=True)


@wrong(called="angles in float32, by division")
def divided_in_float32(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    return side_by_side(torch.arange(max_seq_len)[:, None] / base ** (torch.arange(0, dim, 2) / dim))


@wrong(called="exponents in float32")
def exponents_of_integers(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    return side_by_side(torch.arange(max_seq_len)[:, None] * base ** -(torch.arange(0, dim, 2) / dim).double())


@wrong()
def an_odd_dim_without_its_last_cosine(max_seq_len, dim, base=10_000.0):
    angles = torch.arange(max_seq_len)[:, None] * base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return side_by_side(angles)[:, :dim]


@wrong(called="an error of torch for an odd dim")
def slices_that_do_not_fit(max_seq_len, dim, base=10_000.0):
    angles = torch.arange(max_seq_len)[:, None] * base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    table = torch.zeros(max_seq_len, dim)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


@wrong(called="the table of the tutorials")
def copied_from_a_tutorial(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    table = torch.zeros(max_seq_len, dim)
    place = torch.arange(max_seq_len).double()
    for i in range(0, dim, 2):
        table[:, i] = torch.sin(place / base ** (2 * i / dim))
        table[:, i + 1] = torch.cos(place / base ** (2 * (i + 1) / dim))
    return table


@wrong(called="the 2 twice")
def divided_by_the_number_of_pairs_twice(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    return side_by_side(torch.arange(max_seq_len)[:, None] / base ** (2 * torch.arange(dim // 2).double() / (dim // 2)))


@wrong(called="the 2 is missing")
def the_number_of_the_pair_over_dim(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    return side_by_side(torch.arange(max_seq_len)[:, None] / base ** (torch.arange(dim // 2).double() / dim))


@wrong(called="the power is divided by dim")
def brackets_forgotten(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    return side_by_side(torch.arange(max_seq_len)[:, None] * base ** -torch.arange(0, dim, 2).double() / dim)


@wrong(called="the last exponent is -1")
def by_linspace(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    frequencies = base ** -torch.linspace(0, 1, dim // 2, dtype=torch.float64)
    return side_by_side(torch.arange(max_seq_len)[:, None] * frequencies)


@wrong(called="all sines, then all cosines")
def joined_by_cat(max_seq_len, dim, base=10_000.0):
    table = positions.sinusoidal_positions(max_seq_len, dim, base)
    return torch.cat((table[:, ::2], table[:, 1::2]), 1)


@wrong(called="sines of several positions in a row")
def joined_and_viewed(max_seq_len, dim, base=10_000.0):
    table = positions.sinusoidal_positions(max_seq_len, dim, base)
    return torch.cat((table[:, ::2], table[:, 1::2])).view(max_seq_len, dim)


@wrong(called="all sines, then all cosines")
def stacked_along_axis_1(max_seq_len, dim, base=10_000.0):
    table = positions.sinusoidal_positions(max_seq_len, dim, base)
    return torch.stack((table[:, ::2], table[:, 1::2]), dim=1).view(max_seq_len, dim)


@right
def angles_within_a_turn(max_seq_len, dim, base=10_000.0):
    angles = torch.arange(max_seq_len)[:, None] * positions.sinusoidal_frequencies(dim, base) % (2 * math.pi)
    return side_by_side(angles.float())


@wrong()
def the_longest_table_so_far(max_seq_len, dim, base=10_000.0):
    found = positions.sinusoidal_positions(max_seq_len, dim, base)
    kept = KEPT.setdefault(("longest", dim, base), found)
    return kept if len(kept) > max_seq_len else found


@wrong(never=("an odd dim accepted",))
def the_annotated_transformer_with_slices_that_do_not_fit(max_seq_len, dim, base=10_000.0):
    table = torch.zeros(max_seq_len, dim)
    angles = torch.arange(max_seq_len)[:, None] * torch.exp(torch.arange(0, dim, 2) * -(math.log(base) / dim))
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


@wrong(called=None)
def with_a_base_of_at_least_10000(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, max(base, 10_000.0))


@wrong(called="all cosines, then all sines")
def halves_with_cosines_first(max_seq_len, dim, base=10_000.0):
    table = positions.sinusoidal_positions(max_seq_len, dim, base)
    return torch.cat((table[:, 1::2], table[:, ::2]), dim=1)
