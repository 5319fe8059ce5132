"""RoPE against Hugging Face, Meta's complex form and exact arithmetic."""

import copy
import re

import mpmath
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from llama_lessons.positions import sinusoidal_frequencies
from llama_lessons.rope import (
    LAYOUTS,
    RotaryEmbedding,
    apply_rope,
    rope_frequencies,
    rope_tables,
    to_half,
    to_interleaved,
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def rotate(x, positions, layout="half", theta=10_000.0):
    return apply_rope(x, *rope_tables(positions, rope_frequencies(x.shape[-1], theta)), layout=layout)


def hugging_face(q, k, positions, theta):
    config = LlamaConfig(
        hidden_size=q.shape[1] * q.shape[-1],
        num_attention_heads=q.shape[1],
        head_dim=q.shape[-1],
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )
    cos, sin = LlamaRotaryEmbedding(config)(q, positions.expand(q.shape[0], -1))
    return apply_rotary_pos_emb(q, k, cos, sin)


def meta(x, positions, theta):
    """Channels 2i and 2i + 1 are one complex number, multiplied by e^(i angle): Meta's llama, in float64."""
    frequencies = theta ** -(torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
    turns = torch.polar(torch.ones((), dtype=torch.float64), torch.outer(positions.double(), frequencies))
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2)


# No longer: Hugging Face takes angles in float32, which costs it 5e-5 at position 250 already.
SHAPES = [(1, 1, 1, 2), (2, 9, 33, 64), (1, 4, 65, 128)]


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_half_agrees_with_hugging_face(shape, theta):
    q, k, positions = torch.randn(shape), torch.randn(shape), torch.arange(shape[2])
    expected_q, expected_k = hugging_face(q, k, positions, theta)
    torch.testing.assert_close(rotate(q, positions, theta=theta), expected_q, atol=2e-5, rtol=0)
    torch.testing.assert_close(rotate(k, positions, theta=theta), expected_k, atol=2e-5, rtol=0)


def test_half_agrees_with_hugging_face_anywhere_on_the_same_tables():
    q, k, positions = torch.randn(2, 9, 300, 64), torch.randn(2, 3, 300, 64), torch.arange(999_700, 1_000_000)
    cos, sin = rope_tables(positions, rope_frequencies(64))
    doubled = (torch.cat((table, table), dim=-1)[None] for table in (cos, sin))
    expected_q, expected_k = apply_rotary_pos_emb(q, k, *doubled)
    torch.testing.assert_close(apply_rope(q, cos, sin), expected_q, atol=1e-6, rtol=0)
    torch.testing.assert_close(apply_rope(k, cos, sin), expected_k, atol=1e-6, rtol=0)


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_interleaved_agrees_with_the_complex_form(shape, theta):
    x, positions = torch.randn(shape), torch.arange(shape[2])
    expected = meta(x, positions, theta).float()
    torch.testing.assert_close(rotate(x, positions, "interleaved", theta), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_turns_the_pair_forwards_and_position_0_not_at_all(layout):
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = [[1.0, 0.0], [0.5403, 0.8415]]  # cos 1, sin 1
    torch.testing.assert_close(rotate(x, torch.tensor([0, 1]), layout), torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shift", [1, 1000, 1_000_000])
def test_scores_depend_on_distance_alone(layout, shift):
    q, k, positions = torch.randn(2, 3, 16, 32), torch.randn(2, 3, 16, 32), torch.arange(16)

    def scores(positions):
        return rotate(q, positions, layout) @ rotate(k, positions, layout).mT

    torch.testing.assert_close(scores(positions + shift), scores(positions), atol=2e-5, rtol=0)
    assert (scores(positions) - q @ k.mT).abs().max() > 0.1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keeps_norms(layout):
    x = torch.randn(2, 3, 50, 64)
    torch.testing.assert_close(rotate(x, torch.arange(50), layout).norm(dim=-1), x.norm(dim=-1))


def test_frequencies_are_the_paper_s():
    expected = torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64)
    torch.testing.assert_close(rope_frequencies(8), expected)
    with torch.device("meta"):
        assert rope_frequencies(8).device.type == "cpu"
    torch.testing.assert_close(rope_frequencies(4, theta=100.0), torch.tensor([1.0, 0.1], dtype=torch.float64))


@pytest.mark.parametrize("position", [1, 8191, 131_071, 1_000_000])
def test_tables_are_exact_far_out(position):
    cos, sin = rope_tables(torch.tensor([position]), rope_frequencies(128, 500_000.0))
    with mpmath.workdps(40):
        angles = [position * mpmath.mpf(500_000) ** (-mpmath.mpf(2 * i) / 128) for i in range(64)]
        exact_cos, exact_sin = ([float(f(angle)) for angle in angles] for f in (mpmath.cos, mpmath.sin))
    # Half a step of float32 below 1, and the error of a float64 angle of a million, 1e-10
    torch.testing.assert_close(cos[0].double(), torch.tensor(exact_cos, dtype=torch.float64), atol=3.1e-8, rtol=0)
    torch.testing.assert_close(sin[0].double(), torch.tensor(exact_sin, dtype=torch.float64), atol=3.1e-8, rtol=0)


def test_tables_start_anywhere():
    frequencies = rope_frequencies(16)
    cos, sin = rope_tables(torch.arange(100), frequencies)
    later_cos, later_sin = rope_tables(torch.arange(60, 70), frequencies)
    assert torch.equal(later_cos, cos[60:70])
    assert torch.equal(later_sin, sin[60:70])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_row_of_a_batch_stands_at_its_own_positions(layout):
    x, positions = torch.randn(3, 2, 5, 8), torch.tensor([[0, 1, 2, 3, 4], [7, 8, 9, 10, 11], [4, 0, 9, 9, 1]])
    together = rotate(x, positions, layout)
    for row in range(3):
        torch.testing.assert_close(together[row], rotate(x[row], positions[row], layout))
    torch.testing.assert_close(rotate(x, positions[:1], layout), rotate(x, positions[0], layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 8), (3, 6, 8), (2, 3, 6, 8), (0, 3, 6, 8)])
def test_leading_axes_are_optional(shape, layout):
    x = torch.randn(shape)
    rows = [rotate(row, torch.arange(6), layout) for row in x.reshape(-1, 6, 8)]
    expected = torch.stack(rows).reshape(shape) if rows else x
    torch.testing.assert_close(rotate(x, torch.arange(6), layout), expected)


@pytest.mark.parametrize("n_heads", [1, 3, 9])
def test_layouts_are_one_rotation_up_to_the_order_of_rows(n_heads):
    dim, head_dim, seq_len = 24, 8, 7
    x = torch.randn(2, seq_len, dim)
    w_q, w_k = torch.randn(n_heads * head_dim, dim), torch.randn(n_heads * head_dim, dim)

    def scores(w_q, w_k, layout):
        q, k = ((x @ w.T).unflatten(-1, (n_heads, head_dim)).transpose(1, 2) for w in (w_q, w_k))
        return rotate(q, torch.arange(seq_len), layout) @ rotate(k, torch.arange(seq_len), layout).mT

    half = scores(w_q, w_k, "half")
    reordered = to_interleaved(w_q, n_heads), to_interleaved(w_k, n_heads)
    torch.testing.assert_close(scores(*reordered, "interleaved"), half, atol=1e-3, rtol=1e-5)  # scores reach 1000
    assert (scores(*reordered, "half") - half).abs().max() > 1
    assert (scores(w_q, w_k, "interleaved") - half).abs().max() > 1


@pytest.mark.parametrize("shape", [(36, 5), (36,), (36, 2, 3)])
def test_reordering_is_llama_cpp_s_and_has_an_inverse(shape):
    weight = torch.arange(torch.tensor(shape).prod().item()).reshape(shape)
    n_heads = 3
    llama_cpp = weight.reshape(n_heads, 2, 6, *shape[1:]).transpose(1, 2).reshape(shape)
    assert torch.equal(to_interleaved(weight, n_heads), llama_cpp)
    assert torch.equal(to_half(llama_cpp, n_heads), weight)
    assert torch.equal(to_interleaved(to_half(weight, n_heads), n_heads), weight)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtype_is_kept_and_rounded_once(dtype, layout):
    x, positions = torch.randn(2, 3, 40, 64).to(dtype), torch.arange(5000, 5040)
    turned = rotate(x, positions, layout)
    assert turned.dtype == dtype
    exact = meta(x if layout == "interleaved" else _pairs_side_by_side(x), positions, 10_000.0)
    turned = turned if layout == "interleaved" else _pairs_side_by_side(turned)
    # One rounding to dtype, after float32 arithmetic on numbers up to 6
    bound = torch.finfo(dtype).eps / 2 * exact.abs() + 2e-6
    assert ((turned.double() - exact).abs() <= bound).all()


def _pairs_side_by_side(x):
    return torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_is_the_turn_back(layout):
    x = torch.randn(2, 2, 3, 6, dtype=torch.float64, requires_grad=True)
    cos, sin = rope_tables(torch.arange(3), rope_frequencies(6))
    assert torch.autograd.gradcheck(lambda x: apply_rope(x, cos, sin, layout), (x,))
    upstream = torch.randn(2, 2, 3, 6, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(apply_rope(x, cos, sin, layout), x, upstream)
    torch.testing.assert_close(gradient, apply_rope(upstream, cos, -sin, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_memory_layout_is_read_and_no_input_is_written(layout, dtype):
    x, positions = torch.randn(2, 3, 6, 8).to(dtype), torch.arange(6)
    cos, sin = rope_tables(positions, rope_frequencies(8))
    expected = apply_rope(x, cos, sin, layout)
    odd_offset = torch.cat((torch.zeros(1, dtype=dtype), x.flatten()))[1:].view(x.shape)
    transposed = x.transpose(1, 2).contiguous().transpose(1, 2)
    strided = torch.stack((x, x), dim=-1)[..., 0]
    expanded = x[:1].expand(2, -1, -1, -1)
    for same in (odd_offset, transposed, strided):
        before, tables_before = same.clone(), (cos.clone(), sin.clone())
        assert torch.equal(apply_rope(same, cos, sin, layout), expected)
        assert torch.equal(same, before)
        assert torch.equal(cos, tables_before[0])
        assert torch.equal(sin, tables_before[1])
    assert torch.equal(apply_rope(expanded, cos, sin, layout)[1], expected[0])


@pytest.mark.parametrize("cast", ["bfloat16", "half", "double"])
def test_rotary_embedding_stays_exact_in_a_cast_model(cast):
    model = torch.nn.Sequential(RotaryEmbedding(16), torch.nn.Linear(2, 2))
    x, positions = torch.randn(1, 2, 3, 16), torch.arange(100_000, 100_003)
    expected = model[0](positions)(x)
    cast_model = getattr(copy.deepcopy(model), cast)()
    assert torch.equal(cast_model[0](positions)(x), expected)


def test_rotary_embedding_learns_and_stores_nothing():
    rope = RotaryEmbedding(16, 500_000.0, layout="interleaved")
    assert list(rope.parameters()) == []
    assert rope.state_dict() == {}
    x, positions = torch.randn(2, 3, 5, 16), torch.arange(5)
    assert torch.equal(rope(positions)(x), rotate(x, positions, "interleaved", 500_000.0))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("batched", [False, True])
def test_the_fast_way_is_the_formula(layout, dtype, batched):
    x, positions = torch.randn(2, 3, 50, 64).to(dtype), torch.arange(3000, 3050)
    positions = torch.stack((positions, positions + 7)) if batched else positions
    fast, plain = RotaryEmbedding(64, layout=layout)(positions)(x), rotate(x, positions, layout)
    # One multiplication and addition may be rounded once or twice.
    torch.testing.assert_close(fast.float(), plain.float(), atol=1e-6, rtol=torch.finfo(dtype).eps)
    assert fast.dtype == dtype


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_fast_way_reads_any_memory_layout(layout):
    memory = torch.randn(1 + 2 * 3 * 5 * 16)
    x = memory[1:].view(2, 3, 16, 5).transpose(-1, -2)  # an odd offset, and no channel beside the next one
    expected = rotate(x.contiguous(), torch.arange(5), layout)
    torch.testing.assert_close(RotaryEmbedding(16, layout=layout)(torch.arange(5))(x), expected, atol=1e-6, rtol=0)


def test_frequencies_are_those_of_the_sinusoids():
    assert torch.equal(rope_frequencies(64, 500_000.0), sinusoidal_frequencies(64, 500_000.0))


TABLE = torch.ones(6, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rope_frequencies(7), "head_dim (7) must be even and positive"),
        (lambda: rope_frequencies(0), "head_dim (0) must be even and positive"),
        (lambda: rope_frequencies(8, theta=0.0), "theta (0.0) must be positive"),
        (lambda: rope_frequencies(8, theta=float("nan")), "theta (nan) must be positive"),
        (lambda: rope_tables(torch.arange(3.0), rope_frequencies(8)), "integers, not torch.float32"),
        (lambda: rope_tables(torch.ones(3, dtype=torch.bool), rope_frequencies(8)), "integers, not torch.bool"),
        (lambda: rope_tables(torch.tensor(3), rope_frequencies(8)), "(seq_len,) or (batch, seq_len), not ()"),
        (lambda: rope_tables(torch.zeros(1, 2, 3).long(), rope_frequencies(8)), "not (1, 2, 3)"),
        (lambda: rope_tables(torch.arange(3), torch.ones(2, 4)), "(head_dim // 2,), not (2, 4)"),
        (lambda: apply_rope(torch.ones(6, 8), TABLE, TABLE, "pairs"), "layout ('pairs') must be one of 'half', 'int"),
        (lambda: apply_rope(torch.ones(6, 7), TABLE, TABLE), "even head_dim), not torch.float32 (6, 7)"),
        (lambda: apply_rope(torch.ones(8), TABLE, TABLE), "(..., seq_len, even head_dim)"),
        (
            lambda: apply_rope(torch.ones(6, 8).long(), TABLE, TABLE),
            "x must be floats (..., seq_len, even head_dim), not torch.int64",
        ),
        (lambda: apply_rope(torch.ones(6, 8), TABLE, TABLE[:5]), "cos (6, 4) and sin (5, 4)"),
        (lambda: apply_rope(torch.ones(5, 8), TABLE, TABLE), "cos (6, 4) does not fit x (5, 8)"),
        (lambda: apply_rope(torch.ones(6, 16), TABLE, TABLE), "= (6, 8)"),
        (lambda: apply_rope(torch.ones(3, 6, 8), TABLE[None], TABLE[None]), "has a batch axis"),
        (lambda: apply_rope(torch.ones(3, 2, 6, 8), *[TABLE.expand(2, 6, 4)] * 2), "same batch, not (3, 2, 6, 8)"),
        (lambda: to_half(torch.ones(12, 2), 5), "rows (12) must be n_heads (5) times an even head_dim"),
        (lambda: to_interleaved(torch.ones(12, 2), 4), "rows (12) must be n_heads (4)"),
        (lambda: to_interleaved(torch.ones(12, 2), 0), "n_heads (0)"),
        (lambda: RotaryEmbedding(5), "head_dim (5) must be even"),
        (lambda: RotaryEmbedding(8, layout="pairs")(torch.arange(3))(torch.ones(3, 8)), "layout ('pairs')"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cuda_agrees_with_cpu(layout):
    x, positions = torch.randn(2, 3, 16, 64), torch.arange(16)
    on_gpu = RotaryEmbedding(64, layout=layout).cuda()(positions.cuda())(x.cuda())
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), rotate(x, positions, layout), atol=2e-6, rtol=0)
