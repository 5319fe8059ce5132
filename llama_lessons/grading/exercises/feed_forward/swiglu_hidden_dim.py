"""Exercise 3: how wide Llama's feed-forward layer is."""

from collections.abc import Callable

from ...exercise import Exercise
from ...expect import Mismatch, expect_value_error

# dim, multiple_of and multiplier of Llama 2 7B and 13B, Llama 3 8B, Llama 2 and 3 70B, Llama 3.1 405B, and Llama 3.2 1B
PUBLISHED = {
    (4096, 256, 1.0): 11_008,
    (5120, 256, 1.0): 13_824,
    (4096, 1024, 1.3): 14_336,
    (8192, 4096, 1.3): 28_672,
    (16_384, 4096, 1.2): 53_248,
    (2048, 256, 1.5): 8192,
}


def swiglu_hidden_dim(dim: int, multiple_of: int = 256, multiplier: float = 1.0) -> int:
    if dim < 1 or multiple_of < 1:
        raise ValueError("dim and multiple_of must be positive")
    two_thirds = int(2 * 4 * dim / 3)
    hidden = int(multiplier * two_thirds)
    return -(-hidden // multiple_of) * multiple_of


def cases() -> list[tuple]:
    """Sizes that no property uses: with and without defaults, with and without a rest, odd multipliers, refusals."""
    sizes = [(96, 32, 1.0), (100, 7, 1.0), (100, 1, 1.5), (131, 1, 1.3), (48, 1, 1.0), (768, 256, 1.0), (97, 1, 2.5)]
    return [*sizes, (1000,), (640, 64), (50, 3, 0.7), (3, 8), (0, 8), (5, 0), (24, 64, 1.0), (10_007, 1, 3.1)]


exercise = Exercise(
    swiglu_hidden_dim,
    points=3,
    minutes=6,
    cases=cases,
    returns=int,
    hints=(
        "Three matrices take the place of two. For the same number of parameters each is two thirds as wide.",
        "int() cuts what is behind the point. It is used twice: on two thirds of 4 dim, and after the multiplier.",
        "-(-a // b) is a divided by b, rounded up to a whole number.",
    ),
)


def expect_size(answer: Callable, *args: float, want: int) -> None:
    got = answer(*args)
    if got != want:
        names = ("dim", "multiple_of", "multiplier")
        shown = ", ".join(f"{name} {value:g}" for name, value in zip(names, args, strict=False))
        raise Mismatch(f"{shown}: expected {want:,}, got {got:,}")


@exercise.property("Llama 2 7B: 11,008 for a dim of 4096")
def llama_2(answer: Callable) -> None:
    expect_size(answer, 4096, 256, 1.0, want=11_008)


@exercise.property("all published sizes")
def published(answer: Callable) -> None:
    for args, want in PUBLISHED.items():
        expect_size(answer, *args, want=want)


@exercise.property("rounded up to a multiple, and not where it is one already")
def rounded(answer: Callable) -> None:
    for args, want in {(384, 256, 1.0): 1024, (385, 256, 1.0): 1280, (6, 16, 1.0): 16, (9, 16, 1.0): 32}.items():
        expect_size(answer, *args, want=want)
    for args, want in {(1, 1, 1.0): 2, (30, 1, 1.0): 80, (31, 1, 1.0): 82, (31, 5, 1.0): 85}.items():
        expect_size(answer, *args, want=want)
    for args, want in {(7680, 256, 1.0): 20_480, (30_000, 1, 1.0): 80_000, (60, 1, 0.5): 80}.items():
        expect_size(answer, *args, want=want)


@exercise.property("cut to a whole number before the multiplier, and after it")
def cut_twice(answer: Callable) -> None:
    for args, want in {(31, 1, 2.5): 205, (32, 1, 3.0): 255, (44, 1, 1.3): 152, (10, 1, 1.5): 39}.items():
        expect_size(answer, *args, want=want)


@exercise.property("multiple_of is 256 and multiplier 1 where they are not given")
def defaults(answer: Callable) -> None:
    expect_size(answer, 96, want=256)
    expect_size(answer, 97, want=512)
    expect_size(answer, 96, 32, want=256)


@exercise.property("a dim or multiple_of below 1 is refused with a ValueError")
def refused(answer: Callable) -> None:
    for args in ((0, 256), (-4, 256), (64, 0), (64, -8)):
        expect_value_error(answer, *args, where=f"dim {args[0]}, multiple_of {args[1]}")


exercise.slips("""
    4 dim kept: 2 * 4 * dim / 3 -> 4 * dim
        You take 4 dim, as for two matrices. Three of two thirds of that have as many numbers: 8 dim / 3.
    two thirds of dim: 2 * 4 * dim / 3 -> 2 * dim / 3
        You take two thirds of dim. It is two thirds of 4 dim.
    a third of 4 dim: 2 * 4 * dim / 3 -> 4 * dim / 3
        You take a third of 4 dim. It is two thirds.
    three quarters: 2 * 4 * dim / 3 -> 3 * dim
        You take three quarters of 4 dim. Three matrices for two: it is two thirds.
    not rounded: -(-hidden // multiple_of) * multiple_of -> hidden
        Your result is not rounded up to a multiple of multiple_of.
    rounded down: -(-hidden // multiple_of) * -> hidden // multiple_of *
        You round down to a multiple. Llama rounds up.
    rounded to the nearest: -(-hidden // multiple_of) * -> round(hidden / multiple_of) *
        You round to the nearest multiple. Llama rounds up.
    always one more: -(-hidden // multiple_of) * -> (hidden // multiple_of + 1) *
        You add a multiple even to what is one already. Round up only where something is left over.
    a count, not a size: -(-hidden // multiple_of) * multiple_of -> -(-hidden // multiple_of)
        You return how many multiples there are. Times multiple_of, it is the size.
    the multiplier is not used: int(multiplier * two_thirds) -> two_thirds
        Your result is that for a multiplier of 1, whatever multiplier is.
    multiplied after rounding: hidden = int(multiplier * two_thirds) -> hidden = two_thirds; multiple_of *= multiplier
        You round up first and multiply then, so the result need be no multiple any more. Multiply, then round up.
    cut once: int(2 * 4 * dim / 3) -> 2 * 4 * dim / 3
        You cut to a whole number only after the multiplier. Meta's code cuts before it as well.
    cut once, before the multiplier: int(multiplier * two_thirds) -> multiplier * two_thirds
        You do not cut after the multiplier, so a rest behind the point is rounded up. Meta's code cuts it off.
    rounded, not cut: int(2 * 4 * dim / 3) -> round(2 * 4 * dim / 3)
        You round two thirds of 4 dim to the nearest whole number. It is cut: int().
    rounded up, not cut: int(2 * 4 * dim / 3) -> -(-8 * dim // 3)
        You round two thirds of 4 dim up. It is cut: int().
    multiples of 256, always: return -(-hidden // multiple_of) * multiple_of -> return -(-hidden // 256) * 256
        You round up to multiples of 256, whatever multiple_of is.
    multiple_of is 1 by default: multiple_of: int = 256 -> multiple_of: int = 1
        Where no multiple_of is given, nothing is rounded. Here it is 256.
    the multiplier is 1.3 by default: multiplier: float = 1.0 -> multiplier: float = 1.3
        Where no multiplier is given, yours is 1.3, as in Llama 3. Here it is 1.
    rounded up twice: int(multiplier * two -> int(multiplier * -(-two_thirds // multiple_of) * multiple_of); _ = int(two
        You round up before the multiplier too. It is rounded up once, at the end.
    two thirds in four digits: 2 * 4 * dim / 3 -> 0.6667 * 4 * dim
        You multiply by a rounded two thirds, such as 0.6667: a large dim comes out too wide. Multiply by 2, and divide
        by 3.
    rounded to the nearest twice: int(multiplier * two_thirds) -> round(multiplier * round(8 * dim / 3))
        You round to the nearest whole number, before the multiplier and after it. Both are cut: int().
    never cut: hidden = int(multiplier * two_thirds) -> hidden = multiplier * 8 * dim / 3
        You cut nowhere, so a rest behind the point is rounded up in the end. Both numbers are cut: int().
    a float: return -(-hidden // multiple_of) * multiple_of -> return -(-hidden // multiple_of) * float(multiple_of)
        The size is right, but a float comes out, as where one of the numbers was not cut by int(). It is to be an int.
    nothing refused: raise ValueError("dim and multiple_of must be positive") -> multiple_of = abs(multiple_of) or 1
        A dim or multiple_of below 1 gets a result. Raise a ValueError first.
""")
