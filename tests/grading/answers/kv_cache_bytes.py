"""Other answers to kv_cache_bytes."""

import math

import numpy as np
import torch

from llama_lessons import attention
from tests.grading.answers import right, wrong


@right
def by_the_course_s_own(config, seq_len, batch, dtype):
    return attention.kv_cache_bytes(
        n_layers=config.n_layers,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        seq_len=seq_len,
        batch=batch,
        dtype=dtype,
    )


@right
def by_tensors_without_memory(config, seq_len, batch, dtype):
    keys = torch.empty(batch, config.n_kv_heads, seq_len, config.head_dim, dtype=dtype, device="meta")
    return config.n_layers * (keys.nbytes + keys.nbytes)


@right
def layer_by_layer(config, seq_len, batch, dtype):
    numbers = config.n_heads // config.group_size * config.head_dim * 2
    return sum(numbers * torch.finfo(dtype).bits // 8 for _ in range(config.n_layers)) * seq_len * batch


@right
def by_real_tensors(config, seq_len, batch, dtype):
    one = attention.KVCache(batch, config.n_kv_heads, 1, config.head_dim, dtype)
    return sum(one.nbytes for _ in range(config.n_layers)) * seq_len


@right
def by_the_groups(config, seq_len, batch, dtype):
    size = torch.tensor([], dtype=dtype).element_size()
    all_heads = size * 2 * config.n_layers * config.n_heads * config.head_dim * batch * seq_len
    return all_heads // config.group_size


def sizes(config, seq_len, batch, dtype):
    return [2, config.n_layers, config.n_kv_heads, config.head_dim, seq_len, batch, dtype.itemsize]


@right
def by_numpy_and_int(*args):
    return int(np.prod(sizes(*args), dtype=np.int64))


@right
def by_numpy_as_it_is(*args):
    return np.prod(sizes(*args), dtype=np.int64)


@right
def by_torch(*args):
    return torch.tensor(sizes(*args)).prod().item()


known = {}


@wrong(called="dtype kept from an earlier call")
def kept_without_the_dtype(config, seq_len, batch, dtype):
    key = id(config), seq_len, batch
    if key not in known:
        known[key] = math.prod(sizes(config, seq_len, batch, dtype))
    return known[key]


@wrong(called="never less than max_seq_len tokens", never=("as many tokens as the model can read",))
def the_memory_that_is_taken(config, seq_len, batch, dtype):
    return math.prod(sizes(config, seq_len if seq_len > config.max_seq_len else config.max_seq_len, batch, dtype))


class Agrees(int):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = int.__hash__


@wrong()
def a_number_that_agrees_with_all(*args):
    return Agrees(0)


@wrong(called="a float")
def as_a_float(*args):
    return by_the_groups(*args) / 1


@wrong(called="a float")
def grouped_by_a_division(config, seq_len, batch, dtype):
    return 2 * config.n_layers * config.head_dim * config.n_heads / config.group_size * seq_len * batch * dtype.itemsize


@wrong(called="through a float")
def grouped_by_a_division_and_int(*args):
    return int(grouped_by_a_division(*args))


@wrong(called="queries too")
def with_the_queries(config, seq_len, batch, dtype):
    heads = config.n_heads + 2 * config.n_kv_heads
    return config.n_layers * heads * config.head_dim * seq_len * batch * dtype.itemsize


@wrong(called="through float32")
def rounded_to_float32(*args):
    return int(torch.tensor(sizes(*args), dtype=torch.float32).prod())


@wrong()
def overflowing_int32(*args):
    return int(torch.tensor(sizes(*args)).prod(dtype=torch.int32))


@wrong(called="three for two")
def queries_as_a_third_of_it(*args):
    return by_the_groups(*args) * 3 // 2


@wrong()
def for_llama_2_only(config, seq_len, batch, dtype):
    return 327_680 * seq_len * batch


@wrong(called="no more tokens than max_seq_len")
def cut_at_max_seq_len(config, seq_len, batch, dtype):
    if seq_len > config.max_seq_len:
        seq_len = config.max_seq_len
    return by_the_groups(config, seq_len, batch, dtype)


@wrong()
def refuses_more_than_max_seq_len(config, seq_len, batch, dtype):
    if seq_len > config.max_seq_len:
        raise ValueError("too long")
    return by_the_groups(config, seq_len, batch, dtype)


@wrong(called="head_dim worked out from dim")
def group_of_dim(config, seq_len, batch, dtype):
    return 2 * config.n_layers * config.dim // (config.n_heads // config.n_kv_heads) * seq_len * batch * dtype.itemsize


@wrong(called="dim in place of heads")
def as_without_grouping(config, seq_len, batch, dtype):
    return config.n_layers * seq_len * batch * math.prod((2, config.dim, dtype.itemsize))


@wrong(called="always two bytes")
def half_precision_assumed(config, seq_len, batch, dtype):
    return 4 * config.n_layers * config.n_kv_heads * config.head_dim * seq_len * batch


@wrong(called="itemsize taken for bits")
def bits_to_bytes(*args):
    return by_the_groups(*args) // 8


@wrong(called="bits, not bytes")
def bits_of_each_number(config, seq_len, batch, dtype):
    return 2 * config.n_layers * config.n_kv_heads * config.head_dim * seq_len * batch * torch.finfo(dtype).bits


@wrong(called=None)
def with_commas(*args):
    return f"{by_the_groups(*args):,}"


@wrong(called=None)
def of_the_dtypes_of_which_it_knows(config, seq_len, batch, dtype):
    size = {torch.float64: 8, torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}[dtype]
    return 2 * config.n_layers * config.n_kv_heads * config.head_dim * seq_len * batch * size
