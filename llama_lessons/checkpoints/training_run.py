"""The state of a training run in one file, complete enough that the run goes on bit for bit.

The file holds the weights, what AdamW remembers of each, torch's random number generators and the history so far.
It is written beside its place and moved there in one go: wherever the process ends, the place holds a
whole file, the old one or the new one. With it goes a fingerprint, everything that must be the same for the
rest of the run to mean anything; a run with another one is refused, and the difference named.

Not done here: buffers that training changes, such as batch norm's (Llama has none); a sum over the bytes that
would find one changed on the disk; a promise for other versions of torch, other devices or numbers of threads,
which round differently.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from llama_lessons.checkpoints.building import plain_name
from llama_lessons.one_process import ALONE, OneProcess

__all__ = ["CHECKPOINT", "History", "RunFile", "fingerprint", "load_run", "rng_states", "save_run"]

CHECKPOINT = "training.safetensors"
_LISTS = ("losses", "grad_norms", "learning_rates")


@dataclass(kw_only=True)
class History:
    """What a run has measured.

    Args:
        losses: training loss of each step in nats per token, before the step changed the weights.
        grad_norms: norm of all gradients in each step, before clipping.
        learning_rates: of each step.
        validation_losses: validation loss by the number of steps done when it was taken; 0 is before the first.
        seconds: wall time of the run, validation included, and of all its parts if it was interrupted.
        interrupted: whether Ctrl-C ended it before it was done.
    """

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    validation_losses: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def steps(self) -> range:
        """The steps done, counted from 0: what the three lists are drawn over."""
        return range(len(self.losses))

    def add(self, loss: float, grad_norm: float, learning_rate: float) -> None:
        """Note one more step."""
        self.losses.append(loss)
        self.grad_norms.append(grad_norm)
        self.learning_rates.append(learning_rate)


def fingerprint(model: nn.Module, settings: Any, **data: Tensor | None) -> dict[str, str]:
    """Write down, name by name, what must not change while a run is interrupted.

    Args:
        model: gives its config, if that is a dataclass, the class of each module, and the shape and dtype of each
            weight. The values of weights are not part of it.
        settings: a dataclass.
        data: token ids by name, read in full; None where there are none.
    """
    names = {f"settings.{name}": value for name, value in _fields(settings).items()}
    config = getattr(model, "config", None)
    if is_dataclass(config):
        names |= {f"config.{name}": value for name, value in _fields(config).items()}
    names |= {f"module {plain_name(name) or 'model'}": type(module).__name__ for name, module in model.named_modules()}
    for name, weight in _named_parameters(model).items():
        frozen = "" if weight.requires_grad else " frozen"
        names[f"weight {name}"] = f"{tuple(weight.shape)} {weight.dtype}{frozen}"
    return names | {name: _describe(tokens) for name, tokens in data.items()}


def _named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {plain_name(name): parameter for name, parameter in model.named_parameters()}


def _fields(instance: Any) -> dict[str, str]:
    return {item.name: repr(getattr(instance, item.name)) for item in fields(instance)}


def _describe(tokens: Tensor | None) -> str:
    if tokens is None:
        return "None"
    digest = hashlib.sha256(tokens.to("cpu", torch.int64).contiguous().numpy()).hexdigest()
    return f"{len(tokens)} tokens with sha256 {digest[:16]}"


def rng_states(device: torch.device) -> dict[str, Tensor]:
    """Copy the states of torch's own random number generators: the CPU's, and that of a CUDA device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def save_run(
    path: Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    history: History,
    rng: dict[str, Tensor],
    fingerprint: dict[str, str],
    processes: OneProcess = ALONE,
) -> None:
    """Put the state of a run into the file at path, in the place of the one that may be there.

    If there are several processes, all must call this; the first one writes.

    Args:
        path: where to; its folder is made if it is not there.
        model: gives the weights.
        optimizer: gives what it remembers of each parameter.
        history: up to the state of the weights.
        rng: from `rng_states`.
        fingerprint: from `fingerprint`.
        processes: that train the model, each of them a part of it or all of it.

    Raises:
        OSError: if the file cannot be written. What was there is there still.
    """
    tensors = {f"model.{name}": weight for name, weight in _named_parameters(model).items()}
    names = {parameter: name for name, parameter in _named_parameters(model).items()}
    for parameter, state in optimizer.state.items():
        tensors |= {f"optimizer.{key}.{names[parameter]}": value for key, value in state.items()}
    # One after another: only the first process needs room for the whole of a model that is divided.
    for name, tensor in tensors.items():
        whole = processes.whole(tensor.detach())
        tensors[name] = whole.contiguous().cpu() if processes.rank == 0 else None
    if processes.rank > 0:
        return
    tensors |= {f"rng.{name}": state for name, state in rng.items()}
    tensors |= {f"history.{name}": torch.tensor(getattr(history, name), dtype=torch.float64) for name in _LISTS}
    run = {
        "fingerprint": fingerprint,
        "validation_losses": list(history.validation_losses.items()),
        "seconds": history.seconds,
    }
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, unfinished, {"run": json.dumps(run)})
        os.replace(unfinished, path)
    except (OSError, SafetensorError) as error:
        raise OSError(f"{path} cannot be written ({error}); what was there before is there still") from error
    finally:
        unfinished.unlink(missing_ok=True)


def load_run(
    path: Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    fingerprint: dict[str, str],
    processes: OneProcess = ALONE,
) -> History:
    """Put model, optimizer and torch's random number generators into the state that `save_run` kept.

    Args:
        path: the file.
        model: its weights are overwritten.
        optimizer: over the model's parameters; what it remembers is overwritten.
        fingerprint: that of the run which is to go on.
        processes: that train the model; all must call this, and all read the file.

    Returns:
        The history up to there.

    Raises:
        ValueError: if the file is damaged, cut short or no training run, or the fingerprints differ. Then nothing
            was changed.
        OSError: if the file cannot be opened.
    """
    try:
        with safe_open(path, framework="pt") as file:
            run = json.loads((file.metadata() or {})["run"])
            # Clones: what is read is the mapped file itself, which others may change, and Windows would not replace.
            tensors = {name: file.get_tensor(name).clone() for name in list(file.keys())}
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged, cut short or no training run ({error}): remove it to begin anew"
        ) from error
    _check_fingerprint(path, run["fingerprint"], fingerprint)
    parameters = _named_parameters(model)
    for place, tensor in tensors.items():
        kind, _, name = place.partition(".")
        if kind == "model":
            parameters[name].data.copy_(processes.share(tensor, parameters[name]))
        elif kind == "optimizer":
            key, _, name = name.partition(".")
            state = processes.share(tensor, parameters[name])
            optimizer.state[parameters[name]][key] = state.to(parameters[name].device)
    torch.set_rng_state(tensors["rng.cpu"])
    device = next(model.parameters()).device
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)
    return History(
        **{name: tensors[f"history.{name}"].tolist() for name in _LISTS},
        validation_losses=dict(run["validation_losses"]),
        seconds=run["seconds"],
    )


def _check_fingerprint(path: Path, there: dict[str, str], here: dict[str, str]) -> None:
    different = [name for name in here | there if here.get(name) != there.get(name)]
    if different:
        name = different[0]
        others = f" ({len(different) - 1} more differ)" if different[1:] else ""
        raise ValueError(
            f"{path} holds another run: {name} is {there.get(name, 'absent')} there and {here.get(name, 'absent')} "
            f"here{others}. Choose another folder, or remove the file to begin anew"
        )


class RunFile:
    """The file that a run is kept in; without a folder it keeps nothing.

    Args:
        folder: where the file is, or is to be; None: nowhere.
        model: see `save_run`. It must still be as it was made, not yet divided among processes.
        settings: see `fingerprint`, as for data.
        processes: see `save_run`. How many they are is not part of the fingerprint: others may go on.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        model: nn.Module,
        settings: Any,
        processes: OneProcess = ALONE,
        **data: Tensor | None,
    ) -> None:
        self.path = None if folder is None else Path(folder, CHECKPOINT)
        self._run = {"model": model, "processes": processes}
        if self.path is not None:  # to describe the data is to read it in full
            self._run["fingerprint"] = fingerprint(model, settings, **data)

    @property
    def exists(self) -> bool:
        """Whether there is something to go on with."""
        return self.path is not None and self.path.exists()

    def load(self, optimizer: Optimizer) -> History:
        """Put model and optimizer into the state that was kept, see `load_run`; the history begins if there is none."""
        return load_run(self.path, optimizer=optimizer, **self._run) if self.exists else History()

    def save(self, optimizer: Optimizer, history: History, rng: dict[str, Tensor]) -> None:
        """Keep the run, see `save_run`."""
        if self.path is not None:
            save_run(self.path, optimizer=optimizer, history=history, rng=rng, **self._run)
