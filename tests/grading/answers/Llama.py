"""Other answers to Llama."""

import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons.grading.exercises.llama.Block import Block
from llama_lessons.norms import RMSNorm
from llama_lessons.rope import rope_frequencies, rope_tables
from tests.grading.answers import right, wrong


def start_of(caches):
    return caches[0].length if caches else 0


@right
class WithoutAHeadOfItsOwn(nn.Module):
    """Where it is tied, the head is the embedding's matrix, and no module."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.last_norm = RMSNorm(config.dim, config.norm_eps)
        if not config.tied_embeddings:
            self.output = nn.Linear(config.dim, config.vocab_size, bias=False)

    def forward(self, tokens, caches=None):
        start = start_of(caches)
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        tables = rope_tables(positions, rope_frequencies(self.config.head_dim, self.config.rope_theta))
        x = self.tok_embeddings(tokens)
        for layer, cache in zip(self.layers, caches or [None] * len(self.layers), strict=True):
            x = layer(x, *tables, cache)
        weight = self.tok_embeddings.weight if self.config.tied_embeddings else self.output.weight
        return F.linear(self.last_norm(x), weight)


@right
class TablesMadeBefore(nn.Module):
    """All tables at once, kept as plain attributes."""

    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.n_layers)))
        self.norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight
        self.tables = rope_tables(
            torch.arange(config.max_seq_len), rope_frequencies(config.head_dim, config.rope_theta)
        )

    def forward(self, tokens, caches=None):
        start = start_of(caches)
        cos, sin = (table[start : start + tokens.shape[1]].to(tokens.device) for table in self.tables)
        x = self.embedding(tokens)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, caches[i] if caches else None)
        return self.head(self.norm(x))


@right
class EmbeddingTakenFromTheHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        if config.tied_embeddings:
            self.embedding.weight = self.head.weight
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.layers = nn.ModuleDict({str(i): Block(config) for i in range(config.n_layers)})
        self.rope = config.head_dim, config.rope_theta

    def forward(self, tokens, caches=None):
        places = torch.arange(tokens.shape[-1], device=tokens.device) + start_of(caches)
        cos, sin = rope_tables(places, rope_frequencies(*self.rope))
        stream = self.embedding(tokens)
        for i in range(len(self.layers)):
            stream = self.layers[str(i)](stream, cos, sin, None if not caches else caches[i])
        return self.head(self.norm(stream))


class Plain(nn.Module):
    """What the wrong ones change."""

    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight
        self.frequencies = rope_frequencies(config.head_dim, config.rope_theta)

    def through(self, x, caches, start, seq_len):
        positions = torch.arange(start, start + seq_len, device=x.device)
        cos, sin = rope_tables(positions, self.frequencies)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, caches[i] if caches else None)
        return x

    def forward(self, tokens, caches=None):
        return self.head(self.norm(self.through(self.embedding(tokens), caches, start_of(caches), tokens.shape[1])))


@wrong(never=("no last norm",))
class LayerNormAtTheEnd(Plain):
    def forward(self, tokens, caches=None):
        x = self.through(self.embedding(tokens), caches, start_of(caches), tokens.shape[1])
        return self.head(self.norm(x - x.mean(-1, keepdim=True)))


@wrong()
class FrequenciesInABuffer(Plain):
    def __init__(self, config):
        super().__init__(config)
        frequencies = self.frequencies
        del self.frequencies
        self.register_buffer("frequencies", frequencies, persistent=False)


@wrong(never=("positions always from 0",))
class PositionsDoubled(Plain):
    def forward(self, tokens, caches=None):
        x, start = self.embedding(tokens), start_of(caches)
        positions = 2 * torch.arange(start, start + tokens.shape[1], device=x.device)
        cos, sin = rope_tables(positions, self.frequencies)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, caches[i] if caches else None)
        return self.head(self.norm(x))


@wrong()
class OneMoreBlock(Plain):
    def __init__(self, config):
        super().__init__(config)
        self.blocks.append(Block(config))

    def forward(self, tokens, caches=None):
        return super().forward(tokens, caches and [*caches, None])


@wrong()
class PositionsCountedByItself(Plain):
    """It counts what it has read, and not what the caches hold."""

    read = 0

    def forward(self, tokens, caches=None):
        start = self.read if caches else 0
        self.read = start + tokens.shape[1]
        return self.head(self.norm(self.through(self.embedding(tokens), caches, start, tokens.shape[1])))
