"""Exercise 5: what it takes to compute one new token."""

import math
from collections.abc import Callable

from llama_lessons import presets
from llama_lessons.llama import LlamaConfig

from ...exercise import Exercise
from ...expect import Mismatch
from .common import file_shapes, small


def flops_per_token(config: LlamaConfig, context_len: int) -> int:
    q_width = config.n_heads * config.head_dim
    kv_width = config.n_kv_heads * config.head_dim
    attention = config.dim * (2 * q_width + 2 * kv_width)
    feed_forward = 3 * config.dim * config.hidden_dim
    head = config.vocab_size * config.dim
    matrices = config.n_layers * (attention + feed_forward) + head
    read = 2 * config.n_layers * q_width * context_len
    return 2 * (matrices + read)


TIED = {"tied_embeddings": True}


def cases() -> list[tuple]:
    """Odd sizes, each field varied, short and long contexts."""
    sizes = [{}, TIED, {"n_kv_heads": 4}, {"hidden_dim": 40}, {"n_layers": 1}, {"n_layers": 7, **TIED}, {"dim": 24}]
    made = [(small(**size), context_len) for size, context_len in zip(sizes, (1, 1, 9, 9, 3, 100, 5), strict=True)]
    return [*made, (small(), 70), (presets.llama3("8B"), 8192), (presets.llama3_2("1B"), 2)]


exercise = Exercise(
    flops_per_token,
    points=4,
    minutes=12,
    cases=cases,
    returns=int,
    hints=(
        "A row times a matrix of a by b numbers takes a * b multiplications and as many additions, one of each for "
        "every number of the matrix. So what does a token cost in all matrices together?",
        "Then what has no matrix: in each layer and each query head, one score for each token of the context is a sum "
        "over head_dim channels, and the weighted values are as many products again.",
        "An embedding is looked up, which takes no product. The head is a product, and stays one where it is tied.",
    ),
)


def expect_flops(answer: Callable, name: str, config: LlamaConfig, context_len: int, want: int) -> None:
    got = answer(config, context_len)
    if got != want:
        raise Mismatch(f"{name}, context_len {context_len:,}: expected {want:,}, got {got:,}")


def in_matrices(config: LlamaConfig) -> int:
    """Numbers in the matrices that a token is multiplied by: those of a file, and the head's, tied or not."""
    shapes = file_shapes(config) | {"output.weight": (config.vocab_size, config.dim)}
    del shapes["token_embd.weight"]
    return sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2)


@exercise.property("a tiny model by hand")
def by_hand(answer: Callable) -> None:
    sizes = {"vocab_size": 5, "dim": 4, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 2, "hidden_dim": 3}
    # 16 + 8 + 8 + 16 in attention, 3 x 12 in the feed-forward layer, 20 in the head; 2 heads x 2 channels read
    for context_len in (1, 10):
        want = 2 * (48 + 36 + 20) + 2 * 2 * 4 * context_len
        expect_flops(answer, "one layer, 104 numbers in its matrices and the head", small(**sizes), context_len, want)


@exercise.property("Llama 3 8B: 15.0 billion for the first token, 19.3 billion for token 8192")
def llama_3(answer: Callable) -> None:
    for context_len, want in ((1, 15_009_841_152), (8192, 19_304_284_160)):
        expect_flops(answer, "Llama 3 8B", presets.llama3("8B"), context_len, want)


@exercise.property("a tied head is a product as well")
def tied(answer: Callable) -> None:
    for name, config in (("SmolLM2-135M", presets.smollm2("135M")), ("Llama 3.2 1B", presets.llama3_2("1B"))):
        want = 2 * in_matrices(config) + 4 * config.n_layers * config.n_heads * config.head_dim
        expect_flops(answer, f"{name}, tied", config, 1, want)


@exercise.property("each further token of the context costs the same")
def grows_in_proportion(answer: Callable) -> None:
    for sizes in ({}, {"head_dim": 2}, {"n_heads": 12, "n_kv_heads": 3}, {"n_layers": 5, **TIED}):
        config = small(**sizes)
        heads = f"{config.n_heads} query heads over {config.n_kv_heads} of {config.head_dim} channels"
        for context_len in (1, 2, 64, 65, 100_000):
            want = 2 * in_matrices(config) + 4 * config.n_layers * config.n_heads * config.head_dim * context_len
            expect_flops(answer, f"{config.n_layers} layers, dim {config.dim}, {heads}", config, context_len, want)


exercise.slips("""
    multiply-adds: return 2 * (matrices + read) -> return matrices + read
        Your result is half of the right one. A multiply-add is two operations.
    as many as in training: return 2 * (matrices + read) -> return 6 * (matrices + read)
        Your result is three times the right one, as for training, where a backward pass comes too. Asked for is the
        forward pass.
    the embedding counted: head = config.vocab_size -> head = 2 * config.vocab_size
        You count the embedding as a product. It is a row that is looked up.
    the embedding counted unless tied: + head -> + head * (2 - config.tied_embeddings)
        Where the head is not tied, you count the embedding too. It is a row that is looked up.
    the head forgotten where it is tied: + head -> + head * (not config.tied_embeddings)
        Where the head is tied, you leave it out. It has no numbers of its own, but is a product all the same.
    no head: (attention + feed_forward) + head -> (attention + feed_forward)
        The head is missing: a product with vocab_size rows of dim numbers.
    norms counted: feed_forward = 3 * -> feed_forward = 2 * config.dim + 3 *
        You count the gains of the blocks' norms too. The matrices are asked for, and what attention reads.
    all parameters: + head -> + head * (2 - config.tied_embeddings) + (2 * config.n_layers + 1) * config.dim
        You take twice the number of parameters, norms and, where the head is not tied, the embedding included. Only
        products are asked for.
    n_kv_heads read: read = 2 * config.n_layers * q_width -> read = 2 * config.n_layers * kv_width
        You count scores and weighted values of n_kv_heads heads. Every query head has its own: grouping saves memory,
        and no operations.
    dim read: read = 2 * config.n_layers * q_width -> read = 2 * config.n_layers * config.dim
        You take dim for the channels of all heads together. They are n_heads * head_dim.
    half of the context: read = 2 * config.n_layers -> read = config.n_layers
        Your context costs half of what it should. Scores are read from it, and weighted values, both over the channels
        of all query heads, and each product comes with an addition.
    one layer reads: read = 2 * config.n_layers * -> read = 2 *
        You count scores and weighted values of one layer. All n_layers read the context.
    one head reads: q_width * context_len -> config.head_dim * context_len
        You count scores and weighted values of one head. There are n_heads in each layer.
    one channel a head: q_width * context_len -> config.n_heads * context_len
        You count one product for each score. A score is a sum over head_dim channels.
    the square of the context: * context_len -> * context_len**2
        Your result grows with the square of the context. One new token has one score for each token of the context;
        the square is that of a whole text.
    the context left out: matrices + read) -> matrices)
        Your result is that of the matrices alone: what attention reads of the context is missing.
    itself not read: * context_len -> * (context_len - 1)
        Your context is one token short. context_len counts the new token too, and it reads itself.
    the whole context computed: return 2 * (matrices + read) -> return 2 * (matrices * context_len + read)
        You count all matrices for each token of the context. The others have been computed: their keys and values are
        in the cache.
    keys and values as many as queries: kv_width = config.n_kv_heads -> kv_width = config.n_heads
        Your k_proj and v_proj have as many heads as q_proj. They have n_kv_heads.
    dim for the width of the heads: q_width = config.n_heads * config.head_dim -> q_width = config.dim
        You take dim for the width of all query heads. It is n_heads * head_dim, which need not be dim.
    no output projection: (2 * q_width + -> (q_width +
        One of the two matrices of n_heads * head_dim by dim is missing: q_proj, and o_proj which leads back.
    two matrices in the feed-forward layer: 3 * config.dim -> 2 * config.dim
        You count two matrices in the feed-forward layer. SwiGLU has three: gate, up and down.
    4 dim for hidden_dim: config.dim * config.hidden_dim -> config.dim * 4 * config.dim
        You take 4 dim for the hidden size. It is config.hidden_dim.
    one block: matrices = config.n_layers * -> matrices =
        You count the matrices of one block. There are n_layers.
    in billions: return 2 * (matrices + read) -> return round(2 * (matrices + read) / 1e9)
        Your result is in billions. The exact number is asked for.
    a float: return 2 * (matrices + read) -> return 2.0 * (matrices + read)
        A float comes out. All sizes are whole numbers: * and + keep them so, and // divides.
""")
