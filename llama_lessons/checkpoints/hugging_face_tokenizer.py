"""Read the tokenizer of a Hugging Face folder: its tokenizer.json.

Not done here: tokenizers in other files, such as sentencepiece's tokenizer.model; what transformers makes of
tokenizer_config.json beside it.
"""

from contextlib import suppress
from os import PathLike
from pathlib import Path

from tokenizers import Tokenizer

from llama_lessons.checkpoints.building import reading_tokenizer

__all__ = ["load_hugging_face_tokenizer"]

TOKENIZER = "tokenizer.json"
# Some damage shows only once a text is read.
_TRIAL = "a Text, of 2 lines \n\n\tand é🙂"


def load_hugging_face_tokenizer(folder: str | PathLike[str]) -> Tokenizer:
    """Build the tokenizer that a folder holds, as transformers' save_pretrained writes it and hubs serve it.

    A text is encoded as a whole and nothing is added to fill it up: truncation and padding, which a call of
    transformers leaves in the file, are off, as they are there for the next call.

    Args:
        folder: with tokenizer.json.

    Raises:
        ValueError: if the file is damaged, or fails on a plain text.
        FileNotFoundError: if there is no such file.
    """
    path = Path(folder) / TOKENIZER
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {TOKENIZER}, which turns text into ids: put the model's own there. From others, such as "
            "tokenizer.model, transformers makes it: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    content = path.read_bytes()
    with reading_tokenizer(path, "is damaged or no tokenizer"):
        tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with reading_tokenizer(path, "holds a tokenizer that fails on a plain text"), suppress(Exception):
        # What raises no more than an Exception lacks characters of this text, and may serve for others.
        tokenizer.decode(tokenizer.encode(_TRIAL).ids)
    return tokenizer
