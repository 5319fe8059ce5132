"""Published sizes: the parameters of each come out exactly, and what the papers' tables say."""

import re

import pytest
import torch

from llama_lessons.attention import kv_cache_bytes
from llama_lessons.llama import Llama
from llama_lessons.presets import llama1, llama2, llama3, llama3_1, llama3_2, smollm2

# As counted by Hugging Face in the published weights.
PUBLISHED = {
    (llama1, "7B"): 6_738_415_616,
    (llama1, "13B"): 13_015_864_320,
    (llama1, "33B"): 32_528_943_616,
    (llama1, "65B"): 65_285_660_672,
    (llama2, "7B"): 6_738_415_616,
    (llama2, "13B"): 13_015_864_320,
    (llama2, "70B"): 68_976_648_192,
    (llama3, "8B"): 8_030_261_248,
    (llama3, "70B"): 70_553_706_496,
    (llama3_1, "8B"): 8_030_261_248,
    (llama3_1, "70B"): 70_553_706_496,
    (llama3_1, "405B"): 405_853_388_800,
    (llama3_2, "1B"): 1_235_814_400,
    (llama3_2, "3B"): 3_212_749_824,
    (smollm2, "135M"): 134_515_008,
    (smollm2, "360M"): 361_821_120,
    (smollm2, "1.7B"): 1_711_376_384,
}


@pytest.mark.parametrize(("preset", "size"), PUBLISHED, ids=lambda x: getattr(x, "__name__", x))
def test_has_as_many_parameters_as_published(preset, size):
    with torch.device("meta"):
        model = Llama(preset(size))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[preset, size]


@pytest.mark.parametrize(
    ("config", "max_seq_len", "rope_theta", "scaled_by", "bytes_a_token"),
    [
        (llama1("7B"), 2048, 10_000.0, None, 524_288),
        (llama2("70B"), 4096, 10_000.0, None, 327_680),
        (llama3("8B"), 8192, 500_000.0, None, 131_072),
        (llama3_1("70B"), 131_072, 500_000.0, 8.0, 327_680),
        (llama3_2("1B"), 131_072, 500_000.0, 32.0, 32_768),
        (smollm2("135M"), 8192, 100_000.0, None, 23_040),
    ],
)
def test_length_rotation_and_cache(config, max_seq_len, rope_theta, scaled_by, bytes_a_token):
    assert (config.max_seq_len, config.rope_theta) == (max_seq_len, rope_theta)
    assert (config.rope_scaling and config.rope_scaling.factor) == scaled_by
    sizes = {"n_layers": config.n_layers, "n_kv_heads": config.n_kv_heads, "head_dim": config.head_dim}
    assert kv_cache_bytes(**sizes, seq_len=1, dtype=torch.bfloat16) == bytes_a_token


def test_a_size_that_was_not_published_is_named():
    message = "size ('70B') must be one of '7B', '13B', '33B', '65B'"
    with pytest.raises(ValueError, match=re.escape(message)):
        llama1("70B")
