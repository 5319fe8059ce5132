"""Other answers to next_token_loss."""

import torch
import torch.nn.functional as F

from tests.grading.answers import right, wrong


def refuse(counted):
    if not counted[:, 1:].any():
        raise ValueError("nothing counts after the first token of any row")


@right
def by_ignore_index(logits, tokens, counted):
    refuse(counted)
    targets = tokens.masked_fill(~counted, -100)[:, 1:]
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=-100)


@right
def by_indexing(logits, tokens, counted):
    refuse(counted)
    rows, times = counted[:, 1:].nonzero(as_tuple=True)
    return F.cross_entropy(logits[rows, times].float(), tokens[rows, times + 1])


@right
def by_log_sum_exp(logits, tokens, counted):
    refuse(counted)
    scores = logits[:, :-1].float()
    said = scores.gather(-1, tokens[:, 1:, None])[..., 0]
    losses = scores.logsumexp(-1) - said
    return (losses * counted[:, 1:]).sum() / counted[:, 1:].sum()


@right
def row_by_row(logits, tokens, counted):
    refuse(counted)
    losses = []
    for row, ids, counts in zip(logits.float(), tokens, counted, strict=True):
        losses += [F.cross_entropy(row[t - 1], ids[t]) for t in range(1, len(ids)) if counts[t]]
    return torch.stack(losses).mean()


@right
def one_hot(logits, tokens, counted):
    refuse(counted)
    wanted = F.one_hot(tokens[:, 1:], logits.shape[-1]) * counted[:, 1:, None]
    return -(logits[:, :-1].float().log_softmax(-1) * wanted).sum() / counted[:, 1:].sum()


@wrong()
def weighted_with_the_probability(logits, tokens, counted):
    """As a focal loss: what is known already counts less."""
    refuse(counted)
    losses = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), tokens[:, 1:], reduction="none")
    return ((1 - losses.neg().exp()) * losses)[counted[:, 1:]].mean()


@wrong()
def smoothed(logits, tokens, counted):
    refuse(counted)
    targets = tokens.masked_fill(~counted, -100)[:, 1:]
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), label_smoothing=0.1)


@wrong()
def the_median(logits, tokens, counted):
    refuse(counted)
    losses = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), tokens[:, 1:], reduction="none")
    return losses[counted[:, 1:]].median()


@wrong()
def token_0_as_padding(logits, tokens, counted):
    refuse(counted & (tokens > 0))
    targets = tokens.masked_fill(~counted, 0)[:, 1:]
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=0)


@wrong()
def cut_off(logits, tokens, counted):
    return by_ignore_index(logits, tokens, counted).clamp_max(10.0)
