"""Time of rotating queries and keys as a model does it, beside transformers: forward, tables made before."""

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from benchmarks.side_by_side import Row, median_seconds
from llama_lessons.rope import LAYOUTS, RotaryEmbedding, rope_frequencies, rope_tables

__all__ = ["rows"]

# (batch, n_heads, seq_len, head_dim), and rounds
CASES = [((1, 32, 2048, 128), 40), ((8, 8, 256, 64), 150)]


@torch.inference_mode()
def rows() -> list[Row]:
    """Measure each case in both layouts."""
    found = []
    for shape, rounds in CASES:
        torch.manual_seed(0)
        q, k = torch.randn(shape), torch.randn(shape)
        cos, sin = rope_tables(torch.arange(shape[2]), rope_frequencies(shape[3]))
        # transformers' tables repeat each column and have a batch axis.
        their_cos, their_sin = (torch.cat((table, table), dim=-1)[None] for table in (cos, sin))
        rotations = {layout: RotaryEmbedding(shape[3], layout=layout)(torch.arange(shape[2])) for layout in LAYOUTS}
        ours = {layout: lambda q=q, k=k, rotate=rotate: (rotate(q), rotate(k)) for layout, rotate in rotations.items()}
        theirs = {"transformers": lambda q=q, k=k, cos=their_cos, sin=their_sin: apply_rotary_pos_emb(q, k, cos, sin)}
        seconds = median_seconds(ours | theirs, rounds)
        for layout in LAYOUTS:
            found.append(
                Row(
                    what=f"RoPE, {layout}: batch {shape[0]}, {shape[1]} heads of {shape[3]}, {shape[2]} tokens",
                    unit="ms",
                    ours=seconds[layout] * 1e3,
                    peer="transformers",
                    theirs=seconds["transformers"] * 1e3,
                    better=seconds["transformers"] / seconds[layout],
                )
            )
    return found
