"""Run a model and log what each of its parts is given and returns; or put the reference's in its place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Call", "Run", "run"]


@dataclass
class Call:
    """One call of a part: what it was given and what it returned, before the reference's took its place."""

    given: Tensor
    returned: Tensor | None = None


@dataclass
class Run:
    """All calls of a model's parts, by role; the logits that it returned."""

    calls: dict[str, list[Call]] = field(default_factory=dict)
    logits: Tensor | None = None


@torch.no_grad()
def run(model: nn.Module, modules: dict[str, nn.Module], tokens: Tensor, like: Run | None = None) -> Run:
    """Read tokens with a model.

    Args:
        model: called as model(tokens); returns logits, or an object that has them as .logits.
        modules: its parts by role.
        tokens: ids, (batch, seq_len).
        like: another run. Each part is given what its counterpart was given there, and what it returns is replaced by
            what that returned, so that what one part does wrong does not spoil the next.
    """
    seen = Run()
    roles: dict[nn.Module, list[str]] = {}  # one module may play several
    for role, module in modules.items():
        roles.setdefault(module, []).append(role)
    with _hooked(roles, seen, like):
        output = model(tokens)
    seen.logits = _tensor(getattr(output, "logits", output))
    return seen


@contextmanager
def _hooked(roles: dict[nn.Module, list[str]], seen: Run, like: Run | None) -> Iterator[None]:
    handles = []
    for module, played in roles.items():
        before, after = _hooks(played, seen, like)
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True, prepend=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(played: list[str], seen: Run, like: Run | None) -> tuple[Callable, Callable]:
    open_calls: list[tuple[str, Call]] = []
    count = 0

    def before(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        nonlocal count
        role = played[min(count, len(played) - 1)]
        count += 1
        place = next((i for i, arg in enumerate(args) if isinstance(arg, Tensor)), None)
        key = next((key for key, arg in kwargs.items() if isinstance(arg, Tensor)), None)
        given = args[place] if place is not None else kwargs[key]
        call = Call(given.clone())
        seen.calls.setdefault(role, []).append(call)
        open_calls.append((role, call))
        put = _counterpart(like, role, "given", given)
        if put is None:
            return None
        if place is None:
            return args, kwargs | {key: put}
        return (*args[:place], put, *args[place + 1 :]), kwargs

    def after(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        role, call = open_calls.pop()
        returned = _tensor(output)
        call.returned = returned.clone()
        put = _counterpart(like, role, "returned", returned)
        if put is None:
            return None
        return put if isinstance(output, Tensor) else (put, *output[1:])

    return before, after


def _tensor(output: Any) -> Tensor:
    """The first tensor of what a module returned."""
    return output if isinstance(output, Tensor) else next(item for item in output if isinstance(item, Tensor))


def _counterpart(like: Run | None, role: str, side: str, now: Tensor) -> Tensor | None:
    """What stands in place of `now`: a copy, in its dtype and on its device; nothing where shapes differ."""
    if like is None or role not in like.calls:
        return None
    put = getattr(like.calls[role][0], side)
    return put.to(now).clone() if put.shape == now.shape else None
