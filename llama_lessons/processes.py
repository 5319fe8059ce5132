"""Lesson 10. Training on several processes: each reads its part of one batch, and all take the same step.

torchrun starts them, and tells each its rank and their number P:
`torchrun --nproc-per-node=2 -m llama_lessons train ...`.

Data parallel: each process has the whole model and all that AdamW remembers. The parts of a batch are equally
large, so that the gradient of its mean loss is the mean of the processes' gradients,

    grad = (grad_0 + ... + grad_(P-1)) / P

which `average_gradients_` takes by hand. torch's DistributedDataParallel (DDP) takes it too, while backward computes
the next ones. With equal weights and equal gradients, AdamW takes the same step in every process.

Sharded (FSDP): each process keeps 1/P of every weight, of its gradient and of what AdamW remembers. The weights of
a block are put together right before they are used, forwards and backwards, and let go after; gradients are averaged
and cut. That takes less memory and exchanges more.

Not done here: a product divided among processes, pipelines of blocks, machines that share no folder, and random
numbers that differ by process (after a pause, dropout would draw the same in all of them).

Sources: Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training"; Rajbhandari et al.
2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models"; Zhao et al. 2023, "PyTorch FSDP:
Experiences on Scaling Fully Sharded Data Parallel".
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from llama_lessons.one_process import OneProcess

__all__ = ["Processes", "average_gradients_"]


def average_gradients_(model: nn.Module) -> None:
    """Make each gradient the mean over all processes: what DDP does, but only once all of backward is done."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)  # the sum over processes, the same in each of them
            parameter.grad /= dist.get_world_size()


class Processes(OneProcess):
    """The processes that torchrun has started, this one among them; to be used in a with statement.

    In it Ctrl-C ends the run after a step that all processes have done.

    Args:
        device: of this process's model. CUDA devices exchange by NCCL, others by gloo.
        shard: whether weights are divided among the processes (FSDP2), not held by each (DDP). All of them must then
            come to the same calls of the model in the same order, and each must have drawn the whole model first.

    Raises:
        ValueError: if shard is asked of a torch that cannot do it.
        ConnectionError: when the with statement is left since another process has ended.
    """

    def __init__(self, device: torch.device, shard: bool = False) -> None:
        self.device = device
        self._fully_shard = _import_fully_shard() if shard else None
        self._interrupted = False  # whether this process has seen Ctrl-C
        self._stop = False  # whether any has, as all processes know

    def __enter__(self) -> Self:
        self._handler = signal.signal(signal.SIGINT, self._note_interrupt)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        signal.signal(signal.SIGINT, self._handler)
        if error is None:  # after an error others may be gone, and not be waited for
            dist.destroy_process_group()
        elif isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error)):
            raise ConnectionError(
                f"process {self.rank} has lost another one, which was killed or has met an error of its own. The last "
                "checkpoint is whole: start the same command again, and it goes on from there"
            ) from error

    def _note_interrupt(self, *_: object) -> None:
        self._interrupted = True

    def wrap(self, model: nn.Module) -> nn.Module:
        """Give all processes the first one's weights, and return what exchanges gradients in backward."""
        if self._fully_shard is None:
            return DistributedDataParallel(model, gradient_as_bucket_view=True)
        for parameter in model.parameters():
            dist.broadcast(parameter.data, src=0)
        mesh = dist.init_device_mesh(self.device.type, (self.count,))
        for block in model.blocks:  # what is put together at a time
            self._fully_shard(block, mesh=mesh)
        self._fully_shard(model, mesh=mesh)
        # What is in no block stays whole after forward, since backward comes next; in validation none does.
        model.register_forward_hook(lambda *_: None if torch.is_grad_enabled() else model.reshard())
        return model

    def part(self, batch: Tensor) -> Tensor:
        """Return this process's rows: (batch, ...) -> (batch / count, ...)."""
        return batch.chunk(self.count)[self.rank]

    def mean(self, *values: Tensor) -> tuple[float, ...]:
        """Return each scalar's mean over the processes, the same numbers in all of them."""
        # With them goes whether to stop, so that all end after the same step.
        values = [self.whole(value) for value in values] + [torch.tensor(float(self._interrupted))]
        sums = torch.stack([value.to(self.device) for value in values])
        dist.all_reduce(sums)
        *means, stop = (sums / self.count).tolist()
        self._stop = self._stop or stop > 0
        return tuple(means)

    def whole(self, tensor: Tensor) -> Tensor:
        """Put a tensor together from all processes' parts; all of them must come to this call."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def share(self, tensor: Tensor, parameter: Tensor) -> Tensor:
        """Cut a tensor as parameter is cut, if it has its shape; the first process's values count."""
        if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
            return tensor
        return distribute_tensor(tensor.to(self.device), parameter.device_mesh, parameter.placements)

    @contextmanager
    def whole_step(self) -> Iterator[None]:
        """Raise KeyboardInterrupt after the step if any process has seen Ctrl-C: in all of them, or in none."""
        yield
        if self._stop:
            raise KeyboardInterrupt


def _import_fully_shard() -> Callable:
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ValueError(
            f"weights are divided by FSDP2, which torch has from 2.6 on, and this is torch {torch.__version__}: leave "
            "sharding out, or install a newer torch"
        ) from error
    return fully_shard
