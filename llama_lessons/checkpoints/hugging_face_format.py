"""How Hugging Face's transformers lays a Llama down: its files, and its names for tensors and for the config.

A config is read as transformers reads it, whose defaults stand in for keys that are left out. Two ways of writing
rotary frequencies are about: `rope_theta` with `rope_scaling`, and, from transformers 5 on, `rope_parameters`.
"""

import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from os import PathLike
from typing import Any

import torch

from llama_lessons.checkpoints.building import describing, read_value
from llama_lessons.llama import LlamaConfig
from llama_lessons.rope_scaling import LongRopeScaling, RopeScaling, read_rope_scaling, rope_parameters

__all__ = ["CONFIG", "DTYPES", "INDEX", "WEIGHTS", "read_config", "tensor_name", "write_config"]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

# Our modules and Hugging Face's names for them, where they differ.
_MODULES = {
    "embedding": "model.embed_tokens",
    "blocks": "model.layers",
    "norm": "model.norm",
    "head": "lm_head",
    "attention": "self_attn",
    "attention_norm": "input_layernorm",
    "feed_forward": "mlp",
    "feed_forward_norm": "post_attention_layernorm",
}
_KEYS = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "rope_theta": "rope_theta",
    "norm_eps": "rms_norm_eps",
    "tied_embeddings": "tie_word_embeddings",
}
_ORIGINAL = "original_max_position_embeddings"
# What transformers builds other models for.
_FIXED = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}
# Other words for the same: that of the first conversions, and the activation's other name.
_SAME = {"LLaMAForCausalLM": "LlamaForCausalLM", "swish": "silu"}


def tensor_name(name: str) -> str:
    """Hugging Face's name for one of our parameters: "norm.weight" is "model.norm.weight"."""
    return ".".join(_MODULES.get(part, part) for part in name.split("."))


def read_config(stored: Mapping[str, Any], path: str | PathLike[str] = CONFIG) -> LlamaConfig:
    """Read a Hugging Face config.

    Args:
        stored: its keys and values; None counts as absent.
        path: the file, for messages.

    Raises:
        ValueError: if it describes another model than a Llama, or one that cannot be. The message names the key.
    """
    stored = {key: value for key, value in stored.items() if value is not None}
    if "model_type" not in stored:
        raise ValueError(f"{path} has no model_type")
    for key, wanted in {**_FIXED, "partial_rotary_factor": 1, "quantization_config": None}.items():
        value = stored.get(key, wanted)
        if value != wanted and _usual(value) != wanted:
            raise ValueError(f"{path} describes no Llama that is known here: {key} is {value!r}, not {wanted!r}")
    with describing(path):
        rope = dict(stored.get("rope_scaling") or stored.get("rope_parameters") or {})
    defaults = {
        "num_key_value_heads": stored.get("num_attention_heads"),
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_theta": 10_000.0,
    }
    stored = defaults | stored | {key: rope[key] for key in rope.keys() & {"rope_theta"}}
    kinds = {field.name: field.type for field in fields(LlamaConfig)}

    def read(name: str) -> Any:
        key = _KEYS[name]
        if stored.get(key) is None:
            raise ValueError(f"{path} has no {key}")
        return read_value(stored[key], kinds[name], key, path)

    stored.setdefault("head_dim", read("dim") // max(read("n_heads"), 1))
    values = {name: read(name) for name in _KEYS}
    with describing(path):
        scaling = _read_scaling(rope, stored, values["max_seq_len"])
        return LlamaConfig(**values, rope_scaling=scaling)


def _usual(value: Any) -> Any:
    if isinstance(value, list):
        return [_usual(item) for item in value]
    return _SAME.get(value, value) if isinstance(value, str) else value


def _read_scaling(rope: dict[str, Any], stored: Mapping[str, Any], max_seq_len: int) -> RopeScaling | None:
    # Beside rope_scaling it goes before the one inside, as in transformers.
    if _ORIGINAL in stored and rope.get("rope_type", rope.get("type")) in ("llama3", "yarn", "longrope"):
        rope[_ORIGINAL] = stored[_ORIGINAL]
    scaling = read_rope_scaling(rope, max_seq_len)
    if scaling is not None and not 0 < scaling.attention_factor < float("inf"):
        raise ValueError(f"attention_factor ({scaling.attention_factor}) must be positive and finite")
    return scaling


def write_config(config: LlamaConfig, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The inverse of `read_config`: what config.json says of such a model, for transformers 4 and 5.

    Warns:
        UserWarning: if dim is no multiple of n_heads, which transformers 5 refuses.

    Raises:
        ValueError: if Hugging Face has no key for it: a dynamic scaling from another length than max_seq_len.
    """
    if config.dim % config.n_heads:
        warnings.warn(
            f"dim ({config.dim}) is no multiple of n_heads ({config.n_heads}): transformers 5 refuses to load such a "
            "model, which load_hugging_face and transformers 4 do",
            stacklevel=2,
        )
    longrope = isinstance(config.rope_scaling, LongRopeScaling)
    if longrope and config.rope_scaling.factor != config.max_seq_len / config.rope_scaling.original_max_seq_len:
        # Version 4 takes this ratio for the factor, which the attention factor alone depends on: so that is written.
        fixed = replace(config.rope_scaling, fixed_attention_factor=config.rope_scaling.attention_factor)
        config = replace(config, rope_scaling=fixed)
    scaling = {} if config.rope_scaling is None else rope_parameters(config.rope_scaling)
    stored = {
        **_FIXED,
        **{key: getattr(config, name) for name, key in _KEYS.items()},
        # Version 4 reads rope_scaling, and would take rope_parameters for no scaling and theta 10,000.
        "rope_scaling": scaling or None,
        "rope_parameters": {"rope_type": "default", **scaling, "rope_theta": config.rope_theta},
        # Left out, they would be 1 and 2, and generation would stop at token 2.
        "bos_token_id": None,
        "eos_token_id": None,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    if longrope:
        # Version 4 does not look for it within rope_scaling.
        stored[_ORIGINAL] = config.rope_scaling.original_max_seq_len
    if (again := read_config(stored)) != config:
        different = next(f.name for f in fields(config) if getattr(again, f.name) != getattr(config, f.name))
        raise ValueError(
            f"{CONFIG} cannot say {different} ({getattr(config, different)}): it would be read as "
            f"{getattr(again, different)}"
        )
    return stored
