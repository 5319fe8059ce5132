"""A bug hunt: positions of new tokens behind a cache."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import rope

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, by_matrices, draw
from .rotation import at_least_float32, halves, join_halves


def turn(x: Tensor, positions: Tensor, theta: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Turn x in layout "half", with angles computed in `dtype`: what the answers below share."""
    frequencies = theta ** -(torch.arange(0, x.shape[-1], 2, dtype=torch.float64, device=x.device) / x.shape[-1])
    angles = positions.to(dtype)[:, None] * frequencies.to(dtype)
    cos, sin = angles.double().cos().float(), angles.double().sin().float()
    a, b = halves(x)
    return join_halves(a * cos - b * sin, b * cos + a * sin, x)


def new_positions(x: Tensor, start: int) -> Tensor:
    return torch.arange(start, start + x.shape[-2], device=x.device)


def reference_rotate(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, n_cached)
    return turn(q, positions, theta), turn(k, positions, theta)


def decoding_cases() -> list[tuple]:
    """Prefill, steps of one and of more tokens, grouped heads, half precision, far positions, another theta."""
    cases = []
    for seed, (n_heads, n_kv_heads, seq_len, head_dim, n_cached, theta, dtype) in enumerate(
        [
            (2, 2, 6, 8, 0, 10_000.0, torch.float32),
            (4, 2, 1, 8, 5, 10_000.0, torch.float32),
            (4, 1, 3, 16, 7, 10_000.0, torch.float32),
            (2, 1, 2, 8, 4_099, 500_000.0, torch.float32),
            (2, 1, 2, 8, 4_099, 10_000.0, torch.float16),
        ]
    ):
        q = draw(2, n_heads, seq_len, head_dim, seed=seed, dtype=dtype).requires_grad_()
        k = draw(2, n_kv_heads, seq_len, head_dim, seed=seed + 50, dtype=dtype).requires_grad_()
        cases.append((q, k, n_cached, theta))
    return cases


rotate_new_tokens = Exercise(
    name="rotate_new_tokens",
    lesson=LESSON,
    points=5,
    minutes=10,
    parameters=("q", "k", "n_cached", "theta"),
    reference=reference_rotate,
    cases=decoding_cases,
    returns=(Tensor, Tensor),
    hints=(
        "A first call with n_cached = 0 gives right results, so look for what n_cached changes.",
        "Print the positions for n_cached = 5 and one new token. Positions count from 0, and five tokens are cached. "
        "Which positions do these have? Which one is free?",
        "Compare eight tokens at once with five and then three: the rotated keys must be the same eight.",
    ),
)


def expect_turned(answer: Callable, q: Tensor, k: Tensor, n_cached: int, theta: float, atol: float = 2e-5) -> None:
    positions = torch.arange(n_cached, n_cached + q.shape[2])
    for name, given, got in zip("qk", (q, k), answer(q, k, n_cached, theta), strict=True):
        where = f"{name} of shape {tuple(q.shape if name == 'q' else k.shape)}, {n_cached} tokens cached"
        expect_like(got, shape=tuple(given.shape), dtype=given.dtype, where=where)
        expect_close(got, by_matrices(given, positions, "half", theta), where=where, rtol=1e-3, atol=atol)


@rotate_new_tokens.property("nothing cached: tokens stand at 0, 1, 2, ...")
def _(answer: Callable) -> None:
    expect_turned(answer, draw(2, 2, 6, 8), draw(2, 2, 6, 8, seed=1), 0, 10_000.0)
    expect_turned(answer, draw(1, 1, 1, 2), draw(1, 1, 1, 2, seed=1), 0, 10_000.0)


@rotate_new_tokens.property("five cached: the new token stands at position 5")
def _(answer: Callable) -> None:
    expect_turned(answer, draw(1, 2, 1, 8), draw(1, 2, 1, 8, seed=1), 5, 10_000.0)
    expect_turned(answer, draw(2, 2, 3, 16), draw(2, 2, 3, 16, seed=1), 7, 10_000.0)


@rotate_new_tokens.property("in pieces or at once, keys and queries come out the same")
def _(answer: Callable) -> None:
    q, k = draw(2, 2, 8, 8), draw(2, 2, 8, 8, seed=1)
    whole = answer(q, k, 0, 10_000.0)
    for sizes in ((5, 3), (1,) * 8, (1, 6, 1)):
        pieces, start = [], 0
        for size in sizes:
            part = slice(start, start + size)
            pieces.append(answer(q[:, :, part], k[:, :, part], start, 10_000.0))
            start += size
        for name, at_once, parts in zip("qk", whole, zip(*pieces, strict=True), strict=True):
            where = f"{name} in pieces of {', '.join(map(str, sizes))}, against 8 at once"
            expect_close(torch.cat(parts, dim=2), at_once, where=where)


@rotate_new_tokens.property("fewer key heads than query heads are fine")
def _(answer: Callable) -> None:
    expect_turned(answer, draw(2, 6, 3, 8), draw(2, 2, 3, 8, seed=1), 4, 10_000.0)
    expect_turned(answer, draw(1, 9, 1, 64), draw(1, 3, 1, 64, seed=1), 100, 10_000.0)


@rotate_new_tokens.property("theta is used, and 10,000 where it is not given")
def _(answer: Callable) -> None:
    q, k = draw(1, 2, 2, 8), draw(1, 2, 2, 8, seed=1)
    expect_turned(answer, q, k, 40, 500_000.0)
    for name, given, got in zip("qk", (q, k), answer(q, k, 2_000), strict=True):
        want = by_matrices(given, torch.arange(2_000, 2_002), "half")
        expect_close(got, want, where=f"{name}, 2000 tokens cached, no theta given", rtol=1e-3, atol=2e-3)


@rotate_new_tokens.property("far positions and half precision: angles stay exact")
def _(answer: Callable) -> None:
    # A float32 angle at 20,000 is off by a thousandth, and that is accepted; a float16 angle is off by turns.
    expect_turned(answer, draw(1, 2, 2, 64), draw(1, 2, 2, 64, seed=1), 20_000, 10_000.0, atol=2e-2)
    for dtype in (torch.float16, torch.bfloat16):
        q, k = draw(1, 2, 2, 64, dtype=dtype), draw(1, 2, 2, 64, seed=1, dtype=dtype)
        expect_turned(answer, q, k, 4_099, 10_000.0, atol=3e-2)


@rotate_new_tokens.property("gradients flow back to q and to k")
def _(answer: Callable) -> None:
    q, k = draw(1, 4, 3, 8).requires_grad_(), draw(1, 2, 3, 8, seed=1).requires_grad_()
    total = sum(got.sum() for got in answer(q, k, 5, 10_000.0))
    gradients = torch.autograd.grad(total, (q, k), allow_unused=True) if total.requires_grad else (None, None)
    for name, x, gradient in zip("qk", (q, k), gradients, strict=True):
        if gradient is None:
            raise Mismatch(f"the rotated {name} is expected to carry gradients back to {name}, but it is cut off")
        want = by_matrices(torch.ones_like(x), -torch.arange(5, 8), "half")
        expect_close(gradient, want, where=f"gradient of {name}", rtol=1e-3, atol=2e-5)


@rotate_new_tokens.misconception(
    "no gradients",
    "The numbers are right, but no gradient reaches q and k: .detach(), .data, torch.no_grad or a new torch.tensor "
    "cuts them off, and the model could not be trained with this.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference_rotate(q.detach(), k.detach(), n_cached, theta)


@rotate_new_tokens.misconception(
    "the planted bug",
    "The bug is still there: the prompt comes out right, tokens after it do not. Look at the two printed lines. From "
    "which key on do they differ, and at which position does the second call begin?",
    given=True,
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, max(n_cached - 1, 0))
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "one position behind",
    "The first token of a prompt stands at -1, and all others one too low. Positions count from 0: start at n_cached.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, n_cached - 1)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "the prompt begins at 1",
    "Tokens after the prompt are right now, but with nothing cached the first token stands at 1, not at 0. max(..., 0) "
    "hid that: start at n_cached, without it.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, max(n_cached - 1, 0) + 1)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "one position ahead",
    "All tokens stand one position too far, the first one at 1. Scores do not notice, since only distances count, but "
    "positions count from 0, and keys that another program cached would not fit yours.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, n_cached + 1)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "one position ahead when decoding",
    "The prompt is right, but with 5 tokens cached the new one gets position 6: positions count from 0, so the cached "
    "ones have 0 to 4 and 5 is free.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, n_cached + 1 if n_cached else 0)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "the cache is ignored",
    "New tokens start at position 0 in each call, so that every generated token believes it is the first. Start at "
    "n_cached.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = new_positions(q, 0)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "every new token at n_cached",
    "All new tokens get the same position, n_cached. Decoding one token at a time hides it; a prompt of several "
    "tokens needs n_cached, n_cached + 1, and so on.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = torch.full_like(new_positions(q, 0), n_cached)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "keys left as they are",
    "Only the queries are turned. A score depends on distance alone when both ends turn.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return turn(q, new_positions(q, n_cached), theta), k


@rotate_new_tokens.misconception(
    "keys start at 0",
    "The queries start at n_cached, the new keys at 0. New keys belong to the same tokens as the new queries, and "
    "stand where these stand.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return turn(q, new_positions(q, n_cached), theta), turn(k, new_positions(k, 0), theta)


@rotate_new_tokens.misconception(
    "added, not turned",
    "cos and sin are added to q and k, as a position table would be. Then q.k depends on where the tokens stand, and "
    "the scores grow sums that have nothing to do with content. Turn each pair instead.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    def add(x: Tensor) -> Tensor:
        ones = torch.ones_like(x, dtype=torch.float32)
        ones[..., x.shape[-1] // 2 :] = 0  # (1, 0) turned by an angle is (cos, sin)
        return (x + turn(ones, new_positions(x, n_cached), theta)).to(x.dtype)

    return add(q), add(k)


@rotate_new_tokens.misconception(
    "frequencies repeated in the other layout",
    "The angles are spread over channels with repeat_interleave, which fits pairs of neighbours, while the channels "
    "are turned in halves. The two channels of a pair then turn at different speeds: lengths and distances break.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    def mix_up(x: Tensor) -> Tensor:
        angles = new_positions(x, n_cached)[:, None] * rope.rope_frequencies(x.shape[-1], theta).to(x.device)
        cos, sin = (table.float().repeat_interleave(2, dim=-1) for table in (angles.cos(), angles.sin()))
        a, b = halves(x)
        return (at_least_float32(x) * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)

    return mix_up(q), mix_up(k)


@rotate_new_tokens.misconception(
    "pairs are neighbours",
    "Channel 2i is paired with 2i + 1. That is a right RoPE in the other layout, but this cache is in layout half: i "
    "with i + head_dim / 2.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    cos, sin = rope.rope_tables(new_positions(q, n_cached), rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, cos, sin, "interleaved"), rope.apply_rope(k, cos, sin, "interleaved")


@rotate_new_tokens.misconception(
    "turns backwards",
    "The sines have the wrong sign: everything turns by minus the angle. Scores do not notice, but pretrained weights "
    "and keys cached by others expect (a cos - b sin, b cos + a sin).",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = -new_positions(q, n_cached)
    return turn(q, positions, theta), turn(k, positions, theta)


@rotate_new_tokens.misconception(
    "angles in half precision",
    "The angles are computed in the dtype of q. Beyond 2048 float16 cannot tell odd positions from even ones, and an "
    "angle of thousands of radians is off by whole ones. Compute angles in float32 or float64; cast what goes out.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    dtype = q.dtype if q.dtype in (torch.float16, torch.bfloat16) else torch.float64
    positions = new_positions(q, n_cached)
    return turn(q, positions, theta, dtype), turn(k, positions, theta, dtype)


@rotate_new_tokens.misconception(
    "theta written in",
    "You use 10,000 whatever theta is. Llama 3 uses 500,000, so take the argument.",
)
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference_rotate(q, k, n_cached)


@rotate_new_tokens.alternative
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    positions = torch.arange(q.shape[2], device=q.device) + n_cached
    cos, sin = rope.rope_tables(positions, rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


@rotate_new_tokens.alternative
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    def turned(x: Tensor) -> Tensor:
        size = x.shape[-1] // 2
        speeds = theta ** (-torch.arange(size, device=x.device) / size)
        angles = torch.outer(torch.arange(n_cached, n_cached + x.shape[-2], device=x.device), speeds)
        a, b = x[..., :size].float(), x[..., size:].float()
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1).to(x.dtype)

    return turned(q), turned(k)


@rotate_new_tokens.alternative
def _(q: Tensor, k: Tensor, n_cached: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    # Turning q and k of all tokens so far and keeping the last ones is wasteful, but right.
    length = n_cached + q.shape[2]
    cos, sin = rope.rope_tables(torch.arange(length, device=q.device), rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, cos[n_cached:], sin[n_cached:]), rope.apply_rope(k, cos[n_cached:], sin[n_cached:])
