"""Added positions against DistilBERT's and GPT-2's, exact arithmetic, and the theorems for sums of angles."""

import math
import re

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2Model
from transformers.models.distilbert.modeling_distilbert import create_sinusoidal_embeddings

from llama_lessons.positions import (
    LearnedPositionalEmbedding,
    SinusoidalPositionalEncoding,
    shift_matrix,
    sinusoidal_encoding,
    sinusoidal_frequencies,
    sinusoidal_positions,
    wavelengths,
)
from llama_lessons.rope import rope_frequencies

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def both_parts(max_seq_len, dim):
    return LearnedPositionalEmbedding(max_seq_len, dim), SinusoidalPositionalEncoding(dim)


# Sinusoids


@pytest.mark.parametrize(("max_seq_len", "dim"), [(1, 2), (17, 6), (512, 64), (300, 768)])
def test_table_agrees_with_distilbert(max_seq_len, dim):
    theirs = torch.empty(max_seq_len, dim)
    create_sinusoidal_embeddings(max_seq_len, dim, theirs)
    torch.testing.assert_close(sinusoidal_positions(max_seq_len, dim), theirs, atol=1e-7, rtol=0)


@pytest.mark.parametrize("position", [0, 1, 511, 100_000, 1_000_000])
@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_encoding_is_exact_far_out(position, base):
    encoding = sinusoidal_encoding(torch.tensor(position), sinusoidal_frequencies(32, base))
    with mpmath.workdps(40):
        angles = [position * mpmath.mpf(base) ** (-mpmath.mpf(2 * i) / 32) for i in range(16)]
        exact = [float(f(angle)) for angle in angles for f in (mpmath.sin, mpmath.cos)]
    assert encoding.dtype == torch.float32
    # Half a step of float32 below 1, and the error of a float64 angle of a million, 1e-10
    torch.testing.assert_close(encoding.double(), torch.tensor(exact, dtype=torch.float64), atol=3.1e-8, rtol=0)


def test_sine_and_cosine_of_a_pair_are_neighbours_and_share_a_frequency():
    table = sinusoidal_positions(2, 4)
    expected = [[0.0, 1.0, 0.0, 1.0], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]]
    torch.testing.assert_close(table, torch.tensor(expected))


def test_frequencies_are_those_of_rope():
    expected = torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64)
    torch.testing.assert_close(sinusoidal_frequencies(8), expected)
    assert torch.equal(sinusoidal_frequencies(128, 500_000.0), rope_frequencies(128, 500_000.0))
    with torch.device("meta"):
        assert sinusoidal_frequencies(8).device.type == "cpu"
        assert sinusoidal_positions(3, 8).device.type == "cpu"


def test_wavelengths_run_from_2_pi_towards_base_times_2_pi():
    turns = wavelengths(sinusoidal_frequencies(512))
    assert turns.dtype == torch.float64
    torch.testing.assert_close(turns[0].item(), 2 * math.pi)
    torch.testing.assert_close(turns[-1].item(), 2 * math.pi * 10_000 ** (510 / 512))
    ratios = turns[1:] / turns[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(255))
    assert (wavelengths(sinusoidal_frequencies(128)) > 4096).sum() == 18


@pytest.mark.parametrize("start", [0, 1_000_000])
def test_amplitude_does_not_fade(start):
    encoding = sinusoidal_encoding(torch.arange(start, start + 10_000), sinusoidal_frequencies(64), torch.float64)
    # sin^2 + cos^2 = 1 in each of 32 pairs, at every position
    torch.testing.assert_close(encoding.square().sum(dim=-1), torch.full((10_000,), 32.0, dtype=torch.float64))
    torch.testing.assert_close(encoding[:, 0].square().mean().sqrt().item(), math.sqrt(0.5), atol=1e-3, rtol=0)


@settings(deadline=None, max_examples=40)
@given(
    p=st.integers(0, 100_000), k=st.integers(-1000, 1000), pairs=st.integers(1, 40), base=st.floats(2.0, 1_000_000.0)
)
def test_one_matrix_shifts_every_position(p, k, pairs, base):
    here, there = sinusoidal_encoding(torch.tensor([p, p + k]), sinusoidal_frequencies(2 * pairs, base), torch.float64)
    # An angle of 1e5 has an error of 1e-11 in float64.
    torch.testing.assert_close(shift_matrix(k, 2 * pairs, base) @ here, there, atol=1e-10, rtol=0)


def test_shift_matrix_moves_a_table_forwards_and_shifts_add_up():
    table = sinusoidal_positions(100, 16, dtype=torch.float64)
    torch.testing.assert_close(table[:-3] @ shift_matrix(3, 16).T, table[3:], atol=1e-13, rtol=0)
    assert (table[:-3] @ shift_matrix(3, 16) - table[3:]).abs().max() > 1
    torch.testing.assert_close(shift_matrix(3, 16) @ shift_matrix(4, 16), shift_matrix(7, 16), atol=1e-13, rtol=0)
    assert torch.equal(shift_matrix(0, 16), torch.eye(16, dtype=torch.float64))


def test_no_matrix_shifts_a_sum_of_sine_and_cosine_in_one_channel():
    table = sinusoidal_positions(200, 16, dtype=torch.float64)
    summed = table[:, 0::2] + table[:, 1::2]

    def residual(table):
        best = torch.linalg.lstsq(table[:-3], table[3:], driver="gelsd").solution
        return (table[:-3] @ best - table[3:]).abs().max().item()

    assert residual(table) < 1e-12
    assert residual(summed) > 0.1


def test_sinusoids_learn_and_store_nothing_and_have_no_end():
    part, x = SinusoidalPositionalEncoding(8, base=500.0), torch.randn(2, 3, 8)
    assert list(part.parameters()) == []
    assert part.state_dict() == {}
    rows = sinusoidal_encoding(torch.arange(10**6, 10**6 + 3), sinusoidal_frequencies(8, 500.0))
    assert torch.equal(part(x, start_pos=10**6), x + rows)


def test_sinusoids_stay_exact_in_a_cast_model():
    x = torch.zeros(1, 3, 16)
    part = SinusoidalPositionalEncoding(16)
    expected = part(x, start_pos=100_000)
    for cast in (part.bfloat16(), part.double()):
        assert torch.equal(cast(x, start_pos=100_000), expected)


# The learned table


def test_learned_rows_agree_with_gpt_2():
    theirs = GPT2Model(GPT2Config(vocab_size=50, n_positions=12, n_embd=8, n_layer=0, n_head=2, embd_pdrop=0.0))
    theirs.ln_f = torch.nn.Identity()
    ours = LearnedPositionalEmbedding(12, 8)
    ours.load_state_dict(theirs.wpe.state_dict())
    x = torch.randn(2, 5, 8)
    positions = torch.tensor([[0, 1, 2, 3, 4], [11, 0, 7, 7, 2]])
    assert torch.equal(ours(x), theirs(inputs_embeds=x).last_hidden_state)
    assert torch.equal(ours(x, positions=positions), theirs(inputs_embeds=x, position_ids=positions).last_hidden_state)


def test_learned_rows_start_small_and_normal():
    weight = LearnedPositionalEmbedding(512, 64).weight.detach()
    assert weight.shape == (512, 64)
    n = weight.numel()
    # Five standard errors of the mean and of the standard deviation
    assert abs(weight.mean().item()) < 5 * 0.02 / math.sqrt(n)
    assert abs(weight.std().item() - 0.02) < 5 * 0.02 / math.sqrt(2 * n)
    # 68.3 % within one standard deviation, as a normal has and a uniform has not (57.7 %)
    assert abs((weight.abs() < 0.02).float().mean().item() - 0.683) < 0.02


def test_rows_never_stood_on_never_move():
    part = LearnedPositionalEmbedding(512, 16)
    before = part.weight.detach().clone()
    optimizer = torch.optim.Adam(part.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        part(torch.randn(2, 64, 16)).square().mean().backward()
        optimizer.step()
    moved = (part.weight.detach() - before).abs().amax(dim=1)
    assert (moved[:64] > 0).all()
    assert (moved[64:] == 0).all()


def test_a_full_table_is_not_too_long():
    part, x = LearnedPositionalEmbedding(5, 4), torch.zeros(1, 5, 4)
    assert torch.equal(part(x)[0], part.weight)
    assert torch.equal(part(x[:, :2], start_pos=3)[0], part.weight[3:])
    assert torch.equal(part(x[:, :0], start_pos=5), x[:, :0])


# Both


@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_position_runs_along_the_sequence_and_not_along_the_batch(part):
    rows = part(torch.zeros(3, 5, 8))
    assert torch.equal(rows, rows[:1].expand(3, 5, 8))
    assert (rows[:, 1:] - rows[:, :-1]).abs().amax(dim=-1).min() > 1e-3


@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_encoding_is_added(part):
    x = torch.randn(2, 5, 8)
    before = x.clone()
    torch.testing.assert_close(part(x) - x, part(torch.zeros(2, 5, 8)))
    assert torch.equal(x, before)


@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_later_tokens_may_come_later(part):
    x = torch.randn(2, 7, 8)
    in_two = torch.cat((part(x[:, :3]), part(x[:, 3:], start_pos=3)), dim=1)
    assert torch.equal(in_two, part(x))


@pytest.mark.parametrize("integer", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_positions_stand_in_for_counting(part, integer):
    x = torch.randn(2, 4, 8)
    assert torch.equal(part(x, positions=torch.arange(3, 7).to(integer)), part(x, start_pos=3))
    positions = torch.tensor([[0, 1, 2, 3], [19, 0, 5, 5]])
    each = torch.cat([part(x[row : row + 1], positions=positions[row]) for row in range(2)])
    assert torch.equal(part(x, positions=positions.to(integer)), each)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_dtype_of_x_is_kept_and_the_sum_rounded_once(part, dtype):
    x = torch.randn(2, 20, 8).to(dtype)
    if isinstance(part, LearnedPositionalEmbedding):
        rows = part.weight.detach().double()
    else:
        rows = sinusoidal_positions(20, 8, dtype=torch.float64)
    exact = x.double() + rows
    added = part(x)
    assert added.dtype == dtype
    bound = torch.finfo(dtype).eps / 2 * exact.abs() + (0 if dtype == torch.float64 else 2e-7)
    assert ((added.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("shape", [(0, 5, 8), (2, 0, 8), (1, 1, 8)])
@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_small_batches(part, shape):
    x = torch.randn(shape)
    assert part(x).shape == shape
    assert torch.equal(part(x, positions=torch.arange(shape[1])), part(x))


@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_gradient_passes_through_to_x(part):
    x = torch.randn(2, 3, 8, requires_grad=True)
    upstream = torch.randn(2, 3, 8)
    (gradient,) = torch.autograd.grad(part(x), x, upstream)
    assert torch.equal(gradient, upstream)


@pytest.mark.compile
@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_compiles_into_one_graph(part):
    compiled = torch.compile(part, fullgraph=True, backend="eager")
    x, positions = torch.randn(2, 3, 8), torch.tensor([[0, 4, 5], [2, 1, 0]])
    assert torch.equal(compiled(x, positions=positions), part(x, positions=positions))
    assert torch.equal(compiled(x, start_pos=4), part(x, start_pos=4))


LEARNED, SINUSOIDAL = both_parts(20, 8)
X = torch.zeros(2, 5, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LEARNED(torch.zeros(1, 21, 8)),
            "start_pos (0) + seq_len (21) = 21 must stay within 0 and max_seq_len (20)",
        ),
        (lambda: LEARNED(X, start_pos=16), "start_pos (16) + seq_len (5) = 21 must"),
        (lambda: LEARNED(X, start_pos=-1), "start_pos (-1) + seq_len (5) = 4 must"),
        (lambda: LEARNED(X, positions=torch.arange(16, 21)), "position 20 is not in the table: max_seq_len is 20"),
        (lambda: LEARNED(X, positions=torch.arange(-1, 4)), "position -1 is not in the table: max_seq_len is 20"),
        (lambda: LearnedPositionalEmbedding(0, 8), "max_seq_len (0) must be positive"),
        (lambda: LearnedPositionalEmbedding(8, -1), "dim (-1) must be positive"),
        (lambda: sinusoidal_frequencies(7), "dim (7) must be even and positive"),
        (lambda: sinusoidal_frequencies(0), "dim (0) must be even and positive"),
        (lambda: sinusoidal_frequencies(8, base=0.0), "base (0.0) must be positive"),
        (lambda: sinusoidal_positions(4, 7), "dim (7) must be even"),
        (lambda: shift_matrix(1, 7), "dim (7) must be even"),
        (lambda: SinusoidalPositionalEncoding(7), "dim (7) must be even"),
        (lambda: sinusoidal_encoding(torch.arange(3.0), torch.ones(4)), "integers, not torch.float32"),
        (lambda: sinusoidal_encoding(torch.arange(3), torch.ones(2, 4)), "(dim // 2,), not (2, 4)"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("x", "positions", "message"),
    [
        (torch.zeros(5, 8), None, "x must be (batch, seq_len, dim) with dim = 8, not (5, 8)"),
        (torch.zeros(1, 2, 5, 8), None, "not (1, 2, 5, 8)"),
        (torch.zeros(2, 5, 1), None, "with dim = 8, not (2, 5, 1)"),
        (X, torch.arange(5.0), "positions must be integers, not torch.float32"),
        (X, torch.ones(5, dtype=torch.bool), "positions must be integers, not torch.bool"),
        (X, torch.arange(4), "positions (4,) must be (seq_len,) or (batch, seq_len) for x (2, 5, 8)"),
        (X, torch.arange(2), "positions (2,) must be"),
        (X, torch.zeros(3, 5).long(), "positions (3, 5) must be"),
        (X, torch.zeros(2, 5, 1).long(), "positions (2, 5, 1) must be"),
        (X, torch.tensor(3), "positions () must be"),
    ],
)
@pytest.mark.parametrize("part", [LEARNED, SINUSOIDAL], ids=["learned", "sinusoidal"])
def test_a_mistake_is_named_by_both_parts(part, x, positions, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        part(x, positions=positions)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("part", both_parts(20, 8), ids=["learned", "sinusoidal"])
def test_cuda_agrees_with_cpu(part):
    x, positions = torch.randn(2, 3, 8), torch.tensor([[0, 4, 5], [2, 1, 0]])
    expected = part(x, positions=positions)
    on_gpu = part.cuda()(x.cuda(), positions=positions)
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), expected, atol=1e-6, rtol=0)
