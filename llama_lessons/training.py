"""Lesson 10. Training: let a model guess each next token, and move its weights towards what would have been right.

A step draws windows of text, measures the loss, clips the gradients to a norm and lets AdamW move the weights, at
a learning rate that rises linearly and falls along a cosine. A run with a folder is kept there, and goes on
where Ctrl-C ended it, bit for bit.

Not done here: float16 with its scaled loss, and drawing the first weights. A model may be compiled:
torch.compile(model). Several processes share the work if `processes` says how.

Sources: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization" (AdamW); Pascanu et al. 2013, "On the
difficulty of training Recurrent Neural Networks" (clipping); Touvron et al. 2023, "LLaMA: Open and Efficient
Foundation Language Models", section 2.3 (Llama's settings).
"""

import math
import os
import time
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from tqdm.auto import tqdm

from llama_lessons.adamw import adamw_step
from llama_lessons.checkpoints.training_run import History, RunFile, rng_states
from llama_lessons.data import random_batch, spread_windows
from llama_lessons.initialization import parameter_roles
from llama_lessons.one_process import ALONE, OneProcess
from llama_lessons.settings import plain
from llama_lessons.training_settings import TrainSettings, check_finite, check_loss_inputs

__all__ = [
    "History",
    "TrainSettings",
    "adamw_step",
    "add_gradients",
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
    check_loss_inputs(logits, tokens, mask)
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
            total = sum(_loss(model, batch, None, autocast) * len(batch) for batch in windows.split(batch_size))
    finally:
        model.train(was_training)
    return total.item() / len(windows)


def _loss(model: nn.Module, tokens: Tensor, mask: Tensor | None, autocast: torch.dtype | None) -> Tensor:
    with torch.autocast(tokens.device.type, autocast, enabled=autocast is not None):
        logits = model(tokens[:, :-1])  # (batch, seq_len + 1) -> (batch, seq_len, vocab_size)
    return next_token_loss(logits, tokens, mask)


def add_gradients(
    model: nn.Module,
    tokens: Tensor,
    mask: Tensor | None = None,
    *,
    accumulate: int = 1,
    autocast: torch.dtype | None = None,
) -> Tensor:
    """Add the gradients of a batch's mean loss to those of the parameters, reading the batch in parts.

    loss = sum over parts i of n_i / n * loss_i, where part i predicts n_i of the batch's n tokens

    To weigh all parts alike would be the mean of another loss where padding leaves them unequal numbers of tokens.

    Args:
        model: see `train`.
        tokens: token ids, shape (batch, seq_len + 1).
        mask: False at padding, which stands to the right of the tokens; see `next_token_loss`.
        accumulate: parts, read one after another.
        autocast: see `TrainSettings`.

    Returns:
        The mean loss in nats per token, a scalar without a graph.

    Raises:
        ValueError: if a part has nothing to predict.
    """
    masks = [None] * accumulate if mask is None else mask.chunk(accumulate)
    parts = list(zip(tokens.chunk(accumulate), masks, strict=False))  # a small batch has fewer
    n_predicted = [t[:, 1:].numel() if m is None else int((m[:, 1:] & m[:, :-1]).sum()) for t, m in parts]
    total = torch.zeros((), device=tokens.device)
    for i, part in enumerate(parts):
        # Several processes exchange gradients once, after the last part.
        waits = i < len(parts) - 1 and hasattr(model, "no_sync")
        with model.no_sync() if waits else nullcontext():
            loss = n_predicted[i] / sum(n_predicted) * _loss(model, *part, autocast)
            loss.backward()
        total += loss.detach()
    return total


def train(
    model: nn.Module,
    data: Tensor,
    settings: TrainSettings,
    *,
    validation: Tensor | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    processes: OneProcess = ALONE,
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
        processes: what shares the work; `processes.Processes` if torchrun has started several.

    Raises:
        ValueError: if data or validation is too short or no token ids, a parameter has no known role, batch_size
            cannot be divided among the processes, or folder holds another run or a damaged one.
        RuntimeError: if loss or gradient is not finite. The weights are those before that step, and the last
            checkpoint stays.
        OSError: if the run cannot be written. The last checkpoint stays.
    """
    settings.check_processes(processes.count)
    device = next(model.parameters()).device
    file = RunFile(folder, model, settings, processes, data=data, validation=validation)
    trained = processes.wrap(model)
    # Fused is one call for all parameters: several times as fast as a loop over them, on the CPU too.
    fused = True if device.type in ("cpu", "cuda") else None
    optimizer = AdamW(parameter_groups(model, settings.weight_decay), betas=settings.betas, fused=fused)
    history = file.load(optimizer)
    windows = None
    if validation is not None:
        n_windows = settings.eval_batches * settings.batch_size
        windows = processes.part(spread_windows(validation, n_windows, settings.seq_len + 1)).to(device)
    started, rng = time.perf_counter() - history.seconds, rng_states(device)
    model.train()
    quiet = not progress or plain() or processes.rank > 0
    with tqdm(total=settings.total_steps, initial=len(history.losses), unit="step", disable=quiet) as bar:
        try:
            for step in range(len(history.losses), settings.total_steps):
                if step % settings.eval_every == 0:
                    _validate(model, windows, settings, processes, step, history)
                # All processes draw the same windows, and each reads its own part of them.
                batch = random_batch(data, settings.batch_size, settings.seq_len + 1, settings.seed, step)
                batch = processes.part(batch).to(device)
                optimizer.zero_grad()
                loss = add_gradients(trained, batch, accumulate=settings.accumulate, autocast=settings.autocast)
                grad_norm = nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
                loss, grad_norm = processes.mean(loss, grad_norm)
                check_finite(step, loss, grad_norm, settings, file)
                rate = learning_rate(step, **settings.schedule)
                with processes.whole_step():
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
                    history.add(loss, grad_norm, rate)
                    history.seconds = time.perf_counter() - started
                    rng = rng_states(device)
                if (step + 1) % settings.save_every == 0:
                    file.save(optimizer, history, rng)
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update()
            _validate(model, windows, settings, processes, settings.total_steps, history)
        except KeyboardInterrupt:
            history.interrupted = True
    history.seconds = time.perf_counter() - started
    file.save(optimizer, history, rng)
    return history


def _validate(
    model: nn.Module,
    windows: Tensor | None,
    settings: TrainSettings,
    processes: OneProcess,
    steps_done: int,
    history: History,
) -> None:
    if windows is not None and steps_done not in history.validation_losses:
        at_once = settings.batch_size // processes.count
        loss = mean_loss(model, windows, batch_size=at_once, autocast=settings.autocast)
        (history.validation_losses[steps_done],) = processes.mean(torch.tensor(loss, dtype=torch.float64))
