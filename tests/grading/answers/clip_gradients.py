"""Other answers to clip_gradients."""

import torch

from tests.grading.answers import right, wrong


@right
def by_torch(parameters, max_norm):
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm).item()


@right
def behind_one_another(parameters, max_norm):
    whole = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    norm = whole.norm().item()
    factor = min(1.0, max_norm / norm)
    for p in parameters:
        if p.grad is not None:
            p.grad.mul_(factor)
    return norm


@right
def new_gradients(parameters, max_norm):
    having = [p for p in parameters if p.grad is not None]
    norm = sum(p.grad.pow(2).sum() for p in having).sqrt()
    for p in having:
        p.grad = p.grad * (max_norm / norm).clamp(max=1)
    return float(norm)


@right
def the_norm_of_the_norms(parameters, max_norm):
    norms = torch.stack([torch.linalg.vector_norm(p.grad) for p in parameters if p.grad is not None])
    norm = torch.linalg.vector_norm(norms).item()
    for p in parameters:
        if p.grad is not None and norm > max_norm:
            p.grad /= norm / max_norm
    return norm


@wrong()
def clipped_to_half(parameters, max_norm):
    return by_torch(parameters, max_norm / 2)


@wrong()
def the_cube_norm(parameters, max_norm):
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type=3.0).item()


@wrong()
def by_the_number_of_parameters(parameters, max_norm):
    having = [p for p in parameters if p.grad is not None]
    norm = (sum(p.grad.pow(2).sum() for p in having) / len(having)).sqrt().item()
    for p in having:
        p.grad *= min(1.0, max_norm / norm)
    return norm


@wrong()
def set_to_zero(parameters, max_norm):
    """A step that is too large is left out altogether."""
    norm = sum(p.grad.pow(2).sum() for p in parameters if p.grad is not None).sqrt().item()
    for p in parameters:
        if p.grad is not None and norm > max_norm:
            p.grad.zero_()
    return norm
