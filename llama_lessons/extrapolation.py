"""Lesson 04. Reading past the length that a model was trained on: ALiBi, and RoPE with other frequencies.

ALiBi rotates nothing. It takes from each score a penalty that grows with the distance, so no position is new.

A RoPE model has seen its pairs of channels at the angles of original_max_seq_len positions; the slow ones have not
even come round once. Scaling rotates pairs more slowly, so that a text `factor` times as long stays within known
angles. The kinds differ in which pairs pay for it:

- linear, or position interpolation: each pair, by the whole factor.
- NTK-aware: the fastest pair nothing, the slowest the whole factor, the others in between.
- dynamic: the same, by as much as the present length needs.
- YaRN and Llama 3: pairs that turn often within the trained length nothing, those that hardly turn the whole
  factor, with a ramp between. YaRN also sharpens the softmax.
- LongRoPE: each pair a number of its own, found by a search.

Everywhere here, `frequencies` are radians per position, shape (head_dim // 2,), fastest pair first, as
`rope_frequencies` makes them; what comes back is like them in shape and dtype.

Not done here: the settings of a model, which `rope_scaling` reads and applies; and training on longer text, which
position interpolation, YaRN, Llama 3 and LongRoPE are followed by.

Sources: Press et al. 2022, "Train Short, Test Long"; Chen et al. 2023, "Extending Context Window of Large Language
Models via Positional Interpolation"; Peng et al. 2023, "YaRN", also for bloc97's NTK-aware and emozilla's dynamic
scaling; Meta's code of Llama 3.1; Ding et al. 2024, "LongRoPE".
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "AlibiBias",
    "alibi_bias",
    "alibi_slopes",
    "dynamic_ntk_frequencies",
    "linear_frequencies",
    "llama3_frequencies",
    "longrope_attention_factor",
    "longrope_frequencies",
    "ntk_frequencies",
    "ntk_theta",
    "yarn_attention_factor",
    "yarn_frequencies",
    "yarn_ramp",
]


def alibi_slopes(n_heads: int) -> Tensor:
    """What each head takes from a score for each position of distance (Press et al., section 3).

    slope[i] = 2 ** (-8 (i + 1) / n_heads), where n_heads is a power of two

    Other numbers of heads get the slopes of the power of two below, then every second one of the power of two
    above, as in the paper's own code.

    Returns:
        Shape (n_heads,), float32.

    Raises:
        ValueError: if n_heads is not positive.
    """
    if n_heads < 1:
        raise ValueError(f"n_heads ({n_heads}) must be positive")
    power = 2 ** (n_heads.bit_length() - 1)
    steps = [i / power for i in range(1, power + 1)] + [i / (2 * power) for i in range(1, 2 * power, 2)]
    return torch.tensor([2 ** (-8 * step) for step in steps[:n_heads]], dtype=torch.float32, device="cpu")


def alibi_bias(n_heads: int, query_len: int, key_len: int) -> Tensor:
    """What ALiBi adds to the scores before the softmax (Press et al., section 3).

    bias[head, query, key] = -slope[head] * (query position - key position), and 0 for keys that come later: hiding
    those is left to the causal mask.

    Args:
        n_heads: query heads.
        query_len: queries, at the last query_len of the key_len positions.
        key_len: keys, at positions 0 to key_len - 1.

    Returns:
        Shape (n_heads, query_len, key_len), float32.

    Raises:
        ValueError: if there are more queries than keys, or n_heads is not positive.
    """
    if query_len > key_len:
        raise ValueError(f"query_len ({query_len}) must be at most key_len ({key_len}): queries are the last positions")
    return AlibiBias(n_heads)(torch.arange(key_len - query_len, key_len), torch.arange(key_len))


class AlibiBias(nn.Module):
    """`alibi_bias` for any positions. It has no parameters, and no buffer that a cast to bfloat16 would round.

    Args:
        n_heads: query heads.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.slopes = alibi_slopes(n_heads)

    def forward(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Take integer positions, each (len,) or (batch, len); return what is added to the scores.

        Returns:
            Shape (n_heads, query_len, key_len), or (batch, n_heads, query_len, key_len); float32.
        """
        # Clamped, since a key of the future would otherwise get a bonus.
        past = (key_positions[..., None, :] - query_positions[..., :, None]).clamp(max=0)
        return self.slopes.to(past.device)[:, None, None] * past.unsqueeze(-3)


def linear_frequencies(frequencies: Tensor, factor: float) -> Tensor:
    """Position interpolation: position factor * p is turned as p was before (Chen et al., section 2.3)."""
    return frequencies / factor


def ntk_theta(theta: float, factor: float, head_dim: int) -> float:
    """Base with which the slowest pair turns exactly factor times more slowly (YaRN, section 3.1).

    theta * factor ** (head_dim / (head_dim - 2))

    Raises:
        ValueError: if head_dim is 2 or less: its only pair is the fastest too, which is left alone.
    """
    if head_dim <= 2:
        raise ValueError(f"head_dim ({head_dim}) must be more than 2: the fastest pair is left alone")
    return theta * factor ** (head_dim / (head_dim - 2))


def ntk_frequencies(frequencies: Tensor, factor: float) -> Tensor:
    """NTK-aware scaling: the frequencies of base `ntk_theta` (YaRN, section 3.1).

    frequency[i] / factor ** (i / (n_pairs - 1)), which is 1 for the fastest pair and factor for the slowest
    """
    exponents = torch.linspace(0, 1, len(frequencies), dtype=frequencies.dtype, device=frequencies.device)
    return frequencies / factor**exponents


def dynamic_ntk_frequencies(frequencies: Tensor, factor: float, seq_len: int, original_max_seq_len: int) -> Tensor:
    """NTK-aware scaling by what seq_len tokens need: nothing up to original_max_seq_len (YaRN, section 3.3).

    `ntk_frequencies` by factor * seq_len / original_max_seq_len - (factor - 1), as in emozilla's code. A factor of 1
    gives the paper's seq_len / original_max_seq_len; a larger one slows more, to make up for the pairs that
    NTK-aware scaling slows by less than it is told.
    """
    stretch = max(seq_len, original_max_seq_len) / original_max_seq_len
    return ntk_frequencies(frequencies, factor * stretch - (factor - 1))


def yarn_ramp(
    frequencies: Tensor, original_max_seq_len: int, beta_fast: float = 32, beta_slow: float = 1, truncate: bool = True
) -> Tensor:
    """How far each pair is interpolated: 0 if it turns often, 1 if it hardly turns (YaRN, section 3.2).

    Linear in the number of the pair, as in the paper's code and so in all checkpoints. The paper's equation is
    linear in the number of turns, as `llama3_frequencies` is.

    Args:
        frequencies: of two pairs at least.
        original_max_seq_len: positions that the model was trained on.
        beta_fast: turns within that length from which on a pair is left alone.
        beta_slow: turns up to which a pair is interpolated by the whole factor.
        truncate: whether both ends of the ramp move outwards to whole pairs.

    Raises:
        ValueError: if the frequencies do not fall, so that no pair can be found by its turns.
    """
    if len(frequencies) < 2 or frequencies[1] >= frequencies[0]:
        raise ValueError(f"frequencies must fall, over two pairs at least, not {frequencies[:2].tolist()}")

    def pair_that_turns(times: float) -> float:
        fastest, next_to_it = frequencies[:2].tolist()
        frequency = 2 * math.pi * times / original_max_seq_len
        return math.log(frequency / fastest) / math.log(next_to_it / fastest)

    first, last = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    # Also from the paper's code: no end lies outside the channels' numbers, and a ramp without length is a step.
    first, last = max(first, 0), min(last, 2 * len(frequencies) - 1)
    pairs = torch.arange(len(frequencies), dtype=frequencies.dtype, device=frequencies.device)
    return ((pairs - first) / max(last - first, 0.001)).clamp(0, 1)


def yarn_frequencies(
    frequencies: Tensor,
    factor: float,
    original_max_seq_len: int,
    beta_fast: float = 32,
    beta_slow: float = 1,
    truncate: bool = True,
) -> Tensor:
    """YaRN: divide each pair by 1, by factor, or between, as `yarn_ramp` says (YaRN, section 3.2)."""
    ramp = yarn_ramp(frequencies, original_max_seq_len, beta_fast, beta_slow, truncate)
    return torch.lerp(frequencies, frequencies / factor, ramp)


def yarn_attention_factor(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """What YaRN multiplies queries and keys by: 0.1 ln(factor) + 1 (YaRN, section 3.4).

    With both mscale and mscale_all_dim, as in DeepSeek: (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor)
    + 1). One of them alone changes nothing, as in transformers.
    """
    if mscale and mscale_all_dim:
        return (0.1 * mscale * math.log(factor) + 1) / (0.1 * mscale_all_dim * math.log(factor) + 1)
    return 0.1 * math.log(factor) + 1


def llama3_frequencies(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> Tensor:
    """Llama 3.1 and later: divide slow pairs by factor, leave fast ones alone, mix between by their turns.

    These are YaRN's equations of "NTK-by-parts" (section 3.2), with other bounds and without its softmax.

    Args:
        frequencies: the model's own.
        factor: what slow pairs are divided by.
        low_freq_factor: turns within original_max_seq_len up to which a pair is slow.
        high_freq_factor: turns from which on it is fast, more than low_freq_factor.
        original_max_seq_len: positions that the model was first trained on.
    """
    turns = original_max_seq_len * frequencies / (2 * math.pi)
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return torch.lerp(frequencies / factor, frequencies, kept)


def longrope_frequencies(frequencies: Tensor, factors: Sequence[float]) -> Tensor:
    """LongRoPE: divide each pair by a factor of its own (Ding et al.).

    Raises:
        ValueError: if there is not one factor for each pair.
    """
    if len(factors) != len(frequencies):
        raise ValueError(f"factors ({len(factors)}) must be one for each of head_dim // 2 ({len(frequencies)}) pairs")
    return frequencies / frequencies.new_tensor(factors)


def longrope_attention_factor(factor: float, original_max_seq_len: int) -> float:
    """What LongRoPE multiplies queries and keys by, from Phi-3's code.

    sqrt(ln(factor * original_max_seq_len) / ln(original_max_seq_len))
    """
    return math.sqrt(1 + math.log(factor) / math.log(original_max_seq_len))
