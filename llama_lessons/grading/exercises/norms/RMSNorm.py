"""Exercise 3: RMSNorm as a module."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llama_lessons import norms  # noqa: F401  # what the slips below call

from ...exercise import Exercise
from ...expect import (
    HALVES,
    Mismatch,
    at_least_float32,
    draw,
    exact,
    expect_close,
    expect_like,
    expect_type,
    random_tensor,
)
from ...families import float32_out, no_gradient, overwrites
from .common import EVERY_NORM, EVERY_RMS_NORM, SHAPES, exact_rms_norm, inputs


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        weight, eps = self.weight, self.eps
        v = at_least_float32(x)
        mean_square = v.square().mean(dim=-1, keepdim=True)
        return (v / (mean_square + eps).sqrt() * weight).to(x.dtype)


class Seen(NamedTuple):
    """What is seen of a module that reads x as it starts, then with the gains given, and then `others(x)`.

    Numbers are cast to the dtype of what was read, so that they are compared as finely as that allows.
    """

    at_start: Tensor
    scaled: Tensor
    again: Tensor  # of another text, as large as x
    after: Tensor
    dtype: Tensor  # nothing, in the dtype of `scaled` before the cast
    dtype_after: Tensor
    gradient_of_x: Tensor  # in float32; 0 where none arrives
    gradient_of_gains: Tensor
    learned: str  # each parameter's shape and dtype, at the end
    saved: str
    reached: str  # where a gradient arrives


def others(x: Tensor) -> tuple[Tensor, Tensor]:
    """Another text as large as x, and the first token of x alone in another dtype."""
    token = x.detach().reshape(-1, x.shape[-1])[:1]
    return 3 * x.detach().flip(-1), token.to(torch.float32 if x.dtype in HALVES else torch.bfloat16)


def use(answer: Callable) -> Callable[..., Seen]:
    """Make a module, have it read x and something else, and see what it would learn and save."""

    def run(x: Tensor, gains: Tensor, eps: float | None) -> Seen:
        module = answer(x.shape[-1]) if eps is None else answer(x.shape[-1], eps)
        answer(x.shape[-1] + 1, 7.0)  # another one, which the first must not notice
        module.to(x.device)
        at_start = dict(module.named_parameters())

        def read(x: Tensor) -> Tensor:
            expect_type(result := module(x), Tensor, "forward")
            return result

        started = read(x.clone())
        fitting = {name: p for name, p in module.named_parameters() if p.shape == gains.shape}
        with torch.no_grad():
            fitting.get("weight", next(iter(fitting.values()), torch.empty_like(gains))).copy_(gains)
        scaled = read(x.clone())
        text, token = others(x)
        again = read(text.clone())
        module.eval()
        after = read(token.clone())
        to_learn = {name: p for name, p in module.named_parameters() if p.requires_grad}
        learned = listed(f"{known(name)} {tuple(p.shape)} in {str(p.dtype)[6:]}" for name, p in to_learn.items())
        learned += ", made in forward" * ("weight" in to_learn.keys() - at_start.keys())

        def arriving(x: Tensor) -> dict[str, Tensor]:
            leaf = x.detach().clone().requires_grad_()
            leaves = {"x": leaf} | {name: p for name, p in to_learn.items() if name == "weight"}
            return gradients(read(leaf.clone()), leaves)

        reached, arrives = arriving(text), arriving(at_least_float32(x))
        read(x)  # itself, to see whether it is changed
        return Seen(
            started.to(x.dtype),
            scaled.to(x.dtype),
            again.to(x.dtype),
            after.to(token.dtype),
            scaled.new_empty(0),
            after.new_empty(0),
            arrives.get("x", torch.zeros_like(at_least_float32(x))),
            arrives.get("weight", torch.zeros_like(gains)),
            learned,
            listed(map(known, module.state_dict())),
            listed(reached),
        )

    return run


def known(name: str) -> str:
    return name if name == "weight" else "something else"


def listed(things: Iterable[str]) -> str:
    return ", ".join(sorted(things)) or "nothing"


def gradients(result: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """By name of each leaf, the gradient that arrives there."""
    if not result.requires_grad:
        return {}
    upstream = random_tensor(*result.shape, seed=9).to(result)
    try:
        found = torch.autograd.grad((result * upstream).sum(), list(leaves.values()), allow_unused=True)
    except RuntimeError:  # something that they need was changed in place
        return {}
    return {name: gradient for name, gradient in zip(leaves, found, strict=True) if gradient is not None}


def cases() -> list[tuple]:
    made = [(x, draw(x.shape[-1], seed=seed), eps) for seed, (x, eps) in enumerate(inputs(), 20)]
    made.append((draw(2, 6, seed=5) / 500, draw(6, seed=6), None))
    made.append((draw(3, 1, seed=7), draw(1, seed=8), 1e-6))
    return made


exercise = Exercise(
    RMSNorm,
    points=3,
    minutes=6,
    cases=cases,
    returns=(*[Tensor] * 8, str, str, str),
    using=use,
    hints=(
        "__init__ begins with super().__init__(), then keeps what forward will need: eps, and the gains.",
        "A plain tensor is neither learned nor saved. nn.Parameter makes one that is. At the start a norm should only "
        "normalise: which number leaves a channel as it is when you multiply by it?",
    ),
)


@exercise.property("at the start it normalises and does no more")
def normalises_at_the_start(answer: Callable) -> None:
    for shape in (*SHAPES, SHAPES[0]):  # the last one after another module of its size
        x, gains = draw(*shape) * 3, torch.ones(shape[-1])
        seen = Seen(*answer(x, draw(shape[-1], seed=1), 1e-5))
        expect_close(seen.at_start, exact_rms_norm(x, gains, 1e-5), where=f"a new RMSNorm, x of shape {shape}")


@exercise.property("it learns one gain for each channel, called weight, and nothing else")
def learns_gains_alone(answer: Callable) -> None:
    for dim in (4, 7):
        seen = Seen(*answer(draw(2, dim), draw(dim, seed=1), 1e-5))
        if seen.learned != (wanted := f"weight ({dim},) in float32"):
            raise Mismatch(
                f"dim {dim}, after texts were read: expected it to learn {wanted}, but it learns {seen.learned}"
            )
        if seen.saved != "weight":
            raise Mismatch(f"expected its state_dict to hold weight, but it holds {seen.saved}")


@exercise.property("it scales each channel by its gain")
def scales(answer: Callable) -> None:
    for seed, shape in enumerate(SHAPES):
        x, gains = draw(*shape, seed=seed), draw(shape[-1], seed=seed + 20)
        seen = Seen(*answer(x, gains, 1e-5))
        expect_close(seen.scaled, exact_rms_norm(x, gains, 1e-5), where=f"gains changed, x of shape {shape}")


@exercise.property("it uses its eps, which is 1e-5 where none is given")
def uses_eps(answer: Callable) -> None:
    x, gains = draw(3, 8) / 500, draw(8, seed=1)
    for eps in (1e-6, 0.1, None):
        want = exact_rms_norm(x, gains, 1e-5 if eps is None else eps)
        where = "small numbers, eps left out" if eps is None else f"small numbers, eps {eps:g}"
        expect_close(Seen(*answer(x, gains, eps)).scaled, want, where=where)


@exercise.property("half precision comes in and goes out, but is not computed in")
def half_precision(answer: Callable) -> None:
    for dtype, bits in HALVES.items():
        for x in (draw(33, 64, dtype=dtype), draw(4, 64, dtype=dtype) * 1000):
            where = f"x in {str(x.dtype)[6:]}, gains in float32"
            gains = draw(64, seed=1, dtype=torch.bfloat16).float()  # numbers that half precision holds
            seen = Seen(*answer(x, gains, 1e-5))
            expect_like(seen.dtype, shape=(0,), dtype=dtype, where=where)
            for got, weight in ((seen.at_start, torch.ones(64)), (seen.scaled, gains)):
                # Two roundings are forgiven, so that the gain may be applied after the result is rounded.
                expect_close(got, exact_rms_norm(x, weight, 1e-5), where=where, rtol=2.1 * 2.0**-bits, atol=1e-6)


@exercise.property("whatever it has read, in training or not, its gains stay, and the next x is read like the first")
def keeps_nothing(answer: Callable) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x, gains = draw(2, 3, 8, dtype=dtype), draw(8, seed=1)
        seen = Seen(*answer(x, gains, 1e-5))
        before = f"{str(x.dtype)[6:]} of shape (2, 3, 8)"
        if seen.learned != (wanted := "weight (8,) in float32"):
            raise Mismatch(f"after it has read {before}: expected it to hold {wanted}, but it holds {seen.learned}")
        text, token = others(x)
        where = f"a token in another dtype, in eval mode, after {before}"
        expect_like(seen.dtype_after, shape=(0,), dtype=token.dtype, where=where)
        reads = (seen.again, text, f"another text, after {before}"), (seen.after, token, where)
        for got, nxt, which in reads:
            rtol = 1e-5 if nxt.dtype == torch.float32 else 3.1 * 2.0 ** -HALVES[nxt.dtype]
            expect_close(got, exact_rms_norm(nxt, gains, 1e-5), where=which, rtol=rtol)


@exercise.property("gradients reach its gains and its input")
def gradient_values(answer: Callable) -> None:
    for x in (draw(8), draw(2, 3, 8), draw(2, 3, 8, dtype=torch.bfloat16)):
        gains = draw(8, seed=1)
        seen = Seen(*answer(x, gains, 1e-5))
        if seen.reached != "weight, x":
            dtype = str(x.dtype)[6:]
            raise Mismatch(f"x in {dtype}: expected gradients to reach weight and x, but they reach {seen.reached}")
        leaves = {"x": exact(x).requires_grad_(), "weight": exact(gains).requires_grad_()}
        wanted = gradients(exact_rms_norm(**leaves, eps=1e-5), leaves)
        expect_close(seen.gradient_of_x, wanted["x"], where="gradient of x", rtol=1e-4)
        expect_close(seen.gradient_of_gains, wanted["weight"], where="gradient of weight", rtol=1e-4)


float32_out(exercise, "x")
exercise.slips(EVERY_NORM)
exercise.slips(EVERY_RMS_NORM)
exercise.slips("""
    the gains are a plain tensor: nn.Parameter(torch.ones(dim)) -> torch.ones(dim)
        No parameter holds gains: an optimizer finds none to change, and none are saved. Make them an nn.Parameter.
    gains in a buffer: self.weight = nn.Parameter(torch.ones(dim)) -> self.register_buffer("weight", torch.ones(dim))
        Your gains are saved with the model, but no optimizer changes a buffer. Set self.weight to an nn.Parameter.
    the gains do not ask for a gradient: torch.ones(dim) -> torch.ones(dim), requires_grad=False
        Your gains are a parameter with requires_grad=False, so no optimizer changes them. Leave that out.
    the gains are cut off from the gradient: = self.weight, -> = self.weight.detach(),
        Your gains are a parameter, but no gradient arrives there, so that they never learn: something cuts them off,
        such as .data, .detach(), torch.no_grad or a copy. Use self.weight itself.
    no gradients at all: .to(x.dtype) -> .to(x.dtype).detach()
        What forward returns is cut off from the gradient, as by no_grad, .detach() or .data: none reaches gains or x.
    gains start at 0: torch.ones -> torch.zeros
        Your gains start at 0, so at the start nothing comes out, and no gradient gets past. They start at 1.
    gains start at random: torch.ones -> torch.randn
        Your gains start as random numbers. A norm starts with gains of 1, so that it only normalises.
    gains start between 0 and 1: torch.ones -> torch.rand
        Your gains start as random numbers from 0 to 1. A norm starts with gains of 1, so that it only normalises.
    gains kept less 1: ones(dim)) -> zeros(dim)); self.forward = lambda x: norms.rms_norm(x, 1 + self.weight, eps)
        You keep each gain less 1 and begin at 0, as Gemma does. Here the weight is the gain itself, and begins at 1.
    the gains have another name: self.weight = nn.P -> RMSNorm.weight = property(lambda self: self.g); self.g = nn.P
        The numbers are right, but the gains are not called weight (those of a module in self.norm are norm.weight).
        Pretrained models are loaded by name, and theirs would find no place.
    LayerNorm itself: mean_square = v -> self.b = nn.Parameter(weight * 0); v = v - v.mean(-1, True); mean_square = v
        What you have is LayerNorm: it takes each token's mean away, and learns a bias. RMSNorm does neither.
    the root mean square is kept: = v.square().mean( -> = self.__dict__.setdefault(str(x.shape), v.square()).mean(
        Your result is that for the root mean square of an earlier x of the same shape: something that depends on x is
        kept from call to call. Compute it anew for each x.
    refuses several channels: ones(dim)) -> ones(1)); self.forward = lambda x: norms.rms_norm(x, self.weight, eps)
        Where x has more than one channel it is refused, as if you learned a single number. weight has shape (dim,).
    one gain for all channels: torch.ones(dim) -> torch.ones(1)
        You learn a single number. Each channel has a gain of its own: dim of them.
    a gain without an axis: torch.ones(dim) -> torch.ones(())
        You learn a single number. Each channel has a gain of its own: dim of them.
    the gains are recast: v = at -> self.weight.data = self.weight.data.to(x.dtype); v = at
        Reading x changes the dtype of the gains to that of x: after one bfloat16 call a gain of 1.001 is 1, in float32
        calls too. Cast what you compute with, and leave the module's parameters as they are.
    the gains are rounded: v = at -> self.weight.data = self.weight.data.to(x.dtype).float(); v = at
        Reading x in half precision changes the gains: they are float32 again afterwards, but rounded. Cast what you
        compute with, and leave the module's parameters as they are.
    a single number is learned too: self.eps = eps -> self.eps = nn.Parameter(torch.tensor(eps))
        It learns a single number beside the gains. RMSNorm learns gains alone, and eps is a constant: self.eps = eps.
    something else is saved: self.eps = eps -> self.register_buffer("eps", torch.tensor(eps))
        Something beside weight is saved, such as eps in a buffer, or the gains a second time, under another name.
        Pretrained weights, which hold weight alone, would not fit. A plain number, self.eps = eps, is not saved.
    eps of another module: self.eps = eps -> type(self).eps = eps
        Your result is that for the eps of an RMSNorm made later: it is kept where all share it. Keep it in self.
    one parameter too many: torch.ones(dim)) -> torch.ones(dim)); self.bias = nn.Parameter(torch.zeros(dim))
        It has a parameter beside the gains, as LayerNorm has its bias. RMSNorm learns gains alone.
    one parameter too many, and float32 out: return (v / -> self.b = nn.Parameter(weight * 0); return self.b + (v /
        It has a parameter beside the gains, where RMSNorm learns gains alone; and half precision goes out in float32.
    normalises its parameters: = self.weight, -> = self.weight / self.weight.square().mean().sqrt(),
        It normalises the gains themselves. A norm normalises what it reads; its parameters are left as they are.
    half precision, and float32 out: return (v / -> v, x = x, v; mean_square = v.square().mean(-1, True); return (v /
        You compute in the dtype in which x came, or go back to it too early: half precision keeps two to three digits.
        And then float32 goes out. Go to float32 before you square, and back to the dtype in which x came at the end.
""")
no_gradient(exercise, "x", "Nothing below would learn through this norm.")
overwrites(exercise, "x", "The residual stream goes on past the norm.")
