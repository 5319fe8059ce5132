"""Lesson 04. The settings of a scaled RoPE: what a config says about it, and the module that rotates by it.

A settings object is one kind of scaling with its numbers: frozen, checked when it is made, equal to any other with the
same numbers. Whatever its kind, it answers two questions: which frequencies for a text of this length, and by what
to multiply what is rotated. It works them out with the functions of `extrapolation`, which say what the numbers mean.

`read_rope_scaling` makes one from the keys of a Hugging Face config, and `rope_parameters` writes them again. The keys
are those that transformers defines; config.json holds them under "rope_scaling" or, in newer files,
"rope_parameters".

Not done here: frequencies that differ from layer to layer, and heads that are rotated only in part.

Sources: transformers, modeling_rope_utils.py, for the keys and what stands in for absent ones; Peng et al. 2023,
"YaRN", section 3.4, for the factor of queries and keys.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from llama_lessons.extrapolation import (
    dynamic_ntk_frequencies,
    linear_frequencies,
    llama3_frequencies,
    longrope_attention_factor,
    longrope_frequencies,
    yarn_attention_factor,
    yarn_frequencies,
)
from llama_lessons.rope import Layout, RotaryEmbedding, rope_tables

__all__ = [
    "DynamicNTKScaling",
    "LinearScaling",
    "Llama3Scaling",
    "LongRopeScaling",
    "RopeScaling",
    "ScaledRotaryEmbedding",
    "YarnScaling",
    "read_rope_scaling",
    "rope_parameters",
]


@dataclass(frozen=True, kw_only=True)
class _Scaling(ABC):
    kind: ClassVar[str]  # rope_type in a Hugging Face config
    depends_on_length: ClassVar[bool] = False  # whether frequencies() reads its seq_len

    factor: float

    def __post_init__(self) -> None:
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor ({self.factor}) must be at least 1, and finite")

    @abstractmethod
    def frequencies(self, frequencies: Tensor, seq_len: int) -> Tensor:
        """Take the model's own frequencies; return those for a text of seq_len tokens."""

    @property
    def attention_factor(self) -> float:
        """What the rotated queries and the rotated keys are multiplied by."""
        return 1.0

    def rotary_embedding(self, head_dim: int, theta: float, layout: Layout = "half") -> "ScaledRotaryEmbedding":
        """The module that rotates by the scaled frequencies; same arguments as `RotaryEmbedding`."""
        return ScaledRotaryEmbedding(head_dim, theta, self, layout)


@dataclass(frozen=True, kw_only=True)
class _ScalingFromLength(_Scaling):
    original_max_seq_len: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.original_max_seq_len < 2:
            raise ValueError(f"original_max_seq_len ({self.original_max_seq_len}) must be at least 2")


def _check_rising(**ends: float) -> None:
    (low_name, low), (high_name, high) = ends.items()
    if not 0 < low < high:
        raise ValueError(f"{low_name} ({low}) must be positive and less than {high_name} ({high})")


@dataclass(frozen=True, kw_only=True)
class LinearScaling(_Scaling):
    """The settings of `linear_frequencies`."""

    kind: ClassVar[str] = "linear"

    def frequencies(self, frequencies: Tensor, seq_len: int) -> Tensor:
        return linear_frequencies(frequencies, self.factor)


@dataclass(frozen=True, kw_only=True)
class DynamicNTKScaling(_ScalingFromLength):
    """The settings of `dynamic_ntk_frequencies`.

    A cached key keeps the angle of the length at which it came, so a text read token by token is rotated otherwise
    than the same text read at once.
    """

    kind: ClassVar[str] = "dynamic"
    depends_on_length: ClassVar[bool] = True

    def frequencies(self, frequencies: Tensor, seq_len: int) -> Tensor:
        return dynamic_ntk_frequencies(frequencies, self.factor, seq_len, self.original_max_seq_len)


@dataclass(frozen=True, kw_only=True)
class YarnScaling(_ScalingFromLength):
    """The settings of `yarn_frequencies` and `yarn_attention_factor`; fixed_attention_factor overrides the latter."""

    kind: ClassVar[str] = "yarn"

    beta_fast: float = 32
    beta_slow: float = 1
    truncate: bool = True
    mscale: float | None = None
    mscale_all_dim: float | None = None
    fixed_attention_factor: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rising(beta_slow=self.beta_slow, beta_fast=self.beta_fast)

    def frequencies(self, frequencies: Tensor, seq_len: int) -> Tensor:
        ramp = self.original_max_seq_len, self.beta_fast, self.beta_slow, self.truncate
        return yarn_frequencies(frequencies, self.factor, *ramp)

    @property
    def attention_factor(self) -> float:
        if self.fixed_attention_factor is not None:
            return self.fixed_attention_factor
        return yarn_attention_factor(self.factor, self.mscale, self.mscale_all_dim)


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(_ScalingFromLength):
    """The settings of `llama3_frequencies`."""

    kind: ClassVar[str] = "llama3"

    low_freq_factor: float
    high_freq_factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rising(low_freq_factor=self.low_freq_factor, high_freq_factor=self.high_freq_factor)

    def frequencies(self, frequencies: Tensor, seq_len: int) -> Tensor:
        bounds = self.low_freq_factor, self.high_freq_factor, self.original_max_seq_len
        return llama3_frequencies(frequencies, self.factor, *bounds)


@dataclass(frozen=True, kw_only=True)
class LongRopeScaling(_ScalingFromLength):
    """`longrope_frequencies` with short_factor up to original_max_seq_len tokens, with long_factor beyond.

    factor serves `longrope_attention_factor` alone, and fixed_attention_factor overrides that. Published factors of
    single pairs go a little below 1, so they only have to be positive.
    """

    kind: ClassVar[str] = "longrope"
    depends_on_length: ClassVar[bool] = True

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    fixed_attention_factor: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        short, long = len(self.short_factor), len(self.long_factor)
        if short != long:
            raise ValueError(f"short_factor ({short} numbers) must be as long as long_factor ({long} numbers)")
        if not all(0 < factor < float("inf") for factor in self.short_factor + self.long_factor):
            raise ValueError("short_factor and long_factor must hold positive, finite numbers")

    def frequencies(self, frequencies: Tensor, seq_len: int) -> Tensor:
        factors = self.long_factor if seq_len > self.original_max_seq_len else self.short_factor
        return longrope_frequencies(frequencies, factors)

    @property
    def attention_factor(self) -> float:
        if self.fixed_attention_factor is not None:
            return self.fixed_attention_factor
        return longrope_attention_factor(self.factor, self.original_max_seq_len)


RopeScaling = LinearScaling | DynamicNTKScaling | YarnScaling | Llama3Scaling | LongRopeScaling
_KINDS = {kind.kind: kind for kind in (LinearScaling, DynamicNTKScaling, YarnScaling, Llama3Scaling, LongRopeScaling)}
_KEYS = {"original_max_seq_len": "original_max_position_embeddings", "fixed_attention_factor": "attention_factor"}
# Words of YaRN's and Phi-3's own files, which transformers does not read.
_PASSED_OVER = frozenset({"finetuned", "attn_factor", "extrapolation_factor", "short_mscale", "long_mscale"})


def _fields_by_key(kind: type[RopeScaling]) -> dict[str, str]:
    names = [field.name for field in fields(kind)]
    if kind is DynamicNTKScaling:
        names.remove("original_max_seq_len")  # the config's max_position_embeddings says it
    return {_KEYS.get(name, name): name for name in names}


def read_rope_scaling(parameters: Mapping[str, Any] | None, max_seq_len: int) -> RopeScaling | None:
    """Read rope_scaling, or rope_parameters as newer files call it, of a Hugging Face config.

    Args:
        parameters: its keys and values, or None. A key that holds None counts as absent, and rope_theta is passed
            over, since it is no part of the scaling. So are keys that another kind has, as in transformers, and those
            in which files note how their weights came about, such as "finetuned".
        max_seq_len: the config's max_position_embeddings. It stands in for original_max_position_embeddings, except
            with Llama 3; and where YaRN or LongRoPE give no factor, that is the ratio of the two.

    Returns:
        The scaling, or None for plain RoPE.

    Raises:
        ValueError: if the kind is unknown or missing, keys are missing or unknown, or a value is out of range.
    """
    found = {key: value for key, value in (parameters or {}).items() if value is not None}
    rope_type = found.pop("rope_type", found.pop("type", None))
    found.pop("rope_theta", None)
    part = found.pop("partial_rotary_factor", 1)
    if part != 1:
        raise ValueError(f"partial_rotary_factor ({part}) must be 1: Llama rotates whole heads")
    if rope_type is None and not found:
        return None
    if rope_type not in ("default", *_KINDS):
        raise ValueError(f"rope_type ({rope_type!r}) must be one of default, {', '.join(_KINDS)}")
    names = {} if rope_type == "default" else _fields_by_key(_KINDS[rope_type])
    known = _PASSED_OVER.union(*map(_fields_by_key, _KINDS.values()))
    if unknown := sorted(found.keys() - known):  # a slip of the pen, or what changes the model in a way not known here
        raise ValueError(f"rope_type {rope_type!r} has no {', '.join(unknown)}; it has {', '.join(names) or 'no keys'}")
    used = {names[key]: value for key, value in found.items() if key in names}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in used.items()}
    return None if rope_type == "default" else _fill_in(_KINDS[rope_type], values, max_seq_len)


def _fill_in(kind: type[RopeScaling], values: dict[str, Any], max_seq_len: int) -> RopeScaling:
    if kind in (YarnScaling, LongRopeScaling) and "original_max_seq_len" in values:
        # A length of 0 is refused below, by its name.
        values.setdefault("factor", max_seq_len / max(values["original_max_seq_len"], 1))
    if kind is not Llama3Scaling and kind is not LinearScaling:
        values.setdefault("original_max_seq_len", max_seq_len)
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.name not in values]
    if needed:
        raise ValueError(f"rope_type {kind.kind!r} needs {', '.join(_KEYS.get(name, name) for name in needed)}")
    return kind(**values)


def rope_parameters(scaling: RopeScaling) -> dict[str, Any]:
    """The inverse of `read_rope_scaling`: what a Hugging Face config says about scaling, without rope_theta.

    For the dynamic kind, that config's max_position_embeddings has to be original_max_seq_len.
    """
    values = {key: getattr(scaling, name) for key, name in _fields_by_key(type(scaling)).items()}
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return {"rope_type": scaling.kind, **{key: value for key, value in values.items() if value is not None}}


class ScaledRotaryEmbedding(RotaryEmbedding):
    """A `RotaryEmbedding` with scaled frequencies, which also multiplies what it rotates by attention_factor.

    Queries and keys both carry that factor, so scores carry its square: a softmax of temperature
    1 / attention_factor ** 2 (YaRN, section 3.4). It costs nothing in attention, since the tables hold it.

    Args:
        head_dim: channels of one head, even.
        theta: base of the frequencies before scaling.
        scaling: one of the kinds above.
        layout: the layout that the model's query and key weights are in.

    Raises:
        ValueError: if LongRoPE's factors are not head_dim // 2, or head_dim is odd.
    """

    def __init__(self, head_dim: int, theta: float, scaling: RopeScaling, layout: Layout = "half") -> None:
        super().__init__(head_dim, theta, layout)
        self.scaling = scaling
        self.unscaled_frequencies = self.frequencies
        self.frequencies = scaling.frequencies(self.unscaled_frequencies, seq_len=1)

    def forward(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """Take positions, (seq_len,) or (batch, seq_len); return the function x -> x rotated there.

        The kinds that depend on the length count it up to the largest of these positions.
        """
        frequencies = self.frequencies
        if self.scaling.depends_on_length:
            frequencies = self.scaling.frequencies(self.unscaled_frequencies, positions.max().item() + 1)
        cos, sin = rope_tables(positions, frequencies)
        factor = self.scaling.attention_factor
        return self._rotate_by(cos * factor, sin * factor)
