"""Exercise 4: how many numbers a whole Llama learns."""

import math
from collections.abc import Callable

from llama_lessons import presets
from llama_lessons.llama import LlamaConfig

from ...exercise import Exercise
from ...expect import Mismatch
from .common import file_shapes, small


def parameter_count(config: LlamaConfig) -> int:
    q_width = config.n_heads * config.head_dim
    kv_width = config.n_kv_heads * config.head_dim
    attention = config.dim * (2 * q_width + 2 * kv_width)
    feed_forward = 3 * config.dim * config.hidden_dim
    norms = 2 * config.dim
    blocks = config.n_layers * (attention + feed_forward + norms)
    table = config.vocab_size * config.dim
    tables = 1 if config.tied_embeddings else 2
    last_norm = config.dim
    return blocks + tables * table + last_norm


TIED = {"tied_embeddings": True}
PUBLISHED = {
    "Llama 1 65B": (presets.llama1("65B"), 65_285_660_672),
    "Llama 2 7B": (presets.llama2("7B"), 6_738_415_616),
    "Llama 2 70B": (presets.llama2("70B"), 68_976_648_192),
    "Llama 3 8B": (presets.llama3("8B"), 8_030_261_248),
    "Llama 3.1 405B": (presets.llama3_1("405B"), 405_853_388_800),
    "Llama 3.2 1B": (presets.llama3_2("1B"), 1_235_814_400),
    "Llama 3.2 3B": (presets.llama3_2("3B"), 3_212_749_824),
    "SmolLM2-135M": (presets.smollm2("135M"), 134_515_008),
    "SmolLM2-1.7B": (presets.smollm2("1.7B"), 1_711_376_384),
}


def cases() -> list[tuple]:
    """Odd sizes, each field varied, tied and not; published ones."""
    sizes = [{}, TIED, {"n_kv_heads": 4}, {"hidden_dim": 40}, {"n_layers": 1}, {"n_layers": 7, **TIED}, {"dim": 24}]
    return [(small(**size),) for size in sizes] + [(PUBLISHED[name][0],) for name in ("Llama 2 70B", "Llama 3.2 1B")]


exercise = Exercise(
    parameter_count,
    points=3,
    minutes=8,
    cases=cases,
    returns=int,
    hints=(
        "Write down every tensor of your Llama with its shape: the embedding, nine in each block, one norm, the head. "
        "Which of them has it once, which n_layers times?",
        "Keys and values have n_kv_heads heads, queries n_heads, each of head_dim channels, and dim may be another "
        "number than these together. A tied head has no numbers of its own.",
    ),
)


def expect_count(answer: Callable, name: str, config: LlamaConfig, want: int) -> None:
    got = answer(config)
    if got != want:
        raise Mismatch(f"{name}: expected {want:,}, got {got:,}")


def counted(config: LlamaConfig) -> int:
    """The numbers in a file of such a model."""
    return sum(math.prod(shape) for shape in file_shapes(config).values())


@exercise.property("Llama 2 7B: 6,738,415,616")
def llama_2(answer: Callable) -> None:
    expect_count(answer, "Llama 2 7B", *PUBLISHED["Llama 2 7B"])


@exercise.property("published models with grouped heads, to the last number")
def grouped(answer: Callable) -> None:
    for name in ("Llama 3 8B", "Llama 2 70B", "Llama 3.1 405B", "Llama 1 65B"):
        expect_count(answer, name, *PUBLISHED[name])


@exercise.property("published models with a tied head, which counts once")
def tied(answer: Callable) -> None:
    for name in ("SmolLM2-135M", "SmolLM2-1.7B", "Llama 3.2 1B", "Llama 3.2 3B"):
        expect_count(answer, f"{name}, tied", *PUBLISHED[name])


@exercise.property("heads that together are wider or narrower than the model")
def head_dim_of_its_own(answer: Callable) -> None:
    for sizes in ({}, {"head_dim": 2}, {"n_heads": 12, "n_kv_heads": 3}, TIED):
        config = small(**sizes)
        heads = f"{config.n_heads} query heads and {config.n_kv_heads} key/value heads of {config.head_dim} channels"
        where = f"dim {config.dim}, {heads}, hidden_dim {config.hidden_dim}, {config.n_layers} layers"
        expect_count(answer, f"{where}{', tied' * config.tied_embeddings}", config, counted(config))


exercise.slips("""
    the tied head counted: tables = 1 if config.tied_embeddings else 2 -> tables = 2
        Where the head is tied, you count it too. It is the embedding's weight, which is there once.
    one table for all: tables = 1 if config.tied_embeddings else 2 -> tables = 1
        Where the head is not tied, it has as many numbers again as the embedding.
    tied and untied exchanged: 1 if config.tied_embeddings else 2 -> 2 if config.tied_embeddings else 1
        You count two tables where the head is tied, and one where it is not. Tied is one weight for both.
    no tables: tables * table + -> 0 +
        The embedding and the head are missing: vocab_size rows of dim numbers.
    a bias in the head: last_norm = config.dim -> last_norm = config.dim + config.vocab_size
        You count a bias of the head. Llama's head has none.
    no last norm: + last_norm -> + 0
        The last norm is missing, before the head: dim gains.
    no norms at all: return blocks + -> return blocks - (config.n_layers * norms + last_norm) +
        The norms are missing: two in each block, and one before the head, of dim gains each.
    no norms in the blocks: norms = 2 * config.dim -> norms = 0
        The norms of the blocks are missing: two in each, of dim gains.
    one norm in a block: norms = 2 * config.dim -> norms = config.dim
        You count one norm in each block. There are two, one before each layer.
    norms with a bias: norms = 2 * config.dim -> norms = 4 * config.dim
        The norms of your blocks learn two numbers for each channel, as LayerNorm does. RMSNorm learns one.
    one block: blocks = config.n_layers * -> blocks =
        You count one block. There are n_layers.
    keys and values as many as queries: kv_width = config.n_kv_heads -> kv_width = config.n_heads
        Your keys and values have as many heads as the queries. They have n_kv_heads.
    dim for the width of the heads: q_width = config.n_heads * config.head_dim -> q_width = config.dim
        You take dim for the width of all query heads. It is n_heads * head_dim, which need not be dim.
    four square matrices: attention = config.dim * (2 * q_width + 2 * kv_width) -> attention = 4 * config.dim**2
        You count four matrices of dim by dim in attention. Queries have n_heads * head_dim channels, keys and values
        n_kv_heads * head_dim.
    no output projection: (2 * q_width + -> (q_width +
        One of the two matrices of n_heads * head_dim by dim is missing: q_proj, and o_proj which leads back.
    keys without values: + 2 * kv_width) -> + kv_width)
        You count either keys or values, not both.
    two matrices in the feed-forward layer: 3 * config.dim -> 2 * config.dim
        You count two matrices in the feed-forward layer. SwiGLU has three: gate, up and down.
    4 dim for hidden_dim: config.dim * config.hidden_dim -> config.dim * 4 * config.dim
        You take 4 dim for the hidden size. It is config.hidden_dim.
    positions: last_norm = config.dim -> last_norm = config.dim + config.max_seq_len * config.dim
        You count a table of positions. The rotation learns nothing.
    bytes: return blocks + tables * table + last_norm -> return 2 * (blocks + tables * table + last_norm)
        Your result is twice the right one, like the bytes in bfloat16. Numbers are asked for.
    in billions: return blocks + tables * table + last_norm -> return round((blocks + tables * table + last_norm) / 1e9)
        Your result is in billions. The exact number is asked for.
    through a float: tables * table + last_norm -> tables * table + last_norm * 1.0
        A float comes out. All sizes are whole numbers: * and + keep them so, and // divides.
""")
