"""Other answers to parameter_count."""

import math

import torch

from llama_lessons.llama import Llama
from tests.grading.answers import right, wrong


@right
def built_on_meta(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Llama(config).parameters())


@right
def by_shapes(config):
    dim, kv = config.dim, config.n_kv_heads * config.head_dim
    q = config.n_heads * config.head_dim
    shapes = [(q, dim), (kv, dim), (kv, dim), (dim, q)] + [(config.hidden_dim, dim)] * 3 + [(dim,)] * 2
    block = sum(math.prod(shape) for shape in shapes)
    table = config.vocab_size * dim
    return config.n_layers * block + dim + (table if config.tied_embeddings else table + table)


@wrong(called=None)
def rounded_to_millions(config):
    return round(built_on_meta(config) / 1e6) * 1_000_000


@wrong()
def the_embedding_left_out(config):
    """As in papers that count without embeddings."""
    return built_on_meta(config) - config.vocab_size * config.dim * (1 if config.tied_embeddings else 2)


@wrong(called=None)
def rope_counted_too(config):
    return built_on_meta(config) + config.head_dim // 2
