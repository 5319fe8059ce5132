"""What lesson 10 shows of single steps: the norm of the gradients, and how far the weights move for their size.

Each run is a right one but for its peak of the learning rate, or for its warm-up.
"""

import statistics

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from llama_lessons.data import random_batch, spread_windows
from llama_lessons.lab.device import choose_device
from llama_lessons.lab.stored import stored
from llama_lessons.lab.thread import shakespeare
from llama_lessons.lab.training_runs import BATCH, SEQ_LEN, STEPS, WARMUP, small_llama
from llama_lessons.settings import plain
from llama_lessons.training import learning_rate, mean_loss, parameter_groups

__all__ = ["KEPT", "NO_WARMUP", "PEAKS", "kept_steps", "watched_run"]

PEAKS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.3)
NO_WARMUP = (3e-2, 0.3)  # peaks of the runs that begin with the highest rate
SEEDS = (0, 1, 2)
KEPT = (*range(WARMUP), *range(WARMUP, STEPS, 10))  # steps of which numbers are kept: a small file


def watched_run(peak: float, warmup: int = WARMUP, seed: int = 0, steps: int = STEPS) -> dict[str, list[float] | float]:
    """Train once with AdamW, and keep what can be seen at the steps KEPT.

    Returns:
        A number for each such step: "loss"; "gradient", the norm of all gradients before they are clipped to 1;
        "update", the norm of a matrix's change over the norm of the matrix, the median over all matrices. And the loss
        on "validation" at the end.
    """
    tokenizer, data, validation = shakespeare()
    device = choose_device()
    model = small_llama(tokenizer.vocab_size, seed)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), betas=(0.9, 0.95))
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    seen: dict[str, list[float]] = {"loss": [], "gradient": [], "update": []}
    for step in range(steps):
        batch = random_batch(data, BATCH, SEQ_LEN + 1, seed, step).to(device)
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, warmup_steps=warmup, total_steps=steps, peak=peak, lowest=peak / 10)
        if step not in KEPT:
            optimizer.step()
            continue
        before = [matrix.detach().clone() for matrix in matrices]
        optimizer.step()
        moves = [((new.detach() - old).norm() / old.norm()).item() for new, old in zip(matrices, before, strict=True)]
        for name, value in (("loss", loss.item()), ("gradient", norm.item()), ("update", statistics.median(moves))):
            seen[name].append(float(f"{value:.4g}"))
    windows = spread_windows(validation, 256, SEQ_LEN + 1).to(device)
    return seen | {"validation": mean_loss(model, windows, batch_size=64)}


def kept_steps() -> dict[str, dict[str, list[dict]]]:
    """The stored runs of three seeds, by "warm-up" or "no warm-up" and by the peak as text."""

    def train_all() -> dict[str, dict[str, list[dict]]]:
        found: dict[str, dict[str, list[dict]]] = {"warm-up": {}, "no warm-up": {}}
        settings = [("warm-up", WARMUP, peak) for peak in PEAKS] + [("no warm-up", 0, peak) for peak in NO_WARMUP]
        for name, warmup, peak in tqdm(settings, unit="setting", disable=plain()):
            found[name][f"{peak:g}"] = [watched_run(peak, warmup, seed) for seed in SEEDS]
        return found

    return stored("training_steps", train_all)
