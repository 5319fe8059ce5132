"""Lesson 10. What one chooses for a training run, and what is refused before and while it runs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from llama_lessons.checkpoints.training_run import RunFile

__all__ = ["TrainSettings", "check_finite", "check_loss_inputs"]


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

    def check_processes(self, count: int) -> None:
        """Raise ValueError unless each of count processes gets as many windows of a batch, in each of its parts."""
        if self.batch_size % (count * self.accumulate):
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of processes ({count}) x accumulate "
                f"({self.accumulate})"
            )

    @property
    def schedule(self) -> dict[str, float]:
        """What `learning_rate` asks for beside the step."""
        return {
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "peak": self.peak_lr,
            "lowest": self.lowest_lr,
        }


def check_loss_inputs(logits: Tensor, tokens: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError unless `next_token_loss` can compare them."""
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


def check_finite(step: int, loss: float, grad_norm: float, settings: TrainSettings, file: RunFile) -> None:
    """Raise RuntimeError if a step would spoil the weights."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        kept = f"{file.path} is as it was" if file.exists else "no checkpoint was kept"
        raise RuntimeError(
            f"step {step} has loss {loss} and gradient norm {grad_norm}: with peak_lr ({settings.peak_lr}) this run "
            f"diverges. The model stays as it was before the step; {kept}"
        )
