"""Exercise 2: a probe that says along which axis a function encodes."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON, draw
from .trials import Add, Trial, channel_trials, hidden_trials, small_trials, trials

__all__ = ["probe"]


def reference_depends_on(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    position = (added - added[:, :1]).abs().max() > 1e-4
    row = (added - added[:1]).abs().max() > 1e-4
    return bool(position), bool(row)


def cases() -> list[tuple]:
    every = [*trials(), *hidden_trials(), *channel_trials(), *small_trials()]
    return [(add, draw(3, 6, 8, seed=seed)) for seed, (_, add, _) in enumerate(every)]


probe = Exercise(
    name="depends_on",
    lesson=LESSON,
    points=4,
    minutes=14,
    parameters=("add", "x"),
    reference=reference_depends_on,
    cases=cases,
    returns=(bool, bool),
    hints=(
        "The tokens themselves differ from place to place, so compare what was *added* to them. How do you get that "
        "from add(x) and x?",
        "Let `added` have the shape (batch, seq_len, dim). If it does not depend on the position, then every place of "
        "a sequence has the same vector as its first place: added[:, :1] keeps axis 1, so it can be subtracted from "
        "all. For sequences, the same along axis 0.",
        "Look at the largest difference, .abs().max(), and compare it with a number between 0.00005 and 0.001. "
        "bool(...) makes a plain bool of a tensor.",
    ),
)


def expect_verdict(answer: Callable, trial: Trial, x: Tensor) -> None:
    what, add, want = trial
    got = tuple(answer(only_on(x.shape, add), x))
    if got != want:
        raise Mismatch(f"a function that adds {what}, x of shape {tuple(x.shape)}: expected {want}, got {got}")


def only_on(shape: torch.Size, add: Add) -> Add:
    """`add`, which says so where it is called on anything of another shape."""

    def guarded(tokens: Tensor) -> Tensor:
        if tokens.shape != shape:
            raise ValueError(f"call add only on tokens of x's shape, {tuple(shape)}, not on {tuple(tokens.shape)}")
        return add(tokens)

    return guarded


def all_of(trials: Callable[[], list]) -> Callable[[Callable], None]:
    def test(answer: Callable) -> None:
        for trial in trials():
            expect_verdict(answer, trial, draw(3, 6, 8))

    return test


probe.property("tells positions, sequences, both and neither apart")(all_of(trials))
probe.property("sees what is added at any place and in any sequence")(all_of(hidden_trials))
probe.property("sees what is added in any channel")(all_of(channel_trials))
probe.property("an influence of 0.001 counts, in either direction, and rounding does not")(all_of(small_trials))


@probe.property("works for every batch of at least two sequences, and every length from two on")
def _(answer: Callable) -> None:
    for batch, seq_len, dim in ((2, 2, 1), (2, 5, 4), (5, 2, 4), (4, 4, 4), (16, 3, 2), (2, 64, 32)):
        x = draw(batch, seq_len, dim, seed=dim)
        for trial in (*trials()[:4], hidden_trials()[0], hidden_trials()[3]):
            expect_verdict(answer, trial, x)


@probe.property("float64 tokens, and tokens in the hundreds")
def _(answer: Callable) -> None:
    for trial in trials():
        expect_verdict(answer, trial, draw(3, 6, 8).double())
        expect_verdict(answer, trial, 200 * draw(3, 6, 8))


def differs(differences: Tensor, tolerance: float = 1e-4) -> bool:
    return bool(differences.abs().max() > tolerance)


@probe.misconception(
    "answers exchanged",
    "Your two answers stand in the wrong order: first whether it depends on the position (axis 1), then whether on "
    "the sequence (axis 0).",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    return reference_depends_on(add, x)[::-1]


@probe.misconception(
    "answers turned round",
    "Your answers are the wrong way round: True says that what is added *does* depend on it.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    position, row = reference_depends_on(add, x)
    return not position, not row


@probe.misconception(
    "results compared, not what was added",
    "You compare the tokens after the sum. They differ anyway, since the tokens did before. Subtract x first.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    after = add(x)
    return differs(after - after[:, :1]), differs(after - after[:1])


@probe.misconception(
    "two places, two sequences",
    "You compare the first two places and the first two sequences. What is added may differ farther on: compare all.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return differs(added[:, 1] - added[:, 0]), differs(added[1] - added[0])


@probe.misconception(
    "first and last",
    "You compare the first place with the last one, and the first sequence with the last one. Those between may differ "
    "from both: compare all.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return differs(added[:, -1] - added[:, 0]), differs(added[-1] - added[0])


@probe.misconception(
    "one sequence for positions, one place for sequences",
    "You look for positions in the first sequence alone, and for sequences at the first place alone. Compare the whole "
    "of what was added: (batch, seq_len, dim).",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return differs(added[0] - added[0, :1]), differs(added[:, 0] - added[:1, 0])


@probe.misconception(
    "one sequence for positions",
    "You look for positions in the first sequence alone, added[0]. Another one may have them: compare the places of "
    "each.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return differs(added[0] - added[0, :1]), differs(added - added[:1])


@probe.misconception(
    "one place for sequences",
    "You compare the sequences at the first place alone, added[:, 0]. They may differ at another: compare them at "
    "each.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return differs(added - added[:, :1]), differs(added[:, 0] - added[:1, 0])


@probe.misconception(
    "compared with the reverse",
    "You compare what was added with itself in reverse order. What is the same from both ends, such as one sequence "
    "in the middle, is not seen: compare every place with the first one, and every sequence too.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return differs(added - added.flip(1)), differs(added - added.flip(0))


@probe.misconception(
    "only the first channel",
    "You look at the first channel alone. A position may be written into any other: compare all channels.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = (add(x) - x)[..., :1]
    return differs(added - added[:, :1]), differs(added - added[:1])


@probe.misconception(
    "channels summed up",
    "You take the sum or mean over the channels before you compare. What is added to one channel and taken from "
    "another is lost then: compare channel by channel.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = (add(x) - x).sum(dim=-1, keepdim=True)
    return differs(added - added[:, :1]), differs(added - added[:1])


@probe.misconception(
    "lengths compared",
    "You compare how long the added vectors are, by a norm over the channels. Two vectors of the same length may point "
    "in different directions: compare channel by channel.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    length = (add(x) - x).norm(dim=-1)
    return differs(length - length[:, :1]), differs(length - length[:1])


@probe.misconception(
    "means compared",
    "For positions you take the mean over the sequences first, or for sequences the mean over the places. The rest may "
    "cancel: compare every token.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    by_place, by_row = added.mean(dim=0), added.mean(dim=1)
    return differs(by_place - by_place[:1]), differs(by_row - by_row[:1])


@probe.misconception(
    "only upwards",
    "You look for differences above a tolerance and forget their sign: what is *less* than at the first place differs "
    "too. Take .abs() first.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return bool((added - added[:, :1]).max() > 1e-4), bool((added - added[:1]).max() > 1e-4)


@probe.misconception(
    "exact equality",
    "You ask for bitwise equal numbers. (x + row) - x is not exactly the row, since the sum was rounded. Allow for "
    "differences up to 0.0001.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return differs(added - added[:, :1], 0.0), differs(added - added[:1], 0.0)


@probe.misconception(
    "tolerance too small",
    "Your tolerance is too small: (x + row) - x is off by rounding. (torch.allclose by itself forgives hardly more "
    "than 0.00000001 where a number is near 0: give it atol=0.0003.)",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return not torch.allclose(added, added[:, :1]), not torch.allclose(added, added[:1])


@probe.misconception(
    "mean in place of the largest",
    "You compare the mean of the differences, or all of them together, with the tolerance: a single small one is lost "
    "among the others. Look at the largest.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return bool((added - added[:, :1]).abs().mean() > 1e-4), bool((added - added[:1]).abs().mean() > 1e-4)


@probe.misconception(
    "tolerance too large",
    "You forgive too much: a difference of 0.001 is no rounding. Rows of a table are small, often 0.02.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return differs(added - added[:, :1], 1e-2), differs(added - added[:1], 1e-2)


@probe.misconception(
    "all places must differ",
    "You answer True only if every place, or every sequence, differs from the first one. A single one that differs "
    "is enough: what is added depends on the place then.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    places = (added - added[:, :1]).abs().amax(dim=(0, 2))[1:]
    rows = (added - added[:1]).abs().amax(dim=(1, 2))[1:]
    return bool((places > 1e-4).all()), bool((rows > 1e-4).all())


@probe.misconception(
    "is anything added?",
    "You ask whether anything is added at all. The same vector everywhere says nothing about a place: compare places "
    "with each other, and sequences with each other.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    something = differs(add(x) - x)
    return something, something


@probe.misconception(
    "one answer for both",
    "Your two answers are always the same: does what is added depend on anything? Ask twice, along axis 1 and along "
    "axis 0.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    return (any(reference_depends_on(add, x)),) * 2


@probe.misconception(
    "either, or",
    "You say that it depends on the position only where it does not depend on the sequence. It may depend on both: "
    "answer each question by itself.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    position, row = reference_depends_on(add, x)
    return position and not row, row


@probe.misconception(
    "positions alone",
    "You take for granted that nothing depends on the sequence. That is just what the famous bug does.",
)
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    return reference_depends_on(add, x)[0], False


@probe.alternative
def depends_on(add: Add, x: Tensor) -> tuple[bool, bool]:
    zeros = torch.zeros_like(x)
    added = add(zeros)
    places = any(not torch.allclose(added[:, i], added[:, 0], atol=1e-4) for i in range(x.shape[1]))
    sequences = any(not torch.allclose(added[i], added[0], atol=1e-4) for i in range(x.shape[0]))
    return places, sequences


@probe.alternative
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    spread = [(added.amax(dim=axis) - added.amin(dim=axis)).max().item() for axis in (1, 0)]
    return spread[0] > 3e-4, spread[1] > 3e-4


@probe.alternative
def _(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    return bool(added.std(dim=1).max() > 1e-4), bool(added.std(dim=0).max() > 1e-4)
