"""Short trainings for lesson 10: as it should be, and with one mistake each, whose curves learners tell apart.

A Llama of 100,000 parameters reads Shakespeare's characters for 400 steps, which takes some ten seconds. Curves hold
the training loss as the run computes it, mistake and all, and the validation loss, which is always computed rightly.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from llama_lessons.data import CharTokenizer, random_batch, spread_windows
from llama_lessons.lab.device import choose_device
from llama_lessons.lab.figures import COLOURS, subplots
from llama_lessons.lab.stored import stored
from llama_lessons.lab.thread import shakespeare
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.settings import plain
from llama_lessons.training import learning_rate

__all__ = [
    "BATCH",
    "LETTERS",
    "MISTAKES",
    "PEAK",
    "SEEDS",
    "SEQ_LEN",
    "SHOWN",
    "STEPS",
    "WARMUP",
    "band",
    "draw_curve",
    "draw_in_band",
    "draw_lettered_curves",
    "draw_shown_curves",
    "first_step_outside",
    "kept_runs",
    "kept_shown",
    "rate",
    "remove_mask_",
    "run",
    "small_llama",
]

STEPS, BATCH, SEQ_LEN, PEAK, WARMUP = 400, 16, 64, 3e-3, 40
EVERY = 20  # steps from one point of a curve to the next
SEEDS = (0, 1, 2, 3, 4)

# As learners read them, by name; the exercise counts them from 1
MISTAKES = {
    "none": "nothing is wrong",
    "not shifted": "each target is the token that was just read",
    "shifted twice": "each target is the token after the next one",
    "other rows": "the targets of each row are those of another row of the batch",
    "softmax": "the logits go through a softmax before the cross-entropy",
    "no zero_grad": "the gradients of earlier steps are never set to zero",
    "padding counted": "rows are padded lines, and the padding counts in the loss",
    "little text": "the text has 4,000 characters",
    "small rate": "the learning rate is 30 times smaller",
}

# What the lesson shows, since the exercise asks for the others; with "no zero_grad", which the exercise does not draw
SHOWN = {
    "no mask": "attention has no causal mask",
    "high rate": "the peak of the learning rate is 1, without warm-up",
    "bfloat16 weights": "the weights themselves are bfloat16",
    "short text": "the text has 10,000 characters",
    "short schedule": "the schedule ends after 100 steps, the run after 400",
}

# The lesson's curves, and what each of them shows
FINDINGS = {
    "short schedule": "schedule over at 100: then slow",
    "no mask": "no mask: too good too soon",
    "short text": "little text: the two losses part",
    "bfloat16 weights": "bfloat16 weights: no mark",
    "high rate": "high rate: a spike, then a stop",
    "no zero_grad": "no zero_grad: right shape, too high",
}

# The exercise's curves
LETTERS = {
    "A": "other rows",
    "B": "little text",
    "C": "not shifted",
    "D": "none",
    "E": "softmax",
    "F": "shifted twice",
    "G": "padding counted",
    "H": "small rate",
}


def small_llama(vocab_size: int, seed: int) -> Llama:
    """A Llama of 2 layers and 100,000 parameters, drawn with `seed`, on the learner's device."""
    torch.manual_seed(seed)
    sizes = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "hidden_dim": 168}
    return Llama(LlamaConfig(vocab_size=vocab_size, max_seq_len=256, **sizes)).to(choose_device())


def rate(step: int, peak: float = PEAK, total_steps: int = STEPS) -> float:
    """Learning rate of a step in all runs of the lesson: 40 steps up to peak, then down to a tenth of it."""
    return learning_rate(step, warmup_steps=WARMUP, total_steps=total_steps, peak=peak, lowest=peak / 10)


def remove_mask_(model: Llama) -> None:
    """Let each token attend to all others, those that come after it too."""
    for block in model.blocks:
        block.attention.forward = partial(_attend_to_all, block.attention.forward)


def _attend_to_all(forward: Callable, x: Tensor, rotate: Callable, mask: None, cache: None) -> Tensor:
    seq_len = x.shape[1]
    return forward(x, rotate, torch.ones(seq_len, seq_len, dtype=torch.bool, device=x.device), cache)


def run(mistake: str = "none", seed: int = 0) -> dict[str, list[float]]:
    """Train once, with one mistake, and return the training loss and the validation loss every 20 steps.

    Raises:
        KeyError: if there is no such mistake.
    """
    what = (MISTAKES | SHOWN)[mistake]
    tokenizer, data, validation = shakespeare()
    padding = tokenizer.vocab_size
    data = data[: {"little text": 4_000, "short text": 10_000}.get(mistake)]
    draw: Callable[[Tensor, int, int], Tensor] = lambda tokens, seed, step: random_batch(  # noqa: E731
        tokens, BATCH, SEQ_LEN + 2, seed, step
    )
    windows = spread_windows(validation, 64, SEQ_LEN + 1)
    if mistake == "padding counted":
        draw, windows = _Lines(tokenizer, data, padding), _Lines(tokenizer, validation, padding)(validation, 0, 0, 64)
    model = small_llama(padding + 1, seed)
    if mistake == "no mask":
        remove_mask_(model)
    if mistake == "bfloat16 weights":
        model.bfloat16()
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    curve: dict[str, list[float]] = {"training": [], "validation": []}
    recent: list[float] = []
    for step in tqdm(range(STEPS), desc=what, unit="step", leave=False, disable=plain()):
        if step % EVERY == 0:
            curve["validation"].append(_loss(model, windows.to(device), padding))
        batch = draw(data, seed, step).to(device)
        inputs, targets = batch[:, :SEQ_LEN], batch[:, 1 : SEQ_LEN + 1]
        if mistake == "not shifted":
            targets = inputs
        if mistake == "shifted twice":
            targets = batch[:, 2:]
        if mistake == "other rows":
            targets = targets.roll(1, 0)
        logits = model(inputs).float()
        if mistake == "softmax":
            logits = logits.softmax(-1)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        if mistake != "no zero_grad":
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = _rate(mistake, step)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % EVERY == 0:
            curve["training"].append(sum(recent) / EVERY)
            recent = []
    curve["validation"].append(_loss(model, windows.to(device), padding))
    return curve


def _rate(mistake: str, step: int) -> float:
    if mistake == "small rate":
        return rate(step) / 30
    if mistake == "high rate":
        return learning_rate(step, warmup_steps=0, total_steps=STEPS, peak=1.0, lowest=0.1)
    if mistake == "short schedule":
        return rate(min(step, 99), total_steps=100)
    return rate(step)


class _Lines:
    # Draws lines in place of windows, filled up with a token of its own.

    def __init__(self, tokenizer: CharTokenizer, data: Tensor, padding: int) -> None:
        newline = tokenizer.encode("\n").item()
        ends = (data == newline).nonzero().flatten().tolist()
        self.lines = [(a + 1, b + 1) for a, b in pairwise(ends) if b - a > 4]
        self.padding = padding

    def __call__(self, data: Tensor, seed: int, step: int, n_rows: int = BATCH) -> Tensor:
        generator = torch.Generator().manual_seed(100_000 * seed + step)
        rows = torch.full((n_rows, SEQ_LEN + 2), self.padding)
        for row, line in zip(rows, torch.randint(len(self.lines), (n_rows,), generator=generator), strict=True):
            start, end = self.lines[line]
            length = min(end - start, SEQ_LEN + 2)
            row[:length] = data[start : start + length]
        return rows


@torch.no_grad()
def _loss(model: Llama, windows: Tensor, padding: int) -> float:
    targets = windows[:, 1 : SEQ_LEN + 1]
    logits = model(windows[:, :SEQ_LEN]).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=padding).item()


def kept_runs() -> dict[str, list[dict[str, list[float]]]]:
    """The stored curves, for each mistake those of three seeds, and of five where there is none."""

    def train_all() -> dict[str, list[dict[str, list[float]]]]:
        seeds = {name: SEEDS if name == "none" else SEEDS[:3] for name in MISTAKES}
        return {name: [run(name, seed) for seed in seeds[name]] for name in tqdm(MISTAKES, disable=plain())}

    return stored("training_runs", train_all)


def kept_shown() -> dict[str, list[dict[str, list[float]]]]:
    """The stored curves of three seeds for each mistake that the lesson shows."""

    def train_all() -> dict[str, list[dict[str, list[float]]]]:
        return {name: [run(name, seed) for seed in SEEDS[:3]] for name in tqdm(SHOWN, disable=plain())}

    return stored("training_shown", train_all)


def draw_curve(axes: Axes, curve: dict[str, list[float]], floors: dict[str, float], named: bool = True) -> None:
    """Draw one run's training and validation loss over steps, and lines for what little knowledge would cost."""
    for what, height in floors.items():
        axes.axhline(height, color=COLOURS["grey"], linewidth=1, linestyle=":")
        if named:
            axes.text(1.02 * STEPS, height, what, va="center", fontsize=8, color=COLOURS["grey"])
    training, validation = curve["training"], curve["validation"]
    axes.plot([EVERY * (i + 0.5) for i in range(len(training))], training, label="training")
    axes.plot([EVERY * i for i in range(len(validation))], validation, "--", label="validation")
    axes.set(xlabel="step", ylabel="nats per character", ylim=(-0.2, 6.2), xlim=(0, STEPS))


def band(runs: dict[str, list[dict[str, list[float]]]]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the training loss over the right seeds, both (points,)."""
    losses = torch.tensor([curve["training"] for curve in runs["none"]])
    return losses.mean(dim=0), losses.std(dim=0)


def first_step_outside(runs: dict[str, list[dict[str, list[float]]]], losses: list[float]) -> int | None:
    """The first of each 20 steps whose mean loss is 0.1 and 4 standard deviations or more from right ones', if any."""
    middle, spread = band(runs)
    distance = (torch.tensor(losses).view(-1, EVERY).mean(dim=1) - middle).abs()
    outside = (distance > (4 * spread).clamp(min=0.1)).nonzero()
    return EVERY * outside[0].item() if len(outside) else None


def draw_in_band(
    runs: dict[str, list[dict[str, list[float]]]], losses: list[float], floors: dict[str, float]
) -> tuple[Figure, str]:
    """A learner's run among the right seeds, and the figure's sentence.

    Args:
        runs: from `kept_runs`.
        losses: of each step.
        floors: as in `draw_curve`.
    """
    middle, spread = band(runs)
    own = torch.tensor(losses).view(-1, EVERY).mean(dim=1)  # a mean for every 20 steps
    figure, ax = subplots(width=7.5, height=3.4)
    _draw_band(ax, middle, spread, color=COLOURS["sky"], alpha=0.5, label="five seeds: mean ± 4 standard deviations")
    steps = [EVERY * (i + 0.5) for i in range(len(middle))]
    ax.plot(steps, middle, color=COLOURS["blue"])
    ax.plot(steps, own, color=COLOURS["orange"], linestyle="--", label="your run")
    for what, nats in floors.items():
        ax.axhline(nats, color=COLOURS["grey"], linewidth=1, linestyle=":")
        ax.text(STEPS, nats + 0.03, what, ha="right", fontsize=9, color=COLOURS["grey"])
    ax.set(xlabel="step", ylabel="loss (nats per character)", title="Your run among five right ones")
    ax.legend(loc="upper center")
    ends = [curve["training"][-1] for curve in runs["none"]]
    return figure, (
        f"Training loss over {STEPS} steps: your run ends at {own[-1]:.2f}, the five others at {middle[-1]:.2f} on "
        f"average, between {min(ends):.2f} and {max(ends):.2f}."
    )


def _draw_band(axes: Axes, middle: Tensor, spread: Tensor, **look: object) -> None:
    steps = [EVERY * (i + 0.5) for i in range(len(middle))]
    axes.fill_between(steps, middle - 4 * spread, middle + 4 * spread, **look)


def draw_shown_curves(
    runs: dict[str, list[dict[str, list[float]]]], floors: dict[str, float], named: bool
) -> tuple[Figure, str]:
    """Six wrong runs beside the band of right seeds, named or not, and the figure's sentence."""
    middle, spread = band(runs)
    figure, axes = subplots(2, 3, width=11, height=5.6, sharex=True, sharey=True)
    parts = []
    for ax, letter, (name, finding) in zip(axes.flat, "ABCDEF", FINDINGS.items(), strict=True):
        _draw_band(ax, middle, spread, color=COLOURS["grey"], alpha=0.35, label="right seeds")
        curve = runs[name][0]
        draw_curve(ax, curve, floors, named=letter in "CF")
        ax.set_title(f"{letter}. {finding}" if named else letter)
        ax.label_outer()
        ends = f"training {curve['training'][-1]:.2f}, validation {curve['validation'][-1]:.2f}"
        parts.append(f"{letter}{f' ({MISTAKES.get(name) or SHOWN[name]})' * named}: {ends}")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure, f"Losses at the end of six wrong runs; right ones end at {middle[-1]:.2f}. {'; '.join(parts)}."


def draw_lettered_curves(floors: dict[str, float]) -> tuple[Figure, str]:
    """The eight curves of the exercise, whose names are not told, and the figure's sentence."""
    runs = kept_runs()
    figure, axes = subplots(2, 4, width=11, height=5.4, sharex=True, sharey=True)
    parts = []
    for ax, (letter, name) in zip(axes.flat, LETTERS.items(), strict=True):
        curve = runs[name][0]
        draw_curve(ax, curve, floors, named=letter in "DH")
        ax.set_title(letter)
        ax.label_outer()
        ends = f"training {curve['training'][-1]:.2f}, validation {curve['validation'][-1]:.2f}"
        parts.append(f"{letter}: {ends}")
    figure.suptitle("Eight runs: one is right", x=0.01, ha="left", fontsize=11)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure, f"Losses at the end of eight runs. {'; '.join(parts)}."
