"""Exercise 7: the gradients of a large batch, read part by part."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import Mismatch, draw, exact, expect_close, expect_number, on_device


def accumulate(model: nn.Module, parts: list[tuple[Tensor, Tensor]]) -> float:
    n_counted = sum(counted[:, 1:].sum().item() for _, counted in parts)
    model.zero_grad()
    total = 0.0
    for tokens, counted in parts:
        logits = model(tokens)[:, :-1]
        losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        known = losses[counted[:, 1:].flatten()]
        loss = known.sum() / n_counted
        loss.backward()
        total += loss.item()
    return total


VOCAB, DIM = 7, 4


class Small(nn.Module):
    """A table and a head, which note what they are given, and whether each backward pass comes before the next part."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(VOCAB, DIM), nn.Linear(DIM, VOCAB, bias=False)
        with torch.no_grad():
            self.embedding.weight.copy_((1 + seed) * draw(VOCAB, DIM, seed=seed))
            self.head.weight.copy_(draw(VOCAB, DIM, seed=seed + 1))
        self.read: list[tuple[int, ...]] = []
        self.backward_passes, self.early = 0, False

    def forward(self, tokens: Tensor) -> Tensor:
        self.early = self.early or self.backward_passes < len(self.read)
        self.read.append(tuple(tokens.shape))
        logits = self.head(self.embedding(tokens))
        if logits.requires_grad:
            logits.register_hook(self._note_backward)
        return logits

    def _note_backward(self, _: Tensor) -> None:
        self.backward_passes += 1


def parts_of(sizes: tuple[tuple[int, int, float], ...], seed: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Parts with these rows, tokens, and shares of counted tokens; the last token of the first row always counts."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for rows, seq_len, share in sizes:
        tokens = torch.randint(VOCAB, (rows, seq_len), generator=generator)
        counted = torch.rand(rows, seq_len, generator=generator) < share
        counted[0, -1] = True
        made.append((on_device(tokens), on_device(counted)))
    return tuple(made)


EVEN = parts_of(((2, 6, 1.0), (2, 6, 1.0), (2, 6, 1.0)), 0)
UNEVEN = parts_of(((2, 9, 1.0), (2, 9, 0.2), (2, 9, 0.6)), 1)
LENGTHS = parts_of(((3, 4, 1.0), (1, 12, 1.0), (2, 2, 1.0)), 2)
ONE = parts_of(((3, 5, 0.7),), 3)
ASKED = {
    "parts with as many tokens": EVEN,
    "parts with padding": UNEVEN,
    "parts of unequal length": LENGTHS,
    "one part": ONE,
}


def gives(answer: Callable) -> Callable:
    """Make of an answer the function that gives its loss and the model's gradients behind one another."""

    def run(parts: tuple, seed: int, before: float) -> tuple[float, Tensor]:
        model = Small(seed).to(parts[0][0].device)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, before) if before else None
        weights = [parameter.detach().clone() for parameter in model.parameters()]
        given = [(tokens.clone(), counted.clone()) for tokens, counted in parts]
        loss = answer(model, given)
        same = len(given) == len(parts) and all(
            torch.equal(a, b) for old, new in zip(parts, given, strict=True) for a, b in zip(old, new, strict=True)
        )
        if not same:
            raise Mismatch("the parts that were given are not what they were: read them, and leave them as they are")
        if not all(map(torch.equal, weights, model.parameters())):
            raise Mismatch("the weights were changed. Only gradients are asked for: the optimizer's step comes later")
        if any(parameter.grad is None for parameter in model.parameters()):
            raise Mismatch("a parameter has no gradient (.grad is None). Is backward() called for the loss?")
        if sorted(model.read) != sorted(tuple(tokens.shape) for tokens, _ in parts):
            raise Mismatch(
                f"the model was called with tokens of shape {', '.join(map(str, model.read)) or 'none'}: each part "
                "is to be read once, by itself"
            )
        if model.early:
            raise Mismatch(
                "a part was read before the backward pass of the one before it was done: then the activations of both "
                "are in memory, which is what accumulation is to avoid"
            )
        return loss, torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    return run


def cases() -> list[tuple]:
    return [(parts, seed, 0.0) for seed, parts in enumerate(ASKED.values())] + [(UNEVEN, 5, 3.0), (EVEN, 6, 3.0)]


exercise = Exercise(
    accumulate,
    points=4,
    minutes=12,
    cases=cases,
    returns=(float, Tensor),
    using=gives,
    hints=(
        "Every counted token of the whole batch weighs the same. By which number do you divide the sum of each part's "
        "losses, and when do you know it?",
        "backward() adds to what .grad holds. So zero_grad() comes once, before the first part, and backward() once "
        "for each part. .item() makes a number of a loss, so that no part's activations are kept.",
    ),
)


def expected(parts: tuple, seed: int) -> tuple[float, Tensor]:
    """From all parts at once, token by token, in float64."""
    model = Small(seed)
    table, head = (exact(parameter.detach()).requires_grad_() for parameter in model.parameters())
    losses = []
    for tokens, counted in parts:
        tokens, counted = tokens.cpu(), counted.cpu()
        log_p = (table[tokens] @ head.T).log_softmax(-1)
        for row, t in counted[:, 1:].nonzero().tolist():
            losses.append(-log_p[row, t, tokens[row, t + 1]])
    loss = torch.stack(losses).mean()
    return loss.item(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, (table, head))])


def expect_as_one_batch(answer: Callable, name: str, seed: int, before: float = 0.0) -> None:
    loss, gradients = answer(ASKED[name], seed, before)
    want_loss, want = expected(ASKED[name], seed)
    expect_close(gradients, want, where=f"gradients, {name}")
    expect_number(loss, want_loss, where=f"the loss, {name}", rtol=1e-5)


@exercise.property("one part alone: its own mean loss, and the gradients of that")
def one_part(answer: Callable) -> None:
    expect_as_one_batch(answer, "one part", 3)


@exercise.property("parts with as many counted tokens: the gradients of the whole batch")
def even(answer: Callable) -> None:
    expect_as_one_batch(answer, "parts with as many tokens", 0)


@exercise.property("parts with fewer or more counted tokens: each token weighs the same")
def uneven(answer: Callable) -> None:
    for seed, name in enumerate(ASKED):
        expect_as_one_batch(answer, name, seed)


@exercise.property("what .grad held before is gone")
def old_gradients(answer: Callable) -> None:
    expect_as_one_batch(answer, "parts with padding", 5, before=3.0)


exercise.slips("""
    the mean of the parts' means: known.sum() / n_counted -> known.mean() / len(parts)
        You average each part first, and then the parts: a token in a part with few counted tokens weighs more than
        one in a full part. Divide each part's sum by the number of counted tokens of the whole batch.
    the sum of the parts' means: known.sum() / n_counted -> known.mean()
        You add up the parts' mean losses: with more parts gradients grow. Divide each part's sum by the number of
        counted tokens of the whole batch.
    a sum: known.sum() / n_counted -> known.sum()
        You add up the losses of all tokens. Divide by the number of counted tokens of the whole batch.
    divided by the parts: known.sum() / n_counted -> known.sum() / len(parts)
        You divide sums by the number of parts. Divide by the number of counted tokens of the whole batch.
    as many tokens as there are: known.sum() / n_counted -> known.sum() / sum(t[:, 1:].numel() for t, _ in parts)
        You divide by the number of all tokens, counted or not.
    the first column in the number: counted[:, 1:].sum().item() for -> counted.sum().item() for
        Your number of counted tokens holds the first of each row, which nothing predicts.
    the mean, weighted with rows: known.sum() / n_counted -> known.mean() * len(tokens) / sum(len(t) for t, _ in parts)
        You weight each part's mean with its rows. Rows hold different numbers of counted tokens: divide each part's
        sum by the number of the whole batch.
    nothing left out: known = losses[counted[:, 1:].flatten()] -> known = losses
        Tokens that do not count are in your sum.
    gradients set to 0 at each part: logits = model(tokens)[:, :-1] -> model.zero_grad(); logits = model(tokens)[:, :-1]
        You call zero_grad for each part: only the last part's gradients are left.
    old gradients left: model.zero_grad() -> pass
        What .grad held before is still in it: zero_grad is missing, before the first part.
    the last part's loss: total += loss.item() -> total = loss.item()
        You return the last part's share of the loss. Add up the shares of all parts.
    the last part's own loss: total += loss.item() -> total = known.mean().item()
        You return the last part's loss. The mean over all counted tokens of the batch is asked for.
    the mean of the parts' losses is returned: total += loss.item() -> total += known.mean().item() / len(parts)
        Your gradients are right, but the loss that you return is the mean of the parts' means.
    not shifted: tokens[:, 1:].flatten(), -> tokens[:, :-1].flatten(),
        You compare the logits after each token with that very token. Compare them with the next one.
    counted not shifted: losses[counted[:, 1:] -> losses[counted[:, :-1]
        Your mask is one position off: counted belongs to the token that is predicted.
    a tensor with its graph: total += loss.item() -> total = total + loss
        You return a tensor that holds on to the graphs of all parts. .item() makes a plain number of a loss.
""")
