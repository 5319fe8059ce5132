"""GGUF files: small ones written here, with Hugging Face as the reference, or damaged; and the real one."""

import dataclasses
import re
from itertools import pairwise

import gguf
import numpy as np
import pytest
import regex
import torch
import transformers
from tokenizers import pre_tokenizers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from llama_lessons.checkpoints import load_gguf, load_gguf_tokenizer, read_gguf
from llama_lessons.generation import generate
from llama_lessons.lab.materials import fetch
from llama_lessons.lab.perplexity import perplexity
from llama_lessons.llama import LlamaConfig
from llama_lessons.presets import smollm2
from llama_lessons.rope import RotaryEmbedding, to_interleaved
from llama_lessons.workbench import NoPositions

CONFIG = LlamaConfig(
    vocab_size=128,
    dim=96,
    n_layers=2,
    n_heads=6,
    n_kv_heads=2,
    head_dim=16,
    hidden_dim=160,
    max_seq_len=64,
    rope_theta=50_000.0,
    norm_eps=1e-6,
    tied_embeddings=True,
)


def permute(rows, n_heads):
    """llama.cpp's own, from its conversion of Hugging Face weights."""
    return rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def tensors(config, seed=0):
    """Weights in Hugging Face's layout, under llama.cpp's names."""
    draw = np.random.default_rng(seed)

    def weight(*shape):
        return (0.1 * draw.standard_normal(shape)).astype(np.float32)

    q_rows, kv_rows = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    weights = {"token_embd.weight": weight(config.vocab_size, config.dim), "output_norm.weight": weight(config.dim)}
    if not config.tied_embeddings:
        weights["output.weight"] = weight(config.vocab_size, config.dim)
    for i in range(config.n_layers):
        block = {
            "attn_norm": (config.dim,),
            "attn_q": (q_rows, config.dim),
            "attn_k": (kv_rows, config.dim),
            "attn_v": (kv_rows, config.dim),
            "attn_output": (config.dim, q_rows),
            "ffn_norm": (config.dim,),
            "ffn_gate": (config.hidden_dim, config.dim),
            "ffn_up": (config.hidden_dim, config.dim),
            "ffn_down": (config.dim, config.hidden_dim),
        }
        weights |= {f"blk.{i}.{name}.weight": weight(*shape) for name, shape in block.items()}
    return weights


def metadata(config):
    return {
        "llama.vocab_size": config.vocab_size,
        "llama.embedding_length": config.dim,
        "llama.block_count": config.n_layers,
        "llama.attention.head_count": config.n_heads,
        "llama.attention.head_count_kv": config.n_kv_heads,
        "llama.rope.dimension_count": config.head_dim,
        "llama.feed_forward_length": config.hidden_dim,
        "llama.context_length": config.max_seq_len,
        "llama.rope.freq_base": float(config.rope_theta),
        "llama.attention.layer_norm_rms_epsilon": float(config.norm_eps),
    }


ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = ["<|end|>", "<|im_start|>", *ALPHABET, "Ġt", "he", "Ġthe", "12"]
MERGES = ["Ġ t", "h e", "Ġt he", "1 2"]
TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": VOCABULARY,
    "tokenizer.ggml.token_type": [3, 3] + [1] * (len(VOCABULARY) - 2),
    "tokenizer.ggml.merges": MERGES,
}


def write(path, weights, values, kind=None, architecture="llama"):
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        match value:
            case str():
                writer.add_string(key, value)
            case float():
                writer.add_float32(key, value)
            case list():
                writer.add_array(key, value)
            case _:
                writer.add_uint32(key, value)
    for name, rows in weights.items():
        if name.endswith("attn_q.weight"):
            rows = permute(rows, CONFIG.n_heads)
        elif name.endswith("attn_k.weight"):
            rows = permute(rows, CONFIG.n_kv_heads)
        if kind is None or rows.ndim == 1:
            writer.add_tensor(name, rows)
        else:
            writer.add_tensor(name, gguf.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def whole(tmp_path):
    return write(tmp_path / "whole.gguf", tensors(CONFIG), metadata(CONFIG) | TOKENIZER)


def test_sizes_and_weights_are_the_file_s(whole):
    model, stored = load_gguf(whole), tensors(CONFIG)
    assert model.config == CONFIG
    assert model.head.weight is model.embedding.weight
    assert {(p.dtype, p.device.type, p.requires_grad) for p in model.parameters()} == {(torch.float32, "cpu", True)}
    attention, feed_forward = model.blocks[1].attention, model.blocks[1].feed_forward
    for parameter, name in [
        (model.embedding.weight, "token_embd"),
        (model.norm.weight, "output_norm"),
        (model.blocks[1].attention_norm.weight, "blk.1.attn_norm"),
        (model.blocks[1].feed_forward_norm.weight, "blk.1.ffn_norm"),
        (attention.q_proj.weight, "blk.1.attn_q"),
        (attention.k_proj.weight, "blk.1.attn_k"),
        (attention.v_proj.weight, "blk.1.attn_v"),
        (attention.o_proj.weight, "blk.1.attn_output"),
        (feed_forward.gate_proj.weight, "blk.1.ffn_gate"),
        (feed_forward.up_proj.weight, "blk.1.ffn_up"),
        (feed_forward.down_proj.weight, "blk.1.ffn_down"),
    ]:
        assert torch.equal(parameter.detach(), torch.from_numpy(stored[f"{name}.weight"])), name


def hugging_face(path, config, **settings):
    """What Hugging Face makes of the same file, with its own reader, which leaves out scaled frequencies."""
    read = load_gguf_checkpoint(path)["config"] | settings
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**read)).eval()
    weights = load_gguf_checkpoint(path, return_tensors=True, model_to_load=theirs)["tensors"]
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert missing == (["lm_head.weight"] if config.tied_embeddings else [])
    return theirs


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [None, *map(gguf.GGMLQuantizationType, (1, 3, 8, 30))], ids=str)  # F16 Q4_1 Q8_0 BF16
def test_logits_agree_with_hugging_face_on_the_same_file(tmp_path, kind, tied):
    config = dataclasses.replace(CONFIG, tied_embeddings=tied)
    path = write(
        tmp_path / "a.gguf", tensors(config), {"general.name": "tiny"} | metadata(config) | TOKENIZER, kind=kind
    )
    model = load_gguf(path)
    assert model.config == config
    tokens = torch.randint(config.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens), hugging_face(path, config)(tokens).logits, atol=2e-5, rtol=0)


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def llama_cpp_divisors(head_dim, theta, rope):
    """The tensor that llama.cpp writes for Llama 3: what its rule divides each frequency by."""
    plain = theta ** -(np.arange(0, head_dim, 2) / head_dim)
    turns = rope["original_max_position_embeddings"] * plain / (2 * np.pi)
    smooth = (turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
    smooth = smooth.clip(0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "divisors", "rope"),
    [
        (
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
            None,
            {"rope_type": "linear", "factor": 4.0},
        ),
        # Without a type llama.cpp takes a factor for linear; older files have another key.
        ({"llama.rope.scaling.factor": 2.5}, None, {"rope_type": "linear", "factor": 2.5}),
        ({"llama.rope.scale_linear": 3.0}, None, {"rope_type": "linear", "factor": 3.0}),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 8.0,
                "llama.rope.scaling.original_context_length": 8,
                "llama.rope.scaling.finetuned": True,
            },
            None,
            {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8},
        ),
        (
            {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0},
            None,
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": CONFIG.max_seq_len},
        ),
        ({}, llama_cpp_divisors(CONFIG.head_dim, CONFIG.rope_theta, LLAMA3), LLAMA3),
    ],
    ids=["linear", "factor alone", "old key", "yarn", "yarn without a length", "llama3"],
)
def test_scaled_frequencies_agree_with_hugging_face(tmp_path, values, divisors, rope):
    # Large gains make for sharp attention, which shows where its queries and keys were turned to.
    weights = {name: 10 * rows if "attn_norm" in name else rows for name, rows in tensors(CONFIG).items()}
    if divisors is not None:
        weights["rope_freqs.weight"] = divisors
    path = write(tmp_path / "scaled.gguf", weights, metadata(CONFIG) | TOKENIZER | {"general.name": "tiny"} | values)
    model = load_gguf(path)
    theirs = hugging_face(path, CONFIG, rope_parameters=rope | {"rope_theta": CONFIG.rope_theta})
    tokens = torch.randint(CONFIG.vocab_size, (2, 60), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(tokens)
        torch.testing.assert_close(logits, theirs(tokens).logits, atol=2e-5, rtol=0)
        model.rope = RotaryEmbedding(CONFIG.head_dim, CONFIG.rope_theta)
        assert (model(tokens) - logits).abs().max() > 1e-2


@pytest.mark.parametrize(
    "values",
    [
        {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0},
        {"llama.rope.scaling.type": "linear"},
        {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 1.0},
        {"llama.rope.scaling.factor": 0.0},
    ],
)
def test_metadata_that_scales_nothing_is_no_scaling(tmp_path, values):
    assert load_gguf(write(tmp_path / "a.gguf", tensors(CONFIG), metadata(CONFIG) | values)).config == CONFIG


def test_optional_metadata_has_the_format_s_defaults(tmp_path):
    config = dataclasses.replace(CONFIG, n_kv_heads=CONFIG.n_heads, rope_theta=10_000.0)
    values = metadata(config)
    for key in ("attention.head_count_kv", "rope.freq_base", "rope.dimension_count"):
        del values[f"llama.{key}"]
    weights = tensors(config)
    assert load_gguf(write(tmp_path / "a.gguf", weights, values)).config == config


@pytest.mark.parametrize("tied", [False, True])
def test_the_weights_alone_are_the_file_s_by_its_names_and_in_its_layout(tmp_path, tied):
    config = dataclasses.replace(CONFIG, tied_embeddings=tied)
    stored = tensors(config)
    path = write(tmp_path / "a.gguf", stored, metadata(config))
    read, weights = read_gguf(path)
    assert read == config
    assert weights.keys() == stored.keys()
    heads = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads}
    for name, rows in stored.items():
        n_heads = heads.get(name.removesuffix(".weight").rpartition(".")[2])
        wanted = rows if n_heads is None else permute(rows, n_heads)
        assert torch.equal(weights[name], torch.as_tensor(wanted)), name


def test_head_dim_may_differ_from_dim_over_heads(tmp_path):
    config = dataclasses.replace(CONFIG, head_dim=8)
    values = metadata(config) | {"llama.attention.key_length": 8}
    assert load_gguf(write(tmp_path / "a.gguf", tensors(config), values)).config == config


def without(values, *keys):
    return {key: value for key, value in values.items() if key not in keys}


def test_the_vocabulary_is_the_list_of_tokens_where_no_size_is_given(tmp_path):
    values = without(metadata(CONFIG) | TOKENIZER, "llama.vocab_size")
    values["tokenizer.ggml.tokens"] = [str(i) for i in range(CONFIG.vocab_size)]
    assert load_gguf(write(tmp_path / "a.gguf", tensors(CONFIG), values)).config == CONFIG
    # What counts is how many there are, of whatever kind of tokenizer.
    values |= {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.0] * CONFIG.vocab_size}
    assert load_gguf(write(tmp_path / "a.gguf", tensors(CONFIG), values)).config == CONFIG
    values = without(values, "tokenizer.ggml.tokens")
    with pytest.raises(ValueError, match=r"has no metadata llama\.vocab_size, and no tokenizer\.ggml\.tokens"):
        load_gguf(write(tmp_path / "a.gguf", tensors(CONFIG), values))


@pytest.mark.parametrize("load", [load_gguf, load_gguf_tokenizer])
def test_one_part_of_a_divided_file_is_refused(tmp_path, load):
    weights = tensors(dataclasses.replace(CONFIG, tied_embeddings=False))
    values = metadata(CONFIG) | TOKENIZER
    # What lacks the head alone would be a whole model with tied embeddings.
    parts = [(without(weights, "output.weight"), values), ({"output.weight": weights["output.weight"]}, {})]
    for i, (part, described) in enumerate(parts):
        path = write(tmp_path / f"{i}.gguf", part, described | {"split.no": i, "split.count": 2})
        with pytest.raises(ValueError, match=rf"{i}\.gguf is part {i + 1} of 2 of a model: .* --merge"):
            load(path)
    whole = write(tmp_path / "whole.gguf", weights, values | {"split.no": 0, "split.count": 1})
    assert load_gguf(whole).config == dataclasses.replace(CONFIG, tied_embeddings=False)


NOT_FINITE = tensors(CONFIG)["blk.1.ffn_up.weight"]
NOT_FINITE[3, 4] = np.nan
ROW = np.ones(96, np.float32)


@pytest.mark.parametrize(
    ("weights", "values", "message"),
    [
        ({"blk.1.attn_k.weight": None}, {}, "lacks 1 tensors of this Llama, such as blk.1.attn_k.weight"),
        ({"token_embd.weight": None}, {}, "such as token_embd.weight"),
        ({"rope_freqs.weight": ROW}, {}, "tensor rope_freqs.weight is (96,), but the metadata asks for (8,)"),
        ({"rope_freqs.weight": ROW[:8] - 1}, {}, "describes no Llama: short_factor and long_factor must"),
        (
            {"rope_freqs.weight": ROW[:8]},
            {"llama.rope.scaling.factor": 2.0},
            "('linear', rope_freqs.weight), which is not",
        ),
        ({"rope_factors_long.weight": ROW[:8]}, {}, "no place for, such as rope_factors_long.weight"),
        ({"blk.0.attn_q.bias": ROW}, {}, "no place for, such as blk.0.attn_q.bias"),
        ({"blk.1.ffn_up.weight": NOT_FINITE}, {}, "tensor blk.1.ffn_up.weight holds values that are not finite"),
        ({"blk.1.ffn_up.weight": NOT_FINITE[:-1]}, {}, "tensor blk.1.ffn_up.weight is (159, 96), but the metadata"),
        ({}, {"llama.block_count": 3}, "lacks 9 tensors of this Llama, such as blk.2."),
        ({}, {"llama.block_count": 1}, "has 9 tensors that this Llama has no place for, such as blk.1."),
        ({}, {"llama.block_count": 4_000_000_000}, "lacks tensors: it has 20 for 4000000000 blocks"),
        ({}, {"llama.vocab_size": 127}, "token_embd.weight is (128, 96), but the metadata asks for (127, 96)"),
        ({}, {"llama.embedding_length": 4_000_000_000, "llama.attention.key_length": 16}, "asks for (128, 4000000000)"),
        ({}, {"llama.feed_forward_length": 4_000_000_000}, "is (160, 96), but the metadata asks for (4000000000, 96)"),
        ({}, {"llama.attention.head_count_kv": 3}, "tensor blk.0.attn_k.weight is (32, 96)"),
        ({}, {"llama.attention.head_count_kv": 4}, "n_heads (6) must be a multiple of n_kv_heads (4)"),
        ({}, {"llama.attention.head_count": 0}, "n_heads (0) must be positive"),
        (
            {},
            {"llama.attention.head_count": "six"},
            "no Llama: llama.attention.head_count ('six') must be a whole number",
        ),
        ({}, {"llama.block_count": 2.0}, "llama.block_count (2.0) must be a whole number"),
        ({}, {"llama.rope.freq_base": float("inf")}, "llama.rope.freq_base (inf) must be a finite number"),
        ({}, {"llama.attention.layer_norm_rms_epsilon": float("nan")}, "rms_epsilon (nan) must be a finite number"),
        ({}, {"llama.attention.key_length": 15, "llama.rope.dimension_count": 15}, "head_dim (15) must be even"),
        ({}, {"llama.context_length": None}, "has no metadata llama.context_length"),
        ({}, {"llama.rope.scaling.type": "longrope"}, "changes its rotary frequencies ('longrope')"),
        ({}, {"llama.rope.scaling.attn_factor": 1.5}, "changes its rotary frequencies ('linear', attn_factor)"),
        ({}, {"llama.rope.scaling.factor": 0.5}, "describes no Llama: factor (0.5) must be at least 1"),
        ({}, {"llama.rope.dimension_count": 8}, "rotates 8 channels of a head; here it must be all, head_dim (16)"),
    ],
)
def test_a_file_that_is_not_this_llama_is_refused(tmp_path, weights, values, message):
    weights = {name: rows for name, rows in (tensors(CONFIG) | weights).items() if rows is not None}
    values = {key: value for key, value in (metadata(CONFIG) | values).items() if value is not None}
    path = write(tmp_path / "other.gguf", weights, values)
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        load_gguf(path)
    assert str(path) in str(refusal.value)


def test_another_architecture_is_refused(tmp_path):
    path = write(tmp_path / "other.gguf", tensors(CONFIG), metadata(CONFIG), architecture="gpt2")
    with pytest.raises(ValueError, match=r"other\.gguf holds architecture 'gpt2', not 'llama'"):
        load_gguf(path)


def test_a_file_cut_short_anywhere_is_refused(whole, tmp_path):
    content, short = whole.read_bytes(), tmp_path / "short.gguf"
    for length in [0, 1, 3, 4, 8, 20, *range(24, len(content) - 1, len(content) // 60), len(content) - 1]:
        short.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"short\.gguf is damaged, cut short or no GGUF file"):
            load_gguf(short)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GGUF\x03", b"GGUF\x09"),
        (b"GGUF", b"FUGG"),
        (b"llama.block_count", b"llama.block\xffcount"),
        (b"token_embd.weight", b"token_embd.weighs"),
        (b"blk.0.attn_q.weight", b"blk.1.attn_q.weight"),
        (b"llama.block_count\x04", b"llama.block_count\x63"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(whole, old, new):
    content = whole.read_bytes()
    assert old in content
    whole.write_bytes(content.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(str(whole))):
        load_gguf(whole)


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("key", ["tokens", "token_type", "merges"])
def test_an_array_longer_than_its_file_is_refused_at_once(whole, key, length):
    # Numbers past the end of the file are empty to the reader of llama.cpp, which would count on for ages.
    content, name = whole.read_bytes(), f"tokenizer.ggml.{key}".encode()
    place = content.index(name) + len(name) + 8
    whole.write_bytes(content[:place] + length.to_bytes(8, "little") + content[place + 8 :])
    for load in (load_gguf, load_gguf_tokenizer):
        with pytest.raises(ValueError, match=f"an array of {length} items does not fit the {len(content)} bytes"):
            load(whole)


def test_a_flipped_bit_is_refused_or_harmless(whole):
    content, draw = whole.read_bytes(), np.random.default_rng(0)
    shapes = [parameter.shape for parameter in load_gguf(whole).parameters()]
    header = content.index(b"blk.1.ffn_up.weight") + 60
    refusals, places = [], [*draw.integers(header, size=120), *draw.integers(header, len(content), size=10)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.integers(8)
        whole.write_bytes(damaged)
        try:
            load_gguf_tokenizer(whole)
            model = load_gguf(whole)
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert [parameter.shape for parameter in model.parameters()] == shapes
            assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(str(whole) in refusal for refusal in refusals)
    assert 0 < len(refusals) < len(places)


def test_what_is_no_file_is_an_os_error(tmp_path):
    for load in (load_gguf, load_gguf_tokenizer):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "missing.gguf")
        with pytest.raises(OSError, match=r"directory|denied"):
            load(tmp_path)


def test_an_unreadable_quantisation_is_named(tmp_path):
    path = write(tmp_path / "a.gguf", tensors(CONFIG), metadata(CONFIG), kind=gguf.GGMLQuantizationType.F16)
    content = path.read_bytes()
    # In the list of tensors a type follows the two sizes; 24 is int8, which holds no weights.
    name = b"blk.0.ffn_up.weight"
    place = content.index(name) + len(name) + 4 + 16
    path.write_bytes(content[:place] + b"\x18" + content[place + 1 :])
    with pytest.raises(ValueError, match=r"tensor blk\.0\.ffn_up\.weight is quantised as I8"):
        load_gguf(path)


def test_tokenizer_merges_cuts_digits_and_keeps_control_tokens_whole(whole):
    tokenizer = load_gguf_tokenizer(whole)
    assert tokenizer.get_vocab_size() == len(VOCABULARY)
    assert tokenizer.encode("the the").tokens == ["t", "he", "Ġthe"]
    assert tokenizer.encode("12").tokens == ["1", "2"]
    assert tokenizer.encode("a<|im_start|>the<|end|>").tokens == ["a", "<|im_start|>", "t", "he", "<|end|>"]
    ids = tokenizer.encode("<|im_start|>café 日本\n").ids
    assert tokenizer.decode(ids) == "café 日本\n"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|im_start|>café 日本\n"


def test_each_type_of_token_is_treated_as_by_llama_cpp(tmp_path):
    more = {"<think>": 4, "<|tool|>": 4, "é ü": 4, "<unk>": 2, "[PAD8]": 5, "<0x0A>": 6, "thethe": 1}
    values = TOKENIZER | {
        "tokenizer.ggml.tokens": VOCABULARY + list(more),
        "tokenizer.ggml.token_type": TOKENIZER["tokenizer.ggml.token_type"] + list(more.values()),
    }
    tokenizer = load_gguf_tokenizer(write(tmp_path / "a.gguf", {}, values))
    ids = {token: len(VOCABULARY) + i for i, token in enumerate(more)}
    found = tokenizer.encode("the<think>the<unk><|tool|>").ids
    t, he = VOCABULARY.index("t"), VOCABULARY.index("he")
    assert found == [t, he, ids["<think>"], t, he, ids["<unk>"], ids["<|tool|>"]]
    # A user-defined token is text, and found in any text; the others are control tokens, which no text may spell.
    assert tokenizer.decode(found) == "the<think>the"
    assert tokenizer.decode(found, skip_special_tokens=False) == "the<think>the<unk><|tool|>"
    tokenizer.encode_special_tokens = True
    found = tokenizer.encode("<think><unk><|tool|>").ids
    assert found[0] == ids["<think>"]
    assert not {ids["<unk>"], ids["<|tool|>"]} & set(found)
    # What stands in for ids without a token, or for bytes in other kinds of tokenizers, comes from no text.
    assert not {ids["[PAD8]"], ids["<0x0A>"], ids["thethe"]} & set(tokenizer.encode("[PAD8]<0x0A>thethe").ids)
    assert tokenizer.decode([ids["[PAD8]"], t, ids["<0x0A>"]]) == "t"


def test_without_types_tokens_that_look_like_control_are_control(tmp_path):
    path = write(tmp_path / "a.gguf", {}, without(TOKENIZER, "tokenizer.ggml.token_type"))
    tokenizer = load_gguf_tokenizer(path)
    assert tokenizer.encode("a<|im_start|>the<|end|>").tokens == ["a", "<|im_start|>", "t", "he", "<|end|>"]
    assert tokenizer.decode([0, VOCABULARY.index("12"), 1]) == "12"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.pre": "llama-bpe"}, "tokenizer of kind 'gpt2' with pre 'llama-bpe', which is not read here"),
        ({"tokenizer.ggml.pre": None}, "tokenizer of kind 'gpt2' with pre None, which is not read here"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer of kind 'llama' (sentencepiece), which is not read here"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": None}, "the model's folder in Hugging Face's format"),
        ({"tokenizer.ggml.model": ["gpt2"]}, "tokenizer.ggml.model (['gpt2']) must be a text"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer of kind 'bert', which is not read here"),
        ({"tokenizer.ggml.tokens": [*VOCABULARY[:-1], "he"]}, "holds the token 'he' twice"),
        ({"tokenizer.ggml.token_type": [3, 3, 9] + [1] * (len(VOCABULARY) - 3)}, "9 is no type of token"),
        ({"tokenizer.ggml.merges": ["Ġ t", "t zz"]}, "merges that do not fit its vocabulary"),
        ({"tokenizer.ggml.merges": ["Ġ t", "zz"]}, "is damaged: the merge 'zz' is no pair"),
        ({"tokenizer.ggml.merges": ["Ġ t", "h e y"]}, "is damaged: the merge 'h e y' is no pair"),
        ({"tokenizer.ggml.merges": [""]}, "is damaged: the merge '' is no pair"),
        ({"tokenizer.ggml.token_type": [3, 3]}, "tokens and"),
        ({"tokenizer.ggml.token_type": 3}, "metadata tokenizer.ggml.token_type must be a list of int"),
        ({"tokenizer.ggml.merges": [1, 2]}, "metadata tokenizer.ggml.merges must be a list of str"),
    ],
)
def test_another_tokenizer_is_refused(tmp_path, change, message):
    values = {key: value for key, value in (TOKENIZER | change).items() if value is not None}
    path = write(tmp_path / "a.gguf", {}, values)
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        load_gguf_tokenizer(path)
    assert str(path) in str(refusal.value)


def test_a_file_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.gguf has no metadata tokenizer\.ggml\.model"):
        load_gguf_tokenizer(write(tmp_path / "a.gguf", tensors(CONFIG), metadata(CONFIG)))


# The real file from here on.

TEXT = """The lighthouse keeper wrote one line a day in a grey book. In 1912 the book was full, and he began to write
between the lines. When the inspector came on the boat from the mainland, he asked why a man who had nothing to
report should need so many words. "Nothing happens here," the keeper said, "but it never happens twice the same
way." The inspector read for an hour, drank his tea, and went down the stairs without a word; there were 217 of
them, and he counted each one aloud."""


@pytest.fixture(scope="module")
def path():
    return fetch("smollm2")


@pytest.fixture(scope="module")
def model(path):
    return load_gguf(path)


@pytest.fixture(scope="module")
def tokenizer(path):
    return load_gguf_tokenizer(path)


@pytest.mark.slow
def test_smollm2_is_what_the_preset_says(model):
    assert model.config == smollm2("135M")
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008


@pytest.mark.slow
def test_smollm2_agrees_with_hugging_face(path, model, tokenizer):
    theirs = hugging_face(path, model.config)
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    with torch.inference_mode():
        tokens = torch.tensor([tokenizer.encode(TEXT).ids])
        # Logits reach 40, after 30 layers of float32.
        torch.testing.assert_close(model(tokens), theirs(tokens).logits, atol=1e-3, rtol=0)
        tokens = torch.tensor([tokenizer.encode(prompt).ids])
        # Ours with the cache as well as theirs, and on past the end of the answer, where choices are close.
        answer = theirs.generate(tokens, max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0)
    new = generate(model, tokens.tolist(), max_new_tokens=40)
    assert new == answer[:, tokens.shape[1] :].tolist()
    assert "Paris" in tokenizer.decode(new[0])


@pytest.mark.slow
def test_smollm2_reads_badly_with_the_wrong_rotation(path, tokenizer):
    model, tokens = load_gguf(path), torch.tensor(tokenizer.encode(TEXT).ids)
    right = perplexity(model, tokens)
    assert right < 40
    assert perplexity(model, tokens, torch.arange(len(tokens)) + 1000) == pytest.approx(right, rel=1e-3)
    half = model.rope
    model.rope = NoPositions()
    assert perplexity(model, tokens) > 4 * right
    model.rope = RotaryEmbedding(model.config.head_dim, model.config.rope_theta, layout="interleaved")
    assert perplexity(model, tokens) > 4 * right
    with torch.no_grad():
        for block in model.blocks:
            for projection, n_heads in ((block.attention.q_proj, 9), (block.attention.k_proj, 3)):
                projection.weight.copy_(to_interleaved(projection.weight, n_heads))
    assert perplexity(model, tokens) == pytest.approx(right, rel=1e-4)
    model.rope = half
    assert perplexity(model, tokens) > 4 * right


# llama.cpp's way to cut a text for tokenizers called "smollm": the first on the text, the second on its pieces.
DIGITS = regex.compile(r"\p{N}|\P{N}+")
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def byte_characters():
    """GPT-2's bytes_to_unicode: bytes that print stand for themselves, the others follow from 256 on."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    return {byte: chr(byte) for byte in printing} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def encode(text, ids, ranks):
    """Byte-level BPE as Sennrich et al. 2016 describe it: join the pair of lowest rank until none is left."""
    characters, result = byte_characters(), []
    for piece in DIGITS.findall(text):
        for word in WORDS.findall(piece):
            symbols = [characters[byte] for byte in word.encode()]
            while pairs := [pair for pair in pairwise(symbols) if pair in ranks]:
                first = min(pairs, key=ranks.__getitem__)
                joined, i = [], 0
                while i < len(symbols):
                    width = 2 if tuple(symbols[i : i + 2]) == first else 1
                    joined.append("".join(symbols[i : i + width]))
                    i += width
                symbols = joined
            result += [ids[symbol] for symbol in symbols]
    return result


@pytest.mark.slow
def test_smollm2_s_tokenizer_agrees_with_the_algorithm(path, tokenizer):
    reader = gguf.GGUFReader(path)
    ids = {token: i for i, token in enumerate(reader.get_field("tokenizer.ggml.tokens").contents())}
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    draw = np.random.default_rng(0)
    odd = [*" \n\tabXYZ019'é½Ⅷ٣日🙂.,!<|>\u00a0\u0301", "  ", "'ll", " the", "12", "don't", "\r\n"]
    texts = [TEXT, "12345 + 678 = 13,023", "naïve café, “quotes” 日本語 🙂👩‍👧", "  two  spaces \n\n\tand a tab ", ""]
    texts += ["".join(draw.choice(odd, size=draw.integers(1, 40))) for _ in range(300)]
    for text in texts:
        encoded = tokenizer.encode(text).ids
        assert encoded == encode(text, ids, ranks), repr(text)
        assert tokenizer.decode(encoded) == text


@pytest.mark.slow
def test_smollm2_s_control_tokens_are_one_id_each(path, tokenizer):
    assert tokenizer.get_vocab_size() == 49_152
    assert tokenizer.encode("<|im_start|>user\nHi<|im_end|>").ids == [1, *tokenizer.encode("user\nHi").ids, 2]
    reader = gguf.GGUFReader(path)
    types = reader.get_field("tokenizer.ggml.token_type").contents()
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    control = [i for i, type_ in enumerate(types) if type_ == gguf.TokenType.CONTROL]
    assert len(control) == 17
    for i in control:
        assert tokenizer.encode(f"a {tokens[i]}").ids[-1] == i
        assert tokenizer.decode([i]) == ""
