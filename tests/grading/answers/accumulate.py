"""Other answers to accumulate."""

import torch
import torch.nn.functional as F

from tests.grading.answers import right, wrong


def of_part(model, tokens, counted, reduction="sum"):
    targets = tokens.masked_fill(~counted, -100)[:, 1:]
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), targets.flatten(), reduction=reduction)


@right
def divided_at_the_end(model, parts):
    """Gradients of the sums, and one division of all of them."""
    model.zero_grad()
    total, number = 0.0, 0
    for tokens, counted in parts:
        loss = of_part(model, tokens, counted)
        loss.backward()
        total, number = total + loss.item(), number + counted[:, 1:].sum().item()
    for parameter in model.parameters():
        parameter.grad /= number
    return total / number


@right
def weighted_means(model, parts):
    model.zero_grad(set_to_none=True)
    numbers = [counted[:, 1:].sum() for _, counted in parts]
    losses = []
    for (tokens, counted), number in zip(parts, numbers, strict=True):
        loss = of_part(model, tokens, counted, "mean") * number / sum(numbers)
        loss.backward()
        losses.append(loss.detach())
    return float(torch.stack(losses).sum())


@right
def by_autograd_grad(model, parts):
    number = sum(counted[:, 1:].sum().item() for _, counted in parts)
    parameters, total = list(model.parameters()), 0.0
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for tokens, counted in parts:
        loss = of_part(model, tokens, counted) / number
        sums = [a + b for a, b in zip(sums, torch.autograd.grad(loss, parameters), strict=True)]
        total += loss.item()
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient
    return total


@right
def parts_in_another_order(model, parts):
    return divided_at_the_end(model, parts[::-1])


@wrong(called=None)
def each_part_twice(model, parts):
    return divided_at_the_end(model, [*parts, *parts])


@wrong(called=None)
def all_at_once(model, parts):
    longest = max(tokens.shape[1] for tokens, _ in parts)
    tokens, counted = (torch.cat([F.pad(part[i], (0, longest - part[i].shape[1])) for part in parts]) for i in (0, 1))
    return divided_at_the_end(model, [(tokens, counted)])


@wrong(called=None)
def a_step_too(model, parts):
    loss = divided_at_the_end(model, parts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    return loss


@wrong()
def weighted_with_all_tokens(model, parts):
    """Each part's mean counts as much as the part has tokens, counted or not."""
    model.zero_grad()
    total, number = 0.0, sum(tokens[:, 1:].numel() for tokens, _ in parts)
    for tokens, counted in parts:
        loss = of_part(model, tokens, counted, "mean") * tokens[:, 1:].numel() / number
        loss.backward()
        total += loss.item()
    return total


@wrong()
def clipped(model, parts):
    loss = divided_at_the_end(model, parts)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    return loss
