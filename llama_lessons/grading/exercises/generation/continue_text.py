"""Exercise 7, a bug hunt: prompts of unequal length, continued with a cache."""

from collections.abc import Callable
from functools import cache as kept

import torch
from torch import Tensor

from llama_lessons.llama import Llama, LlamaConfig

from ...exercise import Exercise
from ...expect import Mismatch, expect_like, on_device


def continue_text(model: Llama, prompts: list[list[int]], max_new_tokens: int) -> Tensor:
    device = next(model.parameters()).device
    longest = max(map(len, prompts))
    pads = [longest - len(prompt) for prompt in prompts]
    tokens = torch.tensor([[0] * pad + prompt for pad, prompt in zip(pads, prompts, strict=True)], device=device)
    mask = torch.tensor([[False] * pad + [True] * (longest - pad) for pad in pads], device=device)
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    cache = model.new_cache(len(prompts), longest + max_new_tokens)
    chosen = []
    for _ in range(max_new_tokens):
        logits = model(tokens, positions, attention_mask=mask, cache=cache)
        tokens = logits[:, -1:].argmax(dim=-1)
        chosen.append(tokens)
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(tokens).bool()], dim=1)
    return torch.cat(chosen, dim=1)


CONFIG = LlamaConfig(
    vocab_size=23, dim=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, hidden_dim=48, max_seq_len=64
)
GIVEN = (
    (((3, 1, 4, 1, 5),), 5),
    (((7, 8, 9), (1, 2, 3)), 4),
    (((11, 12, 13, 14, 15, 16), (2,), (0, 0, 5)), 6),
    (((4,), (6, 5, 4, 3, 2, 1, 0)), 5),
    (((0, 9), (9, 0, 0)), 1),
)


def small_llama(seed: int) -> Llama:
    """A model whose choices depend on all it has read: with the small weights of a start they hardly would."""
    generator = torch.Generator().manual_seed(seed)
    model = Llama(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return on_device(model.eval())


@kept
def expected(seed: int, prompt: tuple[int, ...], n: int) -> list[int]:
    """The prompt alone, read anew for each token, without a cache."""
    model, text = small_llama(seed), list(prompt)
    device = next(model.parameters()).device
    with torch.inference_mode():
        for _ in range(n):
            text.append(model(torch.tensor([text], device=device))[0, -1].argmax().item())
    return text[len(prompt) :]


def continues(answer: Callable) -> Callable:
    """Make of an answer what gives its tokens, and how many tokens a row the model was given in each call."""

    def run(seed: int, prompts: tuple[tuple[int, ...], ...], n: int) -> tuple[Tensor, str]:
        model, calls = small_llama(seed), []
        model.embedding.register_forward_hook(lambda _, given, made: calls.append(str(given[0].shape[1])))
        with torch.no_grad():
            return answer(model, [list(prompt) for prompt in prompts], n), ", ".join(calls)

    return run


def cases() -> list[tuple]:
    return [(seed, *given) for seed in range(2) for given in GIVEN]


exercise = Exercise(
    continue_text,
    points=5,
    minutes=15,
    cases=cases,
    returns=(Tensor, str),
    using=continues,
    hints=(
        "Print tokens, positions and mask in each round, for two prompts of unequal length. What stands in the last "
        "column, and where does the model think that it stands?",
        "After the first round each row goes on one place behind where it was, so its position grows by 1. What was "
        "generated is text, no padding.",
    ),
)


def expect_rows(answer: Callable, seed: int, prompts: tuple, n: int) -> None:
    got, _ = answer(seed, prompts, n)
    where = f"prompts of {', '.join(str(len(prompt)) for prompt in prompts)} tokens"
    expect_like(got, shape=(len(prompts), n), dtype=torch.int64, where=where)
    for row, prompt in zip(got.tolist(), prompts, strict=True):
        want = expected(seed, prompt, n)
        if row != want:
            raise Mismatch(f"{where}, prompt {list(prompt)}: alone it goes on with {want}, here with {row}")


@exercise.property("one prompt: as when everything is read anew")
def one(answer: Callable) -> None:
    for seed in range(3):
        expect_rows(answer, seed, *GIVEN[0])


@exercise.property("prompts of one length: each as if it were alone")
def same_length(answer: Callable) -> None:
    for seed in range(3):
        expect_rows(answer, seed, *GIVEN[1])


@exercise.property("prompts of unequal length: each as if it were alone")
def unequal(answer: Callable) -> None:
    for seed in range(3):
        for given in GIVEN[2:]:
            expect_rows(answer, seed, *given)


@exercise.property("the prompts are read once, then one token per row and call")
def reads(answer: Callable) -> None:
    for prompts, n in GIVEN:
        got = answer(0, prompts, n)[1]
        want = ", ".join(map(str, [max(map(len, prompts))] + [1] * (n - 1)))
        if got not in (want, f"{want}, 1"):
            raise Mismatch(f"the model was expected to be given {want} tokens a row, call by call, and was given {got}")


exercise.slips("""
    positions restart: positions = positions[:, -1:] + 1 -> positions = torch.zeros_like(tokens)
        The positions begin at 0 again in each round: the model turns each new token as if it stood at the beginning.
    positions stand still: positions = positions[:, -1:] + 1 -> positions = positions[:, -1:]
        The position stays where it was, for every new token.
    new tokens are masked: torch.ones_like(tokens).bool() -> torch.zeros_like(tokens).bool()
        What was generated is masked, as if it were padding: no later token sees it.
    padded on the right: [0] * pad + prompt -> prompt + [0] * pad
        The padding stands behind the prompts; the last column is padding in all rows but the longest.
    the first column: logits[:, -1:] -> logits[:, :1]
        The choice is made from the logits of the first column. Those of the last one say what comes next.
    nothing is masked: mask = torch.tensor([[False] -> mask = torch.tensor([[True]
        The padding is not masked: it is read as text.
    one position too far: positions = positions[:, -1:] + 1 -> positions = positions[:, -1:] + 2
        Positions grow by 2 in each round.
    the column's position: positions = positions[:, -1:] + 1 -> positions = torch.full_like(tokens, mask.shape[1])
        New tokens are counted by their column, padding included.
""")


@exercise.misconception
def as_it_was_given(model, prompts, max_new_tokens):
    """This behaves as the code that you were given: look at the padding, at the positions, and at the mask."""
    device = next(model.parameters()).device
    longest = max(map(len, prompts))
    pads = [longest - len(prompt) for prompt in prompts]
    tokens = torch.tensor([prompt + [0] * pad for pad, prompt in zip(pads, prompts, strict=True)], device=device)
    mask = torch.tensor([[True] * (longest - pad) + [False] * pad for pad in pads], device=device)
    cache = model.new_cache(len(prompts), longest + max_new_tokens)
    chosen = []
    for _ in range(max_new_tokens):
        positions = torch.arange(tokens.shape[1], device=device)
        logits = model(tokens, positions, attention_mask=mask, cache=cache)
        tokens = logits[:, -1:].argmax(dim=-1)
        chosen.append(tokens)
        mask = torch.cat([mask, torch.zeros_like(tokens).bool()], dim=1)
    return torch.cat(chosen, dim=1)
