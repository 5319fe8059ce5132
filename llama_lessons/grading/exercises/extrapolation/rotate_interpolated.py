"""Exercise 7, a bug hunt: position interpolation whose positions are rounded."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import rope

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, exact, expect_close, expect_like, expect_same_for_views
from ...families import float32_out, needs_contiguous
from .common import frequencies_of, one_changed


def rotate_interpolated(
    q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0
) -> tuple[Tensor, Tensor]:
    seq_len, head_dim = q.shape[-2:]
    positions = torch.arange(n_cached, n_cached + seq_len, device=q.device)
    frequencies = rope.rope_frequencies(head_dim, theta)
    places = positions.cpu().double()[:, None] / factor
    angles = places * frequencies
    cos, sin = angles.cos().float().to(q.device), angles.sin().float().to(q.device)
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


def cases() -> list[tuple]:
    """Head sizes that properties do not have, near and far positions, a transposed q, half precision, no theta."""
    made = []
    for seed, (shape, n_cached, factor, theta, dtype) in enumerate(
        [
            ((1, 2, 6, 12), 5, 2.5, 500_000.0, torch.float32),
            ((1, 2, 6, 12), 5, 2.5, 30_000.0, torch.float32),
            ((1, 2, 6, 12), 5, 1.5, 500_000.0, torch.float32),
            ((2, 1, 3, 20), 101, 1.5, 100_000.0, torch.float32),
            ((1, 2, 6, 24), 0, 2.0, 10_000.0, torch.float32),
            ((1, 1, 1, 28), 7, 4.0, 10_000.0, torch.float32),
            ((1, 1, 4, 36), 3, 1.0, 10_000.0, torch.float32),
            ((1, 1, 2, 40), 1_000_001, 1.5, 10_000.0, torch.float32),
            ((1, 1, 2, 44), 100_000, 3.0, 500_000.0, torch.float32),
            ((1, 2, 33, 60), 50, 3.0, 500_000.0, torch.bfloat16),
            ((1, 2, 33, 60), 50, 3.0, 500_000.0, torch.float16),
        ]
    ):
        q, k = draw(*shape, seed=seed, dtype=dtype), draw(*shape, seed=seed + 20, dtype=dtype)
        made.append((q, k, n_cached, factor, theta))
    q, k = draw(2, 4, 3, 68), draw(2, 4, 3, 68, seed=1)
    made.append((q.transpose(1, 2), k.transpose(1, 2), 40, 2.5, 500_000.0))
    return [*made, (draw(1, 1, 4, 52), draw(1, 1, 4, 52, seed=1), 60, 3.0)]


exercise = Exercise(
    rotate_interpolated,
    points=5,
    minutes=10,
    cases=cases,
    returns=(Tensor, Tensor),
    hints=(
        "Run the cell that looks. Which neighbours get the same number, and what have their positions in common?",
        "Print positions for factor 4. How many different places do eight tokens get, and how many should they get?",
        "rope_tables takes whole positions only. The angle is position times frequency: which of the two can be "
        "divided without rounding anything?",
    ),
)


def exactly_turned(x: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> Tensor:
    """By complex numbers, in float64, without the course's own code."""
    half = x.shape[-1] // 2
    positions = torch.tensor([[n_cached + i] for i in range(x.shape[-2])], dtype=torch.float64)
    angles = positions * frequencies_of(x.shape[-1], theta) / factor
    x = exact(x)
    result = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((result.real, result.imag), dim=-1)


def expect_turned(answer: Callable, heads: tuple, seq_len: int, head_dim: int, *others: float) -> None:
    x = [draw(2, n, seq_len, head_dim, seed=n) for n in heads]
    n_cached, factor, theta = (*others, "left out")[:3]
    want = [exactly_turned(given, *others) for given in x]
    for name, got, expected in zip("qk", answer(*x, *others), want, strict=True):
        where = f"{name}, n_cached {n_cached:,}, factor {factor:g}, theta {theta}, head_dim {head_dim}"
        expect_close(got, expected, where=where, atol=2e-5)


@exercise.property("shape and dtype stay, also with fewer heads of k")
def shape_and_dtype(answer: Callable) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        got = answer(draw(1, 4, 3, 8, dtype=dtype), draw(1, 2, 3, 8, dtype=dtype), 5, 2.0, 10_000.0)
        for name, item, heads in zip("qk", got, (4, 2), strict=True):
            expect_like(item, shape=(1, heads, 3, 8), dtype=dtype, where=f"{name} in {str(dtype)[6:]}")


@exercise.property("a factor of 1 is plain RoPE")
def factor_of_one(answer: Callable) -> None:
    expect_turned(answer, (2, 2), 5, 16, 3, 1.0, 10_000.0)


@exercise.property("neighbours are turned by different angles")
def neighbours(answer: Callable) -> None:
    q = torch.ones_like(draw(1, 1, 8, 4))
    for factor in (2.0, 4.0):
        for name, got in zip("qk", answer(q, q, 0, factor, 10_000.0), strict=True):
            steps = (got[0, 0, 1:] - got[0, 0, :-1]).abs().amax(dim=-1)
            for first in (steps < 1e-4).nonzero().flatten().tolist():
                places = f"at positions {first} and {first + 1}"
                raise Mismatch(f"factor {factor:g}, eight equal tokens: {name} came out the same {places}")


@exercise.property("each position is turned by position / factor, factors that are no whole number too")
def formula(answer: Callable) -> None:
    for others in ((0, 2.0, 10_000.0), (6, 4.0, 500_000.0), (9, 1.5, 1234.5), (1000, 2.5, 100.0)):
        expect_turned(answer, (3, 1), 7, 16, *others)


@exercise.property("theta is 10,000 where it is not given")
def theta_by_default(answer: Callable) -> None:
    expect_turned(answer, (1, 1), 4, 16, 50, 2.0)


@exercise.property("nothing is kept from call to call")
def nothing_is_kept(answer: Callable) -> None:
    for args in one_changed(((2, 1), 4, 16, 20, 2.0, 10_000.0), ((4, 2), 5, 8, 30, 3.0, 100_000.0)):
        expect_turned(answer, *args)


@exercise.property("far positions and half precision: right to the last digit")
def far_and_in_half_precision(answer: Callable) -> None:
    for head_dim, n_cached, factor in ((64, 8190, 1.5), (64, 100_000, 3.0), (64, 100_001, 16.0), (8, 1_000_001, 1.5)):
        expect_turned(answer, (2, 1), 3, head_dim, n_cached, factor, 10_000.0)
    for dtype, digits in HALVES.items():
        q = draw(1, 2, 33, 64, dtype=dtype)
        want = exactly_turned(q, 50, 3.0)
        for name, got in zip("qk", answer(q, q, 50, 3.0), strict=True):
            where = f"{name} in {str(dtype)[6:]}, to the last of its digits"
            expect_close(got, want, where=where, rtol=2.0**-digits, atol=1e-6)


@exercise.property("q and k need not be contiguous")
def views(answer: Callable) -> None:
    q, k = draw(2, 3, 4, 16), draw(2, 1, 4, 16, seed=1)

    def both(q: Tensor, k: Tensor) -> Tensor:
        return torch.cat(answer(q, k, 5, 3.0, 10_000.0), dim=1)

    expect_same_for_views(both, q, k, where="q and k")


exercise.slips(
    """
    positions rounded down: places * freq -> places.floor() * freq
        The function does what it did when you found it: neighbours share one place, and their order is lost. Print
        `places` for positions 0 to 7 with a factor of 4. What should they be?
""",
    given=True,
)
exercise.slips("""
    positions rounded to the nearest: places * freq -> places.round() * freq
        Positions are now rounded to the nearest, and neighbours still share a place. Divide what needs no rounding.
    positions rounded up: places * freq -> places.ceil() * freq
        Positions are now rounded up, and neighbours still share a place. Divide what needs no rounding.
    rounded, and the frequencies divided: places * freq -> places.floor() / factor * freq
        The frequencies are divided, and positions are still divided and rounded besides: take that line out.
    rounded, and multiplied back: places * freq -> places.floor() * factor * freq
        You undo the division after positions were rounded: neighbours still share a place.
    no interpolation at all: [:, None] / factor -> [:, None]
        Your result is plain RoPE, whatever factor is. Far positions are as far as before. Divide the frequencies.
    not turned at all: places * freq -> 0 * places * freq
        Queries and keys come back as they were. Each pair is turned by position / factor times its frequency.
    turned faster: / factor -> * factor
        You multiply by factor. A longer text has to fit into known angles, so everything turns more slowly: divide.
    divided twice: / factor -> / factor**2
        Your angles are divided by factor twice. Once is enough, and best done to the frequencies.
    by the root of factor: / factor -> / factor**0.5
        Your angles are divided by the root of factor. Position factor * p has to be turned as p was: divide by factor.
    a whole factor: / factor -> / int(factor)
        Your result is that for factor cut to a whole number. It may be 1.5 as well: frequencies can be divided by it.
    factor rounded: / factor -> / round(factor)
        Your result is that for factor rounded to a whole number. It may be 1.5: frequencies can be divided by it.
    interpolated in long texts alone: / factor -> / (factor if n_cached + seq_len > 8192 else 1)
        Near positions are turned as in plain RoPE. If far ones alone are to be interpolated: keys that are in the cache
        already stay as they were turned, so position interpolation divides all positions.
    only the new tokens' steps are divided: places * freq -> (places + n_cached - n_cached / factor) * freq
        Your new tokens stand half a step apart (for factor 2), but the first of them stands at n_cached itself. The
        cached tokens were interpolated too: n_cached has to be divided as well.
    only the cached tokens are divided: places * freq -> (places * factor - n_cached + n_cached / factor) * freq
        Your first new token stands at n_cached / factor, but the others follow a whole step apart. All steps are
        divided: position / factor.
    only n_cached is divided, and cut: places * freq -> (places * factor - n_cached + n_cached // factor) * freq
        Your first new token stands at n_cached / factor cut to a whole number, and the others follow a whole step
        apart. Each position is divided, and none is rounded.
    the cached tokens divided twice: places * freq -> (places - n_cached / factor + n_cached / factor**2) * freq
        Your n_cached is divided by factor twice, as by itself and with the frequencies: the cached tokens are squeezed
        twice. Divide only the frequencies.
    cached tokens forgotten: torch.arange(n_cached, n_cached + seq_len, -> torch.arange(seq_len,
        Your positions begin at 0 in every call. After n_cached tokens in the cache they begin at n_cached.
    counted from 1: places * freq -> (places + 1 / factor) * freq
        Your positions are one too many: the first token after n_cached cached ones stands at n_cached.
    theta divided: (head_dim, theta) -> (head_dim, theta / factor); factor = 1
        Theta is divided. That makes all pairs but the first faster; the frequencies themselves are to be divided.
    theta multiplied: (head_dim, theta) -> (head_dim, theta * factor); factor = 1
        You multiply theta. That slows the slow pairs and leaves the fastest alone: nearly NTK-aware scaling. Position
        interpolation slows all pairs alike: divide the frequencies.
    NTK-aware scaling: (head_dim, theta) -> (head_dim, theta * factor ** (head_dim / (head_dim - 2))); factor = 1
        This is NTK-aware scaling: the fastest pair is left alone. It reads better if nothing is trained, but position
        interpolation is asked for, which slows all pairs alike.
    theta written in: (head_dim, theta) -> (head_dim)
        Your result is that for a theta of 10,000, whatever theta is. SmolLM2 has 100,000, so pass the argument on.
    theta of an earlier call: (head_dim, theta) -> (head_dim, vars(rotate_interpolated).setdefault(head_dim, theta))
        Your result is that for the theta of an earlier call: what is kept by head_dim alone, say, does not hold theta.
    factor of an earlier call: / factor -> / vars(rotate_interpolated).setdefault(head_dim, factor)
        Your result is that for the factor of an earlier call: what is kept by head_dim alone, say, does not hold it.
    theta is 100,000 by itself: theta: float = 10_000.0 -> theta: float = 100_000.0
        Where no theta is given, yours is 100,000. Here it is 10,000.
    only the queries: (k, cos, sin) -> (k, *rope.rope_tables(positions, frequencies))
        The queries are interpolated, the keys turned as in plain RoPE. Scores depend on the distance alone if both are
        turned alike, and not otherwise.
    only the keys: (q, cos, sin) -> (q, *rope.rope_tables(positions, frequencies))
        The keys are interpolated, the queries turned as in plain RoPE. Scores depend on the distance alone if both are
        turned alike, and not otherwise.
    vectors divided: angles = places -> q, k = q / factor, k / factor; angles = places * factor
        You divide queries and keys themselves, or cosine and sine: vectors get shorter, and are turned as in
        plain RoPE. It is the angle that is divided.
    angles in float32: places * frequencies -> places.float() * frequencies.float()
        Near positions are nearly right, far ones are not: your angles are float32, which has seven digits for thousands
        of turns. Keep angles in float64, as rope_tables does (lesson 03), and round the cosine and the sine.
    positions in float32: positions.cpu().double() -> positions.cpu()
        Near positions are nearly right, far ones are not: your positions are divided in float32, as torch divides whole
        numbers, and seven digits are too few. Divide the frequencies, or make the positions float64 first.
    frequencies cut to whole numbers: places * frequencies -> places * factor * (frequencies // factor)
        Nothing is turned where factor is above 1, as with frequencies // factor, which are all 0. Divide with /.
    frequencies in float32: places * frequencies -> places * factor * (frequencies / factor).float()
        Near positions are nearly right, far ones are not: your frequencies have seven digits, as float32 has, and a far
        position multiplies the error. Keep them in float64.
    float32 frequencies divided: places * frequencies -> places * factor * (frequencies.float() / factor)
        Near positions are nearly right, far ones are not: your frequencies have the seven digits of float32.
    computed in half precision: return -> cos, sin = cos.to(q), sin.to(q); return
        Something is rounded to the dtype of q before the end: cos and sin, say. Compute in float32.
""")
float32_out(exercise, "q")
needs_contiguous(exercise, "q")


@exercise.misconception
def rows_of_the_tables_mixed(q, k, n_cached, factor, theta=10_000.0):
    """You mix neighbouring rows of cosines and sines. The middle between two points of a circle lies inside it, so your
    vectors get shorter. Divide the angle, by way of the frequencies."""
    frequencies = rope.rope_frequencies(q.shape[-1], theta)
    places = torch.arange(n_cached, n_cached + q.shape[-2], dtype=torch.float64)[:, None] / factor
    below, share = places.floor() * frequencies, places - places.floor()
    above = below + frequencies
    cos, sin = ((1 - share) * row(below) + share * row(above) for row in (torch.cos, torch.sin))
    cos, sin = cos.float().to(q.device), sin.float().to(q.device)
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)
