"""Answers to lesson 02 that no catalogue lists: right ones written in unusual ways pass, wrong ones do not."""

import cmath
import math

import numpy as np
import pytest
import torch
from torch import nn

from llama_lessons import positions
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from tests.grading.answers import Answers, assert_fails, assert_passes

ANSWERS = Answers()
right, wrong = ANSWERS.right, ANSWERS.wrong


def refuse_odd(dim):
    if dim % 2:
        raise ValueError(f"dim {dim} is odd")


# ---------------------------------------------------------------------------------- sinusoidal_positions


@right("sinusoidal_positions")
def table_by_numpy(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    angles = np.outer(np.arange(max_seq_len), base ** (-np.arange(0, dim, 2) / dim))
    return torch.from_numpy(np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(max_seq_len, dim)).float()


@right("sinusoidal_positions")
def table_by_complex_numbers(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    angles = torch.arange(max_seq_len).double()[:, None] * positions.sinusoidal_frequencies(dim, base)
    turned = torch.polar(torch.ones_like(angles), angles)  # cosine + i sine
    return torch.view_as_real(turned).flip(-1).flatten(1).float()


@right("sinusoidal_positions")
def table_by_einsum(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    angles = torch.einsum("p,i->pi", torch.arange(max_seq_len).double(), positions.sinusoidal_frequencies(dim, base))
    return torch.cat((angles.sin()[..., None], angles.cos()[..., None]), -1).reshape(max_seq_len, dim).float()


@right("sinusoidal_positions")
def table_as_parameter(max_seq_len, dim, base=10_000.0):
    return nn.Parameter(positions.sinusoidal_positions(max_seq_len, dim, base), requires_grad=False)


@right("sinusoidal_positions")
def table_turned_step_by_step(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    step, row = positions.shift_matrix(1, dim, base).T, torch.tensor([0.0, 1.0] * (dim // 2)).double()
    rows = []
    for _ in range(max_seq_len):
        rows.append(row)
        row = row @ step
    return torch.stack(rows).float()


@right("sinusoidal_positions")
def table_not_contiguous(max_seq_len, dim, base=10_000.0):
    refuse_odd(dim)
    angles = (positions.sinusoidal_frequencies(dim, base)[:, None] * torch.arange(max_seq_len)).repeat_interleave(2, 0)
    angles[1::2] += math.pi / 2
    return angles.sin().float().T


@wrong("sinusoidal_positions")
def table_for_one_base(max_seq_len, dim, base=500_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, base)


@wrong("sinusoidal_positions")
def table_rounded(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, base, torch.bfloat16).float()


@wrong("sinusoidal_positions")
def table_that_ends_at_512(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(min(max_seq_len, 512), dim, base)


@wrong("sinusoidal_positions")
def table_with_an_assert(max_seq_len, dim, base=10_000.0):
    assert dim % 2 == 0
    return positions.sinusoidal_positions(max_seq_len, dim, base)


@wrong("sinusoidal_positions")
def table_of_two_cosines(max_seq_len, dim, base=10_000.0):
    table = positions.sinusoidal_positions(max_seq_len, dim, base)
    return table[:, 1::2].repeat_interleave(2, dim=1)


@wrong("sinusoidal_positions")
def table_with_pairs_in_reverse(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, base).unflatten(1, (-1, 2)).flip(1).flatten(1)


@wrong("sinusoidal_positions")
def table_with_a_batch_axis(max_seq_len, dim, base=10_000.0):
    return positions.sinusoidal_positions(max_seq_len, dim, base)[None]


# -------------------------------------------------------------------------------------- pair_wavelengths


@right("pair_wavelengths")
def wavelengths_by_numpy(dim, base=10_000.0):
    refuse_odd(dim)
    return torch.from_numpy(2 * np.pi * np.power(base, np.arange(0, dim, 2) / dim))


@right("pair_wavelengths")
def wavelengths_by_multiplying(dim, base=10_000.0):
    refuse_odd(dim)
    found = [math.tau]
    while len(found) < dim // 2:
        found.append(found[-1] * base ** (2 / dim))
    return torch.tensor(found, dtype=torch.float64)


@right("pair_wavelengths")
def wavelengths_by_logspace(dim, base=10_000.0):
    refuse_odd(dim)
    n = dim // 2
    return math.tau * torch.logspace(0, (n - 1) / n, n, base=base, dtype=torch.float64)


@right("pair_wavelengths")
def wavelengths_of_the_course(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base))


@wrong("pair_wavelengths")
def wavelengths_with_a_rough_pi(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base)) * 3.14159 / math.pi


@wrong("pair_wavelengths")
def wavelengths_rounded_up(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base)).ceil()


@wrong("pair_wavelengths")
def wavelengths_slowest_first(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base)).flip(0)


@wrong("pair_wavelengths")
def wavelengths_as_a_column(dim, base=10_000.0):
    return positions.wavelengths(positions.sinusoidal_frequencies(dim, base))[:, None]


# ---------------------------------------------------------------------------------- predict_dot_products


@right("predict_dot_products")
def predicted_as_a_list():
    return [64, 64, 46.8, 46.8]


@right("predict_dot_products")
def predicted_with_more_digits():
    return 64.0, 64.0, 46.8218, 46.8218


@right("predict_dot_products")
def predicted_by_running_it():
    table = positions.sinusoidal_positions(1018, 128)
    far = positions.sinusoidal_encoding(torch.tensor(1_000_000), positions.sinusoidal_frequencies(128))
    return table[5] @ table[5], far @ far, table[1010] @ table[1017], table[17] @ table[10]


@wrong("predict_dot_products")
def predicted_three():
    return 64, 64, 46.8


@wrong("predict_dot_products")
def predicted_in_words():
    return "64", "64", "46.8", "46.8"


@wrong("predict_dot_products")
def predicted_roughly():
    return 64, 64, 47.5, 47.5


@wrong("predict_dot_products")
def predicted_nothing():
    return math.nan, math.nan, math.nan, math.nan


# ------------------------------------------------------------------------------------------ shift_matrix


@right("shift_matrix")
def shift_by_kronecker(k, dim, base=10_000.0):
    refuse_odd(dim)
    angles = k * positions.sinusoidal_frequencies(dim, base)
    identity, quarter = torch.eye(2).double(), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
    return torch.kron(torch.diag(angles.cos()), identity) + torch.kron(torch.diag(angles.sin()), quarter)


@right("shift_matrix")
def shift_by_numpy(k, dim, base=10_000.0):
    refuse_odd(dim)
    matrix = np.zeros((dim, dim))
    for i in range(0, dim, 2):
        turn = cmath.exp(1j * k * base ** (-i / dim))
        matrix[i : i + 2, i : i + 2] = [[turn.real, turn.imag], [-turn.imag, turn.real]]
    return torch.from_numpy(matrix)


@right("shift_matrix")
def shift_by_slices(k, dim, base=10_000.0):
    refuse_odd(dim)
    angles = k * positions.sinusoidal_frequencies(dim, base)
    matrix = torch.zeros(dim, dim, dtype=torch.float64)
    matrix[0::2, 0::2] = matrix[1::2, 1::2] = torch.diag(angles.cos())
    matrix[0::2, 1::2], matrix[1::2, 0::2] = torch.diag(angles.sin()), -torch.diag(angles.sin())
    return matrix


@right("shift_matrix")
def shift_by_two_encodings(k, dim, base=10_000.0):
    # The encoding of k is (sin, cos) of each block already.
    refuse_odd(dim)
    pairs = positions.sinusoidal_encoding(
        torch.tensor(k), positions.sinusoidal_frequencies(dim, base), torch.float64
    ).unflatten(0, (-1, 2))
    return torch.block_diag(*(torch.stack((cos, sin, -sin, cos)).view(2, 2) for sin, cos in pairs))


@wrong("shift_matrix")
def shift_of_the_first_pair_only(k, dim, base=10_000.0):
    matrix = torch.eye(dim).double()
    matrix[:2, :2] = positions.shift_matrix(k, dim, base)[:2, :2]
    return matrix


@wrong("shift_matrix")
def shift_forwards_only(k, dim, base=10_000.0):
    return positions.shift_matrix(abs(k), dim, base)


@wrong("shift_matrix")
def shift_fitted_on_few_rows(k, dim, base=10_000.0):
    refuse_odd(dim)
    table = positions.sinusoidal_positions(50 + abs(k), dim, base, torch.float64)
    if k < 0:
        return torch.linalg.lstsq(table[-k:], table[:k]).solution.T
    return torch.linalg.lstsq(table[: len(table) - k], table[k:]).solution.T


@wrong("shift_matrix")
def shift_for_rows_before_the_matrix(k, dim, base=10_000.0):
    return positions.shift_matrix(k, dim, base).T.contiguous()


@wrong("shift_matrix")
def shift_with_an_assert(k, dim, base=10_000.0):
    assert dim % 2 == 0
    return positions.shift_matrix(k, dim, base)


# --------------------------------------------------------------------------------------------- fit_shift


def refuse_shift(rows, k):
    if k < 1 or k >= len(rows):
        raise ValueError(f"k {k} for {len(rows)} rows")


@right("fit_shift")
def fitted_by_numpy(rows, k):
    refuse_shift(rows, k)
    ours = rows.detach().cpu().numpy()
    found = np.linalg.lstsq(ours[:-k], ours[k:], rcond=None)[0].T
    return torch.from_numpy(np.ascontiguousarray(found)).to(rows)


@right("fit_shift")
def fitted_by_qr(rows, k):
    refuse_shift(rows, k)
    q, r = torch.linalg.qr(rows[:-k])
    return torch.linalg.solve_triangular(r, q.T @ rows[k:], upper=True).T


@right("fit_shift")
def fitted_by_svd(rows, k):
    refuse_shift(rows, k)
    u, s, v = torch.linalg.svd(rows[:-k], full_matrices=False)
    return rows[k:].T @ u @ torch.diag(1 / s) @ v


@right("fit_shift")
def fitted_by_indices(rows, k):
    n = rows.shape[0]
    if k not in range(1, n):
        raise ValueError("k")
    here = torch.arange(n - k, device=rows.device)
    return torch.linalg.lstsq(rows[here], rows[here + k])[0].mT


@wrong("fit_shift")
def fitted_as_a_sinusoid(rows, k):
    refuse_shift(rows, k)
    return positions.shift_matrix(k, rows.shape[1], 100.0).to(rows)


@wrong("fit_shift")
def fitted_with_a_penalty(rows, k):
    refuse_shift(rows, k)
    before, after = rows[:-k], rows[k:]
    return torch.linalg.solve(before.T @ before + 0.01 * torch.eye(rows.shape[1]).to(rows), before.T @ after).T


@wrong("fit_shift")
def fitted_on_half_of_the_rows(rows, k):
    refuse_shift(rows, k)
    return torch.linalg.lstsq(rows[:-k:2], rows[k::2]).solution.T


@wrong("fit_shift")
def fitted_step_by_step(rows, k):
    # The k-th power of the best single step is the best matrix only where some matrix fits exactly.
    refuse_shift(rows, k)
    return torch.linalg.matrix_power(torch.linalg.lstsq(rows[:-1], rows[1:]).solution.T, k)


@wrong("fit_shift")
def fitted_without_a_check(rows, k):
    return torch.linalg.lstsq(rows[:-k], rows[k:]).solution.T


# ---------------------------------------------------------------------------------- embed_with_positions


def encodings(start_pos, seq_len, dim, device, dtype=torch.float64):
    places = torch.arange(start_pos, start_pos + seq_len, device=device)
    return positions.sinusoidal_encoding(places, positions.sinusoidal_frequencies(dim), dtype)


@right("embed_with_positions")
def embedded_row_by_row(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device)
    texts = [torch.stack([embedding[t] * dim**0.5 + r for t, r in zip(text, rows, strict=True)]) for text in tokens]
    return torch.stack(texts).to(embedding.dtype)


@right("embed_with_positions")
def embedded_in_float64(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    scaled = (embedding.double() * math.sqrt(dim))[tokens]
    return scaled.add(encodings(start_pos, tokens.shape[1], dim, embedding.device)).type_as(embedding)


@right("embed_with_positions")
def embedded_with_rounded_encodings(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device, embedding.dtype)
    return nn.functional.embedding(tokens, embedding) * math.sqrt(dim) + rows


@right("embed_with_positions")
def embedded_by_gather(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = embedding.index_select(0, tokens.flatten()).view(*tokens.shape, dim)
    return torch.add(
        encodings(start_pos, tokens.shape[1], dim, embedding.device), rows.double(), alpha=math.sqrt(dim)
    ).to(embedding.dtype)


@wrong("embed_with_positions")
def embedded_to_unit_length(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = nn.functional.normalize(embedding[tokens].double(), dim=-1) * math.sqrt(dim)
    return (rows + encodings(start_pos, tokens.shape[1], dim, embedding.device)).to(embedding.dtype)


@wrong("embed_with_positions")
def embedded_from_a_table_of_512(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    table = positions.sinusoidal_positions(512, dim).to(embedding.device)
    rows = table[start_pos : start_pos + tokens.shape[1]]
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


@wrong("embed_with_positions")
def embedded_for_one_dim(tokens, embedding, start_pos=0):
    rows = encodings(start_pos, tokens.shape[1], embedding.shape[1], embedding.device)
    return (embedding[tokens] * 4 + rows).to(embedding.dtype)


@wrong("embed_with_positions")
def embedded_in_place(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    embedding.data.mul_(math.sqrt(dim))
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device)
    return (embedding[tokens] + rows).to(embedding.dtype)


@wrong("embed_with_positions")
def embedded_from_the_right(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device).flip(0)
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


# ---------------------------------------------------------------------------------------- tutorial_table


@right("tutorial_table")
def mended_by_halving(max_seq_len, dim):
    table = torch.zeros(max_seq_len, dim)
    for position in range(max_seq_len):
        for channel in range(0, dim, 2):
            pair = channel // 2
            table[position, channel] = math.sin(position / 10_000 ** (2 * pair / dim))
            table[position, channel + 1] = math.cos(position / 10_000 ** (2 * pair / dim))
    return table


@right("tutorial_table")
def mended_pair_by_pair(max_seq_len, dim):
    table = torch.zeros(max_seq_len, dim)
    for i in range(dim // 2):
        angle = torch.arange(max_seq_len).double() * 10_000 ** (-2 * i / dim)
        table[:, 2 * i], table[:, 2 * i + 1] = angle.sin(), angle.cos()
    return table


@right("tutorial_table")
def mended_by_the_course(max_seq_len, dim):
    return positions.sinusoidal_positions(max_seq_len, dim)


@wrong("tutorial_table")
def mended_for_eight_channels(max_seq_len, dim):
    table = torch.zeros(max_seq_len, dim)
    for position in range(max_seq_len):
        for channel in range(0, dim, 2):
            angle = position / 10_000 ** (channel / 8)
            table[position, channel], table[position, channel + 1] = math.sin(angle), math.cos(angle)
    return table


@wrong("tutorial_table")
def mended_the_lengths_by_force(max_seq_len, dim):
    table = torch.zeros(max_seq_len, dim)
    for position in range(max_seq_len):
        for channel in range(0, dim, 2):
            table[position, channel] = math.sin(position / 10_000 ** (2 * channel / dim))
            table[position, channel + 1] = math.cos(position / 10_000 ** (2 * (channel + 1) / dim))
    return nn.functional.normalize(table, dim=1) * math.sqrt(dim / 2)


@wrong("tutorial_table")
def mended_for_twenty_positions(max_seq_len, dim):
    return positions.sinusoidal_positions(min(max_seq_len, 20), dim)


def named(exercise, answer):
    misconception = grade(REGISTRY[exercise], answer).misconception
    return misconception and misconception.name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("scale", "name"),
    [
        (lambda tokens, embedding: 1, "embeddings as they are"),
        (lambda tokens, embedding: math.sqrt(embedding.shape[0]), "root of the vocabulary's size"),
        (lambda tokens, embedding: math.sqrt(embedding.shape[1] / 2), "root of half of dim"),
    ],
)
def test_a_wrong_factor_is_named_however_fine_the_encodings_are(dtype, scale, name):
    def embedded(tokens, embedding, start_pos=0):
        rows = encodings(start_pos, tokens.shape[1], embedding.shape[1], embedding.device, dtype)
        return (embedding[tokens] * scale(tokens, embedding) + rows).to(embedding.dtype)

    assert named("embed_with_positions", embedded) == name


def test_frequencies_of_integers_are_named():
    def frequencies(dim, base):
        refuse_odd(dim)
        return base ** (-2 * torch.arange(dim // 2) / dim)

    def table(max_seq_len, dim, base=10_000.0):
        angles = torch.arange(max_seq_len).double()[:, None] * frequencies(dim, base)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()

    def turns(dim, base=10_000.0):
        return (2 * math.pi / frequencies(dim, base)).double()

    assert named("sinusoidal_positions", table) == "frequencies in float32"
    assert named("pair_wavelengths", turns) == "2 pi over float32, converted at the end"


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.right_ones)
def test_an_unusual_right_answer_passes(exercise, answer):
    assert_passes(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.wrong_ones)
def test_an_unlisted_wrong_answer_fails(exercise, answer):
    assert_fails(exercise, answer)


@pytest.mark.parametrize(
    ("name", "letters"),
    [("why_sine_and_cosine", "c"), ("what_dot_products_know", "a"), ("what_long_texts_bring", "d")],
)
def test_a_question_has_one_right_letter(name, letters):
    assert [letter for letter in "abcd" if grade(REGISTRY[name], lambda letter=letter: letter).passed] == [letters]
    assert not grade(REGISTRY[name], lambda: "e").passed
