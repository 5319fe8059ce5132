"""Lesson 10. AdamW by hand: the formula of torch's optimizer, which `training` uses since it is faster.

Each weight moves by about the learning rate, however large its gradients are: what counts is how their mean compares
with their size. Decay pulls weights towards 0 beside it.

Not done here: AMSGrad, and steps in place.

Sources: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization"; Loshchilov and Hutter 2019, "Decoupled
Weight Decay Regularization".
"""

from torch import Tensor

__all__ = ["adamw_step"]


def adamw_step(
    parameter: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of AdamW (Loshchilov and Hutter, algorithm 2), as torch.optim.AdamW computes it.

    m = beta1 m + (1 - beta1) g
    v = beta2 v + (1 - beta2) g^2
    w = w - lr weight_decay w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        parameter: w, of any shape; those of gradient (g), exp_avg (m) and exp_avg_sq (v) are the same.
        step: t, counted from 1. m and v begin at 0, and what that makes too small is divided out.

    Returns:
        New parameter, exp_avg and exp_avg_sq; nothing is changed in place.

    Raises:
        ValueError: if step is less than 1.
    """
    if step < 1:
        raise ValueError(f"step ({step}) must be at least 1: the first one divides by 1 - beta")
    beta1, beta2 = betas
    exp_avg = beta1 * exp_avg + (1 - beta1) * gradient
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * gradient**2
    mean = exp_avg / (1 - beta1**step)
    mean_sq = exp_avg_sq / (1 - beta2**step)
    # Were decay a part of the gradient (Adam with L2), the division would weaken it where gradients are large.
    parameter = parameter - lr * weight_decay * parameter
    return parameter - lr * mean / (mean_sq.sqrt() + eps), exp_avg, exp_avg_sq
