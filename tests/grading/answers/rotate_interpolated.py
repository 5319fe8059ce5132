"""Other answers to rotate_interpolated."""

import torch

from llama_lessons import extrapolation, rope
from tests.grading.answers import right, wrong


def turned(q, k, positions, frequencies):
    tables = rope.rope_tables(positions, frequencies)
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


def by_angles(q, k, angles):
    cos, sin = angles.cos().float(), angles.sin().float()
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


def places(q, n_cached):
    return torch.arange(q.shape[2], device=q.device) + n_cached


@right
def by_positions_in_float64(q, k, n_cached, factor, theta=10_000.0):
    angles = places(q, n_cached).double()[:, None] / factor * rope.rope_frequencies(q.shape[-1], theta).to(q.device)
    cos, sin = angles.cos().float().to(q.device), angles.sin().float().to(q.device)
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


@right
def with_frequencies_divided(q, k, n_cached, factor, theta=10_000.0):
    seq_len, head_dim = q.shape[-2:]
    positions = torch.arange(n_cached, n_cached + seq_len, device=q.device)
    tables = rope.rope_tables(positions, rope.rope_frequencies(head_dim, theta).div(factor))
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


@right
def from_the_library(q, k, n_cached, factor, theta=10_000.0):
    frequencies = extrapolation.linear_frequencies(rope.rope_frequencies(q.shape[-1], theta), factor)
    return turned(q, k, places(q, n_cached), frequencies)


@right
def by_complex_numbers(q, k, n_cached, factor, theta=10_000.0):
    n = q.shape[-1] // 2
    angles = (places(q, n_cached).double() / factor)[:, None] * theta ** (-torch.arange(n).double() / n)
    turns = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)

    def turn(x):
        result = torch.complex(x[..., :n].float(), x[..., n:].float()) * turns
        return torch.cat((result.real, result.imag), -1).to(x.dtype)

    return [turn(q), turn(k)]


@right
def both_at_once(q, k, n_cached, factor, theta=10_000.0):
    frequencies = rope.rope_frequencies(q.shape[-1], theta).mul(1 / factor)
    tables = rope.rope_tables(places(q, n_cached), frequencies)
    return rope.apply_rope(torch.cat((q, k), dim=1), *tables).split((q.shape[1], k.shape[1]), dim=1)


@wrong(called="angles in float32")
def in_float32(q, k, n_cached, factor, theta=10_000.0):
    angles = (places(q, n_cached).float() / factor)[:, None] * rope.rope_frequencies(q.shape[-1], theta).float()
    return rope.apply_rope(q, angles.cos(), angles.sin()), rope.apply_rope(k, angles.cos(), angles.sin())


@wrong(called="only the queries")
def queries_alone(q, k, n_cached, factor, theta=10_000.0):
    frequencies = rope.rope_frequencies(q.shape[-1], theta)
    tables = rope.rope_tables(places(q, n_cached), frequencies)
    return turned(q, k, places(q, n_cached), frequencies / factor)[0], rope.apply_rope(k, *tables)


@wrong(called="a whole factor")
def by_whole_factors(q, k, n_cached, factor, theta=10_000.0):
    return turned(q, k, places(q, n_cached), rope.rope_frequencies(q.shape[-1], theta) / int(factor))


@right
def without_gradients(q, k, n_cached, factor, theta=10_000.0):
    return from_the_library(q.detach(), k.detach(), n_cached, factor, theta)


@wrong()
def by_yarn(q, k, n_cached, factor, theta=10_000.0):
    frequencies = extrapolation.yarn_frequencies(rope.rope_frequencies(q.shape[-1], theta), factor, 4096)
    return turned(q, k, places(q, n_cached), frequencies)


@right
def under_no_grad(q, k, n_cached, factor, theta=10_000.0):
    with torch.no_grad():
        return from_the_library(q, k, n_cached, factor, theta)


@wrong(called="positions rounded down")
def by_floor_division(q, k, n_cached, factor, theta=10_000.0):
    return turned(q, k, (places(q, n_cached) // factor).int(), rope.rope_frequencies(q.shape[-1], theta))


@wrong(called="positions in float32")
def positions_divided_as_they_are(q, k, n_cached, factor, theta=10_000.0):
    return by_angles(q, k, (places(q, n_cached) / factor)[:, None] * rope.rope_frequencies(q.shape[-1], theta))


@wrong()
def positions_divided_for_the_tables(q, k, n_cached, factor, theta=10_000.0):
    return turned(q, k, places(q, n_cached) / factor, rope.rope_frequencies(q.shape[-1], theta))


@wrong()
def frequencies_worked_out_in_float32(q, k, n_cached, factor, theta=10_000.0):
    frequencies = 1.0 / theta ** (torch.arange(0, q.shape[-1], 2).float() / q.shape[-1])
    return turned(q, k, places(q, n_cached), frequencies / factor)


@wrong(called="interpolated in long texts alone", never=("a whole factor",))
def beyond_8192_alone(q, k, n_cached, factor, theta=10_000.0):
    positions = places(q, n_cached).double()
    positions = torch.where(positions > 8192, positions / factor, positions)
    return by_angles(q, k, positions[:, None] * rope.rope_frequencies(q.shape[-1], theta))


@wrong(called="interpolated in long texts alone", never=("a whole factor",))
def where_the_text_is_longer_than_4096(q, k, n_cached, factor, theta=10_000.0):
    longer = n_cached + q.shape[2] > 4096
    return from_the_library(q, k, n_cached, factor if longer else 1.0, theta)


@wrong(called="only the new tokens' steps are divided")
def from_n_cached_on(q, k, n_cached, factor, theta=10_000.0):
    positions = n_cached + torch.arange(q.shape[2]).double() / factor
    return by_angles(q, k, positions[:, None] * rope.rope_frequencies(q.shape[-1], theta))


@wrong()
def only_n_cached_divided_and_the_frequencies_too(q, k, n_cached, factor, theta=10_000.0):
    return from_the_library(q, k, int(n_cached / factor), factor, theta)


@wrong(called="NTK-aware scaling")
def by_ntk_theta(q, k, n_cached, factor, theta=10_000.0):
    frequencies = rope.rope_frequencies(q.shape[-1], extrapolation.ntk_theta(theta, factor, q.shape[-1]))
    return turned(q, k, places(q, n_cached), frequencies)


FREQUENCIES, DIVIDED, TABLES = {}, {}, {}


@wrong(called="theta of an earlier call", never=("theta written in",))
def frequencies_kept_by_head_dim(q, k, n_cached, factor, theta=10_000.0):
    frequencies = FREQUENCIES.setdefault(q.shape[-1], rope.rope_frequencies(q.shape[-1], theta))
    return turned(q, k, places(q, n_cached), frequencies / factor)


@wrong(called="factor of an earlier call", never=("a whole factor", "no interpolation at all"))
def divided_frequencies_kept(q, k, n_cached, factor, theta=10_000.0):
    key = q.shape[-1], theta
    frequencies = DIVIDED.setdefault(key, rope.rope_frequencies(q.shape[-1], theta) / factor)
    return turned(q, k, places(q, n_cached), frequencies)


@wrong(never=("theta written in", "a whole factor"))
def tables_kept_by_their_size_and_place(q, k, n_cached, factor, theta=10_000.0):
    frequencies = rope.rope_frequencies(q.shape[-1], theta) / factor
    tables = rope.rope_tables(places(q, n_cached), frequencies)
    tables = TABLES.setdefault((q.shape[2], q.shape[3], n_cached), tables)
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


@wrong(called="only for a contiguous q")
def by_view(q, k, n_cached, factor, theta=10_000.0):
    tables = rope.rope_tables(places(q, n_cached), rope.rope_frequencies(q.shape[-1], theta) / factor)
    return rope.apply_rope(q.view(-1, *q.shape[2:]), *tables).view(q.shape), rope.apply_rope(k, *tables)


@wrong(called="float32 goes out")
def by_hand_with_float32_tables(q, k, n_cached, factor, theta=10_000.0):
    cos, sin = rope.rope_tables(places(q, n_cached), rope.rope_frequencies(q.shape[-1], theta) / factor)

    def turn(x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    return turn(q), turn(k)


@wrong(called="not turned at all", never=("frequencies cut to whole numbers",))
def as_they_were(q, k, n_cached, factor, theta=10_000.0):
    return q, k


@wrong(called="positions rounded up")
def by_ceil(q, k, n_cached, factor, theta=10_000.0):
    return turned(q, k, (places(q, n_cached) / factor).ceil().long(), rope.rope_frequencies(q.shape[-1], theta))


@wrong(called="float32 frequencies divided")
def frequencies_in_float32(q, k, n_cached, factor, theta=10_000.0):
    return turned(q, k, places(q, n_cached), rope.rope_frequencies(q.shape[-1], theta).float() / factor)


@wrong(called="computed in half precision")
def all_in_the_dtype_of_q_but_the_angles(q, k, n_cached, factor, theta=10_000.0):
    cos, sin = rope.rope_tables(places(q, n_cached), rope.rope_frequencies(q.shape[-1], theta) / factor)

    def turn(x):
        a, b = x.chunk(2, dim=-1)
        c, s = cos.to(x), sin.to(x)
        return torch.cat((a * c - b * s, b * c + a * s), dim=-1)

    return turn(q), turn(k)
