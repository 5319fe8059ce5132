"""Other answers to rope_tables."""

import math

import numpy as np
import torch

from llama_lessons import rope
from tests.grading.answers import right, wrong

right(rope.rope_tables)


@right
def by_outer(positions, frequencies):
    angles = torch.outer(positions.double(), frequencies.to(positions.device))
    return torch.cos(angles).float(), torch.sin(angles).float()


@right
def by_einsum(positions, frequencies):
    angles = torch.einsum("s,p->sp", positions.to(torch.float64), frequencies.to(positions.device))
    return [angles.cos().to(torch.float32), angles.sin().to(torch.float32)]


@right
def by_polar(positions, frequencies):
    angles = positions.double()[:, None] * frequencies.to(positions.device)
    turned = torch.polar(torch.ones_like(angles), angles)
    return turned.real.float(), turned.imag.float()


@right
def number_by_number(positions, frequencies):
    rows = [[m * f for f in frequencies.tolist()] for m in positions.tolist()]
    cos = torch.tensor([[math.cos(a) for a in row] for row in rows], device=positions.device)
    return cos, torch.tensor([[math.sin(a) for a in row] for row in rows], device=positions.device)


@right
def by_numpy(positions, frequencies):
    angles = np.multiply.outer(positions.cpu().numpy(), frequencies.numpy())
    return tuple(torch.from_numpy(f(angles)).float().to(positions.device) for f in (np.cos, np.sin))


@right
def modulo_a_turn(positions, frequencies):
    angles = (positions.double()[:, None] * frequencies.to(positions.device)) % (2 * math.pi)
    return angles.cos().float(), angles.sin().float()


@right
def sine_as_a_shifted_cosine(positions, frequencies):
    angles = positions.double()[:, None] * frequencies.to(positions.device)
    return angles.cos().float(), (angles - math.pi / 2).cos().float()


@wrong(called="angles in float32")
def the_usual_code(positions, frequencies):
    angles = torch.outer(positions.float(), frequencies.float().to(positions.device))
    return angles.cos(), angles.sin()


@wrong(called=None)
def doubled_frequency_of_the_last_pair(positions, frequencies):
    frequencies = torch.cat((frequencies[:-1], 2 * frequencies[-1:])).to(positions.device)
    angles = positions.double()[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


@wrong()
def a_table_for_the_first_thousand(positions, frequencies):
    angles = torch.arange(1000).double()[:, None] * frequencies
    return angles.cos().float()[positions.clamp(max=999)], angles.sin().float()[positions.clamp(max=999)]


@wrong()
def kept_from_the_first_call(positions, frequencies, kept={}):  # noqa: B006
    key = len(positions), len(frequencies)
    if key not in kept:
        kept[key] = rope.rope_tables(positions, frequencies)
    return kept[key]


@wrong()
def in_float16_angles(positions, frequencies):
    angles = positions.double()[:, None] * frequencies.half().double().to(positions.device)
    return angles.cos().float(), angles.sin().float()
