"""Exercise 1: one block, from the residual stream to the residual stream."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: F401  # what slips below call
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import HALVES, Mismatch, expect_close, expect_gradients, expect_like
from ...families import no_gradient, overwrites
from ..attention.Attention import Attention
from ..feed_forward.SwiGLU import SwiGLU
from ..norms.RMSNorm import RMSNorm
from .common import IN_BLOCK, described
from .one_block import exact_of, expected, given, runs, silenced


class Block(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        dim, eps = config.dim, config.norm_eps
        self.attention_norm = RMSNorm(dim, eps)
        self.attention = Attention(dim, config.n_heads, config.n_kv_heads, config.head_dim)
        self.feed_forward_norm = RMSNorm(dim, eps)
        self.feed_forward = SwiGLU(dim, config.hidden_dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Any = None) -> Tensor:
        read = self.attention_norm(x)
        found = self.attention(read, cos, sin, cache)
        mid = x + found
        again = self.feed_forward_norm(mid)
        made = self.feed_forward(again)
        return mid + made


SIZES: list[dict[str, Any]] = [
    {},
    {"n_kv_heads": 4, "dim": 24, "norm_eps": 1e-5},
    {"n_kv_heads": 1, "hidden_dim": 8},
    {"n_heads": 2, "n_kv_heads": 2, "head_dim": 4, "dim": 8, "norm_eps": 1.0},
    {"n_heads": 6, "n_kv_heads": 3, "head_dim": 2, "dim": 12, "rope_theta": 10_000.0},
]


def cases() -> list[tuple]:
    """Heads of all kinds, eps large and small, texts in pieces, gradients, half precision."""
    first = given(0, 1, 4)
    made = [(*(x.requires_grad_() for x in first[:-1]), first[-1]), *(given(i, **SIZES[i]) for i in (1, 4))]
    made += [given(7, size=0.1), given(12, 1, 3, n_kv_heads=4)]
    made += [(*given(5), 3, (3, 2)), (*given(6, **SIZES[1]), 0, (1, 4)), (*given(8, 1, 4), 0, (3, 1))]
    *tensors, config = given(11, 1, 1)
    made.append((*(x.bfloat16() for x in tensors), config))
    return made


exercise = Exercise(
    Block,
    points=4,
    minutes=10,
    cases=cases,
    returns=(Tensor, Tensor, Tensor),
    using=runs,
    hints=(
        "forward has two steps of one form: read the residual stream through a norm, and add what the layer returns to "
        "the stream itself. The second one begins where the first one ended.",
        "The attention layer takes cos, sin and the cache as they came, and does all the rest with them. What does the "
        "constructor of each part want, and which field of config is it?",
    ),
)


@exercise.property("x comes back in its shape and dtype")
def shape_and_dtype(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        *tensors, config = given(seed, **size)
        for dtype in (torch.float32, *HALVES):
            got, _, _ = answer(*(t.to(dtype) for t in tensors), config)
            where = f"x of shape {tuple(tensors[0].shape)} in {str(dtype)[6:]}, {described(config)}"
            expect_like(got, shape=tensors[0].shape, dtype=dtype, where=where)


@exercise.property("where o_proj and down_proj are 0, x passes unchanged")
def residual(answer: Callable) -> None:
    for seed, size in enumerate(SIZES[:3]):
        args = silenced(given(seed, **size, size=3.0), "attn_output", "ffn_down")
        where = "attention and feed-forward that return 0: expected x itself"
        expect_close(answer(*args)[0], args[0], where=where)


@exercise.property("where down_proj is 0, x + attention(attention_norm(x)) is left")
def attention_alone(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        args = silenced(given(seed, **size), "ffn_down")
        expect_close(answer(*args)[0], expected(*args), where=described(args[-1]), atol=1e-4)


@exercise.property("where o_proj is 0, x + feed_forward(feed_forward_norm(x)) is left")
def feed_forward_alone(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        args = silenced(given(seed, **size), "attn_output")
        expect_close(answer(*args)[0], expected(*args), where=described(args[-1]), atol=1e-4)


@exercise.property("the whole block: the feed-forward layer reads what attention has added to")
def formula(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        for shape in ((2, 5), (3, 1), (1, 8)):
            args = given(seed, *shape, **size)
            where = f"x of shape {tuple(args[0].shape)}, {described(args[-1])}"
            expect_close(answer(*args)[0], expected(*args), where=where, atol=1e-4)


@exercise.property("both norms have the config's norm_eps")
def eps(answer: Callable) -> None:
    for norm_eps in (1e-6, 0.01, 1.0):
        args = given(3, norm_eps=norm_eps, size=0.1)
        for silent in ("ffn_down", "attn_output"):
            now = silenced(args, silent)
            expect_close(answer(*now)[0], expected(*now), where=f"small numbers, {described(args[-1])}", atol=1e-4)


@exercise.property("with a cache: in pieces the same as at once")
def in_pieces(answer: Callable) -> None:
    for size, first, pieces in (({}, 0, (4, 1)), (SIZES[1], 3, (1, 1, 3)), (SIZES[2], 40, (5,))):
        args = (*given(4, **size), first, pieces)
        where = f"read in pieces of {', '.join(map(str, pieces))} from position {first}, {described(args[-3])}"
        got, keys, values = answer(*args)
        want = exact_of(*args)
        expect_close(keys, want["k"], where=f"keys in the cache, {where}", atol=1e-4)
        expect_close(values, want["v"], where=f"values in the cache, {where}", atol=1e-4)
        expect_close(got, want["block"], where=where, atol=1e-4)


@exercise.property("the same without gradients, in half precision and for a longer text; x stays as it was")
def elsewhere(answer: Callable) -> None:
    with torch.no_grad():
        args = given(8, 2, 40)
        before = args[0].clone()
        where = f"x of shape {tuple(before.shape)}, without gradients"
        expect_close(answer(*args)[0], expected(*args), where=where, atol=1e-3)
        if not torch.equal(args[0], before):
            raise Mismatch("without gradients, x itself was changed: return a new tensor")
        for dtype, bits in HALVES.items():
            *tensors, config = given(9, 2, 5)
            halves = (*(t.to(dtype) for t in tensors), config)
            where, step = f"x in {str(dtype)[6:]}", 2.0**-bits
            expect_close(answer(*halves)[0], expected(*halves), where=where, rtol=16 * step, atol=64 * step)


@exercise.property("gradients flow back to x and to all nine weights")
def gradients(answer: Callable) -> None:
    names = ("x", *(f"{name}.weight" for name in IN_BLOCK.values()))
    for seed, size in enumerate(SIZES[:2]):
        expect_gradients(lambda *args: answer(*args)[0], expected, *given(seed, 1, 3, **size), names=names, atol=1e-3)


exercise.slips("""
    added to the normalised stream: read = self.attention_norm(x) -> x = read = self.attention_norm(x)
        What attention returns is added to attention_norm(x), so x itself is lost. The norm is for the copy that the
        layer reads: give that a name of its own, and add to x.
    second sum from the normalised stream: again = self.feed -> mid = again = self.feed
        What the feed-forward layer returns is added to its normalised copy of the stream. Add it to the stream itself.
    attention's result doubled: mid = x + found -> mid = found + found
        Attention's result is added to itself, and x is lost: after x = attention(...) nothing of x is left that x + x
        could add. Add the result to the x that came in.
    the feed-forward layer's result doubled: return mid + made -> return made + made
        The feed-forward layer's result is added to itself, and the stream before it is lost: after x =
        feed_forward(...) nothing of x is left that x + x could add.
    the stream counted twice: return mid + made -> return mid + mid + made
        The stream is added twice at the end. The feed-forward layer returns only what it made; add the stream once.
    the last sum normalised too: return mid + made -> return self.feed_forward_norm(mid + made)
        You normalise the last sum as well. The residual stream itself is never normalised in a block.
    both layers read x: again = self.feed_forward_norm(mid) -> again = self.feed_forward_norm(x)
        Your layers stand side by side: both read the x that came in, as in PaLM. In Llama the feed-forward layer reads
        what attention has added to.
    both layers read one copy: again = self.feed_forward_norm(mid) -> again = read
        Both layers read the same normalised x, as in GPT-J. In Llama the feed-forward layer reads what attention has
        added to, through a norm of its own.
    attention's norm for both: again = self.feed_forward_norm(mid) -> again = self.attention_norm(mid)
        Both layers read through attention_norm. The feed-forward layer has its own, feed_forward_norm.
    feed_forward_norm for both: read = self.attention_norm(x) -> read = self.feed_forward_norm(x)
        Both layers read through feed_forward_norm. Attention has its own, attention_norm.
    attention reads the stream itself: read = self.attention_norm(x) -> read = x
        Attention reads the stream without its norm. It reads attention_norm(x).
    feed-forward reads the stream itself: again = self.feed_forward_norm(mid) -> again = mid
        The feed-forward layer reads the stream without its norm. It reads feed_forward_norm(x).
    feed-forward reads attention's result: again = self.feed_forward_norm(mid) -> again = self.feed_forward_norm(found)
        The feed-forward layer reads attention's result alone. It reads the stream, x and that result together.
    both sums from the normalised stream: again = self.feed -> again = mid = self.feed_forward_norm(mid - x + read)#
        You add each layer's result to its normalised copy, so the stream is normalised twice in a block. A norm is for
        what the layer reads: give that a name of its own, and add to x.
    nothing normalised: read = -> self.attention_norm.forward = self.feed_forward_norm.forward = lambda x: x; read =
        Neither layer reads through its norm: both are made and not called. Each reads norm(x).
    no residual connections: again = self.feed_forward_norm(mid) -> again, mid = self.feed_forward_norm(found), 0
        Nothing is added to the stream: each layer's result takes its place, as in widely copied articles. What a layer
        returns is added: x + layer(norm(x)).
    both results doubled: mid = x + found -> return 2 * self.feed_forward(self.feed_forward_norm(2 * found))
        Each layer's result is added to itself, and the stream before it is lost: after x = layer(x) nothing is left of
        x that x + x could add.
    second sum adds the first x: return mid + made -> return x + made
        At the end the x that came in is added, so what attention found is lost for all that follows. Add to the sum.
    no residual connection around attention: mid = x + found -> mid = found
        x is not added to attention's result. The stream goes past each layer: x + attention(...).
    no residual connection around feed-forward: return mid + made -> return made
        The stream is not added to the feed-forward layer's result. It goes past each layer: x + feed_forward(...).
    no attention: mid = x + found -> mid = x
        What attention returns is not used.
    no feed-forward layer: return mid + made -> return mid
        What the feed-forward layer returns is not used.
    the cache not handed on: cos, sin, cache) -> cos, sin)
        The cache does not arrive: nothing is kept, and each piece of a text is read as if it were all of it. Give it to
        attention.
    cos and sin exchanged: self.attention(read, cos, sin -> self.attention(read, sin, cos
        cos and sin stand in each other's place when you call attention.
    attention_norm with the default eps: self.attention_norm = RMSNorm(dim, eps) -> self.attention_norm = RMSNorm(dim)
        Your attention_norm has the default eps of 1e-5, whatever config.norm_eps is. Pass it on.
    feed_forward_norm with the default eps: feed_forward_norm = RMSNorm(dim, eps) -> feed_forward_norm = RMSNorm(dim)
        Your feed_forward_norm has the default eps of 1e-5, whatever config.norm_eps is. Pass it on.
    both norms with the default eps: config.norm_eps -> 1e-5
        Both norms have the default eps of 1e-5, whatever config.norm_eps is. Pass it on.
    other numbers of heads: config.n_kv_heads -> config.n_heads
        Where n_kv_heads is less than n_heads, your attention has weights of other shapes. Attention takes n_heads,
        which is for queries, and then n_kv_heads, which is for keys and values.
    head_dim worked out from dim: config.head_dim -> dim // config.n_heads
        Your heads are not as wide as config.head_dim says, where that is not dim / n_heads. Take it from config.
    dropout behind attention: mid = x + found -> mid = x + F.dropout(found, 0.1)
        A tenth of what attention returns is set to 0 at random, and the rest made larger. Llama has no dropout.
    dropout behind feed-forward: return mid + made -> return mid + F.dropout(made, 0.1)
        A tenth of what the feed-forward layer returns is set to 0 at random. Llama has no dropout.
    float32 goes out: return mid + made -> return (mid + made).float()
        The numbers are right, but half precision comes in and float32 goes out.
    no gradient past attention: mid = x + found -> mid = x + found.detach()
        The numbers are right, but no gradient reaches attention and its norm: something cuts it off, such as .detach().
    no gradient past the feed-forward layer: return mid + made -> return mid + made.detach()
        The numbers are right, but no gradient reaches the feed-forward layer and its norm: something cuts it off, such
        as .detach().
    no gradient along the stream: return mid + made -> return mid.detach() + made
        The numbers are right, but no gradient goes back along the residual stream: that to which results are added is
        cut off, as by .detach(). On this path gradients come past the layers.
""")
no_gradient(exercise, "x")
overwrites(exercise, "x", more="x = x + ... is such a new one.")


@exercise.misconception
class post_norm(Block):
    """You normalise after each sum: norm(x + layer(x)), as the first Transformer did. Llama normalises what a layer
    reads: x + layer(norm(x)).
    """

    def forward(self, x, cos, sin, cache=None):
        x = self.attention_norm(x + self.attention(x, cos, sin, cache))
        return self.feed_forward_norm(x + self.feed_forward(x))


@exercise.misconception
class norms_behind_the_layers(Block):
    """You normalise what each layer returns: x + norm(layer(x)). Llama normalises what a layer reads:
    x + layer(norm(x)).
    """

    def forward(self, x, cos, sin, cache=None):
        x = x + self.attention_norm(self.attention(x, cos, sin, cache))
        return x + self.feed_forward_norm(self.feed_forward(x))


@exercise.misconception
class norms_before_and_behind_both_layers(Block):
    """Each norm is used twice, before its layer and behind it. What a layer returns is added as it is."""

    def forward(self, x, cos, sin, cache=None):
        x = x + self.attention_norm(self.attention(self.attention_norm(x), cos, sin, cache))
        return x + self.feed_forward_norm(self.feed_forward(self.feed_forward_norm(x)))


@exercise.misconception
class both_sums_normalised_too(Block):
    """You normalise both sums as well. The residual stream itself is never normalised in a block."""

    def forward(self, x, cos, sin, cache=None):
        x = self.attention_norm(x + self.attention(self.attention_norm(x), cos, sin, cache))
        return self.feed_forward_norm(x + self.feed_forward(self.feed_forward_norm(x)))


@exercise.misconception
class norms_exchanged(Block):
    """The norms stand in each other's place: attention reads through feed_forward_norm, and the other way round."""

    def forward(self, x, cos, sin, cache=None):
        x = x + self.attention(self.feed_forward_norm(x), cos, sin, cache)
        return x + self.feed_forward(self.attention_norm(x))


@exercise.misconception
class feed_forward_first(Block):
    """The feed-forward layer comes first. In Llama attention does."""

    def forward(self, x, cos, sin, cache=None):
        x = x + self.feed_forward(self.feed_forward_norm(x))
        return x + self.attention(self.attention_norm(x), cos, sin, cache)
