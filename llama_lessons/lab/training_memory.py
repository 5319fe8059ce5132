"""What each process holds of a model in training: alone, with a whole copy each (DDP), and sharded (FSDP2).

As a module it is what torchrun starts: `python -m llama_lessons.lab.training_memory [--shard]`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from llama_lessons.lab.stored import stored
from llama_lessons.lab.training_runs import small_llama
from llama_lessons.one_process import ALONE, OneProcess
from llama_lessons.settings import DEVICE
from llama_lessons.training import add_gradients, parameter_groups

__all__ = ["bytes_held", "kept_memory"]

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
WAYS = {"one process": [], "DDP": TORCHRUN, "FSDP2 (--shard)": TORCHRUN}
VOCAB_SIZE = 84


def bytes_held(processes: OneProcess) -> dict[str, int]:
    """Make one step of the lesson's model; return the bytes that this process then holds of each kind of tensor."""
    model = small_llama(VOCAB_SIZE, seed=0)
    trained = processes.wrap(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1))
    tokens = torch.arange(16 * 65).remainder(VOCAB_SIZE).view(16, 65).to(next(model.parameters()).device)
    add_gradients(trained, processes.part(tokens))
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    return {
        "parameters": _bytes(model.parameters()),
        "gradients": _bytes(parameter.grad for parameter in model.parameters()),
        "optimizer state": _bytes(states),
    }


def _bytes(tensors: Iterable[Tensor]) -> int:
    own = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


def kept_memory() -> dict[str, list[dict[str, int]]]:
    """The stored bytes of each process, for each way to train."""

    def measure() -> dict[str, list[dict[str, int]]]:
        found, environment = {}, {**os.environ, DEVICE: "cpu"}  # two processes need two GPUs
        for way, start in WAYS.items():
            command = [sys.executable, *start, "-m", __spec__.name, *["--shard"] * ("--shard" in way)]
            found[way] = json.loads(
                subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            )
        return found

    return stored("training_memory", measure)


def _print_all() -> None:
    # The first process prints what all of them hold.
    if not torch.distributed.is_torchelastic_launched():
        print(json.dumps([bytes_held(ALONE)]))
        return
    from llama_lessons.processes import Processes

    with Processes(torch.device("cpu"), "--shard" in sys.argv) as processes:
        held = [None] * processes.count
        torch.distributed.all_gather_object(held, bytes_held(processes))
        if processes.rank == 0:
            print(json.dumps(held))


if __name__ == "__main__":
    _print_all()
