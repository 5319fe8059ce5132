"""Blocks of 4 bits: the rounding, llama.cpp's own reading of a file, and the model that multiplies them as they are."""

import subprocess
import sys

import gguf
import pytest
import torch
from gguf.quants import dequantize

from llama_lessons import quantization
from llama_lessons.checkpoints import is_quantized, load_gguf, load_gguf_tokenizer
from llama_lessons.checkpoints.gguf_file import GGUFFile
from llama_lessons.generation import generate
from llama_lessons.lab.materials import fetch
from llama_lessons.lab.perplexity import perplexity
from llama_lessons.lab.texts import king_james_book
from llama_lessons.quantization import (
    Int4Linear,
    Int8Embedding,
    Int8Head,
    dequantize_blocks,
    quantize_blocks,
    quantize_symmetric,
)
from tests.test_checkpoints_gguf import CONFIG, TOKENIZER, metadata, tensors, write


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(32,), (3, 64), (2, 3, 32)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_a_value_is_off_by_half_a_scale_at_most_and_the_ends_are_exact(shape, size):
    x = size * torch.randn(shape)
    codes, scale, minimum = quantize_blocks(x)
    assert codes.dtype == torch.uint8
    assert codes.shape == x.shape
    assert scale.shape == minimum.shape == (*shape[:-1], shape[-1] // 32)
    back = dequantize_blocks(codes, scale, minimum)
    error = (back - x).unflatten(-1, (-1, 32)).abs()
    assert (error <= 0.5001 * scale.unsqueeze(-1)).all()
    blocks = codes.unflatten(-1, (-1, 32))
    assert (blocks.amin(-1) == 0).all()
    assert (blocks.amax(-1) == 15).all()


def test_blocks_are_rounded_as_gguf_rounds_them():
    x = torch.randn(4, 96)
    theirs = torch.from_numpy(dequantize(gguf.quantize(x.numpy(), gguf.GGMLQuantizationType.Q4_1), 3))
    ours = dequantize_blocks(*quantize_blocks(x))
    torch.testing.assert_close(ours, theirs, atol=4e-3, rtol=0)  # they keep scale and minimum in float16


def test_a_block_of_equal_values_comes_back_as_it_was():
    x = torch.full((2, 32), -0.75)
    codes, scale, minimum = quantize_blocks(x)
    assert not codes.any()
    assert not scale.any()
    assert torch.equal(dequantize_blocks(codes, scale, minimum), x)


def test_larger_blocks_round_more():
    x = torch.randn(64, 512)
    errors = [(dequantize_blocks(*quantize_blocks(x, size)) - x).square().mean().item() for size in (8, 32, 128, 512)]
    assert errors == sorted(errors)


@pytest.mark.parametrize("size", [0, 7, 64])
def test_blocks_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match=rf"the last axis of x \(96\) must be a multiple of block_size \({size}\)"):
        quantize_blocks(torch.zeros(2, 96), size)


@pytest.mark.parametrize("shape", [(1, 1, 64), (2, 5, 64), (64,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("out_features", [48, 40, 1])
def test_four_bits_multiply_as_the_values_that_they_stand_for(shape, dtype, out_features):
    parts = quantize_blocks(torch.randn(out_features, 64))
    x = torch.randn(shape).to(dtype)
    y = Int4Linear(*parts)(x)
    assert y.dtype == dtype
    expected = x.float() @ dequantize_blocks(*parts).T
    assert y.shape == expected.shape
    assert (y.float() - expected).abs().max() < 0.25  # of sums of 64 products, rounded to 8 bits


def test_eight_bits_are_those_of_q8_0():
    table = torch.randn(50, 64) * torch.logspace(-3, 3, 50)[:, None]
    table[7] = 0
    theirs = torch.from_numpy(dequantize(gguf.quantize(table.numpy(), gguf.GGMLQuantizationType.Q8_0), 8))
    tokens = torch.tensor([[0, 7], [49, 3]])
    assert torch.equal(Int8Embedding(*quantize_symmetric(theirs))(tokens), theirs[tokens])
    assert not Int8Embedding(*quantize_symmetric(table))(torch.tensor(7)).any()


@pytest.mark.parametrize("shape", [(1, 1, 64), (2, 3, 64), (64,)])
def test_the_best_logits_are_those_of_float32_and_all_are_close(shape):
    table = Int8Embedding(*quantize_symmetric(torch.randn(500, 64)))
    x = 4 * torch.randn(shape)
    logits, expected = Int8Head(table, n_best=20)(x), x @ table(torch.arange(500)).T
    torch.testing.assert_close(logits.topk(10).values, expected.topk(10).values)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))
    torch.testing.assert_close(logits, expected, atol=0.03 * expected.abs().max().item(), rtol=0)
    assert torch.equal(Int8Head(table, n_best=1000)(x).argmax(-1), expected.argmax(-1))


def test_a_torch_without_the_kernels_says_so(monkeypatch):
    monkeypatch.setattr(quantization, "has_kernels", lambda: False)
    with pytest.raises(ValueError, match=r"multiplies no weights in 4 bits on a CPU: take 2.6 or later, or float32"):
        Int4Linear(*quantize_blocks(torch.randn(16, 32)))


@pytest.fixture(scope="module")
def path():
    return fetch("smollm2")


@pytest.fixture(scope="module")
def models(path):
    return load_gguf(path), load_gguf(path, weights="as stored")


def test_codes_are_those_of_the_file(path, models):
    stored, module = models[1], models[1].blocks[3].feed_forward.down_proj
    tensor = GGUFFile(path).tensors["blk.3.ffn_down.weight"]
    weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
    seen = module(torch.eye(weight.shape[1]))  # (in, out), rounded by the kernel to bfloat16
    assert (seen.T - weight).abs().max() <= 0.01 * weight.abs().max()
    assert stored.head.table is stored.embedding
    tokens = torch.arange(100, 200)
    assert torch.equal(stored.embedding(tokens), models[0].embedding(tokens))
    assert stored.config == models[0].config


def test_perplexity_is_that_of_float32_to_half_a_percent(path, models):
    tokens = torch.tensor(load_gguf_tokenizer(path).encode(king_james_book("Ruth")).ids[:256])
    exact, stored = (perplexity(model, tokens) for model in models)
    assert stored == pytest.approx(exact, rel=0.005)


def test_it_generates_with_a_cache_as_without(path, models):
    tokenizer, (exact, stored) = load_gguf_tokenizer(path), models
    prompt = tokenizer.encode("The capital of France is").ids
    new = generate(stored, [prompt], 8)[0]
    assert new[0] == generate(exact, [prompt], 1)[0][0]
    assert tokenizer.decode(new).startswith(" Paris")
    with torch.inference_mode():
        logits = stored(torch.tensor([prompt + new]))[0, len(prompt) - 1 : -1]
    chosen = logits.gather(-1, torch.tensor(new)[:, None]).squeeze(-1)
    assert (logits.amax(-1) - chosen <= 0.5).all()  # of equals but for bfloat16's rounding, either may win


def test_only_q4_1_stays_as_stored(path, tmp_path):
    assert is_quantized(path)
    other = write(tmp_path / "other.gguf", tensors(CONFIG), metadata(CONFIG) | TOKENIZER)
    assert not is_quantized(other)
    with pytest.raises(ValueError, match=r"tensor blk.0.attn_q.weight is stored as F32, and only Q4_1 can stay so"):
        load_gguf(other, weights="as stored")


def test_a_small_file_is_read_in_both_ways(tmp_path):
    path = write(tmp_path / "q4.gguf", tensors(CONFIG), metadata(CONFIG) | TOKENIZER, gguf.GGMLQuantizationType.Q4_1)
    tokens = torch.tensor([[5, 17, 3, 88, 41, 2, 9]])
    exact, stored = load_gguf(path), load_gguf(path, weights="as stored")
    with torch.inference_mode():
        a, b = exact(tokens), stored(tokens)
    assert (a - b).abs().max() < 0.03 * a.abs().max()


ASK = """
import re, sys
from pathlib import Path
from llama_lessons.__main__ import main
assert main(["ask", "--max-new-tokens=4", "What is the capital of France?"]) == 0
print(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
def test_ask_takes_less_than_400_mb_of_its_own():
    run = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert "Weights: 4 bits, as stored." in run.stderr
    answer, kilobytes = run.stdout.splitlines()
    assert answer == "The capital of France"
    assert int(kilobytes) * 1024 < 400e6
