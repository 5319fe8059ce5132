"""Exercise 6, a bug hunt: a feed-forward layer with its norm and its residual connection, and three bugs."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from llama_lessons.norms import RMSNorm

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, exact, expect_close, expect_gradients, expect_like
from ...families import no_gradient, overwrites
from .SwiGLU import expected as by_neurons

WEIGHTS = ("norm.weight", "gate_proj.weight", "up_proj.weight", "down_proj.weight")


class FeedForwardBlock(nn.Module):
    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim)
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        read = self.norm(x)
        gate, up = self.gate_proj(read), self.up_proj(read)
        hidden = F.silu(gate) * up
        written = self.down_proj(hidden)
        return x + written


def feeds(block_class: Any) -> Callable[..., Tensor]:
    """Make of a class the function that runs its block with these weights."""

    def run(x, gain, gate, up, down):
        block = block_class(x.shape[-1], len(gate))
        weights = dict(zip(WEIGHTS, (gain, gate, up, down), strict=True))
        if (found := {name for name, _ in block.named_parameters()}) != weights.keys():
            raise Mismatch(f"the constructor was right, with {', '.join(WEIGHTS)}; now there are {', '.join(found)}")
        return functional_call(block, weights, (x,))

    return run


def inputs(shape: tuple[int, ...], hidden_dim: int, seed: int = 0) -> tuple[Tensor, ...]:
    dim = shape[-1]
    sizes = (hidden_dim, dim), (hidden_dim, dim), (dim, hidden_dim)
    weights = [draw(*size, seed=seed + 10 * i) * 2 / size[1] ** 0.5 for i, size in enumerate(sizes, 1)]
    return draw(*shape, seed=seed) * 3, 1 + 0.3 * draw(dim, seed=seed + 5), *weights


def expected(x: Tensor, gain: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x plus what the layer makes of its norm, in float64."""
    x, gain = exact(x), exact(gain)
    read = x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * gain
    return x + by_neurons(read, gate, up, down)


SIZES = [((2, 3, 4), 6), ((5, 8), 8), ((1, 2, 6), 3), ((3, 3, 3), 3)]


def cases() -> list[tuple]:
    made = [inputs(*size, seed=seed) for seed, size in enumerate(SIZES)]
    made[0] = tuple(x.requires_grad_() for x in made[0])
    return made


exercise = Exercise(
    FeedForwardBlock,
    points=5,
    minutes=10,
    cases=cases,
    returns=Tensor,
    using=feeds,
    hints=(
        "There are three bugs, in three lines of forward. Begin with the last one: what should come out where "
        "down_proj is all zeros?",
        "The second probe says that hardly anything negative comes out, whatever goes in. What stands between "
        "down_proj and the sum?",
        "The third is seen by no probe of the cell. Which of the two projections gets the activation?",
    ),
)


@exercise.property("shape and dtype of x come back")
def shape_and_dtype(answer: Callable) -> None:
    for shape, hidden_dim in SIZES:
        expect_like(answer(*inputs(shape, hidden_dim)), shape=shape, dtype=torch.float32, where=f"x of shape {shape}")


@exercise.property("where down_proj is 0, x passes unchanged")
def residual(answer: Callable) -> None:
    x, gain, gate, up, down = inputs((2, 3, 4), 6)
    expect_close(answer(x, gain, gate, up, torch.zeros_like(down)), x.detach(), where="down_proj of zeros: expected x")


@exercise.property("it can add negative numbers as well as positive ones")
def both_signs(answer: Callable) -> None:
    x, gain, gate, up, down = inputs((4, 6), 8, seed=2)
    added, other = (answer(x, gain, gate, up, sign * down) - x for sign in (1, -1))
    expect_close(added, -other, where="what is added, and minus what -down_proj adds", atol=1e-4)


@exercise.property("the formula: x + down(silu(gate(norm(x))) * up(norm(x)))")
def formula(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        given = inputs(*size, seed=seed)
        expect_close(answer(*given), expected(*given), where=f"x of shape {size[0]}, hidden_dim {size[1]}", atol=1e-4)


@exercise.property("the same without gradients, and in half precision; x stays as it was")
def elsewhere(answer: Callable) -> None:
    with torch.no_grad():
        x, *weights = inputs((2, 3, 4), 6, seed=9)
        before = x.clone()
        expect_close(answer(x, *weights), expected(x, *weights), where="without gradients", atol=1e-4)
        if not torch.equal(x, before):
            raise Mismatch("without gradients, x itself was changed: return a new tensor")
        for dtype, bits in HALVES.items():
            given = [t.to(dtype) for t in inputs((2, 3, 8), 6, seed=8)]
            where, step = f"x in {str(dtype)[6:]}", 2.0**-bits
            expect_close(answer(*given), expected(*given), where=where, rtol=8 * step, atol=32 * step)


@exercise.property("gradients flow back to x and to all weights")
def gradients(answer: Callable) -> None:
    expect_gradients(answer, expected, *inputs((2, 3, 4), 6), names=("x", *WEIGHTS), atol=1e-3)


@exercise.given
class all_three_bugs(FeedForwardBlock):
    """The block does what it did when you found it, and the three bugs are there. Begin with the first probe: what
    comes out where down_proj adds nothing?
    """

    def forward(self, x):
        read = self.norm(x)
        hidden = self.gate_proj(read) * F.silu(self.up_proj(read))
        x = F.gelu(self.down_proj(hidden))
        return x + x


exercise.slips("""
    only the residual left: return x + written -> return written + written
        What is returned is still twice the layer's result, and x is lost. The residual connection adds x itself.
    only the activation behind down left: written = self.down_proj(hidden) -> written = F.gelu(self.down_proj(hidden))
        There is still a GELU behind down_proj: nothing negative of any size can be added. Nothing comes after down.
    only the gate left: F.silu(gate) * up -> gate * F.silu(up)
        The activation is still on up. It belongs to what gate_proj makes.
    residual and gate left: return -> hidden = gate * F.silu(up); written = self.down_proj(hidden); x = written; return
        Two bugs are left: the activation is on up and not on the gate, and x is lost: what is returned is twice the
        layer's result.
    residual and activation left: return x + written -> return 2 * F.gelu(written)
        Two bugs are left: the GELU behind down_proj, and x is lost: what is returned is twice the layer's result.
    activation and gate left: return x + written -> return x + F.gelu(self.down_proj(gate * F.silu(up)))
        Two bugs are left: the GELU behind down_proj, and the activation on up, which belongs to the gate.
    no residual: return x + written -> return written
        x is lost: only what the layer makes is returned. The residual connection adds it to x.
    the residual of the norm: return x + written -> return read + written
        You add to what the norm gave. The residual stream itself goes past the norm: x + what was written.
    the residual twice: return x + written -> return x + x + written
        You add x twice.
    no norm: read = self.norm(x) -> read = x
        The layer reads x itself. It reads the stream through its norm.
    a norm at the end: return x + written -> return self.norm(x + written)
        The sum is normalised. The residual stream is never normalised itself, only what a layer reads.
    no activation at all: F.silu(gate) * up -> gate * up
        No activation is left. The gate goes through SiLU.
    the activation on both: F.silu(gate) * up -> F.silu(gate) * F.silu(up)
        Gate and up both go through SiLU. up stays as it is.
    GELU on the gate: F.silu(gate) -> F.gelu(gate)
        The gate goes through GELU: that is GEGLU. Here it is SiLU.
    the activation on the product: F.silu(gate) * up -> F.silu(gate * up)
        The activation is on the product. It is for the gate alone.
    SiLU behind down: written = self.down_proj(hidden) -> written = F.silu(self.down_proj(hidden))
        There is a SiLU behind down_proj. Nothing comes after down.
    up reads x: self.up_proj(read) -> self.up_proj(x)
        up_proj reads x itself. Both projections read what the norm gave.
    the gate reads x: self.gate_proj(read) -> self.gate_proj(x)
        gate_proj reads x itself. Both projections read what the norm gave.
""")
no_gradient(exercise, "x")
overwrites(exercise, "x")
