"""A learner's answer inside a real model: SmolLM2 reads a text with the course's part, and with the learner's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_lessons.checkpoints import load_gguf, load_gguf_tokenizer
from llama_lessons.lab.materials import MaterialError, fetch
from llama_lessons.lab.perplexity import perplexity
from llama_lessons.lab.texts import king_james_book
from llama_lessons.llama import Llama
from llama_lessons.rope import RotaryEmbedding, rope_tables

__all__ = ["try_in_smollm2"]

TOKENS = 256
SAME = 1e-3  # how far apart two perplexities may be, as a share, to count as the same
COPY, GAP = 128, 12_000  # tokens of each copy, and how many positions lie between the two
LLAMA_3_RULE = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_seq_len": 8192}


def try_in_smollm2(answer: Callable[..., Any]) -> None:
    """Put an answer in its part's place in SmolLM2-135M, and print the perplexity of a text with either.

    What the answer does wrong is said in a line; nothing is raised for it.

    Args:
        answer: a function or class that bears the name of its exercise.

    Raises:
        ValueError: if SmolLM2 has no part of that name.
    """
    name = getattr(answer, "__name__", type(answer).__name__)
    if name not in PLACES:
        raise ValueError(f"{name} has no place in SmolLM2 by itself; these have: {', '.join(PLACES)}")
    read, what = (_second_copy, "of a text's second copy, 12,000 positions past the first")
    if name != "llama3_frequencies":
        read, what = _english, f"of {TOKENS} tokens of English"
    try:
        model = _model()
        usual = read(model)
    except MaterialError as error:  # a check is worth having without the model
        print(error)
        return
    try:
        with torch.no_grad(), _exchanged(model, PLACES[name](model, answer)):
            yours = read(model)
    except NotImplementedError:
        print(f"{name} is not solved yet. Once it is, this cell puts it into SmolLM2.")
        return
    except Exception as error:
        said = " ".join(str(error).split())
        print(f"In SmolLM2, {name} raises {type(error).__name__}: {said[:200]}. check({name}) says more.")
        return
    print(f"Perplexity {what}")
    if name == "llama3_frequencies":
        print(f"  frequencies as they are: {usual:,.2f}\n  with your {name}: {yours:,.2f}")
        return
    print(f"  SmolLM2 as it is: {usual:,.3f}\n  with your {name}: {yours:,.3f}")
    if not abs(yours - usual) <= SAME * usual:
        print(f"They should be the same: check({name}) says what is wrong.")


@cache
def _model() -> Llama:
    return load_gguf(fetch("smollm2")).eval()


@cache
def _text(book: str) -> Tensor:
    return torch.tensor(load_gguf_tokenizer(fetch("smollm2")).encode(king_james_book(book)).ids)


def _english(model: Llama) -> float:
    return perplexity(model, _text("Ecclesiastes")[:TOKENS])


@torch.no_grad()
def _second_copy(model: Llama) -> float:
    """Perplexity of a passage whose first copy has just been read, but stands far away, as in lesson 04."""
    passage = _text("Ecclesiastes")[:COPY]
    positions = torch.arange(2 * COPY - 1)
    positions[COPY - 1 :] += GAP
    tokens = torch.cat((passage, passage))[None, :-1]
    states = model.hidden_states(tokens, positions)[0, -COPY:]
    return F.cross_entropy(model.head(states), passage).exp().item()


@contextmanager
def _exchanged(model: Llama, parts: dict[str, nn.Module]) -> Iterator[None]:
    """Other parts in the model, by name, for a while."""
    before = {name: model.get_submodule(name) for name in parts}
    try:
        for name, part in parts.items():
            model.set_submodule(name, part)
        yield
    finally:
        for name, part in before.items():
            model.set_submodule(name, part)


# ------------------------------------------------------------------------------------- an answer in its place


class _Rope(nn.Module):
    """Tables for given positions, and what is done with them."""

    def __init__(self, frequencies: Tensor, turn: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.frequencies, self.turn = frequencies, turn

    def forward(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        cos, sin = rope_tables(positions, self.frequencies)
        return lambda x: self.turn(x, cos, sin)


def _rotation(model: Llama, apply_rope: Callable) -> dict[str, nn.Module]:
    return {"rope": _Rope(model.rope.frequencies, apply_rope)}


def _frequencies(model: Llama, llama3_frequencies: Callable) -> dict[str, nn.Module]:
    rope = RotaryEmbedding(model.config.head_dim, model.config.rope_theta)
    rope.frequencies = llama3_frequencies(rope.frequencies, **LLAMA_3_RULE)
    return {"rope": rope}


class _Norm(nn.Module):
    def __init__(self, norm: Callable, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.norm, self.weight, self.eps = norm, weight, eps

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x, self.weight, self.eps)


def _norms(model: Llama) -> list[str]:
    each = ("attention_norm", "feed_forward_norm")
    return [*(f"blocks.{i}.{norm}" for i in range(len(model.blocks)) for norm in each), "norm"]


def _norm_function(model: Llama, rms_norm: Callable) -> dict[str, nn.Module]:
    eps = model.config.norm_eps
    return {name: _Norm(rms_norm, model.get_submodule(name).weight, eps) for name in _norms(model)}


def _norm_class(model: Llama, norm_class: type) -> dict[str, nn.Module]:
    made = {}
    for name in _norms(model):
        made[name] = norm_class(model.config.dim, model.config.norm_eps)
        made[name].load_state_dict(model.get_submodule(name).state_dict())
    return made


class _Mixing(nn.Module):
    """The course's attention layer, with another function from rotated queries, keys and values to what they mix."""

    def __init__(self, layer: nn.Module, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.mix = layer, mix

    def forward(self, x: Tensor, rotate: Callable, mask: None = None, cache: None = None) -> Tensor:
        layer = self.layer
        projected = (project(x) for project in (layer.q_proj, layer.k_proj, layer.v_proj))
        # (batch, heads, seq_len, head_dim)
        q, k, v = (y.unflatten(-1, (-1, layer.head_dim)).transpose(1, 2) for y in projected)
        return layer.o_proj(self.mix(rotate(q), rotate(k), v))


def _mixing(model: Llama, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> dict[str, nn.Module]:
    return {f"blocks.{i}.attention": _Mixing(block.attention, mix) for i, block in enumerate(model.blocks)}


def _merged(heads: Tensor) -> Tensor:
    """(batch, n_heads, seq_len, head_dim) -> (batch, seq_len, n_heads * head_dim)"""
    return heads.transpose(1, 2).flatten(2)


def _causal(model: Llama, causal_attention: Callable) -> dict[str, nn.Module]:
    size = model.config.group_size

    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _merged(causal_attention(q, k.repeat_interleave(size, 1), v.repeat_interleave(size, 1)))

    return _mixing(model, mix)


def _repeated(model: Llama, repeat_kv: Callable) -> dict[str, nn.Module]:
    size = model.config.group_size

    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = repeat_kv(k, size), repeat_kv(v, size)
        return _merged(F.scaled_dot_product_attention(q, keys, values, is_causal=True))

    return _mixing(model, mix)


def _grouped(model: Llama, grouped_query_attention: Callable) -> dict[str, nn.Module]:
    return _mixing(model, lambda *heads: grouped_query_attention(*(x.transpose(1, 2) for x in heads)))


class _Layer(nn.Module):
    """A learner's attention layer, which takes tables where the course's takes a function."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor], mask: None = None, cache: None = None) -> Tensor:
        return self.layer(x, *tables)


class _Tables(nn.Module):
    """What that layer takes, where the course's rotary part makes a function."""

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self.frequencies = frequencies

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return rope_tables(positions, self.frequencies)


def _attention_class(model: Llama, attention_class: type) -> dict[str, nn.Module]:
    config = model.config
    made: dict[str, nn.Module] = {"rope": _Tables(model.rope.frequencies)}
    for i, block in enumerate(model.blocks):
        layer = attention_class(config.dim, config.n_heads, config.n_kv_heads, config.head_dim)
        layer.load_state_dict(block.attention.state_dict(), assign=True)
        made[f"blocks.{i}.attention"] = _Layer(layer)
    return made


def _feed_forward_class(model: Llama, swiglu_class: type) -> dict[str, nn.Module]:
    made = {}
    for i, block in enumerate(model.blocks):
        made[f"blocks.{i}.feed_forward"] = layer = swiglu_class(model.config.dim, model.config.hidden_dim)
        layer.load_state_dict(block.feed_forward.state_dict(), assign=True)
    return made


PLACES: dict[str, Callable[[Llama, Any], dict[str, nn.Module]]] = {
    "apply_rope": _rotation,
    "llama3_frequencies": _frequencies,
    "rms_norm": _norm_function,
    "RMSNorm": _norm_class,
    "causal_attention": _causal,
    "repeat_kv": _repeated,
    "grouped_query_attention": _grouped,
    "Attention": _attention_class,
    "SwiGLU": _feed_forward_class,
}
