"""Read a pretrained Llama from a Hugging Face folder: config.json and the weights in safetensors files.

The weights are mapped from the files, not read: a page comes into memory when it is first used, and what is
written to it stays in memory. So a model is there at once, whatever its size.

Not done here: pickles (*.bin), since to read one is to run what it holds; tokenizers; other architectures.
"""

import json
import math
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


def load_hugging_face(folder: str | PathLike[str], dtype: torch.dtype | None = None) -> Llama:
    """Build the Llama that a folder holds, as transformers' save_pretrained writes it and hubs serve it.

    Args:
        folder: with config.json, and model.safetensors or the shards that model.safetensors.index.json names.
        dtype: of the weights; by default each keeps the one of the file.

    Returns:
        The model on the CPU, its config read from the folder. The files may be replaced while it is in use, but
        must not be written into.

    Raises:
        ValueError: if a file is damaged, the config describes something else than a Llama, the tensors are not
            exactly those of that Llama, or there are only pickles. The message names the file, and key or tensor.
        FileNotFoundError: if there is no such folder, or no checkpoint in it.
        NotADirectoryError: if folder is a file.
    """
    folder = Path(folder)
    if dtype is not None and dtype not in DTYPES.values():
        raise ValueError(f"dtype ({dtype}) must be one of {', '.join(map(str, DTYPES.values()))}")
    _check_folder(folder)
    config = read_config(_read_json(folder / CONFIG), folder / CONFIG)
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
    if config.tied_embeddings:
        _drop_tied_head(tensors, source)
    check_names(tensors, map(tensor_name, shapes), source)
    weights = {}
    for name, shape in shapes.items():
        theirs = tensor_name(name)
        weight, file = tensors[theirs], places[theirs]
        check_shape(theirs, weight.shape, shape, file, CONFIG)
        # Training that diverged leaves nan in every weight; to look at more than the gains would read all files.
        if weight.ndim == 1 and not weight.isfinite().all():
            raise ValueError(f"{file}: tensor {theirs} holds values that are not finite")
        weights[name] = weight
    put_weights(model, weights if dtype is None else _convert(weights, dtype))
    return model


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file: give the folder with {CONFIG}, or a *.gguf file to load_gguf")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: models are not fetched here, fetch it first")
    if not (folder / CONFIG).exists():
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
    if shards := sorted(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} has {shards[0].name}, but no {INDEX} to say what belongs to it: get that too")
    if pickles := sorted(path for kind in ("bin", "pt", "pth") for path in folder.glob(f"*.{kind}")):
        raise ValueError(
            f"{folder} has its weights in pickles alone, such as {pickles[0].name}, which can run any code when they "
            "are read. If you trust where they came from, convert them with transformers: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)"
        )
    raise FileNotFoundError(f"{folder} has no weights: neither {WEIGHTS} nor {INDEX}")


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


def _convert(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    # Side by side: within one tensor, torch's threads lose more time waiting for each other than they gain.
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(weights, pool.map(lambda weight: weight.to(dtype), weights.values()), strict=True))


def _drop_tied_head(tensors: dict[str, Tensor], source: Path) -> None:
    head, embedding = tensor_name("head.weight"), tensor_name("embedding.weight")
    if head not in tensors or embedding not in tensors:
        return
    if tensors[head].dtype != tensors[embedding].dtype or not torch.equal(tensors[head], tensors[embedding]):
        raise ValueError(f"{source}: {head} differs from {embedding}, but {CONFIG} has tie_word_embeddings")
    del tensors[head]
