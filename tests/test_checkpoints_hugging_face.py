"""Hugging Face folders, both ways: small ones that transformers wrote or reads, and those that must be refused."""

import copy
import dataclasses
import json
import math
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from llama_lessons.checkpoints import hugging_face_load as loading
from llama_lessons.checkpoints import hugging_face_save as saving
from llama_lessons.checkpoints import load_hugging_face, save_hugging_face
from llama_lessons.checkpoints.hugging_face_format import read_config, tensor_name, write_config
from llama_lessons.extrapolation import AlibiBias
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.norms import LayerNorm
from llama_lessons.rope import RotaryEmbedding
from llama_lessons.rope_scaling import DynamicNTKScaling, LinearScaling, Llama3Scaling, LongRopeScaling, YarnScaling
from llama_lessons.workbench import ARTICLE_PARTS, Decoder, NoPositions, Parts

CONFIG = LlamaConfig(
    vocab_size=97, dim=36, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=8, hidden_dim=56, max_seq_len=64
)
# Hugging Face's words, and ours. 32 is the original length; texts here are longer than 64, which is the new one.
ROPES = {
    "linear": ({"factor": 4.0}, LinearScaling(factor=4.0)),
    "dynamic": ({"factor": 2.0}, DynamicNTKScaling(factor=2.0, original_max_seq_len=64)),
    "yarn": (
        {"factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 16.0, "attention_factor": 1.25},
        YarnScaling(factor=4.0, original_max_seq_len=32, beta_fast=16.0, fixed_attention_factor=1.25),
    ),
    "llama3": (
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
        Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_seq_len=32),
    ),
    "longrope": (
        {
            "factor": 2.0,
            "original_max_position_embeddings": 32,
            "short_factor": [1.0, 1.5, 2.0, 2.5],
            "long_factor": [1.0, 2.0, 4.0, 8.0],
        },
        LongRopeScaling(
            factor=2.0,
            original_max_seq_len=32,
            short_factor=(1.0, 1.5, 2.0, 2.5),
            long_factor=(1.0, 2.0, 4.0, 8.0),
        ),
    ),
}


def hugging_face(**changes):
    """A small random Llama of transformers, in which every weight matters."""
    settings = {
        "vocab_size": 97,
        "hidden_size": 36,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 56,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings | changes)).eval()
    randomize(model)
    return model


def randomize(model):
    """Attention sharp enough for positions to count, and gains that are not 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter) + (parameter.ndim == 1))


TOKENS = torch.randint(97, (2, 80), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def assert_same_logits(ours, theirs):
    torch.testing.assert_close(ours(TOKENS), theirs(TOKENS).logits, atol=2e-5, rtol=0)


def edit(path, **changes):
    """Change keys of a JSON file; None takes one out."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.fixture
def folder(tmp_path):
    save_hugging_face(ours(), tmp_path / "llama")
    return tmp_path / "llama"


def ours(**changes):
    torch.manual_seed(0)
    model = Llama(dataclasses.replace(CONFIG, **changes))
    randomize(model)
    return model


@pytest.mark.parametrize("max_shard_size", ["5GB", "10KB"])
@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 6},
        {"num_key_value_heads": 1},
        {"tie_word_embeddings": True},
        {"head_dim": None, "rms_norm_eps": 1e-2},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
    ],
    ids=str,
)
def test_loads_what_transformers_saved(tmp_path, changes, max_shard_size):
    theirs = hugging_face(**changes)
    theirs.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (max_shard_size == "10KB")
    model = load_hugging_face(tmp_path)
    assert model.config.tied_embeddings == changes.get("tie_word_embeddings", False)
    assert (model.head.weight is model.embedding.weight) == model.config.tied_embeddings
    assert {(p.dtype, p.device.type, p.requires_grad) for p in model.parameters()} == {(torch.float32, "cpu", True)}
    assert_same_logits(model, theirs)


@pytest.mark.parametrize("form", ["rope_parameters", "type", "outside"])
@pytest.mark.parametrize("kind", ROPES)
def test_loads_every_scaling_in_every_form(tmp_path, kind, form):
    words, scaling = ROPES[kind]
    theirs = hugging_face(rope_parameters={"rope_type": kind, "rope_theta": 20_000.0, **words})
    theirs.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    if form != "rope_parameters":  # as transformers 4 wrote it, with "type" in its first years
        words = {"type" if form == "type" else "rope_type": kind, **words}
        edit(config, rope_parameters=None, rope_scaling=words, rope_theta=20_000.0)
    if form == "outside" and "original_max_position_embeddings" in words:
        edit(config, rope_scaling=words | {"original_max_position_embeddings": 48}, original_max_position_embeddings=32)
    model = load_hugging_face(tmp_path)
    assert model.config == dataclasses.replace(CONFIG, rope_theta=20_000.0, rope_scaling=scaling)
    assert_same_logits(model, theirs)
    if form != "rope_parameters":
        # What was put in its place means the same to transformers.
        assert_same_logits(model, transformers.AutoModelForCausalLM.from_pretrained(tmp_path))
    scaled = model(TOKENS)
    model.rope = RotaryEmbedding(CONFIG.head_dim, 20_000.0)
    assert (model(TOKENS) - scaled).abs().max() > 1e-2


def test_keys_left_out_have_transformers_defaults(tmp_path):
    theirs = hugging_face(num_key_value_heads=6, head_dim=None, rms_norm_eps=1e-6, max_position_embeddings=2048)
    theirs.save_pretrained(tmp_path)
    left_out = "num_key_value_heads head_dim rms_norm_eps max_position_embeddings rope_parameters tie_word_embeddings "
    left_out += "hidden_act attention_bias mlp_bias architectures dtype"
    edit(tmp_path / "config.json", **dict.fromkeys(left_out.split()))
    model = load_hugging_face(tmp_path)
    read = transformers.LlamaConfig.from_pretrained(tmp_path)
    assert model.config == dataclasses.replace(
        CONFIG,
        n_kv_heads=read.num_key_value_heads,
        head_dim=read.head_dim,
        max_seq_len=read.max_position_embeddings,
        norm_eps=read.rms_norm_eps,
        rope_theta=read.rope_parameters["rope_theta"],
    )
    assert_same_logits(model, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype_is_the_file_s_or_the_one_asked_for(tmp_path, dtype):
    theirs = hugging_face().to(dtype)
    theirs.save_pretrained(tmp_path)
    model = load_hugging_face(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    for name, weight in theirs.state_dict().items():
        assert torch.equal(load_file(tmp_path / "model.safetensors")[name], weight)
    # Read anew: theirs.float() would keep the frequencies that were rounded with the weights.
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_same_logits(load_hugging_face(tmp_path, dtype=torch.float32), theirs)
    assert load_hugging_face(tmp_path, dtype=torch.bfloat16).norm.weight.dtype == torch.bfloat16


def test_training_leaves_the_file_alone_and_saving_replaces_it(folder):
    content = (folder / "model.safetensors").read_bytes()
    model = load_hugging_face(folder)
    weights = load_file(folder / "model.safetensors")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(TOKENS).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.norm.weight, weights["model.norm.weight"])
    assert (folder / "model.safetensors").read_bytes() == content
    # Saved over the files that it came from
    save_hugging_face(model, folder)
    for parameter, again in zip(model.parameters(), load_hugging_face(folder).parameters(), strict=True):
        assert torch.equal(parameter, again)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_kv_heads": 6},
        {"n_kv_heads": 1},
        {"tied_embeddings": True},
        {"rope_theta": 500_000.0, "norm_eps": 1e-2},
        *({"rope_scaling": scaling, "rope_theta": 20_000.0} for _, scaling in ROPES.values()),
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_transformers_loads_what_we_saved(tmp_path, changes):
    model = ours(**changes)
    save_hugging_face(model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert_same_logits(model, theirs)
    assert theirs.config.eos_token_id is None  # by default 2, at which generation would stop
    again = load_hugging_face(tmp_path)
    assert again.config == model.config
    with torch.inference_mode():
        assert torch.equal(again(TOKENS), model(TOKENS))


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_our_shards(tmp_path, tied):
    model, folder = ours(tied_embeddings=tied), tmp_path / "new" / "folder"
    save_hugging_face(model, folder, max_shard_bytes=10_000)
    shards = [load_file(path) for path in sorted(folder.glob("model-*.safetensors"))]
    sizes = [sum(weight.nbytes for weight in shard.values()) for shard in shards]
    assert len(shards) > 3
    # A tensor is not divided: one alone may be larger.
    assert all(size <= 10_000 or len(shard) == 1 for size, shard in zip(sizes, shards, strict=True))
    assert json.loads((folder / "model.safetensors.index.json").read_text())["metadata"]["total_size"] == sum(sizes)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert_same_logits(model, theirs)
    assert_same_logits(load_hugging_face(folder), theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_transformers_loads_the_dtype_that_we_saved(tmp_path, dtype):
    model = ours().to(dtype)
    save_hugging_face(model, tmp_path)
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype == dtype
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_same_logits(model.float(), theirs)


def test_config_keeps_every_setting_of_a_scaling():
    scalings = [scaling for _, scaling in ROPES.values()]
    scalings.append(YarnScaling(factor=3.0, original_max_seq_len=32, mscale=0.7, mscale_all_dim=0.9, truncate=False))
    for scaling in scalings:
        config = dataclasses.replace(CONFIG, rope_scaling=scaling)
        assert read_config(json.loads(json.dumps(write_config(config)))) == config


def test_config_without_words_is_refused():
    scaling = DynamicNTKScaling(factor=2.0, original_max_seq_len=32)
    with pytest.raises(ValueError, match=r"cannot say rope_scaling \(DynamicNTKScaling.*=32\)\).*read as .*=64\)"):
        write_config(dataclasses.replace(CONFIG, rope_scaling=scaling))


def test_saving_again_leaves_no_old_weights_to_be_loaded(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    for model, max_shard_bytes in [(ours(), 10_000), (ours(n_kv_heads=1), 10**9), (ours(n_layers=3), 10_000)]:
        randomize(model)
        save_hugging_face(model, tmp_path, max_shard_bytes)
        again = load_hugging_face(tmp_path)
        assert again.config == model.config
        assert torch.equal(again.norm.weight, model.norm.weight)
        assert (tmp_path / "model.safetensors").exists() == (max_shard_bytes == 10**9)
    kept = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"].values()
    names = {"config.json", "model.safetensors.index.json", "tokenizer.json", *kept}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("calls", [0, 2])
def test_an_interrupted_save_leaves_the_old_files_whole(folder, monkeypatch, error, calls):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    left = iter([False] * calls)

    def interrupted(*args, **kwargs):
        if next(left, True):
            raise error
        save_file(*args, **kwargs)

    monkeypatch.setattr(saving, "save_file", interrupted)
    with pytest.raises(error):
        save_hugging_face(ours(n_kv_heads=1), folder, max_shard_bytes=10_000)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saved_files_are_as_readable_as_others(folder):
    assert len({os.stat(path).st_mode for path in folder.iterdir()}) == 1


def changed(change):
    model = ours(tied_embeddings=True) if "tied" in change.__name__ else ours()
    change(model)
    return model


def rope_interleaved(model):
    model.rope = RotaryEmbedding(8, layout="interleaved")


def rope_theta(model):
    model.rope = RotaryEmbedding(8, 20_000.0)


def rope_none(model):
    model.rope = NoPositions()


def norm_eps(model):
    model.blocks[1].feed_forward_norm.eps = 1e-3


def norm_other(model):
    model.blocks[0].attention_norm = LayerNorm(36)


def bias(model):
    model.blocks[0].attention.q_proj = nn.Linear(36, 48)


def block_twice(model):
    model.blocks[1] = model.blocks[0]


def block_more(model):
    model.blocks.append(copy.deepcopy(model.blocks[0]))


def head_tied_by_hand(model):
    model.head.weight = nn.Parameter(model.embedding.weight.detach().clone())


def head_shared(model):
    model.head.weight = model.embedding.weight


def vocabulary(model):
    model.embedding.weight = nn.Parameter(torch.ones(98, 36))


def quantised(model):
    model.head.weight = nn.Parameter(torch.ones(97, 36, dtype=torch.int8), requires_grad=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rope_interleaved, "model.rope.layout is interleaved, but half in the Llama that model.config describes"),
        (rope_theta, "model.rope.frequencies is [1.0, "),
        (rope_none, "model.rope is NoPositions, but RotaryEmbedding in the Llama that config.json can describe"),
        (norm_eps, "model.blocks.1.feed_forward_norm.eps is 0.001, but 1e-05 in the Llama"),
        (norm_other, "model.blocks.0.attention_norm is LayerNorm, but RMSNorm in the Llama"),
        (bias, "the model has 1 tensors that this Llama has no place for, such as blocks.0.attention.q_proj.bias"),
        (block_twice, "model.blocks.1 is NoneType, but Block in the Llama"),
        (block_more, "model.blocks.2 is Block, but NoneType in the Llama"),
        (head_tied_by_hand, "no place for, such as head.weight"),
        (head_shared, "the model lacks 1 tensors of this Llama, such as head.weight"),
        (vocabulary, "tensor embedding.weight is (98, 36), but model.config asks for (97, 36)"),
        (quantised, "model.head.weight is torch.int8, not one of torch.float64"),
    ],
)
def test_what_is_no_plain_llama_is_not_saved(tmp_path, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        save_hugging_face(changed(change), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_other_decoders_and_arguments_are_not_saved(tmp_path):
    class Other(Llama):
        pass

    parts = dataclasses.replace(Parts(), bias=lambda config: AlibiBias(config.n_heads))
    for model in (
        nn.Linear(2, 2),
        Other(CONFIG),
        Decoder(CONFIG),
        Decoder(CONFIG, ARTICLE_PARTS),
        Decoder(CONFIG, parts),
    ):
        with pytest.raises(ValueError, match=f"model must be a Llama, not {type(model).__name__}"):
            save_hugging_face(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    decoder, llama = Decoder(CONFIG), Llama(CONFIG)
    llama.load_state_dict(decoder.state_dict())
    save_hugging_face(llama, tmp_path / "plain")
    assert torch.equal(load_hugging_face(tmp_path / "plain")(TOKENS), decoder(TOKENS))
    with pytest.raises(ValueError, match=r"max_shard_bytes \(0\) must be positive"):
        save_hugging_face(ours(), tmp_path / "new", 0)
    with pytest.raises(NotADirectoryError, match=r"config\.json is a file: give a folder to write into"):
        save_hugging_face(ours(), tmp_path / "plain" / "config.json")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, "known here: model_type is 'mistral', not 'llama'"),
        ({"model_type": None}, "has no model_type"),
        ({"architectures": ["LlamaModel"]}, "architectures is ['LlamaModel'], not ['LlamaForCausalLM']"),
        ({"attention_bias": True}, "attention_bias is True, not False"),
        ({"mlp_bias": True}, "mlp_bias is True, not False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', not 'silu'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, not 1"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}, not None"),
        ({"hidden_size": None}, "has no hidden_size"),
        ({"hidden_size": "36"}, "hidden_size ('36') must be a whole number"),
        ({"hidden_size": 36.0}, "hidden_size (36.0) must be a whole number"),
        ({"hidden_size": True}, "hidden_size (True) must be a whole number"),
        ({"hidden_size": 10**400}, "0) must be a whole number"),
        ({"hidden_size": 40}, "model.embed_tokens.weight is (97, 36), but config.json asks for (97, 40)"),
        ({"hidden_size": 2**62}, "describes no Llama: "),
        ({"num_attention_heads": 0, "head_dim": None}, "n_heads (0) must be positive"),
        ({"num_attention_heads": 5}, "n_heads (5) must be a multiple of n_kv_heads (2)"),
        ({"head_dim": 7}, "head_dim (7) must be even"),
        ({"num_hidden_layers": 4_000_000_000}, "lacks tensors: it has 21 for 4000000000 blocks"),
        ({"num_hidden_layers": 3}, "lacks 9 tensors of this Llama, such as model.layers.2."),
        ({"num_hidden_layers": 1}, "has 9 tensors that this Llama has no place for, such as model.layers.1."),
        ({"tie_word_embeddings": True}, "lm_head.weight differs from model.embed_tokens.weight, but config.json has"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings ('yes') must be true or false"),
        ({"rms_norm_eps": 10**400}, "0) must be a finite number"),
        ({"rope_theta": "x", "rope_parameters": None}, "rope_theta ('x') must be a finite number"),
        ({"rope_parameters": {"rope_theta": -1.0}}, "rope_theta (-1.0) must be positive"),
        ({"rope_scaling": {"rope_type": "spiral"}}, "rope_type ('spiral') must be one of"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'linear' needs factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "x"}}, "describes no Llama: "),
        ({"rope_scaling": {"rope_type": "linear", "factor": float("inf")}}, "(Infinity is no finite number)"),
        ({"rms_norm_eps": float("nan")}, "(NaN is no finite number)"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "attention_factor": "x"}}, "describes no Llama: "),
        ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 0}}, "describes no Llama: "),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": 1, "long_factor": 2}}, "describes no Llama: "),
        ({"rope_scaling": [3]}, "describes no Llama: "),
        ({"rope_scaling": 7}, "describes no Llama: "),
    ],
    ids=str,
)
def test_a_config_of_something_else_is_refused(folder, changes, message):
    edit(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        load_hugging_face(folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe\xff", b"nonsense", b"[" * 100_000, b'{"rms_norm_eps": 1e999}']
)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_damaged_json_is_refused(folder, name, content):
    if name != "config.json":
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{folder / name} ")):
        load_hugging_face(folder)


def edit_tensors(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


NORM, GATE = "model.norm.weight", "model.layers.1.mlp.gate_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(GATE), f"lacks 1 tensors of this Llama, such as {GATE}"),
        (lambda w: w.update({"score.weight": torch.ones(2, 36)}), "no place for, such as score.weight"),
        (
            lambda w: w.update({GATE: w[GATE][:-1].clone()}),
            f"tensor {GATE} is (55, 36), but config.json asks for (56, 36)",
        ),
        (lambda w: w.update({GATE: w[GATE].T.contiguous()}), f"tensor {GATE} is (36, 56)"),
        (
            lambda w: w.update({GATE: w[GATE].to(torch.int8)}),
            f"tensor {GATE} is I8; weights must be F64, F32, BF16, F16",
        ),
        (lambda w: w.update({GATE: w[GATE].to(torch.float8_e4m3fn)}), f"tensor {GATE} is F8_E4M3; weights"),
        (lambda w: w.update({NORM: w[NORM] / 0}), f"tensor {NORM} holds values that are not finite"),
    ],
)
def test_tensors_of_another_model_are_refused(folder, change, message):
    edit_tensors(folder, change)
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        load_hugging_face(folder)
    assert str(folder / "model.safetensors") in str(refusal.value)


def test_old_files_hold_frequencies_that_are_passed_over(folder):
    expected = load_hugging_face(folder)(TOKENS)
    edit_tensors(folder, lambda w: w.update({"model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert torch.equal(load_hugging_face(folder)(TOKENS), expected)


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path):
    model = ours(tied_embeddings=True)
    save_hugging_face(model, tmp_path)
    edit_tensors(tmp_path, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()}))
    again = load_hugging_face(tmp_path)
    assert again.head.weight is again.embedding.weight
    assert torch.equal(again(TOKENS), model(TOKENS))
    edit_tensors(tmp_path, lambda w: w["lm_head.weight"][0].add_(1))
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        load_hugging_face(tmp_path)
    edit_tensors(tmp_path, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].bfloat16()}))
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        load_hugging_face(tmp_path)


def test_the_tensor_names_are_transformers_own():
    names = {tensor_name(name) for name in ours().state_dict()}
    assert names == set(hugging_face().state_dict())


# What is in the folder, and what is not.


def test_what_is_no_checkpoint_is_named_with_the_remedy(folder, tmp_path):
    for path, error, message in [
        (tmp_path / "nowhere", FileNotFoundError, "there is no folder .*nowhere: .* fetch it first"),
        (folder / "config.json", NotADirectoryError, r"config\.json is a file: .* load_gguf"),
        (tmp_path, FileNotFoundError, r"has no config\.json: give the folder of a Hugging Face checkpoint"),
    ]:
        with pytest.raises(error, match=message):
            load_hugging_face(path)
    with pytest.raises(ValueError, match=r"dtype \(torch\.int8\) must be one of torch\.float64, torch\.float32"):
        load_hugging_face(folder, dtype=torch.int8)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no weights: neither model\.safetensors nor model\.safetens"):
        load_hugging_face(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(
        ValueError, match=r"pytorch_model\.bin, a pickle, which can run any code .*\.save_pretrained\(folder\)"
    ):
        load_hugging_face(folder)
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"00002\.safetensors, but no model\.safetensors\.index\.json .* get that too"):
        load_hugging_face(folder)


@pytest.fixture
def sharded(tmp_path):
    save_hugging_face(ours(), tmp_path / "sharded", max_shard_bytes=20_000)
    return tmp_path / "sharded"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("../llama.safetensors", "'../llama.safetensors', which is no safetensors file beside it"),
        ("/etc/llama.safetensors", "which is no safetensors file beside it"),
        ("..\\llama.safetensors", "which is no safetensors file beside it"),
        ("C:llama.safetensors", "which is no safetensors file beside it"),
        ("within/llama.safetensors", "which is no safetensors file beside it"),
        ("pytorch_model.bin", "'pytorch_model.bin', which is no safetensors file beside it"),
        ("..", "which is no safetensors file"),
        ("", "which is no safetensors file"),
        (7, "puts lm_head.weight in 7, which is no safetensors file"),
        ("gone.safetensors", "puts lm_head.weight in gone.safetensors, which is not there: get that file too"),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(sharded, file, message):
    (sharded.parent / "llama.safetensors").write_bytes(b"secret")
    index = sharded / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"] | {"lm_head.weight": file}
    edit(index, weight_map=places)
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        load_hugging_face(sharded)
    assert str(index) in str(refusal.value)


def test_shards_that_do_not_make_a_whole_are_refused(sharded):
    index, (first, *others) = sharded / "model.safetensors.index.json", sorted(sharded.glob("*.safetensors"))
    (sharded / "link.safetensors").symlink_to(others[-1])  # as in Hugging Face's cache, where all files are links
    last = others[-1].name
    places = json.loads(index.read_text())["weight_map"]
    edit(index, weight_map={k: "link.safetensors" if v == last else v for k, v in places.items()})
    load_hugging_face(sharded)
    edit(index, weight_map={k: v for k, v in places.items() if v != last})
    with pytest.raises(ValueError, match=r"index\.json lacks \d+ tensors of this Llama, such as "):
        load_hugging_face(sharded)
    edit(index, weight_map=places | {"again": "link.safetensors"})
    with pytest.raises(ValueError, match=r"model-\S+ and link\.safetensors both hold tensor "):
        load_hugging_face(sharded)
    for weight_map in ({}, [1], None):
        edit(index, weight_map=weight_map)
        with pytest.raises(ValueError, match=r"index\.json has no weight_map"):
            load_hugging_face(sharded)
    edit(index, weight_map=places)
    first.write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(f"{first} is damaged, cut short or no safetensors file")):
        load_hugging_face(sharded)


# What is written otherwise elsewhere, and means the same to transformers.


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["LLaMAForCausalLM"]},
        {"hidden_act": "swish"},
        {"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32, "finetuned": True}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "attn_factor": 2.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0, "original_max_position_embeddings": 32}},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 32}},
        {"rope_scaling": {"rope_type": "default", "factor": 2.0}},
    ],
    ids=str,
)
def test_other_spellings_mean_what_they_mean_to_transformers(folder, changes):
    edit(folder / "config.json", rope_parameters=None, **changes)
    assert_same_logits(load_hugging_face(folder), transformers.AutoModelForCausalLM.from_pretrained(folder))


HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def test_a_tied_model_may_hold_its_head_alone(tmp_path):
    model = ours(tied_embeddings=True)
    save_hugging_face(model, tmp_path)
    edit_tensors(tmp_path, lambda w: w.update({HEAD: w.pop(EMBEDDING)}))
    again = load_hugging_face(tmp_path)
    assert again.head.weight is again.embedding.weight
    assert torch.equal(again(TOKENS), model(TOKENS))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
@pytest.mark.parametrize("others", [[HEAD], [EMBEDDING], [NORM], [GATE]])
def test_weights_of_several_dtypes_get_that_of_the_config(tmp_path, others, key, tied):
    save_hugging_face(ours(tied_embeddings=tied).bfloat16(), tmp_path)
    edit_tensors(tmp_path, lambda w: w.update({name: w[name].float() for name in others if name in w}))
    edit(tmp_path / "config.json", **{"torch_dtype": None, key: "bfloat16"})
    model = load_hugging_face(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model(TOKENS), ours(tied_embeddings=tied).bfloat16()(TOKENS))


def test_a_tied_head_of_another_dtype_is_the_embedding_still(tmp_path):
    save_hugging_face(ours(tied_embeddings=True).bfloat16(), tmp_path)
    edit_tensors(tmp_path, lambda w: w.update({HEAD: w[EMBEDDING].float()}))
    assert load_hugging_face(tmp_path).head.weight.dtype == torch.bfloat16


def test_weights_of_several_dtypes_need_a_config_that_names_one(folder):
    edit_tensors(folder, lambda w: w.update({GATE: w[GATE].bfloat16()}))
    for name in (None, "auto", 7):
        edit(folder / "config.json", torch_dtype=name)
        with pytest.raises(
            ValueError, match=r"holds weights in torch\.bfloat16 and torch\.float32, .* dtype=torch\.bfloat16"
        ):
            load_hugging_face(folder)
    assert load_hugging_face(folder, dtype=torch.bfloat16)(TOKENS).dtype == torch.bfloat16


def not_finite(value, dtype=torch.float32):
    def change(weights):
        weights.update({name: weight.to(dtype) for name, weight in weights.items()})
        weights[GATE][3, 4] = value

    return change


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(folder, value, dtype):
    edit_tensors(folder, not_finite(value, dtype))
    with pytest.raises(ValueError, match=rf"safetensors: tensor {GATE} holds values that are not finite"):
        load_hugging_face(folder)


def test_weights_too_large_for_the_dtype_asked_for_are_refused(folder):
    edit_tensors(folder, not_finite(1e6))
    assert load_hugging_face(folder, dtype=torch.bfloat16).blocks[1].feed_forward.gate_proj.weight.max() > 9e5
    with pytest.raises(ValueError, match=rf"tensor {GATE} holds values that are not finite in torch\.float16"):
        load_hugging_face(folder, dtype=torch.float16)


def test_on_windows_the_file_is_let_go_once_it_is_loaded(folder, monkeypatch):
    monkeypatch.setattr(loading, "_COPIES", True)
    model, path = load_hugging_face(folder), folder / "model.safetensors"
    expected = model(TOKENS)
    # What is mapped there can be neither replaced nor removed; here its memory would be the model's.
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(model(TOKENS), expected)
    if Path("/proc/self/maps").exists():
        assert str(path) not in Path("/proc/self/maps").read_text()


def test_elsewhere_its_memory_is_the_model_s_and_it_may_be_replaced(folder, monkeypatch):
    monkeypatch.setattr(loading, "_COPIES", False)
    model = load_hugging_face(folder)
    expected = model(TOKENS)
    save_hugging_face(ours(n_kv_heads=1), folder)
    assert torch.equal(model(TOKENS), expected)
    if Path("/proc/self/maps").exists():
        assert "model.safetensors (deleted)" in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["adapter_model.safetensors"], r"adapter_model\.safetensors.*merge_and_unload"),
        (["adapter_model.bin", "training_args.bin"], r"adapter_model\.bin.*merge_and_unload"),
        (["consolidated.safetensors", "params.json"], r"consolidated\.safetensors.*Meta.*model\.safetensors"),
        (["consolidated.00.pth", "params.json"], r"consolidated\.00\.pth.*Meta"),
        (["consolidated.safetensors", "optimizer.pt"], r"consolidated\.safetensors.*Meta"),
        (["a.gguf"], r"a\.gguf.*load_gguf"),
        (["other.safetensors"], r"other\.safetensors, but no model\.safetensors: .* name it so"),
        (["consolidated.safetensors", "model-00001-of-00002.safetensors"], r"has model-00001-of.* get that too"),
        (["pytorch_model.bin"], r"has pytorch_model\.bin, a pickle"),
    ],
)
def test_weights_in_other_forms_are_told_apart(folder, names, message):
    (folder / "model.safetensors").unlink()
    for name in names:
        (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        load_hugging_face(folder)
    (folder / "config.json").unlink()  # neither Meta nor adapters have it
    if not names[0].startswith(("adapter", "consolidated", "a.gguf")):
        message = r"has no config\.json"
    elif "model-" in names[-1]:
        message = r"has consolidated\.safetensors"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_hugging_face(folder)


# What is saved.


@pytest.mark.parametrize("compile_", ["model", "blocks", "in place"])
def test_a_compiled_model_is_saved_like_the_plain_one(tmp_path, compile_):
    model = ours()
    compiled = model
    if compile_ == "model":
        compiled = torch.compile(model, backend="eager")
    elif compile_ == "blocks":
        model.blocks[1] = torch.compile(model.blocks[1], backend="eager")
    else:
        model.compile(backend="eager")
    save_hugging_face(compiled, tmp_path)
    again = load_hugging_face(tmp_path)
    assert_same_logits(again, transformers.AutoModelForCausalLM.from_pretrained(tmp_path))
    assert torch.equal(again(TOKENS), ours()(TOKENS))
    compiled.norm.eps = 1e-3
    with pytest.raises(ValueError, match=r"model\.norm\.eps is 0\.001, but 1e-05"):
        save_hugging_face(compiled, tmp_path)


def test_saving_says_what_transformers_will_refuse(tmp_path):
    model = ours(n_heads=8)
    with pytest.warns(UserWarning, match=r"dim \(36\) is no multiple of n_heads \(8\): transformers 5 refuses"):
        save_hugging_face(model, tmp_path)
    assert torch.equal(load_hugging_face(tmp_path)(TOKENS), model(TOKENS))
    with pytest.raises(Exception, match="not a multiple of the number of attention heads"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)


def test_longrope_is_written_for_transformers_4_as_well():
    longrope = ROPES["longrope"][1]
    written = write_config(dataclasses.replace(CONFIG, rope_scaling=longrope))
    assert written["original_max_position_embeddings"] == 32  # the only place in which version 4 looks for it
    assert read_config(written).rope_scaling == longrope
    for kind in ("linear", "yarn", "llama3"):
        assert "original_max_position_embeddings" not in write_config(
            dataclasses.replace(CONFIG, rope_scaling=ROPES[kind][1])
        )
    # Version 4 takes the ratio of the lengths for the factor, where attention_factor does not say what it is for.
    other = dataclasses.replace(longrope, factor=8.0)
    written = write_config(dataclasses.replace(CONFIG, rope_scaling=other))
    assert written["rope_scaling"]["attention_factor"] == other.attention_factor
    read = read_config(written).rope_scaling
    assert read == dataclasses.replace(other, fixed_attention_factor=other.attention_factor)


# Damaged and tampered files.


def test_a_file_cut_short_anywhere_is_refused(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, *range(1000, len(content), len(content) // 40), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=re.escape(f"{path} is damaged, cut short or no safetensors file")):
            load_hugging_face(folder)


def with_header(content, change):
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + content[8 + length :]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda c: struct.pack("<Q", 2**63) + c[8:],
        lambda c: struct.pack("<Q", len(c)) + c[8:],
        lambda c: struct.pack("<Q", 0) + c[8:],
        lambda c: struct.pack("<Q", 10) + c[8:],
        lambda c: c + b"more",
        lambda c: with_header(c, lambda h: h[NORM].update(data_offsets=h["lm_head.weight"]["data_offsets"])),
        lambda c: with_header(c, lambda h: h[NORM].update(data_offsets=[0, 144])),
        lambda c: with_header(c, lambda h: h[NORM].update(data_offsets=[10**12, 10**12 + 144])),
        lambda c: with_header(c, lambda h: h[NORM].update(data_offsets=[144, 0])),
        lambda c: with_header(c, lambda h: h[NORM].update(shape=[2**62, 4])),
        lambda c: with_header(c, lambda h: h[NORM].update(shape=[18])),
        lambda c: with_header(c, lambda h: h[NORM].update(shape=[-36])),
        lambda c: with_header(c, lambda h: h[NORM].update(dtype="F99")),
        lambda c: with_header(c, lambda h: h.pop(NORM)),
    ],
)
def test_a_header_that_lies_is_refused(folder, tamper):
    path = folder / "model.safetensors"
    path.write_bytes(tamper(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_hugging_face(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json"])
def test_a_flipped_bit_is_refused_or_harmless(sharded, folder, name):
    folder = sharded if "index" in name else folder
    path = folder / name
    content, draw = path.read_bytes(), np.random.default_rng(0)
    shapes = [parameter.shape for parameter in load_hugging_face(folder).parameters()]
    header = 8 + struct.unpack("<Q", content[:8])[0] if name == "model.safetensors" else len(content)
    refusals, places = [], [*range(8), *draw.integers(header, size=100)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.integers(8)
        path.write_bytes(damaged)
        try:
            model = load_hugging_face(folder)
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert [parameter.shape for parameter in model.parameters()] == shapes
            assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(str(folder) in refusal for refusal in refusals)
    assert refusals
