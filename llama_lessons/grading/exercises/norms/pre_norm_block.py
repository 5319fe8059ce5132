"""Exercise 5: the residual block of Llama."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from llama_lessons import norms

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, draw, expect_close, expect_gradients, expect_like, random_tensor
from ...families import no_gradient

Layer = Callable[[Tensor], Tensor]


def pre_norm_block(
    x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer
) -> Tensor:
    read = attention_norm(x)
    mid = x + attention(read)
    again = feed_forward_norm(mid)
    return mid + feed_forward(again)


def layers(dim: int, seed: int) -> tuple[Layer, Layer, Layer, Layer]:
    """Two norms with gains of their own, a mixture of past tokens, and a layer of each token alone."""
    # On the CPU, from where they go to the device and dtype of x.
    gains, other_gains = random_tensor(dim, seed=seed) + 2, random_tensor(dim, seed=seed + 1) - 2
    mix, inner = (random_tensor(dim, dim, seed=seed + n) / dim**0.5 for n in (2, 3))

    def past_mean(x: Tensor) -> Tensor:
        counts = torch.arange(1, x.shape[-2] + 1, device=x.device, dtype=x.dtype)[:, None]
        return x.cumsum(dim=-2) / counts @ mix.to(x)

    return (
        lambda x: norms.rms_norm(x, gains.to(x), 1e-5),
        past_mean,
        lambda x: norms.rms_norm(x, other_gains.to(x), 1e-5),
        lambda x: torch.sigmoid(x @ inner.to(x)),  # its backward pass needs what it returned
    )


def cases() -> list[tuple]:
    made = [
        ((draw(*shape, seed=seed) * 3 + 1).requires_grad_(), *layers(shape[-1], seed + 10))
        for seed, shape in enumerate([(1, 1, 4), (2, 5, 8), (3, 3, 6)])
    ]
    x, norm, (_, attention, _, feed_forward) = draw(2, 3, 4), nn.Identity(), layers(4, 20)
    made += [(leaf, norm, attention, norm, feed_forward) for leaf in (x, x.clone().requires_grad_())]
    return [*made, (x, *[nn.Identity()] * 4)]


exercise = Exercise(
    pre_norm_block,
    points=4,
    minutes=6,
    cases=cases,
    returns=Tensor,
    hints=(
        "Two lines are enough, one for each layer, and both have the same form. Draw the residual stream as a straight "
        "line: what branches off, what comes back, and where is nothing in the way?",
        "A layer reads a normalised copy of the stream. What it returns is added to the stream itself, not to the "
        "copy.",
        "The second line reads what the first one made, and its sum starts from there too.",
    ),
)


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


def whole_block(
    x: Tensor, attention_norm: Layer, attention: Layer, feed_forward_norm: Layer, feed_forward: Layer
) -> Tensor:
    """What is expected: x and what both layers add to it."""
    from_attention = attention(attention_norm(x))
    return x + from_attention + feed_forward(feed_forward_norm(x + from_attention))


@exercise.property("where both layers return 0, x passes unchanged")
def silent_layers(answer: Callable) -> None:
    for shape, dtype in zip(((1, 1, 4), (2, 5, 8), (2, 3, 8)), (torch.float32, *HALVES), strict=True):
        x = draw(*shape, dtype=dtype) * 100
        attention_norm, _, feed_forward_norm, _ = layers(shape[-1], 1)
        got = answer(x, attention_norm, torch.zeros_like, feed_forward_norm, torch.zeros_like)
        where = f"{str(dtype)[6:]}, attention and feed_forward that return 0"
        expect_close(got, x, where=f"{where}: expected x itself", atol=1e-4)
        expect_like(got, shape=shape, dtype=dtype, where=where)


@exercise.property("what both layers return is added, as it is")
def sums(answer: Callable) -> None:
    x, one, other = (draw(2, 3, 4, seed=seed) for seed in (0, 1, 2))
    attention_norm, _, feed_forward_norm, _ = layers(4, 1)
    got = answer(x, attention_norm, lambda _: one.clone(), feed_forward_norm, lambda _: other.clone())
    expect_close(got, x + one + other, where="layers that return a and f whatever they read: expected x + a + f")


@exercise.property("each layer reads the residual stream through its own norm")
def what_each_reads(answer: Callable) -> None:
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


@exercise.property("the whole block, with real norms and layers, and with some that return what they are given")
def all_together(answer: Callable) -> None:
    for seed, shape in enumerate(((1, 1, 4), (2, 5, 8), (3, 3, 6), (1, 9, 64))):
        x, parts = draw(*shape) * 3, layers(shape[-1], seed)
        expect_close(answer(x, *parts), whole_block(x, *parts), where=f"x of shape {shape}", atol=1e-4)
    got = answer(x, *[nn.Identity()] * 4)
    expect_close(got, 4 * x, where="norms and layers that all return what they are given: expected 4 x")


@exercise.property("gradients flow through both layers, and past them along the residual stream")
def gradients(answer: Callable) -> None:
    x, parts = draw(2, 3, 8), layers(8, 1)
    expect_gradients(answer, whole_block, x, *parts, names=("x",))
    silent = parts[0], lambda z: 0 * z, parts[2], lambda z: 0 * z
    expect_gradients(answer, whole_block, x, *silent, names=("x, where both layers return 0",))
    expect_gradients(answer, whole_block, x.bfloat16(), *parts, names=("x in bfloat16",), rtol=0.05, atol=0.5)


exercise.slips("""
    nothing normalised: read = -> attention_norm = feed_forward_norm = torch.clone; read =
        The layers read the residual stream itself. Each reads it through its norm.
    no norm before attention: read = attention_norm(x) -> read = x
        Attention reads the residual stream itself. It reads it through attention_norm.
    no norm before feed_forward: again = feed_forward_norm(mid) -> again = mid
        feed_forward reads the residual stream itself. It reads it through feed_forward_norm.
    one norm for both: = feed_forward_norm(mid) -> = attention_norm(mid)
        You use attention_norm twice. feed_forward reads through feed_forward_norm, which has gains of its own.
    the sum after attention is normalised: x + attention(read) -> attention_norm(x + attention(read))
        You normalise the sum after attention once more. The sum is the residual stream, and nothing in the block
        normalises that: x + attention(attention_norm(x)), no more.
    the last sum is normalised: return mid + feed_forward(again) -> return feed_forward_norm(mid + feed_forward(again))
        You normalise the last sum once more. The sum is the residual stream, and nothing in the block normalises that.
    norms exchanged: read = -> attention_norm, feed_forward_norm = feed_forward_norm, attention_norm; read =
        Attention reads through feed_forward_norm, and feed_forward through attention_norm: exchange them.
    layers exchanged: read = -> attention, feed_forward = feed_forward, attention; read =
        feed_forward reads through attention_norm and comes first. Attention comes first, each layer with its own norm.
    residual around attention only: return mid + -> return
        feed_forward's result takes the place of the residual stream. It is added to it.
    residual around feed_forward only: mid = x + -> mid =
        Attention's result takes the place of the residual stream. It is added to it.
    attention is left out: mid = x + attention(read) -> mid = x
        What attention returns is not in your result, and feed_forward does not read it.
    feed_forward is left out: return mid + feed_forward(again) -> return mid
        What feed_forward returns is not in your result. It is added to the residual stream.
    feed_forward reads attention's result alone: feed_forward_norm(mid) -> feed_forward_norm(attention(read))
        feed_forward reads what attention returned, without the residual stream to which it was added.
    feed_forward reads the first norm's result: feed_forward_norm(mid) -> feed_forward_norm(read)
        feed_forward_norm reads what attention_norm made of x. It reads x with attention's result added.
    both layers read through one norm: feed_forward_norm(mid) -> read
        feed_forward reads what attention read, and feed_forward_norm is not used. It reads the residual stream with
        attention's result in it, through a norm of its own.
    both layers read the same stream: feed_forward_norm(mid) -> feed_forward_norm(x)
        Attention and feed_forward both read x as it came in, side by side (as in GPT-NeoX). In
        Llama feed_forward reads the residual stream with attention's result in it.
    attention's result is left out of the sum: return mid + -> return x +
        Your last sum starts from the x that came in, so that what attention returned is not in it.
    attention's result is added twice: return mid + -> return mid + attention(read) +
        What attention returned is in your result twice: the residual stream already has it when feed_forward reads.
    x is added twice: return mid + -> return x + mid +
        The x that came in is in your result twice: once with attention's result, and once more in the last sum.
    result added to itself: mid = x + attention(read) -> return 2 * feed_forward(feed_forward_norm(2 * attention(read)))
        Each layer's result is doubled, and the residual stream is lost: x + x, where x has become the result. A
        residual connection adds the result to what x was before.
    nothing is added: mid = x + attention(read) -> return feed_forward(feed_forward_norm(attention(read)))
        You hand each layer's result on and drop the residual stream. Each result is added to x.
    one residual around both: mid = x + attention(read) -> return x + feed_forward(feed_forward_norm(attention(read)))
        You add x once, to what both layers made one after the other. Each layer has a residual connection of its own.
    one norm before and one after: again = feed_forward_norm(mid) -> return feed_forward_norm(mid + feed_forward(mid))
        Attention reads its norm, as asked, but around feed_forward you add first and normalise the sum. There too the
        layer reads the norm, and nothing normalises the residual stream itself.
    the last sum starts from a normalised copy: again = -> mid = again =
        Your last sum starts from feed_forward_norm's result. It starts from the residual stream itself.
    no gradient back through attention: attention(read) -> attention(read).detach()
        The numbers are right, but no gradient goes back through attention: what it reads or what it returns is cut off,
        as by .detach(), .data or torch.no_grad.
    no gradient back through feed_forward: feed_forward(again) -> feed_forward(again).detach()
        The numbers are right, but no gradient goes back through feed_forward: what it reads or what it returns is cut
        off, as by .detach(), .data or torch.no_grad.
    the first residual is cut off from the gradient: mid = x + -> mid = x.detach() +
        The numbers are right, but no gradient goes back along the first residual connection: the x to which attention's
        result is added is cut off, as by .detach(), .data or torch.no_grad.
    the second residual is cut off from the gradient: return mid + -> return mid.detach() +
        The numbers are right, but no gradient goes back along the second residual connection: that to which
        feed_forward's result is added is cut off, as by .detach(), .data or torch.no_grad.
    x overwritten: mid = x + attention(read) -> x += attention(read); mid = x
        The numbers are right, but x itself is changed, as by +=, and its caller may still need it: x = x + ...
    a copy changed in place: return mid + feed_forward(again) -> mid += feed_forward(again); return mid
        The numbers are right, but += or .add_ changes what a norm has read, which its backward pass still needs: no
        gradient can be had. Write x = x + ..., which makes a new tensor.
    added into what attention returned: mid = x + attention(read) -> mid = attention(read); mid += x
        The numbers are right, but you change what attention returned in place (with += or an underscore), and a layer
        may return the very tensor that it was given: then you change x. Write x + ..., which makes a new tensor.
    added into what feed_forward returned: return mid + feed_forward(again) -> return feed_forward(again).add_(mid)
        The numbers are right, but you change what feed_forward returned in place (with += or an underscore), and a
        layer's backward pass may need that: then no gradient can be had. Write x + ..., which makes a new tensor.
""")
no_gradient(exercise, "x", "Nothing below this block would learn.")


@exercise.misconception
def post_norm(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """You add first and normalise the sum: norm(x + layer(x)), the original Transformer's order, post-norm. In Llama
    the layer reads the norm, and nothing normalises the residual stream itself.
    """
    x = attention_norm(x + attention(x))
    return feed_forward_norm(x + feed_forward(x))


@exercise.misconception
def normalised_before_and_after(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """The layers read through their norms, and then you normalise each sum as well: norm(x + layer(norm(x))). The
    residual stream itself is never normalised inside a block.
    """
    x = attention_norm(x + attention(attention_norm(x)))
    return feed_forward_norm(x + feed_forward(feed_forward_norm(x)))


@exercise.misconception
def the_sum_starts_from_the_normalised_copy(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """You add each layer's result to norm(x), so the residual stream is normalised after all. Give the copy a name of
    its own, and add to x.
    """
    x = attention_norm(x)
    x = feed_forward_norm(x + attention(x))
    return x + feed_forward(x)


@exercise.misconception
def norm_after_the_layer(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """You normalise what the layer returns: x + norm(layer(x)). Here the norm stands before the layer: x +
    layer(norm(x)).
    """
    x = x + attention_norm(attention(x))
    return x + feed_forward_norm(feed_forward(x))


@exercise.misconception
def norm_before_and_after_the_layer(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """You normalise what the layer returns once more: x + norm(layer(norm(x))). It is added as it is."""
    x = x + attention_norm(attention(attention_norm(x)))
    return x + feed_forward_norm(feed_forward(feed_forward_norm(x)))


@exercise.misconception
def feed_forward_first(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """You run feed_forward before attention. In Llama attention comes first."""
    x = x + feed_forward(feed_forward_norm(x))
    return x + attention(attention_norm(x))


@exercise.misconception
def residuals_cut_off_from_the_gradient(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """The numbers are right, but no gradient goes back along the residual stream: that to which results are added is
    cut off, as by .detach(), .data or torch.no_grad. That is the path on which gradients come past the layers.
    """
    mid = x.detach() + attention(attention_norm(x))
    return mid.detach() + feed_forward(feed_forward_norm(mid))
