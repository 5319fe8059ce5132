"""Read a pretrained Llama from a Hugging Face folder: config.json and the weights in safetensors files.

The weights are mapped from the files: what is written to them stays in memory, and the files may be replaced. Windows
replaces no file that is mapped: there the weights are copied, and the files let go.

Not done here: pickles (*.bin), since to read one is to run what it holds; other architectures.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
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

_COPIES = os.name == "nt"  # whether weights are copied, where a mapped file is in the way


def load_hugging_face(folder: str | PathLike[str], dtype: torch.dtype | None = None) -> Llama:
    """Build the Llama that a folder holds, as transformers' save_pretrained writes it and hubs serve it.

    Args:
        folder: with config.json, and model.safetensors or the shards that model.safetensors.index.json names.
        dtype: of the weights; by default that of the file or, where its tensors have several, that of config.json.

    Returns:
        The model on the CPU, its config read from the folder. The files may be replaced while it is in use, but
        must not be written into.

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
    places: dict[str, Path] = {}
    tensors: dict[str, Tensor] = {}
    for file in files:
        found = _map_tensors(file)
        if twice := sorted(tensors.keys() & found.keys()):
            raise ValueError(f"{file} and {places[twice[0]].name} both hold tensor {twice[0]}")
        tensors |= found
        places |= dict.fromkeys(found, file)
    model = build_empty(config, len(tensors), source)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    head, embedding = tensor_name("head.weight"), tensor_name("embedding.weight")
    tied = tensors.pop(head, None) if config.tied_embeddings else None
    if tied is not None and embedding not in tensors:
        tensors[embedding], places[embedding] = tied, places[head]
    check_names(tensors, map(tensor_name, shapes), source)
    for name, shape in shapes.items():
        theirs = tensor_name(name)
        check_shape(theirs, tensors[theirs].shape, shape, places[theirs], CONFIG)
    dtype = dtype or _common_dtype(tensors.values(), described, source)

    def read(name: str) -> Tensor:
        theirs = tensor_name(name)
        weight = tensors[theirs].to(dtype, copy=_COPIES)
        # The ends are nan where a value is; looked at after the cast, since float16 ends at 65504.
        if not all(end.isfinite() for end in weight.aminmax()):
            raise ValueError(f"{places[theirs]}: tensor {theirs} holds values that are not finite in {dtype}")
        return weight

    # Side by side: within one tensor, torch's threads lose more time waiting for each other than they gain.
    with ThreadPoolExecutor(max_workers=4) as pool:
        weights = dict(zip(shapes, pool.map(read, shapes), strict=True))
    if tied is not None and not torch.equal(tied.to(dtype), weights["embedding.weight"]):
        raise ValueError(f"{source}: {head} differs from {embedding}, but {CONFIG} has tie_word_embeddings")
    put_weights(model, weights)
    return model


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


def _map_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            # Old files hold the rotary frequencies, which follow from the config.
            names = [name for name in list(file.keys()) if not name.endswith("rotary_emb.inv_freq")]
            for name in names:
                if (kind := file.get_slice(name).get_dtype()) not in DTYPES:
                    raise ValueError(f"{path}: tensor {name} is {kind}; weights must be {', '.join(DTYPES)}")
            return {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, cut short or no safetensors file ({error}): get it again") from error


def _common_dtype(tensors: Iterable[Tensor], described: Mapping[str, Any], source: Path) -> torch.dtype:
    found = sorted({tensor.dtype for tensor in tensors}, key=str)
    if len(found) == 1:
        return found[0]
    # As in transformers, whose version 5 calls it dtype.
    named = described.get("dtype") or described.get("torch_dtype")
    for dtype in DTYPES.values():
        if str(dtype) in (named, f"torch.{named}"):
            return dtype
    raise ValueError(
        f"{source} holds weights in {' and '.join(map(str, found))}, and {CONFIG} names no dtype for all of them: "
        f"choose one, as in load_hugging_face(folder, dtype={found[0]})"
    )
