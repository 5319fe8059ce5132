"""Exercise 9, a bug hunt: a training loop that runs, and learns less than it should."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import Mismatch, draw, exact, expect_close, expect_number, on_device


def train_a_little(
    model: nn.Module, batches: list[Tensor], validation: Tensor, lr: float = 0.1
) -> tuple[list[float], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for tokens in batches:
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        logits = model(validation[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), validation[:, 1:].flatten())
    model.train()
    return losses, loss.item()


VOCAB, DIM, DEFAULT = 6, 4, 0.1


class Watched(nn.Module):
    """A table and a head with dropout between them, which notes in which mode, and with which gradients, it reads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(VOCAB, DIM), nn.Linear(DIM, VOCAB, bias=False)
        with torch.no_grad():
            self.embedding.weight.copy_(draw(VOCAB, DIM, seed=seed))
            self.head.weight.copy_(draw(VOCAB, DIM, seed=seed + 1))
        self.read: list[tuple[bool, bool]] = []

    def forward(self, tokens: Tensor) -> Tensor:
        # A part of it is asked, so that a flag on the whole model alone is not enough.
        self.read.append((self.head.training, torch.is_grad_enabled()))
        hidden = self.embedding(tokens)
        # As dropout, of channels that do not change from call to call.
        return self.head(hidden * hidden.new_tensor([2.0, 0.0, 2.0, 0.0]) if self.head.training else hidden)


def batches_of(n_batches: int, seed: int, rows: int = 3, seq_len: int = 6) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(on_device(torch.randint(VOCAB, (rows, seq_len), generator=generator)) for _ in range(n_batches))


def trains(answer: Callable) -> Callable:
    """Make of an answer what gives its losses, its validation loss, its final weights, and how the model was read."""

    def run(batches: tuple, seed: int, lr: float) -> tuple[Tensor, float, Tensor, str]:
        model = Watched(seed).to(batches[0].device)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)  # of something before
        *parts, validation = batches
        returned = answer(model, parts, validation, *[lr] * (lr != DEFAULT))
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[0], (list, tuple)):
            raise Mismatch("a list of losses and the validation loss are asked for: return losses, ...")
        losses, loss = returned
        if not torch.is_grad_enabled():
            raise Mismatch("gradients are still switched off for whoever comes next: use a with statement")
        kinds = {_kind(value) for value in (*losses, loss)}
        if len(losses) != len(parts):
            raise Mismatch(f"{len(parts)} batches are to give as many losses, not {len(losses)}")
        last, gradients = model.read[-1] if len(model.read) == len(parts) + 1 else (True, True)
        mode = (
            f"validation in {'training' if last else 'evaluation'} mode, {'with' if gradients else 'without'} a graph"
        )
        trains = all(module.training for module in model.modules())
        after = f"afterwards in {'training' if trains else 'evaluation'} mode"
        values = torch.tensor(
            [float(value.detach()) if isinstance(value, Tensor) else float(value) for value in losses]
        )
        weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        return values, float(loss), weights, f"{mode}, {after}; losses of type {', '.join(sorted(kinds))}"

    return run


def _kind(value: Any) -> str:
    return f"{type(value).__name__}{' with a graph' * getattr(value, 'requires_grad', False)}"


ASKED = [(batches_of(4, 1), 10, 0.5), (batches_of(2, 2), 20, 0.1), (batches_of(7, 3, rows=2, seq_len=4), 30, 1.0)]


def cases() -> list[tuple]:
    return [*ASKED, (batches_of(3, 4), 40, 2.0)]


exercise = Exercise(
    train_a_little,
    points=5,
    minutes=12,
    cases=cases,
    returns=(Tensor, float, Tensor, str),
    using=trains,
    hints=(
        "There are four bugs: one in what the loss is given, one in what backward() adds to, one in what is kept of "
        "each step, one in how the model is measured.",
        "F.cross_entropy takes the softmax itself. backward() adds to .grad. A loss tensor holds on to its graph, "
        ".item() does not.",
        "Dropout is for training: model.eval() turns it off, torch.no_grad() keeps no graph, model.train() turns it on "
        "again for whoever trains on.",
    ),
)


def expected(batches: tuple, seed: int, lr: float) -> tuple[Tensor, float, Tensor]:
    """The same by formulas for table and head, in float64."""
    model = Watched(seed)
    table, head = (exact(parameter.detach()).requires_grad_() for parameter in model.parameters())
    on = torch.tensor([2.0, 0.0, 2.0, 0.0], dtype=torch.float64)
    losses = []

    def loss_of(tokens: Tensor, channels: Tensor) -> Tensor:
        tokens = tokens.cpu()
        log_p = ((table[tokens[:, :-1]] * channels) @ head.T).log_softmax(-1)
        return -log_p.gather(-1, tokens[:, 1:, None]).mean()

    for tokens in batches[:-1]:
        loss = loss_of(tokens, on)
        gradients = torch.autograd.grad(loss, (table, head))
        with torch.no_grad():
            table -= lr * gradients[0]
            head -= lr * gradients[1]
        losses.append(loss.item())
    with torch.no_grad():
        final = loss_of(batches[-1], torch.ones(4, dtype=torch.float64)).item()
    return torch.tensor(losses), final, torch.cat([table.detach().flatten(), head.detach().flatten()])


@exercise.property("the first loss is the cross-entropy of the next token")
def first_loss(answer: Callable) -> None:
    for args in ASKED:
        losses, *_ = answer(*args)
        expect_close(losses[:1], expected(*args)[0][:1], where="the loss of the first batch")


@exercise.property("each step goes along the gradient of its own batch")
def own_gradients(answer: Callable) -> None:
    for args in ASKED:
        losses, _, weights, _ = answer(*args)
        want, _, want_weights = expected(*args)
        where = f"{len(args[0]) - 1} batches, lr {args[2]}"
        expect_close(losses, want, where=f"losses, {where}", atol=1e-4)
        expect_close(weights, want_weights, where=f"weights at the end, {where}", atol=1e-4)


@exercise.property("losses are plain numbers, which hold on to no graph")
def plain_numbers(answer: Callable) -> None:
    *_, how = answer(*ASKED[0])
    if not how.endswith("of type float"):
        raise Mismatch(f"expected losses of type float, got {how.rpartition('of type ')[2]}")


@exercise.property("validation is in evaluation mode, without a graph; afterwards the model is in training mode")
def evaluation_mode(answer: Callable) -> None:
    for args in ASKED:
        _, loss, _, how = answer(*args)
        want = "validation in evaluation mode, without a graph, afterwards in training mode"
        if not how.startswith(want):
            raise Mismatch(f"expected {want}, got {how.partition(';')[0]}")
        expect_number(loss, expected(*args)[1], where="validation loss", rtol=1e-4)


@exercise.given
def all_four_bugs(model, batches, validation, lr=0.1):
    """It does what it did when you found it, and the four bugs are there. Begin with the probe: which loss should a
    model have that is certain and right?
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for tokens in batches:
        logits = model(tokens[:, :-1]).softmax(-1)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss)
    logits = model(validation[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), validation[:, 1:].flatten())
    return losses, loss.item()


exercise.slips("""
    softmax left: logits = model(tokens[:, :-1]) -> logits = model(tokens[:, :-1]).softmax(-1)
        There is still a softmax before the cross-entropy, which takes one itself.
    softmax left in the validation: logits = model(validation[:, :-1]) -> logits = model(validation[:, :-1]).softmax(-1)
        There is a softmax before the cross-entropy of the validation.
    zero_grad missing: optimizer.zero_grad() -> pass
        The gradients of all earlier batches are still in .grad: zero_grad is missing in each step.
    nothing is learned: optimizer.step() -> pass
        No weight changes: step() is missing, or gradients are set to zero between backward() and step().
    graphs kept: losses.append(loss.item()) -> losses.append(loss)
        The losses are still tensors, each of which holds on to the graph of its step: memory grows with every step.
        .item() makes a plain number.
    detached tensors: losses.append(loss.item()) -> losses.append(loss.detach())
        The losses hold on to no graph, but are tensors still. Plain numbers are asked for: .item().
    validation with dropout: model.eval() -> model.train()
        The validation is still in training mode, with dropout. model.eval() turns it off.
    validation with a graph: with torch.no_grad(): -> with torch.enable_grad():
        The validation still builds a graph that nobody needs: torch.no_grad() saves its memory and time.
    left in evaluation mode: model.train() -> model.eval()
        The model is left in evaluation mode: whoever trains on does so without dropout. model.train() is missing at
        the end.
    eval before the training: optimizer = torch -> model.eval(); optimizer = torch
        The training itself is in evaluation mode: dropout is off while it learns. model.eval() comes after the loop.
    not shifted: tokens[:, 1:].flatten()) -> tokens[:, :-1].flatten())
        Targets are the tokens that were just read. They are the next ones.
    the loss before the last step: return losses, loss.item() -> return losses, losses[-1]
        You return the last training loss in place of the validation loss.
    perplexity: return losses, loss.item() -> return losses, loss.exp().item()
        Your validation loss is e to the power of the loss, the perplexity.
    Adam: torch.optim.SGD(model.parameters(), lr=lr) -> torch.optim.Adam(model.parameters(), lr=lr)
        You changed the optimizer. SGD was right; there are four other bugs.
    the default rate: lr=lr) -> lr=0.1)
        Your learning rate is 0.1, whatever lr is.
""")
