"""The exercise of lesson 00: does a function of a token sequence know the order of its tokens?"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, draw

Mix = Callable[[Tensor], Tensor]


def is_order_blind(mix: Mix, x: Tensor) -> bool:
    orders = [torch.randperm(x.shape[1]) for _ in range(4)] + [torch.arange(x.shape[1] - 1, -1, -1)]
    result = mix(x)
    for order in orders:
        got, want = mix(x[:, order]), result[:, order]
        if not torch.allclose(got, want, atol=1e-4):
            return False
    return True


def attention(x: Tensor) -> Tensor:
    """Self-attention without positions, mask or weights; (batch, seq_len, dim) to the same."""
    return (x @ x.transpose(1, 2) / x.shape[-1] ** 0.5).softmax(dim=-1) @ x


def causal_attention(x: Tensor) -> Tensor:
    """The same, each token seeing itself and earlier ones."""
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
    scores = x @ x.transpose(1, 2) / x.shape[-1] ** 0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ x


def positions(x: Tensor) -> Tensor:
    """A number for each place, shape (seq_len, 1)."""
    return torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None]


def attention_with_positions(x: Tensor) -> Tensor:
    return attention(x + 0.5 * positions(x))


def only_adds_positions(x: Tensor) -> Tensor:
    return x + positions(x)


def knows_distance_to_middle(x: Tensor) -> Tensor:
    """Reading backwards changes nothing here, though order matters."""
    return x * (positions(x) - (x.shape[1] - 1) / 2).abs()


def averages_neighbours_on_a_ring(x: Tensor) -> Tensor:
    """Shifting the tokens round the ring changes nothing here, though order matters."""
    return x + 0.5 * x.roll(1, dims=1) + 0.25 * x.roll(-1, dims=1)


def adds_the_number_of_its_pair(x: Tensor) -> Tensor:
    """Exchanging the first two tokens changes nothing here, though order matters."""
    return x + positions(x) // 2


def hands_results_on(x: Tensor) -> Tensor:
    """Each token gets its neighbour's result: as a set, the results are the same in every order."""
    return x.roll(1, dims=1)


def adds_the_mean(x: Tensor) -> Tensor:
    return x + x.mean(dim=1, keepdim=True)


def sums_exponentials(x: Tensor) -> Tensor:
    """Large positive sums, which round to other bits in another order, and to nearly the same number."""
    return x.exp().sum(dim=1, keepdim=True).expand_as(x)


def each_token_alone(x: Tensor) -> Tensor:
    return torch.tanh(x) * 3


def weighs_channels(x: Tensor) -> Tensor:
    """Each channel in its own way, all tokens alike."""
    return adds_the_mean(x) * torch.arange(1, x.shape[2] + 1, device=x.device)


def slightly_ordered(x: Tensor) -> Tensor:
    """The tokens at both ends are told where they stand, very softly; reading backwards changes nothing."""
    return attention(x) + 0.001 * ((positions(x) == 0) | (positions(x) == x.shape[1] - 1))


def slightly_ordered_beside_large_numbers(x: Tensor) -> Tensor:
    return torch.full_like(x, 4.0) + 0.001 * (positions(x) == 0)


def marks_place(place: int, size: float = 0.001) -> Mix:
    """A function that tells one place from the others, softly."""
    return lambda x: attention(x) + size * (positions(x) == place)


def orders_two_channels(x: Tensor) -> Tensor:
    """Order shows in two channels, and neither in the first one nor in the sum over channels."""
    order = torch.zeros_like(x)
    order[..., 1:2], order[..., 2:3] = positions(x), -positions(x)
    return x + order


def orders_some_rows(x: Tensor) -> Tensor:
    """Only rows whose mean is negative are told positions."""
    return x + positions(x) * (x.mean(dim=(1, 2), keepdim=True) < 0)


def ordered_in_one_row(x: Tensor) -> Tensor:
    """Only the last row of the batch is told positions."""
    last = torch.zeros(x.shape[0], 1, 1, device=x.device)
    last[-1] = 1
    return x + last * positions(x)


def cases() -> list[tuple]:
    blind = [attention, adds_the_mean, sums_exponentials, weighs_channels, *[each_token_alone] * 5]
    known = [only_adds_positions, knows_distance_to_middle, adds_the_number_of_its_pair, hands_results_on]
    known += [averages_neighbours_on_a_ring, *[attention_with_positions, causal_attention] * 3]
    known += [orders_two_channels, ordered_in_one_row, marks_place(9, 8e-4), marks_place(50, 8e-4), marks_place(9, 1.0)]
    known += [lambda x: x + 8e-4 * (positions(x) % 2)]
    # Of two tokens the one random order is often the order they came in.
    few = [(only_adds_positions, draw(3, 2, 8)), (knows_distance_to_middle, draw(3, 3, 8))]
    return [(mix, draw(3, 64, 8, seed=seed)) for seed, mix in enumerate(blind + known)] + few


exercise = Exercise(
    is_order_blind,
    lesson="00_start_here",
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
    expect_verdict(answer, attention_with_positions, False, "attention on x plus its position number")
    expect_verdict(answer, causal_attention, False, "causal attention, whose mask tells order")


@exercise.property("sums and single tokens are order-blind")
def sums_are(answer: Callable) -> None:
    expect_verdict(answer, adds_the_mean, True, "each token plus the mean of all tokens")
    expect_verdict(answer, each_token_alone, True, "a function of each token alone")
    expect_verdict(answer, weighs_channels, True, "a sum over tokens, each channel with a weight of its own")


@exercise.property("order is noticed even where a special reordering changes nothing")
def symmetric_ones_are_not(answer: Callable) -> None:
    expect_verdict(answer, knows_distance_to_middle, False, "each token times its distance to the middle")
    expect_verdict(answer, averages_neighbours_on_a_ring, False, "each token mixed with its neighbours on a ring")
    expect_verdict(answer, adds_the_number_of_its_pair, False, "two tokens each plus the number of their pair")
    expect_verdict(answer, only_adds_positions, False, "each token plus its position number")
    expect_verdict(answer, hands_results_on, False, "each token's result handed on to the next one")


@exercise.property("a small influence of order counts, rounding does not")
def small_influence_counts(answer: Callable) -> None:
    expect_verdict(answer, slightly_ordered, False, "attention plus 0.001 at both ends")
    expect_verdict(answer, marks_place(0), False, "attention plus 0.001 at the first of many places", seq_len=128)
    expect_verdict(answer, slightly_ordered_beside_large_numbers, False, "4 everywhere, plus 0.001 at the first place")
    expect_verdict(answer, attention, True, "attention on many tokens, where sums round", seq_len=64, dim=64)
    expect_verdict(answer, adds_the_mean, True, "a sum over many tokens, which rounds", seq_len=128, dim=4)
    expect_verdict(answer, sums_exponentials, True, "a large sum, which rounds", seq_len=64)


@exercise.property("works at every batch size and length, in every row")
def every_size_and_row(answer: Callable) -> None:
    for batch, seq_len in ((1, 2), (1, 3), (2, 5), (5, 2)):
        expect_verdict(answer, attention, True, "attention", batch=batch, seq_len=seq_len)
    for batch in range(1, 21):
        # One random order of a few tokens is now and then no change at all.
        expect_verdict(answer, only_adds_positions, False, "x plus its position number", batch=batch, seq_len=3)
        expect_verdict(answer, knows_distance_to_middle, False, "x times distance to middle", batch=batch, seq_len=4)
    expect_verdict(answer, ordered_in_one_row, False, "positions added in the last row of the batch only")
    expect_verdict(answer, orders_some_rows, False, "positions added only in rows whose mean is negative", batch=6)


@exercise.property("order is noticed at each place and in each channel")
def every_place_and_channel(answer: Callable) -> None:
    for place in range(3):
        expect_verdict(answer, marks_place(place), False, f"attention plus 0.001 at place {place}", seq_len=3)
    expect_verdict(answer, orders_two_channels, False, "positions added to one channel and taken from another")


exercise.slips("""
    output not shuffled back: result[:, order] -> result
        You compare results place by place, but a token that moved takes its result along. Put mix(x) into the same
        order before you compare. (If you shuffled back: argsort(order) undoes order, and order once more does not.)
    exact equality: torch.allclose(got, want, atol=1e-4) -> torch.equal(got, want)
        You ask for numbers that are equal to the last digit. After a shuffle attention adds the same terms in another
        order, and that digit of a floating-point sum depends on it. Compare with torch.allclose.
    tolerance too small: want, atol=1e-4 -> want
        Your tolerance is too small, like the one that torch.allclose has by itself: 1e-8 beside 1e-5 of each number.
        Sums of ordinary size that come out near zero are rounded by more than that. Give it atol=1e-4.
    tolerance too large: atol=1e-4 -> atol=1e-2
        You forgive too much: a difference of 0.001 is an influence of order, not rounding. Give torch.allclose
        atol=1e-4.
    average difference: torch.allclose(got, want, atol=1e-4) -> (got - want).abs().mean() < 1e-4
        An average over all numbers hides a difference that few of them have. Take the largest, or torch.allclose.
    only as a set: (got, want, -> (got.sort(dim=1).values, want.sort(dim=1).values,
        You sort the results before you compare them, or compare them as a set. A function that hands each token's
        result on to its neighbour passes that, and knows order. Compare token by token.
    only the total: (got, want, -> (got.mean(dim=1), want.mean(dim=1),
        You compare sums or means over all tokens, which a shuffle leaves as they are. Compare token by token.
    only the first row: (got, want, -> (got[0], want[0],
        You compare the first row of the batch alone. Order may be known in another row: compare the whole batch.
    only one token: (got, want, -> (got[:, x.shape[1] // 2], want[:, x.shape[1] // 2],
        You compare the token at one place alone. Order may show at another place: compare all tokens.
    only the first channel: (got, want, -> (got[..., 0], want[..., 0],
        You compare the first channel alone. Order may show in another one: compare whole tokens.
    one order only: in orders -> in orders[:1]
        Your answers are those of somebody who tries one random order, which for few tokens may be the order they stood
        in. Try several, and answer True only when all have passed. (Does a loop return in its first round?)
    two tokens exchanged: in orders -> in [torch.tensor([1, 0, *range(2, x.shape[1])])]
        Your answers are those of somebody who exchanges the first two tokens alone. A function can know order and treat
        these two alike, such as one that numbers tokens in pairs. Try random orders of all.
    both ends exchanged: in orders -> in [torch.tensor([x.shape[1] - 1, *range(1, x.shape[1] - 1), 0])]
        Your answers are those of somebody who exchanges the first token and the last alone. A function can know order
        and treat these two alike. Try random orders of all.
    only reversed: in orders -> in orders[-1:]
        Your answers are those of somebody who tries one order, the reversed one. A function can know order and be
        symmetric under reversal, such as one that weighs each token by its distance to the middle. Try random orders.
    only shifted: in orders -> in [torch.arange(x.shape[1]).roll(n) for n in range(x.shape[1])]
        Your answers are those of somebody who only shifts all tokens round (torch.roll). A function that looks at
        neighbours on a ring knows order and passes that. Try random orders.
    batch shuffled: mix(x[:, order]), result[:, order] -> mix(x.flip(0)), result.flip(0)
        You shuffle axis 0, the batch: that asks whether sequences are treated alike. Tokens stand along axis 1.
    channels shuffled: mix(x[:, order]), result[:, order] -> mix(x.flip(2)), result.flip(2)
        You shuffle the last axis, the channels of each token. Tokens stand along axis 1.
    x shuffled in place: got, want = mix(x[:, order]) -> result = mix(x); got, want = mix(x.copy_(x[:, order]))
        You write the shuffled tokens into x itself, which its caller needs. Give x[:, order] a name of its own.
    always True: result = -> return True; result =
        True comes out where order matters, too. Compare what mix makes of the tokens in two orders.
    always False: result = -> return False; result =
        False comes out where order does not matter, too. Compare what mix makes of the tokens in two orders.
""")


@exercise.misconception
def answer_turned_round(mix, x):
    """Your answers are the wrong way round: True is for a function that does not notice order."""
    return not is_order_blind(mix, x)
