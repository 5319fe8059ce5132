"""Exercise 2: Llama's feed-forward layer."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, exact, expect_close, expect_gradients, expect_like
from ...families import no_gradient, overwrites

NAMES = ("gate_proj", "up_proj", "down_proj")


class SwiGLU(nn.Module):
    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        opened = F.silu(gate)
        hidden = opened * up
        return self.down_proj(hidden)


def feeds(layer_class: Any) -> Callable[..., Tensor]:
    """Make of a class the function that runs its layer with these weights, after it has read something else."""

    def run(x, gate, up, down):
        hidden_dim, dim = gate.shape
        layer = layer_class(dim, hidden_dim)
        if not isinstance(layer, nn.Module):
            raise Mismatch("SwiGLU is expected to be an nn.Module")
        found = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
        wanted = {f"{name}.weight": tuple(w.shape) for name, w in zip(NAMES, (gate, up, down), strict=True)}
        if found != wanted:
            raise Mismatch(f"parameters: expected {described(wanted)}, got {described(found)}")
        weights = dict(zip(wanted, (gate, up, down), strict=True))
        functional_call(layer, weights, (x.detach().flip(0) * 2,))
        return functional_call(layer, weights, (x,))

    return run


def described(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"


def inputs(shape: tuple[int, ...], hidden_dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple:
    dim = shape[-1]
    sizes = (hidden_dim, dim), (hidden_dim, dim), (dim, hidden_dim)
    weights = (draw(*size, seed=seed + 10 * i) * 2 / size[1] ** 0.5 for i, size in enumerate(sizes, 1))
    return tuple(t.to(dtype) for t in (draw(*shape, seed=seed), *weights))


def expected(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Shazeer's equation 6 in float64, one neuron at a time."""
    x, gate, up, down = map(exact, (x, gate, up, down))
    result = 0
    for g, u, d in zip(gate, up, down.T, strict=True):
        score = x @ g
        result = result + (score / (1 + torch.exp(-score)) * (x @ u))[..., None] * d
    return result


SIZES = [((2, 3, 4), 6), ((5, 8), 8), ((4,), 12), ((1, 2, 6), 1), ((3, 3, 3), 3)]


def cases() -> list[tuple]:
    """Several shapes, a hidden_dim that equals dim, half precision, a gradient."""
    made = [inputs(*size, seed=seed) for seed, size in enumerate(SIZES)]
    made[0] = tuple(x.requires_grad_() for x in made[0])
    return [*made, *(inputs((2, 8), 16, 9, dtype) for dtype in HALVES)]


exercise = Exercise(
    SwiGLU,
    points=4,
    minutes=8,
    cases=cases,
    returns=Tensor,
    using=feeds,
    hints=(
        "Two projections go from dim to hidden_dim, and one comes back. Only one of the first two gets an activation.",
        "What comes out of the gate's activation multiplies what up makes, channel by channel, with no matrix between.",
        "After down there is nothing more: no activation, and no residual connection, which is the block's.",
    ),
)


@exercise.property("x comes back in its shape and dtype")
def shape_and_dtype(answer: Callable) -> None:
    for shape, hidden_dim in SIZES:
        for dtype in (torch.float32, *HALVES):
            where = f"x of shape {shape} in {str(dtype)[6:]}, hidden_dim {hidden_dim}"
            expect_like(answer(*inputs(shape, hidden_dim, 0, dtype)), shape=shape, dtype=dtype, where=where)


@exercise.property("one neuron: a gate of 0 is shut, a large one lets up pass")
def one_neuron(answer: Callable) -> None:
    one = torch.ones(1, 1)
    wanted = ((0.0, 5.0, 0.0), (20.0, 1.0, 20.0), (-20.0, 1.0, 0.0), (20.0, -3.0, -60.0))
    for gate, up, want in (*wanted, (100.0, 2.0, 200.0), (-100.0, 2.0, 0.0)):
        got = answer(*(t.to(draw(1).device) for t in (one, one * gate, one * up, one)))
        where = f"one channel, x 1, gate {gate:g}, up {up:g}, down 1"
        expect_close(got, torch.tensor([[want]]), where=where, atol=1e-4)


@exercise.property("the formula: down(silu(gate(x)) * up(x))")
def formula(answer: Callable) -> None:
    for seed, (shape, hidden_dim) in enumerate(SIZES):
        given = inputs(shape, hidden_dim, seed)
        where = f"x of shape {shape}, hidden_dim {hidden_dim}"
        expect_close(answer(*given), expected(*given), where=where, atol=1e-4)


@exercise.property("the same without gradients, in half precision, in a large batch and for a long text")
def elsewhere(answer: Callable) -> None:
    given = inputs((6, 80, 4), 6, 7)
    with torch.no_grad():
        expect_close(answer(*given), expected(*given), where="x of shape (6, 80, 4), without gradients", atol=1e-4)
        for dtype, bits in HALVES.items():
            given = inputs((2, 5, 8), 16, 8, dtype)
            where, step = f"x in {str(dtype)[6:]}", 2.0**-bits
            expect_close(answer(*given), expected(*given), where=where, rtol=8 * step, atol=16 * step)


@exercise.property("each token by itself")
def each_token(answer: Callable) -> None:
    x, *weights = inputs((2, 4, 6), 10, 4)
    changed = x.clone()
    changed[:, 2] = draw(2, 6, seed=30)
    others = [0, 1, 3]
    where = "tokens 0, 1 and 3, after token 2 was replaced"
    expect_close(answer(changed, *weights)[:, others], answer(x, *weights)[:, others], where=where)


@exercise.property("gradients flow back to x and to all three weights")
def gradients(answer: Callable) -> None:
    names = ("x", *(f"{name}.weight" for name in NAMES))
    expect_gradients(answer, expected, *inputs((2, 3, 4), 6), names=names, atol=1e-3)


exercise.slips("""
    gate and up exchanged: opened = -> gate, up = up, gate; opened =
        gate and up stand in each other's place: the activation belongs to what gate_proj makes. Drawn at random nobody
        sees it; with a checkpoint's weights all is ruined.
    no activation: F.silu(gate) -> gate
        There is no activation: gate times up. The gate goes through SiLU.
    the activation on both: hidden = opened * up -> hidden = opened * F.silu(up)
        Both go through SiLU. up stays as it is.
    the activation on the product: hidden = opened * up -> hidden = F.silu(gate * up)
        You multiply first, and take SiLU of the product. SiLU is for the gate alone.
    sigmoid for SiLU: F.silu(gate) -> torch.sigmoid(gate)
        Your gate is a sigmoid, as in the first gated linear unit. SwiGLU's is SiLU: gate times its sigmoid.
    GELU for SiLU: F.silu(gate) -> F.gelu(gate)
        Your gate goes through GELU: that is GEGLU. SwiGLU's goes through SiLU.
    GELU by tanh for SiLU: F.silu(gate) -> F.gelu(gate, approximate="tanh")
        Your gate goes through GELU, by its approximation with tanh. SwiGLU's goes through SiLU.
    ReLU for SiLU: F.silu(gate) -> F.relu(gate)
        Your gate goes through ReLU: that is ReGLU. SwiGLU's goes through SiLU.
    tanh for SiLU: F.silu(gate) -> torch.tanh(gate)
        Your gate goes through tanh. SwiGLU's goes through SiLU.
    softmax for SiLU: F.silu(gate) -> F.softmax(gate, dim=-1)
        Your gates go through a softmax, so that they share a sum of 1. Each goes through SiLU by itself.
    SiLU's negative: F.silu(gate) -> -gate * torch.sigmoid(-gate)
        Your activation is SiLU turned round. SiLU is x * sigmoid(x): near x for large x, near 0 for very negative x.
    added, not multiplied: opened * up -> opened + up
        You add gate and up. The gate multiplies: that is how it opens and shuts.
    no up: opened * up -> opened
        up_proj is not used: what comes out of the gate goes straight to down. The gate multiplies what up makes.
    no gate: opened * up -> F.silu(up)
        gate_proj is not used: this is the layer without a gate. silu(gate) multiplies what up makes.
    the gate twice: opened * up -> opened * gate
        The gate multiplies itself. It multiplies what up_proj makes.
    an activation behind down: self.down_proj(hidden) -> F.silu(self.down_proj(hidden))
        There is an activation behind down_proj. The residual stream has to be able to get anything added, negative
        numbers too: nothing comes after down.
    GELU behind down: self.down_proj(hidden) -> F.gelu(self.down_proj(hidden))
        There is a GELU behind down_proj, as in widely copied articles. Nothing comes after down.
    ReLU behind down: self.down_proj(hidden) -> F.relu(self.down_proj(hidden))
        There is a ReLU behind down_proj. Nothing comes after down.
    the residual added: self.down_proj(hidden) -> x + self.down_proj(hidden)
        You add x. The residual connection is the block's: this layer returns only what it found.
    a norm inside: gate, up = -> x = F.rms_norm(x, x.shape[-1:]); gate, up =
        x is normalised here. The norm is the block's.
    hidden normalised: self.down_proj(hidden) -> self.down_proj(F.rms_norm(hidden, hidden.shape[-1:]))
        The hidden vector is normalised before down. Nothing of the kind is in SwiGLU.
    float32 goes out: self.down_proj(hidden) -> self.down_proj(hidden).float()
        The numbers are right, but half precision comes in and float32 goes out.
    no gradient through the gate: F.silu(gate) -> F.silu(gate).detach()
        The numbers are right, but no gradient reaches gate_proj: something cuts it off, such as .detach() or .data.
    no gradient to up: opened * up -> opened * up.detach()
        The numbers are right, but no gradient reaches up_proj: something cuts it off, such as .detach() or .data.
    no gradient before down: self.down_proj(hidden) -> self.down_proj(hidden.detach())
        The numbers are right, but no gradient gets past down_proj: something cuts it off, such as .detach() or .data.
    tokens averaged: gate, up = -> x = x.mean(dim=-2, keepdim=True).expand_as(x) if x.ndim > 1 else x; gate, up =
        Every token gets what the mean of all tokens would get. Each token is worked on by itself.
""")
no_gradient(exercise, "x")
overwrites(exercise, "x")
