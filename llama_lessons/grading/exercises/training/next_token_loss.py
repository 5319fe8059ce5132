"""Exercise 1: the loss of each token, given the logits after the token before it."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import (
    HALVES,
    at_least_float32,
    draw,
    exact,
    expect_close,
    expect_gradients,
    expect_like,
    expect_value_error,
    on_device,
    tensor,
)
from ...families import another_error, no_gradient


def next_token_loss(logits: Tensor, tokens: Tensor, counted: Tensor) -> Tensor:
    targets, counts = tokens[:, 1:], counted[:, 1:]
    if not counts.any():
        raise ValueError("no token after the first is counted: there is nothing to predict")
    scores = logits[:, :-1]
    log_p = at_least_float32(scores).log_softmax(dim=-1)
    losses = -log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return losses[counts].mean()


def given(
    batch: int, seq_len: int, vocab_size: int, seed: int = 0, dtype: torch.dtype = torch.float32, share: float = 0.7
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, tokens, and which of them count: the first row's last token and a random share of the others."""
    generator = torch.Generator().manual_seed(100 + seed)
    tokens = torch.randint(vocab_size, (batch, seq_len), generator=generator)
    counted = torch.rand(batch, seq_len, generator=generator) < share
    counted[0, -1] = True
    logits = draw(batch, seq_len, vocab_size, seed=seed, dtype=dtype) * 3
    return logits, on_device(tokens), on_device(counted)


def all_counted(logits: Tensor, tokens: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return logits, tokens, torch.ones_like(counted)


SIZES = [(2, 5, 7), (1, 8, 4), (3, 3, 3), (4, 6, 11), (3, 2, 9)]


def cases() -> list[tuple]:
    made = [given(*size, seed=seed) for seed, size in enumerate(SIZES)]
    made[0][0].requires_grad_()
    made += [all_counted(*given(*size, seed=20 + seed)) for seed, size in enumerate(SIZES[:3])]
    prompt = given(2, 6, 5, seed=30)
    made.append((*prompt[:2], tensor([[False] * 4 + [True] * 2, [False] * 2 + [True] * 4])))
    made += [given(2, 6, 8, seed=40, dtype=dtype) for dtype in HALVES]
    made.append((draw(2, 4, 5) * 1000, *given(2, 4, 5)[1:]))
    nothing = given(2, 3, 4)
    made += [(*nothing[:2], tensor([[first, False, False]] * 2)) for first in (True, False)]
    return made


exercise = Exercise(
    next_token_loss,
    points=5,
    minutes=12,
    cases=cases,
    returns=Tensor,
    hints=(
        "The logits after token t are there to predict token t + 1. Which logits have nothing to predict, and which "
        "token is predicted by none?",
        "Cut logits, tokens and counted to the same seq_len - 1 positions first. Then F.cross_entropy with "
        'reduction="none" gives a loss for each; it wants (n, vocab_size) and (n,).',
        "The mean is over all counted tokens of the batch together, not over each row first.",
    ),
)


def expected(logits: Tensor, tokens: Tensor, counted: Tensor) -> Tensor:
    """Token by token, in float64."""
    log_p, ids = exact(logits).log_softmax(dim=-1), tokens.tolist()
    losses = [-log_p[row, t - 1, ids[row][t]] for row, t in counted.nonzero().tolist() if t]
    return torch.stack(losses).mean()


@exercise.property("a scalar in float32")
def scalar(answer: Callable) -> None:
    for dtype in (torch.float32, *HALVES):
        got = answer(*given(2, 5, 7, dtype=dtype))
        expect_like(got, shape=(), dtype=torch.float32, where=f"logits in {str(dtype)[6:]}")


@exercise.property("the logits after token t are compared with token t + 1")
def shifted_once(answer: Callable) -> None:
    tokens = tensor([[0, 1, 2, 3, 4]])
    logits = torch.zeros(1, 5, 5)
    for t in range(4):
        logits[0, t, t + 1] = 50.0  # certain of the right next token
    got = answer(on_device(logits), tokens, torch.ones_like(tokens).bool())
    expect_close(got, torch.tensor(0.0), where="logits that are certain of each next token")
    for seed, size in enumerate(SIZES):
        args = all_counted(*given(*size, seed=seed))
        expect_close(answer(*args), expected(*args), where=f"{size[0]} rows of {size[1]} tokens, all counted")


@exercise.property("logits that are all the same: ln of the vocabulary's size")
def knows_nothing(answer: Callable) -> None:
    args = given(3, 4, 84)
    got = answer(torch.zeros_like(args[0]), *args[1:])
    expect_close(got, torch.tensor(84.0).log(), where="vocab_size 84")


@exercise.property("only tokens that count are predicted, and the mean is over these")
def only_counted(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        args = given(*size, seed=seed)
        where = f"{size[0]} rows of {size[1]} tokens, {int(args[2][:, 1:].sum())} of those after the first counted"
        expect_close(answer(*args), expected(*args), where=where)
    logits, tokens, _ = given(2, 6, 5, seed=30)
    prompt = tensor([[False] * 4 + [True] * 2, [False] * 2 + [True] * 4])
    expect_close(
        answer(logits, tokens, prompt), expected(logits, tokens, prompt), where="answers of 2 and 4 tokens, no prompt"
    )


@exercise.property("what a token that does not count is, makes no difference to the loss of others")
def what_is_not_counted(answer: Callable) -> None:
    logits, tokens, counted = given(2, 6, 5, seed=50, share=0.5)
    other = torch.where(counted, tokens, (tokens + 1) % 5)
    expect_close(answer(logits, other, counted), expected(logits, tokens, counted), where="other ids where not counted")


@exercise.property("logits of any size, and half precision computed in float32")
def any_size(answer: Callable) -> None:
    args = (draw(2, 4, 5) * 1000, *given(2, 4, 5)[1:])
    expect_close(answer(*args), expected(*args), where="logits of 1,000")
    for dtype in HALVES:
        args = given(4, 9, 30, seed=3, dtype=dtype)
        expect_close(answer(*args), expected(*args), where=f"logits in {str(dtype)[6:]}")


@exercise.property("gradients flow back to logits")
def gradients(answer: Callable) -> None:
    logits, tokens, counted = given(2, 5, 7, seed=2)
    expect_gradients(
        lambda x: answer(x, tokens, counted), lambda x: expected(x, tokens, counted), logits, names=("logits",)
    )
    for dtype in HALVES:
        logits, *rest = given(2, 5, 7, seed=3, dtype=dtype)
        expect_gradients(
            lambda x, rest=rest: answer(x, *rest),
            lambda x, rest=rest: expected(x, *rest),
            logits,
            names=("logits",),
            rtol=2e-2,
            atol=2e-3,
        )


@exercise.property("nothing to predict is refused with a ValueError")
def refused(answer: Callable) -> None:
    logits, tokens, _ = given(2, 3, 4)
    for what, counted in (("nothing counted", [False] * 3), ("only the first token counted", [True, False, False])):
        expect_value_error(answer, logits, tokens, tensor([counted] * 2), where=what)


exercise.slips("""
    not shifted: scores = logits[:, :-1] -> scores = logits[:, 1:]
        You compare the logits after each token with that very token, which the model has just read: it learns to copy,
        and its loss goes to 0. Compare the logits after token t with token t + 1.
    other way round: targets, counts = tokens[:, 1:] -> logits, targets, counts = logits.roll(-1, 1), tokens[:, :-1]
        You compare the logits after token t + 1 with token t, which comes before it. It is the other way round.
    shifted twice: scores = logits[:, :-1] -> scores = logits.roll(1, 1)[:, :-1]
        You are one position off: each token is compared with the logits of two positions before. One shift is enough.
    counted not shifted: tokens[:, 1:], counted[:, 1:] -> tokens[:, 1:], counted[:, :-1]
        Your mask is one position off: counted belongs to the token that is predicted, and is shifted with the tokens.
    predicted from what counts too: = tokens[:, 1:], -> = tokens[:, 1:], counted[:, :-1] &
        You leave out tokens that follow one that does not count. The first token of an answer is predicted from the
        last one of the prompt: it counts.
    nothing left out: losses[counts].mean() -> losses.mean()
        You average over all tokens. Those that do not count are left out of the sum and of the number.
    divided by all: losses[counts].mean() -> (losses * counts).mean()
        You leave tokens out of the sum, but divide by the number of all. Divide by the number of those that count.
    divided with the first column: losses[counts].mean() -> losses[counts].sum() / counted.sum()
        You divide by a number that holds the first tokens of rows, which nothing predicts.
    the mean of the rows' means: losses[counts] -> ((losses * counts).sum(1) / counts.sum(1))[counts.any(1)]
        You average each row first, and then the rows. A row with few counted tokens weighs as much as one with many:
        the mean is over all counted tokens together.
    divided by the rows: losses[counts].mean() -> losses[counts].sum() / len(tokens)
        You divide by the number of rows. Divide by the number of tokens that count.
    a sum: losses[counts].mean() -> losses[counts].sum()
        You add up the losses. The mean per counted token is asked for.
    a loss for each token: losses[counts].mean() -> losses[counts]
        You return a loss for each token. Their mean is asked for.
    the others: losses[counts].mean() -> losses[~counts | counts.all()].mean()
        You average over the tokens that do not count.
    softmax before cross-entropy: (scores).log -> (scores).softmax(-1).log
        You hand probabilities to the cross-entropy, which takes a softmax itself: even a perfect model would keep a
        loss of about ln V - 1. It wants logits.
    no softmax: at_least_float32(scores).log_softmax(dim=-1) -> at_least_float32(scores)
        You take the logits for log-probabilities: the log-softmax is missing.
    softmax over the positions: log_softmax(dim=-1) -> log_softmax(dim=1)
        Your softmax is over the positions of the text. It is over the vocabulary, the last axis.
    without the minus: losses = -log_p -> losses = log_p
        Yours is negative: the mean log-probability. The loss is minus that.
    probabilities for surprises: losses[counts].mean() -> losses.neg().exp()[counts].mean()
        You average probabilities. The loss is the mean of minus their logarithms.
    one minus the probability: losses[counts].mean() -> (1 - losses.neg().exp())[counts].mean()
        You average 1 minus the probability. The loss is the mean of minus the logarithms.
    in bits: losses[counts].mean() -> losses[counts].mean() / 0.6931471805599453
        Your loss is in bits, with the logarithm to base 2. Losses are in nats.
    perplexity: losses[counts].mean() -> losses[counts].mean().exp()
        This is e to the power of the loss, the perplexity.
    in half precision: at_least_float32(scores).log_softmax(dim=-1) -> scores.log_softmax(dim=-1).float()
        Half-precision logits are not cast to float32 first, so that what comes out is rounded coarsely.
    the dtype of the logits: losses[counts].mean() -> losses[counts].mean().to(logits.dtype)
        The loss comes out in the dtype of the logits. In half precision it would be rounded: return float32.
    the first row alone: losses[counts].mean() -> losses[0][counts[0]].mean()
        You return the loss of the first row alone.
    the last token alone: losses[counts].mean() -> losses[:, -1][counts[:, -1]].mean()
        You return the loss of the last token alone. All counted ones belong to it.
    round the end: scores = logits[:, :-1] -> scores, targets, counts = logits, tokens.roll(-1, 1), counted.roll(-1, 1)
        The last logits of a row are compared with its first token, as torch.roll does. They have nothing to predict.
    nothing to predict gives 0: raise ValueError("no token -> return logits.sum() * 0 if True else ValueError("no token
        Where nothing counts, your loss is a number. Raise a ValueError: it is no loss of 0.
    nothing to predict gives NaN: if not counts.any() -> if not True
        Where nothing counts, you divide by 0, and NaN comes out, which spoils all weights at the next step. Raise a
        ValueError.
    the first token is looked at: if not counts.any() -> if not counted.any()
        You look whether any token counts, the first one too, which no logits predict. If it alone counts, there is
        nothing to predict: raise a ValueError.
""")
another_error(exercise)
no_gradient(exercise, "logits")


@exercise.misconception
def rows_run_together(logits, tokens, counted):
    """You put all rows behind one another before you shift: the end of one row predicts the start of the next. Shift
    within each row.
    """
    return next_token_loss(logits.flatten(0, 1)[None], tokens.flatten()[None], counted.flatten()[None])


@exercise.misconception
def the_last_token_not_predicted(logits, tokens, counted):
    """You leave out the last token of each row. It is predicted too, by the logits before it."""
    return next_token_loss(logits[:, :-1], tokens[:, :-1], counted[:, :-1])
