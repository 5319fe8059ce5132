"""The whole model against Hugging Face's, and its parts against the mistakes they are known for."""

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import llama_lessons.llama
from llama_lessons.attention import kv_cache_bytes
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.rope import RotaryEmbedding, to_interleaved
from llama_lessons.rope_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    YarnScaling,
)
from tests.hugging_face import hugging_face, hugging_face_name

TINY = LlamaConfig(
    vocab_size=97, dim=36, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=8, hidden_dim=56, max_seq_len=64
)


def shaken(model):
    """The model with weights large enough, and gains uneven enough, for each mistake to show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 else noise / parameter.shape[1] ** 0.5)
    return model


@pytest.fixture
def model():
    return shaken(Llama(TINY))


def tokens(*shape, config=TINY):
    return torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(1))


SCALINGS = {
    "linear": LinearScaling(factor=4.0),
    "dynamic": DynamicNTKScaling(factor=2.0, original_max_seq_len=32),
    "yarn": YarnScaling(factor=4.0, original_max_seq_len=16),
    "yarn with its own betas and factor": YarnScaling(
        factor=8.0, original_max_seq_len=32, beta_fast=4.0, beta_slow=0.5, fixed_attention_factor=1.3
    ),
    "Llama 3.1": Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_seq_len=16),
    "Llama 3.2": Llama3Scaling(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_seq_len=16),
    "longrope": LongRopeScaling(
        factor=2.0, original_max_seq_len=32, short_factor=(1.0, 1.1, 1.2, 1.3), long_factor=(1.0, 2.0, 3.0, 6.0)
    ),
}
CHANGES = {
    "grouped": {},
    "tied": {"tied_embeddings": True},
    "multi-head": {"n_kv_heads": 6},
    "multi-query": {"n_kv_heads": 1},
    "theta and eps": {"rope_theta": 500_000.0, "norm_eps": 1e-2},
    "one key/value head a query head": {"n_heads": 4, "n_kv_heads": 4},
    "wider heads": {"head_dim": 32},
} | {name: {"rope_scaling": scaling, "max_seq_len": 32} for name, scaling in SCALINGS.items()}


def changed(change):
    return shaken(Llama(dataclasses.replace(TINY, **change)))


# 17 tokens stay below the length of 32 that "dynamic" and "longrope" begin at; 64 do not.
@pytest.mark.parametrize("shape", [(1, 1), (2, 17), (3, 64)])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_agrees_with_hugging_face(change, shape):
    model, x = changed(change), tokens(*shape)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), hugging_face(model)(x).logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_with_a_cache_as_without(change):
    model, x = changed(change), tokens(2, 24)
    with torch.inference_mode():
        expected, cache = model(x), model.new_cache(2, 24)
        for chunk in x.split([1, 15, 1, 1, 6], dim=1):
            first = cache[0].length
            out = model(chunk, cache=cache)
            torch.testing.assert_close(out, expected[:, first : first + chunk.shape[1]], atol=1e-5, rtol=0)
    assert [layer.length for layer in cache] == [24] * TINY.n_layers


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_as_if_alone(change, side):
    model, x = changed(change), tokens(3, 12)
    lengths = [12, 5, 1]
    places = torch.arange(12)
    mask = torch.stack([places >= 12 - n if side == "left" else places < n for n in lengths])
    with torch.inference_mode():
        together = model(x, attention_mask=mask)
        theirs = hugging_face(model)(
            x, attention_mask=mask.long(), position_ids=(mask.cumsum(-1) - 1).clamp(min=0)
        ).logits
        assert together.isfinite().all()
        torch.testing.assert_close(together[mask], theirs[mask], atol=2e-5, rtol=0)
        for row in range(3):
            alone = model(x[row : row + 1, mask[row]])
            torch.testing.assert_close(together[row, mask[row]], alone[0], atol=1e-5, rtol=0)


def test_padded_rows_with_a_cache_as_if_alone(model):
    x, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.bool)
    mask[1, :4] = False
    with torch.inference_mode():
        cache = model.new_cache(2, 9)
        first = model(x[:, :6], attention_mask=mask[:, :6], cache=cache)
        rest = [model(x[:, i : i + 1], attention_mask=mask[:, : i + 1], cache=cache) for i in range(6, 9)]
        together = torch.cat((first, *rest), dim=1)
        torch.testing.assert_close(together[0], model(x[:1])[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together[1, 4:], model(x[1:, 4:])[0], atol=1e-5, rtol=0)


def test_bfloat16_within_its_own_rounding(model):
    x = tokens(2, 17)
    with torch.inference_mode():
        exact, theirs = model(x), hugging_face(model).bfloat16()(x).logits.float()
        ours = model.bfloat16()(x)
        assert ours.dtype == torch.bfloat16
        # Both round each weight and each step to 8 bits: ours may stray as far as theirs, with room for chance.
        stray, their_stray = ((logits.float() - exact).square().mean().sqrt() for logits in (ours, theirs))
        assert 0 < stray < 1.2 * their_stray


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_gradients_agree_with_hugging_face(change):
    model, x = changed(change), tokens(2, 9)
    theirs = hugging_face(model)
    model(x).square().mean().backward()
    theirs(x).logits.square().mean().backward()
    their_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in model.named_parameters():
        expected = their_gradients[hugging_face_name(name)]
        torch.testing.assert_close(parameter.grad, expected, atol=1e-6, rtol=1e-4)


def test_no_token_sees_a_later_one_nor_another_row(model):
    x = tokens(2, 8)
    logits = model(x)
    for t in range(8):
        changed = x.clone()
        changed[0, t] = (x[0, t] + 1) % TINY.vocab_size
        moved = (model(changed) - logits).abs().amax(dim=-1) > 1e-6
        assert moved[0].tolist() == [False] * t + [True] * (8 - t)
        assert not moved[1].any()


def test_positions_count_by_distance_alone(model):
    x, positions = tokens(2, 12), torch.arange(12)
    expected = model(x)
    assert torch.equal(model(x, positions), expected)
    torch.testing.assert_close(model(x, positions + 1000), expected, atol=2e-5, rtol=0)
    assert (model(x, 2 * positions) - expected).abs().max() > 1e-3


def test_each_row_may_stand_elsewhere(model):
    x, positions = tokens(2, 5), torch.tensor([[0, 1, 2, 3, 4], [0, 2, 4, 6, 9]])
    together = model(x, positions)
    for row in range(2):
        torch.testing.assert_close(together[row], model(x[row : row + 1], positions[row])[0], atol=2e-6, rtol=0)


def test_rope_is_swapped_by_assignment(model):
    x = tokens(2, 12)
    expected = model(x)
    model.rope = RotaryEmbedding(TINY.head_dim, TINY.rope_theta, layout="interleaved")
    assert (model(x) - expected).abs().max() > 1e-3
    with torch.no_grad():
        for block in model.blocks:
            attention = block.attention
            attention.q_proj.weight.copy_(to_interleaved(attention.q_proj.weight, TINY.n_heads))
            attention.k_proj.weight.copy_(to_interleaved(attention.k_proj.weight, TINY.n_kv_heads))
    torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=0)


def test_tied_head_is_the_embedding_s_weight():
    tied = Llama(dataclasses.replace(TINY, tied_embeddings=True))
    assert tied.head.weight is tied.embedding.weight
    untied = Llama(TINY)
    extra = TINY.vocab_size * TINY.dim
    assert count(untied) == count(tied) + extra


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_reads_past_its_length_and_int32(model):
    x = tokens(1, TINY.max_seq_len + 10)
    assert model(x).shape == (1, TINY.max_seq_len + 10, TINY.vocab_size)
    assert torch.equal(model(x.int()), model(x))


@pytest.mark.compile
def test_compiled_agrees(model):
    x = tokens(2, 9)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")  # one graph: nothing looks at values
    torch.testing.assert_close(compiled(x), model(x), atol=2e-6, rtol=0)


FIVE_FILES = ["norms", "feed_forward", "rope", "attention", "llama"]


def test_a_llama_can_be_read_in_one_sitting():
    script = "import sys, llama_lessons.llama; print([n for n in sys.modules if n.startswith('llama_lessons.')])"
    imported = ast.literal_eval(subprocess.check_output([sys.executable, "-c", script], text=True))
    assert sorted(imported) == sorted(f"llama_lessons.{name}" for name in FIVE_FILES)
    sources = [Path(llama_lessons.llama.__file__).with_name(f"{name}.py").read_text() for name in FIVE_FILES]
    assert sum(len(source.splitlines()) for source in sources) <= 1200
    assert sum(map(lines_of_code, sources)) <= 450


def lines_of_code(source):
    """Lines without docstrings, comments and blank ones."""
    tree = ast.parse(source)
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)]
    docstrings = [node.body[0] for node in documented if ast.get_docstring(node) is not None]
    for line in {n for node in docstrings for n in range(node.lineno, node.end_lineno + 1)}:
        source = "\n".join("" if i == line else text for i, text in enumerate(source.split("\n"), start=1))
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in source.split("\n"))


def test_generates_and_reads_under_autocast(model):
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        cache = model.new_cache(1, 9)
        assert cache[0].keys.dtype == torch.bfloat16
        chunks = [model(chunk, cache=cache) for chunk in tokens(1, 9).split([5, 1, 3], dim=1)]
        torch.testing.assert_close(torch.cat(chunks, dim=1), model(tokens(1, 9)), atol=0.05, rtol=0.05)


def test_weights_begin_as_in_hugging_face_s_llama():
    torch.manual_seed(0)
    model = Llama(dataclasses.replace(TINY, dim=256, hidden_dim=512))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name


def test_cache_takes_the_model_s_dtype_and_the_bytes_it_says(model):
    cache = model.bfloat16().new_cache(3, 10)
    sizes = {"n_layers": TINY.n_layers, "n_kv_heads": TINY.n_kv_heads, "head_dim": TINY.head_dim}
    expected = kv_cache_bytes(**sizes, batch=3, seq_len=10, dtype=torch.bfloat16)
    assert sum(layer.nbytes for layer in cache) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(torch.tensor([[3, 97]])), "token id 97 is not in the vocabulary: vocab_size is 97"),
        (lambda m: m(torch.tensor([[3, -1]])), "token id -1 is not in the vocabulary"),
        (lambda m: m(torch.tensor([3, 4])), "(batch, seq_len) with at least one token, not (2,)"),
        (lambda m: m(torch.zeros(2, 0).long()), "at least one token, not (2, 0)"),
        (lambda m: m(torch.ones(1, 2)), "int64 or int32 ids, not torch.float32"),
        (lambda m: m(tokens(2, 5), torch.arange(4)), "positions (4,) must be (seq_len,) or (batch, seq_len) for tok"),
        (lambda m: m(tokens(2, 5), torch.zeros(3, 5).long()), "positions (3, 5)"),
        (lambda m: m(tokens(2, 5), torch.arange(5.0)), "positions must be integers"),
        (lambda m: m(tokens(2, 5), cache=m.new_cache(2, 4)), "5 more tokens do not fit: the cache holds 0 of max_seq"),
        (lambda m: m(tokens(2, 5), cache=m.new_cache(3, 9)), "= (3, 2, seq_len, 8)"),
        (lambda m: m(tokens(2, 5), cache=m.new_cache(2, 9)[:2]), "cache holds 2 layers, but the model has 3"),
        (lambda m: m(tokens(2, 5), attention_mask=torch.ones(2, 4).bool()), "attention_mask (2, 4) must be (batch, c"),
        (lambda m: m(tokens(2, 5), attention_mask=torch.ones(2, 5)), "attention_mask must be bool (batch, 5), True at"),
        (lambda m: m(tokens(2, 5), attention_mask=torch.ones(3, 5).bool()), "cached + seq_len) = (2, 5)"),
    ],
)
def test_a_mistake_is_named(model, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 10, "n_kv_heads": 4}, "n_heads (10) must be a multiple of n_kv_heads (4)"),
        ({"n_kv_heads": 0}, "n_kv_heads (0) must be positive"),
        ({"dim": -1}, "dim (-1) must be positive"),
        ({"norm_eps": 0.0}, "norm_eps (0.0) must be positive"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(TINY, **change)


def test_config_is_frozen_and_knows_its_keys():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.dim = 3
    with pytest.raises(TypeError, match="n_kv_head"):
        dataclasses.replace(TINY, n_kv_head=3)


def test_odd_head_dim_is_refused():
    with pytest.raises(ValueError, match=re.escape("head_dim (7) must be even")):
        Llama(dataclasses.replace(TINY, head_dim=7))
