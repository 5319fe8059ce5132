"""Exercise 8: which drafted tokens are kept, and what comes after them."""

from collections.abc import Callable, Iterator
from itertools import accumulate, product

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, on_device, tensor


def accept_drafts(target: Tensor, draft: Tensor, tokens: list[int], u: list[float], v: float) -> list[int]:
    kept = []
    weights = target[len(tokens)]
    for i, token in enumerate(tokens):
        p, q = target[i, token], draft[i, token]
        if u[i] * q >= p:
            weights = (target[i] - draft[i]).clamp(min=0)
            break
        kept.append(token)
    cumulative = weights.cumsum(-1)
    drawn = (cumulative <= v * cumulative[-1]).sum().item()
    return [*kept, drawn]


VOCAB = 4
# The model's probabilities and the draft's for the first token, in eighths. Ratios, and shares of what the draft
# proposes too seldom, are quarters, so that a few evenly spaced numbers give each share exactly.
TARGET, DRAFT = torch.tensor([[4, 2, 1, 1], [1, 1, 2, 4]]) / 8
# The same numbers in another order: for the second token, by the first; and the model's for the third, by the second.
ORDERS = torch.tensor([[1, 0, 3, 2], [2, 3, 0, 1], [3, 1, 0, 2], [3, 2, 1, 0]])
TARGET_2, DRAFT_2, TARGET_3 = TARGET[ORDERS], DRAFT[ORDERS], TARGET[ORDERS.flip(0)]


def accepts(answer: Callable) -> Callable:
    """Make of an answer what gives its tokens as text."""

    def run(target: Tensor, draft: Tensor, tokens: tuple[int, ...], u: tuple[float, ...], v: float) -> str:
        given = list(tokens)
        returned = answer(target.clone(), draft.clone(), given, list(u), v)
        if not isinstance(returned, (list, tuple)) or not all(isinstance(token, int) for token in returned):
            kinds = {type(x).__name__ for x in returned} if isinstance(returned, (list, tuple)) else returned
            raise Mismatch(f"a list of plain ints is asked for, not {kinds}: .item() makes an int of a tensor")
        if given != list(tokens) and returned is not given:
            raise Mismatch("the list of tokens that was given is not what it was: make a new list")
        return " ".join(map(str, returned))

    return run


def tables(n_drafts: int, seed: int, vocab: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target, draft = (torch.rand(n, vocab, generator=generator) ** 2 + 0.01 for n in (n_drafts + 1, n_drafts))
    return on_device(target / target.sum(-1, keepdim=True)), on_device(draft / draft.sum(-1, keepdim=True))


def cases() -> list[tuple]:
    made = []
    for seed in range(40):
        n_drafts = (1, 2, 3, 0)[seed % 4]
        generator = torch.Generator().manual_seed(100 + seed)
        *u, v = torch.rand(n_drafts + 1, generator=generator).tolist()
        tokens = torch.randint(5, (n_drafts,), generator=generator).tolist()
        made.append((*tables(n_drafts, seed), tuple(tokens), tuple(u), v))
    certain = on_device(torch.eye(4))
    made.append((certain[[0, 1, 2]], certain[[0, 2]], (0, 2), (0.3, 0.6), 0.4))
    made.append((certain[[0, 1, 2]], certain[[0, 1]], (0, 1), (0.3, 0.0), 0.4))
    made.append((on_device(TARGET.expand(2, VOCAB)), on_device(TARGET[None]), (2,), (0.99,), 0.7))
    return made


exercise = Exercise(
    accept_drafts,
    points=6,
    minutes=18,
    cases=cases,
    returns=str,
    using=accepts,
    hints=(
        "Go through the drafted tokens in their order. Row i of both tables belongs to token i. As soon as one is "
        "refused, what comes behind it counts no more.",
        "Two rows of weights can be drawn from at the end: what the draft at the place of the refusal proposes too "
        "seldom, (target - draft).clamp(min=0), or, if nothing was refused, the last row of target.",
        "Weights need not be divided by their sum: with cumulative = weights.cumsum(-1), compare v * cumulative[-1].",
    ),
)


def middles(n: int) -> list[float]:
    """Numbers that stand for all of [0, 1): the middles of n equal parts."""
    return [(i + 0.5) / n for i in range(n)]


def outcomes(answer: Callable, n_drafts: int) -> Iterator[tuple[float, tuple[int, ...], list[int]]]:
    """All drafts with all numbers: how probable each is, the draft, and what came of it."""
    for tokens in product(range(VOCAB), repeat=n_drafts):
        target = on_device(torch.stack([TARGET, TARGET_2[tokens[0]], TARGET_3[tokens[-1]]][: n_drafts + 1]))
        draft = on_device(torch.stack([DRAFT, DRAFT_2[tokens[0]]][:n_drafts]))
        share = 1 / (4**n_drafts * 8)
        for row, token in zip((DRAFT, DRAFT_2[tokens[0]]), tokens, strict=False):
            share *= row[token].item()
        for *u, v in product(*[middles(4)] * n_drafts, middles(8)):
            came = [int(token) for token in answer(target, draft, tokens, tuple(u), v).split()]
            yield share, tokens, came


def expect_share(got: dict[int, float], want: Tensor, where: str) -> None:
    total = sum(got.values())
    for token, share in enumerate(want.tolist()):
        came = got.get(token, 0.0) / total if total else 0.0
        if abs(came - share) > 0.004:
            raise Mismatch(f"{where}, token {token} comes in {came:.1%} of cases; the model gives it {share:.1%}")


def count(pairs: Iterator[tuple[int, float]]) -> dict[int, float]:
    shares: dict[int, float] = {}
    for token, share in pairs:
        shares[token] = shares.get(token, 0.0) + share
    return shares


@exercise.property("one drafted token: what comes out is distributed as the model would choose")
def first(answer: Callable) -> None:
    found = list(outcomes(answer, 1))
    if not all(came for _, _, came in found):
        raise Mismatch("nothing was returned: each step brings at least one token")
    expect_share(count((came[0], share) for share, _, came in found), TARGET, "over all drafts and numbers")


@exercise.property("a draft is kept as often as can be: with probability min(1, target / draft)")
def as_often(answer: Callable) -> None:
    kept = sum(share for share, _, came in outcomes(answer, 1) if len(came) == 2)
    best = torch.minimum(TARGET, DRAFT).sum().item()
    if abs(kept - best) > 0.004:
        raise Mismatch(f"the drafted token is expected to be kept in {best:.1%} of cases, and was in {kept:.1%}")


@exercise.property("after a draft that is kept, one more token, drawn from the model's next row")
def one_more(answer: Callable) -> None:
    for token in range(VOCAB):
        found = [(came, share) for share, tokens, came in outcomes(answer, 1) if tokens == (token,) and len(came) > 1]
        if not found:
            raise Mismatch("a drafted token was never followed by another one")
        if any(came[0] != token for came, _ in found):
            raise Mismatch("the first of two tokens is not the drafted one that was kept")
        where = f"after token {token} was drafted and kept"
        expect_share(count((came[1], share) for came, share in found), TARGET_2[token], where)


@exercise.property("two drafted tokens: the second given the first, and a third, distributed as the model would choose")
def second(answer: Callable) -> None:
    found = list(outcomes(answer, 2))
    if not all(came for _, _, came in found):
        raise Mismatch("nothing was returned: each step brings at least one token")
    expect_share(count((came[0], share) for share, _, came in found), TARGET, "two drafts: over all drafts and numbers")
    for token in range(VOCAB):
        after = [(came[1], share) for share, _, came in found if len(came) > 1 and came[0] == token]
        expect_share(count(iter(after)), TARGET_2[token], f"two drafts: behind a first token {token}")
        last = [(came[2], share) for share, _, came in found if len(came) == 3 and came[1] == token]
        expect_share(count(iter(last)), TARGET_3[token], f"two drafts: behind a second token {token}")


@exercise.property("behind a refused token nothing is kept")
def nothing_behind(answer: Callable) -> None:
    certain = on_device(torch.eye(4))
    for tokens, rows, want in (
        ((0, 2, 2), [0, 1, 2, 0], "0 1"),
        ((3, 1, 2), [0, 1, 2, 0], "0"),
        ((0, 1, 2), [0, 1, 2, 3], "0 1 2 3"),
    ):
        got = answer(certain[rows], certain[list(tokens)], tokens, (0.5, 0.5, 0.5), 0.5)
        if got != want:
            raise Mismatch(
                f"drafted {list(tokens)}, where the model would choose {rows} for certain: expected {want}, got {got}"
            )


@exercise.property("no drafted tokens: one, drawn from the model's only row")
def none_drafted(answer: Callable) -> None:
    empty = on_device(torch.empty(0, VOCAB))
    shares = count((int(answer(on_device(TARGET[None]), empty, (), (), v) or -1), 1 / 8) for v in middles(8))
    expect_share(shares, TARGET, "without a draft")


@exercise.property("token and number as described: kept if u * draft < target, drawn by v in the order of ids")
def as_described(answer: Callable) -> None:
    for seed in range(12):
        n_drafts = 1 + seed % 3
        target, draft = tables(n_drafts, 200 + seed)
        generator = torch.Generator().manual_seed(300 + seed)
        *u, v = torch.rand(n_drafts + 1, generator=generator).tolist()
        tokens = torch.randint(5, (n_drafts,), generator=generator).tolist()
        want = described(target.cpu().double(), draft.cpu().double(), tokens, u, v)
        got = answer(target, draft, tuple(tokens), tuple(u), v)
        if got != want:
            numbers = ", ".join(f"{x:.2f}" for x in u)
            raise Mismatch(f"drafted {tokens}, u {numbers}, v {v:.2f}: expected {want}, got {got or 'nothing'}")


@exercise.property("the ends: u * draft equal to target is a refusal; a v of 0 draws no token of probability 0")
def ends(answer: Callable) -> None:
    half, certain = tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), tensor([[1.0, 0.0, 0.0]])
    for tables, tokens, u, v, want in (
        ((half, certain), (0,), (0.5,), 0.5, "1"),
        ((half, certain), (0,), (0.25,), 0.0, "0 2"),
        ((half[1:], certain[:0]), (), (), 0.0, "2"),
    ):
        got = answer(*tables, tokens, u, v)
        if got != want:
            shown = [[round(x, 2) for x in row] for row in tables[0].tolist()]
            raise Mismatch(f"target {shown}, drafted {list(tokens)}, u {list(u)}, v {v:g}: expected {want}, got {got}")


def described(target: Tensor, draft: Tensor, tokens: list[int], u: list[float], v: float) -> str:
    """The tokens, from plain numbers in float64."""
    p, q, out = target.tolist(), draft.tolist(), []
    weights = p[-1]
    for i, token in enumerate(tokens):
        if u[i] * q[i][token] >= p[i][token]:
            weights = [max(a - b, 0.0) for a, b in zip(p[i], q[i], strict=True)]
            break
        out.append(token)
    sums = list(accumulate(weights))
    drawn = next(token for token, total in enumerate(sums) if total > v * sums[-1])
    return " ".join(map(str, [*out, drawn]))


exercise.slips("""
    every draft is kept: if u[i] * q >= p -> if False
        You keep every drafted token: then the text is the draft's, and the model changes nothing but one token.
    kept only where p is not less: if u[i] * q >= p -> if p < q
        You keep a token only where the model finds it at least as probable as the draft does. Where it does not, it is
        still kept with probability p / q: that is what u is for.
    the ratio upside down: if u[i] * q >= p -> if u[i] * p >= q
        Your ratio is upside down: draft over target.
    kept with the model's probability: if u[i] * q >= p -> if u[i] >= p
        You keep a token with the model's probability for it, without dividing by the draft's.
    the best one only: if u[i] * q >= p -> if token != int(target[i].argmax())
        You keep a token only if it is the model's best. That is right for greedy decoding; here tokens are drawn.
    kept and refused exchanged: if u[i] * q >= p -> if u[i] * q < p
        You keep what should be refused, and refuse what should be kept.
    drawn from the model: (target[i] - draft[i]).clamp(min=0) -> target[i]
        After a refusal you draw from the model's own probabilities. Tokens that the draft proposes often come too often
        then: draw from what it proposes too seldom, max(target - draft, 0).
    the wrong difference: (target[i] - draft[i]).clamp(min=0) -> (draft[i] - target[i]).clamp(min=0)
        After a refusal you draw from draft - target. It is the other way round.
    the size of the difference: (target[i] - draft[i]).clamp(min=0) -> (target[i] - draft[i]).abs()
        After a refusal you draw from |target - draft|: what the draft proposes too often is in it too. Only what it
        proposes too seldom counts.
    drawn from the draft: (target[i] - draft[i]).clamp(min=0) -> draft[i]
        After a refusal you draw from the draft's probabilities.
    not scaled: v * cumulative[-1] -> v
        You do not scale what is left to sum 1: a v above its sum falls behind the last token.
    goes on after a refusal: break -> continue
        You go on after a refusal. What was drafted behind a refused token was drafted for another text.
    the refused one is kept too: break -> kept.append(token); break
        The refused token is in your result.
    the first number for all: u[i] * q -> u[0] * q
        You use the first u for all drafted tokens.
    v decides: u[i] * q -> v * q
        You use v to keep or refuse. It is for the token that is drawn; each drafted one has its own u.
    one row on: target[i, token], draft -> target[i + 1, token], draft
        You compare with the model's row after the drafted token. Row i is what it said before it.
    the last token from the row before: weights = target[len(tokens)] -> weights = target[len(tokens) - 1]
        If all are kept, you draw the last token from the row before the last.
    the first best: drawn = (cumulative <= v * cumulative[-1]).sum().item() -> drawn = weights.argmax().item()
        You take the best token in place of a drawn one.
    from the other end: cumulative <= v -> cumulative <= (1 - v)
        You count from the other end of [0, 1): with 1 - v in place of v.
    the rest first: return [*kept, drawn] -> return [drawn, *kept]
        Your tokens stand in another order: the drawn one comes last.
    the drawn one is missing: return [*kept, drawn] -> return kept or [drawn]
        Where a token was kept, the one that is drawn after it is missing.
    the drawn one alone: return [*kept, drawn] -> return [drawn]
        You return the drawn token alone, without those kept before it.
""")


@exercise.misconception
def no_token_more(target, draft, tokens, u, v):
    """If all drafted tokens are kept, you stop there. The model's last row is there already: it gives one more."""
    result = accept_drafts(target, draft, tokens, u, v)
    return result[: len(tokens)] if tokens else result


@exercise.misconception
def the_last_token_from_the_draft(target, draft, tokens, u, v):
    """If all are kept, you draw the last token from the draft's last row. It comes from the model's."""
    if not tokens:
        return accept_drafts(target, draft, tokens, u, v)
    return accept_drafts(torch.cat([target[:-1], draft[-1:]]), draft, tokens, u, v)


@exercise.misconception
def never_keeps(target, draft, tokens, u, v):
    """You keep no draft and draw from the model. The distribution is right, and nothing is gained."""
    return accept_drafts(target[:1], draft[:0], [], [], v)


@exercise.misconception
def one_at_most(target, draft, tokens, u, v):
    """You look at the first drafted token alone. Go on until one is refused."""
    return accept_drafts(target[: 1 + len(tokens[:1])], draft[:1], tokens[:1], u[:1], v)
