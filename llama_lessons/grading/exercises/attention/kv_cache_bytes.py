"""kv_cache_bytes: what the cache of a whole model takes."""

from collections.abc import Callable

import torch

from llama_lessons import presets
from llama_lessons.llama import LlamaConfig

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON, counted


def reference(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return 2 * config.n_layers * batch * config.n_kv_heads * seq_len * config.head_dim * dtype.itemsize


def odd_config() -> LlamaConfig:
    """Sizes that are all different, and heads that together are wider than the model."""
    return LlamaConfig(
        vocab_size=11, dim=60, n_layers=7, n_heads=15, n_kv_heads=3, head_dim=10, hidden_dim=8, max_seq_len=64
    )


def cases() -> list[tuple]:
    return [
        (odd_config(), 5, 1, torch.float32),
        (odd_config(), 5, 3, torch.bfloat16),
        (odd_config(), 1, 2, torch.float64),
        (presets.llama2("70B"), 1, 1, torch.bfloat16),
        (presets.smollm2("135M"), 100, 4, torch.float16),
    ]


kv_cache_bytes = Exercise(
    name="kv_cache_bytes",
    lesson=LESSON,
    points=2,
    minutes=3,
    parameters=("config", "seq_len", "batch", "dtype"),
    reference=reference,
    cases=cases,
    returns=int,
    hints=(
        "First count numbers, then bytes. For one token of one text in one layer: how many numbers does one key head "
        "make, how many key heads are there, and what else is kept beside the keys?",
        "dtype.itemsize is the bytes of one number: 2 for torch.bfloat16.",
    ),
)


def expect_bytes(answer: Callable, config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype, want: int,
                 what: str) -> None:  # fmt: skip
    got = answer(config, seq_len, batch, dtype)
    if got != want:
        where = f"{what}, {counted(seq_len, 'token')}, batch {batch}, {str(dtype)[6:]}"
        raise Mismatch(f"{where}: expected {want:,} bytes, got {got:,}")


@kv_cache_bytes.property("Llama 2 70B: 327,680 bytes a token in bfloat16")
def _(answer: Callable) -> None:
    expect_bytes(answer, presets.llama2("70B"), 1, 1, torch.bfloat16, 327_680, "Llama 2 70B")


@kv_cache_bytes.property("as many bytes as tensors of those shapes take")
def _(answer: Callable) -> None:
    for config, name in ((odd_config(), "7 layers, 15 and 3 heads of 10"), (presets.smollm2("135M"), "SmolLM2-135M")):
        for seq_len, batch, dtype in ((1, 1, torch.float32), (7, 3, torch.bfloat16), (2, 5, torch.float64)):
            one = torch.empty(batch, config.n_kv_heads, seq_len, config.head_dim, dtype=dtype)
            # keys and values, in each layer
            expect_bytes(answer, config, seq_len, batch, dtype, 2 * one.nbytes * config.n_layers, name)


@kv_cache_bytes.property("twice the tokens or twice the texts: twice the bytes")
def _(answer: Callable) -> None:
    config, dtype = presets.llama3("8B"), torch.bfloat16
    one = answer(config, 1000, 1, dtype)
    for seq_len, batch in ((2000, 1), (1000, 2)):
        expect_bytes(answer, config, seq_len, batch, dtype, 2 * one, "Llama 3 8B, against 1000 tokens and batch 1")


@kv_cache_bytes.property("to the last byte, however many there are")
def _(answer: Callable) -> None:
    config, dtype = presets.llama3_1("405B"), torch.bfloat16
    # 2 x 126 layers x 8 heads x 128 channels x 2 bytes
    expect_bytes(answer, config, 100_003, 7, dtype, 516_096 * 100_003 * 7, "Llama 3.1 405B")


@kv_cache_bytes.misconception(
    "keys alone",
    "You count one of two: keys and values are both kept, so there is a factor 2.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, dtype) // 2


@kv_cache_bytes.misconception(
    "query heads counted",
    "You multiply by n_heads, the query heads. Queries are not kept: it is n_kv_heads that counts, and that is what "
    "grouping saves.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, dtype) * config.n_heads // config.n_kv_heads


@kv_cache_bytes.misconception(
    "group_size for n_kv_heads",
    "You multiply by group_size. That is how many query heads share a key/value head; what is kept is n_kv_heads of "
    "them.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, dtype) * config.group_size // config.n_kv_heads


@kv_cache_bytes.misconception(
    "dim in place of heads",
    "You multiply by dim, the width of the stream. What is kept is n_kv_heads * head_dim numbers wide; it is dim only "
    "without grouping, and not always then.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return 2 * config.n_layers * batch * seq_len * config.dim * dtype.itemsize


@kv_cache_bytes.misconception(
    "head_dim worked out from dim",
    "You work the size of a head out as dim / n_heads. Often that is head_dim, but a config may say otherwise: take "
    "config.head_dim.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    head_dim = config.dim // config.n_heads
    return 2 * config.n_layers * batch * config.n_kv_heads * seq_len * head_dim * dtype.itemsize


@kv_cache_bytes.misconception(
    "each head as wide as the model",
    "You take dim as the width of each key/value head. dim is the width of the stream; a head has head_dim channels.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, dtype) // config.head_dim * config.dim


@kv_cache_bytes.misconception(
    "queries kept too",
    "You count queries beside keys and values. A query is asked once, by its own token, and not kept.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    heads = config.n_heads + 2 * config.n_kv_heads
    return config.n_layers * heads * config.head_dim * seq_len * batch * dtype.itemsize


@kv_cache_bytes.misconception(
    "one layer",
    "You count one layer. Each layer makes keys and values of its own and keeps them.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, dtype) // config.n_layers


@kv_cache_bytes.misconception(
    "one text",
    "You leave out the batch. Each text in it has tokens of its own.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, 1, dtype)


@kv_cache_bytes.misconception(
    "as many tokens as the model can read",
    "You count config.max_seq_len tokens, whatever seq_len says.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, config.max_seq_len, batch, dtype)


@kv_cache_bytes.misconception(
    "the square of the length",
    "You multiply by seq_len twice. Scores grow with the square, but they are not kept: the cache grows with the "
    "tokens.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, dtype) * seq_len


@kv_cache_bytes.misconception(
    "numbers, not bytes",
    "You count numbers. Each takes dtype.itemsize bytes.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, dtype) // dtype.itemsize


@kv_cache_bytes.misconception(
    "bits, not bytes",
    "You count bits: eight of them are a byte, and itemsize is in bytes already.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, dtype) * 8


@kv_cache_bytes.misconception(
    "always two bytes",
    "You take 2 bytes a number whatever the dtype is. float32 takes 4: dtype.itemsize says so.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, torch.bfloat16)


@kv_cache_bytes.misconception(
    "always four bytes",
    "You take 4 bytes a number whatever the dtype is. bfloat16 takes 2: dtype.itemsize says so.",
)
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    return reference(config, seq_len, batch, torch.float32)


@kv_cache_bytes.alternative
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    keys = torch.empty(batch, config.n_kv_heads, seq_len, config.head_dim, dtype=dtype, device="meta")
    return config.n_layers * (keys.nbytes + keys.nbytes)


@kv_cache_bytes.alternative
def _(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    numbers = config.n_heads // config.group_size * config.head_dim * 2
    return sum(numbers * torch.finfo(dtype).bits // 8 for _ in range(config.n_layers)) * seq_len * batch
