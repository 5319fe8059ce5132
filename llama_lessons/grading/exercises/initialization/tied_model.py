"""Bug hunt: a model with tied embeddings that begins with a loss of dim in place of ln V."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_lessons.lab.device import choose_device
from llama_lessons.norms import RMSNorm

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, random_tensor
from .common import LESSON, expect_normal

__all__ = ["tied_model"]


class Right(nn.Module):
    """Tied before anything is drawn."""

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.start()

    def start(self) -> None:
        self.tie()
        nn.init.normal_(self.head.weight, std=0.02)

    def tie(self) -> None:
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.embedding(tokens)))


def tokens_of(vocab_size: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(vocab_size, shape, generator=generator).to(choose_device())


def use(answer: Callable) -> Callable:
    """A function that makes the model and gives what is asked of it; for the same sizes always the same model."""

    def ask(vocab_size: int, dim: int, what: str) -> Tensor:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(vocab_size + dim)
            model = answer(vocab_size, dim).to(choose_device())
        if what == "table":
            return model.embedding.weight.detach()
        if what == "head":
            return model.head.weight.detach()
        if what == "gains":
            return model.norm.weight.detach()
        if what == "count":
            return torch.tensor(float(sum(parameter.numel() for parameter in model.parameters())))
        if what == "roughly":
            return rough_facts(model, vocab_size)
        logits = model(tokens_of(vocab_size, 3, 40))
        if what == "gradient":
            logits.logsumexp(dim=-1).sum().backward()
            if model.embedding.weight.grad is None:
                raise RuntimeError("no gradient reaches the table. Is it frozen, so that it would never be trained?")
            return model.embedding.weight.grad
        return logits

    return ask


def rough_facts(model: Any, vocab_size: int) -> Tensor:
    """What chance does not change: sizes in steps of a fifth, the table's mean, how many parameters there are."""
    logits = model(tokens_of(vocab_size, 2, 20)).detach().double()
    table, head = model.embedding.weight.detach().double(), model.head.weight.detach().double()

    def step(x: Tensor) -> float:
        return round(4 * math.log2(x.std().item() / 0.02)) if x.std() else -1000.0

    count = sum(parameter.numel() for parameter in model.parameters())
    gains_are_1, same = (model.norm.weight == 1).all().item(), torch.equal(table, head)
    facts = [step(table), step(head), round(table.mean().item() / 0.02), same, count, gains_are_1, step(logits)]
    return torch.tensor(facts, dtype=torch.float64)


def cases() -> list[tuple]:
    # A large table, so that a mean of 0.02 shows beside a standard deviation of 1; 1 / sqrt(36) is no 0.2.
    return [(4000, 36, "roughly")]


tied_model = Exercise(
    name="TiedModel",
    lesson=LESSON,
    points=4,
    minutes=8,
    parameters=("vocab_size", "dim"),
    reference=Right,
    cases=cases,
    returns=Tensor,
    using=use,
    hints=(
        "Compare the two printed lines with section 8: which initialization gives a loss of about dim where "
        "another token comes, and of about 0 where the same one does?",
        "Print model.embedding.weight.std(). Then follow the three steps of the constructor in order: which weight is "
        "drawn, and which one is in use at the end?",
        "To tie is to let one of the two weights go. If that happens after the drawing, what was drawn goes with it. "
        "The same lines in another order are enough.",
    ),
)


@tied_model.property("the table is normal, with mean 0 and standard deviation 0.02")
def _(answer: Callable) -> None:
    for vocab_size, dim in ((200, 64), (1000, 32)):
        expect_normal(answer(vocab_size, dim, "table"), 0.02, where=f"the table, vocab_size {vocab_size}, dim {dim}")


@tied_model.property("the table and the head are one weight")
def _(answer: Callable) -> None:
    for vocab_size, dim in ((200, 64), (64, 64)):
        where = f"vocab_size {vocab_size}, dim {dim}"
        got, want = answer(vocab_size, dim, "count").item(), vocab_size * dim + dim
        if got != want:
            raise Mismatch(
                f"{where}: expected {vocab_size} * {dim} numbers in the table and {dim} gains, {want:,} in all, but "
                f"the model has {got:,.0f}"
            )
        expect_close(answer(vocab_size, dim, "head"), answer(vocab_size, dim, "table"), where=f"{where}, the head")


@tied_model.property("the norm's gains are 1")
def _(answer: Callable) -> None:
    expect_close(answer(200, 64, "gains"), torch.ones(64), where="the gains of the norm", rtol=0, atol=0)


@tied_model.property("the first loss is near ln V, where another token comes and where the same one does")
def _(answer: Callable) -> None:
    for vocab_size, dim in ((200, 64), (1000, 32), (2000, 128)):
        logits, tokens = answer(vocab_size, dim, "logits"), tokens_of(vocab_size, 3, 40)
        for words, targets in (("another token comes", (tokens + 1) % vocab_size), ("the same token comes", tokens)):
            got = F.cross_entropy(logits.detach().float().flatten(0, 1), targets.flatten()).item()
            # Tied, the token just read has a logit of 0.02 * dim.
            if not abs(got - math.log(vocab_size)) < 0.02 * dim + 0.2:
                raise Mismatch(
                    f"vocab_size {vocab_size}, dim {dim}, where {words}: expected a loss near ln V = "
                    f"{math.log(vocab_size):.2f}, got {got:.2f}"
                )


@tied_model.property("a logit is the token's row times the normalised stream")
def _(answer: Callable) -> None:
    for vocab_size, dim in ((200, 64), (50, 8)):
        table, tokens = answer(vocab_size, dim, "table").double(), tokens_of(vocab_size, 3, 40)
        want = F.rms_norm(table[tokens], (dim,), eps=1e-5) @ table.T
        got = answer(vocab_size, dim, "logits")
        expect_close(got, want, where=f"logits, vocab_size {vocab_size}, dim {dim}", rtol=1e-3, atol=1e-4)


@tied_model.property("gradients reach the table, from both of its ends")
def _(answer: Callable) -> None:
    table = answer(200, 64, "table").double().requires_grad_()
    logits = F.rms_norm(table[tokens_of(200, 3, 40)], (64,), eps=1e-5) @ table.T
    (want,) = torch.autograd.grad(logits.logsumexp(dim=-1).sum(), table)
    got = answer(200, 64, "gradient")
    expect_close(got, want, where="gradient of the table", rtol=1e-2, atol=1e-3 * want.abs().max().item())


def wrong(name: str, diagnosis: str, *, given: bool = False) -> Callable:
    """Make a misconception of a function that draws and ties the weights of a model."""

    def add(start: Callable[[Right], None]) -> Callable:
        tied_model.misconception(name, diagnosis, given=given)(type("Wrong", (Right,), {"start": start}))
        return start

    return add


@wrong(
    "the planted bug",
    "The bug is still there: the table that both use has torch's own N(0, 1). Whatever is drawn for the head is thrown "
    "away as soon as the head is given the table. Look at the order of the lines.",
    given=True,
)
def _(self: Right) -> None:
    nn.init.normal_(self.head.weight, std=0.02)
    self.tie()


@wrong(
    "no longer tied",
    "The head has its 0.02 now, but the two weights are no longer one: the model has nearly twice as many parameters. "
    "Keep the tying, and draw after it.",
)
def _(self: Right) -> None:
    nn.init.normal_(self.head.weight, std=0.02)


@wrong(
    "no longer tied, both drawn",
    "Both weights have std 0.02 now, but they are two: the model has nearly twice as many parameters. Keep the tying, "
    "and draw after it.",
)
def _(self: Right) -> None:
    nn.init.normal_(self.embedding.weight, std=0.02)
    nn.init.normal_(self.head.weight, std=0.02)


@wrong(
    "equal, but not tied",
    "The two weights hold the same numbers, but they are two parameters, and each gets a gradient of its own. To tie "
    "is to let both modules hold the same parameter.",
)
def _(self: Right) -> None:
    nn.init.normal_(self.embedding.weight, std=0.02)
    self.head.weight.data.copy_(self.embedding.weight.data)


@wrong(
    "all zeros",
    "A table of zeros gives a first loss of exactly ln V, but all tokens are then alike, and the model cannot learn. "
    "Draw it with std 0.02.",
)
def _(self: Right) -> None:
    self.tie()
    nn.init.zeros_(self.head.weight)


@wrong(
    "the norm drawn too",
    "You draw the norm's gains as well, which are to be 1. Only the table is to be drawn.",
)
def _(self: Right) -> None:
    self.tie()
    for parameter in self.parameters():
        nn.init.normal_(parameter, std=0.02)


@wrong(
    "the variance given as the standard deviation",
    "The table has the standard deviation 0.0004: you squared 0.02. torch's normal_ takes the standard deviation.",
)
def _(self: Right) -> None:
    self.tie()
    nn.init.normal_(self.head.weight, std=0.02**2)


@wrong(
    "0.02 as the mean",
    "Your table has mean 0.02 and standard deviation 1. The number after the tensor is normal_'s mean: write std=0.02.",
)
def _(self: Right) -> None:
    self.tie()
    nn.init.normal_(self.head.weight, 0.02)


@wrong(
    "0.02 as the mean too",
    "Your table has the standard deviation 0.02, but its mean is 0.02 as well. Asked for is N(0, 0.02 ** 2): mean 0.",
)
def _(self: Right) -> None:
    self.tie()
    nn.init.normal_(self.head.weight, 0.02, 0.02)


@wrong(
    "1 / sqrt(dim)",
    "You draw with 1 / sqrt(dim). The logits have std 1 then, and the first loss half a nat more than ln V (and far "
    "less where the same token comes). Asked for is 0.02.",
)
def _(self: Right) -> None:
    self.tie()
    nn.init.normal_(self.head.weight, std=self.head.in_features**-0.5)


@wrong(
    "Xavier",
    "You draw the table by Xavier's formula. A token picks one row of a table, so the number of rows is no fan, and "
    "the standard deviation depends on the vocabulary. Asked for is 0.02.",
)
def _(self: Right) -> None:
    self.tie()
    nn.init.xavier_normal_(self.head.weight)


class DividesLogits(Right):
    """Cures the symptom."""

    def start(self) -> None:
        self.tie()

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) / 50


tied_model.misconception(
    "the logits made smaller",
    "You left the table at std 1 and made the logits smaller. That cures the symptom; the stream is still 50 times as "
    "large as what layers drawn with 0.02 expect. Draw the table itself with 0.02.",
)(DividesLogits)


class TiesTheOtherWay(Right):
    """The head's weight, which is drawn, becomes the table."""

    def start(self) -> None:
        nn.init.normal_(self.head.weight, std=0.02)
        self.embedding.weight = self.head.weight


tied_model.alternative(TiesTheOtherWay)


class MakesTheTableSmaller(Right):
    """N(0, 1) times 0.02 is N(0, 0.02 ** 2)."""

    def start(self) -> None:
        self.tie()
        with torch.no_grad():
            self.embedding.weight.mul_(0.02)


tied_model.alternative(MakesTheTableSmaller)


class GivesTheTable(Right):
    """The table is made of numbers that are small from the start."""

    def start(self) -> None:
        table = 0.02 * random_tensor(*self.embedding.weight.shape, seed=torch.initial_seed())
        self.embedding = nn.Embedding.from_pretrained(table, freeze=False)
        self.tie()


tied_model.alternative(GivesTheTable)
