"""Write a Llama into a Hugging Face folder, which transformers and everything built on it can load.

All files are first written beside the old ones and then moved into their places, so that an error, Ctrl-C or a
full disk leaves what was there.

Not done here: tokenizers, settings of generation, quantisation.
"""

import json
import os
import shutil
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from llama_lessons.checkpoints.building import build_empty, check_names, check_shape, plain_name
from llama_lessons.checkpoints.hugging_face_format import CONFIG, DTYPES, INDEX, WEIGHTS, tensor_name, write_config
from llama_lessons.llama import Llama

__all__ = ["save_hugging_face"]


def save_hugging_face(model: Llama, folder: str | PathLike[str], max_shard_bytes: int = 5_000_000_000) -> None:
    """Write config.json and the weights, in the dtypes that they have; a tied head is not written twice.

    Args:
        model: a plain Llama, compiled or not.
        folder: made if it is missing. Weights that are in it are replaced, other files stay.
        max_shard_bytes: weights that take more are divided among files of at most this size, with an index. A
            tensor is never divided.

    Raises:
        ValueError: if the model has other parts or settings than Llama(model.config), which config.json could not
            tell, or Hugging Face has no key for its config. Nothing is written then.
        NotADirectoryError: if folder is a file.
    """
    if max_shard_bytes <= 0:
        raise ValueError(f"max_shard_bytes ({max_shard_bytes}) must be positive")
    _check_plain(model)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give a folder to write into")
    config = write_config(model.config, model.embedding.weight.dtype)
    # A tied head is one parameter with the embedding, and is not named again.
    parameters = _plain_names(model.named_parameters())
    weights = {tensor_name(name): parameter.detach().contiguous() for name, parameter in parameters.items()}
    shards = _divide(weights, max_shard_bytes)
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else [WEIGHTS]
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".saving-", dir=folder) as temporary:
        new = Path(temporary)
        _write_json(new / CONFIG, config)
        for name, shard in zip(names, shards, strict=True):
            save_file(shard, new / name, metadata={"format": "pt"})
            shutil.copymode(new / CONFIG, new / name)  # safetensors lets nobody else read its files
        if len(shards) > 1:
            places = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
            total = sum(weight.nbytes for weight in weights.values())
            _write_json(new / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
            names.append(INDEX)
        for name in [*names, CONFIG]:
            os.replace(new / name, folder / name)
    # Left over from a model in another number of files, they would be loaded in place of the new ones.
    for pattern in (WEIGHTS, INDEX, "model-*-of-*.safetensors"):
        for old in folder.glob(pattern):
            if old.name not in names:
                old.unlink()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _divide(weights: dict[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    room = max_bytes
    for name, weight in weights.items():
        if weight.nbytes > room and shards[-1]:
            shards.append({})
            room = max_bytes
        shards[-1][name] = weight
        room -= weight.nbytes
    return shards


def _plain_names(named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    # A compiled module comes before its _orig_mod, which takes its place here.
    return {plain_name(name): value for name, value in named}


def _check_plain(model: Llama) -> None:
    parts = _plain_names(model.named_modules())
    if type(parts[""]) is not Llama:
        raise ValueError(
            f"model must be a Llama, not {type(model).__name__}; if it has Llama's parts, put its state_dict() into "
            "Llama(model.config)"
        )
    name = "the model"
    plain = build_empty(model.config, len(list(model.parameters())), name)
    plain_parts = dict(plain.named_modules())
    for place in sorted(parts.keys() | plain_parts.keys()):
        part, plain_part = parts.get(place), plain_parts.get(place)
        # The place of the model itself is ""; its parts have places of their own.
        if place and type(part) is not type(plain_part):
            raise ValueError(
                f"model.{place} is {type(part).__name__}, but {type(plain_part).__name__} in the Llama that "
                f"{CONFIG} can describe"
            )
        for setting, value in _settings(plain_part).items() if place else ():
            if (found := _settings(part).get(setting)) != value:
                raise ValueError(
                    f"model.{place}.{setting} is {found}, but {value} in the Llama that model.config describes"
                )
    ours = _plain_names(model.named_parameters())
    shapes = {name: parameter.shape for name, parameter in plain.named_parameters()}
    check_names(ours, shapes, name)
    for place, parameter in ours.items():
        check_shape(place, parameter.shape, shapes[place], name, "model.config")
        if parameter.dtype not in DTYPES.values():
            raise ValueError(f"model.{place} is {parameter.dtype}, not one of {', '.join(map(str, DTYPES.values()))}")


def _settings(part: nn.Module) -> dict[str, Any]:
    # What a module was made with, beside its weights: eps, layout, frequencies ...
    settings = {key: value for key, value in vars(part).items() if not key.startswith("_") and key != "training"}
    return {key: value.tolist() if isinstance(value, Tensor) else value for key, value in settings.items()}
