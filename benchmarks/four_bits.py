"""SmolLM2 with its own 4-bit weights, multiplied as they are stored, beside float32 weights and beside llama.cpp.

llama.cpp is measured through llama-cpp-python where that is installed (pip install llama-cpp-python builds it, in some
minutes); without it, its rows are left out.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import hugging_face
from benchmarks.side_by_side import THREADS, Row, median_seconds
from llama_lessons.checkpoints import load_gguf, load_gguf_tokenizer
from llama_lessons.generation import compile_blocks_, generate
from llama_lessons.lab.materials import fetch
from llama_lessons.lab.texts import king_james_book

__all__ = ["rows"]

PROMPT = "Once upon a time, in a house by the sea, there lived a llama who"
NEW_TOKENS, PREFILL_TOKENS, ROUNDS = 64, 512, 5


@torch.inference_mode()
def rows() -> list[Row]:
    """Measure all of them in turns: tokens a second when decoding, and when reading a prompt."""
    path = fetch("smollm2")
    tokenizer = load_gguf_tokenizer(path)
    prompt, long = tokenizer.encode(PROMPT).ids, tokenizer.encode(king_james_book("Ruth")).ids[:PREFILL_TOKENS]
    eager, compiled = (load_gguf(path, weights="as stored") for _ in range(2))
    compile_blocks_(compiled)
    theirs = hugging_face(load_gguf(path))
    theirs.generation_config.eos_token_id = None  # as many tokens as ours
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
    decoding = {
        "eager": lambda: generate(eager, [prompt], NEW_TOKENS),
        "compiled": lambda: generate(compiled, [prompt], NEW_TOKENS),
        "transformers, float32": lambda: theirs.generate(torch.tensor([prompt]), **settings),
    }
    prefill = {
        "eager": lambda: generate(eager, [long], 1),
        "transformers, float32": lambda: theirs(torch.tensor([long]), logits_to_keep=1),
    }
    if find_spec("llama_cpp"):
        peer = _llama_cpp(path)
        decoding["llama.cpp, 4 bits"] = lambda: _generate(peer, prompt, NEW_TOKENS)
        prefill["llama.cpp, 4 bits"] = lambda: _generate(peer, long, 1)
    return [
        *_compare("decoding", NEW_TOKENS, decoding),
        *_compare(f"reading {PREFILL_TOKENS} tokens", PREFILL_TOKENS, prefill),
    ]


def _compare(what: str, n_tokens: int, contestants: dict[str, Any]) -> list[Row]:
    seconds = median_seconds(contestants, ROUNDS, warm_up=1)
    return [
        Row(
            what=f"{what}, {way}: SmolLM2-135M, its own 4-bit weights",
            unit="tokens/s",
            ours=n_tokens / seconds[way],
            peer=peer,
            theirs=n_tokens / seconds[peer],
            better=seconds[peer] / seconds[way],
        )
        for peer in contestants
        for way in contestants
        if way in ("eager", "compiled") and peer not in ("eager", "compiled")
    ]


def _llama_cpp(path: Path) -> Any:
    from llama_cpp import Llama

    return Llama(str(path), n_ctx=1024, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)


def _generate(peer: Any, prompt: list[int], n_tokens: int) -> list[int]:
    """Greedy, from an empty cache, without a stop."""
    peer.reset()
    peer.eval(prompt)
    tokens = [peer.sample(temp=0)]
    while len(tokens) < n_tokens:
        peer.eval(tokens[-1:])
        tokens.append(peer.sample(temp=0))
    return tokens
