"""Models whose weights are to be drawn, by what is told of them, and what is seen of them afterwards."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_lessons.initialization import parameter_roles
from llama_lessons.lab.device import choose_device
from llama_lessons.llama import ARTICLE_PARTS, Decoder, LlamaConfig, Parts
from llama_lessons.positions import LearnedPositionalEmbedding

__all__ = ["PARTS", "by_name", "draw_by", "facts", "make", "part_of", "weights_of"]

CONFIG = LlamaConfig(
    vocab_size=150, dim=64, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=32, hidden_dim=160, max_seq_len=48
)


class Layer(nn.Module):
    """What stands in a block, under the names that say what it is for; it is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.q_proj = nn.Linear(32, 40)
        self.o_proj = nn.Linear(40, 32)
        self.up_proj = nn.Linear(32, 48, bias=False)
        self.down_proj = nn.Linear(48, 32, bias=False)


class Small(nn.Module):
    """A model of torch's own modules, apart from its table of positions."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.positions = LearnedPositionalEmbedding(40, 32)
        self.layers = nn.ModuleList(Layer() for _ in range(n_layers))
        self.norm = nn.RMSNorm(32)
        self.head = nn.Linear(32, 50, bias=False)


class OneMatrix(nn.Module):
    """A model in which a single matrix writes into the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.norms = nn.ModuleList([nn.LayerNorm(32), nn.RMSNorm(32)])
        self.up_proj = nn.Linear(32, 48)
        self.down_proj = nn.Linear(48, 32)


def decoder(parts: Parts, **sizes: Any) -> Decoder:
    return Decoder(replace(CONFIG, **sizes), replace(parts, initialize=lambda model: None))


KINDS: dict[str, Callable[[], nn.Module]] = {
    "a Llama of 2 layers": lambda: decoder(Parts()),
    "a Llama with tied embeddings": lambda: decoder(Parts(), tied_embeddings=True),
    "a model with LayerNorm, biases and a position table": lambda: decoder(ARTICLE_PARTS),
    "a model in which one matrix writes into the stream": OneMatrix,
    "a model of 1 layer": lambda: Small(1),
    "a model of 2 layers": lambda: Small(2),
    "a model of 3 layers": lambda: Small(3),
    "a model of 8 layers": lambda: Small(8),
}


def make(kind: str) -> nn.Module:
    """A model whose weights are all 7, and whose gains and biases are all 3."""
    model = KINDS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0 if parameter.ndim > 1 else 3.0)
    return model.to(choose_device())


def weights_of(model: nn.Module) -> Tensor:
    """All its weights in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@cache
def shapes(kind: str) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in make(kind).named_parameters()}


def by_name(kind: str, row: Tensor) -> dict[str, Tensor]:
    """The weights of a model as `weights_of` gives them, each under its name and in its shape."""
    wanted = shapes(kind)
    pieces = row.split([shape.numel() for shape in wanted.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(wanted.items(), pieces, strict=True)}


PARTS = ("gain", "bias", "embedding", "positions", "head", "projection", "o_proj", "down_proj")


def part_of(role: str, name: str) -> str:
    """Which of PARTS a parameter belongs to: its role, or what it is called where wrong answers look at that."""
    return next((part for part in ("positions", "o_proj", "down_proj") if part in name and role != "bias"), role)


# What torch says of two common mistakes does not say what to do.
ADVICE = {
    "no attribute 'blocks'": ". Not every model has blocks: count the roles that are 'residual'",
    "no attribute 'layers'": ". Not every model has layers: count the roles that are 'residual'",
    "used in an in-place operation": " Use the functions of nn.init, or torch.no_grad()",
}


def draw_by(answer: Callable, model: nn.Module, std: float | None) -> nn.Module:
    """Let the answer draw `model`, and refuse what is not done in place."""
    parameters, before = dict(model.named_parameters()), weights_of(model)
    known = {name: (parameter.shape, parameter.dtype, True) for name, parameter in parameters.items()}
    try:
        answer(model, *(() if std is None else (std,)))
    except (AttributeError, RuntimeError) as error:
        advice = next((advice for words, advice in ADVICE.items() if words in str(error)), "")
        error.args = (f"{error}{advice}",)
        raise
    after = dict(model.named_parameters())
    if any(after.get(name) is not parameters.get(name) for name in after | parameters):
        raise RuntimeError(
            "a parameter was replaced by a new one, and a tied weight comes apart so. Change it in place"
        )
    for name, parameter in after.items():
        if (parameter.shape, parameter.dtype, parameter.requires_grad) != known[name]:
            raise RuntimeError(f"{name} has another shape or dtype now, or is frozen. Change its numbers alone")
    if torch.equal(before, weights_of(model)):
        raise RuntimeError("every weight of the model is as it was. Change them in place, in `model` itself")
    return model


def facts(models: list[nn.Module]) -> dict[str, list[float]]:
    """What chance does not change, by part: of each parameter how large it is, in steps of a fifth, and what is odd.

    Args:
        models: one drawn with std 0.1, and a shallower one drawn with none given.
    """
    first, second = ({n: p.detach().double().cpu().flatten() for n, p in m.named_parameters()} for m in models)
    roles = parameter_roles(models[0])
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for name, x in first.items():
        found[part_of(roles[name], name)] += looks_of(x, 0.1)
    for part in ("o_proj", "down_proj"):  # of the other one too: a divisor that is written in shows
        found[part] += looks_of(second[f"layers.0.{part}.weight"], 0.02)
    begins = [x[0].item() for name, x in first.items() if len(x) > 32 and (x != x[0]).any()]
    # Only the direction is compared, as the two were drawn with different std; equal numbers have none.
    one, other = (model["embedding.weight"] - model["embedding.weight"].mean() for model in (first, second))
    alike = F.cosine_similarity(one, other, dim=0).item() > 0.99
    return found | {
        "std not given": looks_of(second["embedding.weight"], 0.02),
        "afresh": [len(set(begins)) < len(begins), alike],
    }


def looks_of(x: Tensor, std: float) -> list[float]:
    mean, size = x.mean().item(), x.std().item()
    if size == 0:
        return [1000 + mean, 0, 0]
    if len(x) <= 32:
        return [-1000, round(mean), 0]  # too few to say more
    inside = ((x - mean).abs() < size).double().mean().item()
    return [round(4 * math.log2(size / std)), round(2 * mean / size), inside < 0.63]
