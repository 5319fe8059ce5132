"""Lesson 11. Generation: read the prompt at once, then choose one token after another.

The first step (prefill) reads whole prompts into the cache of keys and values, long ones in pieces; each later one
(decode) reads a single token, which attends to the cache. Only the last position's scores are asked for, since a choice
needs no others.

Prompts of unequal length are padded on the left, so that all rows end, and go on, in the same column; a
mask keeps the padding from being read. A row's tokens are those that it would have got alone, but for dynamic
NTK and LongRoPE: these change the frequencies of all rows by the length of the longest.

Not done here: beam search, repetition penalties, and taking rows out of the batch when they stop. Drafted tokens are
in `speculative`, choices from a list in `constrained`.

Sources: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"; Fan et al. 2018, "Hierarchical
Neural Story Generation", section 5.1 (top-k); Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling for Creative and
Coherent LLM Outputs"; Pope et al. 2022, "Efficiently Scaling Transformer Inference".
"""

import math
from collections.abc import Collection, Iterator, Sequence
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from llama_lessons.llama import Block, Llama

__all__ = [
    "compile_blocks_",
    "draw",
    "generate",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "left_pad",
    "probabilities",
    "sample",
    "store_for_decoding_",
    "stream",
]

PREFILL = 512  # tokens of a prompt that are read at once


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k highest logits of each row to -inf (Fan et al. 2018, section 5.1).

    Args:
        logits: shape (..., vocab_size).
        k: tokens to keep, at least 1; more than there are keeps all.

    Returns:
        Like logits. Tokens that score the same as the k-th stay too: nothing tells them apart.

    Raises:
        ValueError: if k is less than 1.
    """
    _check_settings(top_k=k)
    kth_highest = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < kth_highest, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Set to -inf all but the smallest set of tokens whose probability reaches p (Holtzman et al. 2020, eq. 2-3).

    The most probable tokens are taken until their sum is at least p: the token that reaches p is the last one
    in, so there is always one.

    Args:
        logits: shape (..., vocab_size).
        p: probability to reach, above 0 and at most 1; 1 keeps all.

    Returns:
        Like logits; probabilities are computed in float32. Of equally probable tokens, lower ids come first.

    Raises:
        ValueError: if p is outside (0, 1].
    """
    _check_settings(top_p=p)
    if p == 1:
        return logits  # sums of float32 may reach 1 before the last token is in
    probabilities, ids = logits.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
    # The probability of all more probable tokens; a token is kept while this is below p.
    before = F.pad(probabilities.cumsum(-1)[..., :-1], (1, 0))
    return logits.masked_fill((before >= p).scatter(-1, ids, before >= p), -torch.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Set to -inf all tokens whose probability is less than p times that of the best one (Nguyen et al. 2024, eq. 2).

    Probabilities are to each other as the exponentials of their logits, so that no softmax is needed.

    Args:
        logits: shape (..., vocab_size).
        p: share of the best token's probability, from 0, which keeps all, to 1, which keeps the best alone.

    Returns:
        Like logits.

    Raises:
        ValueError: if p is outside [0, 1].
    """
    _check_settings(min_p=p)
    if p == 0:
        return logits
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -torch.inf)


def _keep_top_p_fast(logits: Tensor, p: float) -> Tensor:
    # As `keep_top_p`, without sorting the whole vocabulary: tokens rarer than (1 - p) / vocab_size have less than
    # 1 - p together, so that p is reached without them.
    if p == 1:
        return logits
    probabilities = logits.float().softmax(-1)
    n_candidates = int((probabilities >= (1 - p) / logits.shape[-1]).sum(-1).max())
    # (..., vocab_size) -> (..., n_candidates), by id and then by probability, as a stable sort has them
    ids = probabilities.topk(n_candidates).indices.sort(dim=-1).values
    candidates, order = probabilities.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(-1, order)
    before = F.pad(candidates.cumsum(-1)[..., :-1], (1, 0))
    kept = logits.gather(-1, ids).masked_fill(before >= p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, kept)


def draw(probabilities: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
    """Draw a token for each row by inverse transform sampling.

    The first token up to which the probabilities add up to more than u, where u is uniform on [0, 1): a
    token of probability p is drawn with probability p. torch.multinomial does the same with a random number for
    each token of the vocabulary, and takes several times as long.

    Args:
        probabilities: shape (batch, vocab_size); rows need not sum to 1.
        generators: one per row, on the CPU, so that a seed means the same on every device; by default torch's
            own one serves all rows.

    Returns:
        Token ids, int64, shape (batch,). A token of probability 0 is never drawn.

    Raises:
        ValueError: if a row does not sum to a finite positive number, or generators are not one per row.
    """
    if generators is not None and len(generators) != probabilities.shape[0]:
        raise ValueError(f"generators ({len(generators)}) must be as many as rows ({probabilities.shape[0]})")
    cumulative = probabilities.cumsum(-1)
    totals = cumulative[:, -1:]
    _check_finite(totals.log())
    u = [torch.rand(1, 1, generator=g, device="cpu") for g in generators or [None] * probabilities.shape[0]]
    # The first place at which cumulative > u * totals; a binary search, since cumulative rises.
    return torch.searchsorted(cumulative, torch.cat(u).to(totals.device) * totals, right=True).squeeze(-1)


def sample(
    logits: Tensor,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    generators: Sequence[Generator] | None = None,
) -> Tensor:
    """Choose a token for each row: the best one at temperature 0, else one drawn from `probabilities`.

    Args:
        logits: shape (batch, vocab_size).
        temperature: see `probabilities`, as for top_k, top_p and min_p.
        generators: see `draw`.

    Returns:
        Token ids, int64, shape (batch,).

    Raises:
        ValueError: if a setting is out of its range, a row of logits is not finite, or generators are not one per row.
    """
    _check_settings(temperature, top_k, top_p, min_p)
    if temperature == 0:
        return _best(logits)
    return draw(probabilities(logits, temperature, top_k, top_p, min_p), generators)


def probabilities(
    logits: Tensor,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Tensor:
    """With which probability each token is chosen.

    softmax(logits / temperature), cut to top_k, then to top_p, then by min_p, and scaled to sum 1 again

    Args:
        logits: shape (batch, vocab_size).
        temperature: 0 takes the highest logit, the lowest id among equals, with certainty; 1 draws as the model
            learned; higher is more even.
        top_k: see `keep_top_k`; None keeps all.
        top_p: see `keep_top_p`; None keeps all.
        min_p: see `keep_min_p`; None keeps all.

    Returns:
        float32, shape (batch, vocab_size).

    Raises:
        ValueError: if a setting is out of its range, or, at temperature 0, a row of logits is not finite.
    """
    _check_settings(temperature, top_k, top_p, min_p)
    if temperature == 0:
        return F.one_hot(_best(logits), logits.shape[-1]).float()
    logits = logits.float() / max(temperature, 1e-30)  # below that, float32 overflows, and the best token is certain
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = _keep_top_p_fast(logits, top_p)
    if min_p is not None:
        logits = keep_min_p(logits, min_p)
    return logits.softmax(-1)


def _best(logits: Tensor) -> Tensor:
    ids = logits.argmax(-1)
    _check_finite(logits.gather(-1, ids[:, None]))  # of a row that holds NaN or inf, argmax takes that
    return ids


def _check_finite(largest: Tensor) -> None:
    if not largest.isfinite().all():
        row = int((~largest.isfinite()).flatten().nonzero()[0])
        raise ValueError(
            f"logits of row {row} are not finite (NaN or infinity): the model's weights are damaged, or its numbers "
            "overflow; float16 does so above 65,504, bfloat16 and float32 do not"
        )


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
    _check_settings(temperature, top_k, top_p, min_p)
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


def _check_settings(
    temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None
) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature ({temperature}) must be finite and at least 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k ({top_k}) must be at least 1, or None to keep all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p ({top_p}) must be above 0 and at most 1, or None to keep all")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"min_p ({min_p}) must be at least 0 and at most 1, or None to keep all")


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
