"""Other answers to adamw_step."""

import torch

from tests.grading.answers import right, wrong


@right
def with_torch(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    parameter = torch.nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    state = {"step": torch.tensor(step - 1.0), "exp_avg": mean.clone(), "exp_avg_sq": square.clone()}
    optimizer.state[parameter] = state
    optimizer.step()
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


@right
def with_lerp(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    mean = torch.lerp(mean, gradient, 1 - betas[0])
    square = torch.lerp(square, gradient.square(), 1 - betas[1])
    corrected = (square / (1 - betas[1] ** step)).sqrt().add(eps)
    update = mean.div(1 - betas[0] ** step).div(corrected).add(weight, alpha=weight_decay)
    return weight.sub(update, alpha=lr), mean, square


@right
def in_place_on_copies(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    weight, mean, square = weight.clone(), mean.clone(), square.clone()
    weight.mul_(1 - lr * weight_decay)
    mean.mul_(betas[0]).add_(gradient, alpha=1 - betas[0])
    square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    denominator = (square.sqrt() / (1 - betas[1] ** step) ** 0.5).add_(eps)
    weight.addcdiv_(mean, denominator, value=-lr / (1 - betas[0] ** step))
    return weight, mean, square


@right
def all_in_two_lines(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    (a, b), m, v = betas, mean * betas[0] + gradient * (1 - betas[0]), square * betas[1] + gradient**2 * (1 - betas[1])
    return weight - lr * (weight_decay * weight + m / (1 - a**step) / ((v / (1 - b**step)) ** 0.5 + eps)), m, v


@wrong()
def amsgrad(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    """The square never falls."""
    new, m, v = all_in_two_lines(weight, gradient, mean, square, step, lr, betas, eps, weight_decay)
    v = torch.maximum(v, square)
    return new, m, v


@wrong()
def nadam(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    _, m, v = all_in_two_lines(weight, gradient, mean, square, step, lr, betas, eps, weight_decay)
    ahead = betas[0] * m / (1 - betas[0] ** (step + 1)) + (1 - betas[0]) * gradient / (1 - betas[0] ** step)
    root = (v / (1 - betas[1] ** step)).sqrt() + eps
    return weight * (1 - lr * weight_decay) - lr * ahead / root, m, v


@wrong()
def sign_descent(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    """What the first step looks like, in every step."""
    _, m, v = all_in_two_lines(weight, gradient, mean, square, step, lr, betas, eps, weight_decay)
    return weight * (1 - lr * weight_decay) - lr * m.sign(), m, v


@wrong()
def one_square_for_the_tensor(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    _, m, v = all_in_two_lines(weight, gradient, mean, square, step, lr, betas, eps, weight_decay)
    root = (v / (1 - betas[1] ** step)).mean().sqrt() + eps
    return weight * (1 - lr * weight_decay) - lr * m / (1 - betas[0] ** step) / root, m, v
