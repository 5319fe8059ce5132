"""Exercise 5: draw a token for each row."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons.sampling import keep_top_k, keep_top_p

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, exact, expect_like, tensor


def sample(
    logits: Tensor, u: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    cumulative = logits.softmax(-1).cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]
    return (cumulative <= u[:, None]).sum(-1)


def evenly(n: int) -> Tensor:
    """Numbers that stand for all of [0, 1): the middles of n equal parts."""
    return tensor([(i + 0.5) / n for i in range(n)])


SETTINGS = (
    (1.0, None, None),
    (0.5, None, None),
    (2.0, None, None),
    (1.7, 4, None),
    (1.7, None, 0.7),
    (0.6, 5, 0.8),
    (1.0, 3, 0.6),
)


def cases() -> list[tuple]:
    made = [
        (3 * draw(25, 9, seed=seed), evenly(25), *settings) for seed, settings in enumerate(SETTINGS) for _ in range(2)
    ]
    made += [(2 * draw(1, 9, seed=30).expand(60, 9), evenly(60), *settings) for settings in SETTINGS]
    made += [(draw(4, 6, seed=31), evenly(4), 0, None, None), (draw(4, 6, seed=32), evenly(4))]
    made.append((draw(50, 3000, seed=33), tensor([1 - 2.0**-24] * 50), 1.0, 20, None))
    made.append((tensor([[0.0, 0.0]] * 3), tensor([0.0, 0.5, 0.25]), 1.0, None, None))
    return made


exercise = Exercise(
    sample,
    points=4,
    minutes=12,
    cases=cases,
    returns=Tensor,
    hints=(
        "Each rule looks at what the one before has left: divide, cut, cut, and make probabilities of what remains. At "
        "temperature 0 there is nothing to divide by: return before.",
        "With cumulative = p.cumsum(-1), (cumulative <= u[:, None]) is True for each token that u has left behind. How "
        "many are there before the one that is drawn?",
    ),
)


def probabilities(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """One by one, in float64."""
    rows = []
    for row in (exact(logits) / temperature).tolist():
        order = sorted(range(len(row)), key=lambda token: (-row[token], token))[:top_k]
        if top_p is not None:
            weights = torch.tensor([row[token] for token in order]).double().softmax(-1).tolist()
            order = [token for i, token in enumerate(order) if sum(weights[:i]) < top_p]
        cut = torch.full((len(row),), -torch.inf, dtype=torch.float64)
        cut[order] = torch.tensor([row[token] for token in order]).double()
        rows.append(cut.softmax(-1))
    return torch.stack(rows)


def expect_drawn(answer: Callable, logits: Tensor, u: Tensor, *settings: float | None) -> None:
    temperature, top_k, top_p = settings
    got = answer(logits, u, *settings)
    where = f"temperature {temperature:g}, top_k {top_k}, top_p {top_p}"
    expect_like(got, shape=(len(logits),), dtype=torch.int64, where=where)
    cumulative = probabilities(logits, temperature, top_k, top_p).cumsum(-1)
    for row, (token, number) in enumerate(zip(got.tolist(), u.tolist(), strict=True)):
        want = int((cumulative[row] <= number).sum())
        # A number next to a boundary may fall on either side, by rounding.
        if token != want and (cumulative[row] - number).abs().min() > 1e-5:
            raise Mismatch(f"{where}, u = {number:.4g}: expected token {want}, got {token}")


@exercise.property("a token for each row, int64")
def shape(answer: Callable) -> None:
    for dtype in (torch.float32, *HALVES):
        got = answer(draw(5, 7, dtype=dtype), evenly(5), 1.0, None, None)
        expect_like(got, shape=(5,), dtype=torch.int64, where=f"logits of shape (5, 7) in {str(dtype)[6:]}")


@exercise.property("each token comes as often as its probability says")
def shares(answer: Callable) -> None:
    logits = tensor([[0.5, 0.125, 0.25, 0.125]]).log()
    n = 1000
    for settings in ((1.0, None, None), (0.5, None, None), (2.0, None, None)):
        got = answer(logits.expand(n, 4), evenly(n), *settings).tolist()
        want = probabilities(logits, *settings)[0].tolist()
        for token, share in enumerate(want):
            if abs(got.count(token) - n * share) > 2:
                raise Mismatch(
                    f"probabilities 0.5, 0.125, 0.25, 0.125, temperature {settings[0]:g}: over {n} evenly spaced u, "
                    f"token {token} is expected {n * share:.0f} times, and came {got.count(token)} times"
                )


@exercise.property("temperature divides the logits first; top_k and then top_p cut what it leaves")
def order(answer: Callable) -> None:
    for seed, settings in enumerate(SETTINGS):
        logits = 2 * draw(1, 12, seed=60 + seed)
        expect_drawn(answer, logits.expand(80, 12), evenly(80), *settings)


@exercise.property("without settings: temperature 1, and nothing is cut")
def defaults(answer: Callable) -> None:
    logits = 2 * draw(1, 12, seed=75).expand(80, 12)
    got, want = answer(logits, evenly(80)).tolist(), answer(logits, evenly(80), 1.0, None, None).tolist()
    if got != want:
        raise Mismatch("temperature, top_k and top_p left out: expected what temperature 1 without cuts draws")


@exercise.property("each row by itself, with its own u")
def rows(answer: Callable) -> None:
    expect_drawn(answer, 2 * draw(40, 8, seed=70), evenly(40).flip(0), 1.0, None, None)
    expect_drawn(answer, 2 * draw(40, 8, seed=71), evenly(40), 0.8, 5, 0.9)


@exercise.property("temperature 0: the best token, whatever u is")
def greedy(answer: Callable) -> None:
    logits = draw(20, 9, seed=80)
    got, want = answer(logits, evenly(20), 0, None, None).tolist(), exact(logits).argmax(-1).tolist()
    if got != want:
        raise Mismatch(f"temperature 0: expected {want}, got {got}")


@exercise.property("the first token up to which the probabilities add up to more than u")
def boundaries(answer: Callable) -> None:
    half = tensor([[0.0, 0.0]] * 3)
    got = answer(half, tensor([0.0, 0.5, 0.25]), 1.0, None, None).tolist()
    if got != [0, 1, 0]:
        raise Mismatch(f"probabilities 0.5 and 0.5, u = 0, 0.5, 0.25: expected [0, 1, 0], got {got}")


@exercise.property("a token that cannot be drawn is never drawn, for the largest u below 1 neither")
def ends(answer: Callable) -> None:
    logits = draw(50, 3000, seed=90)
    u = tensor([1 - 2.0**-24] * 50)
    got = answer(logits, u, 1.0, 20, None)
    allowed = exact(logits).topk(20).indices.tolist()
    for row, token in enumerate(got.tolist()):
        if token not in allowed[row]:
            raise Mismatch(f"top_k 20, u just below 1: token {token} was drawn, which top_k has cut")


exercise.slips("""
    temperature multiplies: logits.float() / temperature -> logits.float() * temperature
        You multiply the logits by the temperature. Divide: a high temperature makes the probabilities more even.
    no temperature: logits.float() / temperature -> logits.float()
        The temperature changes nothing. The logits are divided by it.
    no top_k: logits = keep_top_k(logits, top_k) -> pass
        top_k changes nothing.
    no top_p: logits = keep_top_p(logits, top_p) -> pass
        top_p changes nothing.
    always the best: if temperature == 0 -> if temperature >= 0
        You take the best token at any temperature. Above 0, a token is drawn.
    temperature 0 divides: if temperature == 0 -> if temperature < 0
        At temperature 0 you divide by 0. The best token is asked for.
    one u for all rows: u[:, None] -> u[:1, None]
        You use the first u for all rows. Each row has its own.
    one token early: (cumulative <= u[:, None]).sum(-1) -> ((cumulative <= u[:, None]).sum(-1) - 1).clamp(min=0)
        You take the token before the one that u falls on.
    one token late: (cumulative <= u[:, None]).sum(-1) -> (cumulative[:, :-1] <= u[:, None]).sum(-1) + 1
        You take the token after the one that u falls on.
    reaches u: cumulative <= u[:, None] -> cumulative < u[:, None]
        You take the first token up to which the sum reaches u. It has to be more than u: a u of 0 must not draw a token
        of probability 0.
    from the other end: cumulative <= u[:, None] -> cumulative <= 1 - u[:, None]
        You count from the other end of [0, 1): with 1 - u in place of u.
    the last tokens first: logits.softmax(-1).cumsum(-1) -> logits.softmax(-1).flip(-1).cumsum(-1)
        You add up the probabilities from the last token, and count from the first.
    not scaled to 1: cumulative = cumulative / cumulative[:, -1:] -> pass
        For a u just below 1 you return a token that was cut, or one that is not there: sums of float32 may end a little
        below 1. Divide by the last sum, or take no token of probability 0.
""")


@exercise.misconception
def temperature_after_the_cuts(logits, u, temperature=1.0, top_k=None, top_p=None):
    """The cuts come first, and the temperature divides what they leave. It is the other way round."""
    if temperature == 0:
        return logits.argmax(-1)
    return sample(cut(logits.float(), top_k, top_p) / temperature, u)


@exercise.misconception
def top_p_before_top_k(logits, u, temperature=1.0, top_k=None, top_p=None):
    """top_p comes before top_k: then the set that reaches p is that of all tokens. top_k comes first."""
    if temperature == 0:
        return logits.argmax(-1)
    return sample(cut(cut(logits.float() / temperature, None, top_p), top_k, None), u)


@exercise.misconception
def what_is_left_is_not_scaled(logits, u, temperature=1.0, top_k=None, top_p=None):
    """What the cuts leave is not scaled to sum 1 again: u above that sum falls on the last token."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    p = logits.softmax(-1).masked_fill(cut(logits, top_k, top_p) == -torch.inf, 0.0)
    return (p.cumsum(-1) <= u[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)


@exercise.misconception
def in_order_of_probability(logits, u, temperature=1.0, top_k=None, top_p=None):
    """You add up the probabilities from the most probable token down. Here they are added up in the order of ids."""
    if temperature == 0:
        return logits.argmax(-1)
    p, ids = cut(logits.float() / temperature, top_k, top_p).softmax(-1).sort(-1, descending=True)
    place = (p.cumsum(-1) <= u[:, None]).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return ids.gather(-1, place).squeeze(-1)


@exercise.misconception
def place_among_the_kept(logits, u, temperature=1.0, top_k=None, top_p=None):
    """You return the place among the k best tokens, or among those that are left, not the token's id."""
    if temperature == 0:
        return logits.argmax(-1)
    p, _ = cut(logits.float() / temperature, top_k, top_p).softmax(-1).sort(-1, descending=True)
    return (p.cumsum(-1) <= u[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)


def cut(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    logits = logits if top_k is None else keep_top_k(logits, top_k)
    return logits if top_p is None else keep_top_p(logits, top_p)
