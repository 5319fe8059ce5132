"""Read the chat template that came with a model, from a Hugging Face folder or a GGUF file."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

from llama_lessons.chat import ChatTemplate
from llama_lessons.checkpoints.gguf_file import GGUFFile

__all__ = ["load_chat_template"]


def load_chat_template(path: str | PathLike[str]) -> ChatTemplate | None:
    """Read how a model's training wrote conversations.

    Args:
        path: a folder with tokenizer_config.json, and chat_template.jinja in newer ones; or a GGUF file.

    Returns:
        The template, which knows the special tokens by name (bos_token, eos_token), or None where there is none.

    Raises:
        ValueError: if a file is damaged, or the template is no Jinja. The message names the file.
        OSError: if a file cannot be opened.
    """
    path = Path(path)
    try:
        source, special_tokens = _read_folder(path) if path.is_dir() else _read_gguf(path)
        return None if source is None else ChatTemplate(source, **special_tokens)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"no chat template can be read from {path}: {error}") from error


def _read_folder(folder: Path) -> tuple[Any, dict[str, str]]:
    settings = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):  # the later one holds in case of doubt
        if (folder / name).is_file():
            settings |= _read_json(folder / name)
    special_tokens = {}
    for name, token in settings.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            special_tokens[name] = text
    source = settings.get("chat_template")
    if isinstance(source, list):  # several, by name
        source = {entry["name"]: entry["template"] for entry in source}.get("default")
    if (folder / "chat_template.jinja").is_file():
        source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return source, special_tokens


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): get it again") from error


def _read_gguf(path: Path) -> tuple[Any, dict[str, str]]:
    file = GGUFFile(path)
    if "tokenizer.chat_template" not in file.keys("tokenizer.chat_template"):
        return None, {}
    tokens = file.metadata("tokenizer.ggml.tokens")
    special_tokens = {}
    for name in ("bos_token", "eos_token"):
        token = file.metadata(f"tokenizer.ggml.{name}_id", default=-1)
        if 0 <= token < len(tokens):
            special_tokens[name] = tokens[token]
    return file.metadata("tokenizer.chat_template"), special_tokens
