"""Lesson 11. Generation: read the prompt at once, then choose one token after another.

The first step (prefill) reads whole prompts into the cache of keys and values, long ones in pieces; each later one
(decode) reads a single token, which attends to the cache. Only the last position's scores are asked for, since a choice
needs no others.

Prompts of unequal length are padded on the left, so that all rows end, and go on, in the same column; a
mask keeps the padding from being read. A row's tokens are those that it would have got alone, but for dynamic
NTK and LongRoPE: these change the frequencies of all rows by the length of the longest.

How a token is chosen is in `sampling`, drafted tokens are in `speculative`, choices from a list in `constrained`.

Not done here: beam search, repetition penalties, and taking rows out of the batch when they stop.

Source: Pope et al. 2022, "Efficiently Scaling Transformer Inference".
"""

from collections.abc import Collection, Iterator, Sequence
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from llama_lessons.llama import Block, Llama
from llama_lessons.sampling import check_settings, sample

__all__ = ["compile_blocks_", "generate", "left_pad", "store_for_decoding_", "stream"]

PREFILL = 512  # tokens of a prompt that are read at once


def left_pad(prompts: Sequence[Sequence[int]], pad_token: int = 0) -> tuple[Tensor, Tensor]:
    """Put prompts of unequal length into one tensor, so that all end in its last column.

    Args:
        prompts: token ids, one sequence per row.
        pad_token: fills the rest; any id serves, since the mask says what is padding.

    Returns:
        Tokens, int64, and the attention mask, bool, True at tokens: both of shape (batch, longest).
    """
    longest = max(map(len, prompts))
    tokens = torch.tensor([[pad_token] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    starts = torch.tensor([[longest - len(prompt)] for prompt in prompts])
    return tokens, torch.arange(longest) >= starts


@torch.no_grad()
def store_for_decoding_(model: Llama) -> None:
    """Store matrices that have more rows than columns column by column, so that a CPU reads them faster for one token.

    Decoding is bound by memory: each token needs every weight once. A CPU's product of one vector with a matrix of
    576 columns, row by row, gets about half of the memory's speed; column by column it gets nearly all of it.

    Args:
        model: changed in place, where it is on a CPU. Values, shapes and names stay; results do, but for rounding.
    """
    for parameter in model.parameters():
        if parameter.is_cpu and parameter.ndim == 2 and parameter.shape[0] > parameter.shape[1]:
            parameter.data = parameter.data.t().contiguous().t()


def compile_blocks_(model: Llama) -> None:
    """Compile a block once, and let all blocks of the model use it.

    Decoding on a CPU spends much of its time in Python between small operations. To compile a whole model takes
    minutes, since its blocks are compiled one by one, though their code is the same; one block takes a tenth of that,
    when it is first called.

    Args:
        model: changed in place; results stay, but for rounding.
    """
    # Weights are inputs to what is compiled, so that it serves each block; dynamic, since the cache grows.
    forward = torch.compile(Block.forward, dynamic=True)
    for block in model.blocks:
        block.forward = MethodType(forward, block)


def stream(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    stop_tokens: Collection[int] = (),
    seed: int = 0,
) -> Iterator[list[int | None]]:
    """Continue prompts, and yield the new tokens as they come.

    Args:
        model: scores the next token.
        prompts: token ids, one sequence per row, not all of the same length.
        max_new_tokens: for each row. With the prompt they may be more than config.max_seq_len: Llama goes on and
            only gets worse; a model with a table of positions cannot, and is refused.
        temperature: see `probabilities`, as for top_k, top_p and min_p.
        stop_tokens: ids that end a row when they are chosen; they are not yielded.
        seed: row i draws with a generator of its own, seeded with seed + i, so that what it draws does not
            depend on the other rows.

    Yields:
        A step's tokens, one per row, None for rows that have stopped; until all have, or max_new_tokens.

    Raises:
        ValueError: at once, not at the first token: if a prompt is empty or holds ids outside of the vocabulary,
            or a setting is out of its range.
    """
    check_settings(temperature, top_k, top_p, min_p)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens ({max_new_tokens}) must be at least 1")
    _check_prompts(prompts, model.config.vocab_size)
    longest, limit = max(map(len, prompts)), model.position_limit
    # The last token is chosen, but not read.
    if limit is not None and longest + max_new_tokens - 1 > limit:
        raise ValueError(
            f"a prompt of {longest} tokens and max_new_tokens ({max_new_tokens}) do not fit the model's table of "
            f"{limit} positions"
        )
    generators = [Generator().manual_seed(seed + row) for row in range(len(prompts))]
    sampling = (temperature, top_k, top_p, min_p, generators)
    return _steps(model, prompts, max_new_tokens, sampling, frozenset(stop_tokens))


def generate(model: Llama, prompts: Sequence[Sequence[int]], max_new_tokens: int, **settings) -> list[list[int]]:
    """Continue prompts to their end: what `stream` yields, as one list per prompt.

    Args, and errors, are those of `stream`.

    Returns:
        The new tokens alone, without the prompt and without the stop token.
    """
    rows: list[list[int]] = [[] for _ in prompts]
    for tokens in stream(model, prompts, max_new_tokens, **settings):
        for row, token in zip(rows, tokens, strict=True):
            if token is not None:
                row.append(token)
    return rows


# On a generator function this holds inside each step alone, not in the code that takes the tokens.
@torch.inference_mode()
def _steps(
    model: Llama, prompts: Sequence[Sequence[int]], max_new_tokens: int, sampling: tuple, stop_tokens: frozenset[int]
) -> Iterator[list[int | None]]:
    device = next(model.parameters()).device
    tokens, mask = (x.to(device) for x in left_pad(prompts))
    longest = tokens.shape[1]
    # Without padding there is nothing to mask, and attention is quicker. What is generated is never padding.
    mask = None if mask.all() else F.pad(mask, (0, max_new_tokens), value=True)
    try:
        cache = model.new_cache(len(prompts), longest + max_new_tokens)
    except (RuntimeError, TypeError) as error:  # torch's words for too little memory, and for numbers beyond 64 bits
        raise ValueError(
            f"there is no memory for the keys and values of {longest + max_new_tokens} tokens: make max_new_tokens "
            f"({max_new_tokens}) less"
        ) from error
    running = [True] * len(prompts)
    read = 0
    # Between pieces Python hears Ctrl-C, and only one piece's activations are in memory at a time. Where RoPE's
    # frequencies depend on the length, all tokens need those of the whole prompt.
    scaling = getattr(model.rope, "scaling", None)
    piece_len = longest if scaling is not None and scaling.depends_on_length else PREFILL
    for _ in range(max_new_tokens):
        for piece in tokens.split(piece_len, dim=1):
            read += piece.shape[1]
            hidden = model.hidden_states(piece, attention_mask=None if mask is None else mask[:, :read], cache=cache)
        chosen = sample(model.head(hidden[:, -1]), *sampling)
        ids = chosen.tolist()
        running = [runs and token not in stop_tokens for runs, token in zip(running, ids, strict=True)]
        if not any(running):
            return
        yield [token if runs else None for runs, token in zip(running, ids, strict=True)]
        tokens = chosen[:, None]


def _check_prompts(prompts: Sequence[Sequence[int]], vocab_size: int) -> None:
    if not len(prompts):
        raise ValueError("prompts must hold at least one prompt")
    if isinstance(prompts[0], int):
        raise ValueError("prompts must be a list of prompts, each a list of token ids: for one prompt, [prompt]")
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {row} is empty: it takes a token to score the next one")
        for token in (min(prompt), max(prompt)):
            if not 0 <= token < vocab_size:
                raise ValueError(f"prompt {row}: token id {token} is not in the vocabulary: vocab_size is {vocab_size}")
