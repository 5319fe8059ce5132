"""How a whole Llama is run that may be made in any way, for the exercise that asks for one.

Where its weights bear the names of exercise 1, they are set to numbers of which it is known what a Llama makes. Else
they are drawn by their shapes alone, and all that can be looked at is how the model behaves.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llama_lessons.lab.device import choose_device
from llama_lessons.llama import LlamaConfig

from ...expect import Mismatch, expect_type, on_device, random_tensor
from ..attention.whole_layer import Kept
from .common import IN_BLOCK, described, drawn, exact_llama, file_weights, small

GAP = 20_000


class Gap(Kept):
    """A cache whose tokens lie far back: as if many had come after them that nobody reads."""

    @property
    def length(self) -> int:
        return super().length + (GAP if super().length else 0)


class Seen(NamedTuple):
    """What is seen of a Llama that reads tokens, after it has read others."""

    logits: Tensor
    count: int  # numbers that it learns
    idle: int  # those of them that no gradient reaches; 0 where nobody asks
    gradient: Tensor  # of the embedding, where somebody asks
    known: str  # whether its weights were set to known numbers


def reads(llama_class: Any) -> Callable[..., tuple]:
    """Make of a class the function that has its model read tokens, at once or in pieces with caches.

    Its last argument says what else is done: "learns" asks for gradients, "silent" sets the blocks' matrices to 0,
    "bfloat16" casts the model, and "rounded" only its weights, where the pieces lie far apart.
    """

    def run(config, tokens, pieces=(), how=""):
        model = llama_class(config)
        if not isinstance(model, nn.Module):
            raise Mismatch("Llama is expected to be an nn.Module")
        if choose_device().type != "cpu":
            model.to(choose_device())
        named = dict(model.named_parameters())
        known, embedding = set_weights(model, named, config)
        parameters = list(named.values())
        with torch.no_grad():
            for parameter in parameters:
                if how == "silent" and parameter.ndim > 1 and config.vocab_size not in parameter.shape:
                    parameter.zero_()
                elif how == "rounded":
                    parameter.copy_(parameter.bfloat16())
        if how == "bfloat16":
            model.to(torch.bfloat16)
        if how == "learns":
            logits = model(tokens)
            idle, gradient = learned(logits, parameters, embedding)
        else:
            with torch.no_grad():
                if not how and not pieces:
                    model(tokens.flip(1))
                caches = [Gap() if how else Kept() for _ in range(config.n_layers)]
                read = [model(x, caches) for x in tokens.split(pieces, dim=1)] if pieces else [model(tokens)]
            expect_type(read[0], Tensor, "forward")
            logits, idle, gradient = torch.cat(read, dim=1), 0, read[0].new_zeros(0)
        count = sum(parameter.numel() for parameter in parameters)
        return Seen(logits.detach(), count, idle, gradient, "known" if known else "unknown")

    return run


def set_weights(
    model: nn.Module, named: dict[str, nn.Parameter], config: LlamaConfig
) -> tuple[bool, nn.Parameter | None]:
    """Set what can be told by name as in `weights_of`, and draw the rest; whether that is all, and the embedding."""
    wanted = weights_of(config)
    places = places_of(model, named, {name: tuple(weight.shape) for name, weight in wanted.items()})
    with torch.no_grad():
        for name, parameter in places.items():
            parameter.copy_(wanted[name])
        told = {id(parameter) for parameter in places.values()}
        for i, parameter in enumerate(p for p in named.values() if id(p) not in told):
            parameter.copy_(drawn(tuple(parameter.shape), 700 + i))
    own = set(wanted) - ({"output.weight"} if config.tied_embeddings else set())
    return len(told) == len(named) and set(places) == own, places.get("token_embd.weight")


def weights_of(config: LlamaConfig) -> dict[str, Tensor]:
    """By a file's names, but with queries and keys in layout half; a head too where it should be tied."""
    return dict(_weights_of(config, choose_device()))


@cache
def _weights_of(config: LlamaConfig, device: torch.device) -> dict[str, Tensor]:
    return {"output.weight": drawn((config.vocab_size, config.dim), 600)} | file_weights(config)


def places_of(
    model: nn.Module, named: dict[str, nn.Parameter], shapes: dict[str, tuple[int, ...]]
) -> dict[str, nn.Parameter]:
    """The parameters that can be told, by a file's names: those of blocks, in their order, the norm's, both tables."""
    found, others = {}, dict(named)
    for theirs, ours in IN_BLOCK.items():
        own = [name for name in others if f".{name}".endswith(f".{ours}.weight")]
        found |= {f"blk.{i}.{theirs}.weight": others.pop(name) for i, name in enumerate(own)}
    gains = [parameter for parameter in others.values() if tuple(parameter.shape) == shapes["output_norm.weight"]]
    tables = [parameter for parameter in others.values() if tuple(parameter.shape) == shapes["token_embd.weight"]]
    if len(gains) == 1:
        found["output_norm.weight"] = gains[0]
    if len(tables) == 2 and is_looked_up(model, tables[1], tables[0]):
        tables.reverse()
    found |= dict(zip(("token_embd.weight", "output.weight"), tables, strict=False))
    return {name: parameter for name, parameter in found.items() if tuple(parameter.shape) == shapes.get(name)}


def is_looked_up(model: nn.Module, table: nn.Parameter, other: nn.Parameter) -> bool:
    """Whether the first of two tables is the embedding: an nn.Embedding's, or one of which a token uses one row."""
    looked_up = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    if any(weight is found for weight in looked_up for found in (table, other)):
        return any(weight is table for weight in looked_up)
    logits = model(torch.zeros(1, 1, dtype=torch.int64, device=table.device))
    (gradient,) = torch.autograd.grad(logits.square().sum(), table, allow_unused=True)
    return gradient is not None and not gradient[1:].any()


def learned(logits: Tensor, parameters: list[nn.Parameter], embedding: Tensor | None) -> tuple[int, Tensor]:
    """How many numbers no gradient reaches, and the embedding's gradient."""
    expect_type(logits, Tensor, "forward")
    if not logits.requires_grad:
        return sum(p.numel() for p in parameters), logits.new_zeros(0)
    upstream = random_tensor(*logits.shape, seed=9).to(logits)
    gradients = torch.autograd.grad((logits * upstream).sum(), parameters, allow_unused=True)
    idle = sum(p.numel() for p, gradient in zip(parameters, gradients, strict=True) if gradient is None)
    found = [gradient for p, gradient in zip(parameters, gradients, strict=True) if p is embedding]
    return idle, next((gradient for gradient in found if gradient is not None), logits.new_zeros(0))


def tokens_for(config: LlamaConfig, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(config.vocab_size, shape, generator=generator)
    tokens[0, 0], tokens[-1, -1] = 0, config.vocab_size - 1
    return on_device(tokens)


def given(seed: int, batch: int = 2, seq_len: int = 6, **sizes: Any) -> tuple[LlamaConfig, Tensor]:
    """A config, and tokens."""
    config = small(**sizes)
    return config, tokens_for(config, batch, seq_len, seed=seed)


def shown(config: LlamaConfig, tokens: Tensor) -> str:
    head = "tied head" if config.tied_embeddings else "head of its own"
    return f"tokens {tuple(tokens.shape)}, {config.n_layers} layers, {head}, {described(config)}"


def expected(config: LlamaConfig, tokens: Tensor, weights: dict[str, Tensor] | None = None, **more: Any) -> Tensor:
    """The logits for the known weights, or others."""
    return exact_llama(config, weights or weights_of(config), tokens, layout="half", **more)["head"]
