"""Exercise 5, a bug hunt: positions of new tokens behind a cache."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import rope

from ...exercise import Exercise
from ...expect import HALVES, draw, expect_close, expect_like
from ...families import float32_out, kept_from_the_first_call
from .common import by_matrices
from .common import tables_of_neighbours_with_turns_of_halves as neighbours_and_halves  # noqa: F401  (a slip uses it)


def rotate_new_tokens(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    seq_len, head_dim = q.shape[-2:]
    positions = torch.arange(seq_len, device=q.device) + n_cached
    frequencies = rope.rope_frequencies(head_dim, theta)
    cos, sin = rope.rope_tables(positions, frequencies)
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


def cases() -> list[tuple]:
    """Prefill, steps of one and of more tokens, fewer key heads, far tokens, half precision; sizes come again."""
    made = []
    for seed, (n_heads, n_kv_heads, seq_len, head_dim, n_cached, theta, dtype) in enumerate(
        [
            (2, 2, 6, 10, 0, 10_000.0, torch.float32),
            (4, 2, 1, 10, 5, 10_000.0, torch.float32),
            (4, 1, 3, 14, 17, 500_000.0, torch.float32),
            (2, 1, 1, 10, 9, 300.0, torch.float32),
            (2, 1, 3, 14, 12, 10_000.0, torch.float32),
            (2, 2, 1, 10, 31, 10_000.0, torch.float32),
            (2, 1, 3, 22, 43, 1234.5, torch.float32),
            (2, 1, 3, 22, 43, 10_000.0, torch.float32),
            (2, 1, 2, 10, 70_001, 10_000.0, torch.float32),
            (1, 1, 3, 18, 300_001, 500_000.0, torch.float32),
            (2, 1, 7, 64, 301, 10_000.0, torch.float16),
            (2, 1, 7, 64, 301, 10_000.0, torch.bfloat16),
        ]
    ):
        q = draw(2, n_heads, seq_len, head_dim, seed=seed, dtype=dtype)
        made.append((q, draw(2, n_kv_heads, seq_len, head_dim, seed=seed + 50, dtype=dtype), n_cached, theta))
    return [*made, (draw(1, 2, 4, 10, seed=80), draw(1, 2, 4, 10, seed=81), 20)]


exercise = Exercise(
    rotate_new_tokens,
    points=5,
    minutes=10,
    cases=cases,
    returns=(Tensor, Tensor),
    hints=(
        "A first call with n_cached = 0 gives right results, so look for what n_cached changes.",
        "Print the positions for n_cached = 5 and one new token. Positions count from 0, and five tokens are cached. "
        "Which positions do these have? Which one is free?",
        "Compare eight tokens at once with five and then three: the rotated keys must be the same eight.",
    ),
)


def expect_turned(answer: Callable, q: Tensor, k: Tensor, *n_cached_and_theta: float) -> None:
    n_cached, *theta = n_cached_and_theta
    digits, atol = (HALVES[q.dtype], 1e-6) if q.dtype in HALVES else (17, 2e-5)
    for name, given, got in zip("qk", (q, k), answer(q, k, n_cached, *theta), strict=True):
        shape, said = tuple(given.shape), f"theta {theta[0]:g}" if theta else "no theta given"
        where = f"{name} of shape {shape} in {str(q.dtype)[6:]}, {n_cached} tokens cached, {said}"
        expect_like(got, shape=shape, dtype=given.dtype, where=where)
        expect_close(got, by_matrices(given, n_cached, "half", *theta), where=where, rtol=2.0**-digits, atol=atol)


@exercise.property("nothing cached: q and k are turned for positions 0, 1, 2, ...")
def nothing_cached(answer: Callable) -> None:
    expect_turned(answer, draw(2, 2, 6, 8), draw(2, 2, 6, 8, seed=1), 0, 10_000.0)
    expect_turned(answer, draw(1, 1, 1, 2), draw(1, 1, 1, 2, seed=1), 0, 10_000.0)


@exercise.property("five or seven cached: q and k are turned for positions from 5 or 7 on")
def five_cached(answer: Callable) -> None:
    expect_turned(answer, draw(1, 2, 1, 8), draw(1, 2, 1, 8, seed=1), 5, 10_000.0)
    expect_turned(answer, draw(2, 2, 3, 16), draw(2, 2, 3, 16, seed=1), 7, 10_000.0)


@exercise.property("in pieces or at once, keys and queries come out the same")
def pieces_or_at_once(answer: Callable) -> None:
    q, k = draw(2, 2, 8, 8), draw(2, 2, 8, 8, seed=1)
    whole = answer(q, k, 0, 10_000.0)
    for sizes in ((5, 3), (1,) * 8, (1, 6, 1)):
        parts = torch.arange(8).split(sizes)
        pieces = [answer(q[:, :, part], k[:, :, part], part[0].item(), 10_000.0) for part in parts]
        for name, at_once, turned in zip("qk", whole, zip(*pieces, strict=True), strict=True):
            where = f"{name} in pieces of {', '.join(map(str, sizes))}, against 8 at once"
            expect_close(torch.cat(turned, dim=2), at_once, where=where)


@exercise.property("fewer key heads than query heads are fine")
def fewer_key_heads(answer: Callable) -> None:
    expect_turned(answer, draw(2, 6, 3, 8), draw(2, 2, 3, 8, seed=1), 4, 10_000.0)
    expect_turned(answer, draw(1, 9, 1, 64), draw(1, 3, 1, 64, seed=1), 100, 10_000.0)


@exercise.property("theta is used, and 10,000 where it is not given")
def theta_is_used(answer: Callable) -> None:
    q, k = draw(1, 2, 2, 8), draw(1, 2, 2, 8, seed=1)
    for theta in ((500_000.0,), (), (1234.5,), (500_000.0,)):
        expect_turned(answer, q, k, 40, *theta)


@exercise.property("far positions and half precision: right in numbers and dtype")
def far_and_in_half_precision(answer: Callable) -> None:
    expect_turned(answer, draw(1, 2, 2, 8), draw(1, 2, 2, 8, seed=1), 200_001, 10_000.0)
    for dtype in HALVES:
        q, k = draw(1, 2, 33, 64, dtype=dtype), draw(1, 2, 33, 64, seed=1, dtype=dtype)
        expect_turned(answer, q, k, 4_099, 10_000.0)


exercise.slips(
    """
    the planted bug: + n_cached -> + max(n_cached - 1, 0)
        The bug is still there. Look at the two printed lines: from which key on do they differ, and at which position
        does the second call begin?
""",
    given=True,
)
exercise.slips("""
    one position behind: + n_cached -> + n_cached - 1
        The first token of a prompt stands at -1, and all others one too low. Positions count from 0: start at n_cached.
    the prompt begins at 1: + n_cached -> + max(n_cached, 1)
        With nothing cached the first token stands at 1, not at 0: start at n_cached, whatever it is.
    one position ahead: + n_cached -> + n_cached + 1
        All tokens stand one position too far, the first one at 1. Scores do not notice, since only distances count, but
        positions count from 0, and keys that another program cached would not fit yours.
    one position ahead after the prompt: + n_cached -> + n_cached + (n_cached > 0)
        With 5 tokens cached the new one gets position 6. The cached ones belong at 0 to 4, so 5 is free.
    the cache is ignored: + n_cached -> + 0
        New tokens start at position 0, however many are cached. Start at n_cached.
    several new tokens start at 0: + n_cached -> + (n_cached if seq_len == 1 else 0)
        Several new tokens at once start at position 0, however many are cached: start at n_cached.
    an error behind a cache: positions = -> cut = seq_len - (n_cached > 0); seq_len = cut; positions =
        Behind a cache a ValueError is raised, as where there are more or fewer positions than new tokens.
        Positions are whole numbers, from n_cached to n_cached + seq_len - 1.
    the planted bug for several tokens: + n_cached -> + (n_cached if seq_len == 1 else max(n_cached - 1, 0))
        Behind a cache several new tokens at once still start one position too low: start at n_cached.
    every new token at n_cached: + n_cached -> * 0 + n_cached
        Behind a cache all new tokens get the same position, n_cached. They need n_cached, n_cached + 1, and so on.
    the cache counted twice: + n_cached -> + 2 * n_cached
        New tokens start at 2 * n_cached. The cached ones belong at 0 to n_cached - 1: start at n_cached.
    nothing is turned: positions = -> return q, k; positions =
        q and k come out as they went in. So a query and a key score alike wherever they stand.
    keys left as they are: rope.apply_rope(k, cos, sin) -> k
        Only the queries are turned. A score depends on distance alone when both ends turn.
    queries left as they are: rope.apply_rope(q, cos, sin) -> q
        Only the keys are turned. A score depends on distance alone when both ends turn.
    keys start at 0: (k, cos, sin) -> (k, *rope.rope_tables(positions - n_cached, frequencies))
        The queries start at n_cached, the new keys at 0. They belong to the same tokens, and stand in the same places.
    queries start at 0: (q, cos, sin) -> (q, *rope.rope_tables(positions - n_cached, frequencies))
        The keys start at n_cached, the new queries at 0. They belong to the same tokens, and stand in the same places.
    keys one position behind: (k, cos, sin) -> (k, *rope.rope_tables(positions - min(n_cached, 1), frequencies))
        The keys still have the planted bug: behind a cache they stand one position too low.
    queries one position behind: (q, cos, sin) -> (q, *rope.rope_tables(positions - min(n_cached, 1), frequencies))
        The queries still have the planted bug: behind a cache they stand one position too low.
    q and k exchanged: positions = -> q, k = k, q; positions =
        The rotated keys come first and the queries second. Return q, then k.
    keys repeated: positions = -> k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1); positions =
        You bring the keys to as many heads as the queries. They keep their own number of heads.
    turns backwards: (head_dim, theta) -> (head_dim, theta).neg()
        Everything turns by minus the angle, so that a key 7 tokens back is read as one 7 tokens ahead.
    10,000 whatever theta is: (head_dim, theta) -> (head_dim)
        Your result is that for a theta of 10,000, whatever theta is. Llama 3 uses 500,000, so take the argument.
    theta of an earlier call: (head_dim, theta) -> (head_dim, vars(rotate_new_tokens).setdefault(head_dim, theta))
        Your result is that for the theta of an earlier call: what is kept by head_dim alone, say, does not hold theta.
    frequencies in float32: (positions, frequencies) -> (positions, frequencies.float())
        Near tokens are nearly right, far ones are not: your frequencies have the seven digits of float32, and a far
        position multiplies the error. rope_frequencies and rope_tables keep float64.
    computed in half precision: return -> cos, sin = cos.to(q), sin.to(q); return
        Something is rounded to half precision before the end: cos and sin, say. Cast only the result.
    angles in float32: return -> a = positions[:, None] * frequencies.to(cos); cos, sin = a.cos(), a.sin(); return
        Near tokens are nearly right, far ones are not: your angles are float32, which has seven digits for thousands of
        turns. rope_tables works angles out in float64, and rounds the cosine and the sine.
    half-precision angles: return -> a = positions.to(q).outer(frequencies.to(q)); cos, sin = a.cos(), a.sin(); return
        Your angles are as if computed in the dtype of q, which has too few digits for them. Cast only what goes out.
    pairs are neighbours: return -> return tuple(rope.apply_rope(x, cos, sin, "interleaved") for x in (q, k)); return
        Channel 2i is paired with 2i + 1, but this cache is in layout half: i with i + head_dim / 2.
    tables of the other layout: return -> return tuple(neighbours_and_halves(x, cos, sin) for x in (q, k)); return
        The tables are laid out for neighbours (repeat_interleave), the channels turned as halves: halves for both.
    added, not turned: return -> cos = torch.cat((cos, sin), dim=-1); return (q + cos).to(q), (k + cos).to(k); return
        cos and sin are added to q and k, so that q.k depends on where the two tokens stand. Turn each pair instead.
    another default: theta: float = 10_000.0 -> theta: float = 500_000.0
        Where no theta is given, yours is 500,000, as in Llama 3. Here it is 10,000.
""")
float32_out(exercise, "q")
kept_from_the_first_call(exercise, "theta", under=["n_cached"])
