"""A Llama's parts as plain formulas, each with the mistakes that are met when one is ported: hypotheses to try."""

import math  # noqa: F401  # what slips below call
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llama_lessons.rope import apply_rope, to_half, to_interleaved

from ..catalogue import Catalogue

__all__ = ["ATTENTION", "EMBEDDING", "FEED_FORWARD", "HEAD", "NORM", "norm"]


def embedding(tokens: Tensor, table: Tensor) -> Tensor:
    return table[tokens]


EMBEDDING = Catalogue(embedding)
EMBEDDING.slips("""
    embedding scaled: table[tokens] -> table[tokens] * table.shape[1] ** 0.5
        Each row is multiplied by the root of dim, as in the first Transformer and in Gemma. Llama takes it as it is.
    embedding scaled down: table[tokens] -> table[tokens] / table.shape[1] ** 0.5
        Each row is divided by the root of dim. Llama takes it as it is.
    embedding normalised: table[tokens] -> F.normalize(table[tokens], dim=-1) * table.shape[1] ** 0.5
        Each row is normalised at once. Llama takes it as it is: the first norm is that of the first block.
    rows shifted up: table[tokens] -> table[tokens - 1]
        Each token has the row of the token before it in the vocabulary: a table that begins with one row too many.
    rows shifted down: table[tokens] -> table[(tokens + 1) % len(table)]
        Each token has the row of the next token in the vocabulary: a table whose first row is missing.
""")


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    mean_square = x.square().mean(-1, keepdim=True)
    return x / (mean_square + eps) ** 0.5 * weight


NORM = Catalogue(norm)
NORM.slips("""
    eps of 1e-5: eps) -> 1e-5)
        It works with an eps of 1e-5, whatever the config says. Pass norm_eps on.
    eps of 1e-6: eps) -> 1e-6)
        It works with an eps of 1e-6, whatever the config says. Pass norm_eps on.
    eps of 1e-8: eps) -> 1e-8)
        It works with an eps of 1e-8, whatever the config says. Pass norm_eps on.
    eps of 1e-3: eps) -> 1e-3)
        It works with an eps of 1e-3, whatever the config says. Pass norm_eps on.
    torch's own eps: eps) -> torch.finfo(torch.float32).eps)
        It works with the eps of 1.2e-7 that torch's RMSNorm takes where it is given none. Pass norm_eps on.
    no eps: mean_square + eps -> mean_square
        It works without an eps. It is added to the mean square, below the root.
    eps outside the root: (mean_square + eps) ** 0.5 -> (mean_square**0.5 + eps)
        eps is added to the root. It belongs below the root, beside the mean square.
    computed in bfloat16: mean_square = x. -> x, weight = x.bfloat16(), weight.bfloat16(); mean_square = x.
        It is computed in bfloat16, which keeps two or three digits. Cast to float32 first, and back at the end.
    rounded to bfloat16 before the gains: return x / (mean_square + eps) ** 0.5 -> return rounded(x, mean_square + eps)
        What was normalised is rounded to bfloat16 before the gains are multiplied. The model is in float32: cast back
        to the dtype that came in, whichever it was.
    computed in float16: mean_square = x. -> x, weight = x.half(), weight.half(); mean_square = x.
        It is computed in float16. Cast to float32 first, and back at the end.
    gains not used: * weight -> * 1
        It works as if all gains were 1: they are not loaded, or not multiplied.
    gains from 1: * weight -> * (1 + weight)
        It multiplies by 1 + gain, as Gemma does, whose gains are stored like that. Llama's are the factors themselves.
    gains divided by: * weight -> / weight
        It divides by the gains.
    LayerNorm: mean_square = x. -> x = x - x.mean(-1, keepdim=True); mean_square = x.
        The mean is subtracted first, as in LayerNorm. RMSNorm subtracts nothing.
    one scale for the whole tensor: x.square().mean(-1, keepdim=True) -> x.square().mean()
        All tokens share one mean square. Each token has its own: take the mean over the last axis.
    one scale for the sequence: mean(-1, keepdim=True) -> mean((-2, -1), keepdim=True)
        All tokens of a row share one mean square. Each token has its own: take the mean over the last axis alone.
    the mean over tokens: mean(-1, keepdim=True) -> mean(-2, keepdim=True)
        The mean square is taken over the tokens. Take it over the channels, the last axis.
    a sum for the mean: .mean(-1, keepdim=True) -> .sum(-1, keepdim=True)
        It divides by the root of the sum of squares. Take their mean.
    no root: + eps) ** 0.5 -> + eps)
        It divides by the mean square itself. Take its root.
    nothing normalised: x / (mean_square + eps) ** 0.5 -> x
        It multiplies by the gains and divides by nothing.
    handed on as it is: return x / (mean_square + eps) ** 0.5 * weight -> return x
        It returns what it is given.
""")


def rounded(x: Tensor, squared: Tensor) -> Tensor:
    """What was normalised, with the digits of bfloat16."""
    return (x / squared**0.5).bfloat16().float()


def attention(x: Tensor, w: Any, c: Any) -> Tensor:
    wq, wk = w.q_proj, w.k_proj
    q, k, v = ((x @ m.mT).unflatten(-1, (-1, c.head_dim)).transpose(1, 2) for m in (wq, wk, w.v_proj))
    places, speeds = torch.arange(x.shape[1], device=x.device), c.frequencies
    q, k = turned(q, places, speeds), turned(k, places, speeds)
    keys, values = (y.repeat_interleave(c.group_size, dim=1) for y in (k, v))
    scores = q @ keys.mT / c.head_dim**0.5
    future = places > places[:, None]
    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
    mixed = (weights @ values).transpose(1, 2).flatten(2)
    return mixed @ w.o_proj.mT


def turned(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """Rotated in layout "half"."""
    angles = positions[:, None].double() * frequencies
    return apply_rope(x, angles.cos().float(), angles.sin().float())


def of_base(c: Any, theta: float) -> Tensor:
    """The frequencies of another base."""
    return theta ** (-torch.arange(0, c.head_dim, 2, device=c.frequencies.device, dtype=torch.float64) / c.head_dim)


ATTENTION = Catalogue(attention)
ATTENTION.slips("""
    rows in the file's order: wq, wk = w.q_proj, w.k_proj -> wq, wk = both(to_interleaved, w, c)
        The rows of q and k are in the other layout: pairs stand side by side, as a GGUF file has them, but are turned
        as if their halves stood head_dim / 2 apart. Reorder the rows of both when you load them.
    rows of q in the file's order: = w.q_proj -> = both(to_interleaved, w, c)[0]
        The rows of q are in the other layout, those of k are not. Reorder both when you load them.
    rows of k in the file's order: , w.k_proj -> , both(to_interleaved, w, c)[1]
        The rows of k are in the other layout, those of q are not. Reorder both when you load them.
    pairs side by side: wq, wk = w.q_proj, w.k_proj -> wq, wk = both(to_half, w, c)
        The other layout of RoPE: channels 2i and 2i + 1 are turned together, but the rows of q and k are those in which
        i and i + head_dim / 2 are a pair. Or the rows were reordered twice.
    rows of k reordered as if it had all heads: , w.k_proj -> , reordered_as_q(w.k_proj, c)
        The rows of k are reordered as if k had n_heads heads. It has n_kv_heads.
    nothing turned: , c.frequencies -> , 0 * c.frequencies
        Queries and keys are not rotated: no RoPE at all.
    only queries turned: turned(k, places, speeds) -> k
        Queries are rotated, keys are not.
    only keys turned: turned(q, places, speeds) -> q
        Keys are rotated, queries are not.
    values turned too: keys, -> v = turned(v, places, speeds); keys,
        Values are rotated too. RoPE is for queries and keys.
    turned backwards: , c.frequencies -> , -c.frequencies
        Queries and keys are turned the other way round: the sine has the other sign,
        or cos and sin stand in each other's place.
    turned by twice the angle: , c.frequencies -> , 2 * c.frequencies
        Queries and keys are turned by twice the angle.
    rope_theta of 10,000: , c.frequencies -> , of_base(c, 1e4)
        Queries and keys are turned as if rope_theta were 10,000, the usual default. Take the config's.
    rope_theta of 100,000: , c.frequencies -> , of_base(c, 1e5)
        Queries and keys are turned as if rope_theta were 100,000. Take the config's.
    rope_theta of 500,000: , c.frequencies -> , of_base(c, 5e5)
        Queries and keys are turned as if rope_theta were 500,000, that of Llama 3. Take the config's.
    rope_theta of 1,000,000: , c.frequencies -> , of_base(c, 1e6)
        Queries and keys are turned as if rope_theta were 1,000,000. Take the config's.
    no scaling of the frequencies: , c.frequencies -> , of_base(c, c.theta)
        The frequencies are those of rope_theta alone. This config has a rope_scaling, which changes them.
    heads repeated in turn: y.repeat_interleave(c.group_size, dim=1) -> in_turn(y, c)
        Key/value heads are repeated in turn, 0 1 2 0 1 2 ... Neighbouring query heads share one: 0 0 0 1 1 1 ...
    heads of keys repeated in turn: scores = -> keys = in_turn(k, c); scores =
        The heads of keys are repeated in turn, 0 1 2 0 1 2 ..., those of values are not. Neighbouring query heads share
        one: 0 0 0 1 1 1 ...
    heads of values repeated in turn: scores = -> values = in_turn(v, c); scores =
        The heads of values are repeated in turn, 0 1 2 0 1 2 ..., those of keys are not. Neighbouring query heads share
        one: 0 0 0 1 1 1 ...
    one key/value head for all: keys, -> k, v = k[:, :1].expand_as(k), v[:, :1].expand_as(v); keys,
        All query heads read key/value head 0.
    scores not scaled: / c.head_dim**0.5 -> #
        The scores are not divided by the root of head_dim.
    scores divided by head_dim: c.head_dim**0.5 -> c.head_dim
        The scores are divided by head_dim, or by its root twice. Divide by its root, once.
    scores scaled by the model's width: c.head_dim**0.5 -> x.shape[-1] ** 0.5
        The scores are divided by the root of dim. Divide by that of head_dim, the width of one head.
    scores multiplied: / c.head_dim**0.5 -> * c.head_dim**0.5
        The scores are multiplied by the root of head_dim. Divide by it.
    scores in bfloat16: scores = q @ keys.mT -> scores = (q.bfloat16() @ keys.bfloat16().mT).float()
        The scores are computed in bfloat16, which keeps two or three digits.
    every token sees the future: fill(future, -> fill(future & False,
        No mask: each token reads the later ones too.
    the token itself is hidden: places > places[:, None] -> (places >= places[:, None]) & (places > 0)
        A token cannot read itself. The mask hides later tokens alone.
    the mask looks the wrong way: places > places[:, None] -> places < places[:, None]
        The mask is turned: each token reads itself and the later ones. It reads the earlier ones.
    one token too many: places > places[:, None] -> places > places[:, None] + 1
        Each token reads one later token.
    softmax over the queries: softmax(-1) -> softmax(-2).nan_to_num()
        The softmax runs over the queries. For each query it runs over the keys, the last axis.
    softmax before the mask: .masked_fill(future, -torch.inf).softmax(-1) -> .softmax(-1).masked_fill(future, 0)
        The softmax comes before the mask, so what the future took is lost: the weights of a token add up to less than
        1. Mask the scores first.
    heads merged without transposing: transpose(1, 2).flatten(2) -> reshape(*q.shape[::2], -1)
        The heads are merged without being brought back behind the tokens: transpose(1, 2) first, then flatten.
    keys and values exchanged: keys, -> k, v = turned(v, places, speeds), turned(k, -places, speeds); keys,
        Keys and values stand in each other's place.
    queries and keys exchanged: wq, wk = w -> wk, wq = w
        The weights of queries and keys stand in each other's place.
    o_proj left out: @ w.o_proj.mT -> + 0
        What the heads found is returned without o_proj.
    o_proj transposed: w.o_proj.mT -> w.o_proj
        o_proj is transposed: its rows stand where its columns belong.
    result doubled: return mixed -> return 2 * mixed
        The result is twice what it should be: added to itself, perhaps.
    residual connection inside: return mixed -> return x + mixed
        Your attention layer adds what it was given to its result. The block adds its result, to the residual stream.
""")


def both(change: Any, w: Any, c: Any) -> tuple[Tensor, Tensor]:
    """The rows of q and k in another order, head by head."""
    return change(w.q_proj, c.n_heads), change(w.k_proj, c.n_kv_heads)


def in_turn(x: Tensor, c: Any) -> Tensor:
    return x.repeat(1, c.group_size, 1, 1)


def reordered_as_q(weight: Tensor, c: Any) -> Tensor:
    """Rows of k in the file's order, brought to layout half as if k had as many heads as q."""
    return to_half(to_interleaved(weight, c.n_kv_heads), c.n_heads)


def feed_forward(x: Tensor, w: Any) -> Tensor:
    gate, up = x @ w.gate_proj.mT, x @ w.up_proj.mT
    hidden = F.silu(gate) * up
    return hidden @ w.down_proj.mT


FEED_FORWARD = Catalogue(feed_forward)
FEED_FORWARD.slips("""
    gate and up exchanged: gate, up = -> up, gate =
        gate and up stand in each other's place: SiLU is for gate_proj's result.
    SiLU on both: * up -> * F.silu(up)
        SiLU is put on both. The branch of up_proj has no activation.
    SiLU on the product: F.silu(gate) * up -> F.silu(gate * up)
        SiLU is put on the product. It is for gate_proj's result alone.
    no activation: F.silu(gate) * up -> gate * up
        No activation: gate and up are multiplied as they are.
    GELU for SiLU: F.silu(gate) -> F.gelu(gate)
        The gate's activation is GELU, as in GeGLU. Llama's is SiLU.
    GELU's approximation for SiLU: F.silu(gate) -> F.gelu(gate, approximate="tanh")
        The gate's activation is GELU, approximated by tanh, as in Gemma. Llama's is SiLU.
    ReLU for SiLU: F.silu(gate) -> F.relu(gate)
        The gate's activation is ReLU. Llama's is SiLU.
    sigmoid for SiLU: F.silu(gate) -> F.sigmoid(gate)
        The gate's activation is the sigmoid, as in the first GLU. SiLU is x times its sigmoid.
    no gate: F.silu(gate) * up -> F.silu(up)
        gate_proj is not used: SiLU is put on up_proj's result, and nothing is multiplied.
    up not used: F.silu(gate) * up -> F.silu(gate)
        up_proj is not used: the gate's result goes on alone.
    a sum for the product: F.silu(gate) * up -> F.silu(gate) + up
        gate and up are added. They are multiplied.
    an activation behind down: return hidden @ w.down_proj.mT -> return F.silu(hidden @ w.down_proj.mT)
        SiLU is put on down_proj's result too. Nothing comes behind down_proj.
    a GELU behind down: return hidden @ w.down_proj.mT -> return F.gelu(hidden @ w.down_proj.mT)
        GELU is put on down_proj's result, as in widely copied articles. Nothing comes behind down_proj.
    result doubled: return hidden -> return 2 * hidden
        The result is twice what it should be: added to itself, perhaps.
    residual connection inside: return hidden -> return x + hidden
        Your layer adds what it was given to its result. The block adds its result, to the residual stream.
""")


def head(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.mT


HEAD = Catalogue(head)
HEAD.slips("""
    probabilities for logits: return x @ weight.mT -> return (x @ weight.mT).softmax(-1)
        The result has passed a softmax. Logits come without: the loss and sampling take the softmax themselves.
    log-probabilities for logits: return x @ weight.mT -> return (x @ weight.mT).log_softmax(-1)
        The result has passed a log-softmax. Logits come without: the loss and sampling take it themselves.
    logits scaled down: return x -> return x / x.shape[-1] ** 0.5
        The logits are divided by the root of dim, as in some models with tied weights. Llama does not scale them.
    logits scaled up: return x -> return x * x.shape[-1] ** 0.5
        The logits are multiplied by the root of dim. Llama does not scale them.
    rows shifted up: weight.mT -> weight.roll(1, 0).mT
        Each token has the logit of the token before it in the vocabulary.
    rows shifted down: weight.mT -> weight.roll(-1, 0).mT
        Each token has the logit of the next token in the vocabulary.
""")
