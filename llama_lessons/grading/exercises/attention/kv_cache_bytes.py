"""Exercise 5: what the KV cache of a whole model takes."""

from collections.abc import Callable
from typing import Any

import torch

from llama_lessons import presets
from llama_lessons.llama import LlamaConfig

from ...exercise import Exercise
from ...expect import Mismatch
from ...families import kept_from_the_first_call


def kv_cache_bytes(config: LlamaConfig, seq_len: int, batch: int, dtype: torch.dtype) -> int:
    numbers = 2 * config.n_layers * config.n_kv_heads * config.head_dim
    result = numbers * seq_len * batch * dtype.itemsize
    return result  # noqa: RET504


ODD = "7 layers, 15 query heads, 3 key/value heads of 10 channels"


def odd_config() -> LlamaConfig:
    """Sizes that are all different, and heads that together are wider than the model."""
    return LlamaConfig(
        vocab_size=11, dim=60, n_layers=7, n_heads=15, n_kv_heads=3, head_dim=10, hidden_dim=8, max_seq_len=64
    )


def cases() -> list[tuple]:
    """Odd sizes in all dtypes, more tokens than a model was trained for, more bytes than floats can count."""
    config = odd_config()
    return [
        (odd_config(), 5, 1, torch.float32),
        (config, 5, 3, torch.bfloat16),
        (config, 5, 3, torch.float64),
        (odd_config(), 100, 2, torch.bfloat16),
        (odd_config(), 10**15 + 3, 1, torch.bfloat16),
        (presets.llama2("70B"), 1, 1, torch.bfloat16),
        (presets.smollm2("135M"), 100, 4, torch.float16),
        (presets.llama3_1("405B"), 100_003, 8, torch.bfloat16),
    ]


exercise = Exercise(
    kv_cache_bytes,
    points=2,
    minutes=3,
    cases=cases,
    returns=int,
    hints=(
        "First count numbers, then bytes. For one token of one text in one layer: how many numbers does one key head "
        "make, how many key heads are there, and what else is kept beside the keys?",
        "dtype.itemsize is the bytes of one number: 2 for torch.bfloat16.",
    ),
)


def expect_bytes(answer: Callable, model: str, config: LlamaConfig, *sizes: Any, want: int) -> None:
    got = answer(config, *sizes)
    if got != want:
        seq_len, batch, dtype = sizes
        where = f"{model}, seq_len {seq_len:,}, batch {batch}, {str(dtype)[6:]}"
        raise Mismatch(f"{where}: expected {want:,} bytes, got {got:,}")


@exercise.property("Llama 2 70B: 327,680 bytes per token in bfloat16")
def a_large_model(answer: Callable) -> None:
    expect_bytes(answer, "Llama 2 70B", presets.llama2("70B"), 1, 1, torch.bfloat16, want=327_680)


@exercise.property("as many bytes as tensors of those shapes take")
def as_tensors_take(answer: Callable) -> None:
    f32, f64, bf16, f8 = torch.float32, torch.float64, torch.bfloat16, torch.float8_e4m3fn
    for model, config in ((ODD, odd_config()), ("SmolLM2-135M", presets.smollm2("135M"))):
        for seq_len, batch, dtype in ((1, 1, f32), (1, 1, bf16), (7, 3, bf16), (2, 5, f64), (3, 2, f8)):
            one = torch.empty(batch, config.n_kv_heads, seq_len, config.head_dim, dtype=dtype)
            # keys and values, in each layer
            expect_bytes(answer, model, config, seq_len, batch, dtype, want=2 * one.nbytes * config.n_layers)


@exercise.property("twice the tokens or twice the texts: twice the bytes, beyond max_seq_len too")
def grows_in_proportion(answer: Callable) -> None:
    # 2 x 32 layers x 8 heads x 128 channels x 2 bytes
    for seq_len, batch in ((1000, 1), (2000, 1), (1000, 2), (8192, 1), (8193, 1), (16_384, 1)):
        want, model = 131_072 * seq_len * batch, "Llama 3 8B with its max_seq_len of 8,192"
        expect_bytes(answer, model, presets.llama3("8B"), seq_len, batch, torch.bfloat16, want=want)
    # As many layers, and four times as many key/value heads
    expect_bytes(answer, "Llama 2 7B", presets.llama2("7B"), 1000, 1, torch.bfloat16, want=524_288_000)


@exercise.property("to the last byte, however many there are")
def exact(answer: Callable) -> None:
    # 2 x 126 layers x 8 heads x 128 channels x 2 bytes
    config, want = presets.llama3_1("405B"), 516_096 * 100_003 * 7
    expect_bytes(answer, "Llama 3.1 405B", config, 100_003, 7, torch.bfloat16, want=want)
    # 2 x 7 layers x 3 heads x 10 channels x 4 bytes; from 2 ** 53 on floats leave numbers out
    many = 10**14 + 3
    expect_bytes(answer, ODD, odd_config(), many, 1, torch.float32, want=1680 * many)


exercise.slips("""
    keys alone: 2 * config -> config
        Your result is half of the right one, as if keys alone were kept. Values are kept too: a factor 2.
    four for two: 2 * config -> 4 * config
        Your result is twice the right one. The 2 of keys and values is there once, and itemsize is in bytes already.
    three for two: 2 * config -> 3 * config
        Your result is that of three tensors, as if queries were kept. Two are kept, keys and values.
    query heads counted: config.n_kv_heads -> config.n_heads
        Your result is that of n_heads, the query heads. n_kv_heads are kept: that is what grouping saves.
    group_size for n_kv_heads: config.n_kv_heads -> config.group_size
        Your result is that of n_heads / n_kv_heads heads, the group size. What is kept is n_kv_heads heads.
    heads forgotten: config.n_kv_heads * config.head_dim -> config.head_dim
        Your result is that of one key/value head in each layer. There are n_kv_heads of them.
    channels forgotten: config.n_kv_heads * config.head_dim -> config.n_kv_heads
        Your result is that of one number for each head. A key has head_dim numbers in each head, and so has a value.
    dim in place of heads: config.n_kv_heads * config.head_dim -> config.dim
        Your result is that of keys and values as wide as dim, the residual stream. They are n_kv_heads * head_dim
        numbers wide; that is seldom dim with grouping.
    head_dim worked out from dim: config.head_dim -> config.dim // config.n_heads
        Your result is that of a head_dim of dim / n_heads. A config may say otherwise: take config.head_dim.
    each head as wide as the model: config.head_dim -> config.dim
        Your result is that of key/value heads as wide as dim, the residual stream. A head has head_dim channels.
    queries too: 2 * config.n_layers * config.n_kv_heads -> config.n_layers * (2 * config.n_kv_heads + config.n_heads)
        Your result is that of queries, keys and values. A query is used once, by its own token, and not kept.
    one layer: 2 * config.n_layers -> 2
        Your result is that of one layer. Each layer makes keys and values of its own and keeps them.
    one text: seq_len * batch -> seq_len
        Your result is that of one text, whatever batch is. Each text has tokens of its own.
    one token: * seq_len * batch -> * batch
        Your result is that of one token, whatever seq_len is. Each token has keys and values of its own.
    the last token left out: * seq_len * batch -> * (seq_len - 1) * batch
        Your result is that of one token less in each text. The last one is kept too: the next token will read it.
    as many tokens as the model can read: * seq_len * batch -> * config.max_seq_len * batch
        Your result is that of config.max_seq_len tokens, whatever seq_len is.
    no more tokens than max_seq_len: * seq_len * batch -> * min(seq_len, config.max_seq_len) * batch
        Your result stops growing at max_seq_len tokens. All seq_len tokens are kept: max_seq_len
        is the length a model was trained for, which can be exceeded (lesson 04).
    never less than max_seq_len tokens: * seq_len * batch -> * max(seq_len, config.max_seq_len) * batch
        Your result is never less than that of max_seq_len tokens. It is asked what seq_len tokens take.
    the square of the length: * seq_len * batch -> * seq_len**2 * batch
        Your result grows with the square of seq_len. The scores do, but they are not kept.
    numbers, not bytes: batch * dtype.itemsize -> batch
        Your result is how many numbers are kept. Each takes dtype.itemsize bytes.
    bits, not bytes: dtype.itemsize -> dtype.itemsize * 8
        Your result is eight times the right one, the number of bits. itemsize is in bytes already.
    itemsize taken for bits: dtype.itemsize -> dtype.itemsize // 8
        Your result is an eighth of the right one, as if itemsize were in bits. It is in bytes already.
    always two bytes: dtype.itemsize -> 2
        Your result is that of 2 bytes per number, whatever dtype is. float32 takes 4: dtype.itemsize says so.
    always four bytes: dtype.itemsize -> 4
        Your result is that of 4 bytes per number, whatever dtype is. bfloat16 takes 2: dtype.itemsize says so.
    kibibytes: dtype.itemsize -> dtype.itemsize // 2**10
        Your result is in units of 1024 bytes. Bytes are asked for.
    a float: dtype.itemsize -> dtype.itemsize / 1
        A float comes out: / makes one even where nothing is left over. // divides whole numbers.
    through a float: return result -> return int(float(result))
        Above 2 ** 53 your result is rounded, as a float is, and int(...) afterwards does not bring back what is lost.
        Multiply whole numbers, and divide them with //.
    through float32: return result -> return int(torch.tensor(float(result)))
        Your result is rounded to some seven digits, as a number in float32 is. Multiply Python's whole numbers.
""")
kept_from_the_first_call(exercise, "dtype", under=("config", "seq_len", "batch"))
