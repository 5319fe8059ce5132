"""What all formats need: trust no value of a file, build a Llama without weights, and put a file's tensors in."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from llama_lessons.llama import Llama, LlamaConfig

__all__ = [
    "Value",
    "build_empty",
    "check_names",
    "check_shape",
    "describing",
    "plain_name",
    "put_weights",
    "read_value",
    "reading_tokenizer",
]

Path = str | PathLike[str]
Value = TypeVar("Value", bool, int, float, str)
_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}


def read_value(value: Any, kind: type[Value], key: str, path: Path) -> Value:
    """Return what a file says under key if it is of that kind, else raise ValueError."""
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**63 else value
    # No number of a Llama needs more than 63 bits; nan and inf fail here too.
    if type(value) is not kind or (kind in (int, float) and not abs(value) < 2**63):
        raise ValueError(f"{path} describes no Llama: {key} ({value!r}) must be {_KINDS[kind]}")
    return value


@contextmanager
def describing(path: Path) -> Iterator[None]:
    """Say which file it was whose values were refused, in whatever way."""
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} describes no Llama: {error}") from error


def build_empty(config: LlamaConfig, n_tensors: int, path: Path) -> Llama:
    """Build the model on device "meta": shapes alone, which take no memory and no time to draw.

    Args:
        config: what to build.
        n_tensors: tensors that the file holds.
        path: the file, for messages.

    Raises:
        ValueError: if there cannot be such a model, or the file cannot hold it.
    """
    if config.n_layers > n_tensors:  # millions of blocks would take ages to build
        raise ValueError(f"{path} lacks tensors: it has {n_tensors} for {config.n_layers} blocks")
    with describing(path), torch.device("meta"), _SkipInit():
        return Llama(config)


class _SkipInit(TorchFunctionMode):
    # To draw on device "meta" torch imports a symbolic algebra system, for a second or two.
    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def plain_name(name: str) -> str:
    """A module's or parameter's name without `_orig_mod`, in which torch.compile keeps what it compiles."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def check_names(stored: Iterable[str], wanted: Iterable[str], path: Path) -> None:
    """Raise ValueError unless the file's tensors are exactly those of the model."""
    stored, wanted = set(stored), set(wanted)
    if missing := sorted(wanted - stored):
        raise ValueError(f"{path} lacks {len(missing)} tensors of this Llama, such as {missing[0]}")
    if extra := sorted(stored - wanted):
        raise ValueError(f"{path} has {len(extra)} tensors that this Llama has no place for, such as {extra[0]}")


def check_shape(name: str, stored: Iterable[int], wanted: Iterable[int], path: Path, description: str) -> None:
    """Raise ValueError unless a tensor has the shape that description, such as "the metadata", asks for."""
    stored, wanted = tuple(stored), tuple(wanted)
    if stored != wanted:
        raise ValueError(f"{path}: tensor {name} is {stored}, but {description} asks for {wanted}")


def put_weights(model: Llama, weights: dict[str, Tensor]) -> None:
    """Make weights, by our names and without a tied head's, the model's own; none is copied."""
    parameters = {name: nn.Parameter(weight) for name, weight in weights.items()}
    if model.config.tied_embeddings:
        parameters["head.weight"] = parameters["embedding.weight"]
    model.load_state_dict(parameters, assign=True)


@contextmanager
def reading_tokenizer(path: Path, fault: str) -> Iterator[None]:
    """Say which file it was that the library tokenizers failed on.

    That library raises nothing narrower than Exception, and where its Rust code panics, a BaseException, after it has
    written a backtrace to the process's stderr, which is kept back here.
    """
    try:
        with _stderr_kept_back():
            yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} {fault} ({reason}): get it again") from error
        raise


@contextmanager
def _stderr_kept_back() -> Iterator[None]:
    try:
        stderr = os.dup(2)
    except OSError:  # closed: there is nothing to keep back
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
