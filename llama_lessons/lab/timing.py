"""How long a call takes."""

import time
from collections.abc import Callable

from torch import Tensor

__all__ = ["seconds"]


def seconds(function: Callable[..., Tensor], *arguments: object, repeat: int = 9) -> float:
    """Seconds that a call takes: the least of several, since whatever else the machine does only adds to it.

    Args:
        function: what to time; it returns a tensor, whose sum is read, so that a GPU has finished.
        arguments: what to call it with.
        repeat: how often.
    """
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function(*arguments).sum().item()
        times.append(time.perf_counter() - start)
    return min(times)
