"""Read the tokenizer that a Hugging Face folder holds: tokenizer.json."""

from os import PathLike
from pathlib import Path

from tokenizers import Tokenizer

__all__ = ["load_hugging_face_tokenizer"]


def load_hugging_face_tokenizer(folder: str | PathLike[str]) -> Tokenizer:
    """Read a folder's tokenizer.json, without the truncation and padding that a call may have left in it.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        raise ValueError(f"{folder} has no tokenizer.json, which turns text into ids: put the model's own there")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(f"{file} is damaged: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
