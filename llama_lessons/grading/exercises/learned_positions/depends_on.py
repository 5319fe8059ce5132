"""Exercise 2: a probe that says along which axis a function encodes."""

from collections.abc import Callable
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, draw
from .trials import FLAT, LONG, SIMPLE, TRIALS, Add, Trial


def depends_on(add: Add, x: Tensor) -> tuple[bool, bool]:
    added = add(x) - x
    along_places, along_texts = added - added[:, :1], added - added[:1]
    position, sequence = (bool(d.abs().max() > 3e-4) for d in (along_places, along_texts))
    return position, sequence


def cases() -> list[tuple]:
    shape = (3, 6, 8)
    tokens = [(add, draw(*shape, seed=i)) for i, (_, add, _) in enumerate(chain(*TRIALS.values()))]
    tokens += [(add, 100 * draw(*shape, seed=i)) for i, (_, add, _) in enumerate(SIMPLE)]
    tokens += [(add, draw(*shape)) for (_, add, _), shape in LONG] + [(FLAT, 10 * draw(2, 4, 12_800))]
    return [(only_on(x.shape, add), x) for add, x in tokens]


exercise = Exercise(
    depends_on,
    points=4,
    minutes=14,
    cases=cases,
    returns=(bool, bool),
    hints=(
        "The tokens themselves differ from place to place, so compare what was *added* to them. How do you get that "
        "from add(x) and x?",
        "If `added`, (batch, seq_len, dim), does not depend on the position, then every place has the same vector as "
        "the first one: added[:, :1] keeps axis 1, and can be subtracted. For sequences, the same along axis 0.",
        "Look at the largest difference, .abs().max(), and compare it with a number between 0.00005 and 0.001. "
        "bool(...) makes a plain bool of a tensor.",
    ),
)


def expect_verdict(answer: Callable, trial: Trial, x: Tensor) -> None:
    what, add, want = trial
    got = answer(only_on(x.shape, add), x)
    if got != want:
        raise Mismatch(f"a function that adds {what}, x of shape {tuple(x.shape)}: expected {want}, got {got}")


def only_on(shape: torch.Size, add: Add) -> Add:
    """`add`, which says so where it is called on anything of another shape."""

    def guarded(tokens: Tensor) -> Tensor:
        if tokens.shape != shape:
            raise ValueError(f"call add only on tokens of x's shape, {tuple(shape)}, not on {tuple(tokens.shape)}")
        return add(tokens)

    return guarded


def right_in_all(trials: list[Trial], answer: Callable) -> None:
    for trial in trials:
        expect_verdict(answer, trial, draw(3, 6, 8))


for sentence, trials in TRIALS.items():
    exercise.property(sentence)(partial(right_in_all, trials))


@exercise.property("works for every batch of at least two sequences, and every length from two on")
def every_size(answer: Callable) -> None:
    for batch, seq_len, dim in ((2, 2, 1), (2, 5, 4), (5, 2, 4), (4, 4, 4), (16, 3, 2), (2, 64, 32)):
        for trial in SIMPLE[:4]:
            expect_verdict(answer, trial, draw(batch, seq_len, dim, seed=dim))


@exercise.property("sees one place among many, and what changes little by little")
def among_many(answer: Callable) -> None:
    for trial, shape in LONG:
        expect_verdict(answer, trial, draw(*shape))


@exercise.property("float64 tokens, and tokens in the hundreds")
def other_tokens(answer: Callable) -> None:
    for trial in SIMPLE:
        expect_verdict(answer, trial, draw(3, 6, 8, dtype=torch.float64))
        expect_verdict(answer, trial, 100 * draw(3, 6, 8))
    expect_verdict(answer, SIMPLE[3], 100 * draw(2, 4, 51_200))


exercise.slips("""
    answers exchanged: return position, sequence -> return sequence, position
        Your two answers stand in the wrong order: first the position (axis 1), then the sequence (axis 0).
    answers turned round: return position, sequence -> return not position, not sequence
        Your answers are the wrong way round: True says that what is added *does* depend on it.
    always True, True: added = add(x) - x -> added = add(x)
        Your answers are (True, True) whatever is added, as where results are compared: they differ anyway, since the
        tokens did before the sum. Subtract x first, and compare what was added.
    only the first two: added - added[:, :1], added - added[:1] -> added[:, 1] - added[:, 0], added[1] - added[0]
        You compare the first two places, and the first two sequences. What is added may differ farther on: compare all.
    two of one: added - added[:, :1], added - added[:1] -> (a := added)[0, 1] - a[0, 0], a[1, 0] - a[0, 0]
        You compare two places of the first sequence, and two sequences at the first place. What is added may differ
        elsewhere: compare all.
    first and last: added - added[:, :1], added - added[:1] -> added[:, -1] - added[:, 0], added[-1] - added[0]
        You compare the first with the last, places and sequences. Those between may differ from both: compare all.
    only in one: added - added[:, :1], added - added[:1] -> added[0] - added[0, :1], added[:, 0] - added[:1, 0]
        You look for positions in the first sequence alone, and for sequences at the first place alone: compare all.
    one sequence for positions: added - added[:, :1] -> added[0] - added[0, :1]
        You look for positions in the first sequence alone. Another one may have them: compare the places of each.
    one place for sequences: added - added[:1] -> added[:, 0] - added[:1, 0]
        You compare the sequences at the first place alone. They may differ at another: compare them at each.
    compared with the reverse: added - added[:, :1], added - added[:1] -> added - added.flip(1), added - added.flip(0)
        You compare what was added with itself in reverse order. What is the same from both ends, such as one sequence
        in the middle, is not seen: compare every place, and every sequence, with the first one.
    neighbours compared: added - added[:, :1], added - added[:1] -> added.diff(dim=1), added.diff(dim=0)
        You compare each place, and each sequence, with the next. Small steps add up: compare with the first.
    means first: added - added[:, :1], added - added[:1] -> (added - added[:, :1]).mean(0), (added - added[:1]).mean(1)
        For positions you take the mean over the sequences first, and the other way round. They may cancel: compare all.
    one place among many lost: added - added[:, :1], added - added[:1] -> added.std(dim=1), added.std(dim=0)
        One place that differs, among many, is not seen, as by a standard deviation, which it hardly moves. Compare all
        places, and look at the largest difference.
    only the first channel: added = add(x) - x -> added = (add(x) - x)[..., :1]
        You look at the first channel alone. A position may be written into any other: compare all channels.
    channels summed up: added = add(x) - x -> added = (add(x) - x).sum(dim=2, keepdim=True)
        You take the sum or the mean of the channels first. What is added to one and taken from another is lost then:
        compare each channel.
    lengths compared: added = add(x) - x -> added = (add(x) - x).norm(dim=2, keepdim=True)
        You compare how long the added vectors are, and not where they point: compare channel by channel.
    channels compared: added - added[:, :1] -> added - added[:, :, :1]
        Your first answer says whether the channels of a token differ from each other. Places run along axis 1.
    absolute values first: added = add(x) - x -> added = (add(x) - x).abs()
        You take absolute values, or squares, before you compare, so that a number and its negative count as the same.
        Take the difference first, and its absolute value after.
    joint with the sequences: added - added[:, :1] -> added - added[0, 0]
        Your first answer is True where only sequences differ, too, as by comparing with the first token of the whole
        batch. Compare each place with the first one of its own sequence.
    only downwards: d.abs().max() -> d.min().neg()
        You forget the sign: what is *more* than at the first place differs too. Take .abs() first.
    only upwards: d.abs().max() -> d.max()
        You forget the sign: what is *less* than at the first place differs too. Take .abs() first.
    exact equality: > 3e-4 -> > 0
        Your answers are those for bitwise equal numbers. (x + row) - x is not exactly the row: allow for 0.0001.
    tolerance too small: > 3e-4 -> > 1e-6
        Where tokens are large, rounding alone makes your answers True. Compare the largest difference with 0.0001.
    tolerance too large: > 3e-4 -> > 5e-3
        You forgive too much: a difference of 0.001 is no rounding. Rows of a table are small, often 0.02.
    mean in place of the largest: d.abs().max() -> d.abs().mean()
        You take the mean of the differences: a single small one is lost among the others. Look at the largest.
    differences added up: d.abs().max() -> d.abs().sum()
        You add up all differences, and so what rounding leaves in each. Look at the largest.
    is anything added?: added - added[:, :1], added - added[:1] -> added, added
        Your answers say whether anything is added at all. The same vector everywhere says nothing about a place:
        compare places with each other, and sequences with each other.
    one answer for both: return position, sequence -> return (position or sequence,) * 2
        Your two answers are always the same: does it depend on anything? Ask twice, along axis 1 and along axis 0.
    only where both: return position, sequence -> return (position and sequence,) * 2
        Your two answers are always the same, and True only where it depends on both. Answer each question by itself.
    either, or: return position, sequence -> return position and not sequence, sequence
        Your first answer is False wherever the second is True. It may depend on both: answer each question by itself.
    or, either: return position, sequence -> return position, sequence and not position
        Your second answer is False wherever the first is True. It may depend on both: answer each question by itself.
    never: return position, sequence -> return False, False
        You answer (False, False) whatever is added.
    positions, never sequences: return position, sequence -> return True, False
        You answer (True, False) whatever is added. That is right only for what depends on the position alone.
    positions alone: return position, sequence -> return position, False
        You answer False to the second question whatever is added. Some functions here differ from sequence to sequence.
    sequences alone: return position, sequence -> return False, sequence
        You answer False to the first question whatever is added. Some functions here differ from place to place.
""")


@exercise.misconception
def torch_allclose_by_itself(add, x):
    """Your answers are those of torch.allclose by itself, which forgives 0.00000001 where a number is near 0. Rounding
    makes more: give it atol=3e-4."""
    added = add(x) - x
    return not torch.allclose(added, added[:, :1]), not torch.allclose(added, added[:1])


@exercise.misconception
def all_places_must_differ(add, x):
    """You answer True only if every place, or every sequence, differs from the first one. A single one is enough."""
    added = add(x) - x
    places = (added - added[:, :1]).abs().amax(dim=(0, 2))[1:]
    texts = (added - added[:1]).abs().amax(dim=(1, 2))[1:]
    return bool((places > 3e-4).all()), bool((texts > 3e-4).all())
