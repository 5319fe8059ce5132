"""Other answers to depends_on."""

import itertools

import numpy as np
import torch

from llama_lessons.lab.probes import mixes_batch_rows
from tests.grading.answers import right, wrong


@right
def by_pairs(add, x):
    added = (add(x) - x).tolist()
    places = itertools.product(range(x.shape[0]), itertools.combinations(range(x.shape[1]), 2))
    rows = itertools.product(itertools.combinations(range(x.shape[0]), 2), range(x.shape[1]))

    def far(a, b):
        return any(abs(p - q) > 5e-4 for p, q in zip(a, b, strict=True))

    by_position = any(far(added[b][i], added[b][j]) for b, (i, j) in places)
    by_row = any(far(added[b][i], added[c][i]) for (b, c), i in rows)
    return by_position, by_row


@right
def in_numpy(add, x):
    added = (add(x) - x).detach().cpu().numpy()
    return tuple(bool(np.ptp(added, axis=axis).max() > 5e-4) for axis in (1, 0))


@right
def as_a_list_against_the_mean(add, x):
    added = add(torch.ones_like(x)) - 1
    return [(added - added.mean(axis, keepdim=True)).abs().max().item() > 1e-4 for axis in (1, 0)]


@wrong()
def one_tensor_with_both(add, x):
    added = add(x) - x
    return torch.stack([(added - added[:, :1]).abs().max(), (added - added[:1]).abs().max()]) > 1e-4


@wrong()
def one_text_at_a_time(add, x):
    alone = torch.cat([add(x[i : i + 1]) - x[i : i + 1] for i in range(len(x))])
    return bool((alone - alone[:, :1]).abs().max() > 1e-4), bool((alone - alone[:1]).abs().max() > 1e-4)


@wrong()
def by_shuffling_the_tokens(add, x):
    order = torch.arange(x.shape[1] - 1, -1, -1)
    position = not torch.allclose(add(x[:, order]), add(x)[:, order], atol=1e-4)
    return position, not torch.allclose(add(x.flip(0)), add(x).flip(0), atol=1e-4)


@wrong()
def neighbours_of_the_first_text(add, x):
    added = add(x) - x
    return bool(added[0].diff(dim=0).abs().max() > 1e-4), bool(added.diff(dim=0).abs().max() > 1e-4)


@wrong()
def changes_the_tokens(add, x):
    before = x.clone()
    x.copy_(add(x) - x)
    return in_numpy(lambda y: y + x, before)


@wrong()
def by_the_name(add, x):
    return "position" in add.__name__, "batch" in add.__name__


@wrong()
def positions_by_the_reverse(add, x):
    added = add(x) - x
    return (added - added.flip(1)).abs().max().item() > 1e-4, (added - added[:1]).abs().max().item() > 1e-4


@wrong(called="lengths compared")
def by_the_lengths(add, x):
    lengths = (add(x) - x).norm(dim=-1)
    return tuple((lengths.amax(axis) - lengths.amin(axis)).max().item() > 1e-4 for axis in (1, 0))


@wrong()
def by_the_mean_difference(add, x):
    added = add(x) - x
    return tuple(added.diff(dim=axis).abs().mean().item() > 1e-5 for axis in (1, 0))


@wrong()
def with_the_probe_of_the_lesson(add, x):
    added = add(x) - x
    return bool((added - added[:, :1]).abs().max() > 1e-4), mixes_batch_rows(add, x)


@right
def on_zeros_by_allclose(add, x):
    added = add(torch.zeros_like(x))
    places = any(not torch.allclose(added[:, i], added[:, 0], atol=1e-4) for i in range(x.shape[1]))
    return places, any(not torch.allclose(added[i], added[0], atol=1e-4) for i in range(x.shape[0]))


@right
def by_largest_and_smallest(add, x):
    added = add(x) - x
    spread = [(added.amax(dim=axis) - added.amin(dim=axis)).max().item() for axis in (1, 0)]
    return spread[0] > 3e-4, spread[1] > 3e-4


@right
def by_rolling_all_the_way(add, x):
    added = add(x) - x
    return tuple(
        any(not torch.allclose(added, added.roll(n, axis), rtol=0, atol=3e-4) for n in range(1, x.shape[axis]))
        for axis in (1, 0)
    )


@right
def in_float64_against_all(add, x):
    added = (add(x) - x).double()
    places = (added[:, :, None] - added[:, None]).abs().max() > 2e-4
    return places.item(), ((added[:, None] - added[None]).abs().max() > 2e-4).item()


@wrong(called="neighbours compared")
def by_rolling(add, x):
    added = add(x) - x
    return tuple(not torch.allclose(added, added.roll(1, axis), rtol=0, atol=3e-4) for axis in (1, 0))


@wrong(called="neighbours compared")
def step_by_step(add, x):
    added = add(x) - x
    places = any((added[:, i + 1] - added[:, i]).abs().max() > 1e-4 for i in range(x.shape[1] - 1))
    return places, any((added[i + 1] - added[i]).abs().max() > 1e-4 for i in range(x.shape[0] - 1))


@wrong(called="one place among many lost")
def by_the_standard_deviation(add, x):
    added = add(x) - x
    return bool(added.std(dim=1).max() > 1e-4), bool(added.std(dim=0).max() > 1e-4)


@wrong()
def by_the_variance(add, x):
    added = add(x) - x
    return bool(added.var(dim=1).max() > 1e-7), bool(added.var(dim=0).max() > 1e-7)


@wrong(called="tolerance too large")
def to_two_digits(add, x):
    added = (add(x) - x).round(decimals=2)
    return not bool((added == added[:, :1]).all()), not bool((added == added[:1]).all())


@wrong(called="exact equality")
def by_equal(add, x):
    added = add(x) - x
    return (
        not torch.equal(added, added[:, :1].expand_as(added)),
        not torch.equal(added, added[:1].expand_as(added)),
    )


@wrong(called="torch allclose by itself")
def by_allclose_without_a_tolerance(add, x):
    added = add(x) - x
    return (
        any(not torch.allclose(added[:, i], added[:, 0]) for i in range(x.shape[1])),
        any(not torch.allclose(added[i], added[0]) for i in range(x.shape[0])),
    )


@wrong()
def by_unique_vectors(add, x):
    added = (add(x) - x).round(decimals=3)
    return len(added[0].unique(dim=0)) > 1, len(added[:, 0].unique(dim=0)) > 1


@wrong(called="answers exchanged")
def axis_0_first(add, x):
    added = add(x) - x
    first, second = ((added - added.select(axis, 0).unsqueeze(axis)).abs().max() > 1e-4 for axis in (0, 1))
    return bool(first), bool(second)


@wrong(called="only in one")
def along_the_edges(add, x):
    added = add(x) - x
    return (
        any((added[0, i] - added[0, 0]).abs().max().item() > 1e-4 for i in range(x.shape[1])),
        any((added[i, 0] - added[0, 0]).abs().max().item() > 1e-4 for i in range(x.shape[0])),
    )


@wrong()
def returns_tensors(add, x):
    added = add(x) - x
    return (added - added[:, :1]).abs().max() > 1e-4, (added - added[:1]).abs().max() > 1e-4


@wrong(called="always True, True")
def without_subtracting(add, x):
    y = add(x)
    return not torch.allclose(y, y[:, :1].expand_as(y), atol=1e-4), not torch.allclose(y, y[:1].expand_as(y), atol=1e-4)


@wrong()
def on_two_tokens(add, x):
    added = add(x[:2, :2]) - x[:2, :2]
    return bool((added[:, 0] - added[:, 1]).abs().max() > 1e-4), bool((added[0] - added[1]).abs().max() > 1e-4)


@wrong(called=None)
def by_the_length_of_all_differences(add, x):
    added = add(x) - x
    return bool((added - added[:, :1]).norm() > 5e-4), bool((added - added[:1]).norm() > 5e-4)


@wrong(never=("differences added up", "exact equality"))
def rounded_to_three_digits(add, x):
    added = ((add(x) - x) * 1e3).round()
    return bool((added != added[:, :1]).any()), bool((added != added[:1]).any())


@wrong(never=("differences added up",))
def with_a_tolerance_of_a_hundred_thousandth(add, x):
    added = add(x) - x
    return bool((added - added[:, :1]).abs().max() > 1e-5), bool((added - added[:1]).abs().max() > 1e-5)


@wrong(called="channels compared")
def along_axis_2(add, x):
    added = add(x) - x
    return bool((added - added[..., :1]).abs().max() > 1e-4), bool((added - added[:1]).abs().max() > 1e-4)


@wrong(called="never")
def all_must_differ(add, x):
    added = add(x) - x
    places, texts = torch.isclose(added, added[:, :1], atol=1e-4), torch.isclose(added, added[:1], atol=1e-4)
    return bool((~places).all()), bool((~texts).all())


def spread(axis, added):
    return (added.amax(axis) - added.amin(axis)).max().item() > 3e-4


@wrong(called="joint with the sequences")
def either_for_positions(add, x):
    added = add(x) - x
    position, sequence = spread(1, added), spread(0, added)
    return position or sequence, sequence


def from_what_is_added(called, name, verdict):
    """A wrong answer that returns verdict(added)."""

    def answer(add, x):
        return verdict(add(x) - x)

    answer.__name__ = name
    wrong(called=called)(answer)


for called, name, verdict in (
    ("means first", "by_means_over_the_other_axis", lambda d: (spread(0, d.mean(0)), spread(0, d.mean(1)))),
    (None, "positions_by_the_mean", lambda d: (spread(0, d.mean(0)), spread(0, d))),
    (None, "sequences_by_the_mean", lambda d: (spread(1, d), spread(0, d.mean(1)))),
    (None, "positions_by_the_largest", lambda d: (spread(0, d.amax(0)) or spread(0, d.amin(0)), spread(0, d))),
    ("absolute values first", "by_absolute_values", lambda d: (spread(1, d.abs()), spread(0, d.abs()))),
    (None, "by_squares", lambda d: (spread(1, d.square()), spread(0, d.square()))),
    (None, "by_sorted_channels", lambda d: (spread(1, d.sort(-1).values), spread(0, d.sort(-1).values))),
    ("joint with the sequences", "against_the_first_token", lambda d: (spread(0, d.flatten(0, 1)), spread(0, d))),
    (
        "only downwards",
        "what_falls",
        lambda d: ((d - d[:, :1]).min().item() < -2e-4, (d - d[:1]).min().item() < -2e-4),
    ),
    (
        None,
        "by_the_largest_channel",
        lambda d: ((d.argmax(2) != d.argmax(2)[:, :1]).any().item(), (d.argmax(2) != d.argmax(2)[:1]).any().item()),
    ),
    (
        None,
        "within_a_hundredth",
        lambda d: tuple(not torch.allclose(d, first, rtol=1e-2, atol=1e-4) for first in (d[:, :1], d[:1])),
    ),
):
    from_what_is_added(called, name, verdict)
