"""Exercises of lesson 00: does a function of a token sequence know the order of its tokens?"""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device
from llama_lessons.lab.probes import is_order_blind as reference_is_order_blind

from ..exercise import Exercise
from ..expect import Mismatch, random_tensor

Mix = Callable[[Tensor], Tensor]


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


def broadcasts_the_mean(x: Tensor) -> Tensor:
    return x.mean(dim=1, keepdim=True).expand_as(x)


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


def marks_place(place: int) -> Mix:
    """A function that tells one place from the others, softly."""
    return lambda x: attention(x) + 0.001 * (positions(x) == place)


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


def inputs(batch: int, seq_len: int, dim: int, seed: int = 0) -> Tensor:
    return random_tensor(batch, seq_len, dim, seed=seed, device=choose_device())


def cases() -> list[tuple]:
    mixes = (
        attention,
        causal_attention,
        attention_with_positions,
        only_adds_positions,
        knows_distance_to_middle,
        averages_neighbours_on_a_ring,
        adds_the_number_of_its_pair,
        hands_results_on,
        adds_the_mean,
        broadcasts_the_mean,
        sums_exponentials,
        each_token_alone,
        weighs_channels,
        slightly_ordered,
        ordered_in_one_row,
    )
    # Of two tokens the one random order is often the order they came in.
    return [*((mix, inputs(3, 64, 8, seed)) for seed, mix in enumerate(mixes)), (only_adds_positions, inputs(3, 2, 8))]


is_order_blind = Exercise(
    name="is_order_blind",
    lesson="00_start_here",
    points=3,
    minutes=8,
    parameters=("mix", "x"),
    reference=reference_is_order_blind,
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
    x = inputs(**({"batch": 3, "seq_len": 16, "dim": 8} | shape))
    got = answer(mix, x)
    if got != blind:
        raise Mismatch(f"{what}, x of shape {tuple(x.shape)}: expected {blind}, got {got}")


@is_order_blind.property("attention without positions is order-blind")
def _(answer: Callable) -> None:
    expect_verdict(answer, attention, True, "attention without positions or mask")


@is_order_blind.property("attention with positions added is not order-blind")
def _(answer: Callable) -> None:
    expect_verdict(answer, attention_with_positions, False, "attention on x plus its position number")


@is_order_blind.property("causal attention is not order-blind: its mask tells order")
def _(answer: Callable) -> None:
    expect_verdict(answer, causal_attention, False, "causal attention")


@is_order_blind.property("sums and single tokens are order-blind")
def _(answer: Callable) -> None:
    expect_verdict(answer, adds_the_mean, True, "each token plus the mean of all tokens")
    expect_verdict(answer, broadcasts_the_mean, True, "the mean of all tokens, at every place")
    expect_verdict(answer, each_token_alone, True, "a function of each token alone")
    expect_verdict(answer, weighs_channels, True, "a sum over tokens, each channel with a weight of its own")


@is_order_blind.property("order is noticed even where a special reordering changes nothing")
def _(answer: Callable) -> None:
    expect_verdict(answer, knows_distance_to_middle, False, "each token times its distance to the middle")
    expect_verdict(answer, averages_neighbours_on_a_ring, False, "each token mixed with its neighbours on a ring")
    expect_verdict(answer, adds_the_number_of_its_pair, False, "two tokens each plus the number of their pair")
    expect_verdict(answer, only_adds_positions, False, "each token plus its position number")
    expect_verdict(answer, hands_results_on, False, "each token's result handed on to the next one")


@is_order_blind.property("a small influence of order counts, rounding does not")
def _(answer: Callable) -> None:
    expect_verdict(answer, slightly_ordered, False, "attention plus 0.001 at both ends")
    expect_verdict(answer, marks_place(0), False, "attention plus 0.001 at the first of many places", seq_len=256)
    expect_verdict(answer, slightly_ordered_beside_large_numbers, False, "4 everywhere, plus 0.001 at the first place")
    expect_verdict(answer, attention, True, "attention on many tokens, where sums round", seq_len=64, dim=64)
    expect_verdict(answer, adds_the_mean, True, "a sum over many tokens, which rounds", seq_len=256, dim=4)
    expect_verdict(answer, sums_exponentials, True, "a large sum, which rounds", seq_len=64)


@is_order_blind.property("works at every batch size and length, in every row")
def _(answer: Callable) -> None:
    for batch, seq_len in ((1, 2), (1, 3), (2, 5), (5, 2)):
        expect_verdict(answer, attention, True, "attention", batch=batch, seq_len=seq_len)
    for batch in range(1, 21):
        # One random order of a few tokens is now and then no change at all.
        expect_verdict(answer, only_adds_positions, False, "x plus its position number", batch=batch, seq_len=3)
        expect_verdict(answer, knows_distance_to_middle, False, "x times distance to middle", batch=batch, seq_len=4)
    expect_verdict(answer, ordered_in_one_row, False, "positions added in the last row of the batch only")
    x = inputs(batch=3, seq_len=16, dim=8)
    x = x - x.mean(dim=(1, 2), keepdim=True) + torch.tensor([0.3, 0.3, -0.3], device=x.device)[:, None, None]
    if answer(orders_some_rows, x):
        raise Mismatch("positions added only in rows whose mean is negative: expected False, got True")


@is_order_blind.property("order is noticed at each place and in each channel")
def _(answer: Callable) -> None:
    for place in range(3):
        expect_verdict(answer, marks_place(place), False, f"attention plus 0.001 at place {place}", seq_len=3)
    expect_verdict(answer, orders_two_channels, False, "positions added to one channel and taken from another")


def _orders(x: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(x.shape[1], generator=generator).to(x.device) for _ in range(8)]
    return [*orders, torch.arange(x.shape[1] - 1, -1, -1, device=x.device)]


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@is_order_blind.misconception(
    "output not shuffled back",
    "You compare the result for shuffled tokens with the result for tokens in their first order, place by place. "
    "But a token that moved takes its result along. Put mix(x) into the same order before you compare. "
    "(If you shuffled back: x[:, order] is undone by argsort(order), not by order once more.)",
)
def _(mix: Mix, x: Tensor) -> bool:
    return all(_close(mix(x[:, order]), mix(x)) for order in _orders(x))


@is_order_blind.misconception(
    "exact equality",
    "You ask for bitwise equal numbers. Attention adds the same terms in another order after a shuffle, and floating-"
    "point sums depend on order in their last digit. Compare with torch.allclose.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return all(torch.equal(mix(x[:, order]), mix(x)[:, order]) for order in _orders(x))


@is_order_blind.misconception(
    "tolerance too small",
    "You compare with the tolerance that torch.allclose has by itself: 1e-8 beside 1e-5 of each number. Sums of "
    "ordinary size that come out near zero are rounded by more than that. Give it atol=1e-4.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return all(torch.allclose(mix(x[:, order]), mix(x)[:, order]) for order in _orders(x))


@is_order_blind.misconception(
    "tolerance too large",
    "You forgive too much: a difference of 0.001 is an influence of order, not rounding. Give torch.allclose "
    "atol=1e-4.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return all(torch.allclose(mix(x[:, order]), mix(x)[:, order], atol=1e-2) for order in _orders(x))


@is_order_blind.misconception(
    "one order only",
    "A single random order that makes no difference is enough for you. With few tokens that is now and then the order "
    "in which they stood, and then nothing was tried. Try several, and answer True only when all have passed. (If you "
    "have a loop: does it return in its first round?)",
)
def _(mix: Mix, x: Tensor) -> bool:
    order = torch.randperm(x.shape[1]).to(x.device)
    return _close(mix(x[:, order]), mix(x)[:, order])


@is_order_blind.misconception(
    "two tokens exchanged",
    "You exchange the first two tokens and leave all others. A function can know order and treat these two alike, "
    "such as one that numbers tokens in pairs. Try random orders of all.",
)
def _(mix: Mix, x: Tensor) -> bool:
    order = torch.arange(x.shape[1], device=x.device)
    order[:2] = order[:2].flip(0)
    return _close(mix(x[:, order]), mix(x)[:, order])


@is_order_blind.misconception(
    "only as a set",
    "You sort the results before you compare them. A function that hands each token's result on to its neighbour "
    "passes that, and knows order. Compare token by token.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return all(_close(mix(x[:, order]).sort(dim=1).values, mix(x).sort(dim=1).values) for order in _orders(x))


@is_order_blind.misconception(
    "only reversed",
    "Your answers are those of somebody who tries one order, the reversed one. A function can know order and be "
    "symmetric under reversal, such as one "
    "that weighs each token by its distance to the middle. Try random orders.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return _close(mix(x.flip(1)), mix(x).flip(1))


@is_order_blind.misconception(
    "only shifted",
    "You try only orders that shift all tokens round (torch.roll). A function that looks at neighbours on a ring "
    "knows order and passes that. Try random orders.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return all(_close(mix(x.roll(n, dims=1)), mix(x).roll(n, dims=1)) for n in range(1, x.shape[1]))


@is_order_blind.misconception(
    "batch shuffled",
    "You shuffle axis 0, the batch: that asks whether sequences are treated alike. Tokens stand along axis 1.",
)
def _(mix: Mix, x: Tensor) -> bool:
    order = torch.arange(x.shape[0] - 1, -1, -1, device=x.device)
    return _close(mix(x[order]), mix(x)[order])


@is_order_blind.misconception(
    "channels shuffled",
    "You shuffle the last axis, the channels of each token. Tokens stand along axis 1.",
)
def _(mix: Mix, x: Tensor) -> bool:
    order = torch.arange(x.shape[2] - 1, -1, -1, device=x.device)
    return _close(mix(x[..., order]), mix(x)[..., order])


@is_order_blind.misconception(
    "only the total",
    "You compare sums or means over all tokens. Positions added to each token leave the total unchanged by a "
    "shuffle, and order is still known. Compare token by token.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return all(_close(mix(x[:, order]).mean(dim=1), mix(x).mean(dim=1)) for order in _orders(x))


@is_order_blind.misconception(
    "answer turned round",
    "Your answers are the wrong way round: True is for a function that does not notice order.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return not reference_is_order_blind(mix, x)


@is_order_blind.misconception(
    "only the first row",
    "You compare the first row of the batch alone. Order may be known in another row: compare the whole batch.",
)
def _(mix: Mix, x: Tensor) -> bool:
    return all(_close(mix(x[:, order])[0], mix(x)[0, order]) for order in _orders(x))


@is_order_blind.misconception("always True", "You return True whatever comes out: compare something.")
def _(mix: Mix, x: Tensor) -> bool:
    return True


@is_order_blind.misconception("always False", "You return False whatever comes out: compare something.")
def _(mix: Mix, x: Tensor) -> bool:
    return False


@is_order_blind.alternative
def _(mix: Mix, x: Tensor) -> bool:
    for _ in range(10):
        order = torch.randperm(x.shape[1], device=x.device)
        if not torch.allclose(mix(x[:, order]), mix(x)[:, order], atol=1e-4):
            return False
    return True


@is_order_blind.alternative
def _(mix: Mix, x: Tensor) -> bool:
    # Swaps of neighbours generate every order.
    once = mix(x)
    for i in range(x.shape[1] - 1):
        order = list(range(x.shape[1]))
        order[i], order[i + 1] = i + 1, i
        if (mix(x[:, order]) - once[:, order]).abs().max().item() > 1e-4:
            return False
    return True


@is_order_blind.alternative
def _(mix: Mix, x: Tensor) -> bool:
    orders = torch.stack([torch.randperm(x.shape[1]) for _ in range(16)]).to(x.device)
    before = torch.stack([mix(x[:, order]) for order in orders])
    after = torch.stack([mix(x)[:, order] for order in orders])
    return bool(((before - after).abs() < 5e-4).all())
