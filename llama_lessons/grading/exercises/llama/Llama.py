"""Exercise 2: the whole model, from token ids to logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import Mismatch, exact, expect_close, expect_like, random_tensor
from ...families import batch_of_one
from ..norms.RMSNorm import RMSNorm
from ..rope.rope_frequencies import rope_frequencies
from ..rope.rope_tables import rope_tables
from .Block import Block
from .one_llama import GAP, Seen, expected, given, reads, shown, weights_of


class Llama(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        vocab_size, dim, eps = config.vocab_size, config.dim, config.norm_eps
        self.embedding = nn.Embedding(vocab_size, dim)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = RMSNorm(dim, eps)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight
        self.frequencies = rope_frequencies(config.head_dim, config.rope_theta)

    def forward(self, tokens: Tensor, caches: list | None = None) -> Tensor:
        start = caches[0].length if caches else 0
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        cos, sin = rope_tables(positions, self.frequencies)
        x = self.embedding(tokens)
        for i, block in enumerate(self.blocks):
            cache = caches[i] if caches else None
            x = block(x, cos, sin, cache)
        x = self.norm(x)
        return self.head(x)


TIED = {"tied_embeddings": True}
SIZES: list[dict[str, Any]] = [
    {},
    TIED,
    {"n_kv_heads": 4, "dim": 24, "norm_eps": 1e-5, "rope_theta": 10_000.0, "n_layers": 3, **TIED},
    {"n_kv_heads": 1, "hidden_dim": 8, "n_layers": 1},
    {"n_heads": 2, "n_kv_heads": 2, "head_dim": 4, "dim": 12, "norm_eps": 1.0, "vocab_size": 50},
]


def cases() -> list[tuple]:
    """Tied and untied, one layer and more, constants that are defaults and others, texts in pieces, gradients."""
    made = [given(1, 2, 5, **TIED), given(2, 1, 4, **SIZES[3], rope_theta=10_000.0), (*given(3, 1, 4), (3, 1))]
    made += [(*given(4, 1, 6, **TIED, n_layers=1), (3, 1, 2)), (*given(5, 1, 4, **TIED, n_layers=1), (), "learns")]
    made += [given(8, 1, 4, n_layers=4), (*given(9, 1, 5, n_layers=1), (4, 1))]
    made += [(*given(6, 1, 3, n_layers=1), (), "silent"), (*given(7, 1, 4, n_layers=1), (2, 2), "bfloat16")]
    return made


exercise = Exercise(
    Llama,
    points=6,
    minutes=18,
    cases=cases,
    returns=(Tensor, int, int, Tensor, str),
    using=reads,
    hints=(
        "Follow the tokens: a row of the table for each, blocks that each take what the one before it returned, one "
        "norm, the head. What is made in the constructor, and what anew in each call?",
        "Positions and their tables are the same for all blocks, so make them once, before the first one: that one "
        "appends to its cache. How many tokens stand before the new ones says caches[0].length.",
        "A list of modules is registered as an nn.ModuleList only. And two modules have one weight if the same "
        "Parameter is assigned to both.",
    ),
)


@exercise.property("logits for each token: (batch, seq_len, vocab_size), in float32")
def shape_and_dtype(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        for shape in ((2, 5), (1, 1), (3, 2)):
            config, tokens = given(seed, *shape, **size)
            logits = Seen(*answer(config, tokens)).logits
            where = shown(config, tokens)
            expect_like(logits, shape=(*shape, config.vocab_size), dtype=torch.float32, where=where)


@exercise.property("as many parameters as the config asks for")
def count(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        config, tokens = given(seed, **size)
        weights = weights_of(config)
        if config.tied_embeddings:
            del weights["output.weight"]
        got, want = Seen(*answer(config, tokens)).count, sum(weight.numel() for weight in weights.values())
        if got != want:
            raise Mismatch(f"parameters, {shown(config, tokens)}: expected {want:,} numbers, got {got:,}")


@exercise.property("where all matrices of the blocks are 0: embedding, last norm, head")
def silent(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        config, tokens = given(seed, **size)
        seen = Seen(*answer(config, tokens, (), "silent"))
        if seen.known == "known":
            weights = {name: w * (w.ndim == 1 or "blk" not in name) for name, w in weights_of(config).items()}
            want = expected(config, tokens, weights)
            expect_close(seen.logits, want, where=f"matrices of 0 in the blocks, {shown(config, tokens)}", atol=1e-4)


@exercise.property("the formula: embedding, all blocks in their order, last norm, head")
def formula(answer: Callable) -> None:
    for seed, size in enumerate(SIZES):
        config, tokens = given(seed, **size)
        seen = Seen(*answer(config, tokens))
        if seen.known == "known":
            expect_close(seen.logits, expected(config, tokens), where=shown(config, tokens), atol=1e-3, rtol=1e-4)


@exercise.property("with caches: in pieces the same as at once")
def in_pieces(answer: Callable) -> None:
    for size, pieces in (({}, (4, 2)), (SIZES[2], (1, 1, 4)), (SIZES[3], (3, 3)), (TIED, (6,))):
        config, tokens = given(5, **size)
        want = Seen(*answer(config, tokens)).logits
        where = f"read in pieces of {', '.join(map(str, pieces))}, {shown(config, tokens)}"
        expect_close(Seen(*answer(config, tokens, pieces)).logits, want, where=where, atol=1e-3, rtol=1e-4)


@exercise.property("later tokens and other rows of the batch change nothing")
def causal(answer: Callable) -> None:
    config, tokens = given(6, 3, 6)
    changed = tokens.clone()
    changed[:, 4:], changed[2] = (tokens[:, 4:] + 1) % 23, (tokens[2] + 5) % 23
    got, want = (Seen(*answer(config, x)).logits[:2, :4] for x in (changed, tokens))
    where = "tokens 0 to 3 of rows 0 and 1, after everything else was replaced"
    expect_close(got, want, where=where, atol=1e-4, rtol=1e-4)


@exercise.property("positions count, and rope_theta and norm_eps are the config's")
def constants(answer: Callable) -> None:
    config, tokens = given(6, 2, 6, n_layers=1)
    first = Seen(*answer(config, tokens)).logits[:, -1]
    turned = tokens[:, [1, 2, 0, 3, 4, 5]]
    for what, *args in (
        ("tokens 0, 1 and 2 in another order", config, turned),
        ("a rope_theta of 50 in place of 500", given(0, n_layers=1, rope_theta=50.0)[0], tokens),
        ("a norm_eps of 0.3 in place of 0.1", given(0, n_layers=1, norm_eps=0.3)[0], tokens),
    ):
        other = Seen(*answer(*args)).logits[:, -1]
        if torch.allclose(first, other, atol=1e-3):
            raise Mismatch(f"one layer, {what}: expected other logits of the last token, got the same")


@exercise.property("gradients reach all parameters, and the embedding from both ends where it is tied")
def gradients(answer: Callable) -> None:
    for size in ({}, TIED):
        config, tokens = given(7, 1, 4, **size)
        seen = Seen(*answer(config, tokens, (), "learns"))
        if seen.idle:
            raise Mismatch(f"{shown(config, tokens)}: no gradient reaches {seen.idle:,} of {seen.count:,} numbers")
        if seen.known == "known":
            weights = {name: exact(weight) for name, weight in weights_of(config).items()}
            table = weights["token_embd.weight"].requires_grad_()
            logits = expected(config, tokens, weights)
            upstream = random_tensor(*logits.shape, seed=9).double()
            (want,) = torch.autograd.grad((logits * upstream).sum(), table)
            where = f"gradient of the embedding, {shown(config, tokens)}"
            expect_close(seen.gradient, want, where=where, atol=1e-2, rtol=1e-3)


@exercise.property("positions go on from caches[0].length, far ones too, and in bfloat16")
def far(answer: Callable) -> None:
    for seed in range(3):
        config, tokens = given(seed, 3, 6, n_layers=1, max_seq_len=32_768, rope_theta=10_000.0, dim=16, head_dim=8)
        seen, half = (Seen(*answer(config, tokens, (3, 3), how)) for how in ("rounded", "bfloat16"))
        where = f"3 tokens where caches[0].length says {GAP + 3:,}"
        want = exact(seen.logits.detach())
        if seen.known == "known":
            weights = {name: weight.bfloat16() for name, weight in weights_of(config).items()}
            places = torch.tensor([0, 1, 2, GAP + 3, GAP + 4, GAP + 5])
            want = expected(config, tokens, weights, positions=places)
            expect_close(seen.logits, want, where=where, atol=1e-2, rtol=1e-3)
        off = (exact(half.logits.detach()) - want).norm(dim=-1) / want.norm(dim=-1)
        if not off[:, 3:].mean() < 0.05:
            raise Mismatch(f"{where}, model in bfloat16: logits are off by {off[:, 3:].mean():.0%}, not by about 1%")


def tables_now(model: Llama, tokens: Tensor, caches: list | None) -> tuple[Tensor, Tensor]:
    """Tables from the length that the first cache has now."""
    start = caches[0].length if caches else 0
    return rope_tables(torch.arange(start, start + tokens.shape[1], device=tokens.device), model.frequencies)


exercise.slips("""
    never tied: if config.tied_embeddings: -> if False:
        Where config.tied_embeddings is True, your head has a weight of its own. It has to be the embedding's, the
        Parameter itself and no copy: self.head.weight = self.embedding.weight.
    always tied: if config.tied_embeddings: -> if True:
        Where config.tied_embeddings is False, your head is tied to the embedding all the same. It has a weight of its
        own there.
    tied by memory alone: .weight = self.embedding.weight -> .weight.data = self.embedding.weight.data
        Head and embedding share their memory, but are two Parameters: they count twice, and each has a gradient of its
        own. Assign the Parameter, not its .data.
    tied to a copy: self.head.weight = -> del self.head.weight; self.head.weight = 1 *
        Your head computes with the embedding as it was when the model was made. Training or loading changes the one and
        not the other. Assign the Parameter itself, or take self.embedding.weight in forward.
    a bias in the head: bias=False -> bias=True
        Your head has a bias. Llama's has none.
    no last norm: RMSNorm(dim, eps) -> nn.Identity()
        There is no norm before the head. The stream that leaves the last block is normalised, with gains of its own.
    the last norm not called: x = self.norm(x) -> pass
        The last norm is made, but not called: the head reads the stream as it leaves the last block.
    the last norm with the default eps: RMSNorm(dim, eps) -> RMSNorm(dim)
        Your last norm has the default eps of 1e-5, whatever config.norm_eps is. Pass it on.
    a norm before the blocks too: x = self.embedding(tokens) -> x = self.norm(self.embedding(tokens))
        The embeddings are normalised before the first block. There is one norm outside of the blocks, before the head.
    norms between blocks: caches[i] if caches else None -> caches[i] if caches else None; x = self.norm(x) if i else x
        The stream is normalised between the blocks as well. Outside of them there is one norm, before the head.
    added once more: x = block( -> x = x + block(
        You add x to what a block returns. A block returns the stream, with x in it already.
    what a block returns is lost: x = block( -> _ = block(
        What the blocks return is not used: the head reads the embeddings. A block returns a new stream: x = block(...).
    every block reads the embeddings: x = block(x, -> x = block(self.embedding(tokens),
        Every block reads the embeddings, so the last one alone has an effect. A block reads what the one before it
        returned.
    one block, run again and again: [Block(config) for _ in range(config.n_layers)] -> [Block(config)] * config.n_layers
        All blocks are one and the same: [Block(config)] * n repeats a reference. Make each: a comprehension calls
        Block(config) anew.
    blocks in a plain list: nn.ModuleList([ -> list([
        Your blocks are not registered: a plain list hides them from parameters(), .to() and state_dict(). Put them into
        an nn.ModuleList.
    one block too few: range(config.n_layers) -> range(config.n_layers - 1)
        There is one block less than config.n_layers.
    only the first block is run: enumerate(self.blocks) -> enumerate(self.blocks[:1])
        Only the first block is run. Look for a return inside of the loop.
    every second block: enumerate(self.blocks): -> list(enumerate(self.blocks))[::2]:
        Every second block is run, and those between are not.
    the last block is not run: enumerate(self.blocks): -> list(enumerate(self.blocks))[: max(len(self.blocks) - 1, 1)]:
        The last block is made, but not run.
    from last to first: enumerate(self.blocks) -> enumerate(self.blocks[::-1])
        Your blocks are run from the last to the first.
    theta left out: , config.rope_theta) -> )
        Your frequencies have the default theta of 10,000, whatever config.rope_theta is. Pass it on.
    cos and sin exchanged: block(x, cos, sin, -> block(x, sin, cos,
        Your blocks rotate the wrong way round, as where cos and sin stand in each other's place when you call a block.
    positions always from 0: start = caches[0].length if caches else 0 -> start = 0
        New tokens stand at positions 0, 1, ... even where caches hold tokens. They follow those: count from
        caches[0].length.
    one position for all new tokens: start + tokens.shape[1] -> start + 1
        All new tokens are rotated by the angle of the first one. They stand at start, start + 1 ...
    length read too late: x = block( -> cos, sin = tables_now(self, tokens, caches); x = block(
        With caches, the tables of the second block on are those of positions too far on: the first block has appended
        the new tokens, and caches[0].length counts them. Read it once, before the blocks.
    the first cache for all blocks: caches[i] if -> caches[0] if
        All blocks use the first cache. Each block has keys and values of its own: caches[i].
    caches not handed on: caches[i] if caches else None -> None
        The caches do not arrive: each piece is read as if nothing came before it. Hand caches[i] to block i.
    embeddings made larger: self.embedding(tokens) -> self.embedding(tokens) * self.embedding.weight.shape[1] ** 0.5
        The embeddings are multiplied by the root of dim, as in the first Transformer. Llama takes them as they are.
    a softmax at the end: return self.head(x) -> return self.head(x).softmax(dim=-1)
        You return probabilities. Logits are asked for: losses and samplers bring their own softmax.
    the last token's logits alone: return self.head(x) -> return self.head(x[:, -1:])
        You return logits of the last token alone. Training needs those of each.
    no head: return self.head(x) -> return x
        You return the normalised stream. The head makes logits of it.
    dropout: x = self.embedding(tokens) -> x = nn.functional.dropout(self.embedding(tokens), 0.1)
        A tenth of the embeddings is set to 0 at random. Llama has no dropout.
    a padding token: nn.Embedding(vocab_size, dim) -> nn.Embedding(vocab_size, dim, 0)
        The numbers are right, but the row of token 0 does not learn where that token is read: padding_idx=0 says that
        it is padding. Leave that out.
    no gradient to the embedding: x = self.embedding(tokens) -> x = self.embedding(tokens).detach()
        The numbers are right, but no gradient goes back from the blocks to the embedding: something cuts it off.
    no gradient to the blocks: x = self.norm(x) -> x = self.norm(x.detach())
        The numbers are right, but no gradient gets past the last norm: something cuts it off.
    frequencies cast: start = caches -> self.frequencies = self.frequencies.to(self.norm.weight); start = caches
        In bfloat16 your frequencies are rounded, as a buffer or a Parameter is when the model is cast: with 8 bits, far
        positions are turned by wrong angles. Keep them as a plain attribute in float64, or make them in forward.
    positions cast: device=tokens.device) -> device=tokens.device).to(self.norm.weight.dtype)
        In bfloat16 your positions are rounded: it has 8 bits, so that 20,003 and 20,004 are one. Leave them integers.
""")
batch_of_one(exercise, "tokens")


@exercise.misconception
class no_gradient_from_the_tied_head(Llama):
    """The numbers are right, but the tied head gives no gradient: it computes with .detach() or .data of the embedding.
    It has to be the Parameter itself.
    """

    def __init__(self, config):
        super().__init__(config)
        if config.tied_embeddings:
            del self.head.weight
            self.head.weight = self.embedding.weight.detach()


@exercise.misconception
class learned_positions_too(Llama):
    """There is a table of positions too, as in GPT-2. In Llama the rotation alone says where a token stands: the
    residual stream begins with the embeddings.
    """

    def __init__(self, config):
        super().__init__(config)
        self.places = nn.Embedding(config.max_seq_len, config.dim)
        places = torch.arange(config.max_seq_len)
        self.embedding.register_forward_hook(lambda _, seen, x: x + self.places(places[: x.shape[1]].to(x.device)))
