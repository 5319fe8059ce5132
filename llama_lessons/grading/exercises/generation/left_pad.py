"""Exercise 6: prompts of unequal length in one rectangle."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_like


def left_pad(prompts: list[list[int]], pad_token: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(map(len, prompts))
    pads = [longest - len(prompt) for prompt in prompts]
    tokens = torch.tensor([[pad_token] * pad + prompt for pad, prompt in zip(pads, prompts, strict=True)])
    places = torch.arange(longest).repeat(len(prompts), 1)
    mask = places >= torch.tensor(pads)[:, None]
    positions = places - torch.tensor(pads)[:, None]
    return tokens, mask, positions.clamp(min=0)


GIVEN = {
    "three prompts": ([[5, 6, 7], [8], [9, 10]], 0),
    "one prompt": ([[4, 3, 2]], 0),
    "prompts of one length": ([[1, 2], [3, 4]], 9),
    "prompts that hold the pad token": ([[0, 5, 0], [0], [0, 0, 3, 0]], 0),
    "another pad token": ([[7, 7], [7, 1, 7, 2, 7]], 7),
}


def padded(answer: Callable) -> Callable:
    """Make of an answer one that gets fresh lists, and must leave them as they are."""

    def run(prompts: tuple[tuple[int, ...], ...], pad_token: int) -> tuple[Tensor, Tensor, Tensor]:
        given = [list(prompt) for prompt in prompts]
        result = answer(given, *[pad_token] * bool(pad_token))
        if given != [list(prompt) for prompt in prompts]:
            raise Mismatch("the prompts that were given are not what they were: make new lists")
        return result

    return run


def case(name: str) -> tuple:
    prompts, pad_token = GIVEN[name]
    return tuple(map(tuple, prompts)), pad_token


def cases() -> list[tuple]:
    return [*map(case, GIVEN), (((1, 2, 3, 4, 5, 6), (9,), (8, 8, 8)), 3)]


exercise = Exercise(
    left_pad,
    points=4,
    minutes=10,
    cases=cases,
    returns=(Tensor, Tensor, Tensor),
    using=padded,
    hints=(
        "How many pads does each row need? [pad_token] * n + prompt is the row. Whether a place is padding follows "
        "from that number, not from the token that stands there.",
        "torch.arange(longest) minus the number of pads of each row counts from the row's own first token. What is "
        "it before that token?",
    ),
)


def expect_rows(answer: Callable, name: str, which: int, what: str, want: list, dtype: torch.dtype) -> None:
    got = answer(*case(name))[which]
    expect_like(got, shape=(len(want), len(want[0])), dtype=dtype, where=f"{what}, {name}")
    for i, (mine, row) in enumerate(zip(got.tolist(), want, strict=True)):
        if mine != row:
            raise Mismatch(f"{what}, {name}, row {i}: expected {row}, got {mine}")


def widths(name: str) -> list[tuple[int, list[int]]]:
    """For each prompt, how many pads it needs, and itself."""
    prompts, _ = GIVEN[name]
    return [(max(map(len, prompts)) - len(prompt), prompt) for prompt in prompts]


@exercise.property("tokens: each prompt at the right end of its row, pad tokens before it; int64")
def tokens(answer: Callable) -> None:
    for name, (_, pad_token) in GIVEN.items():
        want = [[pad_token] * pad + prompt for pad, prompt in widths(name)]
        expect_rows(answer, name, 0, "tokens", want, torch.int64)


@exercise.property("mask: True at a prompt's tokens and False at padding; bool")
def mask(answer: Callable) -> None:
    for name in ("three prompts", "one prompt", "prompts of one length"):
        want = [[False] * pad + [True] * len(prompt) for pad, prompt in widths(name)]
        expect_rows(answer, name, 1, "mask", want, torch.bool)


@exercise.property("mask: True at a token that is the same as the pad token")
def pad_tokens(answer: Callable) -> None:
    for name in ("prompts that hold the pad token", "another pad token"):
        want = [[False] * pad + [True] * len(prompt) for pad, prompt in widths(name)]
        expect_rows(answer, name, 1, "mask", want, torch.bool)


@exercise.property("positions: how many tokens of its own prompt come before; 0 at padding; int64")
def positions(answer: Callable) -> None:
    for name in GIVEN:
        want = [[0] * pad + list(range(len(prompt))) for pad, prompt in widths(name)]
        expect_rows(answer, name, 2, "positions", want, torch.int64)


exercise.slips("""
    padded on the right: [pad_token] * pad + prompt -> prompt + [pad_token] * pad
        The padding stands behind the prompts, though mask and positions have it before them.
    always 0: [pad_token] * pad -> [0] * pad
        You pad with 0, whatever pad_token is.
    the mask upside down: places >= torch.tensor(pads)[:, None] -> places < torch.tensor(pads)[:, None]
        Your mask is True at padding. It is True at tokens.
    the mask from the tokens: places >= torch.tensor(pads)[:, None] -> tokens != pad_token
        Your mask says where the pad token stands, and a prompt may hold that token itself.
    one more is masked: places >= torch.tensor(pads)[:, None] -> places > torch.tensor(pads)[:, None]
        Your mask is False at the first token of each prompt.
    nothing is masked: places >= torch.tensor(pads)[:, None] -> places >= 0
        Your mask is True everywhere.
    a mask of numbers: return tokens, mask, positions.clamp(min=0) -> return tokens, mask.long(), positions.clamp(min=0)
        Your mask holds numbers. It is to be bool.
    positions of the columns: positions.clamp(min=0) -> places
        Your positions are those of the columns: padding is counted. Each row counts from its own first token.
    negative positions: positions.clamp(min=0) -> positions
        Your positions are negative at padding. They are to be 0 there.
    counted from 1: positions.clamp(min=0) -> (positions + 1).clamp(min=0)
        Your positions count from 1. The first token of a prompt stands at 0.
    positions with a point: positions.clamp(min=0) -> positions.clamp(min=0).float()
        Your positions are floating-point numbers. They are to be int64.
    positions of 1 at padding: positions.clamp(min=0) -> positions.where(mask, 1)
        Your positions are 1 at padding, as some libraries have it. Here they are 0 there.
    counted backwards: positions.clamp(min=0) -> (longest - 1 - places) * mask
        Your positions count from the end of the row.
    cut to the shortest: max(map(len, prompts)) -> min(map(len, prompts)); prompts = [x[-longest:] for x in prompts]
        You cut all prompts to the length of the shortest.
    one pad too many: max(map(len, prompts)) -> max(map(len, prompts)) + 1
        Your rows are one place longer than the longest prompt.
    only the first row's positions: positions.clamp(min=0) -> positions.clamp(min=0)[:1].expand_as(tokens).clone()
        All rows have the positions of the first one.
""")


@exercise.misconception
def all_on_the_right(prompts, pad_token=0):
    """You pad on the right. On the left, all prompts end in the last column, where the next tokens come from."""
    tokens, mask, positions = left_pad(prompts, pad_token)
    for row, prompt in enumerate(prompts):
        pad = tokens.shape[1] - len(prompt)
        tokens[row] = torch.tensor(prompt + [pad_token] * pad)
        mask[row] = torch.tensor([True] * len(prompt) + [False] * pad)
        positions[row] = torch.tensor([*range(len(prompt)), *[0] * pad])
    return tokens, mask, positions
