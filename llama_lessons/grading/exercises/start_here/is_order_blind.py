"""The exercise of lesson 00: does a function of a token sequence know the order of its tokens?"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, draw
from . import mixes
from .mixes import Mix, attention, marks_place, only_adds_positions


def is_order_blind(mix: Mix, x: Tensor) -> bool:
    orders = [torch.randperm(x.shape[1]) for _ in range(4)] + [torch.arange(x.shape[1] - 1, -1, -1)]
    result = mix(x)
    for order in orders:
        got, want = mix(x[:, order]), result[:, order]
        if not torch.allclose(got, want, atol=1e-4):
            return False
    return True


def cases() -> list[tuple]:
    """Which places, channels and rows are looked at, and which tokens are moved, tells what somebody does."""
    blind = [attention, mixes.adds_the_mean, mixes.sums_exponentials, mixes.weighs_channels]
    blind += [mixes.each_token_alone] * 5
    known = [only_adds_positions, mixes.knows_distance_to_middle, mixes.adds_the_number_of_its_pair]
    known += [mixes.on_a_ring(1, 0.5, 0.25), mixes.on_a_ring(1, 1, 1), mixes.on_a_ring(0, 1, 0)]
    known += [mixes.attention_with_positions, mixes.causal_attention] * 3
    known += [mixes.turns_signs, mixes.orders_some(2, 0, 1, -1), mixes.orders_some(2, 0, 0, 0, 1)]
    known += [mixes.orders_some(0, 0, 0, 1), mixes.orders_some(0, 1, 0, -1)]
    known += [marks_place(place) for place in (0, 1, 2, 61, 63)] + [mixes.hears(place) for place in (0, 1, 2, 61, 63)]
    known += [marks_place(9, 8e-4), marks_place(50, 8e-4), marks_place(9, 1.0)]
    known += [lambda x: x + 8e-4 * (mixes.positions(x) % 2)]
    # Of two tokens the one random order is often the order they came in.
    few = [(only_adds_positions, draw(3, 2, 8)), (mixes.knows_distance_to_middle, draw(3, 3, 8))]
    return [(mix, draw(3, 64, 8, seed=seed)) for seed, mix in enumerate(blind + known)] + few


exercise = Exercise(
    is_order_blind,
    points=3,
    minutes=8,
    cases=cases,
    returns=bool,
    hints=(
        "Shuffle the tokens, then compare what comes out. torch.randperm(n) is a random order of n things, and "
        "x[:, order] puts the tokens of x (its axis 1) into that order.",
        "If order does not matter, then a token that moves from place 2 to place 5 takes its result along. "
        "So mix(x[:, order]) should equal mix(x) after one more operation. Which?",
        "Sums taken in another order differ in the last digit: compare with torch.allclose and a tolerance such as "
        "atol=1e-4. And one shuffle may by chance be no shuffle at all, so try several.",
    ),
)


def expect_verdict(answer: Callable, mix: Mix, blind: bool, what: str, **shape: int) -> None:
    x = draw(*({"batch": 3, "seq_len": 16, "dim": 8} | shape).values())
    got = answer(mix, x)
    if got != blind:
        raise Mismatch(f"{what}, x of shape {tuple(x.shape)}: expected {blind}, got {got}")


@exercise.property("attention without positions is order-blind")
def attention_is(answer: Callable) -> None:
    expect_verdict(answer, attention, True, "attention without positions or mask")


@exercise.property("attention with positions added, or with a causal mask, is not order-blind")
def positions_and_masks_are_noticed(answer: Callable) -> None:
    expect_verdict(answer, mixes.attention_with_positions, False, "attention on x plus its position number")
    expect_verdict(answer, mixes.causal_attention, False, "causal attention, whose mask tells order")


@exercise.property("sums and single tokens are order-blind")
def sums_are(answer: Callable) -> None:
    expect_verdict(answer, mixes.adds_the_mean, True, "each token plus the mean of all tokens")
    expect_verdict(answer, mixes.each_token_alone, True, "a function of each token alone")
    expect_verdict(answer, mixes.weighs_channels, True, "a sum over tokens, each channel with a weight of its own")
    expect_verdict(answer, lambda x: x + torch.arange(len(x)).to(x)[:, None, None], True, "x plus its row's number")


@exercise.property("order is noticed even where a special reordering changes nothing")
def symmetric_ones_are_not(answer: Callable) -> None:
    expect_verdict(answer, mixes.knows_distance_to_middle, False, "each token times its distance to the middle")
    expect_verdict(answer, mixes.on_a_ring(1, 0.5, 0.25), False, "each token mixed with its neighbours on a ring")
    expect_verdict(answer, mixes.on_a_ring(1, 1, 1), False, "each token plus its two neighbours on a ring")
    expect_verdict(answer, mixes.adds_the_number_of_its_pair, False, "two tokens each plus the number of their pair")
    expect_verdict(answer, only_adds_positions, False, "each token plus its position number")
    expect_verdict(answer, mixes.on_a_ring(0, 1, 0), False, "each token's result handed on to the next one")


@exercise.property("a small influence of order counts, rounding does not")
def small_influence_counts(answer: Callable) -> None:
    expect_verdict(answer, marks_place(0), False, "attention plus 0.001 at the first of many places", seq_len=128)
    what = "4 everywhere, plus 0.001 at the first place"
    expect_verdict(answer, lambda x: 0 * x + 4 + 0.001 * (mixes.positions(x) == 0), False, what)
    expect_verdict(answer, attention, True, "attention on many tokens, where sums round", seq_len=64, dim=64)
    expect_verdict(answer, mixes.adds_the_mean, True, "a sum over many tokens, which rounds", seq_len=128, dim=4)
    expect_verdict(answer, mixes.sums_exponentials, True, "a large sum, which rounds", seq_len=64)


@exercise.property("works at every batch size and length, in every row")
def every_size_and_row(answer: Callable) -> None:
    for batch, seq_len in ((1, 2), (1, 3), (2, 5), (5, 2)):
        expect_verdict(answer, attention, True, "attention", batch=batch, seq_len=seq_len)
    for batch in range(1, 21):
        # One random order of a few tokens is now and then no change at all.
        expect_verdict(answer, only_adds_positions, False, "x plus its position number", batch=batch, seq_len=3)
        expect_verdict(
            answer, mixes.knows_distance_to_middle, False, "x times distance to middle", batch=batch, seq_len=4
        )
    for signs in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, -1)):
        what = f"positions times {signs} added to the three rows of the batch"
        expect_verdict(answer, mixes.orders_some(0, *signs), False, what)
    what = "positions added only in rows whose mean is negative"
    expect_verdict(answer, mixes.orders_negative_rows, False, what, batch=6)


@exercise.property("order is noticed at each place and in each channel")
def every_place_and_channel(answer: Callable) -> None:
    for seq_len in (3, 9):
        for place in range(seq_len):
            what = f"attention plus 0.001 at place {place}"
            expect_verdict(answer, marks_place(place), False, what, seq_len=seq_len)
    what = "positions added to one channel and taken from another"
    expect_verdict(answer, mixes.orders_some(2, 0, 1, -1), False, what)
    expect_verdict(answer, mixes.turns_signs, False, "the sign of each second token changed")


exercise.slips("""
    output not shuffled back: result[:, order] -> result
        Your answers are those of somebody who compares place by place, or reorders the wrong way round. A token that
        moved takes its result along: compare with mix(x)[:, order]. (It is argsort(order) that undoes order.)
    one order, not shuffled back: result[:, order] -> result; return torch.allclose(got, want, atol=1e-4)
        Your answers are those of somebody who tries one order, and compares place by place or reorders the wrong way
        round. A token that moved takes its result along: compare with mix(x)[:, order], and try several orders.
    exact equality: torch.allclose(got, want, atol=1e-4) -> torch.equal(got, want)
        Your answers are those of somebody who asks for equality to the last digit. After a shuffle attention adds the
        same terms in another order, and that digit depends on it. Use torch.allclose, with atol=1e-4.
    tolerance too small: want, atol=1e-4 -> want
        Your answers are those of somebody with a small tolerance, such as torch.allclose has by itself: 1e-8 beside
        1e-5 of each number. Sums that come out near zero are rounded by more than that. Give it atol=1e-4.
    one order, and a tolerance too small: result[:, order] -> result[:, order]; return torch.allclose(got, want)
        Your answers are those of somebody who tries one order, which may change nothing, with the tolerance that
        torch.allclose has by itself: sums near zero are rounded by more. Try several, with atol=1e-4.
    tolerance too large: atol=1e-4 -> atol=1e-2
        Your answers are those of somebody who forgives too much, by a large tolerance or an average. 0.001 at one place
        is an influence of order, not rounding: give torch.allclose atol=1e-4.
    average difference: torch.allclose(got, want, atol=1e-4) -> (got - want).abs().mean() < 1e-4
        Your answers are those of somebody who averages differences over all numbers, which hides one that few of them
        have. Take the largest, or torch.allclose.
    only as a set: (got, want, -> (got.sort(dim=1).values, want.sort(dim=1).values,
        Your answers are those of somebody who compares results as a set, such as sorted ones. A function that hands
        each token's result on to its neighbour passes that, and knows order. Compare token by token.
    only the total: (got, want, -> (got.mean(dim=1), want.mean(dim=1),
        Your answers are those of somebody who compares sums or means over all tokens. Compare token by token.
    only the total, reversed: mix(x[:, order]), result[:, order] -> mix(x.flip(1)).sum(1), result.sum(1)
        Your answers are those of somebody who compares sums over all tokens, in one reversed order. A sum hides which
        token got what, and one order shows little: compare token by token, in several random orders.
    only the first row: (got, want, -> (got[0], want[0],
        Your answers are those of somebody who compares the first row of the batch alone. Compare all rows.
    only one token: (got, want, -> (got[:, x.shape[1] // 2], want[:, x.shape[1] // 2],
        Your answers are those of somebody who compares the token at one place alone. Compare all tokens.
    only the first channel: (got, want, -> (got[..., 0], want[..., 0],
        Your answers are those of somebody who compares the first channel alone. Compare whole tokens.
    only sums over channels: (got, want, -> (got.sum(dim=-1), want.sum(dim=-1),
        Your answers are those of somebody who compares sums over channels. Compare whole tokens.
    one order only: in orders -> in orders[:1]
        Your answers are those of somebody who tries one random order, which for few tokens may be the order they stood
        in. Try several, and answer True only when all have passed. (Does a loop return in its first round?)
    the first two tokens exchanged: in orders -> in [torch.tensor([1, 0, *range(2, x.shape[1])])]
        Your answers are those of somebody who exchanges the first two tokens alone. A function that numbers tokens in
        pairs knows order, and passes that. Try random orders of all.
    the last two tokens exchanged: in orders -> in [torch.tensor([*range(x.shape[1] - 2), -1, -2])]
        Your answers are those of somebody who exchanges the last two tokens alone. Try random orders of all.
    the first token stays: in orders -> in [torch.cat((o[o == 0], o[o > 0])) for o in orders]
        Your answers are those of somebody who shuffles all tokens but the first. Shuffle all of them.
    the last token stays: in orders -> in [torch.cat((o[o < len(o) - 1], o[o == len(o) - 1])) for o in orders]
        Your answers are those of somebody who shuffles all tokens but the last. Shuffle all of them.
    both ends exchanged: in orders -> in [torch.tensor([x.shape[1] - 1, *range(1, x.shape[1] - 1), 0])]
        Your answers are those of somebody who exchanges the first token and the last alone. Try random orders.
    only reversed: in orders -> in orders[-1:]
        Your answers are those of somebody who tries the reversed order alone. A function can know order and be
        symmetric under reversal, as by distance to the middle: try random orders.
    only shifted: in orders -> in [torch.arange(x.shape[1]).roll(n) for n in range(x.shape[1])]
        Your answers are those of somebody who only shifts all tokens round (torch.roll). A function that looks at
        neighbours on a ring knows order and passes that. Try random orders.
    batch shuffled: mix(x[:, order]), result[:, order] -> mix(x.flip(0)), result.flip(0)
        Your answers are those of somebody who shuffles axis 0, the batch. Tokens stand along axis 1.
    channels shuffled: mix(x[:, order]), result[:, order] -> mix(x.flip(2)), result.flip(2)
        Your answers are those of somebody who shuffles the last axis, the channels. Tokens stand along axis 1.
    x changed in place: got, want = mix(x[:, order]) -> result = mix(x); got, want = mix(x.copy_(x[:, order]))
        x itself is changed in place, and its caller still needs it. Change a copy: x[:, order] makes one.
    always True: result = -> return True; result =
        True comes out where order matters, too. Compare what mix makes of the tokens in two orders.
    always False: result = -> return False; result =
        False comes out where order does not matter, too. Compare what mix makes of the tokens in two orders.
""")


@exercise.misconception
def answer_turned_round(mix, x):
    """Your answers are the wrong way round: True is for a function that does not notice order."""
    return not is_order_blind(mix, x)
