"""Exercise 5: the residual block of Llama."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons import norms

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, draw

__all__ = ["pre_norm_block"]

Layer = Callable[[Tensor], Tensor]


def reference(
    x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer
) -> Tensor:
    x = x + attention(attention_norm(x))
    return x + feed_forward(feed_forward_norm(x))


def layers(dim: int, seed: int) -> tuple[Layer, Layer, Layer, Layer]:
    """Two norms with gains of their own, a mixture of past tokens, and a layer of each token alone."""
    gains, other_gains = draw(dim, seed=seed) + 2, draw(dim, seed=seed + 1) - 2
    mix, inner = draw(dim, dim, seed=seed + 2) / dim**0.5, draw(dim, dim, seed=seed + 3) / dim**0.5

    def past_mean(x: Tensor) -> Tensor:
        counts = torch.arange(1, x.shape[-2] + 1, device=x.device, dtype=x.dtype)[:, None]
        return x.cumsum(dim=-2) / counts @ mix.to(x)

    return (
        lambda x: norms.rms_norm(x, gains, 1e-5),
        past_mean,
        lambda x: norms.rms_norm(x, other_gains, 1e-5),
        lambda x: torch.tanh(x @ inner.to(x)) * 2,
    )


def cases() -> list[tuple]:
    return [
        ((draw(*shape, seed=seed) * 3 + 1).requires_grad_(), *layers(shape[-1], seed + 10))
        for seed, shape in enumerate([(1, 1, 4), (2, 5, 8), (3, 3, 6)])
    ]


pre_norm_block = Exercise(
    name="pre_norm_block",
    lesson=LESSON,
    points=4,
    minutes=6,
    parameters=("x", "attention_norm", "attention", "feed_forward_norm", "feed_forward"),
    reference=reference,
    cases=cases,
    returns=Tensor,
    hints=(
        "Two lines are enough, one for each layer, and both have the same form. Draw the stream as a straight line: "
        "what branches off, what comes back, and where is nothing in the way?",
        "A layer reads a normalised copy of the stream. What it returns is added to the stream itself, not to the "
        "copy.",
        "The second line reads what the first one made, and its sum starts from there too.",
    ),
)


def nothing(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


class Recorder:
    """A layer that keeps what it reads, and returns a fixed tensor."""

    def __init__(self, returns: Tensor) -> None:
        self.returns = returns
        self.read: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.read.append(x.detach().clone())
        return self.returns.clone()

    def once(self, name: str) -> Tensor:
        if len(self.read) != 1:
            raise Mismatch(f"{name} is expected to be called once, but was called {len(self.read)} times")
        return self.read[0]


@pre_norm_block.property("where both layers return 0, x passes unchanged")
def _(answer: Callable) -> None:
    for shape in ((1, 1, 4), (2, 5, 8)):
        x = draw(*shape) * 100
        attention_norm, _, feed_forward_norm, _ = layers(shape[-1], 1)
        got = answer(x, attention_norm, nothing, feed_forward_norm, nothing)
        expect_close(got, x, where="attention and feed_forward that return 0: expected x itself", atol=1e-4)


@pre_norm_block.property("what both layers return is added, as it is")
def _(answer: Callable) -> None:
    x, one, other = (draw(2, 3, 4, seed=seed) for seed in (0, 1, 2))
    attention_norm, _, feed_forward_norm, _ = layers(4, 1)
    got = answer(x, attention_norm, lambda _: one.clone(), feed_forward_norm, lambda _: other.clone())
    expect_close(got, x + one + other, where="layers that return a and f whatever they read: expected x + a + f")


@pre_norm_block.property("each layer reads the stream through its own norm")
def _(answer: Callable) -> None:
    for shape in ((1, 1, 4), (2, 3, 4)):
        x, copy, other_copy, one, other = (draw(*shape, seed=seed) for seed in range(5))
        attention_norm, attention = Recorder(copy), Recorder(one)
        feed_forward_norm, feed_forward = Recorder(other_copy), Recorder(other)
        answer(x, attention_norm, attention, feed_forward_norm, feed_forward)
        expect_close(attention_norm.once("attention_norm"), x, where="what attention_norm reads: expected x")
        where = "what attention reads: expected the result of attention_norm"
        expect_close(attention.once("attention"), copy, where=where)
        where = "what feed_forward_norm reads: expected x + the result of attention"
        expect_close(feed_forward_norm.once("feed_forward_norm"), x + one, where=where)
        where = "what feed_forward reads: expected the result of feed_forward_norm"
        expect_close(feed_forward.once("feed_forward"), other_copy, where=where)


@pre_norm_block.property("the whole block, with real norms and layers")
def _(answer: Callable) -> None:
    for seed, shape in enumerate(((1, 1, 4), (2, 5, 8), (3, 3, 6), (1, 9, 64))):
        x, (attention_norm, attention, feed_forward_norm, feed_forward) = draw(*shape) * 3, layers(shape[-1], seed)
        from_attention = attention(attention_norm(x))
        want = x + from_attention + feed_forward(feed_forward_norm(x + from_attention))
        got = answer(x, attention_norm, attention, feed_forward_norm, feed_forward)
        expect_close(got, want, where=f"x of shape {shape}", atol=1e-4)


@pre_norm_block.property("shape and dtype stay")
def _(answer: Callable) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = draw(2, 3, 8, dtype=dtype)
        got = answer(x, *layers(8, 1))
        expect_like(got, shape=(2, 3, 8), dtype=dtype, where=f"x of shape (2, 3, 8) in {str(dtype)[6:]}")


@pre_norm_block.property("gradients have a free path along the stream")
def _(answer: Callable) -> None:
    x, upstream = draw(2, 3, 8).requires_grad_(), draw(2, 3, 8, seed=1)
    attention_norm, _, feed_forward_norm, _ = layers(8, 1)
    got = answer(x, attention_norm, nothing, feed_forward_norm, nothing)
    if not got.requires_grad:
        raise Mismatch("the result is expected to carry gradients back to x, but it is cut off from it")
    (gradient,) = torch.autograd.grad(got, x, upstream, allow_unused=True)
    if gradient is None:
        raise Mismatch("the result is expected to carry gradients back to x, but it does not depend on it")
    where = "gradient of x where both layers return 0: expected the gradient that came from above, unchanged"
    expect_close(gradient, upstream, where=where)


@pre_norm_block.misconception(
    "post-norm",
    "You add first and normalise the sum: norm(x + layer(x)). That is the original Transformer's order, post-norm. In "
    "Llama the layer reads the norm, and nothing normalises the stream itself.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = attention_norm(x + attention(x))
    return feed_forward_norm(x + feed_forward(x))


@pre_norm_block.misconception(
    "normalised before, and after each sum too",
    "The layers read through their norms, and then you normalise each sum as well: norm(x + layer(norm(x))). The "
    "stream itself is never normalised inside a block.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = attention_norm(x + attention(attention_norm(x)))
    return feed_forward_norm(x + feed_forward(feed_forward_norm(x)))


@pre_norm_block.misconception(
    "the sum starts from the normalised copy",
    "You overwrite x with norm(x) and add the layer to that, so the stream is normalised after all and what it held is "
    "rescaled at every layer. Give the copy a name of its own, and add to x.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = attention_norm(x)
    x = x + attention(x)
    x = feed_forward_norm(x)
    return x + feed_forward(x)


@pre_norm_block.misconception(
    "the layer's result added to itself",
    "You overwrite x with the layer's result and then write x + x: twice the result, and the stream is lost. A "
    "residual adds the result to what x was before.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = attention(attention_norm(x))
    x = x + x
    x = feed_forward(feed_forward_norm(x))
    return x + x


@pre_norm_block.misconception(
    "nothing is added",
    "You hand each layer's result on and drop the stream. Each result is added to x.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    return feed_forward(feed_forward_norm(attention(attention_norm(x))))


@pre_norm_block.misconception(
    "residual around attention only",
    "The first sum is right. The second is missing: feed_forward's result is added to the stream too.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    return feed_forward(feed_forward_norm(x + attention(attention_norm(x))))


@pre_norm_block.misconception(
    "residual around feed_forward only",
    "The second sum is right. The first is missing: attention's result is added to the stream too.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = attention(attention_norm(x))
    return x + feed_forward(feed_forward_norm(x))


@pre_norm_block.misconception(
    "one residual around both",
    "You add x once, at the end, to what both layers made one after the other. Each layer has a residual of its own.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    return x + feed_forward(feed_forward_norm(attention(attention_norm(x))))


@pre_norm_block.misconception(
    "no norms",
    "The layers read the stream itself. Each reads it through its norm.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = x + attention(x)
    return x + feed_forward(x)


@pre_norm_block.misconception(
    "no norm before attention",
    "attention reads the stream itself. It reads it through attention_norm.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = x + attention(x)
    return x + feed_forward(feed_forward_norm(x))


@pre_norm_block.misconception(
    "no norm before feed_forward",
    "feed_forward reads the stream itself. It reads it through feed_forward_norm.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = x + attention(attention_norm(x))
    return x + feed_forward(x)


@pre_norm_block.misconception(
    "the sum after attention is normalised",
    "You normalise the sum after attention once more. The sum is the stream, and nothing in the block normalises that: "
    "x + attention(attention_norm(x)), no more.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = attention_norm(x + attention(attention_norm(x)))
    return x + feed_forward(feed_forward_norm(x))


@pre_norm_block.misconception(
    "feed_forward reads attention's result alone",
    "Your sums are right, but feed_forward reads what attention returned, without the stream that it was added to.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    gathered = attention(attention_norm(x))
    return x + gathered + feed_forward(feed_forward_norm(gathered))


@pre_norm_block.misconception(
    "norm after the layer",
    "You normalise what the layer returns: x + norm(layer(x)). Here the norm stands before the layer: x + "
    "layer(norm(x)).",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = x + attention_norm(attention(x))
    return x + feed_forward_norm(feed_forward(x))


@pre_norm_block.misconception(
    "both layers read the same stream",
    "Attention and feed_forward both read x as it came in, side by side (some models do that, GPT-J for one). In Llama "
    "feed_forward reads the stream with attention's result in it.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    return x + attention(attention_norm(x)) + feed_forward(feed_forward_norm(x))


@pre_norm_block.misconception(
    "attention's result is left out of the stream",
    "feed_forward reads x + attention, as it should, but your last sum starts from the x that came in: what attention "
    "gathered is not in the stream that you return.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    return x + feed_forward(feed_forward_norm(x + attention(attention_norm(x))))


@pre_norm_block.misconception(
    "one norm for both",
    "You use attention_norm twice. Each layer's norm has learned gains of its own: feed_forward reads through "
    "feed_forward_norm.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = x + attention(attention_norm(x))
    return x + feed_forward(attention_norm(x))


@pre_norm_block.misconception(
    "norms exchanged",
    "attention reads through feed_forward_norm, and feed_forward through attention_norm. Their gains are learned for "
    "their own layers.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = x + attention(feed_forward_norm(x))
    return x + feed_forward(attention_norm(x))


@pre_norm_block.misconception(
    "feed_forward first",
    "You run feed_forward before attention. In Llama attention comes first.",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x = x + feed_forward(feed_forward_norm(x))
    return x + attention(attention_norm(x))


@pre_norm_block.misconception(
    "x overwritten",
    "The numbers are right, but += changes the tensor that x names, and whoever passed it in still needs it. Write "
    "x = x + ...",
)
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    x += attention(attention_norm(x))
    x += feed_forward(feed_forward_norm(x))
    return x


@pre_norm_block.alternative
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    for norm, layer in ((attention_norm, attention), (feed_forward_norm, feed_forward)):
        x = torch.add(x, layer(norm(x)))
    return x


@pre_norm_block.alternative
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    gathered = attention(attention_norm(x))
    made = feed_forward(feed_forward_norm(gathered + x))
    return torch.stack((x, gathered, made)).sum(dim=0)


@pre_norm_block.alternative
def _(x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer) -> Tensor:
    stream = x.clone()
    stream += attention(attention_norm(stream))
    return stream.add(feed_forward(feed_forward_norm(stream)))
