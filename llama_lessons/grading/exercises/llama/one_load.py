"""How weights are loaded and what is seen of the model that comes out, for the exercise that asks for `load`."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llama_lessons.lab.device import choose_device
from llama_lessons.llama import LlamaConfig

from ...expect import exact, expect_type
from ..attention.whole_layer import Kept
from .common import exact_llama, file_weights


class Seen(NamedTuple):
    """What is seen of a load, and of its model, which reads tokens; numbers and roles only where they can be told."""

    logits: Tensor
    chance: str  # which of the file's tensors are not in the model, if another load makes another one
    count: int  # numbers that the model learns
    changed: str  # what load changed of the weights that it was given
    roles: str  # what is wrong with the dictionary of modules, where the logits are right
    refusal: str


def loads(load: Callable) -> Callable[..., tuple]:
    """Make of `load` the function that loads a small file's weights, twice, and has the model read tokens.

    Of a file that does not fit, `wrong` says what is wrong: "missing", "extra", "misshapen" or "transposed", and the
    tensor's name.
    """

    def run(config, tokens, wrong="", pieces=()):
        weights = {name: weight.clone() for name, weight in weights_in_file(config).items()}
        if wrong:
            return Seen(tokens.new_zeros(0).float(), "", 0, "", "", refused(load, config, weights, *wrong.split()))
        torch.manual_seed(1)
        model, modules = loaded(load(config, weights))
        logits, outputs = read(model, config, tokens, pieces)
        changed = difference(weights, weights_in_file(config))
        torch.manual_seed(2)
        again, _ = loaded(load(config, {name: weight.clone() for name, weight in weights_in_file(config).items()}))
        count = sum(parameter.numel() for parameter in model.parameters())
        if not all(map(torch.equal, model.parameters(), again.parameters())):
            return Seen(torch.zeros_like(logits), not_in(model, weights_in_file(config)), count, changed, "", "")
        want = expected(config, tokens)
        roles = wrong_roles(modules, outputs, want) if not pieces and alike(logits, want["head"]) else ""
        return Seen(logits.detach(), "", count, changed, roles, "")

    return run


def not_in(model: nn.Module, weights: dict[str, Tensor]) -> str:
    """The tensors whose numbers are not among the model's, in whatever order and parameter they may stand there."""
    numbers = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return ", ".join(name for name, weight in weights.items() if not torch.isin(weight, numbers).all()) or "none"


def weights_in_file(config: LlamaConfig) -> dict[str, Tensor]:
    return _weights(config, choose_device())


@cache
def _weights(config: LlamaConfig, device: torch.device) -> dict[str, Tensor]:
    return file_weights(config, seed=3)


def expected(config: LlamaConfig, tokens: Tensor) -> dict[str, Tensor]:
    """By role, what each part of the model returns."""
    return _expected(config, tuple(map(tuple, tokens.tolist())))


@cache
def _expected(config: LlamaConfig, tokens: tuple[tuple[int, ...], ...]) -> dict[str, Tensor]:
    return exact_llama(config, weights_in_file(config), torch.tensor(tokens))


def refused(load: Callable, config: LlamaConfig, weights: dict[str, Tensor], kind: str, name: str) -> str:
    """What comes of it when a tensor is missing, extra, misshapen or transposed."""
    if kind == "missing":
        del weights[name]
    elif kind == "extra":
        weights[name] = torch.ones(3, device=choose_device())
    elif kind == "transposed":
        weights[name] = weights[name].T.contiguous()
    else:  # a row of its own for broadcasting, or one too many
        weight = weights[name]
        weights[name] = weight[:1] if weight.ndim == 1 else torch.cat((weight, weight[:1]))
    try:
        load(config, weights)
    except ValueError as error:
        return f"a ValueError that names {'it' if name in str(error) else 'no ' + name}"
    except Exception as error:
        return f"a {type(error).__name__}"
    return "no error"


def loaded(result: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The model and the modules by their roles, if that is what `load` returned."""
    expect_type(result, (nn.Module, dict), "load")
    model, modules = result
    if choose_device().type != "cpu":
        model.to(choose_device())
    return model, modules


def read(
    model: nn.Module, config: LlamaConfig, tokens: Tensor, pieces: tuple[int, ...]
) -> tuple[Tensor, dict[nn.Module, Tensor]]:
    """The logits, and what each module within the model returned."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, given: tuple, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs[module] = output

    hooks = [module.register_forward_hook(keep) for module in model.modules() if module is not model]
    with torch.no_grad():
        if pieces:
            caches = [Kept() for _ in range(config.n_layers)]
            logits = torch.cat([model(piece, caches) for piece in tokens.split(pieces, dim=1)], dim=1)
        else:
            logits = model(tokens)
    for hook in hooks:
        hook.remove()
    return logits, outputs


def wrong_roles(modules: dict[str, Any], outputs: dict[nn.Module, Tensor], wanted: dict[str, Tensor]) -> str:
    """The first role that is not played by the module that `modules` says."""
    for role, result in wanted.items():
        if role in modules:
            module = modules[role]
            if not isinstance(module, nn.Module):
                return f"{role} is a {type(module).__name__}, where a module of the model is expected"
            if module not in outputs:
                return f"{role} is a module that the model does not call"
            if not alike(outputs[module], result):
                return f"{role} is a module that does something else"
        elif any(alike(output, result) for output in outputs.values()):
            return f"{role} is left out, and the model has a module that plays it"
    others = [str(role) for role in modules if role not in wanted]
    return f"{others[0]} is no role" if others else ""


def alike(got: Tensor, want: Tensor) -> bool:
    return got.shape == want.shape and torch.allclose(exact(got), want, atol=1e-3, rtol=1e-3)


def difference(weights: dict[str, Tensor], before: dict[str, Tensor]) -> str:
    """What was changed of weights."""
    if weights.keys() != before.keys():
        return "the dictionary"
    same = all(torch.equal(weights[name], before[name]) for name in before)
    return "" if same else "numbers of a tensor"
