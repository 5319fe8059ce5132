"""Tokens a second in generation, batch 1, float32, greedy, beside transformers' generate; and the cache's bytes.

Ours is measured as it is and with its blocks compiled.
"""

from copy import deepcopy

import torch

from benchmarks.peers import hugging_face
from benchmarks.side_by_side import Row, median_seconds, weight_bytes_per_second
from llama_lessons.attention import kv_cache_bytes
from llama_lessons.checkpoints import load_gguf, load_gguf_tokenizer
from llama_lessons.feed_forward import swiglu_hidden_dim
from llama_lessons.generation import compile_blocks_, generate, store_for_decoding_
from llama_lessons.lab.materials import fetch
from llama_lessons.llama import Llama, LlamaConfig

__all__ = ["rows"]

CONFIG = LlamaConfig(
    vocab_size=4096,
    dim=512,
    n_layers=8,
    n_heads=8,
    n_kv_heads=2,
    head_dim=64,
    hidden_dim=swiglu_hidden_dim(512),
    max_seq_len=2048,
)
PROMPT = "Once upon a time, in a house by the sea, there lived a llama who"


def rows() -> list[Row]:
    """Measure both models."""
    torch.manual_seed(0)
    small, prompt = Llama(CONFIG).eval(), torch.randint(CONFIG.vocab_size, (16,)).tolist()
    path = fetch("smollm2")
    real, words = load_gguf(path).eval(), load_gguf_tokenizer(path).encode(PROMPT).ids
    return [
        *_both("8 layers, dim 512, 8/2 heads", small, prompt, max_new_tokens=256, rounds=5),
        *_both("SmolLM2-135M", real, words, max_new_tokens=64, rounds=5),
        _cache(small),
    ]


def _both(sizes: str, model: Llama, prompt: list[int], max_new_tokens: int, rounds: int) -> list[Row]:
    """Our model as it is and compiled, beside transformers'; all three take turns."""
    theirs = hugging_face(model)
    theirs.generation_config.eos_token_id = None  # as many tokens as ours
    tokens = torch.tensor([prompt])
    store_for_decoding_(model)
    compiled = deepcopy(model)
    compile_blocks_(compiled)
    with torch.inference_mode():
        expected = theirs.generate(tokens, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0)
        for ours in (model, compiled):
            assert generate(ours, [prompt], max_new_tokens) == expected[:, len(prompt) :].tolist(), "other tokens"
        seconds = median_seconds(
            {
                "eager": lambda: generate(model, [prompt], max_new_tokens),
                "compiled": lambda: generate(compiled, [prompt], max_new_tokens),
                "transformers": lambda: theirs.generate(
                    tokens, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0
                ),
            },
            rounds,
            warm_up=1,
        )
    # The embedding is looked up, one row a token; tied or not, the head is multiplied in full.
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    weight_bytes = sum(module.weight.nbytes for module in linear)
    fastest = weight_bytes_per_second(weight_bytes) / weight_bytes
    return [
        Row(
            what=f"decoding, {way}: {sizes}",
            unit="tokens/s",
            ours=max_new_tokens / seconds[way],
            peer="transformers' generate",
            theirs=max_new_tokens / seconds["transformers"],
            better=seconds["transformers"] / seconds[way],
            share_of_limit=max_new_tokens / seconds[way] / fastest,
        )
        for way in ("eager", "compiled")
    ]


def _cache(model: Llama) -> Row:
    config, seq_len = model.config, 1024
    taken = sum(layer.nbytes for layer in model.new_cache(1, seq_len))
    sizes = {"n_layers": config.n_layers, "head_dim": config.head_dim, "seq_len": seq_len}
    assert taken == kv_cache_bytes(n_kv_heads=config.n_kv_heads, **sizes)
    without_grouping = kv_cache_bytes(n_kv_heads=config.n_heads, **sizes)
    return Row(
        what=f"cache of {seq_len} tokens: 8 layers, dim 512, 8/2 heads",
        unit="MB",
        ours=taken / 1e6,
        peer="8/8 heads",
        theirs=without_grouping / 1e6,
        better=without_grouping / taken,
    )
