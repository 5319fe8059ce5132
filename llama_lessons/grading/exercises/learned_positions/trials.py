"""What exercise 2's probe is tried on: functions that add something, and what each of them depends on."""

from collections.abc import Callable

import torch
from torch import Tensor

from .common import draw

__all__ = ["Add", "Trial", "channel_trials", "hidden_trials", "small_trials", "trials"]

Add = Callable[[Tensor], Tensor]
Trial = tuple[str, Add, tuple[bool, bool]]  # a sentence, a function, and what is expected of it


def table(n: int, x: Tensor) -> Tensor:
    """n different random vectors."""
    return draw(n, x.shape[-1], seed=17).to(x)


def adds_nothing(x: Tensor) -> Tensor:
    return x.clone()


def adds_one_vector(x: Tensor) -> Tensor:
    return x + table(1, x)


def adds_positions(x: Tensor) -> Tensor:
    return x + table(x.shape[1], x)


def adds_along_the_batch(x: Tensor) -> Tensor:
    return x + table(x.shape[0], x)[:, None]


def adds_to_each_its_own(x: Tensor) -> Tensor:
    return x + table(x.shape[0] * x.shape[1], x).unflatten(0, x.shape[:2])


def adds_positions_after_padding(x: Tensor) -> Tensor:
    """The last sequence begins one token later, so its first token stands nowhere."""
    rows = table(x.shape[1], x).expand_as(x).clone()
    rows[-1] = rows[-1].roll(1, dims=0)
    return x + rows


def marks(sequence: int | slice, place: int | slice, channel: int | slice = slice(None), by: float = 1.0) -> Add:
    """A function that adds `by` in one place and nothing elsewhere."""

    def add(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[sequence, place, channel] = by
        return x + added

    return add


def opposite_channels(axis: int) -> Add:
    """What is added differs along an axis in two channels, and not in their sum."""

    def add(x: Tensor) -> Tensor:
        number = torch.arange(x.shape[axis], device=x.device, dtype=x.dtype)
        number = number[:, None] if axis == 0 else number[None]
        added = torch.zeros_like(x)
        added[..., 1], added[..., 2] = number, -number
        return x + added

    return add


def turned_round(axis: int) -> Add:
    """What is added points the other way at each second number along an axis, and is as long everywhere."""

    def add(x: Tensor) -> Tensor:
        sign = 1 - 2.0 * (torch.arange(x.shape[axis], device=x.device) % 2 == 0)
        return x + (sign[:, None, None] if axis == 0 else sign[:, None]).to(x.dtype)

    return add


EVERY = slice(None)


def trials() -> list[Trial]:
    return [
        ("a row of a table for each position", adds_positions, (True, False)),
        ("one vector for each sequence of the batch", adds_along_the_batch, (False, True)),
        ("nothing", adds_nothing, (False, False)),
        ("the same vector everywhere", adds_one_vector, (False, False)),
        ("a vector of its own for each token of each sequence", adds_to_each_its_own, (True, True)),
        ("positions, but one later in the last sequence", adds_positions_after_padding, (True, True)),
    ]


def hidden_trials() -> list[Trial]:
    return [
        ("1 at the last place of each sequence", marks(EVERY, -1), (True, False)),
        ("1 at one place in the middle", marks(EVERY, 2), (True, False)),
        ("1 at each second place", marks(EVERY, slice(1, None, 2)), (True, False)),
        ("1 at the first and the last place of six", marks(EVERY, slice(0, None, 5)), (True, False)),
        ("1 in the last sequence", marks(-1, EVERY), (False, True)),
        ("1 in the second sequence", marks(1, EVERY), (False, True)),
        ("1 at the last place of the last sequence", marks(-1, -1), (True, True)),
        ("1 at the first place of the second sequence", marks(1, 0), (True, True)),
    ]


def channel_trials() -> list[Trial]:
    return [
        ("1 in the last channel at place 1", marks(EVERY, 1, -1), (True, False)),
        ("1 in the last channel of sequence 1", marks(1, EVERY, -1), (False, True)),
        ("the position to one channel, and minus the position to another", opposite_channels(1), (True, False)),
        ("one vector at odd places, and minus it at even ones", turned_round(1), (True, False)),
        ("one vector in odd sequences, and minus it in even ones", turned_round(0), (False, True)),
        ("the sequence's number to one channel, and minus it to another", opposite_channels(0), (False, True)),
    ]


def small_trials() -> list[Trial]:
    return [
        ("0.001 at place 1", marks(EVERY, 1, by=0.001), (True, False)),
        ("-0.001 at place 1", marks(EVERY, 1, by=-0.001), (True, False)),
        ("0.001 in sequence 1", marks(1, EVERY, by=0.001), (False, True)),
        ("-0.001 in sequence 1", marks(1, EVERY, by=-0.001), (False, True)),
        ("0.001 in one channel of the last token of all", marks(-1, -1, -1, by=0.001), (True, True)),
        ("100 everywhere", marks(EVERY, EVERY, by=100.0), (False, False)),
    ]
