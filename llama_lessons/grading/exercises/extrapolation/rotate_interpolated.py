"""Exercise 7, a bug hunt: position interpolation whose positions are rounded."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import rope
from llama_lessons.extrapolation import ntk_theta
from llama_lessons.lab.device import choose_device

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like, random_tensor
from .common import LESSON, frequencies_of

__all__ = ["rotate_interpolated"]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return random_tensor(*shape, seed=seed, dtype=dtype, device=choose_device())


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """x with each pair of layout half turned by its angle, (seq_len, head_dim // 2)."""
    cos, sin = angles.cos().float().to(x.device), angles.sin().float().to(x.device)
    return rope.apply_rope(x, cos, sin)


def places(x: Tensor, n_cached: int) -> Tensor:
    return torch.arange(n_cached, n_cached + x.shape[-2], dtype=torch.float64)[:, None]


def reference(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = places(q, n_cached) / factor * frequencies_of(q.shape[-1], theta)
    return turned(q, angles), turned(k, angles)


def by_complex_numbers(x: Tensor, n_cached: int, factor: float, theta: float) -> Tensor:
    """x turned in float64, without the course's own code."""
    half = x.shape[-1] // 2
    angles = places(x, n_cached) * frequencies_of(x.shape[-1], theta) / factor
    x = x.detach().double().cpu()
    result = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((result.real, result.imag), dim=-1)


def cases() -> list[tuple]:
    return [
        (
            draw(*shape, seed=seed).requires_grad_(),
            draw(*shape, seed=seed + 1).requires_grad_(),
            n_cached,
            factor,
            theta,
        )
        for seed, (shape, n_cached, factor, theta) in enumerate(
            [
                ((1, 2, 6, 8), 0, 2.0, 10_000.0),
                ((1, 2, 6, 8), 5, 4.0, 10_000.0),
                ((2, 1, 3, 64), 101, 1.5, 500_000.0),
                ((1, 1, 1, 16), 7, 2.0, 10_000.0),
                ((1, 1, 4, 16), 3, 1.0, 10_000.0),
                ((1, 1, 2, 16), 1_000_001, 16.0, 10_000.0),  # angles in float32 are off
            ]
        )
    ]


rotate_interpolated = Exercise(
    name="rotate_interpolated",
    lesson=LESSON,
    points=5,
    minutes=10,
    parameters=("q", "k", "n_cached", "factor", "theta"),
    reference=reference,
    cases=cases,
    returns=(Tensor, Tensor),
    hints=(
        "Run the cell that looks. Which neighbours get the same number, and what have their positions in common?",
        "Print positions for factor 4. How many different places do eight tokens get, and how many should they get?",
        "rope_tables takes whole positions only. The angle is position times frequency: which of the two can be "
        "divided without rounding anything?",
    ),
)


@rotate_interpolated.property("shape and dtype stay, also with fewer heads of k")
def _(answer: Callable) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        got = answer(draw(1, 4, 3, 8, dtype=dtype), draw(1, 2, 3, 8, dtype=dtype), 5, 2.0, 10_000.0)
        for name, item, heads in zip("qk", got, (4, 2), strict=True):
            expect_like(item, shape=(1, heads, 3, 8), dtype=dtype, where=f"{name} in {str(dtype)[6:]}")


@rotate_interpolated.property("a factor of 1 is plain RoPE")
def _(answer: Callable) -> None:
    q, k = draw(1, 2, 5, 16), draw(1, 2, 5, 16, seed=1)
    for name, got, x in zip("qk", answer(q, k, 3, 1.0, 10_000.0), (q, k), strict=True):
        expect_close(got, by_complex_numbers(x, 3, 1.0, 10_000.0), where=f"{name}, factor 1, 3 cached", atol=2e-5)


@rotate_interpolated.property("neighbours are turned by different angles")
def _(answer: Callable) -> None:
    for factor in (2.0, 4.0):
        q = torch.ones(1, 1, 8, 4, device=choose_device())
        for name, got in zip("qk", answer(q, q, 0, factor, 10_000.0), strict=True):
            steps = (got[0, 0, 1:] - got[0, 0, :-1]).abs().amax(dim=-1)
            same = (steps < 1e-4).nonzero().flatten().tolist()
            if same:
                raise Mismatch(
                    f"factor {factor:g}, eight equal tokens: expected eight different results, but {name} at positions "
                    f"{same[0]} and {same[0] + 1} came out the same"
                )


@rotate_interpolated.property("position factor * p is turned as position p was before")
def _(answer: Callable) -> None:
    q, k = draw(1, 2, 1, 32), draw(1, 2, 1, 32, seed=1)
    for factor, place in ((2.0, 7), (4.0, 100), (8.0, 3)):
        got = answer(q, k, int(factor * place), factor, 10_000.0)
        for name, item, x in zip("qk", got, (q, k), strict=True):
            where = f"{name} at position {factor * place:.0f}, factor {factor:g}"
            expect_close(item, by_complex_numbers(x, place, 1.0, 10_000.0), where=where, atol=2e-5)


@rotate_interpolated.property("each position is turned by position / factor, factors that are no whole number too")
def _(answer: Callable) -> None:
    for n_cached, factor, theta in ((0, 2.0, 10_000.0), (6, 4.0, 500_000.0), (9, 1.5, 10_000.0), (1000, 2.5, 100.0)):
        q, k = draw(2, 3, 7, 16), draw(2, 1, 7, 16, seed=1)
        for name, got, x in zip("qk", answer(q, k, n_cached, factor, theta), (q, k), strict=True):
            where = f"{name}, {n_cached} cached, factor {factor:g}, theta {theta:,.0f}"
            expect_close(got, by_complex_numbers(x, n_cached, factor, theta), where=where, atol=2e-5)


@rotate_interpolated.property("theta is 10,000 where it is not given")
def _(answer: Callable) -> None:
    q = draw(1, 1, 4, 16)
    for name, got in zip("qk", answer(q, q, 50, 2.0), strict=True):
        expect_close(got, by_complex_numbers(q, 50, 2.0, 10_000.0), where=f"{name}, theta left out", atol=2e-5)


@rotate_interpolated.property("read at once or in two parts: the same")
def _(answer: Callable) -> None:
    q, k = draw(1, 2, 9, 8), draw(1, 2, 9, 8, seed=1)
    at_once = answer(q, k, 0, 4.0, 10_000.0)
    for cut in (1, 3, 6):
        first = answer(q[:, :, :cut], k[:, :, :cut], 0, 4.0, 10_000.0)
        second = answer(q[:, :, cut:], k[:, :, cut:], cut, 4.0, 10_000.0)
        for name, whole, a, b in zip("qk", at_once, first, second, strict=True):
            where = f"{name}, nine tokens in parts of {cut} and {9 - cut}, beside all at once"
            expect_close(torch.cat((a, b), dim=2), whole, where=where, atol=2e-5)


@rotate_interpolated.property("far positions, and gradients")
def _(answer: Callable) -> None:
    q, k = draw(1, 2, 3, 64).requires_grad_(), draw(1, 2, 3, 64, seed=1).requires_grad_()
    got = answer(q, k, 1_000_001, 16.0, 10_000.0)
    for name, item, x in zip("qk", got, (q, k), strict=True):
        want = by_complex_numbers(x, 1_000_001, 16.0, 10_000.0)
        expect_close(item, want, where=f"{name} from position 1,000,001, factor 16", atol=2e-5)
        if not item.requires_grad:
            raise Mismatch(f"{name}: expected a result that gradients can pass, got one without")
        (gradient,) = torch.autograd.grad(item.square().sum() / 2, [x], retain_graph=True)
        expect_close(gradient, x, where=f"gradient of half the squared length, for {name}", atol=1e-4)


@rotate_interpolated.misconception(
    "positions rounded down",
    "This is the function as it was given. Positions are divided and cut to whole numbers, so `factor` neighbours "
    "share one place, and their order is lost. The angle is position times frequency, and it is the frequency that can "
    "be divided without rounding.",
    given=True,
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = (places(q, n_cached) / factor).floor() * frequencies_of(q.shape[-1], theta)
    return turned(q, angles), turned(k, angles)


@rotate_interpolated.misconception(
    "positions rounded to the nearest",
    "Positions are now rounded to the nearest whole number, and neighbours still share a place. Divide what needs no "
    "rounding: the frequencies.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = (places(q, n_cached) / factor).round() * frequencies_of(q.shape[-1], theta)
    return turned(q, angles), turned(k, angles)


@rotate_interpolated.misconception(
    "no interpolation at all",
    "You took the division out, and nothing stands in its place: factor is not used. Neighbours differ again, but far "
    "positions are as far as before. Divide the frequencies.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, 1.0, theta)


@rotate_interpolated.misconception(
    "turned faster",
    "You multiply by factor. A longer text has to fit into known angles, so everything turns more slowly: divide.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, 1 / factor, theta)


@rotate_interpolated.misconception(
    "theta divided",
    "You divide theta. That makes all pairs but the first faster, each by another factor; the frequencies themselves "
    "are to be divided.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, 1.0, theta / factor)


@rotate_interpolated.misconception(
    "theta multiplied",
    "You multiply theta. That slows the slow pairs and leaves the fastest alone: nearly NTK-aware scaling. Position "
    "interpolation slows all pairs alike: divide the frequencies.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, 1.0, theta * factor)


@rotate_interpolated.misconception(
    "NTK-aware scaling",
    "This is NTK-aware scaling: the fastest pair is left alone. It reads better, but position interpolation is asked "
    "for, which slows all pairs alike.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, 1.0, ntk_theta(theta, factor, q.shape[-1]))


@rotate_interpolated.misconception(
    "only the new tokens' steps are divided",
    "Your new tokens stand half a step apart (for factor 2), but the first of them stands at n_cached itself. The "
    "cached tokens were interpolated too: n_cached has to be divided as well.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = (n_cached + places(q, 0) / factor) * frequencies_of(q.shape[-1], theta)
    return turned(q, angles), turned(k, angles)


@rotate_interpolated.misconception(
    "divided twice",
    "You divide twice: both the positions and the frequencies.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, factor**2, theta)


@rotate_interpolated.misconception(
    "rounded, and the frequencies divided",
    "You divide the frequencies, which is right, and the positions are still rounded: take that line out.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = (places(q, n_cached) / factor).floor() * frequencies_of(q.shape[-1], theta) / factor
    return turned(q, angles), turned(k, angles)


@rotate_interpolated.misconception(
    "rounded, and multiplied back",
    "You undo the division on the other side, after positions were rounded: neighbours still share a place.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = (places(q, n_cached) / factor).floor() * frequencies_of(q.shape[-1], theta) * factor
    return turned(q, angles), turned(k, angles)


@rotate_interpolated.misconception(
    "cached tokens forgotten",
    "Your positions begin at 0 in every call. After n_cached tokens in the cache they begin at n_cached.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, 0, factor, theta)


@rotate_interpolated.misconception(
    "only the queries",
    "You interpolate the queries, and turn the keys as before. A score depends on the distance only if both are turned "
    "by the same rule.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, factor, theta)[0], reference(q, k, n_cached, 1.0, theta)[1]


@rotate_interpolated.misconception(
    "only the keys",
    "You interpolate the keys, and turn the queries as before. A score depends on the distance only if both are turned "
    "by the same rule.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, 1.0, theta)[0], reference(q, k, n_cached, factor, theta)[1]


@rotate_interpolated.misconception(
    "the cached tokens divided twice",
    "You divide n_cached, and the frequencies besides: the cached tokens are squeezed twice. Dividing the frequencies "
    "is enough for all of them.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = (n_cached / factor + places(q, 0)) * frequencies_of(q.shape[-1], theta) / factor
    return turned(q, angles), turned(k, angles)


@rotate_interpolated.misconception(
    "a whole factor",
    "You cut factor to a whole number. It may be 1.5 as well: frequencies can be divided by any number.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, int(factor), theta)


@rotate_interpolated.misconception(
    "angles in float32",
    "Near positions are nearly right, far ones are not: your angles are float32, which has seven digits for thousands "
    "of turns. Keep angles in float64, as rope_tables does (lesson 03), and round the cosine and the sine.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = (places(q, n_cached).float() / factor) * frequencies_of(q.shape[-1], theta).float()
    return turned(q, angles), turned(k, angles)


@rotate_interpolated.misconception(
    "rows of the tables mixed",
    "You mix neighbouring rows of cosines and sines. The middle between two points of a circle lies inside it, so your "
    "vectors get shorter. Divide the angle, by way of the frequencies.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    place, frequencies = places(q, n_cached) / factor, frequencies_of(q.shape[-1], theta)
    below, share = place.floor() * frequencies, place - place.floor()
    above = below + frequencies
    cos, sin = ((1 - share) * row(below) + share * row(above) for row in (torch.cos, torch.sin))
    cos, sin = cos.float().to(q.device), sin.float().to(q.device)
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


@rotate_interpolated.misconception(
    "theta written in",
    "You turn by a theta of 10,000 whatever theta is. SmolLM2 has 100,000, so pass the argument on.",
)
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    return reference(q, k, n_cached, factor)


@rotate_interpolated.alternative
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = places(q, n_cached) / factor * frequencies_of(q.shape[-1], theta)
    cos, sin = angles.cos().float().to(q.device), angles.sin().float().to(q.device)
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


@rotate_interpolated.alternative
def _(q: Tensor, k: Tensor, n_cached: int, factor: float, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    seq_len, head_dim = q.shape[-2:]
    positions = torch.arange(n_cached, n_cached + seq_len, device=q.device)
    tables = rope.rope_tables(positions, rope.rope_frequencies(head_dim, theta).div(factor))
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)
