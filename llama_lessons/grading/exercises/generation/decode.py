"""Exercise 1: generate with a cache, the prompt read once and then a token at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import Mismatch, on_device


def decode(model: Any, prompt: list[int], max_new_tokens: int, stop_tokens: Sequence[int] = ()) -> list[int]:
    cache = model.new_cache(1, len(prompt) + max_new_tokens)
    new = prompt
    chosen = []
    while len(chosen) < max_new_tokens:
        tokens = torch.tensor([new], device=next(model.parameters()).device)
        logits = model(tokens, cache=cache)
        best = logits[0, -1].argmax().item()
        if best in stop_tokens:
            break
        chosen.append(best)
        new = [best]
    return chosen


VOCAB = 11


class Cache:
    """What a model has read, as far as there is room."""

    def __init__(self, max_seq_len: int) -> None:
        self.max_seq_len = max_seq_len
        self.tokens: list[int] = []


class Noting(nn.Module):
    """A model whose next token depends on all tokens that it sees, and which notes how many each call gives it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(torch.randperm(VOCAB, generator=generator).float())
        self.calls: list[str] = []
        self.caches: list[Cache] = []

    def new_cache(self, batch: int, max_seq_len: int) -> Cache:
        if batch != 1:
            raise Mismatch(f"there is one prompt, and new_cache was asked for {batch} rows")
        self.caches.append(Cache(max_seq_len))
        return self.caches[-1]

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.shape[0] != 1 or not tokens.shape[1]:
            shape = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
            raise Mismatch(f"the model takes a tensor of shape (1, seq_len) with at least one token, and got {shape}")
        (ids,) = tokens.tolist()
        self.calls.append(f"{len(ids)}{'' if cache else ' without a cache'}")
        seen = list(cache.tokens) if cache else []
        rows = []
        for token in ids:
            seen.append(token)
            rows.append(self.scores(seen))
        if cache:
            if len(seen) > cache.max_seq_len:
                raise ValueError(f"{len(seen)} tokens do not fit a cache of max_seq_len ({cache.max_seq_len})")
            cache.tokens = seen
        return torch.stack(rows)[None].to(tokens.device)

    def scores(self, seen: list[int]) -> Tensor:
        """The logits after these tokens: highest at one that all of them, and their order, decide on."""
        place = 0
        for token in seen:
            place = (3 * place + token + 1) % 1009
        return torch.arange(VOCAB).sub(place % VOCAB).abs().neg().float()[self.table.long().cpu()]


def read_by(answer: Callable) -> Callable:
    """Make of an answer what gives its tokens, and how many tokens each of the model's calls was given, as text."""

    def run(seed: int, prompt: tuple[int, ...], max_new_tokens: int, stop_tokens: tuple[int, ...]) -> tuple[str, str]:
        model, given = on_device(Noting(seed)), list(prompt)
        returned = answer(model, given, max_new_tokens, *[stop_tokens] * bool(stop_tokens))
        if given != list(prompt):
            raise Mismatch("the prompt that was given is not what it was: make a new list")
        if not isinstance(returned, (list, tuple)) or not all(isinstance(token, int) for token in returned):
            kinds = {type(x).__name__ for x in returned} if isinstance(returned, (list, tuple)) else returned
            raise Mismatch(f"a list of plain ints is asked for, not {kinds}: .item() makes an int of a tensor")
        return " ".join(map(str, returned)), ", ".join(model.calls)

    return run


def cases() -> list[tuple]:
    return [
        (0, (3, 1, 4, 1, 5), 6, ()),
        (1, (2,), 4, ()),
        (2, (9, 8, 7), 1, ()),
        *[(seed, tuple(range(1 + seed)), 9, stops_after(seed, tuple(range(1 + seed)), n)) for seed, n in STOPPING],
    ]


def expected(seed: int, prompt: tuple[int, ...], max_new_tokens: int, stops: tuple[int, ...]) -> list[int]:
    """By reading everything anew for each token."""
    model, text = Noting(seed), list(prompt)
    for _ in range(max_new_tokens):
        best = int(model.scores(text).argmax())
        if best in stops:
            break
        text.append(best)
    return text[len(prompt) :]


STOPPING = ((3, 0), (4, 2), (5, 4), (6, 3))  # a model's seed, and how many tokens come before its stop token


def stops_after(seed: int, prompt: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Stop tokens of which the first one comes after n others, or a little earlier."""
    return (VOCAB + 5, expected(seed, prompt, n + 1, ())[n])


exercise = Exercise(
    decode,
    points=5,
    minutes=12,
    cases=cases,
    returns=(str, str),
    using=read_by,
    hints=(
        "The prompt and a new token are read by the same call; only the list that is made a tensor of differs. What "
        "does it hold in the first round, and what in all others?",
        "logits has shape (1, seq_len, vocab_size), and only its last row is about what comes next. .argmax().item() "
        "makes an int of it. Look at the stop tokens before you keep it.",
    ),
)


def told(numbers: str) -> str:
    return numbers or "nothing"


@exercise.property("the best token each time, as when everything is read anew")
def tokens(answer: Callable) -> None:
    for seed, prompt, n in ((0, (3, 1, 4, 1, 5), 6), (7, (2, 2), 12), (8, (10,), 5)):
        got, want = answer(seed, prompt, n, ())[0], " ".join(map(str, expected(seed, prompt, n, ())))
        if got != want:
            raise Mismatch(f"prompt {list(prompt)}, {n} new tokens: expected {want}, got {told(got)}")


@exercise.property("as many as max_new_tokens, if no stop token comes")
def how_many(answer: Callable) -> None:
    for n in (1, 2, 7):
        got = len(answer(9, (1, 2, 3), n, ())[0].split())
        if got != n:
            raise Mismatch(f"max_new_tokens of {n}: expected {n} tokens, got {got}")


@exercise.property("a stop token ends the answer and is not part of it")
def stop(answer: Callable) -> None:
    for seed, n in STOPPING:
        prompt = tuple(range(1 + seed))
        stops = stops_after(seed, prompt, n)
        got, want = answer(seed, prompt, 9, stops)[0], " ".join(map(str, expected(seed, prompt, 9, stops)))
        if got != want:
            raise Mismatch(f"stop tokens {list(stops)}: expected {told(want)}, got {told(got)}")


@exercise.property("the prompt is read once, then one token per call, all with the cache")
def reads(answer: Callable) -> None:
    for prompt, n in (((3, 1, 4, 1, 5), 6), ((2,), 3), ((1, 2, 3), 1)):
        got, want = answer(1, prompt, n, ())[1], ", ".join(map(str, [len(prompt)] + [1] * (n - 1)))
        if got not in (want, f"{want}, 1"):
            raise Mismatch(
                f"a prompt of {len(prompt)} tokens and {n} new ones: the model was expected to be given {want} tokens, "
                f"call by call, and was given {told(got)}"
            )


exercise.slips("""
    everything read anew: new = [best] -> new = prompt + chosen; cache = model.new_cache(1, 999)
        Your tokens are right, but each call reads the whole text again: the cache is there so that it need not be.
    the text read again into the cache: new = [best] -> new = prompt + chosen; cache.max_seq_len = 999
        After the first token you give the model the whole text again. The cache holds it already: it is read twice.
    the prompt again: new = [best] -> new = prompt; cache.max_seq_len = 999
        Each call reads the prompt again. After the first call the model is to read the token that was just chosen.
    an empty cache each time: model(tokens, cache=cache) -> model(tokens, cache=model.new_cache(1, 99))
        Each call gets a new, empty cache: after the prompt, the model sees one token and nothing before it.
    no cache: logits = model(tokens, cache=cache) -> logits = model(tokens)
        The model is not given the cache: after the prompt, it sees one token and nothing before it.
    everything read anew, without a cache after the prompt: new = [best] -> new = prompt + chosen; cache = None
        Your tokens are right, but after the prompt each call reads the whole text again, without a cache.
    the first row: logits[0, -1] -> logits[0, 0]
        You take the logits after the first token of what was read. Those after the last one say what comes next.
    the lowest: .argmax() -> .argmin()
        You take the token with the lowest logit.
    the stop token is kept: chosen.append(best) -> pass
        The answer is empty: no token is ever kept.
    ended after the stop token: if best in stop_tokens -> if chosen and chosen[-1] in stop_tokens
        The stop token is in your answer, or what comes after it. Look at a token before you keep it.
    stop tokens left out: break -> max_new_tokens -= 1; new = [best]; continue
        You leave stop tokens out, and go on. A stop token ends the answer.
    only the first stop token: if best in stop_tokens -> if stop_tokens and best == stop_tokens[0]
        You look for the first stop token alone. Any of them ends the answer.
    one too few: while len(chosen) < max_new_tokens -> while len(chosen) < max_new_tokens - 1
        You return one token fewer than max_new_tokens.
    one too many: while len(chosen) < max_new_tokens -> while len(chosen) <= max_new_tokens
        You return one token more than max_new_tokens.
    with the prompt: return chosen -> return prompt + chosen
        You return the prompt too. The new tokens alone are asked for.
""")


@exercise.misconception
def keeps_the_stop_token(model, prompt, max_new_tokens, stop_tokens=()):
    """Your answer ends with the stop token. It ends before it: the stop token is no part of the text."""
    tokens = decode(model, prompt, max_new_tokens, ())
    ends = [i for i, token in enumerate(tokens) if token in stop_tokens]
    return tokens[: ends[0] + 1] if ends else tokens


@exercise.misconception
def prompt_token_by_token(model, prompt, max_new_tokens, stop_tokens=()):
    """Your tokens are right, but the prompt is read one token per call. All of it fits into the first call."""
    cache = model.new_cache(1, len(prompt) + max_new_tokens)
    for token in prompt[:-1]:
        model(torch.tensor([[token]]), cache=cache)
    chosen, new = [], prompt[-1]
    while len(chosen) < max_new_tokens:
        new = model(torch.tensor([[new]]), cache=cache)[0, -1].argmax().item()
        if new in stop_tokens:
            break
        chosen.append(new)
    return chosen


@exercise.misconception
def everything_read_anew_without_a_cache(model, prompt, max_new_tokens, stop_tokens=()):
    """Your tokens are right, but each call reads the whole text again, without a cache."""
    text = list(prompt)
    while len(text) < len(prompt) + max_new_tokens:
        best = model(torch.tensor([text]))[0, -1].argmax().item()
        if best in stop_tokens:
            break
        text.append(best)
    return text[len(prompt) :]
