"""Exercise 4: YaRN's ramp, as the paper's code has it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, turns_of

__all__ = ["yarn_ramp"]

SMOLLM2 = (64, 100_000.0, 8192, 32, 1)
LLAMA_2 = (128, 10_000.0, 4096, 32, 1)
LLAMA_3 = (128, 500_000.0, 8192, 32, 1)
SMALL = (16, 10_000.0, 512, 32, 1)
SHORT = (16, 10_000.0, 64, 32, 1)  # even the fastest pair turns less than 32 times, so the ramp would begin below 0
SHORTER = (16, 10_000.0, 32, 32, 1)  # further below: cutting towards 0 is no rounding down
LONG = (16, 10_000.0, 2**18, 32, 1)  # the ramp would end beyond the last pair
OTHER_BETAS = (64, 10_000.0, 2048, 16, 2)
CASES = [SMOLLM2, LLAMA_2, LLAMA_3, SMALL, SHORT, SHORTER, LONG, OTHER_BETAS, (32, 1000.0, 300, 8, 0.5)]


def pair_that_turns(times: float, head_dim: int, theta: float, length: int) -> float:
    return head_dim / 2 * math.log(length / (2 * math.pi * times)) / math.log(theta)


def ends(head_dim: int, theta: float, length: int, beta_fast: float, beta_slow: float) -> tuple[int, int]:
    first = max(math.floor(pair_that_turns(beta_fast, head_dim, theta, length)), 0)
    return first, math.ceil(pair_that_turns(beta_slow, head_dim, theta, length))


def between(head_dim: int, first: float, last: float) -> Tensor:
    """The ramp from pair first to pair last."""
    pairs = torch.arange(head_dim // 2, dtype=torch.float64)
    return ((pairs - first) / (last - first)).clamp(0, 1)


def reference(
    head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1
) -> Tensor:
    return between(head_dim, *ends(head_dim, theta, original_max_seq_len, beta_fast, beta_slow))


yarn_ramp = Exercise(
    name="yarn_ramp",
    lesson=LESSON,
    points=5,
    minutes=10,
    parameters=("head_dim", "theta", "original_max_seq_len", "beta_fast", "beta_slow"),
    reference=reference,
    cases=lambda: CASES,
    returns=Tensor,
    hints=(
        "First a formula for the number of a pair. Pair i turns original_max_seq_len * theta ** (-2i / head_dim) / "
        "(2 pi) times. Set that equal to a given number of turns and solve for i; it will be no whole number.",
        "Evaluate your formula twice: at beta_fast, rounded down and not below 0, for the pair where the ramp begins; "
        "at beta_slow, rounded up, for the pair where it ends.",
        "A straight line through 0 at the first of these pairs and 1 at the last one, over torch.arange of all pairs; "
        ".clamp(0, 1) cuts off what lies outside.",
    ),
)


def name_of(case: tuple) -> str:
    head_dim, theta, length, beta_fast, beta_slow = case
    return f"head_dim {head_dim}, theta {theta:,.0f}, length {length}, betas {beta_fast} and {beta_slow}"


@yarn_ramp.property("one number for each pair, in float64")
def _(answer: Callable) -> None:
    for case in CASES:
        expect_like(answer(*case), shape=(case[0] // 2,), dtype=torch.float64, where=name_of(case))


@yarn_ramp.property("the worked example: SmolLM2's ramp runs from pair 10 to pair 20")
def _(answer: Callable) -> None:
    want = torch.tensor([0.0] * 11 + [i / 10 for i in range(1, 10)] + [1.0] * 12)
    expect_close(answer(*SMOLLM2), want, where=name_of(SMOLLM2), atol=1e-6)


@yarn_ramp.property("0 where a pair turns beta_fast times or more, 1 where it turns beta_slow times or less")
def _(answer: Callable) -> None:
    for case in (SMOLLM2, LLAMA_2, LLAMA_3, OTHER_BETAS):
        got = answer(*case)
        for i, turns in enumerate(turns_of(*case[:3])):
            want = 0.0 if turns >= case[3] else 1.0 if turns <= case[4] else None
            if want is not None and not abs(got[i].item() - want) < 1e-9:
                raise Mismatch(
                    f"{name_of(case)}: pair {i} turns {turns:.4g} times, so expected {want:g}, got {got[i].item():.4g}"
                )


@yarn_ramp.property("between its ends it rises in equal steps")
def _(answer: Callable) -> None:
    for case in (LLAMA_2, LLAMA_3, SMALL, OTHER_BETAS):
        first, last = ends(*case)
        got = answer(*case)[first : last + 1]
        want = torch.linspace(0, 1, last - first + 1, dtype=torch.float64)
        expect_close(got, want, where=f"{name_of(case)}, pairs {first} to {last}", rtol=0, atol=1e-9)


@yarn_ramp.property("right at every head size, base, length and pair of betas")
def _(answer: Callable) -> None:
    for case in CASES:
        expect_close(answer(*case), reference(*case), where=name_of(case), rtol=0, atol=1e-9)


@yarn_ramp.property("it begins at pair 0 at the earliest")
def _(answer: Callable) -> None:
    want = torch.tensor([0.0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1])
    expect_close(answer(*SHORT), want, where=name_of(SHORT), atol=1e-6)
    want = torch.tensor([0.0, 1 / 2, 1, 1, 1, 1, 1, 1])
    expect_close(answer(*SHORTER), want, where=name_of(SHORTER), atol=1e-6)


@yarn_ramp.property("it may end beyond the last pair")
def _(answer: Callable) -> None:
    want = torch.tensor([0.0] * 7 + [0.25])
    expect_close(answer(*LONG), want, where=name_of(LONG), atol=1e-6)


@yarn_ramp.property("beta_fast is 32 and beta_slow is 1 where they are not given")
def _(answer: Callable) -> None:
    for length in range(3000, 6000, 250):
        want = reference(128, 10_000.0, length, 32, 1)
        expect_close(answer(128, 10_000.0, length), want, where=f"yarn_ramp(128, 10_000.0, {length})", atol=1e-9)


@yarn_ramp.misconception(
    "1 and 0 exchanged",
    "Your ramp runs from 1 down to 0. It says how far a pair is interpolated: 0 for fast pairs, which are left alone, "
    "1 for slow ones.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    return 1 - reference(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)


@yarn_ramp.misconception(
    "the 2 pi is missing",
    "You take length times frequency for the number of turns. That is the angle in radians; a turn is 2 pi of them.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    length = original_max_seq_len * 2 * math.pi
    return between(head_dim, *ends(head_dim, theta, length, beta_fast, beta_slow))


@yarn_ramp.misconception(
    "channels in place of pairs",
    "The pairs at your ends are twice too far: the formula is (head_dim / 2) * log(...) / log(theta), since there are "
    "head_dim / 2 pairs.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    found = [2 * pair_that_turns(b, head_dim, theta, original_max_seq_len) for b in (beta_fast, beta_slow)]
    return between(head_dim, max(math.floor(found[0]), 0), math.ceil(found[1]))


@yarn_ramp.misconception(
    "not rounded",
    "You use the ends as they come out of the formula. They are rounded to whole pairs, both outwards: the first one "
    "down, the last one up.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = (pair_that_turns(b, head_dim, theta, original_max_seq_len) for b in (beta_fast, beta_slow))
    return between(head_dim, max(first, 0), last)


@yarn_ramp.misconception(
    "rounded inwards",
    "You round the ends inwards, the first up and the last down. They are rounded outwards, so that no pair with "
    "beta_fast turns or more is touched.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = (pair_that_turns(b, head_dim, theta, original_max_seq_len) for b in (beta_fast, beta_slow))
    return between(head_dim, max(math.ceil(first), 0), math.floor(last))


@yarn_ramp.misconception(
    "both rounded down",
    "You round both ends down, as int() does. The last one is rounded up.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = (pair_that_turns(b, head_dim, theta, original_max_seq_len) for b in (beta_fast, beta_slow))
    return between(head_dim, max(math.floor(first), 0), math.floor(last))


@yarn_ramp.misconception(
    "rounded to the nearest",
    "You round both ends to the nearest pair. The first one is rounded down and the last one up.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = (pair_that_turns(b, head_dim, theta, original_max_seq_len) for b in (beta_fast, beta_slow))
    return between(head_dim, max(round(first), 0), round(last))


@yarn_ramp.misconception(
    "linear in the turns",
    "Your ramp is linear in the number of turns. That is the paper's equation, and Llama 3's rule; the paper's code, "
    "and with it every YaRN checkpoint, is linear in the number of the pair.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    turns = torch.tensor(turns_of(head_dim, theta, original_max_seq_len), dtype=torch.float64)
    return ((beta_fast - turns) / (beta_fast - beta_slow)).clamp(0, 1)


@yarn_ramp.misconception(
    "not clamped",
    "Your ramp goes on below 0 and above 1. Pairs before its first end get 0 and pairs after its last end get 1: "
    "clamp.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = ends(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    return (torch.arange(head_dim // 2, dtype=torch.float64) - first) / (last - first)


@yarn_ramp.misconception(
    "begins below pair 0",
    "With a short trained length your ramp begins at a pair below 0. It begins at pair 0 at the earliest.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = (pair_that_turns(b, head_dim, theta, original_max_seq_len) for b in (beta_fast, beta_slow))
    return between(head_dim, math.floor(first), math.ceil(last))


@yarn_ramp.misconception(
    "ends at the last pair at the latest",
    "With a long trained length you end the ramp at the last pair. It may end beyond it; then no pair reaches 1.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = ends(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    return between(head_dim, first, min(last, head_dim // 2 - 1))


@yarn_ramp.misconception(
    "pairs counted from 1",
    "You count pairs from 1, so your ramp is one pair ahead. Pair 0 is the fastest.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = ends(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    return between(head_dim, first - 1, last - 1)


@yarn_ramp.misconception(
    "a step, no ramp",
    "You give 0 to the fast pairs and 1 to all others. Between the two ends the values rise in equal steps.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    return reference(head_dim, theta, original_max_seq_len, beta_fast, beta_slow).ceil()


@yarn_ramp.misconception(
    "betas written in",
    "You use 32 and 1 whatever beta_fast and beta_slow are.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    return reference(head_dim, theta, original_max_seq_len)


@yarn_ramp.misconception(
    "theta written in",
    "You use 10,000 whatever theta is. SmolLM2 has 100,000, so take the argument.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    return reference(head_dim, 10_000.0, original_max_seq_len, beta_fast, beta_slow)


@yarn_ramp.misconception(
    "float32",
    "The numbers are right, but in float32. They scale frequencies, which are float64: say dtype=torch.float64 in "
    "torch.arange.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    return reference(head_dim, theta, original_max_seq_len, beta_fast, beta_slow).float()


@yarn_ramp.misconception(
    "int() below 0",
    "With a very short trained length your ramp begins at a pair below 0. int() cuts towards 0, so it makes 0 of "
    "-0.99, but -1 of -1.6: take max(..., 0).",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = (pair_that_turns(b, head_dim, theta, original_max_seq_len) for b in (beta_fast, beta_slow))
    return between(head_dim, int(first), math.ceil(last))


@yarn_ramp.misconception(
    "the betas exchanged",
    "You begin at the pair that turns beta_slow times and end at the one that turns beta_fast times, so your ramp "
    "falls. Fast pairs have the small numbers: beta_fast is where it begins.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    return between(head_dim, *ends(head_dim, theta, original_max_seq_len, beta_slow, beta_fast))


@yarn_ramp.misconception(
    "both rounded up",
    "You round both ends up. The first one is rounded down.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = (pair_that_turns(b, head_dim, theta, original_max_seq_len) for b in (beta_fast, beta_slow))
    return between(head_dim, max(math.ceil(first), 0), math.ceil(last))


@yarn_ramp.misconception(
    "one step too many",
    "Your ramp reaches 1 a pair too late, as with last - first + 1 below the line. From pair 10 to pair 20 there are "
    "ten steps.",
)
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    first, last = ends(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    return between(head_dim, first, last + 1)


@yarn_ramp.alternative
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    # A pair's number from its frequency: theta to the power -2i / head_dim is 2 pi times turns over length.
    base = theta ** (-2 / head_dim)
    first = math.floor(math.log(2 * math.pi * beta_fast / original_max_seq_len, base))
    last = math.ceil(math.log(2 * math.pi * beta_slow / original_max_seq_len, base))
    first = 0 if first < 0 else first
    ramp = [min(max((i - first) / (last - first), 0.0), 1.0) for i in range(head_dim // 2)]
    return torch.tensor(ramp, dtype=torch.float64)


@yarn_ramp.alternative
def _(head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1) -> Tensor:
    # Counting instead of logarithms: pairs with so many turns come before all others.
    far = torch.arange(4 * head_dim, dtype=torch.float64)  # pairs that the head does not have
    turns = original_max_seq_len * theta ** (-2 * far / head_dim) / (2 * math.pi)
    first = max(int((turns >= beta_fast).sum()) - 1, 0)
    last = int((turns > beta_slow).sum())
    pairs = torch.arange(head_dim // 2).double()
    return torch.clip((pairs - first) / (last - first), min=0.0, max=1.0)
