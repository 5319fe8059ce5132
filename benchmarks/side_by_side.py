"""What the benchmarks share: turns taken on one machine, and the rows of the table that they fill."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

__all__ = ["THREADS", "Row", "matrix_products_per_second", "median_seconds", "weight_bytes_per_second"]

THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Args:
        what: what was measured, with its sizes.
        unit: of both figures, such as "tokens/s".
        ours: our figure.
        peer: who it is compared with.
        theirs: the peer's figure, from the same run.
        better: how many times better ours is: more of it, or less of it where less is better.
        share_of_limit: of what the machine could do at most, between 0 and 1, where there is such a limit.
    """

    what: str
    unit: str
    ours: float
    peer: str
    theirs: float
    better: float
    share_of_limit: float | None = None


def median_seconds(contestants: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3) -> dict[str, float]:
    """Median seconds of a call of each; they take turns, so that what else the machine does falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(warm_up + rounds):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            if round_ >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def matrix_products_per_second(size: int = 1024) -> float:
    """Floating-point operations a second in products of square float32 matrices: the limit of training."""
    a, b = torch.randn(2, size, size)
    return 2 * size**3 / median_seconds({"product": lambda: a @ b}, rounds=20)["product"]


@torch.inference_mode()
def weight_bytes_per_second(n_bytes: int) -> float:
    """Bytes of float32 weights per second in the product of one large matrix and a vector: the limit of decoding.

    Args:
        n_bytes: of the matrix; more than fits a cache.
    """
    weight, vector = torch.randn(n_bytes // 4 // 4096, 4096), torch.randn(1, 4096)
    return weight.nbytes / median_seconds({"product": lambda: F.linear(vector, weight)}, rounds=10)["product"]
