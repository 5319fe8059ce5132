"""Validation loss on Shakespeare's characters: Llama beside a GPT-2 made of our own parts, over three seeds.

nanoGPT's published setting for a CPU: 4 layers, 4 heads, dim 128, 64 characters, batch 12, 2000 steps. Both models
have the same number of layers, heads and channels and nearly as many parameters. The GPT-2 is trained twice: for
the same number of steps, and for as many as it can do in Llama's time. How many that are is measured beforehand, in
turns, so that what else the machine does over minutes falls on both. Then the losses no longer depend on time, and the
nine models are trained side by side, a thread each.
"""

import dataclasses
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial

import torch

from benchmarks.side_by_side import THREADS, Row, median_seconds
from llama_lessons.feed_forward import swiglu_hidden_dim
from llama_lessons.initialization import gpt2_init_
from llama_lessons.lab.thread import shakespeare
from llama_lessons.llama import LlamaConfig
from llama_lessons.training import TrainSettings, train
from llama_lessons.workbench import ARTICLE_PARTS, Decoder, Parts

__all__ = ["rows"]

SEEDS = (0, 1, 2)
TIMED_STEPS = 20
CONFIG = LlamaConfig(
    vocab_size=1,  # until the text is read
    dim=128,
    n_layers=4,
    n_heads=4,
    n_kv_heads=4,
    head_dim=32,
    hidden_dim=swiglu_hidden_dim(128, multiple_of=8),
    max_seq_len=64,
)
MODELS = {
    "llama": (CONFIG, Parts()),
    "gpt2": (
        dataclasses.replace(CONFIG, hidden_dim=4 * 128),
        dataclasses.replace(ARTICLE_PARTS, initialize=gpt2_init_),
    ),
}
SETTINGS = TrainSettings(
    total_steps=2000,
    batch_size=12,
    seq_len=64,
    peak_lr=1e-3,
    lowest_lr=1e-4,
    warmup_steps=100,
    weight_decay=0.1,
    betas=(0.9, 0.99),
    max_grad_norm=1.0,
    eval_every=2000,
    eval_batches=100,
)

_read = cache(shakespeare)  # once a process


def rows() -> list[Row]:
    """Train nine models."""
    seconds = median_seconds({name: partial(_learn, name, TIMED_STEPS) for name in MODELS}, rounds=9)
    in_its_time = round(SETTINGS.total_steps * seconds["llama"] / seconds["gpt2"])
    runs = {
        "llama": ("llama", SETTINGS.total_steps),
        "gpt2": ("gpt2", SETTINGS.total_steps),
        "gpt2 in llama's time": ("gpt2", in_its_time),
    }
    workers = {
        "mp_context": multiprocessing.get_context("spawn"),
        "initializer": torch.set_num_threads,
        "initargs": (1,),
    }
    with ProcessPoolExecutor(THREADS, **workers) as pool:
        waiting = {
            name: [pool.submit(_learn, *run, seed, validate=True) for seed in SEEDS] for name, run in runs.items()
        }
        losses = {name: [learnt.result() for learnt in of_run] for name, of_run in waiting.items()}
    return [
        Row(
            what=f"learning Shakespeare's characters: Llama, 4 layers, dim 128, {_seeds(losses['llama'])}",
            unit="nats",
            ours=statistics.mean(losses["llama"]),
            peer=f"GPT-2 of our parts, {what}, {_seeds(losses[peer])}",
            theirs=statistics.mean(losses[peer]),
            better=statistics.mean(losses[peer]) / statistics.mean(losses["llama"]),
        )
        for peer, what in [("gpt2", "same steps"), ("gpt2 in llama's time", "same time")]
    ]


def _seeds(losses: list[float]) -> str:
    return f"{len(losses)} seeds ±{statistics.stdev(losses):.3f}"


def _learn(model: str, total_steps: int, seed: int = 0, validate: bool = False) -> float | None:
    """Train one model; return its loss on the validation text, in nats a character."""
    tokenizer, data, validation = _read()
    config, parts = MODELS[model]
    torch.manual_seed(seed)
    settings = dataclasses.replace(
        SETTINGS,
        total_steps=total_steps,
        warmup_steps=min(SETTINGS.warmup_steps, total_steps - 1),
        eval_every=total_steps,
        seed=seed,
    )
    decoder = Decoder(dataclasses.replace(config, vocab_size=tokenizer.vocab_size), parts)
    history = train(decoder, data, settings, validation=validation if validate else None)
    return history.validation_losses.get(total_steps)
