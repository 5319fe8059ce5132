"""Models whose weights are to be drawn, by what is told of them, and what is seen of them afterwards."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from llama_lessons.initialization import parameter_roles
from llama_lessons.lab.device import choose_device
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.positions import LearnedPositionalEmbedding

from ...expect import Mismatch, exact
from .common import looks_of


def llama(**more: Any) -> nn.Module:
    sizes = {"n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 32, "hidden_dim": 80, "max_seq_len": 48}
    return Llama(LlamaConfig(vocab_size=100, dim=48, **sizes, **more))


def small(n_layers: int, vocab_size: int = 80, biased: tuple[str, ...] = ("q_proj",)) -> nn.Module:
    """A model that is never run, under names that say what its parts are for; no two roles are equally many."""

    # Some are wider, so that Xavier's standard deviation is another one for them.
    sizes = dict.fromkeys(("q_proj", "k_proj", "v_proj"), (48, 64)) | dict.fromkeys(("gate_proj", "up_proj"), (48, 160))
    sizes |= {"o_proj": (64, 48), "down_proj": (160, 48)}

    def layer() -> nn.Module:
        linear = {name: nn.Linear(*size, bias=name in biased) for name, size in sizes.items()}
        return nn.ModuleDict({"norm": nn.LayerNorm(48)} | linear)

    return nn.ModuleDict(
        {
            "embedding": nn.Embedding(vocab_size, 48),
            "positions": LearnedPositionalEmbedding(100, 48),
            "layers": nn.ModuleList(layer() for _ in range(n_layers)),
            "norm": nn.RMSNorm(48),
            "head": nn.Linear(48, vocab_size, bias=False),
        }
    )


def one_matrix() -> nn.Module:
    parts = {"embedding": nn.Embedding(50, 48), "up_proj": nn.Linear(48, 80), "down_proj": nn.Linear(80, 48)}
    return nn.ModuleDict(parts | {"norm": nn.LayerNorm(48)})


LLAMA, TIED = "a Llama of 2 layers", "a Llama with tied embeddings"
DEEP, BIASED = "a model of 8 layers", "a model of 3 layers with biases, drawn for the second time, after all became NaN"
ONE_MATRIX = "a model in which one matrix writes into the residual stream"
TWO_LAYERS, ONE_LAYER, HALF = "a model of 2 layers", "a model of 1 layer", "a model in bfloat16"
KINDS: dict[str, Callable[[], nn.Module]] = {
    LLAMA: llama,
    TIED: lambda: llama(tied_embeddings=True),
    BIASED: lambda: small(3, biased=("q_proj", "o_proj")),
    DEEP: lambda: small(8, 600),
    ONE_MATRIX: one_matrix,
    TWO_LAYERS: lambda: small(2),
    ONE_LAYER: lambda: small(1),
    HALF: lambda: small(1).bfloat16(),
}


def make(kind: str) -> nn.Module:
    """A model with a buffer of ones, whose weights are all 7, and whose gains and biases are all 3."""
    # The generator stays where it was, so that what an answer draws follows what it drew before.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = KINDS[kind]()
        for parameter in model.parameters():
            parameter.fill_(7.0 if parameter.ndim > 1 else 3.0)
    model.register_buffer("mask", torch.ones(4, 4))
    return model.to(choose_device())


# What torch says of common mistakes does not say what to do.
ADVICE = {
    "no attribute 'blocks'": ". Not every model has blocks: count the roles that are 'residual'",
    "no attribute 'layers'": ". Not every model has layers: count the roles that are 'residual'",
    "used in an in-place operation": " Use the functions of nn.init, or torch.no_grad()",
}


def drawn(answer: Callable, kind: str, std: float | None) -> dict[str, Tensor]:
    """Let the answer draw a model of this kind; refuse what is not done in place, and give its weights by name."""
    model = make(kind)
    parameters = dict(model.named_parameters())
    before = {name: (parameter.detach().clone(), parameter.dtype) for name, parameter in parameters.items()}
    given = () if std is None else (std,)
    try:
        answer(model, *given)
        if kind == BIASED:
            for parameter in model.parameters():
                parameter.data.fill_(math.nan)
            answer(model, *given)
    except (AttributeError, RuntimeError) as error:
        advice = next((advice for words, advice in ADVICE.items() if words in str(error)), "")
        error.args = (f"{error}{advice}",)
        raise
    after = dict(model.named_parameters())
    if any(after.get(name) is not parameters.get(name) for name in after | parameters):
        raise Mismatch(
            f"{kind}: a parameter was replaced, added or removed, or a tied weight untied. Change numbers alone"
        )
    for name, parameter in after.items():
        old, dtype = before[name]
        for what, now, then in (("shape", parameter.shape, old.shape), ("dtype", parameter.dtype, dtype)):
            if now != then:
                raise Mismatch(f"{kind}: {name} had {what} {then}, and now has {now}. Change its numbers alone")
        if not parameter.requires_grad:
            raise Mismatch(f"{kind}: {name} is frozen now (requires_grad is False), so it would never be trained")
    if not (model.mask == 1).all():
        raise Mismatch(f"{kind}: its buffer `mask` was changed. That is no parameter: it stays as it is")
    if all(torch.equal(parameter, before[name][0]) for name, parameter in after.items()):
        raise Mismatch(f"{kind}: every weight is as it was. Change them in place, in `model` itself")
    return {name: parameter.detach() for name, parameter in after.items()}


def begin_alike(a: Tensor, b: Tensor) -> bool:
    """Whether two matrices begin with the same random numbers, whatever their standard deviations are."""
    a, b = (exact(x).flatten()[:8] for x in (a, b))
    random = min(len(a.unique()), len(b.unique())) == 8
    return random and torch.allclose(a / a.norm(), b / b.norm(), rtol=1e-3)


PARTS = ("gain", "bias", "embedding", "positions", "head", "projection", "o_proj", "down_proj")
CASES = (*PARTS, "std not given", "afresh", HALF)


@cache
def parts_of(kind: str) -> dict[str, str]:
    """Which of PARTS a parameter belongs to: its role, or what it is called where wrong answers look at that."""
    apart = ("positions", "o_proj", "down_proj")
    roles = parameter_roles(make(kind))
    return {n: next((p for p in apart if p in n and role != "bias"), role) for n, role in roles.items()}


def look_at(answer: Callable, part: str, seen: dict) -> tuple:
    """What chance does not change in one part of models that the answer draws; kept in `seen` for the next part."""
    if part == HALF:
        return looks_of([drawn(answer, HALF, 0.1)["layers.0.q_proj.weight"]], 0.1)
    if answer not in seen:
        seen[answer] = drawn(answer, TWO_LAYERS, 0.1), drawn(answer, ONE_LAYER, None)
    first, second = seen[answer]
    if part == "afresh":
        alike = any(begin_alike(x, y) for x, y in pairwise(x for x in first.values() if x.ndim > 1))
        return alike, begin_alike(first["embedding.weight"], second["embedding.weight"])
    if part == "std not given":
        return looks_of([second["embedding.weight"]], 0.02)
    found = looks_of([x for name, x in first.items() if parts_of(TWO_LAYERS)[name] == part], 0.1)
    # Of a shallower model too: a divisor that is written in shows.
    return found + (looks_of([second[f"layers.0.{part}.weight"]], 0.02) if part in ("o_proj", "down_proj") else ())
