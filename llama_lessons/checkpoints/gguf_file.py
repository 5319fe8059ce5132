"""A GGUF file, opened: metadata by key and tensors by name, as llama.cpp's own package reads them."""

from os import PathLike
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, ReaderTensor

from llama_lessons.checkpoints.building import read_value

__all__ = ["GGUFFile"]


class GGUFFile:
    """What stands in a GGUF file; weights are mapped, and read when they are used.

    Args:
        path: the file.

    Raises:
        ValueError: if the file is damaged, no GGUF file, or one part of a divided one.
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = path
        try:
            self._reader = _Reader(path)
        except OSError:
            raise
        except Exception as error:  # on damaged bytes the reader fails in many ways: index, key, value, decoding
            raise ValueError(f"{path} is damaged, cut short or no GGUF file ({error}): get it again") from error
        self.tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in self._reader.tensors}
        self._check_whole()

    def metadata(self, key: str, default: Any = None) -> Any:
        """Read one value, or default where the file has none; without a default, ValueError."""
        field = self._reader.get_field(key)
        if field is None and default is None:
            raise ValueError(f"{self.path} has no metadata {key}")
        try:
            return default if field is None else field.contents()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is damaged: metadata {key} is no text ({error})") from error

    def _check_whole(self) -> None:
        part, parts = (
            read_value(self.metadata(key, default), int, key, self.path)
            for key, default in (("split.no", 0), ("split.count", 1))
        )
        if parts > 1:
            # It may look whole: what lacks the head alone would be a model with tied embeddings.
            raise ValueError(
                f"{self.path} is part {part + 1} of {parts} of a model: get all parts and join them with llama.cpp's "
                "llama-gguf-split --merge"
            )

    def keys(self, prefix: str) -> list[str]:
        """List the keys of metadata that begin so."""
        return [key for key in self._reader.fields if key.startswith(prefix)]


class _Reader(GGUFReader):
    # np.memmap runs Python code at each slice, and the reader takes a quarter of a million: a plain view of the
    # same memory opens the file in a third of the time.
    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
        self._data = mapped.view(np.ndarray)

    # The reader takes the items of an array one by one, as many as the file claims; past the end of the file
    # numbers are empty there, and no error, so that a damaged length is counted up to for ever.
    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list, list[int], list[GGUFValueType]]:
        if int(raw_type) != GGUFValueType.ARRAY:  # numpy's own numbers compare with an enum a hundred times slower
            return super()._get_field_parts(orig_offs, raw_type)
        start = orig_offs + 12
        item_type, length = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        number = self.gguf_scalar_to_np.get(GGUFValueType(item_type[0]))
        # A text, and an array in an array, begins with a length of 8 bytes at least.
        item_bytes = 8 if number is None else np.dtype(number).itemsize
        if int(length[0]) * item_bytes > len(self._data) - start:
            raise ValueError(f"an array of {length[0]} items does not fit the {len(self._data)} bytes of the file")
        if number is None:
            return super()._get_field_parts(orig_offs, raw_type)
        numbers = self._get(start, number, length[0])
        types = [GGUFValueType.ARRAY, GGUFValueType(item_type[0])]
        return 12 + numbers.nbytes, [item_type, length, numbers], [2], types
