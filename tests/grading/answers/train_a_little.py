"""Other answers to train_a_little."""

import torch
import torch.nn.functional as F

from tests.grading.answers import right, wrong


def loss_of(model, tokens):
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])


@torch.no_grad()
def measured(model, tokens):
    model.eval()
    loss = loss_of(model, tokens).item()
    model.train()
    return loss


@right
def with_functions(model, batches, validation, lr=0.1):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    model.train()
    for tokens in batches:
        optimizer.zero_grad(set_to_none=False)
        loss = loss_of(model, tokens)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, measured(model, validation)


@right
def zero_grad_at_the_end(model, batches, validation, lr=0.1):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    optimizer.zero_grad()
    for tokens in batches:
        loss = loss_of(model, tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses += [loss.item()]
    return losses, measured(model, validation)


@right
def without_an_optimizer(model, batches, validation, lr=0.1):
    losses = []
    for tokens in batches:
        loss = loss_of(model, tokens)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr * gradient
        losses.append(loss.item())
    with torch.inference_mode():
        model.eval()
        loss = loss_of(model, validation).item()
    model.train()
    return losses, loss


@wrong()
def losses_after_each_step(model, batches, validation, lr=0.1):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    for tokens in batches:
        optimizer.zero_grad()
        loss_of(model, tokens).backward()
        optimizer.step()
        losses.append(loss_of(model, tokens).item())
    return losses, measured(model, validation)


@wrong()
def with_momentum(model, batches, validation, lr=0.1):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9), []
    for tokens in batches:
        optimizer.zero_grad()
        loss = loss_of(model, tokens)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, measured(model, validation)


@wrong()
def clipped(model, batches, validation, lr=0.1):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    for tokens in batches:
        optimizer.zero_grad()
        loss = loss_of(model, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return losses, measured(model, validation)
