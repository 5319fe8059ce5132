"""Read a pretrained Llama from a Hugging Face folder: config.json and the weights in safetensors files.

The weights are read into memory of their own, and the files are let go: Windows neither replaces nor removes a file
that is mapped.

Not done here: pickles (*.bin), since to read one is to run what it holds; other architectures.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llama_lessons.checkpoints.building import build_empty, check_names, check_shape, put_weights
from llama_lessons.checkpoints.hugging_face_format import CONFIG, DTYPES, INDEX, WEIGHTS, read_config, tensor_name
from llama_lessons.llama import Llama

__all__ = ["load_hugging_face"]


def load_hugging_face(folder: str | PathLike[str], dtype: torch.dtype | None = None) -> Llama:
    """Build the Llama that a folder holds, as transformers' save_pretrained writes it and hubs serve it.

    Args:
        folder: with config.json, and model.safetensors or the shards that model.safetensors.index.json names.
        dtype: of the weights; by default that of the file or, where its tensors have several, that of config.json.

    Returns:
        The model on the CPU, its config read from the folder. The files are not needed any more.

    Raises:
        ValueError: if a file is damaged, the config describes something else than a Llama, the tensors are not
            exactly those of that Llama and finite, or there are weights in other forms alone. The message names the
            file, and key or tensor.
        FileNotFoundError: if there is no such folder, or no checkpoint in it.
        NotADirectoryError: if folder is a file.
    """
    folder = Path(folder)
    if dtype is not None and dtype not in DTYPES.values():
        raise ValueError(f"dtype ({dtype}) must be one of {', '.join(map(str, DTYPES.values()))}")
    _check_folder(folder)
    described = _read_json(folder / CONFIG)
    config = read_config(described, folder / CONFIG)
    source, files = _find_weights(folder)
    stored: dict[str, _Stored] = {}
    for file in files:
        found = _list_tensors(file)
        if twice := sorted(stored.keys() & found.keys()):
            raise ValueError(f"{file} and {stored[twice[0]].file.name} both hold tensor {twice[0]}")
        stored |= found
    model = build_empty(config, len(stored), source)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    head, embedding = tensor_name("head.weight"), tensor_name("embedding.weight")
    tied = stored.pop(head, None) if config.tied_embeddings else None
    if tied:
        stored.setdefault(embedding, tied)
    check_names(stored, map(tensor_name, shapes), source)
    for name, shape in shapes.items():
        found = stored[tensor_name(name)]
        check_shape(found.name, found.shape, shape, found.file, CONFIG)
    dtype = dtype or _common_dtype(stored.values(), described, source)
    # Side by side: within one tensor, torch's threads lose more time waiting for each other than they gain.
    with ThreadPoolExecutor(max_workers=4) as pool:
        read = pool.map(lambda name: stored[tensor_name(name)].read(dtype), shapes)
        weights = dict(zip(shapes, read, strict=True))
    if tied and not torch.equal(tied.read(dtype), weights["embedding.weight"]):
        raise ValueError(f"{source}: {head} differs from {embedding}, but {CONFIG} has tie_word_embeddings")
    put_weights(model, weights)
    return model


@dataclass(frozen=True)
class _Stored:
    # A tensor in a file.
    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str  # a key of DTYPES

    def read(self, dtype: torch.dtype) -> Tensor:
        # The file is opened anew for each tensor: as long as it is mapped, all pages that were read count as memory.
        with _opened(self.file) as file:
            weight = file.get_tensor(self.name).to(dtype, copy=True)
        # The ends are nan where a value is; after the cast, since float16 ends at 65504.
        if not all(end.isfinite() for end in weight.aminmax()):
            raise ValueError(f"{self.file}: tensor {self.name} holds values that are not finite in {dtype}")
        return weight


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file: give the folder with {CONFIG}, or a *.gguf file to load_gguf")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: models are not fetched here, fetch it first")
    if not (folder / CONFIG).exists():
        _refuse_other_forms(folder)
        raise FileNotFoundError(f"{folder} has no {CONFIG}: give the folder of a Hugging Face checkpoint")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_bytes(), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no JSON file ({error}): get it again") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{path} must hold an object of keys and values, not {type(stored).__name__}")
    return stored


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _find_weights(folder: Path) -> tuple[Path, list[Path]]:
    # The file that says what there is, and the files that hold it; in the order in which transformers looks.
    if (folder / WEIGHTS).exists():
        return folder / WEIGHTS, [folder / WEIGHTS]
    index = folder / INDEX
    if index.exists():
        return index, _read_index(index)
    _refuse(folder, ["model-*.safetensors"], f"but no {INDEX} to say what belongs to it: get that too")
    _refuse_other_forms(folder)
    _refuse(folder, ["*.safetensors"], f"but no {WEIGHTS}: if it holds the whole model, name it so")
    _refuse(
        folder,
        ["*.bin", "*.pt", "*.pth"],
        "a pickle, which can run any code when it is read. If you trust where it came from, convert it with "
        "transformers: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)",
    )
    raise FileNotFoundError(f"{folder} has no weights: neither {WEIGHTS} nor {INDEX}")


def _refuse_other_forms(folder: Path) -> None:
    _refuse(
        folder,
        ["adapter_model.*"],
        "which is an adapter for another model: merge it into that one with peft, "
        "AutoPeftModelForCausalLM.from_pretrained(folder).merge_and_unload().save_pretrained(new_folder)",
    )
    _refuse(folder, ["*.gguf"], "which is no Hugging Face checkpoint: give that file to load_gguf")
    _refuse(
        folder,
        ["consolidated*"],
        f"which is in Meta's own format: get {CONFIG} and {WEIGHTS}, or its shards, of the same model",
    )


def _refuse(folder: Path, patterns: Iterable[str], reason: str) -> None:
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        raise ValueError(f"{folder} has {path.name}, {reason}")


def _read_index(index: Path) -> list[Path]:
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index} has no weight_map that says which file holds which tensor")
    for tensor, name in names.items():
        # A name with a folder in it could lead anywhere; Windows knows two signs for that, and drives.
        if not isinstance(name, str) or PureWindowsPath(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{index} puts {tensor} in {name!r}, which is no safetensors file beside it")
        if not (index.parent / name).is_file():
            raise ValueError(f"{index} puts {tensor} in {name}, which is not there: get that file too")
    return [index.parent / name for name in sorted(set(names.values()))]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, cut short or no safetensors file ({error}): get it again") from error


def _list_tensors(path: Path) -> dict[str, _Stored]:
    with _opened(path) as file:
        found = {name: file.get_slice(name) for name in list(file.keys())}
        tensors = [_Stored(path, name, tuple(tensor.get_shape()), tensor.get_dtype()) for name, tensor in found.items()]
    # Old files hold the rotary frequencies, which follow from the config.
    tensors = [tensor for tensor in tensors if not tensor.name.endswith("rotary_emb.inv_freq")]
    for tensor in tensors:
        if tensor.kind not in DTYPES:
            raise ValueError(f"{path}: tensor {tensor.name} is {tensor.kind}; weights must be {', '.join(DTYPES)}")
    return {tensor.name: tensor for tensor in tensors}


def _common_dtype(tensors: Iterable[_Stored], described: Mapping[str, Any], source: Path) -> torch.dtype:
    kinds = sorted({tensor.kind for tensor in tensors})
    if len(kinds) == 1:
        return DTYPES[kinds[0]]
    # As in transformers, whose version 5 calls it dtype.
    named = described.get("dtype") or described.get("torch_dtype")
    for dtype in DTYPES.values():
        if str(dtype) in (named, f"torch.{named}"):
            return dtype
    raise ValueError(
        f"{source} holds weights in {' and '.join(kinds)}, and {CONFIG} names no dtype for all of them: choose one, "
        f"as in load_hugging_face(folder, dtype={DTYPES[kinds[0]]})"
    )
