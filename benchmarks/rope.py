"""Time of rotating queries and keys, beside transformers' apply_rotary_pos_emb.

    python benchmarks/rope.py [--json FILE]

Forward only, tables made beforehand, float32, two threads. The three take turns within each round, so that what
else the machine does falls on all of them; the median of the rounds counts.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from llama_lessons.rope import LAYOUTS, apply_rope, rope_frequencies, rope_tables

THREADS = 2
# (batch, n_heads, seq_len, head_dim), and rounds
CASES = [((1, 32, 2048, 128), 40), ((8, 8, 256, 64), 150)]
WARM_UP = 5


def contestants(shape: tuple[int, int, int, int]) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    q, k = torch.randn(shape), torch.randn(shape)
    cos, sin = rope_tables(torch.arange(shape[2]), rope_frequencies(shape[3]))
    # transformers' tables repeat each column and have a batch axis.
    their_cos, their_sin = (torch.cat((table, table), dim=-1)[None] for table in (cos, sin))
    ours = {
        layout: lambda layout=layout: (apply_rope(q, cos, sin, layout), apply_rope(k, cos, sin, layout))
        for layout in LAYOUTS
    }
    return {"transformers": lambda: apply_rotary_pos_emb(q, k, their_cos, their_sin)} | ours


def medians(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of a call."""
    seconds = {name: [] for name in functions}
    for round_ in range(WARM_UP + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if round_ >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    results = []
    print(f"{'batch, heads, seq, head_dim':<28}{'':<14}{'median ms':>10}{'times as fast':>15}")
    with torch.inference_mode():
        for shape, rounds in CASES:
            seconds = medians(contestants(shape), rounds)
            for name, value in seconds.items():
                ratio = seconds["transformers"] / value
                results.append({"shape": shape, "name": name, "seconds": value, "ratio": ratio})
                print(f"{shape!s:<28}{name:<14}{value * 1e3:>10.2f}{ratio:>14.2f}x")
    if arguments.json:
        versions = {module.__name__: module.__version__ for module in (torch, transformers)}
        machine = {"machine": platform.machine(), "threads": THREADS, "python": platform.python_version()}
        arguments.json.write_text(json.dumps(machine | versions | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
