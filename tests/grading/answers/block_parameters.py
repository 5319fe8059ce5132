"""Other answers to block_parameters."""

import torch
from torch import nn

from llama_lessons.llama import Block
from tests.grading.answers import right, wrong


@right
def by_building_one(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Block(config).parameters())


@right
def by_shapes(config):
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    shapes = [(q, config.dim), (kv, config.dim), (kv, config.dim), (config.dim, q)]
    shapes += [(config.hidden_dim, config.dim)] * 3 + [(config.dim, 1)] * 2
    return sum(rows * columns for rows, columns in shapes)


@right
def per_channel(config):
    heads = 2 * (config.n_heads + config.n_kv_heads) * config.head_dim
    return config.dim * (heads + 3 * config.hidden_dim + 2)


@right
def with_layers(config):
    with torch.device("meta"):
        q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        layers = [nn.Linear(config.dim, n, bias=False) for n in (q, kv, kv, config.hidden_dim, config.hidden_dim)]
        layers += [nn.Linear(n, config.dim, bias=False) for n in (q, config.hidden_dim)]
    return sum(layer.weight.numel() for layer in layers) + 2 * config.dim


@wrong()
def with_the_embedding(config):
    return per_channel(config) + config.vocab_size * config.dim


@wrong()
def with_biases_of_queries_and_keys(config):
    return per_channel(config) + (config.n_heads + 2 * config.n_kv_heads) * config.head_dim


@wrong()
def with_two_norms_more(config):
    return per_channel(config) + 2 * config.dim


@wrong()
def with_norms_of_heads(config):
    return per_channel(config) + 2 * config.head_dim
