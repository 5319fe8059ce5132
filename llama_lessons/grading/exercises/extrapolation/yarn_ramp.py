"""Exercise 4: YaRN's ramp, linear in the number of the pair, as the paper's code has it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import frequencies_of, one_changed

SMOLLM2 = (64, 100_000.0, 8192, 32, 1)
LLAMA_2 = (128, 10_000.0, 4096, 32, 1)
LLAMA_3 = (128, 500_000.0, 8192, 32, 1)
SMALL = (16, 10_000.0, 512, 32, 1)
EXTREMES = [
    (16, 10_000.0, 64, 32, 1),  # even the fastest pair turns less than 32 times, so the ramp would begin below 0
    (16, 10_000.0, 32, 32, 1),  # further below: cutting towards 0 is no rounding down
    (16, 10_000.0, 2**18, 32, 1),  # the ramp would end beyond the last pair
    (8, 100.0, 32_768, 8192, 1),  # one beyond the last channel's number
    (8, 40.0, 32_768, 8192, 1),  # further beyond
]
SHORT_TEXTS = [(24, 10_000.0, 100, 8, 0.5), (40, 5000.0, 200, 16, 1.5), (12, 1000.0, 60, 4, 0.8), (56, 300.0, 90, 9, 2)]
OTHER_BETAS = (64, 10_000.0, 2048, 16, 2)
SETTINGS = [SMOLLM2, LLAMA_2, LLAMA_3, SMALL, OTHER_BETAS, *EXTREMES, (32, 1000.0, 300, 8, 0.5)]


def yarn_ramp(
    head_dim: int, theta: float, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1
) -> Tensor:
    def pair_that_turns(times: float) -> float:
        return head_dim / 2 * math.log(original_max_seq_len / (2 * math.pi * times)) / math.log(theta)

    begin, end = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    first, last = max(math.floor(begin), 0), min(math.ceil(end), head_dim - 1)
    pairs = torch.arange(head_dim // 2, dtype=torch.float64)
    ramp = (pairs - first) / (last - first)
    return ramp.clamp(0, 1)


exercise = Exercise(
    yarn_ramp,
    points=5,
    minutes=10,
    cases=lambda: [(48, 30_000.0, 3000), (48, 7e5, 9000, 40.5, 0.7), *SHORT_TEXTS, *SETTINGS],
    returns=Tensor,
    hints=(
        "First a formula for the number of a pair. Pair i turns original_max_seq_len * theta ** (-2i / head_dim) / "
        "(2 pi) times. Set that equal to a given number of turns and solve for i; it will be no whole number.",
        "Evaluate your formula twice: at beta_fast, rounded down and not below 0, for the pair where the ramp begins; "
        "at beta_slow, rounded up and not above head_dim - 1, for the pair where it ends.",
        "A straight line through 0 at the first of these pairs and 1 at the last one, over torch.arange of all pairs; "
        ".clamp(0, 1) cuts off what lies outside.",
    ),
)


def turns_of(head_dim: int, theta: float, length: int, pairs: int) -> list[float]:
    return [length / (2 * math.pi) * math.pow(theta, -2 * i / head_dim) for i in range(pairs)]


def ends(head_dim: int, theta: float, length: int, beta_fast: float, beta_slow: float) -> tuple[int, int]:
    """Found by counting pairs, also those beyond the head's last, up to head_dim - 1."""
    turns = turns_of(head_dim, theta, length, 16 * head_dim)
    return max(sum(t >= beta_fast for t in turns) - 1, 0), min(sum(t > beta_slow for t in turns), head_dim - 1)


def exact_ramp(head_dim: int, *others: float) -> Tensor:
    first, last = ends(head_dim, *others)
    ramp = [min(max(i - first, 0) / (last - first), 1.0) for i in range(head_dim // 2)]
    return torch.tensor(ramp, dtype=torch.float64)


def name_of(setting: tuple) -> str:
    head_dim, theta, length, beta_fast, beta_slow = setting
    return f"head_dim {head_dim}, theta {theta:,g}, length {length}, betas {beta_fast} and {beta_slow}"


@exercise.property("one number for each pair, in float64")
def shape_and_dtype(answer: Callable) -> None:
    for setting in SETTINGS:
        got = answer(*setting)
        expect_like(got, shape=(setting[0] // 2,), dtype=torch.float64, where=name_of(setting))


@exercise.property("the worked example: SmolLM2's ramp runs from pair 10 to pair 20")
def smollm2_by_hand(answer: Callable) -> None:
    want = torch.tensor([0.0] * 11 + [i / 10 for i in range(1, 10)] + [1.0] * 12)
    expect_close(answer(*SMOLLM2), want, where=name_of(SMOLLM2), atol=1e-6)


@exercise.property("0 where a pair turns beta_fast times or more, 1 where it turns beta_slow times or less")
def fast_and_slow_pairs(answer: Callable) -> None:
    for setting in (SMOLLM2, LLAMA_2, LLAMA_3, OTHER_BETAS):
        got = answer(*setting).tolist()
        for i, turns in enumerate(turns_of(*setting[:3], setting[0] // 2)):
            want = 0.0 if turns >= setting[3] else 1.0 if turns <= setting[4] else None
            if want is not None and not abs(got[i] - want) < 1e-9:
                where = f"{name_of(setting)}: pair {i}, which turns {turns:.4g} times"
                raise Mismatch(f"{where}: expected {want:g}, got {got[i]:.4g}")


@exercise.property(
    "in equal steps between its ends, at every head size, base, length and pair of betas, whatever was asked before"
)
def formula(answer: Callable) -> None:
    others = (32, 300_000.0, 16_384, 24, 2)
    for setting in [*SETTINGS, *one_changed(SMOLLM2, others)]:
        expect_close(answer(*setting), exact_ramp(*setting), where=name_of(setting), rtol=0, atol=1e-9)


@exercise.property("its ends may lie beyond the last pair")
def ends_far_off(answer: Callable) -> None:
    setting = (8, 40.0, 32_768, 32, 1)
    expect_close(answer(*setting), torch.zeros(4), where=name_of(setting), atol=1e-9)


@exercise.property("beta_fast is 32 and beta_slow is 1 where they are not given")
def betas_by_default(answer: Callable) -> None:
    for length in range(3000, 6000, 250):
        where = f"yarn_ramp(128, 10_000.0, {length})"
        expect_close(answer(128, 10_000.0, length), exact_ramp(128, 10_000.0, length, 32, 1), where=where, atol=1e-9)


exercise.slips("""
    1 and 0 exchanged: return ramp -> return 1 - ramp
        Your ramp runs from 1 down to 0. It says how far a pair is interpolated: 0 for fast pairs, 1 for slow ones.
    the betas exchanged: begin, end = -> end, begin =
        Your ramp falls, as if it began at the pair that turns beta_slow times and ended at the one that turns beta_fast
        times. Fast pairs have the small numbers: beta_fast is where it begins.
    the 2 pi is missing: (2 * math.pi * times) -> times
        You take length times frequency for the number of turns. That is the angle in radians; a turn is 2 pi of them.
    pi for 2 pi: (2 * math.pi * times) -> (math.pi * times)
        You count half turns: a full turn is 2 pi radians.
    channels in place of pairs: head_dim / 2 -> head_dim
        The pairs at your ends are about twice too far: the formula is (head_dim / 2) * log(...) / log(theta).
    one pair too few: head_dim / 2 -> (head_dim / 2 - 1)
        You multiply by head_dim / 2 - 1. Solving theta ** (-2i / head_dim) for i gives head_dim / 2.
    no log(theta): / math.log(theta) -> * 1
        You do not divide by the logarithm of theta: (head_dim / 2) * log(...) / log(theta) is the number of the pair.
    logarithms of two bases: math.log(original -> math.log10(original
        Your two logarithms have unlike bases. Any base will do, the same above and below the line.
    0 for all pairs: head_dim / 2 -> -head_dim / 2
        Your ramp is 0 for all pairs, as where the logarithm in the formula is turned around. It is the logarithm of
        length / (2 pi times), the length above the line.
    not rounded: max(math.floor(begin), 0), min(math.ceil(end), -> max(begin, 0), min(end,
        Your ends are as the formula gives them. They are rounded to whole pairs, outwards: the first down, the last up.
    not rounded, and not limited: max(math.floor(begin), 0), min(math.ceil(end), head_dim - 1) -> begin, end
        You use the ends as they come out of the formula. They are rounded to whole pairs, the first one down, the last
        one up. The first is pair 0 at the earliest, and the last is head_dim - 1 at the latest.
    rounded inwards: math.floor(begin), 0), min(math.ceil(end) -> math.ceil(begin), 0), min(math.floor(end)
        Your ramp begins a pair too late and ends a pair too early, as if its ends were rounded inwards. They are
        rounded outwards: the first one down, the last one up.
    1 a pair too early: math.ceil(end) -> math.floor(end)
        Your ramp is 1 a pair too early: its end is rounded down, or its steps are too few. The end is rounded up.
    both rounded up: math.floor(begin) -> math.ceil(begin)
        Your ramp begins a pair too late, as if its beginning were rounded up like its end. It is rounded down.
    rounded to the nearest: math.floor(begin), 0), min(math.ceil(end) -> round(begin), 0), min(round(end)
        You round both ends to the nearest pair. The first one is rounded down and the last one up.
    begins below pair 0: max(math.floor(begin), 0) -> math.floor(begin)
        With a short trained length your ramp begins at a pair below 0. It begins at pair 0 at the earliest.
    int() below 0: max(math.floor(begin), 0) -> int(begin)
        With a very short trained length your ramp begins at a pair below 0. int() cuts towards 0, so it makes 0 of
        -0.99, but -1 of -1.6: take max(..., 0).
    begins at pair 1 at the earliest: max(math.floor(begin), 0) -> max(math.floor(begin), 1)
        With a short trained length your ramp begins at pair 1. Pairs are counted from 0, and it may begin there.
    ends at the last pair at the latest: head_dim - 1) -> head_dim // 2 - 1)
        With a long trained length your ramp ends at the last pair. It may end beyond it, up to head_dim - 1; then no
        pair reaches 1.
    ends at pair head_dim // 2 at the latest: head_dim - 1) -> head_dim // 2)
        With a long trained length your ramp ends at pair head_dim // 2, one after the last. It may end further off, up
        to head_dim - 1.
    ends at head_dim at the latest: head_dim - 1) -> head_dim)
        With a very long trained length your ramp ends at head_dim. It ends at head_dim - 1 at the latest, the number of
        the last channel.
    its end not limited: min(math.ceil(end), head_dim - 1) -> math.ceil(end)
        With a very long trained length your ramp ends beyond head_dim - 1. It ends there at the latest.
    pairs counted from 1: torch.arange(head_dim // 2, -> torch.arange(1, head_dim // 2 + 1,
        Your ramp is one pair ahead, as if pairs were counted from 1. Pair 0 is the fastest.
    channels in the ramp: torch.arange(head_dim // 2, -> torch.arange(0, head_dim, 2,
        Your ramp counts channels, 0, 2, 4, ..., and its ends are numbers of pairs. Count pairs: 0, 1, 2, ...
    one step too many: / (last - first) -> / (last - first + 1)
        Your ramp reaches 1 a pair too late, as with last - first + 1 steps. From pair 10 to 20 there are ten.
    not clamped: ramp.clamp(0, 1) -> ramp
        Your ramp goes on below 0 and above 1. Pairs before its beginning get 0, those after its end 1.
    above 1: ramp.clamp(0, 1) -> ramp.clamp(min=0)
        Your ramp goes on above 1. From its end on all pairs get 1.
    below 0: ramp.clamp(0, 1) -> ramp.clamp(max=1)
        Your ramp goes on below 0. Up to its beginning all pairs get 0.
    a step, no ramp: ramp.clamp(0, 1) -> ramp.clamp(0, 1).ceil()
        You give 0 to the fast pairs and 1 to all others. Between the two ends the values rise in equal steps.
    a step at the end: ramp.clamp(0, 1) -> ramp.clamp(0, 1).floor()
        You give 1 to the slow pairs and 0 to all others. Between the two ends the values rise in equal steps.
    defaults exchanged: beta_fast: float = 32, beta_slow: float = 1 -> beta_fast: float = 1, beta_slow: float = 32
        Where no betas are given, yours are 1 and 32, the wrong way round: beta_fast is 32 and beta_slow is 1.
    betas written in: pair_that_turns(beta_fast), pair_that_turns(beta_slow) -> pair_that_turns(32), pair_that_turns(1)
        Your result is that for betas of 32 and 1, whatever beta_fast and beta_slow are.
    beta_fast written in: pair_that_turns(beta_fast) -> pair_that_turns(32)
        Your result is that for a beta_fast of 32, whatever it is.
    beta_slow written in: pair_that_turns(beta_slow) -> pair_that_turns(1)
        Your result is that for a beta_slow of 1, whatever it is.
    theta written in: math.log(theta) -> math.log(10_000)
        Your result is that for a theta of 10,000, whatever theta is. SmolLM2 has 100,000, so take the argument.
    the length written in: original_max_seq_len / -> 8192 /
        Your result is that for a length of 8192, whatever original_max_seq_len is.
    a number for each channel: ramp.clamp(0, 1) -> ramp.clamp(0, 1).repeat(2)
        The numbers are right, but you give them twice, once for each channel. One for each pair is asked for.
    float32: dtype=torch.float64 -> dtype=torch.float32
        The numbers are right, but they come in float32. They scale frequencies, which are float64: say
        dtype=torch.float64 in torch.arange.
    float32 on the way: ramp.clamp(0, 1) -> ramp.float().clamp(0, 1).double()
        Your numbers come in float64 and are right to seven digits only: whole numbers divided give float32 in torch,
        and .double() does not bring lost digits back. Say dtype=torch.float64 in torch.arange.
""")


@exercise.misconception
def linear_in_the_turns(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    """Your ramp is linear in the number of turns. That is the paper's equation, and Llama 3's rule; the paper's code,
    and with it every YaRN checkpoint, is linear in the number of the pair."""
    turns = original_max_seq_len * frequencies_of(head_dim, theta) / (2 * math.pi)
    return ((beta_fast - turns) / (beta_fast - beta_slow)).clamp(0, 1)


@exercise.misconception
def linear_in_the_wavelength(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    """Your ramp is linear in the wavelength. It rises in equal steps from pair to pair, between the two ends."""
    wavelengths = 2 * math.pi / frequencies_of(head_dim, theta)
    shortest, longest = original_max_seq_len / beta_fast, original_max_seq_len / beta_slow
    return ((wavelengths - shortest) / (longest - shortest)).clamp(0, 1)
