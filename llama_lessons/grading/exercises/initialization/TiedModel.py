"""Exercise 9, bug hunt: a model with tied embeddings that begins with a loss of dim in place of ln V."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_lessons.lab.device import choose_device
from llama_lessons.norms import RMSNorm

from ...exercise import Exercise
from ...expect import Mismatch, exact, expect_close
from .common import expect_normal, looks_of


class TiedModel(nn.Module):
    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.embedding(tokens)))


def tokens_of(vocab_size: int, *shape: int) -> Tensor:
    """Token ids, the first and the last of the vocabulary among them."""
    tokens = torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(1))
    tokens[0, :2] = torch.tensor([0, vocab_size - 1])
    return tokens.to(choose_device())


def use(answer: Callable) -> Callable:
    """A function that makes the model, for the same sizes always the same, and tells what is seen of it."""

    def ask(vocab_size: int, dim: int, roughly: str = "") -> Any:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(vocab_size + dim)
            model = answer(vocab_size, dim).to(choose_device())
        table, head, gains = model.embedding.weight, model.head.weight, model.norm.weight
        logits = model(tokens_of(vocab_size, 3, 40))
        seen = {name: x.detach().clone() for name, x in (("table", table), ("head", head), ("gains", gains))}
        seen |= {"count": sum(parameter.numel() for parameter in model.parameters()), "logits": logits.detach()}
        if roughly:
            return rough_facts(roughly, seen, list(model.parameters()))
        if logits.requires_grad:
            logits.logsumexp(dim=-1).sum().backward()
        return seen | {"gradient": table.grad, "other logits": model(tokens_of(vocab_size, 2, 7)).detach()}

    return ask


def rough_facts(what: str, seen: dict, parameters: list[Tensor]) -> tuple:
    """What chance does not change."""
    table, head = seen["table"], seen["head"]
    return {
        "weights": looks_of([table], 0.02) + looks_of([head], 0.02),
        "parameters": (torch.equal(table, head), seen["count"], *(p.requires_grad for p in parameters)),
        "gains": looks_of([seen["gains"]], 0.02),
        "logits": (round(math.log2(exact(seen["logits"]).std().item() + 1e-9)),),
    }[what]


exercise = Exercise(
    TiedModel,
    points=4,
    minutes=8,
    # A large table, so that a mean of 0.02 shows beside a std of 1; no formula of sizes is near 0.025, 0.1 or 0.2.
    cases=lambda: [(1250, 90, "weights"), *((3000, 36, what) for what in ("parameters", "gains", "logits"))],
    returns=dict,
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


@exercise.property("the table is normal, with mean 0 and standard deviation 0.02")
def normal_table(answer: Callable) -> None:
    for vocab_size, dim in ((200, 64), (1000, 32)):
        where = f"the table, vocab_size {vocab_size}, dim {dim}"
        expect_normal(answer(vocab_size, dim)["table"], 0.02, where=where)


@exercise.property("the table and the head are one weight")
def one_weight(answer: Callable) -> None:
    for vocab_size, dim in ((200, 64), (64, 64)):
        where, seen, want = f"vocab_size {vocab_size}, dim {dim}", answer(vocab_size, dim), vocab_size * dim + dim
        if seen["count"] != want:
            raise Mismatch(
                f"{where}: expected {vocab_size} * {dim} numbers in the table and {dim} gains, {want:,} in all, but "
                f"the model has {seen['count']:,}"
            )
        expect_close(seen["head"], seen["table"], where=f"{where}, the head")


@exercise.property("the norm's gains are 1")
def gains_of_one(answer: Callable) -> None:
    expect_close(answer(200, 64)["gains"], torch.ones(64), where="the gains of the norm", rtol=0, atol=0)


@exercise.property("the first loss is near ln V, where another token comes and where the same one does")
def first_loss(answer: Callable) -> None:
    for vocab_size, dim in ((200, 64), (1000, 32), (2000, 128)):
        logits, tokens = exact(answer(vocab_size, dim)["logits"]).flatten(0, 1), tokens_of(vocab_size, 3, 40).cpu()
        for words, targets in (("another token comes", (tokens + 1) % vocab_size), ("the same token comes", tokens)):
            got = F.cross_entropy(logits, targets.flatten()).item()
            # Tied, the token just read has a logit of 0.02 * dim.
            if not abs(got - math.log(vocab_size)) < 0.02 * dim + 0.2:
                raise Mismatch(
                    f"vocab_size {vocab_size}, dim {dim}, where {words}: expected a loss near ln V = "
                    f"{math.log(vocab_size):.2f}, got {got:.2f}"
                )


def exact_logits(table: Tensor, tokens: Tensor) -> Tensor:
    return F.rms_norm(table[tokens.cpu()], table.shape[1:], eps=1e-5) @ table.T


@exercise.property("a logit is the token's row times the normalised residual stream")
def logits_by_hand(answer: Callable) -> None:
    for vocab_size, dim in ((200, 64), (50, 8)):
        seen = answer(vocab_size, dim)
        for name, shape in (("logits", (3, 40)), ("other logits", (2, 7))):
            want = exact_logits(exact(seen["table"]), tokens_of(vocab_size, *shape))
            where = f"logits, vocab_size {vocab_size}, dim {dim}, tokens of shape {shape}"
            expect_close(seen[name], want, where=where, rtol=1e-3, atol=1e-4)


@exercise.property("gradients reach the table, from both of its ends")
def gradients(answer: Callable) -> None:
    seen = answer(200, 64)
    if seen["gradient"] is None:
        raise Mismatch("no gradient reaches the table (frozen, .detach() or torch.no_grad): it would never be trained")
    table = exact(seen["table"]).requires_grad_()
    (want,) = torch.autograd.grad(exact_logits(table, tokens_of(200, 3, 40)).logsumexp(dim=-1).sum(), table)
    largest = want.abs().max().item()
    expect_close(seen["gradient"], want, where="gradient of the table", rtol=1e-2, atol=1e-3 * largest)


PLANTED = """
    the planted bug: nn.init.normal_(self.head.weight, std=0.02) -> pass
        The table that both use has a standard deviation of 1, where 0.02 is asked for. Only what is drawn into the
        weight that the model has in the end, and with that std, counts.
"""
exercise.slips(PLANTED, given=True)
exercise.slips("""
    no longer tied: self.head.weight = self.embedding.weight -> pass
        The head has its 0.02 now, but the two weights are no longer one. Keep the tying, and draw after it.
    the table alone drawn, not tied: std=0.02) -> std=0.02); self.head = nn.Linear(dim, vocab_size, bias=False)
        The table has its 0.02, and the head another weight, as large as torch's nn.Linear begins with. Keep the tying.
    both drawn, not tied: self.head.weight = self.embedding.weight -> nn.init.normal_(self.embedding.weight, std=0.02)
        Head and table are two parameters now, with numbers of their own, nearly twice as many: keep the tying.
    equal, but not tied: std=0.02) -> std=0.02); self.head.weight = nn.Parameter(self.head.weight.detach())
        The two weights hold the same numbers, but are two parameters, each with a gradient of its own.
    all zeros: normal_(self.head.weight, std=0.02) -> zeros_(self.head.weight)
        A table of zeros gives a first loss of exactly ln V, but all tokens are then alike, and the model cannot learn.
    0.02 everywhere: normal_(self.head.weight, std=0.02) -> constant_(self.head.weight, 0.02)
        Each number of the table is 0.02, so that all tokens are alike: draw random numbers of that standard deviation.
    the norm drawn too: nn.init.normal_( -> nn.init.normal_(self.norm.weight, std=0.02); nn.init.normal_(
        You draw the norm's gains as well, which are to be 1. Only the table is to be drawn.
    0.02 squared: std=0.02 -> std=0.02**2
        The table has the standard deviation 0.0004, the square of 0.02: a table made smaller twice, or a variance given
        where a standard deviation is asked for.
    a nought too few: std=0.02 -> std=0.2
        The table has the standard deviation 0.2, ten times as large as asked for.
    0.02 as the mean: std=0.02 -> 0.02
        Your table has mean 0.02 and standard deviation 1. normal_ takes the mean after the tensor: write std=0.02.
    0.02 as the mean too: std=0.02 -> 0.02, 0.02
        Your table has the standard deviation 0.02, but its mean is 0.02 as well. Asked for is N(0, 0.02 ** 2): mean 0.
    1 / sqrt(dim): std=0.02 -> std=dim**-0.5
        Your table has the standard deviation 1 / sqrt(dim). The token just read then gets a logit of sqrt(dim), far
        above the others, which are about 1. Asked for is 0.02.
    Xavier: normal_(self.head.weight, std=0.02) -> xavier_normal_(self.head.weight)
        The table has Xavier's standard deviation. A token picks one row of it, so the number of rows is no fan.
    Xavier's uniform variant: normal_(self.head.weight, std=0.02) -> xavier_uniform_(self.head.weight)
        Your table is uniform, as wide as by Xavier's formula. A token picks one row, so the number of rows is no fan.
    uniform: normal_(self.head.weight, std=0.02) -> uniform_(self.head.weight, -0.02 * 3**0.5, 0.02 * 3**0.5)
        Your table is spread evenly between two limits. A normal distribution is asked for.
    truncated: normal_(self.head.weight, std=0.02) -> trunc_normal_(self.head.weight, std=0.02, a=-0.04, b=0.04)
        The numbers of your table are cut off on both sides, which leaves a smaller standard deviation than 0.02.
    uniform up to 0.02: normal_(self.head.weight, std=0.02) -> uniform_(self.head.weight, -0.02, 0.02)
        Your table is spread evenly between -0.02 and 0.02. A normal distribution is asked for.
    the logits made smaller: std=0.02) -> std=1.0); self.head.register_forward_hook(lambda *seen: seen[2] / 50)
        Your table has std 1, and the logits are made smaller. That cures the symptom; the residual stream is still 50
        times as large as with the table that is asked for.
    the gains made smaller: std=0.02 -> std=1.0); nn.init.constant_(self.norm.weight, 0.02
        The table has the standard deviation 1, and the gains of the norm are 0.02. That makes the logits smaller, but
        the residual stream is still 50 times as large as with the table that is asked for. Gains stay 1.
    frozen: std=0.02) -> std=0.02).requires_grad_(False)
        The table is frozen: requires_grad is False, so it is never trained.
    the head has a bias: bias=False -> bias=True
        Your head has a bias now, which was not there. The bug is elsewhere.
    the norm left out: self.norm(self.embedding(tokens)) -> self.embedding(tokens)
        Your logits are 50 times too small, as where forward goes past the norm. The bug stands in the constructor.
""")
