"""Read a pretrained Llama from one GGUF file, the format of llama.cpp.

The weights are dequantised to float32, or multiplied as they are stored. Query and key rows stand in the file in RoPE
layout "interleaved"; they are put back in layout "half". llama.cpp scales rotary frequencies by a rule, or by a tensor
of one divisor for each pair, which is how it stores Llama 3.1's rule.

Not done here: other architectures. Files that need them are refused.
"""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from typing import Literal

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor, nn

from llama_lessons.checkpoints.building import (
    Value,
    build_empty,
    check_names,
    check_shape,
    describing,
    put_weights,
    read_value,
)
from llama_lessons.checkpoints.gguf_file import GGUFFile
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.quantization import BLOCK_SIZE, Int4Linear, Int8Embedding, Int8Head, quantize_symmetric
from llama_lessons.rope import to_half
from llama_lessons.rope_scaling import LinearScaling, LongRopeScaling, RopeScaling, YarnScaling

__all__ = ["is_quantized", "load_gguf", "read_gguf"]

# Our modules and llama.cpp's names for the same weights.
_MODEL_NAMES = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}
_BLOCK_NAMES = {
    "attention_norm": "attn_norm",
    "attention.q_proj": "attn_q",
    "attention.k_proj": "attn_k",
    "attention.v_proj": "attn_v",
    "attention.o_proj": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
}
_ROPE_DIVISORS = "rope_freqs.weight"


def load_gguf(path: str | PathLike[str], weights: Literal["float32", "as stored"] = "float32") -> Llama:
    """Build the Llama that a GGUF file describes, with its weights in layout "half".

    Args:
        path: a GGUF file of architecture "llama", in any quantisation that the gguf package reads.
        weights: "float32"; or "as stored": matrices in Q4_1 stay in 4 bits, embedding and head are kept in 8, and
            products are computed in bfloat16. Such a model only generates, on a CPU.

    Returns:
        The model on the CPU, its config read from the file.

    Raises:
        ValueError: if the file is damaged or no GGUF file, is of another architecture, or its tensors are
            not exactly those of the Llama that it describes. The message names the file and the tensor.
        OSError: if the file cannot be opened.
    """
    model, file = _open(path)
    if weights == "as stored":
        _put_stored(model, file)
    else:
        values = {}
        for name, parameter in model.named_parameters():
            weight = _read_weight(file, _gguf_name(name), parameter.shape)
            values[name] = _rows_in_half(name, weight, model.config)
        put_weights(model, values)
    return model


def is_quantized(path: str | PathLike[str]) -> bool:
    """Whether a GGUF file's matrices, but for embedding and head, are all in Q4_1, so that they can stay as stored.

    Raises:
        ValueError, OSError: as `load_gguf`.
    """
    names = {f"{name}.weight" for name in _BLOCK_NAMES.values() if not name.endswith("_norm")}
    kinds = {t.tensor_type for name, t in GGUFFile(path).tensors.items() if name.split(".", 2)[-1] in names}
    return kinds == {GGMLQuantizationType.Q4_1}


def read_gguf(path: str | PathLike[str]) -> tuple[LlamaConfig, dict[str, Tensor]]:
    """Read a Llama's config and weights from a GGUF file, and build nothing: for a model of your own.

    Args:
        path: see `load_gguf`.

    Returns:
        The config, and the weights in float32 by the file's own names, such as blk.0.attn_q.weight. Query and key rows
        are in layout "interleaved". There is no output.weight where the head is tied to the embedding.

    Raises:
        ValueError, OSError: as `load_gguf`.
    """
    model, file = _open(path)
    names = {name: _gguf_name(name) for name, _ in model.named_parameters()}
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    return model.config, {stored: _read_weight(file, stored, shapes[name]) for name, stored in names.items()}


def _open(path: str | PathLike[str]) -> tuple[Llama, GGUFFile]:
    """The file's Llama, still without weights, and the file."""
    file = GGUFFile(path)
    config = _read_config(file)
    model = build_empty(config, len(file.tensors), path)
    wanted = [_gguf_name(name) for name, _ in model.named_parameters()]
    check_names(file.tensors.keys() - {_ROPE_DIVISORS}, wanted, path)
    return model, file


def _rows_in_half(name: str, rows: Tensor, config: LlamaConfig) -> Tensor:
    """Rows of a weight, or of its codes or scales: those of queries and keys put back in layout "half"."""
    if name.endswith("q_proj.weight"):
        return to_half(rows, config.n_heads)
    if name.endswith("k_proj.weight"):
        return to_half(rows, config.n_kv_heads)
    return rows


def _put_stored(model: Llama, file: GGUFFile) -> None:
    """Give the model the file's weights: matrices of blocks in 4 bits, embedding and head in 8, norms in float32."""
    for name, parameter in list(model.named_parameters()):
        place, stored = name.removesuffix(".weight"), _gguf_name(name)
        if parameter.ndim == 1:
            model.get_submodule(place).weight = nn.Parameter(_read_weight(file, stored, parameter.shape))
        elif place in ("embedding", "head"):
            table = _read_table(file, stored, parameter.shape)
            model.set_submodule(place, table if place == "embedding" else Int8Head(table))
        else:
            blocks = _read_blocks(file, stored, parameter.shape)
            model.set_submodule(place, Int4Linear(*(_rows_in_half(name, part, model.config) for part in blocks)))
    if model.config.tied_embeddings:
        model.head = Int8Head(model.embedding)
    with suppress(AttributeError, OSError, TypeError):  # where the C library is not glibc
        # glibc keeps some 200 MB that was free again, between what is still in use: back to the system with it.
        ctypes.CDLL(None).malloc_trim(0)


def _read_table(file: GGUFFile, name: str, shape: tuple[int, ...]) -> Int8Embedding:
    """An embedding or a head in 8 bits; codes in Q8_0 come out as they are. Piece by piece, to need little memory."""
    codes, scale = torch.empty(shape, dtype=torch.int8), torch.empty(shape[0], shape[1] // BLOCK_SIZE)
    n_rows = 4096
    for i, piece in enumerate(_pieces(file, name, shape, n_rows)):
        rows = slice(i * n_rows, (i + 1) * n_rows)
        codes[rows], scale[rows] = quantize_symmetric(piece)
    return Int8Embedding(codes, scale)


def _read_blocks(file: GGUFFile, name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, uint8, (rows, n), and scales and minima, float32, (rows, n // 32), of a tensor in Q4_1."""
    tensor = file.tensors[name]
    check_shape(name, tensor.shape.tolist()[::-1], shape, file.path, "the metadata")
    if tensor.tensor_type != GGMLQuantizationType.Q4_1:
        raise ValueError(
            f"{file.path}: tensor {name} is stored as {tensor.tensor_type.name}, and only Q4_1 can stay so: load it "
            'with weights="float32"'
        )
    # (rows, n // 32, 20 bytes): scale and minimum in float16, then two codes a byte: 0 to 15 low, 16 to 31 high
    blocks = np.array(tensor.data).reshape(shape[0], shape[1] // BLOCK_SIZE, -1)
    scale, minimum = blocks[..., :4].view(np.float16).astype(np.float32).transpose(2, 0, 1)
    codes = np.concatenate([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], axis=-1).reshape(shape)
    if not np.isfinite(scale.sum() + minimum.sum()):
        raise ValueError(f"{file.path}: tensor {name} holds values that are not finite")
    return tuple(map(torch.from_numpy, (codes, np.ascontiguousarray(scale), np.ascontiguousarray(minimum))))


def _read_config(file: GGUFFile) -> LlamaConfig:
    def read(key: str, kind: type[Value], default: Value | None = None) -> Value:
        key = f"llama.{key}"
        return read_value(file.metadata(key, default), kind, key, file.path)

    architecture = file.metadata("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{file.path} holds architecture {architecture!r}, not 'llama'")
    dim, n_heads, max_seq_len = (
        read(key, int) for key in ("embedding_length", "attention.head_count", "context_length")
    )
    head_dim = read("attention.key_length", int, dim // max(n_heads, 1))
    values = {
        "vocab_size": read("vocab_size", int, _count_tokens(file)),
        "dim": dim,
        "n_layers": read("block_count", int),
        "n_heads": n_heads,
        "n_kv_heads": read("attention.head_count_kv", int, n_heads),
        "head_dim": head_dim,
        "hidden_dim": read("feed_forward_length", int),
        "max_seq_len": max_seq_len,
        "rope_theta": read("rope.freq_base", float, 10_000.0),
        "rope_scaling": _read_rope_scaling(file, head_dim, max_seq_len),
        "norm_eps": _shortest(read("attention.layer_norm_rms_epsilon", float)),
        "tied_embeddings": "output.weight" not in file.tensors,
    }
    with describing(file.path):
        config = LlamaConfig(**values)
    if (rotated := read("rope.dimension_count", int, head_dim)) != head_dim:
        raise ValueError(
            f"{file.path} rotates {rotated} channels of a head; here it must be all, head_dim ({head_dim})"
        )
    return config


def _count_tokens(file: GGUFFile) -> int | None:
    # Files of 2023 give no size of the vocabulary.
    if "llama.vocab_size" in file.keys("llama."):
        return None
    tokens = file.metadata("tokenizer.ggml.tokens", "")
    if not isinstance(tokens, list):
        raise ValueError(f"{file.path} has no metadata llama.vocab_size, and no tokenizer.ggml.tokens to count")
    return len(tokens)


def _read_rope_scaling(file: GGUFFile, head_dim: int, max_seq_len: int) -> RopeScaling | None:
    # llama.cpp's defaults: without a type it is linear, without a factor nothing; an older key is still read.
    prefix = "llama.rope.scaling."
    found = {key.removeprefix(prefix): file.metadata(key) for key in file.keys(prefix)}
    found.pop("finetuned", None)  # says how the weights came about
    kind = found.pop("type", "linear")
    factor = found.pop("factor", file.metadata("llama.rope.scale_linear", 1.0))
    factor = 1.0 if kind == "none" else _shortest(read_value(factor, float, f"{prefix}factor", file.path)) or 1.0
    original_max_seq_len = found.pop("original_context_length", max_seq_len)
    divides = _ROPE_DIVISORS in file.tensors
    if kind not in ("none", "linear", "yarn") or found or (divides and factor != 1):
        described = ", ".join([repr(kind), *sorted(found), *[_ROPE_DIVISORS] * divides])
        raise ValueError(f"{file.path} changes its rotary frequencies ({described}), which is not read here")
    if divides:
        divisors = tuple(_read_weight(file, _ROPE_DIVISORS, (head_dim // 2,)).tolist())
    elif factor == 1:
        return None
    with describing(file.path):
        if divides:
            return LongRopeScaling(
                factor=1.0, original_max_seq_len=max_seq_len, short_factor=divisors, long_factor=divisors
            )
        if kind == "yarn":
            return YarnScaling(factor=factor, original_max_seq_len=original_max_seq_len)
        return LinearScaling(factor=factor)


def _shortest(value: float) -> float:
    # The file holds a float32: 1e-5 comes back as 9.999999747378752e-06.
    return float(str(np.float32(value)))


def _gguf_name(name: str) -> str:
    module = name.removesuffix(".weight")
    if not module.startswith("blocks."):
        return f"{_MODEL_NAMES[module]}.weight"
    _, index, part = module.split(".", 2)
    return f"blk.{index}.{_BLOCK_NAMES[part]}.weight"


def _read_weight(file: GGUFFile, name: str, shape: tuple[int, ...]) -> Tensor:
    (weight,) = _pieces(file, name, shape, shape[0])
    return weight


def _pieces(file: GGUFFile, name: str, shape: tuple[int, ...], n_rows: int) -> Iterator[Tensor]:
    """A tensor of the file in float32, n_rows rows at a time."""
    tensor = file.tensors[name]
    # llama.cpp lists the fastest axis first.
    check_shape(name, tensor.shape.tolist()[::-1], shape, file.path, "the metadata")
    for start in range(0, shape[0], n_rows):
        try:
            values = dequantize(tensor.data[start : start + n_rows], tensor.tensor_type)
        except NotImplementedError as error:
            raise ValueError(
                f"{file.path}: tensor {name} is quantised as {tensor.tensor_type.name}: {error}"
            ) from error
        if not np.isfinite(values.sum()):  # a sum keeps nan and inf, and is cheaper than to look at each value
            raise ValueError(f"{file.path}: tensor {name} holds values that are not finite")
        # A copy where the file was in float32 already: the mapped file is read-only.
        yield torch.from_numpy(np.array(values, dtype=np.float32, copy=not values.flags.writeable))
