"""Lesson 10. What `training.train` asks of the process that it runs in; one alone has nothing to share.

`processes.Processes` is the same for several.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["ALONE", "OneProcess"]


class OneProcess:
    """A run's only process: it reads the whole batch and holds the whole model."""

    rank: int = 0  # this process, counted from 0; the first one writes files and shows the bar
    count: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return what to call in training in the model's place, over the same parameters."""
        return model

    def part(self, batch: Tensor) -> Tensor:
        """Return the rows of a batch, (batch, ...), that this process reads."""
        return batch

    def mean(self, *values: Tensor) -> tuple[float, ...]:
        """Return each scalar's mean over the processes as a number; all at once, since a GPU is waited for."""
        return tuple(torch.stack(values).tolist())

    def whole(self, tensor: Tensor) -> Tensor:
        """Return the whole of a tensor of which each process may hold a part."""
        return tensor

    def share(self, tensor: Tensor, parameter: Tensor) -> Tensor:
        """Return this process's part of a whole tensor, if it holds no more than a part of parameter."""
        return tensor

    @contextmanager
    def whole_step(self) -> Iterator[None]:
        """Hold Ctrl-C back: within an update it would leave some weights moved and others not."""
        raise_interrupt = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(raise_interrupt):
            yield  # no Ctrl-C arrives here
            return
        arrived = []
        signal.signal(signal.SIGINT, lambda *arguments: arrived.append(arguments))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, raise_interrupt)
        if arrived:
            raise_interrupt(*arrived[0])


ALONE = OneProcess()
