"""Lesson 10. Data: a text as token ids, one per character, and windows of it to train and to measure on.

Which windows a step sees follows from the seed and the step alone, so that a run can be continued without
having kept where it was in the data.

Not done here: subword tokens, and texts too large for memory.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["CharTokenizer", "load_text", "random_batch", "split", "spread_windows"]


def load_text(path: str | os.PathLike[str]) -> str:
    r"""Read a UTF-8 text file; line ends become \n, and a byte order mark is left out.

    Raises:
        ValueError: if the file is empty, or is no UTF-8 text.
        OSError: if the file cannot be opened.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error}): save it as UTF-8, or choose a text file") from error
    # Bytes of numbers, and UTF-16 without its mark, may pass for UTF-8; both are full of zeros.
    if "\0" in text:
        raise ValueError(f"{path} is no UTF-8 text (it holds zero bytes): save it as UTF-8, or choose a text file")
    if not text:
        raise ValueError(f"{path} is empty")
    return text


class CharTokenizer:
    """Give each character of a text its number, in sorted order.

    `CharTokenizer(tokenizer.characters)` is the same tokenizer again.

    Args:
        text: holds each character at least once.

    Raises:
        ValueError: if text is empty.
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("text is empty: it holds no character to number")
        self.characters = "".join(sorted(set(text)))
        self._ids = {character: i for i, character in enumerate(self.characters)}

    @property
    def vocab_size(self) -> int:
        """Different characters."""
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        """Return the id of each character, int64, shape (len(text),).

        Raises:
            ValueError: if a character is unknown; the message says which, and where.
        """
        try:
            # A list of five million Python integers would take several times as long.
            return torch.from_numpy(np.fromiter(map(self._ids.__getitem__, text), np.int64, len(text)))
        except KeyError:
            where = next(i for i, character in enumerate(text) if character not in self._ids)
            raise ValueError(
                f"character {text[where]!r} at {where} is not among the {self.vocab_size} that this tokenizer knows"
            ) from None

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Return the text of ids, shape (seq_len,).

        Raises:
            ValueError: if an id is not in the vocabulary.
        """
        ids = ids.tolist() if isinstance(ids, Tensor) else ids
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"token id {i} is not in the vocabulary: vocab_size is {self.vocab_size}")
        return "".join(self.characters[i] for i in ids)


def split(text: str, validation: float = 0.1) -> tuple[str, str]:
    """Cut a text in two: what to train on, and the last part to measure on, which training never sees.

    One cut, not a draw of lines here and there, which would leave each line's neighbours in the other part.

    Args:
        text: at least two characters.
        validation: the last part's share, between 0 and 1.

    Returns:
        Training text and validation text; joined they are text.

    Raises:
        ValueError: if either part would be empty.
    """
    cut = round(len(text) * (1 - validation))
    if not 0 < cut < len(text):
        raise ValueError(f"validation ({validation}) of {len(text)} characters leaves one of the two parts empty")
    return text[:cut], text[cut:]


def random_batch(data: Tensor, batch_size: int, seq_len: int, seed: int, step: int) -> Tensor:
    """Draw windows of data, each with equal probability; the same seed and step draw the same ones.

    Args:
        data: token ids, shape (length,).
        batch_size: windows to draw.
        seq_len: tokens of one window.
        seed: at least 0; another one draws other windows in every step.
        step: at least 0.

    Returns:
        int64, shape (batch_size, seq_len), on the device of data.

    Raises:
        ValueError: if data is not one row of integers, or shorter than a window.
    """
    _check_data(data, seq_len)
    starts = np.random.default_rng((seed, step)).integers(len(data) - seq_len + 1, size=batch_size)
    return data.unfold(0, seq_len, 1)[torch.from_numpy(starts).to(data.device)].long()


def spread_windows(data: Tensor, n_windows: int, seq_len: int) -> Tensor:
    """Take windows at equal distances from the start of data to its end: always the same, without a seed.

    Args:
        data: token ids, shape (length,).
        n_windows: windows to take; they overlap if data is too short for them.
        seq_len: tokens of one window.

    Returns:
        int64, shape (n_windows, seq_len), on the device of data.

    Raises:
        ValueError: if data is not one row of integers, or shorter than a window.
    """
    _check_data(data, seq_len)
    starts = np.linspace(0, len(data) - seq_len, n_windows).round().astype(np.int64)
    return data.unfold(0, seq_len, 1)[torch.from_numpy(starts).to(data.device)].long()


def _check_data(data: Tensor, seq_len: int) -> None:
    if data.ndim != 1 or data.is_floating_point() or data.is_complex() or data.dtype == torch.bool:
        raise ValueError(f"data must be one row of integer token ids, not {tuple(data.shape)} of {data.dtype}")
    if len(data) < seq_len:
        raise ValueError(f"data ({len(data)} tokens) is shorter than one window ({seq_len})")
