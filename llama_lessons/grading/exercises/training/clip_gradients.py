"""Exercise 6: gradients whose norm together is too large are scaled down."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import Mismatch, draw, exact, expect_close, expect_number, tensor


def clip_gradients(parameters: list[nn.Parameter], max_norm: float) -> float:
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares = sum(g.square().sum().item() for g in gradients)
    norm = math.sqrt(squares)
    if norm > max_norm:
        for g in gradients:
            g *= max_norm / norm
    return norm


def clips(answer: Callable) -> Callable:
    """Make of an answer the function that gives the norm, and all gradients behind one another after it."""

    def run(gradients: tuple, max_norm: float) -> tuple[float, Tensor]:
        parameters = [nn.Parameter(torch.ones(g) if isinstance(g, int) else torch.ones_like(g)) for g in gradients]
        for parameter, g in zip(parameters, gradients, strict=True):
            parameter.grad = None if isinstance(g, int) else g.detach().clone()
        norm = answer(parameters, max_norm)
        if any(not torch.equal(parameter, torch.ones_like(parameter)) for parameter in parameters):
            raise Mismatch("a parameter itself was changed. Only its .grad is to be scaled")
        for parameter, g in zip(parameters, gradients, strict=True):
            if isinstance(g, int) != (parameter.grad is None):
                raise Mismatch("a .grad that was None is to stay None, and no other is to become None")
        after = [parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]
        return norm, torch.cat(after)

    return run


def given(*sizes: float, seed: int = 0, shapes: tuple = ((3, 4), (5,), (2, 2, 2))) -> tuple[Tensor, ...]:
    return tuple(size * draw(*shape, seed=seed + i) for i, (size, shape) in enumerate(zip(sizes, shapes, strict=False)))


ASKED = [
    (given(1.0, 1.0, 1.0), 1.0),
    (given(1.0, 30.0, 0.01, seed=10), 1.0),
    (given(0.01, 0.02, seed=20), 1.0),
    (given(1.0, seed=30), 0.1),
    (given(1.0, 2.0, 3.0, seed=40), 5.0),
    (given(1.0, 1.0, seed=50), 100.0),
    (given(1e5, 1.0, seed=80), 1.0),
    ((given(1.0, seed=81)[0].t(), given(2.0, seed=82, shapes=((),))[0]), 0.5),
    ((tensor([3.0]), tensor([4.0])), 4.98),
]


def cases() -> list[tuple]:
    """Above and below the limit, one parameter, sizes far apart, parameters without a gradient."""
    return [*ASKED, ((3, *given(2.0, 1.0, seed=60)), 0.5), ((*given(2.0, 1.0, seed=70), 4), 2.5)]


exercise = Exercise(
    clip_gradients,
    points=3,
    minutes=8,
    cases=cases,
    returns=(float, Tensor),
    using=clips,
    hints=(
        "Put all gradients behind one another in your mind: one long vector. Its norm is the root of the sum of all "
        "squares. Which number do you multiply by, so that it becomes max_norm?",
        "parameter.grad may be None: then there is nothing to scale. To change the others in place, use *= or .mul_().",
    ),
)


def joint(gradients: tuple) -> Tensor:
    return torch.cat([exact(g).flatten() for g in gradients if isinstance(g, Tensor)])


@exercise.property("returns the norm of all gradients together, as it was before")
def returns_norm(answer: Callable) -> None:
    three_four = (draw(1) * 0 + 3.0, draw(1) * 0 + 4.0)
    expect_number(answer(three_four, 1.0)[0], 5.0, where="two gradients, 3 and 4", rtol=1e-5)
    for gradients, max_norm in ASKED:
        want = joint(gradients).norm().item()
        got, _ = answer(gradients, max_norm)
        expect_number(got, want, where=f"{len(gradients)} gradients, max_norm {max_norm}", rtol=1e-5)


@exercise.property("above max_norm, all are scaled by the same factor, to a norm of max_norm")
def scaled_together(answer: Callable) -> None:
    for gradients, max_norm in ASKED:
        whole = joint(gradients)
        if whole.norm() > max_norm:
            want = whole * max_norm / whole.norm()
            where = f"gradients of norm {whole.norm():.3g} together, max_norm {max_norm}"
            expect_close(answer(gradients, max_norm)[1], want, where=where)


@exercise.property("below max_norm, nothing is changed")
def left_alone(answer: Callable) -> None:
    for gradients, max_norm in ASKED:
        whole = joint(gradients)
        if whole.norm() <= max_norm:
            where = f"gradients of norm {whole.norm():.3g} together, max_norm {max_norm}"
            expect_close(answer(gradients, max_norm)[1], whole, where=where)


@exercise.property("parameters without a gradient are passed over")
def without_gradient(answer: Callable) -> None:
    for gradients, max_norm in cases()[len(ASKED) :]:
        whole = joint(gradients)
        norm, after = answer(gradients, max_norm)
        expect_number(norm, whole.norm().item(), where="one parameter has no gradient", rtol=1e-5)
        expect_close(after, whole * min(1.0, max_norm / whole.norm().item()), where="one parameter has no gradient")


exercise.slips("""
    enlarged too: if norm > max_norm: -> if norm > 0:
        You scale small gradients up to max_norm as well. Only what is larger is scaled down.
    only the small ones: if norm > max_norm: -> if norm < max_norm:
        You scale up what is below max_norm, and leave alone what is above.
    never: if norm > max_norm: -> if norm < 0:
        Nothing is scaled. Change the gradients in place: a new tensor beside parameter.grad changes nothing.
    the norms added up: norm = math.sqrt(squares) -> norm = sum(g.norm().item() for g in gradients)
        You add up the norms of the parameters. Add up the squares, and take the root of their sum.
    no root: math.sqrt(squares) -> squares
        The root is missing: a norm is the root of the sum of squares.
    the largest norm: math.sqrt(squares) -> max(g.norm().item() for g in gradients)
        You take the norm of the one parameter that has the largest. All together are one vector.
    the largest number: math.sqrt(squares) -> max(g.abs().max().item() for g in gradients)
        You take the largest single number for the norm. It is the root of the sum of all squares.
    absolute values: math.sqrt(squares) -> sum(g.abs().sum().item() for g in gradients)
        You add up absolute values. The norm is the root of the sum of squares.
    the root of the mean: math.sqrt(squares) -> math.sqrt(squares / sum(g.numel() for g in gradients))
        You take the root of the mean square. A norm is that of the sum.
    the mean squares: g.square().sum().item() -> g.square().mean().item()
        You add up each parameter's mean square. Add up the sums of squares.
    each by itself: g *= max_norm / norm -> g *= min(1.0, max_norm / g.norm().item())
        You clip each parameter by its own norm, which changes the direction of the step. All are scaled by one factor.
    cut number by number: g *= max_norm / norm -> g.clamp_(-max_norm, max_norm)
        You cut off each number, which changes the direction of the step. All are scaled by one factor.
    scaled to 1: g *= max_norm / norm -> g *= 1.0 / norm
        You scale to a norm of 1, whatever max_norm is.
    the factor upside down: g *= max_norm / norm -> g *= norm / max_norm
        Your factor is upside down: gradients become larger.
    multiplied by max_norm: g *= max_norm / norm -> g *= max_norm
        You multiply by max_norm. The factor is max_norm over the norm.
    the limit taken away: g *= max_norm / norm -> g *= (norm - max_norm) / norm
        You shorten by max_norm. The norm is to become max_norm.
    scaled twice: g *= max_norm / norm -> g *= (max_norm / norm) ** 2
        You multiply by the factor twice.
    the norm after: return norm -> return min(norm, max_norm)
        You return the norm after clipping. The one before is asked for: it is what one watches in training.
    the factor: return norm -> return min(1.0, max_norm / norm)
        You return the factor. The norm before clipping is asked for.
    the squared norm returned: return norm -> return norm**2
        You return the square of the norm.
    the first one alone: for p in parameters if p.grad is not None -> for p in parameters[:1] if p.grad is not None
        You look at the first parameter alone.
    the last one scaled alone: for g in gradients: -> for g in gradients[-1:]:
        You scale the last parameter alone.
    the first one scaled alone: for g in gradients: -> for g in gradients[:1]:
        You scale the first parameter alone.
    None not passed over: for p in parameters if p.grad is not None -> for p in parameters
        A parameter without a gradient ends in an error: its .grad is None. Pass it over.
    the weights scaled: g *= max_norm / norm -> next(p for p in parameters if p.grad is g).data.mul_(max_norm / norm)
        You scale the weights themselves. Only their gradients are to be scaled.
""")


@exercise.misconception
def None_made_zeros(parameters, max_norm):
    """You give zeros to a parameter that has no gradient. Leave its .grad at None."""
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    return clip_gradients(parameters, max_norm)
