"""Settings and the module against transformers', configs there and back, and each mistake in one by its name."""

import copy
import math
import re

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from llama_lessons.rope import LAYOUTS, RotaryEmbedding, rope_frequencies
from llama_lessons.rope_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    ScaledRotaryEmbedding,
    YarnScaling,
    read_rope_scaling,
    rope_parameters,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# Frequencies against transformers

LONG = 64  # max_position_embeddings of the configs below that tell a longer length from the original one
SHORT_FACTORS = [1.0, 1.05, 0.998, 1.2, 1.3, 1.35, 1.4, 2.0]
LONG_FACTORS = [1.1, 1.5, 2.0, 3.0, 7.0, 15.0, 31.5, 32.0]
LLAMA_3_1 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": SHORT_FACTORS,
    "long_factor": LONG_FACTORS,
    "original_max_position_embeddings": 16,
}
# name: parameters, head_dim, theta, max_position_embeddings
CONFIGS = {
    "linear": ({"rope_type": "linear", "factor": 4.0}, 64, 1e4, 2048),
    "linear, old spelling": ({"type": "linear", "factor": 2}, 64, 1e4, 2048),
    "the new spelling counts": ({"type": "dynamic", "rope_type": "linear", "factor": 2.5}, 64, 1e4, 2048),
    "dynamic": ({"rope_type": "dynamic", "factor": 2.0}, 128, 1e4, LONG),
    "dynamic, factor 1": ({"rope_type": "dynamic", "factor": 1.0}, 16, 5e5, LONG),
    "yarn": ({**YARN, "original_max_position_embeddings": 2048}, 128, 1e4, 8192),
    "yarn, short": (YARN, 16, 1e4, LONG),
    "yarn, a step": ({**YARN, "original_max_position_embeddings": 4}, 16, 1e4, LONG),
    "yarn, two pairs": (YARN, 4, 1e4, LONG),
    "yarn, betas": ({**YARN, "beta_fast": 3.5, "beta_slow": 0.25}, 64, 1e4, LONG),
    "yarn, beyond the channels": (
        {**YARN, "original_max_position_embeddings": 32_768, "beta_fast": 8192},
        8,
        40.0,
        131_072,
    ),
    "yarn, beyond the channels, untruncated": (
        {**YARN, "original_max_position_embeddings": 32_768, "beta_fast": 8192, "truncate": False},
        8,
        40.0,
        131_072,
    ),
    "yarn, ratio": ({**YARN, "factor": None, "original_max_position_embeddings": 4096}, 128, 1e6, 131_072),
    "yarn, no original": ({"rope_type": "yarn", "factor": 4.0}, 64, 1e4, 4096),
    "yarn, attention": ({**YARN, "attention_factor": 1.5}, 64, 1e4, LONG),
    "yarn, mscale": ({**YARN, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7}, 64, 1e4, 640),
    "yarn, mscale alone": ({**YARN, "mscale": 0.7}, 64, 1e4, LONG),
    "yarn, mscale zero": ({**YARN, "mscale": 0.7, "mscale_all_dim": 0.0}, 64, 1e4, LONG),
    "yarn, untruncated": ({**YARN, "truncate": False, "original_max_position_embeddings": 4096}, 64, 1.5e5, 131_072),
    "llama 3.1": ({"rope_type": "llama3", **LLAMA_3_1}, 128, 5e5, 131_072),
    "llama 3.2": ({"rope_type": "llama3", **LLAMA_3_1, "factor": 32.0}, 64, 5e5, 131_072),
    "llama 3, theta inside": ({"rope_type": "llama3", **LLAMA_3_1, "rope_theta": 5e5}, 64, 5e5, 131_072),
    "longrope": (LONGROPE, 16, 1e4, LONG),
    "longrope, factor": ({**LONGROPE, "factor": 32.0}, 16, 1e4, LONG),
    "longrope, attention": ({**LONGROPE, "factor": 32, "attention_factor": 1.19}, 16, 1e4, LONG),
    "longrope, no original": (
        {"rope_type": "longrope", "factor": 4.0, "short_factor": SHORT_FACTORS, "long_factor": LONG_FACTORS},
        16,
        1e4,
        LONG,
    ),
    "null keys": ({**YARN, "beta_fast": None, "attention_factor": None, "partial_rotary_factor": 1.0}, 64, 1e4, LONG),
}
each_config = pytest.mark.parametrize("name", CONFIGS)


def hugging_face(parameters, head_dim, theta, max_seq_len):
    parameters = copy.deepcopy(parameters)  # transformers writes its defaults into them
    parameters["rope_theta"] = theta
    return LlamaConfig(
        head_dim=head_dim,
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        max_position_embeddings=max_seq_len,
        rope_parameters=parameters,
    )


@pytest.mark.parametrize("seq_len", [1, 16, 17, 64, 65, 1000])
@each_config
def test_frequencies_and_attention_factor_are_those_of_transformers(name, seq_len):
    parameters, head_dim, theta, max_seq_len = CONFIGS[name]
    config = hugging_face(parameters, head_dim, theta, max_seq_len)
    expected, expected_factor = ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]](config, seq_len=seq_len)
    scaling = read_rope_scaling(parameters, max_seq_len)
    frequencies = scaling.frequencies(rope_frequencies(head_dim, theta), seq_len)
    # transformers raises to powers in float32: some steps of 6e-8 each
    torch.testing.assert_close(frequencies, expected.double(), atol=0, rtol=1e-6)
    assert scaling.attention_factor == pytest.approx(expected_factor, rel=1e-12)


@each_config
def test_written_parameters_are_read_back_and_mean_the_same_to_transformers(name):
    parameters, head_dim, theta, max_seq_len = CONFIGS[name]
    scaling = read_rope_scaling(parameters, max_seq_len)
    written = rope_parameters(scaling)
    assert read_rope_scaling(written, max_seq_len) == scaling
    assert len({scaling, read_rope_scaling(written, max_seq_len)}) == 1  # hashable, like the config that holds it
    config = hugging_face(written, head_dim, theta, max_seq_len)
    for seq_len in (16, 1000):
        expected, expected_factor = ROPE_INIT_FUNCTIONS[scaling.kind](config, seq_len=seq_len)
        frequencies = scaling.frequencies(rope_frequencies(head_dim, theta), seq_len)
        torch.testing.assert_close(frequencies, expected.double(), atol=0, rtol=1e-6)
        assert scaling.attention_factor == pytest.approx(expected_factor, rel=1e-12)


def test_written_parameters_are_plain_values_of_known_keys(caplog):
    scaling = YarnScaling(factor=4.0, original_max_seq_len=16, truncate=False)
    expected = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "truncate": False}
    assert rope_parameters(scaling) == expected | {"beta_fast": 32, "beta_slow": 1}
    assert rope_parameters(DynamicNTKScaling(factor=2.0, original_max_seq_len=64)) == {
        "rope_type": "dynamic",
        "factor": 2.0,
    }
    short, long = tuple(SHORT_FACTORS), tuple(LONG_FACTORS)
    longrope = LongRopeScaling(factor=4.0, original_max_seq_len=16, short_factor=short, long_factor=long)
    assert rope_parameters(longrope) == {**LONGROPE, "factor": 4.0}
    for parameters in (rope_parameters(scaling), rope_parameters(longrope)):
        hugging_face(parameters, 16, 1e4, LONG)
    assert caplog.text == ""


@pytest.mark.parametrize("parameters", [None, {}, {"rope_type": "default"}, {"type": "default", "rope_theta": 1e4}])
def test_plain_rope_has_no_scaling(parameters):
    assert read_rope_scaling(parameters, 2048) is None


UNUSED = {"finetuned": True, "attn_factor": 2.0, "beta_fast": 3.5, "truncate": False, "attention_factor": 1.5}
UNUSED |= {"original_max_position_embeddings": 32, "low_freq_factor": 2.0, "long_factor": [2.0]}


@pytest.mark.parametrize("name", ["linear", "dynamic", "yarn, short", "llama 3.1", "longrope"])
def test_keys_that_a_kind_does_not_use_change_nothing_as_in_transformers(name):
    parameters, head_dim, theta, max_seq_len = CONFIGS[name]
    kind = parameters["rope_type"]
    used = {"yarn": {"beta_fast", "truncate", "attention_factor"}, "longrope": {"attention_factor"}}.get(kind, set())
    more = {key: value for key, value in UNUSED.items() if key not in used} | parameters
    scaling = read_rope_scaling(more, max_seq_len)
    assert scaling == read_rope_scaling(parameters, max_seq_len)
    config = hugging_face(more, head_dim, theta, max_seq_len)
    for seq_len in (16, 1000):
        expected, expected_factor = ROPE_INIT_FUNCTIONS[kind](config, seq_len=seq_len)
        frequencies = scaling.frequencies(rope_frequencies(head_dim, theta), seq_len)
        torch.testing.assert_close(frequencies, expected.double(), atol=0, rtol=1e-6)
        assert scaling.attention_factor == pytest.approx(expected_factor, rel=1e-12)
    assert read_rope_scaling({"rope_type": "default", **UNUSED}, max_seq_len) is None


def test_reading_leaves_the_parameters_as_they_are():
    parameters = {"type": "linear", "factor": 2.0, "rope_theta": 1e4, "partial_rotary_factor": None}
    before = dict(parameters)
    assert read_rope_scaling(parameters, 2048) == LinearScaling(factor=2.0)
    assert parameters == before


# The module against transformers'


@pytest.mark.parametrize("seq_len", [10, 40])
@pytest.mark.parametrize("name", ["linear", "dynamic, factor 1", "yarn, short", "yarn, attention", "longrope"])
def test_the_module_turns_like_transformers_(name, seq_len):
    parameters, head_dim, theta, max_seq_len = CONFIGS[name]
    if name.startswith("dynamic"):
        max_seq_len = 16
    config = hugging_face(parameters, head_dim, theta, max_seq_len)
    q, k, positions = torch.randn(2, 2, seq_len, head_dim), torch.randn(2, 1, seq_len, head_dim), torch.arange(seq_len)
    cos, sin = LlamaRotaryEmbedding(config)(q, positions.expand(2, -1))
    expected_q, expected_k = apply_rotary_pos_emb(q, k, cos, sin)
    rotate = ScaledRotaryEmbedding(head_dim, theta, read_rope_scaling(parameters, max_seq_len))(positions)
    # transformers takes angles in float32, which costs it some 1e-6 by position 40
    torch.testing.assert_close(rotate(q), expected_q, atol=2e-5, rtol=0)
    torch.testing.assert_close(rotate(k), expected_k, atol=2e-5, rtol=0)


SCALINGS = [
    LinearScaling(factor=4.0),
    DynamicNTKScaling(factor=2.0, original_max_seq_len=32),
    YarnScaling(factor=4.0, original_max_seq_len=256, beta_fast=8),
    Llama3Scaling(factor=8.0, original_max_seq_len=256, low_freq_factor=1.0, high_freq_factor=4.0),
    LongRopeScaling(
        factor=4.0, original_max_seq_len=32, short_factor=tuple(SHORT_FACTORS), long_factor=tuple(LONG_FACTORS)
    ),
]
each_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda scaling: scaling.kind)


@pytest.mark.parametrize("layout", LAYOUTS)
@each_scaling
def test_the_module_makes_its_tables_from_the_scaled_frequencies(scaling, layout):
    rope = ScaledRotaryEmbedding(16, 1e4, scaling, layout)
    assert list(rope.parameters()) == []
    assert rope.state_dict() == {}
    x = torch.randn(2, 3, 5, 16)
    plain = RotaryEmbedding(16, 1e4, layout)
    for positions in (torch.arange(5), torch.arange(100, 105), torch.tensor([[0, 1, 2, 3, 4], [90, 7, 8, 9, 9]])):
        plain.frequencies = scaling.frequencies(rope_frequencies(16), positions.max().item() + 1)
        torch.testing.assert_close(rope(positions)(x), scaling.attention_factor * plain(positions)(x))


def test_the_module_goes_back_to_the_short_frequencies():
    """transformers keeps those of the longest text so far, unless the next one is shorter than the original."""
    x, short, long = torch.randn(1, 1, 5, 16), torch.arange(5), torch.arange(60, 65)
    for scaling in SCALINGS:
        rope = ScaledRotaryEmbedding(16, 1e4, scaling)
        before = rope(short)(x)
        rope(long)(x)
        assert torch.equal(rope(short)(x), before)


@each_scaling
def test_only_the_kinds_that_say_so_depend_on_the_length(scaling):
    frequencies = rope_frequencies(16)
    same = torch.equal(scaling.frequencies(frequencies, 8), scaling.frequencies(frequencies, 4096))
    assert same != scaling.depends_on_length


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_scaling
def test_frequencies_keep_their_dtype_and_are_not_written(scaling, dtype):
    frequencies = rope_frequencies(16).to(dtype)
    before = frequencies.clone()
    assert scaling.frequencies(frequencies, 100).dtype == dtype
    assert torch.equal(frequencies, before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attention_factor_is_a_temperature_of_the_softmax(layout):
    q, k, positions = torch.randn(2, 1, 6, 16), torch.randn(2, 1, 6, 16), torch.arange(6)

    def scores(attention_factor):
        scaling = YarnScaling(factor=4.0, original_max_seq_len=64, fixed_attention_factor=attention_factor)
        rotate = ScaledRotaryEmbedding(16, 1e4, scaling, layout)(positions)
        return rotate(q) @ rotate(k).mT

    torch.testing.assert_close(scores(1.3), 1.3**2 * scores(1.0))


@pytest.mark.parametrize("cast", ["bfloat16", "half"])
@each_scaling
def test_the_module_stays_exact_in_a_cast_model_and_on_any_default_device(scaling, cast):
    with torch.device("meta"):
        rope = ScaledRotaryEmbedding(16, 1e4, scaling)
    x, positions = torch.randn(1, 2, 3, 16), torch.arange(100, 103)
    expected = ScaledRotaryEmbedding(16, 1e4, scaling)(positions)(x)
    assert torch.equal(getattr(rope, cast)()(positions)(x), expected)


# Mistakes


def read(max_seq_len=64, **parameters):
    return read_rope_scaling(parameters, max_seq_len)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ScaledRotaryEmbedding(8, 1e4, SCALINGS[-1]), "factors (8) must be one for each of head_dim // 2 (4)"),
        (lambda: ScaledRotaryEmbedding(7, 1e4, SCALINGS[0]), "head_dim (7) must be even"),
        (lambda: read(rope_type="linear", factor=0.5), "factor (0.5) must be at least 1"),
        (lambda: read(rope_type="linear", factor=math.nan), "factor (nan) must be at least 1"),
        (lambda: read(rope_type="linear", factor=math.inf), "factor (inf) must be at least 1, and finite"),
        (lambda: read(**{**YARN, "factor": None}, max_seq_len=8), "factor (0.5) must be at least 1"),
        (
            lambda: read(rope_type="su", factor=2.0),
            "rope_type ('su') must be one of default, linear, dynamic, yarn, ll",
        ),
        (lambda: read(type="su", factor=2.0), "rope_type ('su')"),
        (lambda: read(factor=2.0), "rope_type (None) must be one of default, linear"),
        (lambda: read(rope_type="default", factr=2.0), "rope_type 'default' has no factr; it has no keys"),
        (lambda: read(rope_type="linear"), "rope_type 'linear' needs factor"),
        (lambda: read(rope_type="linear", factor=None), "rope_type 'linear' needs factor"),
        (lambda: read(rope_type="yarn"), "rope_type 'yarn' needs factor"),
        (lambda: read(rope_type="longrope", factor=2.0), "rope_type 'longrope' needs short_factor, long_factor"),
        (
            lambda: read(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0),
            "rope_type 'llama3' needs original_max_position_embeddings",
        ),
        (
            lambda: read(rope_type="linear", factor=2.0, beta_fst=8, mcale=1.0),
            "has no beta_fst, mcale; it has factor",
        ),
        (lambda: read(**YARN, original_max_seq_len=32), "rope_type 'yarn' has no original_max_seq_len"),
        (lambda: read(**YARN, partial_rotary_factor=0.5), "partial_rotary_factor (0.5) must be 1"),
        (lambda: read(**YARN, beta_fast=1), "beta_slow (1) must be positive and less than beta_fast (1)"),
        (lambda: read(**YARN, beta_slow=0), "beta_slow (0) must be positive"),
        (
            lambda: read(rope_type="llama3", **LLAMA_3_1 | {"low_freq_factor": 4.0}),
            "low_freq_factor (4.0) must be positive and less than high_freq_factor (4.0)",
        ),
        (
            lambda: read(rope_type="llama3", **LLAMA_3_1 | {"original_max_position_embeddings": 0}),
            "original_max_seq_len (0) must be at least 2",
        ),
        (lambda: read(**YARN | {"original_max_position_embeddings": 0}), "original_max_seq_len (0) must be at least 2"),
        (
            lambda: read(**LONGROPE | {"original_max_position_embeddings": 0}),
            "original_max_seq_len (0) must be at least 2",
        ),
        (
            lambda: read(**LONGROPE | {"long_factor": [1.0, 2.0]}),
            "short_factor (8 numbers) must be as long as long_factor (2 numbers)",
        ),
        (lambda: read(**LONGROPE | {"long_factor": [0.0] * 8}), "must hold positive, finite numbers"),
        (lambda: read(**LONGROPE | {"long_factor": [math.nan] * 8}), "must hold positive, finite numbers"),
        (lambda: read(**LONGROPE | {"short_factor": [math.inf] * 8}), "must hold positive, finite numbers"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
