"""The 8-bit KV cache: close to the one in floats, in a quarter of its bytes."""

import pytest
import torch

from llama_lessons.attention import KVCache
from llama_lessons.small_cache import Int8KVCache
from llama_lessons.speculative import rewind

SIZES = 2, 3, 12, 64


def test_what_comes_back_is_off_by_half_a_scale_at_most():
    torch.manual_seed(0)
    cache = Int8KVCache(*SIZES)
    k, v = torch.randn(2, 2, 3, 7, 64) * torch.tensor([1e-3, 100.0]).view(2, 1, 1, 1, 1)
    cache.append(k[:, :, :3], v[:, :, :3])
    for given, kept in zip((k, v), cache.append(k[:, :, 3:], v[:, :, 3:]), strict=True):
        assert kept.dtype == torch.float32
        scale = given.abs().amax(-1, keepdim=True) / 127
        # float16's own rounding of the scale comes on top: of scales below 6e-5 it keeps fewer digits.
        assert ((kept - given).abs() <= 0.5 * scale + 127 * (scale / 2000 + 3e-8)).all()


def test_zeros_and_the_dtype_are_kept():
    cache = Int8KVCache(*SIZES, dtype=torch.bfloat16)
    zeros = torch.zeros(2, 3, 1, 64, dtype=torch.bfloat16)
    k, v = cache.append(zeros, zeros)
    assert k.dtype == v.dtype == torch.bfloat16
    assert not k.any()
    assert not v.any()


def test_it_takes_about_a_quarter_of_the_bytes():
    ratio = Int8KVCache(*SIZES).nbytes / KVCache(*SIZES).nbytes
    assert ratio == pytest.approx((64 + 2) / (4 * 64))


def test_it_rewinds_and_refuses_what_does_not_fit():
    cache = Int8KVCache(*SIZES)
    a, b = torch.randn(2, 2, 3, 8, 64)
    cache.append(a, a)
    rewind([cache], 3)
    k, _ = cache.append(b[:, :, :2], b[:, :, :2])
    torch.testing.assert_close(k[:, :, :3], a[:, :, :3], atol=0.03, rtol=0)
    torch.testing.assert_close(k[:, :, 3:], b[:, :, :2], atol=0.03, rtol=0)
    with pytest.raises(ValueError, match="8 more tokens do not fit: the cache holds 5 of max_seq_len"):
        cache.append(a, a)
    assert cache.length == 5
    with pytest.raises(ValueError, match=r"length \(6\) must be from 0 to the 5 tokens"):
        rewind([cache], 6)
