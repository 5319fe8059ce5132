"""Models that read a text rightly at once, and not in pieces: each planted mistake is found where it is."""

import pytest
import torch

from llama_lessons.grading.exercise import find_exercise
from llama_lessons.grading.exercises.attention.Attention import Attention
from llama_lessons.grading.exercises.attention.KVCache import KVCache
from llama_lessons.grading.exercises.llama.common import small
from llama_lessons.grading.exercises.llama.Llama import Llama
from llama_lessons.grading.exercises.llama.one_llama import tokens_for
from llama_lessons.grading.locator import locate_in_cache
from llama_lessons.rope import rope_tables

CONFIG = small(n_layers=3)


def wrong(exercise: str, name: str) -> type:
    return next(m for m in find_exercise(exercise).misconceptions if m.name == name).make()


class LengthStays(KVCache):
    def append(self, k, v):
        keys, values = super().append(k, v)
        self.length = 0
        return keys, values


class OnlyTheNew(KVCache):
    def append(self, k, v):
        super().append(k, v)
        return k, v


class KeysForValues(KVCache):
    def append(self, k, v):
        keys, values = super().append(k, v)
        values[:, :, : self.length - k.shape[2]] = keys[:, :, : self.length - k.shape[2]]
        return keys, values


class Halved(KVCache):
    def append(self, k, v):
        keys, values = super().append(k, v)
        return keys / 2 if self.length > k.shape[2] else keys, values


class CountedFromTheLast(Llama):
    def forward(self, tokens, caches=None):
        if caches and caches[0].length:
            return self.at(tokens, caches, caches[0].length - 1)
        return super().forward(tokens, caches)

    def at(self, tokens, caches, start):
        cos, sin = rope_tables(torch.arange(start, start + tokens.shape[1]), self.frequencies)
        x = self.embedding(tokens)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cos, sin, cache)
        return self.head(self.norm(x))


def found(llama=Llama, cache_class=KVCache, change=lambda model: None):
    torch.manual_seed(0)
    model = llama(CONFIG)
    change(model)
    tokens = tokens_for(CONFIG, 1, 9)

    def new_cache():
        return [cache_class(1, CONFIG.n_kv_heads, 27, CONFIG.head_dim) for _ in range(CONFIG.n_layers)]

    return locate_in_cache(model, tokens, new_cache, CONFIG)


@pytest.mark.parametrize(
    ("planted", "name", "words"),
    [
        ({"llama": wrong("Llama", "positions always from 0")}, "positions restart", "as if it began at position 0"),
        ({"llama": CountedFromTheLast}, "positions are off", "positions that are 1 too far back"),
        ({"llama": wrong("Llama", "caches not handed on")}, "the cache not handed on", "nothing is appended to it"),
        ({"llama": wrong("Llama", "the first cache for all blocks")}, "a cache for several blocks", "6 times"),
        ({"cache_class": OnlyTheNew}, "append forgets", "returns the keys of 5 tokens, and 9 were read"),
        ({"cache_class": KeysForValues}, "other values come back", "They are those of the keys."),
        ({"cache_class": Halved}, "other keys come back", "are not those that were appended"),
        ({"cache_class": LengthStays}, "positions restart", "position 0 again"),
    ],
)
def test_a_mistake_with_caches_is_found_and_named(planted, name, words):
    mistake = found(**planted)
    assert mistake.name == name, mistake
    assert words in mistake.diagnosis
    assert "block 0" in mistake.diagnosis


@pytest.mark.parametrize("layer", range(3))
def test_attention_that_reads_a_right_cache_wrongly_is_found_in_its_block(layer):
    def plant(model):
        model.blocks[layer].attention.forward = _first_for_all(model.blocks[layer].attention)

    mistake = found(change=plant)
    assert mistake.name == "attention with a cache"
    assert f"The cache of block {layer} holds the right keys" in mistake.diagnosis


def _first_for_all(attention):
    """In a second piece, every token gets what the first one attends to."""
    right = Attention.forward

    def forward(x, cos, sin, cache=None):
        second = cache is not None and cache.length
        result = right(attention, x, cos, sin, cache)
        return result[:, :1].expand_as(result) if second else result

    return forward
