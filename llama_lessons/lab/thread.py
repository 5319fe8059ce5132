"""The thread through the lessons: one small language model of Shakespeare's characters, one part swapped a lesson.

Every step is trained alike: the same text, the same batches, the same number of steps, on windows of 64 characters. It
is measured on text that it never saw, in windows of that length and of four times that length. Lessons show the stored
losses of three seeds.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from IPython.display import Markdown, display
from torch import nn
from tqdm.auto import tqdm

from llama_lessons.attention import GroupedQueryAttention, kv_cache_bytes
from llama_lessons.data import CharTokenizer, split, spread_windows
from llama_lessons.feed_forward import SwiGLU, swiglu_hidden_dim
from llama_lessons.initialization import llama_init_
from llama_lessons.lab.device import choose_device
from llama_lessons.lab.materials import fetch
from llama_lessons.lab.stored import stored
from llama_lessons.llama import LlamaConfig
from llama_lessons.norms import RMSNorm
from llama_lessons.positions import SinusoidalPositionalEncoding
from llama_lessons.rope import RotaryEmbedding
from llama_lessons.rope_scaling import DynamicNTKScaling, ScaledRotaryEmbedding
from llama_lessons.training import TrainSettings, mean_loss, train
from llama_lessons.workbench import ARTICLE_PARTS, Decoder, Parts

__all__ = ["SEEDS", "SETTINGS", "STEPS", "Step", "run_step", "shakespeare", "show_table", "thread_config"]

SEEDS = (0, 1, 2)
TRAINED_LEN, LONG = 64, 4
# nanoGPT's published setting for a CPU, with half its steps
SETTINGS = TrainSettings(
    total_steps=1000,
    batch_size=12,
    seq_len=TRAINED_LEN,
    peak_lr=1e-3,
    lowest_lr=1e-4,
    warmup_steps=100,
    betas=(0.9, 0.99),
    eval_every=1000,
)
# Characters that a loss is measured on, at either length
EVAL_CHARACTERS = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Step:
    """The model as one lesson leaves it.

    Args:
        lesson: that swaps the part.
        what: the part in words, as the table says it.
        parts: of the model, all together.
        read_rope: makes what takes the place of the trained rotary part when the model is measured on longer text.
        sizes: fields of the config that differ from `thread_config`.
    """

    lesson: str
    what: str
    parts: Parts
    read_rope: Callable[[LlamaConfig], nn.Module] | None = None
    sizes: dict[str, Any] | None = None


def thread_config(vocab_size: int, **sizes: Any) -> LlamaConfig:
    """Sizes of the model: 4 layers, 4 heads, dim 128, the articles' feed-forward layer, and room for 256 tokens."""
    config = {
        "vocab_size": vocab_size,
        "dim": 128,
        "n_layers": 4,
        "n_heads": 4,
        "n_kv_heads": 4,
        "head_dim": 32,
        "hidden_dim": 4 * 128,
        "max_seq_len": LONG * TRAINED_LEN,
    }
    return LlamaConfig(**(config | sizes))


def _steps() -> dict[str, Step]:
    # Each step's parts are those of the step before, but for one.
    none = replace(ARTICLE_PARTS, positions=None)
    learned = ARTICLE_PARTS
    sinusoidal = replace(learned, positions=lambda config: SinusoidalPositionalEncoding(config.dim))
    rope = replace(none, rope=lambda config: RotaryEmbedding(config.head_dim, config.rope_theta))
    norm = replace(rope, norm=lambda config: RMSNorm(config.dim, config.norm_eps))
    initialize = replace(norm, initialize=llama_init_)
    attention = replace(
        initialize,
        attention=lambda config: GroupedQueryAttention(config.dim, config.n_heads, config.n_kv_heads, config.head_dim),
    )
    feed_forward = replace(attention, feed_forward=lambda config: SwiGLU(config.dim, config.hidden_dim))
    longer = {"read_rope": _read_longer}
    grouped = {"n_kv_heads": 2}
    gated = {"hidden_dim": swiglu_hidden_dim(128, multiple_of=8)}
    return {
        "none": Step(lesson="00", what="no positions", parts=none),
        "learned": Step(lesson="01", what="learned positions", parts=learned),
        "sinusoidal": Step(lesson="02", what="sinusoidal positions", parts=sinusoidal),
        "rope": Step(lesson="03", what="RoPE", parts=rope),
        "extrapolation": Step(lesson="04", what="+ dynamic NTK when read", parts=rope, **longer),
        "norm": Step(lesson="05", what="+ RMSNorm", parts=norm, **longer),
        "initialization": Step(lesson="06", what="+ N(0, 0.02)", parts=initialize, **longer),
        "attention": Step(lesson="07", what="+ 2 key/value heads for 4", parts=attention, sizes=grouped, **longer),
        "feed_forward": Step(lesson="08", what="+ SwiGLU: Llama", parts=feed_forward, sizes=grouped | gated, **longer),
    }


def _read_longer(config: LlamaConfig) -> nn.Module:
    scaling = DynamicNTKScaling(factor=1.0, original_max_seq_len=TRAINED_LEN)
    return ScaledRotaryEmbedding(config.head_dim, config.rope_theta, scaling)


STEPS = _steps()


def shakespeare() -> tuple[CharTokenizer, torch.Tensor, torch.Tensor]:
    """The tokenizer, and the token ids to learn from and to measure on."""
    text = fetch("shakespeare").read_text(encoding="utf-8")
    tokenizer = CharTokenizer(text)
    data, validation = (tokenizer.encode(part) for part in split(text))
    return tokenizer, data, validation


def run_step(step: Step, seeds: Sequence[int] = SEEDS, settings: TrainSettings = SETTINGS) -> dict[str, Any]:
    """Train one step's model once for each seed; return its sizes, and its losses in nats per character."""
    tokenizer, data, validation = shakespeare()
    config = thread_config(tokenizer.vocab_size, **(step.sizes or {}))
    device = choose_device()
    losses: dict[int, list[float]] = {TRAINED_LEN: [], LONG * TRAINED_LEN: []}
    for seed in seeds:
        torch.manual_seed(seed)
        model = Decoder(config, step.parts).to(device)
        train(model, data, replace(settings, seed=seed))
        if step.read_rope is not None:
            model.rope = step.read_rope(config)
        for seq_len, found in losses.items():
            windows = spread_windows(validation, EVAL_CHARACTERS // seq_len, seq_len + 1).to(device)
            found.append(mean_loss(model, windows, batch_size=16))
    cached = {"n_layers": config.n_layers, "n_kv_heads": config.n_kv_heads, "head_dim": config.head_dim}
    return {
        "what": step.what,
        "seeds": list(seeds),
        "loss": losses[TRAINED_LEN],
        "loss_at_4x": losses[LONG * TRAINED_LEN],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cache_bytes_a_token": kv_cache_bytes(seq_len=1, **cached),
    }


def show_table(last: str) -> dict[str, dict[str, Any]]:
    """Display the thread's table up to step `last`; return its rows by step.

    Raises:
        ValueError: if there is no such step.
    """
    if last not in STEPS:
        raise ValueError(f"there is no step {last!r}; there are {', '.join(STEPS)}")
    names = list(STEPS)[: list(STEPS).index(last) + 1]
    every = stored("thread", lambda: {name: run_step(step) for name, step in tqdm(STEPS.items(), unit="model")})
    rows = {name: every[name] for name in names}
    lines = [
        "| lesson | model | loss at 64 | loss at 256 | parameters | cache bytes per token |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {STEPS[name].lesson} | {row['what']} | {_mean_and_spread(row['loss'])} | "
            f"{_mean_and_spread(row['loss_at_4x'])} | {row['parameters']:,} | {row['cache_bytes_a_token']:,} |"
        )
    lines += ["", f"Nats per character on unseen text; mean ± standard deviation over {len(SEEDS)} seeds."]
    display(Markdown("\n".join(lines)))
    return rows


def _mean_and_spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
