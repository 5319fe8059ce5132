"""Exercise 3: RMSNorm as a module."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from llama_lessons import norms

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, draw, exact_rms_norm

__all__ = ["RMSNorm"]


def cases() -> list[tuple]:
    return [
        (draw(2, 3, 8, seed=1).requires_grad_(), draw(8, seed=2), 1e-5),
        (draw(3, 5, seed=3) / 50, draw(5, seed=4), 0.1),
        (draw(2, 6, seed=5) / 500, draw(6, seed=6), None),
        (draw(4, 4, seed=7), draw(4, seed=8), 1e-6),
        (draw(2, 3, 16, seed=9, dtype=torch.bfloat16), draw(16, seed=10), 1e-5),
    ]


def reached_by_gradient(result: Any, parameters: dict[str, Tensor]) -> list[str]:
    """Names of the parameters that learn something from the result."""
    if not (parameters and isinstance(result, Tensor) and result.requires_grad):
        return []
    found = torch.autograd.grad(result.sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
    return [name for name, gradient in zip(parameters, found, strict=True) if gradient is not None]


def use(answer: Callable) -> Callable:
    """Make a module and read x twice: as it starts, and with the gains given.

    And say which parameters it would learn, what it would save, and which parameters a gradient reaches.
    """

    def run(x: Tensor, gains: Tensor, eps: float | None) -> tuple[Tensor, Tensor, str, str, str]:
        module = answer(x.shape[-1]) if eps is None else answer(x.shape[-1], eps)
        module.to(x.device)
        at_start = module(x)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.shape == gains.shape:
                    parameter.copy_(gains)
        result = module(x)
        to_learn = {name: p for name, p in module.named_parameters() if p.requires_grad}
        learned = ", ".join(sorted(f"{name} {tuple(p.shape)}" for name, p in to_learn.items()))
        saved = ", ".join(sorted(module.state_dict()))
        reached = ", ".join(sorted(reached_by_gradient(result, to_learn)))
        return at_start, result, learned or "nothing", saved or "nothing", reached or "nothing"

    return run


RMSNorm = Exercise(
    name="RMSNorm",
    lesson=LESSON,
    points=3,
    minutes=6,
    parameters=("dim", "eps"),
    reference=norms.RMSNorm,
    cases=cases,
    returns=(Tensor, Tensor, str, str, str),
    using=use,
    hints=(
        "__init__ begins with super().__init__(), then keeps what forward will need: eps, and the gains.",
        "A plain tensor is neither learned nor saved. nn.Parameter makes one that is. At the start a norm should only "
        "normalise: which number leaves a channel as it is when you multiply by it?",
    ),
)


@RMSNorm.property("at the start it normalises and does no more")
def _(answer: Callable) -> None:
    for shape in ((8,), (3, 1), (2, 3, 16)):
        x, gains = draw(*shape) * 3, torch.ones(shape[-1])
        at_start, *_ = answer(x, draw(shape[-1], seed=1), 1e-5)
        expect_close(at_start, exact_rms_norm(x, gains, 1e-5), where=f"a new RMSNorm, x of shape {shape}")


@RMSNorm.property("it learns one gain a channel, called weight, and nothing else")
def _(answer: Callable) -> None:
    for dim in (4, 7):
        *_, learned, saved, _ = answer(draw(2, dim), draw(dim, seed=1), 1e-5)
        if learned != f"weight ({dim},)":
            raise Mismatch(f"dim {dim}: expected it to learn weight ({dim},), but it learns {learned}")
        if saved != "weight":
            raise Mismatch(f"expected its state_dict to hold weight, but it holds {saved}")


@RMSNorm.property("it scales each channel by its gain")
def _(answer: Callable) -> None:
    for seed, shape in enumerate(((8,), (5, 6), (2, 3, 16))):
        x, gains = draw(*shape, seed=seed), draw(shape[-1], seed=seed + 20)
        _, got, *_ = answer(x, gains, 1e-5)
        expect_close(got, exact_rms_norm(x, gains, 1e-5), where=f"gains changed, x of shape {shape}")


@RMSNorm.property("it uses its eps, which is 1e-5 where none is given")
def _(answer: Callable) -> None:
    x, gains = draw(3, 8) / 500, draw(8, seed=1)
    for eps in (1e-6, 0.1, None):
        want = exact_rms_norm(x, gains, 1e-5 if eps is None else eps)
        where = "small numbers, eps left out" if eps is None else f"small numbers, eps {eps:g}"
        expect_close(answer(x, gains, eps)[1], want, where=where)


@RMSNorm.property("half precision comes in and goes out")
def _(answer: Callable) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        x = draw(2, 3, 8, dtype=dtype) * 100
        at_start, got, *_ = answer(x, draw(8, seed=1), 1e-5)
        for result in (at_start, got):
            expect_like(result, shape=(2, 3, 8), dtype=dtype, where=f"x in {str(dtype)[6:]}, gains in float32")
        want = exact_rms_norm(x, torch.ones(8), 1e-5)
        expect_close(at_start, want, where=f"{str(dtype)[6:]} numbers near 100", rtol=1e-2, atol=1e-3)


@RMSNorm.property("gradients reach its gains")
def _(answer: Callable) -> None:
    *_, reached = answer(draw(2, 3, 8), draw(8, seed=1), 1e-5)
    if reached != "weight":
        raise Mismatch(f"expected a gradient to reach weight, but it reaches {reached}")


@RMSNorm.property("gradients reach its input")
def _(answer: Callable) -> None:
    x = draw(2, 3, 8).requires_grad_()
    _, got, *_ = answer(x, draw(8, seed=1), 1e-5)
    if not got.requires_grad:
        raise Mismatch("the result is expected to carry gradients back to x, but it is cut off from it")
    (gradient,) = torch.autograd.grad(got.sum(), x, allow_unused=True)
    if gradient is None:
        raise Mismatch("the result is expected to carry gradients back to x, but it does not depend on it")
    (want,) = torch.autograd.grad(exact_rms_norm(x, draw(8, seed=1), 1e-5).sum(), x)
    expect_close(gradient, want, where="gradient of x", rtol=1e-4)


class Wrong(nn.Module):
    """Right in all that the mistakes below leave alone."""

    start: Any = staticmethod(torch.ones)

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.keep(self.start(dim))

    def keep(self, gains: Tensor) -> None:
        self.weight = nn.Parameter(gains)

    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, self.weight, self.eps)


@RMSNorm.misconception(
    "the gains are a plain tensor",
    "Your gains are not a parameter: an optimizer does not see them, and they are not saved. Wrap them in "
    "nn.Parameter.",
)
class _(Wrong):
    def keep(self, gains: Tensor) -> None:
        self.weight = gains


@RMSNorm.misconception(
    "the gains are a buffer",
    "Your gains are saved with the model, but no optimizer changes a buffer. Wrap them in nn.Parameter.",
)
class _(Wrong):
    def keep(self, gains: Tensor) -> None:
        self.register_buffer("weight", gains)


@RMSNorm.misconception(
    "the gains do not ask for a gradient",
    "Your gains are a parameter with requires_grad=False, so no optimizer changes them. Leave that out.",
)
class _(Wrong):
    def keep(self, gains: Tensor) -> None:
        self.weight = nn.Parameter(gains, requires_grad=False)


@RMSNorm.misconception(
    "the gains are cut off from the gradient",
    "Your gains are a parameter, but forward uses them through .data, .detach() or a copy, so no gradient reaches them "
    "and they never learn. Use self.weight itself.",
)
class _(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, self.weight.detach(), self.eps)


@RMSNorm.misconception(
    "no gradients at all",
    "forward is cut off from the gradient (no_grad, .detach() or .data): nothing reaches the gains, nor anything below "
    "this norm.",
)
class _(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


@RMSNorm.misconception(
    "gains start at 0",
    "Your gains start at 0, so at the start nothing comes out, and no gradient gets past. They start at 1.",
)
class _(Wrong):
    start = staticmethod(torch.zeros)


@RMSNorm.misconception(
    "gains start at random",
    "Your gains start as random numbers. Those are for matrices; a norm starts with gains of 1, so that it only "
    "normalises.",
)
class _(Wrong):
    start = staticmethod(torch.randn)


@RMSNorm.misconception(
    "one gain for all channels",
    "You learn a single number. Each channel has a gain of its own: dim of them.",
)
class _(Wrong):
    start = staticmethod(lambda dim: torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, self.weight.expand(x.shape[-1]), self.eps)


@RMSNorm.misconception(
    "a gain without an axis",
    "You learn a single number. Each channel has a gain of its own: dim of them.",
)
class _(Wrong):
    start = staticmethod(lambda dim: torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, self.weight.expand(x.shape[-1]), self.eps)


@RMSNorm.misconception(
    "eps is learned",
    "Your eps is a parameter, so an optimizer changes it, even to below 0. It is a constant: self.eps = eps.",
)
class _(Wrong):
    def keep(self, gains: Tensor) -> None:
        self.weight, self.eps = nn.Parameter(gains), nn.Parameter(torch.tensor(vars(self).pop("eps")))


@RMSNorm.misconception(
    "eps is saved",
    "Your eps is a buffer, so it is saved beside the gains, and pretrained weights, which hold none, would not fit. "
    "Keep a plain number: self.eps = eps.",
)
class _(Wrong):
    def keep(self, gains: Tensor) -> None:
        self.weight = nn.Parameter(gains)
        self.register_buffer("eps", torch.tensor(vars(self).pop("eps")))


@RMSNorm.misconception(
    "the gains have another name",
    "It does its work, but the gains are not called weight. Pretrained models are loaded by name, and theirs would "
    "find no place.",
)
class _(Wrong):
    def keep(self, gains: Tensor) -> None:
        self.gains = nn.Parameter(gains)

    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, self.gains, self.eps)


@RMSNorm.misconception(
    "eps not kept",
    "It takes eps and then uses 1e-5 whatever it was. Keep it: self.eps.",
)
class _(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, self.weight, 1e-5)


@RMSNorm.misconception(
    "eps is 1e-6 by itself",
    "Where no eps is given, yours is 1e-6, as in the first Llama. Here it is 1e-5.",
)
class _(Wrong):
    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps)


@RMSNorm.misconception(
    "a bias too",
    "It learns a bias beside the gains, as LayerNorm does. RMSNorm has none.",
)
class _(Wrong):
    def keep(self, gains: Tensor) -> None:
        self.weight, self.bias = nn.Parameter(gains), nn.Parameter(torch.zeros_like(gains))

    def forward(self, x: Tensor) -> Tensor:
        return (norms.rms_norm(x, self.weight, self.eps) + self.bias).to(x.dtype)


@RMSNorm.misconception(
    "normalises its parameters",
    "It normalises the gains themselves. A norm normalises what it reads, the vectors of the tokens; its parameters "
    "are left as they were learned.",
)
class _(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, norms.rms_norm(self.weight, torch.ones_like(self.weight), 0.0), self.eps)


@RMSNorm.misconception(
    "LayerNorm",
    "It takes the mean away first: that is LayerNorm without bias.",
)
class _(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return norms.layer_norm(x, self.weight, torch.zeros_like(self.weight), self.eps)


@RMSNorm.misconception(
    "the gains are never used",
    "It normalises, but forward does not multiply by the gains: they get no gradient, and never learn.",
)
class _(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, torch.ones_like(self.weight), self.eps)


@RMSNorm.misconception(
    "float32 goes out",
    "With gains in float32, half precision comes in and float32 goes out: cast the result back with .to(x.dtype).",
)
class _(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x.to(torch.promote_types(x.dtype, torch.float32)), self.weight, self.eps)


@RMSNorm.alternative
class _(nn.RMSNorm):
    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__(dim, eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


@RMSNorm.alternative
class _(nn.Module):
    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim).fill_(1.0))
        self.norm = partial(norms.rms_norm, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.norm.keywords["eps"]) * self.weight).type_as(x)
