"""Read a pretrained Llama and its tokenizer from one GGUF file, the format of llama.cpp.

The file holds everything: the sizes, the weights (here dequantised to float32), the vocabulary and the
merges. Its query and key rows are in RoPE layout "interleaved"; they are put back in layout "half".

Not done here: other architectures, other tokenizers, and frequencies changed for longer contexts. Files
that need them are refused.
"""

from os import PathLike
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor, TokenType
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.rope import to_half

__all__ = ["load_gguf", "load_gguf_tokenizer"]

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


def load_gguf(path: str | PathLike[str]) -> Llama:
    """Build the Llama that a GGUF file describes, with its weights in float32 and layout "half".

    Args:
        path: a GGUF file of architecture "llama", in any quantisation that the gguf package reads.

    Returns:
        The model on the CPU, its config read from the file.

    Raises:
        ValueError: if the file is damaged or no GGUF file, is of another architecture, or its tensors are
            not exactly those of the Llama that it describes. The message names the file and the tensor.
        OSError: if the file cannot be opened.
    """
    reader = _open(path)
    config = _read_config(reader, path)
    try:
        with _WeightsUndrawn():
            model = Llama(config)
    except (ValueError, RuntimeError) as error:  # an odd head_dim, or more than there is memory for
        raise ValueError(f"{path} describes a Llama that cannot be built: {error}") from error
    stored = {tensor.name: tensor for tensor in reader.tensors}
    wanted = {name: _gguf_name(name) for name, _ in model.named_parameters()}
    if missing := sorted(set(wanted.values()) - set(stored)):
        raise ValueError(f"{path} lacks {len(missing)} tensors of this Llama, such as {missing[0]}")
    if extra := sorted(set(stored) - set(wanted.values())):
        raise ValueError(f"{path} has {len(extra)} tensors that this Llama has no place for, such as {extra[0]}")
    weights = {}
    for name, parameter in model.named_parameters():
        weight = _read_weight(stored[wanted[name]], tuple(parameter.shape), path)
        if name.endswith("q_proj.weight"):
            weight = to_half(weight, config.n_heads)
        elif name.endswith("k_proj.weight"):
            weight = to_half(weight, config.n_kv_heads)
        weights[name] = nn.Parameter(weight)
    if config.tied_embeddings:
        weights["head.weight"] = weights["embedding.weight"]
    model.load_state_dict(weights, assign=True)
    return model


def load_gguf_tokenizer(path: str | PathLike[str]) -> Tokenizer:
    """Build the byte-level BPE tokenizer that a GGUF file holds.

    Control tokens such as <|im_start|> in a text become one id each; `decode` leaves them out unless told
    `skip_special_tokens=False`. No token is added at either end.

    Raises:
        ValueError: if the file is damaged or no GGUF file, or its tokenizer is of another kind.
        OSError: if the file cannot be opened.
    """
    reader = _open(path)
    kind = _metadata(reader, path, "tokenizer.ggml.model"), _metadata(reader, path, "tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"{path} holds a tokenizer of kind {kind}; only ('gpt2', 'smollm') is known here")
    tokens = _metadata(reader, path, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _metadata(reader, path, "tokenizer.ggml.merges")]
    try:
        bpe = models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(f"{path} holds merges that do not fit its vocabulary: {error}") from error
    tokenizer = Tokenizer(bpe)
    # "smollm" is GPT-2's way to cut a text into words, after every digit was cut off on its own.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = _metadata(reader, path, "tokenizer.ggml.token_type")
    if len(types) != len(tokens):
        raise ValueError(f"{path} holds {len(tokens)} tokens and {len(types)} types of tokens")
    control = [token for token, type_ in zip(tokens, types, strict=True) if type_ == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


class _WeightsUndrawn(TorchFunctionMode):
    # To draw random weights, only to replace them, would take as long as to read the file. (Device "meta" has the
    # same use, but to draw an embedding there torch imports a symbolic algebra system for a second or two.)
    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class _Reader(GGUFReader):
    # np.memmap runs Python code at each slice, and the reader takes a quarter of a million: a plain view of the
    # same memory opens the file in a third of the time.
    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
        self._data = mapped.view(np.ndarray)


def _open(path: str | PathLike[str]) -> GGUFReader:
    try:
        return _Reader(path)
    except OSError:
        raise
    except Exception as error:  # on damaged bytes the reader fails in many ways: index, key, value, decoding
        raise ValueError(f"{path} is damaged, cut short or no GGUF file ({error}): get it again") from error


def _metadata(reader: GGUFReader, path: str | PathLike[str], key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    if field is None and default is None:
        raise ValueError(f"{path} has no metadata {key}")
    try:
        return default if field is None else field.contents()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: metadata {key} is no text ({error})") from error


def _read_config(reader: GGUFReader, path: str | PathLike[str]) -> LlamaConfig:
    def read(key: str, default: Any = None) -> Any:
        return _metadata(reader, path, f"llama.{key}", default)

    architecture = _metadata(reader, path, "general.architecture")
    if architecture != "llama":
        raise ValueError(f"{path} holds architecture {architecture!r}, not 'llama'")
    if (scaling := read("rope.scaling.type", "none")) != "none":
        raise ValueError(f"{path} changes its rotary frequencies ({scaling!r}), which is not read here")
    try:
        dim, n_heads = read("embedding_length"), read("attention.head_count")
        config = LlamaConfig(
            vocab_size=read("vocab_size"),
            dim=dim,
            n_layers=read("block_count"),
            n_heads=n_heads,
            n_kv_heads=read("attention.head_count_kv", n_heads),
            head_dim=read("attention.key_length", dim // max(n_heads, 1)),
            hidden_dim=read("feed_forward_length"),
            max_seq_len=read("context_length"),
            rope_theta=read("rope.freq_base", 10_000.0),
            norm_eps=_shortest(read("attention.layer_norm_rms_epsilon")),
            tied_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} describes no Llama: {error}") from error
    if config.n_layers > len(reader.tensors):
        raise ValueError(f"{path} lacks tensors: it has {len(reader.tensors)} for {config.n_layers} blocks")
    if (rotated := read("rope.dimension_count", config.head_dim)) != config.head_dim:
        raise ValueError(
            f"{path} rotates {rotated} channels of a head; here it must be all, head_dim ({config.head_dim})"
        )
    return config


def _shortest(value: float) -> float:
    # The file holds a float32: 1e-5 comes back as 9.999999747378752e-06.
    return float(str(np.float32(value)))


def _gguf_name(name: str) -> str:
    module = name.removesuffix(".weight")
    if not module.startswith("blocks."):
        return f"{_MODEL_NAMES[module]}.weight"
    _, index, part = module.split(".", 2)
    return f"blk.{index}.{_BLOCK_NAMES[part]}.weight"


def _read_weight(tensor: ReaderTensor, shape: tuple[int, ...], path: str | PathLike[str]) -> Tensor:
    # llama.cpp lists the fastest axis first.
    stored_shape = tuple(tensor.shape.tolist()[::-1])
    if stored_shape != shape:
        raise ValueError(f"{path}: tensor {tensor.name} is {stored_shape}, but the metadata asks for {shape}")
    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise ValueError(f"{path}: tensor {tensor.name} is quantised as {tensor.tensor_type.name}: {error}") from error
    if not np.isfinite(values.sum()):  # a sum keeps nan and inf, and is cheaper than to look at each value
        raise ValueError(f"{path}: tensor {tensor.name} holds values that are not finite")
    # A copy where the file was in float32 already: the mapped file is read-only.
    return torch.from_numpy(np.array(values, dtype=np.float32, copy=not values.flags.writeable))
