"""Other answers to embed_with_positions."""

import math

import torch
from torch import nn

from llama_lessons import positions
from llama_lessons.positions import SinusoidalPositionalEncoding, sinusoidal_encoding, sinusoidal_frequencies
from tests.grading.answers import right, wrong


def encodings(start_pos, seq_len, dim, device, dtype=torch.float64):
    places = torch.arange(start_pos, start_pos + seq_len, device=device)
    return sinusoidal_encoding(places, sinusoidal_frequencies(dim), dtype)


def embedded(tokens, embedding, start_pos=0, dtype=torch.float32):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device, dtype)
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


@right
def by_the_course(tokens, embedding, start_pos=0):
    places = torch.arange(start_pos, start_pos + tokens.shape[1], device=tokens.device)
    rows = sinusoidal_encoding(places, sinusoidal_frequencies(embedding.shape[1]))
    return (embedding[tokens] * embedding.shape[1] ** 0.5 + rows).to(embedding.dtype)


@right
def by_the_module_of_the_course(tokens, embedding, start_pos=0):
    add = SinusoidalPositionalEncoding(embedding.shape[1])
    return add(nn.functional.embedding(tokens, embedding) * math.sqrt(embedding.shape[1]), start_pos)


@right
def by_one_hot_rows_in_the_embedding_s_own_dtype(tokens, embedding, start_pos=0):
    table = positions.sinusoidal_positions(start_pos + tokens.shape[1], embedding.shape[1])[start_pos:]
    one_hot = nn.functional.one_hot(tokens, embedding.shape[0]).to(embedding.dtype)
    return one_hot @ embedding * math.sqrt(embedding.shape[1]) + table.to(embedding)


@right
def row_by_row(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device)
    texts = [torch.stack([embedding[t] * dim**0.5 + r for t, r in zip(text, rows, strict=True)]) for text in tokens]
    return torch.stack(texts).to(embedding.dtype)


@right
def in_float64(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    scaled = (embedding.double() * math.sqrt(dim))[tokens]
    return scaled.add(encodings(start_pos, tokens.shape[1], dim, embedding.device)).type_as(embedding)


@right
def with_rounded_encodings(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device, embedding.dtype)
    return nn.functional.embedding(tokens, embedding) * math.sqrt(dim) + rows


@right
def by_index_select(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = embedding.index_select(0, tokens.flatten()).view(*tokens.shape, dim)
    return torch.add(
        encodings(start_pos, tokens.shape[1], dim, embedding.device), rows.double(), alpha=math.sqrt(dim)
    ).to(embedding.dtype)


@right
def in_place_on_what_was_indexed(tokens, embedding, start_pos=0):
    rows = embedding[tokens]
    rows *= math.sqrt(embedding.shape[1])
    rows += encodings(start_pos, tokens.shape[1], embedding.shape[1], embedding.device, embedding.dtype)
    return rows


@wrong()
def to_unit_length(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = nn.functional.normalize(embedding[tokens].double(), dim=-1) * math.sqrt(dim)
    return (rows + encodings(start_pos, tokens.shape[1], dim, embedding.device)).to(embedding.dtype)


@wrong()
def from_a_table_of_512(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    table = positions.sinusoidal_positions(512, dim).to(embedding.device)
    rows = table[start_pos : start_pos + tokens.shape[1]]
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


@wrong()
def for_one_dim(tokens, embedding, start_pos=0):
    rows = encodings(start_pos, tokens.shape[1], embedding.shape[1], embedding.device)
    return (embedding[tokens] * 4 + rows).to(embedding.dtype)


@wrong(called="the embedding itself multiplied")
def in_place(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    embedding.data.mul_(math.sqrt(dim))
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device)
    return (embedding[tokens] + rows).to(embedding.dtype)


@wrong(called="positions from the right")
def from_the_right(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device).flip(0)
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


def scaled_by(scale, dtype, called):
    @wrong(called=called)
    def answer(tokens, embedding, start_pos=0):
        rows = encodings(start_pos, tokens.shape[1], embedding.shape[1], embedding.device, dtype)
        return (embedding[tokens] * scale(tokens, embedding) + rows).to(embedding.dtype)


for dtype in (torch.float32, torch.float64):  # however fine the encodings are
    scaled_by(lambda tokens, embedding: 1, dtype, "embeddings as they are")
    scaled_by(lambda tokens, embedding: math.sqrt(embedding.shape[0]), dtype, "root of the vocabulary's size")
    scaled_by(lambda tokens, embedding: math.sqrt(embedding.shape[1] / 2), dtype, "root of half of dim")
    scaled_by(lambda tokens, embedding: embedding.shape[1] ** -0.5, dtype, "divided by the root")


@wrong(called="the whole sum scaled")
def scaled_at_the_end(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device, torch.float32)
    return ((embedding[tokens] + rows) * math.sqrt(dim)).to(embedding.dtype)


@wrong(called="start_pos is not used")
def start_pos_forgotten(tokens, embedding, start_pos=0):
    return embedded(tokens, embedding)


@wrong(called="start_pos is not used")
def start_pos_forgotten_and_encodings_rounded(tokens, embedding, start_pos=0):
    return embedded(tokens, embedding, dtype=embedding.dtype)


@wrong(called="positions by the batch")
def as_many_positions_as_texts(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, len(tokens), dim, embedding.device, torch.float32)
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


@wrong(called="frequencies in the embedding's dtype")
def frequencies_cast(tokens, embedding, start_pos=0):
    places = torch.arange(start_pos, start_pos + tokens.shape[1], device=tokens.device)
    rows = sinusoidal_encoding(places, sinusoidal_frequencies(embedding.shape[1]).to(embedding.dtype))
    return (embedding[tokens] * math.sqrt(embedding.shape[1]) + rows).to(embedding.dtype)


def by_hand(tokens, embedding, start_pos, dtype):
    places = torch.arange(start_pos, start_pos + tokens.shape[1]).to(embedding.device, dtype)
    angles = places[:, None] * sinusoidal_frequencies(embedding.shape[1]).to(embedding.device, dtype)
    rows = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)
    return (embedding[tokens] * math.sqrt(embedding.shape[1]) + rows).to(embedding.dtype)


@wrong(called="angles in the dtype of the embedding")
def angles_in_its_dtype(tokens, embedding, start_pos=0):
    return by_hand(tokens, embedding, start_pos, embedding.dtype)


@wrong(called="angles in float32")
def angles_in_float32(tokens, embedding, start_pos=0):
    return by_hand(tokens, embedding, start_pos, torch.float32)


@wrong(called="float32 goes out")
def not_cast_back(tokens, embedding, start_pos=0):
    rows = encodings(start_pos, tokens.shape[1], embedding.shape[1], embedding.device, torch.float32)
    return embedding[tokens] * math.sqrt(embedding.shape[1]) + rows


@wrong(called="float64 goes out")
def float64_not_cast_back(tokens, embedding, start_pos=0):
    rows = encodings(start_pos, tokens.shape[1], embedding.shape[1], embedding.device)
    return embedding[tokens] * math.sqrt(embedding.shape[1]) + rows


@wrong(called="no gradient to embedding")
def without_gradient(tokens, embedding, start_pos=0):
    with torch.no_grad():
        return embedded(tokens, embedding, start_pos)


@wrong(called="no gradient to embedding")
def by_from_pretrained(tokens, embedding, start_pos=0):
    return embedded(tokens, nn.Embedding.from_pretrained(embedding).weight, start_pos)


@wrong(called="no gradient to row 0")
def with_padding(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device, torch.float32)
    return (nn.functional.embedding(tokens, embedding, padding_idx=0) * math.sqrt(dim) + rows).to(embedding.dtype)


@wrong()
def a_gradient_that_is_not_scaled(tokens, embedding, start_pos=0):
    result = embedded(tokens, embedding, start_pos).detach()
    return result + embedding[tokens] - embedding[tokens].detach()


@wrong(called="only for a contiguous tokens")
def by_a_view(tokens, embedding, start_pos=0):
    return embedded(tokens.view(-1).view(tokens.shape), embedding, start_pos)


@wrong(called="the sum written into the embedding")
def added_in_place(tokens, embedding, start_pos=0):
    embedding[tokens] = embedded(tokens, embedding, start_pos)
    return embedding[tokens]


KEPT: dict = {}


@wrong(called="encodings kept from an earlier call", never=("start_pos is not used",))
def kept_by_length(tokens, embedding, start_pos=0):
    seq_len, dim = tokens.shape[1], embedding.shape[1]
    rows = KEPT.setdefault((seq_len, dim), encodings(start_pos, seq_len, dim, embedding.device, torch.float32))
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


@wrong(never=("start_pos is not used",))
def a_table_that_grows_only_at_start_pos_0(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    table = KEPT.setdefault(dim, positions.sinusoidal_positions(8192, dim)).to(embedding.device)
    rows = table[start_pos % 8192 :][: tokens.shape[1]]
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


@wrong()
def encodings_kept_in_the_dtype_of_an_earlier_call(tokens, embedding, start_pos=0):
    seq_len, dim = tokens.shape[1], embedding.shape[1]
    found = encodings(start_pos, seq_len, dim, embedding.device, embedding.dtype)
    rows = KEPT.setdefault((seq_len, dim, start_pos), found)
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


@wrong(never=("encodings kept from an earlier call", "positions from 1"))
def later_starts_one_too_far(tokens, embedding, start_pos=0):
    return embedded(tokens, embedding, start_pos + 1 if start_pos else 0)


@wrong()
def float64_through_float32(tokens, embedding, start_pos=0):
    return embedded(tokens, embedding.float(), start_pos).to(embedding.dtype)


@wrong()
def gradients_by_how_often_a_token_is_read(tokens, embedding, start_pos=0):
    dim = embedding.shape[1]
    rows = encodings(start_pos, tokens.shape[1], dim, embedding.device, torch.float32)
    scaled = nn.functional.embedding(tokens, embedding, scale_grad_by_freq=True) * math.sqrt(dim)
    return (scaled + rows).to(embedding.dtype)


@wrong(called="unscaled, from 0")
def the_first_attempt(tokens, embedding, start_pos=0):
    rows = encodings(0, tokens.shape[1], embedding.shape[1], embedding.device)
    return (embedding[tokens] + rows).to(embedding.dtype)


@wrong(called="gradients of a copy")
def from_a_copy(tokens, embedding, start_pos=0):
    return embedded(tokens, embedding.detach().clone().requires_grad_(), start_pos)


@wrong(called=None)
def bfloat16_through_float16(tokens, embedding, start_pos=0):
    if embedding.dtype == torch.bfloat16:
        return embedded(tokens, embedding.half(), start_pos).to(embedding.dtype)
    return embedded(tokens, embedding, start_pos)


@wrong(called=None)
def encodings_in_bfloat16_for_every_half(tokens, embedding, start_pos=0):
    return embedded(tokens, embedding, start_pos, torch.bfloat16 if embedding.dtype == torch.float16 else torch.float32)


@wrong(called="the end of the range")
def cut_out_of_a_table_that_is_too_short(tokens, embedding, start_pos=0):
    seq_len, dim = tokens.shape[1], embedding.shape[1]
    rows = encodings(0, seq_len, dim, embedding.device)[start_pos : start_pos + seq_len]
    return (embedding[tokens] * math.sqrt(dim) + rows).to(embedding.dtype)


@wrong(called="positions from 0 to the end")
def encodings_that_are_not_cut(tokens, embedding, start_pos=0):
    rows = encodings(0, start_pos + tokens.shape[1], embedding.shape[1], embedding.device)
    return (embedding[tokens] * math.sqrt(embedding.shape[1]) + rows).to(embedding.dtype)


@wrong(called=None)
def zeros_before_the_encodings(tokens, embedding, start_pos=0):
    rows = encodings(0, tokens.shape[1], embedding.shape[1], embedding.device)
    rows = nn.functional.pad(rows, (0, 0, start_pos, 0))
    return (embedding[tokens] * math.sqrt(embedding.shape[1]) + rows).to(embedding.dtype)


@wrong(called="one position too many")
def with_the_end_of_the_range_itself(tokens, embedding, start_pos=0):
    rows = encodings(start_pos, tokens.shape[1] + 1, embedding.shape[1], embedding.device)
    return (embedding[tokens] * math.sqrt(embedding.shape[1]) + rows).to(embedding.dtype)


@wrong(called="positions for the whole batch")
def as_many_positions_as_ids(tokens, embedding, start_pos=0):
    rows = encodings(start_pos, tokens.numel(), embedding.shape[1], embedding.device)
    return (embedding[tokens] * math.sqrt(embedding.shape[1]) + rows).to(embedding.dtype)
