"""Exercise 4: how many numbers a block of Llama learns."""

from collections.abc import Callable

import torch

from llama_lessons import presets
from llama_lessons.llama import Block, LlamaConfig

from ...exercise import Exercise
from ...expect import Mismatch


def block_parameters(config: LlamaConfig) -> int:
    q_width = config.n_heads * config.head_dim
    kv_width = config.n_kv_heads * config.head_dim
    attention = config.dim * (q_width + 2 * kv_width + q_width)
    feed_forward = 3 * config.dim * config.hidden_dim
    norms = 2 * config.dim
    return attention + feed_forward + norms


def odd_config(**sizes: int) -> LlamaConfig:
    """Sizes that are all different, and heads that together are wider than the model."""
    odd = {"vocab_size": 13, "dim": 20, "n_layers": 3, "n_heads": 6, "n_kv_heads": 2, "head_dim": 5, "hidden_dim": 17}
    return LlamaConfig(**(odd | {"max_seq_len": 64} | sizes))


def cases() -> list[tuple]:
    """Published sizes, and odd ones."""
    sizes = [{}, {"n_kv_heads": 6}, {"n_kv_heads": 1, "hidden_dim": 40}, {"n_layers": 1}, {"head_dim": 8, "dim": 9}]
    return [(odd_config(**size),) for size in sizes] + [(presets.llama3("70B"),), (presets.smollm2("360M"),)]


exercise = Exercise(
    block_parameters,
    points=3,
    minutes=6,
    cases=cases,
    returns=int,
    hints=(
        "Write down the shape of each matrix in a block: four in attention, three in the feed-forward layer. And what "
        "do the two norms learn?",
        "Keys and values have n_kv_heads heads, queries n_heads. Together n_heads heads need not be as wide as dim.",
    ),
)


def expect_count(answer: Callable, name: str, config: LlamaConfig, want: int) -> None:
    got = answer(config)
    if got != want:
        raise Mismatch(f"{name}: expected {want:,}, got {got:,}")


def counted(config: LlamaConfig) -> int:
    """The numbers of a real block, which lies nowhere."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Block(config).parameters())


@exercise.property("Llama 3 8B: 218,112,000")
def llama_3(answer: Callable) -> None:
    expect_count(answer, "a block of Llama 3 8B", presets.llama3("8B"), 218_112_000)


@exercise.property("as many as the course's blocks of published models hold")
def published(answer: Callable) -> None:
    models = {
        "Llama 1 7B": presets.llama1("7B"),
        "Llama 2 70B": presets.llama2("70B"),
        "Llama 3.1 405B": presets.llama3_1("405B"),
        "Llama 3.2 1B": presets.llama3_2("1B"),
        "SmolLM2-135M": presets.smollm2("135M"),
    }
    for name, config in models.items():
        expect_count(answer, f"a block of {name}", config, counted(config))


@exercise.property("heads that together are wider or narrower than the model")
def head_dim_of_its_own(answer: Callable) -> None:
    for sizes in ({}, {"head_dim": 2}, {"n_heads": 12, "n_kv_heads": 3}):
        config = odd_config(**sizes)
        heads = f"{config.n_heads} query heads and {config.n_kv_heads} key/value heads of {config.head_dim} channels"
        expect_count(answer, f"dim {config.dim}, {heads}, hidden_dim {config.hidden_dim}", config, counted(config))


exercise.slips("""
    keys and values as many as queries: kv_width = config.n_kv_heads -> kv_width = config.n_heads
        Your keys and values have as many heads as the queries. They have n_kv_heads.
    dim for the width of the heads: q_width = config.n_heads * config.head_dim -> q_width = config.dim
        You take dim for the width of all query heads. It is n_heads * head_dim, which need not be dim.
    keys without values: 2 * kv_width -> kv_width
        You count either keys or values, not both.
    no output projection: + 2 * kv_width + q_width) -> + 2 * kv_width)
        The output projection is missing: n_heads * head_dim by dim.
    output projection of the keys' width: kv_width + q_width) -> kv_width + kv_width)
        Your output projection takes n_kv_heads heads. It takes what all n_heads query heads found.
    two matrices in the feed-forward layer: 3 * config.dim -> 2 * config.dim
        You count two matrices in the feed-forward layer. SwiGLU has three: gate, up and down.
    4 dim for hidden_dim: 3 * config.dim * config.hidden_dim -> 3 * config.dim * 4 * config.dim
        You take 4 dim for the hidden size. It is config.hidden_dim.
    no norms: attention + feed_forward + norms -> attention + feed_forward
        The norms are missing: a gain for each channel, in two norms.
    one norm: 2 * config.dim -> config.dim
        You count one norm. A block has two, one before each layer.
    norms with a bias: norms = 2 -> norms = 4
        Your norms learn two numbers for each channel, as LayerNorm does. RMSNorm learns one.
    norms that learn one number: norms = 2 * config.dim -> norms = 2
        Your norms learn one number each. They have a gain for each channel.
    biases: norms = 2 * config.dim -> norms = 4 * config.dim + q_width + 2 * kv_width + 2 * config.hidden_dim
        You count biases of the matrices. Llama's have none.
    no attention: attention + feed_forward -> feed_forward
        The four matrices of attention are missing.
    no feed-forward layer: attention + feed_forward -> attention
        The three matrices of the feed-forward layer are missing.
    all layers: return attention + feed_forward + norms -> return (attention + feed_forward + norms) * config.n_layers
        You count all blocks. One is asked for.
    a head counted once: attention = -> q_width = kv_width = config.head_dim; attention =
        You count a single head. There are n_heads for queries and n_kv_heads for keys and values.
    channels of a head left out: attention = -> q_width, kv_width = config.n_heads, config.n_kv_heads; attention =
        You count heads, not their channels: each has head_dim.
""")
