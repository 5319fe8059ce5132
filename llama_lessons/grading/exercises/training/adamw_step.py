"""Exercise 3: one step of AdamW, by hand."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, draw, exact, expect_close, expect_like, tensor


def adamw_step(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> tuple[Tensor, Tensor, Tensor]:
    beta1, beta2 = betas
    weight = weight * (1 - lr * weight_decay)
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    m = mean / (1 - beta1**step)
    v = square / (1 - beta2**step)
    weight = weight - lr * m / (v.sqrt() + eps)
    return weight, mean, square


def given(step: int = 3, seed: int = 0, lr: float = 0.1, **more) -> tuple:
    """A weight in the middle of a training: what a step is called with."""
    settings = {"betas": (0.8, 0.9), "eps": 1e-8, "weight_decay": 0.1} | more
    weight, gradient, mean, square = (draw(4, 3, seed=seed * 10 + i) for i in range(4))
    return weight, gradient, mean * 0.3, square.square() * 0.2, step, lr, *settings.values()


def cases() -> list[tuple]:
    """First and later steps, decay alone, large and small gradients, a large eps, other betas."""
    first = given(step=1, seed=5)
    zeros = torch.zeros_like(first[0])
    at_first = [
        (first[0], first[1] * size, zeros, zeros, 1, 0.1, (0.8, 0.9), 1e-8, decay)
        for size, decay in ((1, 0.0), (50, 0.5))
    ]
    return [
        given(),
        *at_first,
        given(step=1, seed=1),
        given(step=10, seed=2, lr=0.5, weight_decay=0.9),
        given(step=1000, seed=3, weight_decay=0.0),
        given(step=2, seed=4, eps=0.3),
        (first[0], first[1] * 1e-8, zeros, zeros, 1, 0.1, (0.8, 0.9), 1e-8, 0.1),
        given(step=4, seed=6, betas=(0.0, 0.9), weight_decay=0.0),
        given(step=4, seed=7, betas=(0.9, 0.0), eps=0.1),
        (first[0], zeros, zeros, zeros, 1, 0.5, (0.8, 0.9), 1e-8, 0.4),
    ]


exercise = Exercise(
    adamw_step,
    points=5,
    minutes=12,
    cases=cases,
    returns=(Tensor, Tensor, Tensor),
    hints=(
        "Four things in turn: the decay, the two running means, their correction, the step. The decay and the step "
        "change the weight; the correction does not change the running means that are kept.",
        "At step 1 the running mean is (1 - beta1) times the gradient, since it began at 0. By what do you divide to "
        "get the gradient back? At step t by the same with beta1 to the power of t.",
    ),
)


def by_torch(args: tuple) -> Tensor:
    """The weight after the step, as torch.optim.AdamW makes it, in float64."""
    weight, gradient, mean, square, step, lr, betas, eps, weight_decay = args
    parameter = torch.nn.Parameter(exact(weight).clone())
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=False)
    optimizer.state[parameter] = {
        "step": torch.tensor(float(step - 1)),
        "exp_avg": exact(mean).clone(),
        "exp_avg_sq": exact(square).clone(),
    }
    parameter.grad = exact(gradient)
    optimizer.step()
    return parameter.detach()


def in_words(args: tuple) -> str:
    _, _, _, _, step, lr, betas, eps, weight_decay = args
    return f"step {step}, lr {lr}, betas {betas}, eps {eps}, weight_decay {weight_decay}"


@exercise.property("three new tensors, shaped like the weight")
def shapes(answer: Callable) -> None:
    args = given()
    before = [x.clone() for x in args[:4]]
    results = answer(*args)
    for name, result in zip(("the weight", "the mean", "the square"), results, strict=True):
        expect_like(result, shape=(4, 3), dtype=torch.float32, where=name)
    for name, old, x in zip(("weight", "gradient", "mean", "square"), before, args, strict=False):
        if not torch.equal(old, x):
            raise Mismatch(f"{name} was changed in place: return new tensors")


@exercise.property("the first step is lr, whatever size the gradient has")
def first_step(answer: Callable) -> None:
    weight, zeros = tensor([1.0, 1.0, 1.0, 1.0]), torch.zeros_like(tensor([0.0] * 4))
    gradient = tensor([1000.0, 0.001, -5.0, -1e-4])
    got, _, _ = answer(weight, gradient, zeros, zeros, 1, 0.1, (0.9, 0.95), 1e-12, 0.0)
    expect_close(got, torch.tensor([0.9, 0.9, 1.1, 1.1]), where="gradients 1000, 0.001, -5, -0.0001, lr 0.1, no decay")


@exercise.property("with a gradient of 0, the weight shrinks by lr * weight_decay of itself")
def decay_alone(answer: Callable) -> None:
    weight = draw(5, 2)
    zeros = torch.zeros_like(weight)
    for lr, weight_decay in ((0.5, 0.4), (0.1, 0.0), (0.25, 1.0)):
        got, _, _ = answer(weight, zeros, zeros, zeros, 1, lr, (0.9, 0.95), 1e-8, weight_decay)
        where = f"lr {lr}, weight_decay {weight_decay}"
        expect_close(got, exact(weight) * (1 - lr * weight_decay), where=where)
        got, _, _ = answer(weight[0], *[zeros[0]] * 3, 1, lr, (0.9, 0.95), 1e-8, weight_decay)
        expect_close(got, exact(weight[0]) * (1 - lr * weight_decay), where=f"a weight of one axis, {where}")


@exercise.property("the running means: beta of the old, 1 - beta of the new")
def running_means(answer: Callable) -> None:
    for args in (given(), given(step=1, seed=1), given(step=9, seed=2, betas=(0.5, 0.99))):
        gradient, mean, square = (exact(x) for x in args[1:4])
        beta1, beta2 = args[6]
        _, got_mean, got_square = answer(*args)
        expect_close(got_mean, beta1 * mean + (1 - beta1) * gradient, where=f"the mean, {in_words(args)}")
        expect_close(got_square, beta2 * square + (1 - beta2) * gradient**2, where=f"the square, {in_words(args)}")


@exercise.property("the weight is that of torch.optim.AdamW")
def as_torch(answer: Callable) -> None:
    for args in (case for case in cases() if case[1].any()):
        expect_close(answer(*args)[0], by_torch(args), where=in_words(args))
    weight, gradient, *more = given(step=5, seed=8)
    args = (weight, torch.zeros_like(gradient), *more)
    expect_close(answer(*args)[0], by_torch(args), where=f"a gradient of 0 after others, {in_words(args)}")


@exercise.property("five steps in a row end where torch.optim.AdamW ends")
def five_steps(answer: Callable) -> None:
    weight = draw(3, 4, seed=40)
    parameter = torch.nn.Parameter(exact(weight).clone())
    optimizer = torch.optim.AdamW([parameter], lr=0.05, betas=(0.9, 0.95), weight_decay=0.1, foreach=False)
    mean = square = torch.zeros_like(weight)
    for step in range(1, 6):
        gradient = draw(3, 4, seed=40 + step)
        gradient[:, 0] *= 1e-8  # where eps shows
        weight, mean, square = answer(weight, gradient, mean, square, step, 0.05)
        parameter.grad = exact(gradient)
        optimizer.step()
        expect_close(weight, parameter, where=f"after step {step}, lr 0.05, all else as by default")


exercise.slips("""
    decay in the gradient: weight = weight * (1 - lr * weight_decay) -> gradient = gradient + weight_decay * weight
        You add the decay to the gradient: that is Adam with L2. There it is divided by the gradient's size like
        everything else. AdamW shrinks the weight itself, beside the step.
    decay without lr: (1 - lr * weight_decay) -> (1 - weight_decay)
        You shrink by weight_decay. It is lr * weight_decay, so that the decay follows the schedule.
    decay with the wrong sign: (1 - lr * weight_decay) -> (1 + lr * weight_decay)
        Your decay makes weights larger.
    no decay: weight = weight * (1 - lr * weight_decay) -> weight = weight * 1
        The decay is missing: the weight shrinks by lr * weight_decay of itself.
    no correction: m = mean / (1 - beta1**step) -> m, step = mean, 10**9
        The running means begin at 0, and yours are not corrected for it: the first steps have another size. Divide by
        1 - beta ** step.
    only the mean corrected: v = square / (1 - beta2**step) -> v = square
        You correct the mean, and not the square.
    only the square corrected: m = mean / (1 - beta1**step) -> m = mean
        You correct the square, and not the mean.
    the correction with step times beta: (1 - beta1**step) -> (1 - beta1 * step)
        You correct with beta1 * step. It is beta1 to the power of step.
    counted from 0: m = mean / -> step = step + 1; m = mean /
        Your correction is that of the next step. The first step has step 1.
    corrected by one step less: m = mean / -> step = max(step - 1, 0.5); m = mean /
        Your correction is that of the step before. The first step has step 1.
    the betas exchanged: beta1, beta2 = betas -> beta2, beta1 = betas
        You have exchanged the betas: the first is for the mean, the second for the square.
    one beta for both: beta1, beta2 = betas -> beta1 = beta2 = betas[0]
        You use the first beta for both running means.
    the shares exchanged, mean: beta1 * mean + (1 - beta1) * gradient -> (1 - beta1) * mean + beta1 * gradient
        In the mean, beta is the share of the old and 1 - beta that of the new: yours are exchanged.
    the shares exchanged, square: beta2 * square + (1 - beta2) * -> (1 - beta2) * square + beta2 *
        In the square, beta is the share of the old and 1 - beta that of the new: yours are exchanged.
    momentum that adds up: (1 - beta1) * gradient -> gradient
        You add the whole gradient, as SGD's momentum does. In Adam it is 1 - beta1 of it: a running mean.
    the square not squared: (1 - beta2) * gradient**2 -> (1 - beta2) * gradient
        The second running mean is that of the squared gradient.
    the square of the mean: gradient**2 -> mean**2
        You average the square of the mean. It is the square of the gradient itself.
    the variance: v = square / (1 - beta2**step) -> v = (square / (1 - beta2**step) - m**2).clamp_min(0)
        You take the mean's square away, which leaves a variance. Adam divides by the root of the mean square.
    no root: v.sqrt() + eps -> v + eps
        You divide by the mean square. Divide by its root, which has the gradient's own size.
    eps inside the root: (v.sqrt() + eps) -> (v + eps).sqrt()
        You add eps inside the root. It is added to the root.
    eps before the correction: lr * m / (v.sqrt() + eps) -> lr * m / (square.sqrt() + eps) * (1 - beta2**step) ** 0.5
        You add eps before the square is corrected. It is added to the root of the corrected one.
    no eps: (v.sqrt() + eps) -> v.sqrt().clamp_min(1e-30)
        eps is missing: it is added to the root.
    up the hill: weight - lr * m -> weight + lr * m
        You step in the direction of the gradient, in which the loss grows. Subtract.
    no mean: weight - lr * m / -> weight - lr * gradient /
        You step along this step's gradient. AdamW steps along the running mean.
    no division: lr * m / (v.sqrt() + eps) -> lr * m
        You step by the mean gradient, as SGD with momentum does. AdamW divides it by the root of the mean square.
    corrected means are kept: return weight, mean, square -> return weight, m, v
        You return the corrected running means. Kept are those without the correction, or they would be corrected again
        at every step.
    another order: return weight, mean, square -> return weight, square, mean
        You return the square before the mean. The order is weight, mean, square.
    the step alone: return weight, mean, square -> return lr * m / (v.sqrt() + eps), mean, square
        You return the step. The weight after it is asked for.
    the default lr decay: lr * weight_decay) -> lr * 0.1)
        You decay by 0.1, whatever weight_decay is.
    default betas: beta1, beta2 = betas -> beta1, beta2 = 0.9, 0.95
        Your betas are the default ones, whatever betas is.
    torch's own betas: beta1, beta2 = betas -> beta1, beta2 = 0.9, 0.999
        Your betas are 0.9 and 0.999, which torch takes by default. Use the argument.
    the default eps: v.sqrt() + eps -> v.sqrt() + 1e-8
        Your eps is 1e-8, whatever eps is.
""")


@exercise.misconception
def decay_after_the_step(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    """You shrink the weight after the step, so that the step is decayed as well. torch's AdamW does so before it."""
    weight, mean, square = adamw_step(weight, gradient, mean, square, step, lr, betas, eps, 0.0)
    return weight * (1 - lr * weight_decay), mean, square


@exercise.misconception
def the_running_means_as_they_came(weight, gradient, mean, square, *settings):
    """You return the running means as they came in. Return the new ones."""
    return adamw_step(weight, gradient, mean, square, *settings)[0], mean + 0, square + 0


@exercise.misconception
def written_into_the_inputs(weight, gradient, mean, square, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1):
    """The numbers are right, but the tensors that came in are changed. Return new ones, and leave those as they are:
    +=, -=, *=, /= and what ends in an underscore change a tensor in place.
    """
    results = adamw_step(weight, gradient, mean, square, step, lr, betas, eps, weight_decay)
    return tuple(x.copy_(new) for x, new in zip((weight, mean, square), results, strict=True))
