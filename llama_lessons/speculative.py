"""Lesson 11. Speculative decoding: tokens that something cheap has drafted, read by the model in one pass.

Reading a few tokens takes a model hardly longer than reading one, since its weights, which it fetches from memory for
each pass, are many times more than the tokens. So a draft of the next tokens is read at once, kept as far as the model
agrees, and the rest is forgotten. What comes out is distributed as if the model had chosen each token itself; at
temperature 0 it is the same text.

A draft may come from a smaller model, from the same weights in fewer bits, or from the text itself.

Not done here: more than one prompt at a time, trees of drafts, and models whose frequencies depend on the length.

Sources: Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding"; Chen et al. 2023,
"Accelerating Large Language Model Decoding with Speculative Sampling"; Saxena 2023, "Prompt Lookup Decoding".
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from llama_lessons.attention import KVCache
from llama_lessons.llama import Llama
from llama_lessons.sampling import check_settings, probabilities

__all__ = ["Draft", "DraftModel", "PromptLookup", "accept_drafts", "look_up", "rewind", "stream_with_drafts"]

# Takes all tokens so far and how many to draft at most; returns the drafted ones, and the probabilities from which
# each was drawn, (n_drafts, vocab_size).
Draft = Callable[[list[int], int], tuple[list[int], Tensor]]


def accept_drafts(target: Tensor, draft: Tensor, tokens: Sequence[int], u: Sequence[float], v: float) -> list[int]:
    """Keep drafted tokens so that all that comes out is distributed as the target (Leviathan et al. 2023, section 2.3).

    A token x is kept with probability min(1, target(x) / draft(x)). At the first one refused, another is drawn from
    max(target - draft, 0), scaled to sum 1: from what the draft proposes too seldom. If all are kept, the target gives
    one token more.

    Args:
        target: the model's probabilities, shape (n_drafts + 1, vocab_size): after the text and each drafted token.
        draft: the probabilities from which the tokens were drawn, shape (n_drafts, vocab_size).
        tokens: drafted ids, n_drafts of them.
        u: a number for each of them, uniform on [0, 1).
        v: one more, for the token that is drawn.

    Returns:
        What to go on with: the kept tokens and the one drawn, 1 to n_drafts + 1 ids.
    """
    for i, token in enumerate(tokens):
        if u[i] * draft[i, token] >= target[i, token]:
            missing = (target[i] - draft[i]).clamp(min=0)
            # Nothing is missing where both are equal but for rounding.
            return [*tokens[:i], _draw(missing if missing.any() else target[i], v)]
    return [*tokens, _draw(target[len(tokens)], v)]


def _draw(weights: Tensor, v: float) -> int:
    # The first token up to which the weights add up to more than v, of all that they add up to.
    cumulative = weights.double().cumsum(-1)
    return int(torch.searchsorted(cumulative, v * cumulative[-1:], right=True))


def look_up(tokens: Sequence[int], n_drafts: int, longest: int = 3) -> list[int]:
    """Draft from the text itself: what followed when its last tokens stood there before (Saxena 2023).

    Args:
        tokens: the text so far.
        n_drafts: tokens to draft at most.
        longest: how many last tokens to look for; if they did not stand there before, fewer.

    Returns:
        The tokens after the latest earlier place; none if there is no such place.
    """
    for length in range(min(longest, len(tokens) - 1), 0, -1):
        for start in range(len(tokens) - length - 1, -1, -1):
            if tokens[start : start + length] == tokens[-length:]:
                return list(tokens[start + length : start + length + n_drafts])
    return []


class PromptLookup:
    """Drafts from the text itself, with certainty: see `look_up`.

    Args:
        vocab_size: the model's.
        longest: see `look_up`.
    """

    def __init__(self, vocab_size: int, longest: int = 3) -> None:
        self.vocab_size, self.longest = vocab_size, longest

    def __call__(self, tokens: list[int], n_drafts: int) -> tuple[list[int], Tensor]:
        drafted = look_up(tokens, n_drafts, self.longest)
        return drafted, F.one_hot(torch.tensor(drafted, dtype=torch.long), self.vocab_size).float()


class DraftModel:
    """Drafts by a second model of the same vocabulary, which chooses one token after another.

    Args:
        model: the smaller or faster one.
        max_seq_len: tokens that there is to be room for, the prompt included.
        seed: for what it draws.
        sampling: temperature, top_k, top_p and min_p, as for `probabilities`.
    """

    def __init__(self, model: Llama, max_seq_len: int, seed: int = 0, **sampling: float | None) -> None:
        self.model, self.sampling = model, sampling
        self.cache = model.new_cache(1, max_seq_len)
        self.generator = Generator().manual_seed(seed)
        self.read: list[int] = []

    def __call__(self, tokens: list[int], n_drafts: int) -> tuple[list[int], Tensor]:
        # What the model has read and the text still begins with stays in the cache, but for the text's last token,
        # which is read in any case, for its logits.
        same = next((i for i, pair in enumerate(zip(self.read, tokens, strict=False)) if pair[0] != pair[1]), None)
        self._rewind(min(len(self.read) if same is None else same, len(tokens) - 1))
        drafted, rows, device = [], [], next(self.model.parameters()).device
        new = tokens[len(self.read) :]
        for _ in range(n_drafts):
            hidden = self.model.hidden_states(torch.tensor([new], device=device), cache=self.cache)
            self.read += new
            rows.append(probabilities(self.model.head(hidden[:, -1]), **self.sampling))
            new = [_draw(rows[-1][0], torch.rand((), generator=self.generator).item())]
            drafted += new
        vocab_size = self.model.config.vocab_size
        return drafted, torch.cat(rows) if rows else torch.empty(0, vocab_size, device=device)

    def _rewind(self, length: int) -> None:
        del self.read[length:]
        rewind(self.cache, length)


def rewind(cache: Sequence[KVCache], length: int) -> None:
    """Make the caches of all layers forget all but the first `length` tokens; the next ones take their place.

    Raises:
        ValueError: if they hold fewer.
    """
    for layer in cache:
        if not 0 <= length <= layer.length:
            raise ValueError(f"length ({length}) must be from 0 to the {layer.length} tokens that the cache holds")
        layer.length = length


def stream_with_drafts(
    model: Llama,
    prompt: Sequence[int],
    max_new_tokens: int,
    draft: Draft,
    n_drafts: int = 8,
    *,
    stop_tokens: Collection[int] = (),
    seed: int = 0,
    **sampling: float | None,
) -> Iterator[list[int]]:
    """Continue one prompt, and yield what each of the model's passes brings: one token, or more.

    Args:
        model: chooses; what comes out is distributed as it would be without a draft.
        prompt: token ids.
        max_new_tokens: to stop at.
        draft: drafts the next tokens, such as `PromptLookup` or `DraftModel`.
        n_drafts: tokens to draft for a pass, at most.
        stop_tokens: ids that end the text when they are chosen; they are not yielded.
        seed: for what is drawn.
        sampling: temperature, top_k, top_p and min_p, as for `probabilities`.

    Yields:
        The tokens of a pass, 1 to n_drafts + 1; fewer, if a stop token or max_new_tokens is reached.

    Raises:
        ValueError: at once: if the prompt is empty, max_new_tokens or n_drafts is too small, or the model's frequencies
            depend on the length of the text.
    """
    if not len(prompt) or max_new_tokens < 1 or n_drafts < 0:
        raise ValueError(
            f"a prompt of {len(prompt)} tokens, max_new_tokens ({max_new_tokens}) and n_drafts ({n_drafts}): the first "
            "two must be at least 1, and n_drafts at least 0"
        )
    scaling = model.rope.scaling if hasattr(model.rope, "scaling") else None
    if scaling is not None and scaling.depends_on_length:
        raise ValueError("the model's frequencies depend on the length of the text: generate without a draft")
    check_settings(**sampling)
    return _passes(model, list(prompt), max_new_tokens, draft, n_drafts, frozenset(stop_tokens), seed, sampling)


@torch.inference_mode()
def _passes(
    model: Llama,
    tokens: list[int],
    max_new_tokens: int,
    draft: Draft,
    n_drafts: int,
    stop_tokens: frozenset[int],
    seed: int,
    sampling: dict[str, float | None],
) -> Iterator[list[int]]:
    device, generator = next(model.parameters()).device, Generator().manual_seed(seed)
    end = len(tokens) + max_new_tokens
    cache = model.new_cache(1, end)
    read = 0
    while len(tokens) < end:
        # With all of them kept, the model adds one.
        drafted, q = draft(tokens, min(n_drafts, end - len(tokens) - 1))
        new = torch.tensor([tokens[read:] + drafted], device=device)
        # (1, len(new), dim) -> (n_drafts + 1, vocab_size): after the text, and after each drafted token
        logits = model.head(model.hidden_states(new, cache=cache)[0, -len(drafted) - 1 :])
        u = torch.rand(len(drafted) + 1, generator=generator).tolist()
        chosen = accept_drafts(probabilities(logits, **sampling), q.to(device), drafted, u[:-1], u[-1])
        # The last one is chosen, and not read yet; drafted ones behind it were read, and are forgotten.
        read = len(tokens) + len(chosen) - 1
        rewind(cache, read)
        tokens = tokens + chosen
        stop = next((i for i, token in enumerate(chosen) if token in stop_tokens), None)
        if chosen[:stop]:
            yield chosen[:stop]
        if stop is not None:
            return
