"""What exercise 2's probe is tried on: functions that add something, and what each of them depends on."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...expect import random_tensor

Add = Callable[[Tensor], Tensor]
Trial = tuple[str, Add, tuple[bool, bool]]  # what it adds, a function of the tokens, and what is expected of it

POSITION, SEQUENCE, BOTH, NEITHER = (True, False), (False, True), (True, True), (False, False)
EVERY = slice(None)


def adding(make: Callable[[Tensor], Tensor]) -> Add:
    """The function that adds to tokens what `make` makes for their shape."""
    return lambda x: x + make(x)


def vectors(*shape: int, like: Tensor) -> Tensor:
    """Different random vectors."""
    return random_tensor(*shape, like.shape[-1], seed=17).to(like)


def marks(sequence: int | slice, place: int | slice, channel: int | slice = EVERY, by: float | Tensor = 1.0) -> Add:
    """A function that adds `by` in one place and nothing elsewhere."""

    def add(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[sequence, place, channel] = by
        return x + added

    return add


def along(axis: int, value: Callable[[Tensor], Tensor]) -> Add:
    """A function that adds value(0), value(1), ... along an axis, to channel 0, and minus that to channel 1."""

    def add(x: Tensor) -> Tensor:
        numbers = value(torch.arange(x.shape[axis])).to(x)
        added = torch.zeros_like(x).transpose(1, axis)
        added[..., 0], added[..., 1] = numbers, -numbers
        return x + added.transpose(1, axis)

    return add


def hill(n: Tensor) -> Tensor:
    """Up by 0.00004 a step as far as the middle, and down again."""
    return 4e-5 * n.minimum(n.flip(0))


# What `marks` adds to x of shape (3, 6, 8); in TURNS it cancels along both axes.
SIGNS, PAIRS = torch.tensor([1.0, -1.0] * 3), torch.eye(2).repeat(3, 1)
TURNS, FIVES = 1.0 - (torch.arange(3)[:, None] + torch.arange(6)) % 3, torch.tensor([5.0, 5.001, 5.0])
TRIALS: dict[str, list[Trial]] = {
    "tells positions, sequences, both and neither apart": [
        ("a row of a table for each position", adding(lambda x: vectors(x.shape[1], like=x)), POSITION),
        ("one vector for each sequence of the batch", adding(lambda x: vectors(len(x), 1, like=x)), SEQUENCE),
        ("nothing", adding(torch.zeros_like), NEITHER),
        ("the same vector everywhere", adding(lambda x: vectors(1, like=x)), NEITHER),
        ("a vector of its own for each token of each sequence", adding(lambda x: vectors(*x.shape[:2], like=x)), BOTH),
    ],
    "sees what is added at any place and in any sequence": [
        ("1 at the last place of each sequence", marks(EVERY, -1), POSITION),
        ("1 at one place in the middle", marks(EVERY, 2), POSITION),
        ("1 at the first and the last place of six", marks(EVERY, slice(0, None, 5)), POSITION),
        ("1 in the last sequence", marks(-1, EVERY), SEQUENCE),
        ("1 in the second sequence", marks(1, EVERY), SEQUENCE),
        ("1 at the last place of the last sequence", marks(-1, -1), BOTH),
        ("1 at the first place of the second sequence", marks(1, 0), BOTH),
        ("1, 0 and -1 in turn, from sequence to sequence a place earlier", marks(EVERY, EVERY, 0, by=TURNS), BOTH),
    ],
    "sees what is added in any channel": [
        ("1 in the last channel at place 1", marks(EVERY, 1, -1), POSITION),
        ("1 in the last channel of sequence 1", marks(1, EVERY, -1), SEQUENCE),
        ("the position to one channel, and minus the position to another", along(1, lambda n: n), POSITION),
        ("the sequence's number to one channel, and minus it to another", along(0, lambda n: n), SEQUENCE),
        ("one vector at odd places, and minus it at even ones", along(1, lambda n: n % 2 - 0.5), POSITION),
        ("one vector in odd sequences, and minus it in even ones", along(0, lambda n: n % 2 - 0.5), SEQUENCE),
        ("1 at even places and -1 at odd ones, in one channel", marks(EVERY, EVERY, 0, by=SIGNS), POSITION),
        ("1 at even places, and 1 in another channel at odd ones", marks(EVERY, EVERY, slice(2), by=PAIRS), POSITION),
    ],
    "an influence of 0.001 counts, in either direction, and rounding does not": [
        ("0.001 at place 1", marks(EVERY, 1, by=0.001), POSITION),
        ("-0.001 at place 1", marks(EVERY, 1, by=-0.001), POSITION),
        ("-0.001 in sequence 1", marks(1, EVERY, by=-0.001), SEQUENCE),
        ("0.001 in one channel of the last token of all", marks(-1, -1, -1, by=0.001), BOTH),
        ("5 at some places and 5.001 at others", marks(EVERY, EVERY, 0, by=FIVES.repeat(2)), POSITION),
        ("5 in some sequences and 5.001 in another", marks(EVERY, EVERY, 0, by=FIVES[:, None]), SEQUENCE),
        ("100 everywhere", marks(EVERY, EVERY, by=100.0), NEITHER),
    ],
}
SIMPLE = next(iter(TRIALS.values()))
FLAT = marks(EVERY, EVERY, by=0.25)

# Each with the shape of its tokens.
LONG: list[tuple[Trial, tuple[int, int, int]]] = [
    (("0.001 at one of 200 places", marks(EVERY, 137, by=0.001), POSITION), (2, 200, 4)),
    (("0.001 in one of 200 sequences", marks(137, EVERY, by=0.001), SEQUENCE), (200, 2, 4)),
    (("0.00004 more from place to place, and less again", along(1, hill), POSITION), (2, 61, 4)),
    (("0.00004 more from sequence to sequence, and less again", along(0, hill), SEQUENCE), (61, 2, 4)),
]
