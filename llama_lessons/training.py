"""Lesson 10. Training: let a model guess each next token, and move its weights towards what would have been right.

A step draws windows of text, measures the loss, clips the gradients to a norm and lets AdamW move the weights, at
a learning rate that rises linearly and falls along a cosine. A run with a folder is kept there, and goes on
where Ctrl-C ended it, bit for bit.

Not done here: several processes, float16 with its scaled loss, and drawing the first weights. A model may be
compiled: torch.compile(model).

Sources: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization" (AdamW); Pascanu et al. 2013, "On the
difficulty of training Recurrent Neural Networks" (clipping); Touvron et al. 2023, "LLaMA: Open and Efficient
Foundation Language Models", section 2.3 (Llama's settings).
"""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from tqdm.auto import tqdm

from llama_lessons.checkpoints.training_run import History, RunFile, rng_states
from llama_lessons.data import random_batch, spread_windows
from llama_lessons.initialization import parameter_roles
from llama_lessons.settings import plain

__all__ = [
    "History",
    "TrainSettings",
    "learning_rate",
    "mean_loss",
    "next_token_loss",
    "parameter_groups",
    "train",
]

_IGNORED = -100  # stands for "no target", as everywhere in torch
_DECAYED_ROLES = ("head", "projection", "residual")


def next_token_loss(logits: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of each token after the first, given the logits after the token before it.

    mean over t >= 1 of -log softmax(logits[t - 1])[tokens[t]]

    Args:
        logits: after each token, shape (batch, seq_len, vocab_size). Those after the last token have nothing to
            predict, and may be left out: (batch, seq_len - 1, vocab_size).
        tokens: token ids, shape (batch, seq_len).
        mask: True at tokens and False at padding, bool, shape (batch, seq_len). Padding is not predicted, and
            nothing is predicted from it.

    Returns:
        Nats per token, a scalar; computed in float32 at least.

    Raises:
        ValueError: if the shapes do not fit, there is no second token, or mask is not bool or leaves nothing over.
    """
    _check_loss_inputs(logits, tokens, mask)
    targets = tokens[:, 1:].long()
    if mask is not None:
        known = mask[:, 1:] & mask[:, :-1]
        if not known.any():
            raise ValueError("mask leaves no token that follows another one: there is nothing to predict")
        targets = targets.masked_fill(~known, _IGNORED)
    if logits.shape[1] > targets.shape[1]:
        # To leave out the last logits would copy all others, which takes longer than to ignore them.
        targets = F.pad(targets, (0, 1), value=_IGNORED)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED)


def _check_loss_inputs(logits: Tensor, tokens: Tensor, mask: Tensor | None) -> None:
    if tokens.ndim != 2 or tokens.shape[1] < 2:
        raise ValueError(f"tokens must be (batch, seq_len) with at least two tokens per row, not {tuple(tokens.shape)}")
    batch, seq_len = tokens.shape
    if logits.ndim != 3 or logits.shape[:2] not in ((batch, seq_len), (batch, seq_len - 1)):
        raise ValueError(
            f"logits {tuple(logits.shape)} do not fit tokens {tuple(tokens.shape)}: they must be (batch, seq_len, "
            "vocab_size), or one shorter"
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != tokens.shape):
        raise ValueError(f"mask must be bool {tuple(tokens.shape)} like tokens, not {mask.dtype} {tuple(mask.shape)}")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Sort parameters for AdamW: matrices decay; embeddings, norms and biases do not.

    Decay pulls a weight towards 0. A matrix can stay small without harm; a norm's gain has no reason to be near
    0, and the row of a rare token would fade between its occurrences. A tied weight counts as an embedding.

    Args:
        model: see `parameter_roles` for what it may be made of. Frozen parameters are left out.
        weight_decay: of the matrices, per step and unit of learning rate.

    Returns:
        Two dictionaries for an optimizer of torch, each parameter in one of them, once.

    Raises:
        ValueError: if a parameter has no known role.
    """
    roles = parameter_roles(model)
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if roles[name] in _DECAYED_ROLES else kept).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def learning_rate(step: int, *, warmup_steps: int, total_steps: int, peak: float, lowest: float) -> float:
    """Learning rate of a step: up linearly, then down along half a cosine (Touvron et al., section 2.3).

    warmup:  peak * (step + 1) / (warmup_steps + 1)
    after:   lowest + (peak - lowest) * (1 + cos(pi * share)) / 2, with share from 0 to 1

    The first step has peak / (warmup_steps + 1): not 0, which would waste it. Step warmup_steps has peak, and the last
    one, total_steps - 1, has lowest (unless it is step warmup_steps itself).

    Args:
        step: from 0 to total_steps - 1.
        warmup_steps: steps below peak at the start, fewer than total_steps.
        total_steps: steps of the whole run.
        peak: the highest rate.
        lowest: the last rate; the first ones may be lower still.

    Raises:
        ValueError: if step or warmup_steps is outside its range.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps ({warmup_steps}) must be at least 0 and below total_steps ({total_steps})")
    if not 0 <= step < total_steps:
        raise ValueError(f"step ({step}) must be at least 0 and below total_steps ({total_steps})")
    if step <= warmup_steps:
        return peak * ((step + 1) / (warmup_steps + 1))
    share = (step - warmup_steps) / (total_steps - 1 - warmup_steps)
    return lowest + (peak - lowest) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train.

    Args:
        total_steps: updates of the weights.
        batch_size: windows that each step learns from.
        seq_len: tokens that the model reads of a window; it predicts as many, the last one beyond them.
        peak_lr: highest learning rate.
        lowest_lr: learning rate of the last step.
        warmup_steps: steps until peak_lr.
        accumulate: parts that a batch is cut into, to be read one after another: less memory, the same
            gradients up to rounding. A divisor of batch_size.
        weight_decay: see `parameter_groups`.
        betas: how much AdamW keeps, from step to step, of its mean gradient and its mean squared gradient.
        max_grad_norm: gradients whose norm together is larger are scaled down to it; infinity for none.
        autocast: torch.bfloat16 to multiply matrices in it; weights and AdamW stay in their own dtype.
        seed: which windows are drawn. It does not touch the first weights, which the model has already.
        eval_every: steps from one validation loss to the next.
        eval_batches: batches that a validation loss is the mean of, the same ones each time.
        save_every: steps from one checkpoint to the next.

    Raises:
        ValueError: if a setting is outside its range.
    """

    total_steps: int
    batch_size: int
    seq_len: int
    peak_lr: float
    lowest_lr: float
    warmup_steps: int
    accumulate: int = 1
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    autocast: torch.dtype | None = None
    seed: int = 0
    eval_every: int = 100
    eval_batches: int = 10
    save_every: int = 100

    def __post_init__(self) -> None:
        for name in ["total_steps", "batch_size", "seq_len", "accumulate", "eval_every", "eval_batches", "save_every"]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")
        for name in ("warmup_steps", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must not be negative")
        if self.warmup_steps >= self.total_steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below total_steps ({self.total_steps})")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of accumulate ({self.accumulate})")
        if not 0 <= self.lowest_lr <= self.peak_lr:
            raise ValueError(f"lowest_lr ({self.lowest_lr}) must be at least 0 and at most peak_lr ({self.peak_lr})")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas ({self.betas}) must be at least 0 and below 1")
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm ({self.max_grad_norm}) must be positive")
        if self.autocast not in (None, torch.bfloat16):
            raise ValueError(
                f"autocast ({self.autocast}) must be None or torch.bfloat16: float16 would need a scaled loss as well"
            )


def train(
    model: nn.Module,
    data: Tensor,
    settings: TrainSettings,
    *,
    validation: Tensor | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> History:
    """Train model in place, on the device that it is on.

    Ctrl-C ends the run after a whole step; it is kept if there is a folder, and the history so far returned.
    With a folder that holds a run of the same settings, model and data, that run goes on: on the same machine, the
    weights and the history become those of a run that was never interrupted, bit for bit.

    Args:
        model: called with tokens, (batch, seq_len), it returns logits, (batch, seq_len, vocab_size).
        data: token ids to learn from, shape (length,), on any device.
        settings: how.
        validation: token ids to measure on, shape (length,): before the first step, every eval_every steps, and
            after the last one.
        folder: where the run is kept, in one file, every save_every steps and at its end.
        progress: whether to show a bar with the loss; never if the environment has LLAMA_LESSONS_PLAIN.

    Raises:
        ValueError: if data or validation is too short or no token ids, a parameter has no known role, or folder
            holds another run or a damaged one.
        RuntimeError: if loss or gradient is not finite. The weights are those before that step, and the last
            checkpoint stays.
    """
    device = next(model.parameters()).device
    # Fused is one call for all parameters: several times as fast as a loop over them, on the CPU too.
    fused = True if device.type in ("cpu", "cuda") else None
    optimizer = AdamW(parameter_groups(model, settings.weight_decay), betas=settings.betas, fused=fused)
    file = RunFile(folder, model, optimizer, settings, data=data, validation=validation)
    history = file.load()
    windows = _validation_windows(validation, settings, device)
    started, rng = time.perf_counter() - history.seconds, rng_states(device)
    model.train()
    quiet = not progress or plain()
    with tqdm(total=settings.total_steps, initial=len(history.losses), unit="step", disable=quiet) as bar:
        try:
            for step in range(len(history.losses), settings.total_steps):
                if step % settings.eval_every == 0:
                    _validate(model, windows, settings, step, history)
                batch = random_batch(data, settings.batch_size, settings.seq_len + 1, settings.seed, step).to(device)
                loss, grad_norm = _gradients(model, optimizer, batch, settings)
                _check_finite(step, loss, grad_norm, settings, file)
                rate = _rate(step, settings)
                with _interrupt_held_back():
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
                    history.losses.append(loss)
                    history.grad_norms.append(grad_norm)
                    history.learning_rates.append(rate)
                    history.seconds = time.perf_counter() - started
                    rng = rng_states(device)
                if (step + 1) % settings.save_every == 0:
                    file.save(history, rng)
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update()
            _validate(model, windows, settings, settings.total_steps, history)
        except KeyboardInterrupt:
            history.interrupted = True
    history.seconds = time.perf_counter() - started
    file.save(history, rng)
    return history


def _validation_windows(validation: Tensor | None, settings: TrainSettings, device: torch.device) -> Tensor | None:
    if validation is None:
        return None
    n_windows = settings.eval_batches * settings.batch_size
    return spread_windows(validation, n_windows, settings.seq_len + 1).to(device)


def _validate(
    model: nn.Module, windows: Tensor | None, settings: TrainSettings, steps_done: int, history: History
) -> None:
    if windows is not None and steps_done not in history.validation_losses:
        loss = mean_loss(model, windows, batch_size=settings.batch_size, autocast=settings.autocast)
        history.validation_losses[steps_done] = loss


def _check_finite(step: int, loss: float, grad_norm: float, settings: TrainSettings, file: RunFile) -> None:
    # Before the weights are updated, so that nothing spoils them.
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        kept = f"{file.path} is as it was" if file.exists else "no checkpoint was kept"
        raise RuntimeError(
            f"step {step} has loss {loss} and gradient norm {grad_norm}: with peak_lr ({settings.peak_lr}) this run "
            f"diverges. The model stays as it was before the step; {kept}"
        )


def mean_loss(model: nn.Module, windows: Tensor, *, batch_size: int, autocast: torch.dtype | None = None) -> float:
    """Mean `next_token_loss` over windows, in nats per token, without gradients and in evaluation mode.

    Args:
        model: called with tokens, (batch, seq_len), it returns logits, (batch, seq_len, vocab_size).
        windows: token ids, shape (n_windows, seq_len + 1), on the model's device.
        batch_size: windows to read at once.
        autocast: see `TrainSettings`.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            total = sum(_loss(model, batch, autocast) * len(batch) for batch in windows.split(batch_size))
    finally:
        model.train(was_training)
    return total.item() / len(windows)


def _loss(model: nn.Module, tokens: Tensor, autocast: torch.dtype | None) -> Tensor:
    with torch.autocast(tokens.device.type, autocast, enabled=autocast is not None):
        logits = model(tokens[:, :-1])
    return next_token_loss(logits, tokens)


def _gradients(model: nn.Module, optimizer: Optimizer, batch: Tensor, settings: TrainSettings) -> tuple[float, float]:
    """Put the clipped gradients of the batch into the parameters; return its loss and their norm before."""
    optimizer.zero_grad()
    total = torch.zeros((), device=batch.device)
    for part in batch.chunk(settings.accumulate):
        # The mean over the batch is the mean of its parts' means, since parts are equally large.
        loss = _loss(model, part, settings.autocast) / settings.accumulate
        loss.backward()
        total += loss.detach()
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    # Both at once: a GPU is waited for once a step.
    return tuple(torch.stack((total, grad_norm)).tolist())


def _rate(step: int, settings: TrainSettings) -> float:
    return learning_rate(
        step,
        warmup_steps=settings.warmup_steps,
        total_steps=settings.total_steps,
        peak=settings.peak_lr,
        lowest=settings.lowest_lr,
    )


@contextmanager
def _interrupt_held_back() -> Iterator[None]:
    # Ctrl-C within an update would leave some weights moved and others not. It is let through right after.
    raise_interrupt = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(raise_interrupt):
        yield  # no Ctrl-C arrives here
        return
    arrived = []
    signal.signal(signal.SIGINT, lambda *arguments: arrived.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, raise_interrupt)
    if arrived:
        raise_interrupt(*arrived[0])
