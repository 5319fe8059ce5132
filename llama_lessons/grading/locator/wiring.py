"""How a Llama's parts are connected, as plain code, with the mistakes that are made in it.

Parts that log what they are given, and return what the reference's return, are put in: so one connection is seen apart
from the others, and from what the parts compute.
"""

from collections.abc import Callable
from typing import Any

import torch  # noqa: F401  # what slips below call

from ..catalogue import Catalogue

__all__ = ["BLOCK", "STACK"]

Part = Callable[[Any], Any]


def block(x: Any, attention_norm: Part, attention: Part, feed_forward_norm: Part, feed_forward: Part) -> Any:
    read = attention_norm(x)
    found = attention(read)
    mid = x + found
    again = feed_forward_norm(mid)
    made = feed_forward(again)
    return mid + made


BLOCK = Catalogue(block)
BLOCK.slips("""
    residual from the normalised stream: mid = x + found -> x = read; mid = x + found
        What attention returns is added to attention_norm(x), so the residual stream itself is lost. The norm is for the
        copy that the layer reads.
    second residual from the normalised stream: return mid + made -> return again + made
        What the feed-forward layer returns is added to its normalised copy of the stream. Add it to the stream.
    no residual connection around attention: mid = x + found -> mid = found
        What attention returns takes the place of the residual stream. Add it: x + attention(...).
    no residual connection around feed-forward: return mid + made -> return made
        What the feed-forward layer returns takes the place of the residual stream. Add it.
    no residual connection around the block: return mid + made -> return found + made
        The block returns what its layers add, without the residual stream that came in.
    no residual connections: mid = x + found -> mid = found; return feed_forward(feed_forward_norm(mid))
        What each layer returns takes the place of the residual stream, as in widely copied articles. Add it.
    attention's result doubled: mid = x + found -> mid = found + found
        attention's result is added to itself, and the residual stream is lost, as by x = attention(x); x = x + x.
    the feed-forward layer's result doubled: return mid + made -> return made + made
        The feed-forward layer's result is added to itself, and the residual stream is lost, as by x = ffn(x);
        x = x + x.
    the stream counted twice: return mid + made -> return mid + mid + made
        The residual stream is added twice at the end of the block.
    attention's result added twice: mid = x + found -> mid = x + found + found
        What attention returns is added twice: in the layer, perhaps, and in the block.
    the first x at the end: return mid + made -> return x + made
        At the end the x that came in is added, so what attention found is lost for all that follows.
    both layers read x: again = feed_forward_norm(mid) -> again = feed_forward_norm(x)
        Both layers read the x that came in, side by side, as in PaLM. In Llama the feed-forward layer reads what
        attention has added to.
    both layers read one copy: feed_forward_norm(mid) -> read
        Both layers read the same normalised x, as in GPT-J. In Llama the feed-forward layer has a norm of its own, and
        reads what attention has added to.
    attention's norm for both: feed_forward_norm(mid) -> attention_norm(mid)
        Both layers read through attention_norm. The feed-forward layer has a norm of its own.
    attention reads the stream itself: read = attention_norm(x) -> read = x
        attention reads the residual stream without its norm.
    feed-forward reads the stream itself: feed_forward_norm(mid) -> mid
        The feed-forward layer reads the residual stream without its norm.
    the feed-forward layer reads attention's result: feed_forward_norm(mid) -> feed_forward_norm(found)
        The feed-forward layer reads attention's result alone. It reads the stream, to which that was added.
    the last sum normalised: return mid + made -> return feed_forward_norm(mid + made)
        The stream is normalised at the end of the block. The residual stream itself is never normalised in a block.
    attention left out: mid = x + found -> mid = x
        What attention returns is not used.
    feed-forward left out: return mid + made -> return mid
        What the feed-forward layer returns is not used.
    the block's sum halved: return mid + made -> return (mid + made) / 2
        The stream is halved at the end of the block.
""")


@BLOCK.misconception
def both_residuals_from_the_normalised_stream(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """What each layer returns is added to the normalised copy that it read. Add it to the residual stream itself."""
    read = attention_norm(x)
    again = feed_forward_norm(read + attention(read))
    return again + feed_forward(again)


@BLOCK.misconception
def both_results_doubled(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """Each layer's result is added to itself, and the residual stream is lost, as by x = layer(x); x = x + x."""
    found = attention(attention_norm(x))
    made = feed_forward(feed_forward_norm(found + found))
    return made + made


@BLOCK.misconception
def neither_layer_reads_through_its_norm(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """Both layers read the residual stream itself, without their norms."""
    x = x + attention(x)
    return x + feed_forward(x)


@BLOCK.misconception
def the_feed_forward_layer_first(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """The feed-forward layer comes first. In Llama attention does."""
    x = x + feed_forward(feed_forward_norm(x))
    return x + attention(attention_norm(x))


@BLOCK.misconception
def norms_exchanged(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """The norms stand in each other's place: attention reads through feed_forward_norm, and the other way round."""
    x = x + attention(feed_forward_norm(x))
    return x + feed_forward(attention_norm(x))


@BLOCK.misconception
def post_norm(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """Each sum is normalised: norm(x + layer(x)), as in the first Transformer. Llama normalises what a layer reads:
    x + layer(norm(x)).
    """
    x = attention_norm(x + attention(x))
    return feed_forward_norm(x + feed_forward(x))


@BLOCK.misconception
def norms_behind_the_layers(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """What each layer returns is normalised: x + norm(layer(x)). Llama normalises what a layer reads."""
    x = x + attention_norm(attention(x))
    return x + feed_forward_norm(feed_forward(x))


@BLOCK.misconception
def sums_scaled_down(x, attention_norm, attention, feed_forward_norm, feed_forward):
    """Each sum is divided by the root of 2. Llama adds without scaling."""
    x = (x + attention(attention_norm(x))) / 2**0.5
    return (x + feed_forward(feed_forward_norm(x))) / 2**0.5


def stack(tokens: Any, embedding: Part, blocks: list[Part], norm: Part, head: Part) -> Any:
    x = embedding(tokens)
    for each in blocks:
        x = each(x)
    last = norm(x)
    return head(last)


STACK = Catalogue(stack)
STACK.slips("""
    no last norm: return head(last) -> return head(x)
        The head reads the residual stream itself, without the last norm.
    last norm twice: return head(last) -> return head(norm(last))
        The last norm is applied twice.
    embedding scaled: x = embedding(tokens) -> x = embedding(tokens); x = x * x.shape[-1] ** 0.5
        What the embedding returns is multiplied by the root of dim, as in the first Transformer and in Gemma. Llama
        takes it as it is.
    normalised before the first block: x = embedding(tokens) -> x = norm(embedding(tokens))
        The last norm is applied to the embedding too. It comes once, behind the last block.
    first block left out: in blocks: -> in blocks[1:]:
        The first block is not called.
    last block left out: in blocks: -> in blocks[:-1]:
        The last block is not called.
    second block left out: in blocks: -> in blocks[:1] + blocks[2:]:
        The second block is not called.
    blocks the other way round: in blocks: -> in blocks[::-1]:
        The blocks are called from the last to the first.
    first block for all: in blocks: -> in [blocks[0]] * len(blocks):
        The first block is called in the place of each. Each layer has weights of its own.
    only the first block called: in blocks: -> in blocks[:1]:
        Only the first block is called.
    embedding for every block: each(x) -> each(embedding(tokens))
        Each block is given the embedding. It reads what the block before it returned.
    what blocks return is lost: x = each(x) -> last = each(x)
        What a block returns is not kept: the next one, and the last norm, are given what the first one was given.
    every block called twice: x = each(x) -> x = each(each(x))
        Each block is called twice.
    blocks added to the stream: x = each(x) -> x = x + each(x)
        What a block returns is added to the stream once more. The block has added already: take its result.
    embedding added again: last = norm(x) -> last = norm(x + embedding(tokens))
        The embedding is added to what the blocks return. The residual stream holds it already.
    probabilities for logits: return head(last) -> return head(last).softmax(-1)
        The head's result passes a softmax. Logits come without: the loss and sampling take the softmax themselves.
    log-probabilities for logits: return head(last) -> return head(last).log_softmax(-1)
        The head's result passes a log-softmax. Logits come without.
    logits scaled down: return head(last) -> return head(last) / last.shape[-1] ** 0.5
        The logits are divided by the root of dim. Llama does not scale them.
    the last token alone: return head(last) -> return head(last)[:, -1:]
        Logits come back for the last token alone. They are wanted for each token.
""")
