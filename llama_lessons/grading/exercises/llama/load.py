"""Exercise 3: a file's weights, put into the learner's own model."""

from collections.abc import Callable
from dataclasses import replace  # noqa: F401  # what slips below call
from typing import Any

import torch
from torch import Tensor, nn

from ...exercise import Exercise
from ...expect import Mismatch, expect_close
from ...families import another_error
from ..rope.to_interleaved import to_interleaved
from .common import described, small
from .Llama import Llama
from .one_llama import tokens_for
from .one_load import Seen, expected, loads, weights_in_file


def to_half(weight: Tensor, n_heads: int) -> Tensor:
    # In each head, rows 2i and 2i + 1 become rows i and i + head_dim / 2.
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def load(config: Any, weights: dict[str, Tensor]) -> tuple[nn.Module, dict[str, nn.Module]]:
    model = Llama(config)
    own = dict(model.named_parameters())
    theirs = "attn_norm ffn_norm attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down"
    ours = "attention_norm feed_forward_norm attention.q_proj attention.k_proj attention.v_proj attention.o_proj"
    ours += " feed_forward.gate_proj feed_forward.up_proj feed_forward.down_proj"
    places = {"token_embd.weight": "embedding.weight", "output_norm.weight": "norm.weight"}
    if not config.tied_embeddings:
        places["output.weight"] = "head.weight"
    for i in range(config.n_layers):
        for part, place in zip(theirs.split(), ours.split(), strict=True):
            places[f"blk.{i}.{part}.weight"] = f"blocks.{i}.{place}.weight"
    for name in places:
        if name not in weights:
            raise ValueError(f"{name} is missing")
    for name in weights:
        if name not in places:
            raise ValueError(f"{name} has no place in this Llama")
    with torch.no_grad():
        for name, place in places.items():
            weight = weights[name]
            if weight.shape != own[place].shape:
                raise ValueError(f"{name} is {tuple(weight.shape)}, not {tuple(own[place].shape)}")
            if ".attn_q." in name:
                weight = to_half(weight, config.n_heads)
            if ".attn_k." in name:
                weight = to_half(weight, config.n_kv_heads)
            own[place].copy_(weight)
    modules = {"embedding": model.embedding, "norm": model.norm, "head": model.head}
    for i, block in enumerate(model.blocks):
        modules[f"blocks.{i}"] = block
        for part in ("attention_norm", "attention", "feed_forward_norm", "feed_forward"):
            modules[f"blocks.{i}.{part}"] = getattr(block, part)
    return model, modules


TIED = {"tied_embeddings": True}
SIZES: list[dict[str, Any]] = [
    {},
    TIED,
    {"n_kv_heads": 1, "head_dim": 8, "norm_eps": 1.0, "n_layers": 3},
    {"n_kv_heads": 4, "dim": 32, "head_dim": 8, "rope_theta": 10_000.0, "norm_eps": 1e-5, **TIED},
    {"n_kv_heads": 2, "dim": 12, "head_dim": 8, "hidden_dim": 6, "n_layers": 11},
]
SQUARE = {"vocab_size": 16, "dim": 16, "n_kv_heads": 4, "head_dim": 4, "hidden_dim": 16, "n_layers": 1}
MISSING = ("token_embd.weight", "output.weight", "output_norm.weight", "blk.0.attn_q.weight", "blk.1.ffn_norm.weight")
EXTRA = ("rope_freqs.weight", "blk.2.attn_q.weight", "blk.0.attn_q.bias", "embedding.weight")
MISSHAPEN = (*MISSING, "blk.1.attn_k.weight", "blk.0.ffn_down.weight", "blk.1.attn_norm.weight")


def given(seed: int, batch: int = 2, seq_len: int = 6, **sizes: Any) -> tuple:
    config = small(**sizes)
    return config, tokens_for(config, batch, seq_len, seed=seed)


def cases() -> list[tuple]:
    """Heads of all kinds, tied or not, and files that do not fit."""
    made = [given(1, 1, 4), given(2, 1, 4, n_layers=1, head_dim=8, **TIED), given(3, 1, 4, **SIZES[3], n_layers=1)]
    made.append(given(4, 1, 4, **SQUARE))
    config, tokens = given(6, 1, 1, n_layers=1)
    for wrong in ("missing blk.0.attn_v.weight", "missing output.weight", "extra blk.1.attn_v.weight"):
        made.append((config, tokens, wrong))
    made += [(config, tokens, f"misshapen blk.0.{name}.weight") for name in ("attn_v", "ffn_norm")]
    return [*made, (config, tokens, "transposed blk.0.ffn_up.weight")]


exercise = Exercise(
    load,
    points=6,
    minutes=20,
    cases=cases,
    returns=(Tensor, str, int, str, str, str),
    using=loads,
    hints=(
        "Print the names in your own model: for name, p in model.named_parameters(): print(name, tuple(p.shape)). "
        "For each name of the file, write down where it goes: a dictionary of these makes the rest short.",
        "Compare the names first, both ways, and the shapes before anything is written. Only two kinds of tensors are "
        "changed on their way, and each has its own number of heads.",
        "Lesson 03's to_interleaved cuts a head's rows into (2, head_dim / 2) and exchanges these axes. Its inverse "
        "cuts them into (head_dim / 2, 2).",
    ),
)


def shown(config: Any) -> str:
    tied = "tied head, " if config.tied_embeddings else ""
    return f"{tied}{config.n_layers} layers, {described(config)}"


@exercise.property("the file's weights are all in the model: its logits are theirs")
def same_logits(answer: Callable) -> None:
    for seed, size in enumerate((*SIZES, SQUARE)):
        config, tokens = given(seed, **size)
        seen = Seen(*answer(config, tokens))
        if seen.chance:
            names = seen.chance.split(", ")
            told = f"{', '.join(names[:2])}{f' and {len(names) - 2} more' * (len(names) > 2)}"
            raise Mismatch(
                f"{shown(config)}: loaded twice, expected the same model, got other numbers each time. Of the file's "
                f"tensors, these are not in the model: {told}"
            )
        expect_close(seen.logits, expected(config, tokens)["head"], where=shown(config), atol=1e-3, rtol=1e-4)


@exercise.property("as many parameters as numbers in the file: a tied head stays tied")
def count(answer: Callable) -> None:
    for size in SIZES[:2]:
        config, tokens = given(0, **size)
        got, want = Seen(*answer(config, tokens)).count, sum(w.numel() for w in weights_in_file(config).values())
        if got != want:
            raise Mismatch(f"{shown(config)}: expected a model with {want:,} numbers, got one with {got:,}")


@exercise.property("with caches: in pieces the same")
def in_pieces(answer: Callable) -> None:
    config, tokens = given(5, **SIZES[3])
    got, want = Seen(*answer(config, tokens, "", (4, 2))).logits, expected(config, tokens)["head"]
    expect_close(got, want, where=f"read in pieces of 4, 2, {shown(config)}", atol=1e-3, rtol=1e-4)


def expect_refusals(answer: Callable, kind: str, names: tuple[str, ...], **sizes: Any) -> None:
    config, tokens = given(0, **sizes)
    for name in names:
        refusal, want = Seen(*answer(config, tokens, f"{kind} {name}")).refusal, "a ValueError that names it"
        if refusal != want:
            raise Mismatch(f"where {name} is {kind}: expected {want}, got {refusal}")


@exercise.property("a missing tensor: a ValueError that names it")
def missing(answer: Callable) -> None:
    expect_refusals(answer, "missing", MISSING)
    expect_refusals(answer, "missing", tuple(weights_in_file(given(0)[0])))


@exercise.property("an extra tensor: a ValueError that names it")
def extra(answer: Callable) -> None:
    expect_refusals(answer, "extra", EXTRA)
    expect_refusals(answer, "extra", ("output.weight",), **TIED)


@exercise.property("a tensor of another shape: a ValueError that names it")
def misshapen(answer: Callable) -> None:
    expect_refusals(answer, "misshapen", MISSHAPEN)
    expect_refusals(answer, "transposed", ("blk.1.attn_output.weight", "blk.0.ffn_down.weight"))


@exercise.property("what load is given stays as it was")
def unchanged(answer: Callable) -> None:
    for size in SIZES[:2]:
        if changed := Seen(*answer(*given(1, **size))).changed:
            raise Mismatch(f"after load, {changed} is no longer what it was in the weights")


@exercise.property("modules: by each role the module of your own that plays it")
def roles(answer: Callable) -> None:
    for size in SIZES[:3]:
        config, tokens = given(2, **size)
        if wrong := Seen(*answer(config, tokens)).roles:
            raise Mismatch(f"modules, {shown(config)}: {wrong}")


exercise.slips("""
    layout left as it is: own[place].copy_(weight) -> own[place].copy_(weights[name])
        The rows of queries and keys stay as the file has them, in layout interleaved. Your apply_rope turns channel i
        with i + head_dim / 2: put rows 2i and 2i + 1 of each head to i and i + head_dim / 2.
    queries' layout left: weight = to_half(weight, config.n_heads) -> pass
        The rows of the keys are put into layout half, those of the queries stay interleaved. Both are rotated.
    keys' layout left: weight = to_half(weight, config.n_kv_heads) -> pass
        The rows of the queries are put into layout half, those of the keys stay interleaved. Both are rotated.
    keys as if they had n_heads heads: (weight, config.n_kv_heads) -> (weight, config.n_heads)
        The rows of the keys are reordered as those of n_heads heads. Keys have n_kv_heads.
    queries as if they had n_kv_heads heads: (weight, config.n_heads) -> (weight, config.n_kv_heads)
        The rows of the queries are reordered as those of n_kv_heads heads. Queries have n_heads.
    values reordered too: ".attn_k." in name -> ".attn_k." in name or ".attn_v." in name
        The rows of the values are reordered too. They are not rotated, so they have no layout, and stay.
    queries and keys exchanged: attn_q attn_k -> attn_k attn_q
        attn_q and attn_k go into each other's place.
    keys and values exchanged: attn_k attn_v -> attn_v attn_k
        attn_k and attn_v go into each other's place.
    gate and up exchanged: ffn_gate ffn_up -> ffn_up ffn_gate
        ffn_gate and ffn_up go into each other's place. Shapes cannot tell.
    norms exchanged: attn_norm ffn_norm -> ffn_norm attn_norm
        attn_norm and ffn_norm go into each other's place. Shapes cannot tell.
    norms left at 1: weight = weights[name] -> weight = own[place] if "norm" in name else weights[name]
        The gains of the norms are not loaded: they are still 1.
    norms of attention left at 1: = weights[name] -> = own[place] if "attn_norm" in name else weights[name]
        The gains of the norms before attention are not loaded: they are still 1. The file calls them attn_norm.
    norms of feed-forward left at 1: = weights[name] -> = own[place] if "ffn_norm" in name else weights[name]
        The gains of the norms before the feed-forward layer are not loaded: they are still 1. The file calls them
        ffn_norm.
    only the last norm left at 1: weight = weights[name] -> weight = weights[name] ** (name != "output_norm.weight")
        The gains of the last norm are not loaded: they are still 1. The file calls them output_norm.weight.
    nothing loaded: own[place].copy_(weight) -> own[place].clone().copy_(weight)
        Each load gives other numbers, and none of the file's matrices is in the model: it keeps what it was drawn with,
        as where weights are written into copies of its parameters. Write into the parameters themselves.
    values left at random: weight = weights[name] -> weight = own[place] if "attn_v." in name else weights[name]
        Each load gives other numbers: the values' matrices, attn_v, do not get into the model.
    down left at random: weight = weights[name] -> weight = own[place] if "ffn_down." in name else weights[name]
        Each load gives other numbers: the matrices ffn_down do not get into the model.
    the head left at random: weight = weights[name] -> weight = own[place] if name == "output.weight" else weights[name]
        Where the head is not tied, each load gives other numbers: output.weight does not get into the head.
    the head from the embedding: weights[name] -> weights["token_embd.weight" if name == "output.weight" else name]
        Where the head is not tied, it gets the embedding's numbers. The file has its own, output.weight.
    output.weight asked for: if not config.tied_embeddings: -> if True:
        You ask for output.weight in every file. Where the head is tied there is none.
    output.weight refused: if not config.tied_embeddings: -> if False:
        You have no place for output.weight. Where the head is not tied, it is the head's.
    no longer tied: return model, -> model.head.weight = nn.Parameter(1 * model.head.weight); return model,
        The head has a Parameter of its own afterwards, where it should be the embedding's. Write into what is there.
    all into block 0: f"blocks.{i}.{place} -> f"blocks.0.{place}
        Where there are several layers, each load gives other numbers: block i does not get the weights of blk.i.
    those of blk.0 in every block: weights[name] -> weights[name.replace("blk.1.", "blk.0.")]
        All blocks get the weights of blk.0. Block i has those of blk.i.
    blocks from last to first: f"blocks.{i}.{place} -> f"blocks.{config.n_layers - 1 - i}.{place}
        The blocks get their weights in the opposite order: blk.0 is the first one that is run.
    another eps: Llama(config) -> Llama(replace(config, norm_eps=1e-5))
        Your logits are those for a norm_eps of 1e-5, whatever config.norm_eps is. Make the model from config itself.
    another theta: Llama(config) -> Llama(replace(config, rope_theta=10_000.0))
        Your logits are those for a rope_theta of 10,000, whatever the config says. Make the model from config itself.
    transposed: own[place].copy_(weight) -> own[place].copy_(weight.permute(*range(weight.ndim)[::-1]))
        You transpose the matrices. The file's have the shapes of nn.Linear already: (channels out, channels in).
    in bfloat16: Llama(config) -> Llama(config).bfloat16()
        Your model is in bfloat16. The weights are float32, and stay so.
    a KeyError where one is missing: if name not in weights: -> if False:
        A missing tensor ends in a KeyError. Look first, and raise a ValueError with its name.
    missing ones passed over: raise ValueError(f"{name} is missing") -> weights = {name: own[places[name]]} | weights
        A missing tensor is passed over, and the model keeps random numbers there without a word. Raise a ValueError
        that names it.
    extra ones passed over: raise ValueError(f"{name} has no place in this Llama") -> pass
        A tensor for which your model has no place is passed over. The file is then another model than you think: raise
        a ValueError that names it.
    shapes not looked at: if weight.shape != own[place].shape: -> if False:
        A tensor of another shape ends in a RuntimeError, or, if torch can stretch it to the parameter's shape, in no
        error at all. Compare the shapes first, and raise a ValueError that names it.
    only how many numbers: weight.shape != own[place].shape -> weight.numel() != own[place].numel()
        You compare how many numbers there are. Another shape with as many is wrong too: compare the shapes.
    the missing one not named: f"{name} is missing" -> "something is missing"
        Of a missing tensor your ValueError does not say which. Put its name into the text, as the file has it.
    the extra one not named: f"{name} has no place in this Llama" -> "something has no place"
        Of an extra tensor your ValueError does not say which. Put its name into the text, as the file has it.
    the misshapen one not named: f"{name} is {tuple -> f"it is {tuple
        Of a tensor of another shape your ValueError does not say which. Put its name into the text, as the file has it.
    weights taken out: weight = weights[name] -> weight = weights.pop(name)
        The numbers are right, but the dictionary that you were given has lost tensors. Read it, and leave it as it is.
    reordered in place: own[place].copy_(weight) -> own[place].copy_(weights[name].copy_(weight))
        The numbers are right, but the tensors that you were given are reordered themselves, so a second load would do
        it twice. Reorder a copy.
    the blocks left out: modules[f"blocks.{i}"] = block -> pass
        The numbers are right, but modules has no blocks.0: the block itself is to be found by its role too.
    the head left out: , "head": model.head} -> }
        The numbers are right, but modules has no head, though your model has a module for it.
    names, not modules: getattr(block, part) -> part
        The numbers are right, but modules holds names. It is to hold the modules themselves.
""")
another_error(exercise)


def reordered(config: Any, weights: dict[str, Tensor], order: Callable) -> dict[str, Tensor]:
    """The same weights, with the rows of queries and keys reordered."""
    heads = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads}
    parts = {name: name.split(".")[-2] for name in weights}
    return {name: order(w, heads[parts[name]]) if parts[name] in heads else w for name, w in weights.items()}


@exercise.misconception
def layout_turned_the_wrong_way(config, weights):
    """The rows of queries and keys are reordered the wrong way, as your to_interleaved does it, from half to
    interleaved. The file is interleaved already: what you need is the way back.
    """
    return load(config, reordered(config, weights, lambda w, n: to_interleaved(to_interleaved(w, n), n)))


@exercise.misconception
def layout_of_a_single_head(config, weights):
    """The rows of queries and keys are reordered as if all were one head. Each head is reordered by itself."""
    return load(config, reordered(config, weights, lambda w, n: to_interleaved(to_half(w, 1), n)))


@exercise.misconception
def not_strict(config, weights):
    """Missing tensors are passed over, and extra ones too, as with load_state_dict(strict=False). The model is then not
    that of the file, and nobody knows: raise a ValueError that names the tensor.
    """
    places = weights_in_file(config).keys()
    known = {name: weight for name, weight in weights.items() if name in places}
    drawn = {name: 0 * weight for name, weight in weights_in_file(config).items()}
    return load(config, drawn | known)
