"""Nine ways to train, each with one thing changed: what lesson 10 compares under "training efficiency".

Losses and memory are those of whole runs. Times are measured apart: a step as it is and a step of the other way in
turn, so that whatever else the machine does meets both.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from llama_lessons.data import random_batch, spread_windows
from llama_lessons.lab.stored import stored
from llama_lessons.lab.thread import shakespeare
from llama_lessons.lab.training_runs import BATCH, PEAK, SEQ_LEN, rate, small_llama
from llama_lessons.settings import plain
from llama_lessons.training import mean_loss, parameter_groups

__all__ = ["WAYS", "Dropped", "Way", "kept_for_backward", "kept_times", "kept_ways", "time_ratio", "try_way"]

LITTLE = 30_000  # characters, which a model of 100,000 parameters can learn by heart
SEEDS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Way:
    """What may be changed; as it is by default.

    Args:
        peak: of the learning rate.
        parts: in which a batch is read, one after another.
        autocast: whether matrices are multiplied in bfloat16.
        checkpointing: whether a block's activations are computed again in the backward pass.
        dropout: behind each attention and feed-forward layer.
        decay: weight decay of the matrices.
        noise: share of the characters read that are replaced by random ones.
    """

    peak: float = PEAK
    parts: int = 1
    autocast: bool = False
    checkpointing: bool = False
    dropout: float = 0.0
    decay: float = 0.1
    noise: float = 0.0


AS_IT_IS = Way()
WAYS = {
    "as it is": AS_IT_IS,
    "bfloat16 autocast": replace(AS_IT_IS, autocast=True),
    "4 parts accumulated": replace(AS_IT_IS, parts=4),
    "activation checkpointing": replace(AS_IT_IS, checkpointing=True),
    "dropout 0.1": replace(AS_IT_IS, dropout=0.1),
    "weight decay 1 for 0.1": replace(AS_IT_IS, decay=1.0),
    "augmentation": replace(AS_IT_IS, noise=0.1),
    "learning rate / 3": replace(AS_IT_IS, peak=PEAK / 3),
    "learning rate x 3": replace(AS_IT_IS, peak=PEAK * 3),
}


class Dropped(nn.Module):
    """A layer, and dropout behind it."""

    def __init__(self, layer: nn.Module, p: float) -> None:
        super().__init__()
        self.layer, self.dropout = layer, nn.Dropout(p)

    def forward(self, *arguments, **more) -> Tensor:
        return self.dropout(self.layer(*arguments, **more))


def kept_for_backward(model: nn.Module, make_loss: Callable[[], Tensor]) -> int:
    """Bytes that a loss keeps for its backward pass, without the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        make_loss()
    return sum(kept.values())


class _Training:
    # One run, step by step.

    def __init__(self, way: Way, vocab_size: int, seed: int, steps: int) -> None:
        self.way, self.seed, self.steps = way, seed, steps
        self.model = small_llama(vocab_size, seed)
        for block in self.model.blocks:
            if way.dropout:
                block.attention = Dropped(block.attention, way.dropout)
                block.feed_forward = Dropped(block.feed_forward, way.dropout)
            if way.checkpointing:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        self.device = next(self.model.parameters()).device
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, way.decay), betas=(0.9, 0.95), fused=self.device.type != "mps"
        )

    def loss(self, windows: Tensor) -> Tensor:
        read, way = windows[:, :-1], self.way
        if way.noise:
            replaced = torch.rand_like(read, dtype=torch.float32) < way.noise
            read = torch.where(replaced, torch.randint_like(read, self.model.config.vocab_size), read)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=way.autocast):
            logits = self.model(read)
        return F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten()) / way.parts

    def step(self, text: Tensor, step: int) -> None:
        batch = random_batch(text, BATCH, SEQ_LEN + 1, self.seed, step).to(self.device)
        self.optimizer.zero_grad()
        for part in batch.chunk(self.way.parts):
            self.loss(part).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(step, self.way.peak, self.steps)
        self.optimizer.step()


def try_way(way: Way, text: Tensor, validation: Tensor, vocab_size: int, steps: int, seed: int) -> dict[str, float]:
    """Train once; return the loss on the text and on what was never seen, and the bytes kept for a backward pass."""
    training = _Training(way, vocab_size, seed, steps)
    model, device = training.model, training.device
    first = random_batch(text, BATCH // way.parts, SEQ_LEN + 1, seed, 0).to(device)
    kept = kept_for_backward(model, lambda: training.loss(first))
    for step in range(steps):
        training.step(text, step)
    seen, unseen = (spread_windows(ids, 256, SEQ_LEN + 1).to(device) for ids in (text, validation))
    losses = {"training": mean_loss(model, seen, batch_size=64), "validation": mean_loss(model, unseen, batch_size=64)}
    return losses | {"kept": kept}


def time_ratio(way: Way, text: Tensor, vocab_size: int, seed: int, steps: int = 60) -> float:
    """Time of a step over that of a step as it is, the median of pairs taken side by side."""
    runs = [_Training(each, vocab_size, seed, steps) for each in (AS_IT_IS, way)]
    ratios = []
    for step in range(steps):
        took = []
        for run in runs:
            started = time.perf_counter()
            run.step(text, step)
            if run.device.type == "cuda":
                torch.cuda.synchronize(run.device)
            took.append(time.perf_counter() - started)
        ratios.append(took[1] / took[0])
    return statistics.median(ratios[3:])  # the first ones set things up


def kept_ways() -> dict[str, dict[str, list[dict[str, float]]]]:
    """The stored losses and bytes: by way, with "all" the text or "little" of it, for three seeds."""

    def train_all() -> dict[str, dict[str, list[dict[str, float]]]]:
        tokenizer, data, validation = shakespeare()
        texts = {"all": (data, 400), "little": (data[:LITTLE], 800)}
        found: dict[str, dict] = {way: {name: [] for name in texts} for way in WAYS}
        with tqdm(total=len(SEEDS) * len(texts) * len(WAYS), unit="run", disable=plain()) as bar:
            for seed in SEEDS:
                for name, (text, steps) in texts.items():
                    for way, changed in WAYS.items():
                        run = try_way(changed, text, validation, tokenizer.vocab_size, steps, seed)
                        found[way][name].append(run)
                        bar.update()
        return found

    return stored("training_ways", train_all)


def kept_times() -> dict[str, list[float]]:
    """The stored ratios of time: by way, for three seeds."""

    def time_all() -> dict[str, list[float]]:
        tokenizer, data, _ = shakespeare()
        return {
            name: [time_ratio(way, data, tokenizer.vocab_size, seed) for seed in SEEDS]
            for name, way in tqdm(WAYS.items(), unit="way", disable=plain())
        }

    return stored("training_times", time_all)
