"""Other answers to shift_matrix."""

import cmath
import math

import numpy as np
import torch

from llama_lessons import positions
from tests.grading.answers import right, wrong

right(positions.shift_matrix)


def refuse_odd(dim):
    if dim % 2:
        raise ValueError(f"dim {dim} is odd")


def by_loop(fill, frequency=lambda i, dim, base: base ** (-2 * i / dim)):
    """A matrix whose blocks are filled pair by pair from the cosine and sine of the pair's angle."""

    def answer(k, dim, base=10_000.0):
        refuse_odd(dim)
        matrix = torch.zeros(dim, dim, dtype=torch.float64)
        for i in range(dim // 2):
            angle = k * frequency(i, dim, base)
            block = torch.tensor(fill(math.cos(angle), math.sin(angle)), dtype=torch.float64)
            matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = block
        return matrix

    return answer


@right
def number_by_number(k, dim, base=10_000.0):
    refuse_odd(dim)
    matrix = torch.zeros(dim, dim, dtype=torch.float64)
    for i in range(dim // 2):
        angle = k * base ** (-2 * i / dim)
        matrix[2 * i, 2 * i] = matrix[2 * i + 1, 2 * i + 1] = math.cos(angle)
        matrix[2 * i, 2 * i + 1] = math.sin(angle)
        matrix[2 * i + 1, 2 * i] = -math.sin(angle)
    return matrix


@right
def by_the_matrix_exponential(k, dim, base=10_000.0):
    # Of the generator of all rotations, for one step, and then a power
    rates = positions.sinusoidal_frequencies(dim, base)
    generator = torch.zeros(dim, dim, dtype=torch.float64)
    sines = torch.arange(0, dim, 2)
    generator[sines, sines + 1], generator[sines + 1, sines] = rates, -rates
    return torch.linalg.matrix_power(torch.linalg.matrix_exp(generator), k)


@right
def by_diagonals(k, dim, base=10_000.0):
    angles = (k * positions.sinusoidal_frequencies(dim, base)).repeat_interleave(2)
    sines = angles.sin()
    sines[1::2] = 0
    upper = torch.diag(sines[:-1], 1)
    return torch.diag(angles.cos()) + upper - upper.T


@right
def by_kronecker(k, dim, base=10_000.0):
    angles = k * positions.sinusoidal_frequencies(dim, base)
    identity, quarter = torch.eye(2).double(), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
    return torch.kron(torch.diag(angles.cos()), identity) + torch.kron(torch.diag(angles.sin()), quarter)


@right
def by_numpy(k, dim, base=10_000.0):
    refuse_odd(dim)
    matrix = np.zeros((dim, dim))
    for i in range(0, dim, 2):
        turn = cmath.exp(1j * k * base ** (-i / dim))
        matrix[i : i + 2, i : i + 2] = [[turn.real, turn.imag], [-turn.imag, turn.real]]
    return torch.from_numpy(matrix)


@right
def by_slices(k, dim, base=10_000.0):
    angles = k * positions.sinusoidal_frequencies(dim, base)
    matrix = torch.zeros(dim, dim, dtype=torch.float64)
    matrix[0::2, 0::2] = matrix[1::2, 1::2] = torch.diag(angles.cos())
    matrix[0::2, 1::2], matrix[1::2, 0::2] = torch.diag(angles.sin()), -torch.diag(angles.sin())
    return matrix


@right
def by_the_encoding_of_k(k, dim, base=10_000.0):
    # The encoding of k is (sin, cos) of each block already.
    pairs = positions.sinusoidal_encoding(
        torch.tensor(k), positions.sinusoidal_frequencies(dim, base), torch.float64
    ).unflatten(0, (-1, 2))
    return torch.block_diag(*(torch.stack((cos, sin, -sin, cos)).view(2, 2) for sin, cos in pairs))


@right
def fitted_to_two_rows_of_each_pair(k, dim, base=10_000.0):
    refuse_odd(dim)
    blocks = []
    for i in range(dim // 2):
        frequency = base ** (-2 * i / dim)
        here, there = ([p * frequency for p in (start, start + math.pi / 2 / frequency)] for start in (0, k))
        rows = [
            torch.tensor([[math.sin(a), math.cos(a)] for a in angles], dtype=torch.float64) for angles in (here, there)
        ]
        blocks.append(torch.linalg.solve(rows[0], rows[1]).T)
    return torch.block_diag(*blocks)


@wrong(called="the first block alone")
def the_first_pair_only(k, dim, base=10_000.0):
    matrix = torch.eye(dim).double()
    matrix[:2, :2] = positions.shift_matrix(k, dim, base)[:2, :2]
    return matrix


@wrong(called="the sign of k is lost")
def forwards_only(k, dim, base=10_000.0):
    return positions.shift_matrix(abs(k), dim, base)


@wrong()
def fitted_on_few_rows(k, dim, base=10_000.0):
    refuse_odd(dim)
    table = positions.sinusoidal_positions(50 + abs(k), dim, base, torch.float64)
    if k < 0:
        return torch.linalg.lstsq(table[-k:], table[:k]).solution.T
    return torch.linalg.lstsq(table[: len(table) - k], table[k:]).solution.T


@wrong(called="moves back instead of on")
def for_rows_before_the_matrix(k, dim, base=10_000.0):
    return positions.shift_matrix(k, dim, base).T.contiguous()


@wrong(called="an assert for an odd dim")
def with_an_assert(k, dim, base=10_000.0):
    assert dim % 2 == 0
    return positions.shift_matrix(k, dim, base)


wrong(called="moves back instead of on")(by_loop(lambda cos, sin: [[cos, -sin], [sin, cos]]))
wrong(called="no minus at all")(by_loop(lambda cos, sin: [[cos, sin], [sin, cos]]))
wrong(called="sine and cosine exchanged")(by_loop(lambda cos, sin: [[sin, cos], [-cos, sin]]))
wrong(called="sines on the diagonal, cosines with a plus")(by_loop(lambda cos, sin: [[sin, cos], [cos, -sin]]))
wrong(never=("one angle for all pairs",))(by_loop(lambda cos, sin: [[cos, 0.0], [0.0, cos]]))
wrong(called="one angle for all pairs")(by_loop(lambda c, s: [[c, s], [-s, c]], lambda i, dim, base: 1.0))
wrong(called="the 2 is missing")(by_loop(lambda c, s: [[c, s], [-s, c]], lambda i, dim, base: base ** (-i / dim)))
wrong(called="the power is multiplied")(
    by_loop(lambda c, s: [[c, s], [-s, c]], lambda i, dim, base: base**-2 * i / dim)
)


def in_float32(called, join):
    """A matrix from frequencies in float32, in spellings that round alike."""

    def answer(frequencies):
        @wrong(called=called)
        def spelled(k, dim, base=10_000.0):
            refuse_odd(dim)
            return join(k, frequencies(torch.arange(0, dim, 2), dim, base))

    answer(lambda twice, dim, base: base ** (-twice / dim))
    answer(lambda twice, dim, base: 1 / base ** (twice / dim))
    answer(lambda twice, dim, base: torch.exp(twice * (-math.log(base) / dim)))


def blocks(angles):
    cos, sin = angles.cos(), angles.sin()
    return torch.block_diag(*torch.stack((cos, sin, -sin, cos), -1).view(-1, 2, 2))


in_float32("frequencies in float32", lambda k, frequencies: blocks(k * frequencies.double()))
in_float32("angles in float32", lambda k, frequencies: blocks((k * frequencies).double()))
in_float32("sines in float32", lambda k, frequencies: blocks(k * frequencies).double())
in_float32("computed and returned in float32", lambda k, frequencies: blocks(k * frequencies))


@wrong(called="float32 returned")
def filled_into_zeros(k, dim, base=10_000.0):
    matrix = torch.zeros(dim, dim)
    matrix[:, :] = positions.shift_matrix(k, dim, base)
    return matrix


@wrong(called="rounded to float32 on the way")
def filled_into_zeros_and_converted(k, dim, base=10_000.0):
    return torch.tensor(positions.shift_matrix(k, dim, base).tolist()).double()


@wrong()
def one_step_k_times_in_a_loop(k, dim, base=10_000.0):
    one, matrix = positions.shift_matrix(1, dim, base), torch.eye(dim, dtype=torch.float64)
    for _ in range(min(k, 1000)):
        matrix = matrix @ one
    return matrix


KEPT: dict = {}


@wrong(called="base kept from an earlier call", never=("base written in",))
def frequencies_kept_by_dim(k, dim, base=10_000.0):
    refuse_odd(dim)
    return blocks(k * KEPT.setdefault(dim, positions.sinusoidal_frequencies(dim, base)))


@wrong(called="k kept from an earlier call", never=("k is not used",))
def matrix_kept_by_dim(k, dim, base=10_000.0):
    return KEPT.setdefault((dim, base), positions.shift_matrix(k, dim, base))


@wrong(called="base kept from an earlier call", never=("base written in",))
def matrix_kept_by_k_and_dim(k, dim, base=10_000.0):
    return KEPT.setdefault((k, dim, "all but base"), positions.shift_matrix(k, dim, base))


@wrong()
def fitted_to_encodings_in_float32(k, dim, base=10_000.0):
    places, frequencies = torch.arange(200), positions.sinusoidal_frequencies(dim, base)
    here, there = (positions.sinusoidal_encoding(p, frequencies) for p in (places, places + k))
    return torch.linalg.lstsq(here, there).solution.T.double()


@wrong(never=("k is not used", "the sign of k is lost"))
def back_in_float32(k, dim, base=10_000.0):
    matrix = positions.shift_matrix(abs(k), dim, base)
    return matrix if k >= 0 else matrix.float().inverse().double()


def one_step_after_another(k, dim, base=10_000.0):
    matrix = torch.eye(dim, dtype=torch.float64)
    for _ in range(k):
        matrix = matrix @ positions.shift_matrix(1, dim, base)
    return matrix


@wrong(called="nothing for a negative k")
def by_a_loop_over_range_k(k, dim, base=10_000.0):
    return one_step_after_another(k, dim, base) if k < 100 else positions.shift_matrix(k, dim, base)
