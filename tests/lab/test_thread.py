"""The thread: each step swaps one part, all are trained alike, and the stored table is that of these models."""

import dataclasses
import json
import re
from itertools import pairwise

import pytest
import torch

from llama_lessons.attention import kv_cache_bytes
from llama_lessons.data import CharTokenizer
from llama_lessons.lab import stored, thread
from llama_lessons.lab.thread import SEEDS, SETTINGS, STEPS, run_step, show_table, thread_config
from llama_lessons.workbench import Decoder, Parts

TEXT = "To be, or not to be, that is the question. " * 40
STORED = json.loads((stored.FOLDER / "thread.json").read_text(encoding="utf-8"))["result"]
VOCAB_SIZE = 84  # of the Shakespeare that the course fetches


def parts_of(name):
    """What a step's model is made of: the types of its modules, and how it is drawn and read."""
    step = STEPS[name]
    model = Decoder(thread_config(7, **(step.sizes or {})), step.parts)
    block = model.blocks[0]
    return {
        "positions": (type(model.positions), type(model.rope)),
        "norm": {type(m) for m in (model.norm, block.attention_norm, block.feed_forward_norm)},
        "attention": block.attention.n_kv_heads,
        "feed_forward": type(block.feed_forward),
        "initialize": step.parts.initialize,
        "read_rope": step.read_rope,
    }


def test_each_step_swaps_one_part():
    changed = []
    for before, after in pairwise(map(parts_of, STEPS)):
        differs = [part for part in before if before[part] != after[part]]
        assert len(differs) == 1
        changed += differs
    assert changed == [*["positions"] * 3, "read_rope", "norm", "initialize", "attention", "feed_forward"]
    assert [step.lesson for step in STEPS.values()] == [f"{number:02}" for number in range(len(STEPS))]


def test_the_last_step_is_llama():
    last = list(STEPS.values())[-1]
    config = thread_config(7, **last.sizes)
    torch.manual_seed(0)
    ours = Decoder(config, last.parts)
    torch.manual_seed(0)
    llama = Decoder(config, Parts())
    tokens = torch.arange(6)[None]
    torch.testing.assert_close(ours(tokens), llama(tokens))


@pytest.fixture
def short(monkeypatch):
    tokenizer = CharTokenizer(TEXT)
    ids = tokenizer.encode(TEXT)
    monkeypatch.setattr(thread, "shakespeare", lambda: (tokenizer, ids[:900], ids[900:]))
    monkeypatch.setattr(thread, "EVAL_CHARACTERS", 1024)
    return dataclasses.replace(SETTINGS, total_steps=12, warmup_steps=2, batch_size=4)


@pytest.mark.parametrize("name", ["learned", "extrapolation"])
def test_a_step_is_trained_and_measured_at_both_lengths(short, name):
    row = run_step(STEPS[name], seeds=(0, 1), settings=short)
    vocab_size = len(set(TEXT))
    for losses in (row["loss"], row["loss_at_4x"]):
        assert len(set(losses)) == len(losses) == 2, "each seed is another run"
        assert all(0 < loss < torch.tensor(float(vocab_size)).log() + 0.5 for loss in losses)
    assert row["loss"] != row["loss_at_4x"]
    again = run_step(STEPS[name], seeds=(0,), settings=short)
    assert again["loss"] == row["loss"][:1]


def test_reading_otherwise_changes_long_text_alone(short):
    plain, scaled = (run_step(STEPS[name], seeds=(0,), settings=short) for name in ("rope", "extrapolation"))
    assert plain["loss"] == scaled["loss"]
    assert plain["loss_at_4x"] != scaled["loss_at_4x"]


@pytest.mark.parametrize("name", STEPS)
def test_the_stored_rows_are_those_of_the_models(name):
    row, step = STORED[name], STEPS[name]
    config = thread_config(VOCAB_SIZE, **(step.sizes or {}))
    model = Decoder(config, step.parts)
    assert row["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    cached = sum(layer.nbytes for layer in model.new_cache(1, 8)) // 8
    sizes = {"n_layers": config.n_layers, "n_kv_heads": config.n_kv_heads, "head_dim": config.head_dim}
    assert row["cache_bytes_a_token"] == cached == kv_cache_bytes(seq_len=1, **sizes)
    assert row["what"] == step.what
    assert len(row["loss"]) == len(row["loss_at_4x"]) == len(SEEDS)


def test_the_table_shows_the_rows_up_to_a_step(capsys):
    rows = show_table("sinusoidal")
    assert list(rows) == ["none", "learned", "sinusoidal"]
    assert rows["learned"] == STORED["learned"]
    assert capsys.readouterr().out.startswith("Stored result of ")


def test_an_unknown_step_is_refused():
    with pytest.raises(ValueError, match=re.escape("there is no step 'ropes'; there are none, learned, ")):
        show_table("ropes")
