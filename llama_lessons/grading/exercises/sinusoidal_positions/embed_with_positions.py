"""Exercise 8: the input of the original Transformer, embeddings scaled and positions added."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons.positions import sinusoidal_encoding, sinusoidal_frequencies

from ...exercise import Exercise
from ...expect import draw, exact, expect_close, expect_gradients, expect_like, expect_same_for_views, tensor
from ...families import float32_out, needs_contiguous, no_gradient
from .common import exact_rows

# Dtypes of an embedding, and how far a result may be off: encodings may be in float32, or rounded before the sum
ROUNDING = {torch.float64: 1e-7, torch.float32: 2e-6, torch.bfloat16: 4e-2, torch.float16: 4e-3}


def embed_with_positions(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    seq_len, dim = tokens.shape[1], embedding.shape[1]
    positions = torch.arange(start_pos, start_pos + seq_len, device=tokens.device)
    frequencies = sinusoidal_frequencies(dim)
    encodings = sinusoidal_encoding(positions, frequencies)
    scaled = embedding[tokens] * math.sqrt(dim)
    embedded = scaled + encodings
    return embedded.to(embedding.dtype)


def exact_embed(tokens: Tensor, embedding: Tensor, start_pos: int) -> Tensor:
    dim, positions = embedding.shape[1], torch.arange(start_pos, start_pos + tokens.shape[1])
    return exact(embedding)[tokens.cpu()] * math.sqrt(dim) + exact_rows(positions, dim)


def draw_both(
    batch: int, seq_len: int, vocab_size: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Tokens (batch, seq_len) and an embedding (vocab_size, dim), on one device."""
    embedding, generator = draw(vocab_size, dim, seed=seed, dtype=dtype), torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (batch, seq_len), generator=generator).to(embedding.device), embedding


def cases() -> list[tuple]:
    """Batches, later starts, far ones, half precision, one size twice, and inputs that are not contiguous."""
    sizes = [
        (1, 10, 10, 4, 0, torch.float32),
        (2, 11, 12, 8, 0, torch.float32),
        (2, 4, 9, 8, 3, torch.float32),  # one position from start_pos to seq_len
        (4, 1, 11, 8, 6, torch.float32),  # one token, to which any number of encodings can be added
        (9, 9, 7, 16, 2, torch.float32),
        (2, 13, 11, 8, 9, torch.float32),
        (2, 13, 11, 8, 3, torch.float32),
        (3, 14, 13, 6, 1, torch.float32),
        (2, 15, 12, 8, 100_003, torch.float32),
        (3, 1, 20, 16, 0, torch.float64),  # encodings of 0 are the same in float32 and float64
        (2, 16, 12, 16, 257, torch.bfloat16),  # and a root of dim that half precision holds
        (3, 32, 12, 64, 4_099, torch.float16),
    ]
    made = []
    for seed, (batch, seq_len, vocab_size, dim, start_pos, dtype) in enumerate(sizes):
        tokens, embedding = draw_both(batch, seq_len, vocab_size, dim, seed, dtype)
        made.append((tokens, embedding.requires_grad_(), start_pos))
    tokens, embedding = draw_both(17, 18, 8, 8)
    return [*made, (tokens, embedding), (tokens.T, embedding, 5), (tokens[:, :12], embedding.T, 5)]


exercise = Exercise(
    embed_with_positions,
    points=4,
    minutes=9,
    cases=cases,
    returns=Tensor,
    hints=(
        "embedding[tokens] is (batch, seq_len, dim): the row of each token. What is multiplied by the root of dim, and "
        "what is not?",
        "The encodings are (seq_len, dim) and the same for each row of the batch, so broadcasting adds them. Give "
        "sinusoidal_encoding a dtype that is fine enough, or take its default.",
        "Positions are start_pos, start_pos + 1, ... for as many tokens as a row has. The sum goes back to the dtype "
        "of the embedding at the end.",
    ),
)


def expect_embedded(answer: Callable, tokens: Tensor, embedding: Tensor, start_pos: int, off: float = 0.0) -> None:
    """Refuse another shape, dtype or number than the formula gives in float64."""
    got, dtype = answer(tokens, embedding, start_pos), embedding.dtype
    where = f"tokens {tuple(tokens.shape)}, embedding {tuple(embedding.shape)} in {str(dtype)[6:]}"
    where = f"{where}, start_pos {start_pos}"
    expect_like(got, shape=(*tokens.shape, embedding.shape[1]), dtype=dtype, where=where)
    rtol = 0 if dtype == torch.float64 else ROUNDING[dtype] / 2
    expect_close(got, exact_embed(tokens, embedding, start_pos), where=where, rtol=rtol, atol=max(off, ROUNDING[dtype]))


@exercise.property("shape (batch, seq_len, dim), dtype of the embedding")
def shape_and_dtype(answer: Callable) -> None:
    for batch, seq_len, dim in ((1, 1, 2), (2, 5, 8), (3, 4, 6)):
        for dtype in ROUNDING:
            got = answer(*draw_both(batch, seq_len, 10, dim, dtype=dtype), 0)
            where = f"tokens {(batch, seq_len)}, embedding {(10, dim)} in {str(dtype)[6:]}"
            expect_like(got, shape=(batch, seq_len, dim), dtype=dtype, where=where)


@exercise.property("a token whose row is 0 is its position alone")
def positions_alone(answer: Callable) -> None:
    got = answer(tensor([[0, 0, 0, 0]]), 0 * draw(3, 16), 0)
    expect_close(got, exact_rows(torch.arange(4), 16)[None], where="an embedding of zeros, dim 16", atol=1e-6)


@exercise.property("embeddings times the root of dim, plus encodings")
def formula(answer: Callable) -> None:
    for seed, sizes in enumerate(((1, 3, 10, 4), (2, 7, 30, 64), (4, 4, 5, 12))):
        for dtype in (torch.float32, torch.float64):
            expect_embedded(answer, *draw_both(*sizes, seed, dtype), 0)


@exercise.property("equal rows of tokens come out equal")
def same_for_each_row(answer: Callable) -> None:
    tokens, embedding = draw_both(1, 6, 10, 8)
    got = answer(tokens.expand(3, 6), embedding, 0)
    for row in (1, 2):
        expect_close(got[row], got[0], where=f"three equal rows of tokens, row {row} beside row 0")


@exercise.property("start_pos is the position of the first token, 0 where it is not given")
def start_pos_used(answer: Callable) -> None:
    for start_pos, off in ((1, 0.0), (7, 0.0), (100_003, 0.05)):  # far out, how exact it is comes later
        expect_embedded(answer, *draw_both(2, 5, 10, 12), start_pos, off)
    expect_embedded(lambda tokens, embedding, start_pos: answer(tokens, embedding), *draw_both(2, 5, 10, 8), 0)


@exercise.property("only the result is rounded, not the angles: in half precision, and far out")
def half_precision(answer: Callable) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):  # the last for an answer that keeps a dtype
        for start_pos in (0, 257, 5_001, 100_003):
            tokens, embedding = draw_both(2, 33, 10, 64, dtype=dtype)
            expect_embedded(answer, tokens, embedding / 8, start_pos)
    tokens, embedding = draw_both(2, 33, 10, 64, dtype=torch.bfloat16)
    expect_embedded(answer, tokens, 1e5 * embedding, 0)
    want = exact_rows(torch.arange(33), 64).expand(2, -1, -1)
    expect_close(answer(tokens, 0 * embedding.half(), 0), want, where="zeros in float16, dim 64", rtol=0, atol=5e-4)


@exercise.property("numbers need not lie in memory in the order of their axes")
def not_contiguous(answer: Callable) -> None:
    expect_same_for_views(answer, *draw_both(2, 5, 10, 8), 3)


@exercise.property("gradients reach the embedding, times the root of dim")
def gradients(answer: Callable) -> None:
    tokens = tensor([[0, 2, 2], [1, 0, 4]])
    expect_gradients(answer, exact_embed, tokens, draw(6, 16), 3, names=("the embedding",))


exercise.slips("""
    embeddings as they are: * math.sqrt(dim) -> * 1
        You add the encodings to the embeddings as these are. Beside small ones an encoding is long, the root of
        dim / 2: multiply the embeddings by the root of dim first.
    divided by the root: * math.sqrt(dim) -> / math.sqrt(dim)
        You divide the embeddings by the root of dim, as attention does with its scores. Small ones get smaller still
        beside the encodings: multiply.
    the whole sum scaled: scaled + encodings -> scaled + encodings * math.sqrt(dim)
        You multiply the encodings too: the sum as a whole. That leaves the balance between token and position as it
        was. Only the embeddings are multiplied.
    the encodings scaled: scaled + encodings -> embedding[tokens] + encodings * math.sqrt(dim)
        You multiply the encodings by the root of dim instead of the embeddings. Beside small
        embeddings they are long already.
    multiplied by dim: * math.sqrt(dim) -> * dim
        You multiply by dim. It is the root of dim.
    root of half of dim: * math.sqrt(dim) -> * math.sqrt(dim / 2)
        You multiply by the root of dim / 2, which is the length of an encoding. It is the root of dim.
    root of the vocabulary's size: * math.sqrt(dim) -> * math.sqrt(len(embedding))
        You take the root of embedding.shape[0], the size of the vocabulary. dim is the length of a row: shape[1].
    root of the text's length: * math.sqrt(dim) -> * math.sqrt(seq_len)
        You take the root of seq_len. dim is the length of an embedding's row: embedding.shape[1].
    encodings subtracted: scaled + encodings -> scaled - encodings
        You subtract the encodings. They are added.
    positions by the batch: start_pos + seq_len -> start_pos + len(tokens)
        You make as many positions as there are rows in the batch, tokens.shape[0]. There is one for each token of a
        row: tokens.shape[1].
    a position for each row of the batch: (positions, -> (start_pos + torch.arange(len(tokens)).to(tokens)[:, None],
        Positions run along axis 0, the batch: all tokens of a text get the same encoding, and each text another one.
        Tokens stand along axis 1.
    positions run on over rows: (positions, -> (positions + seq_len * torch.arange(len(tokens)).to(tokens)[:, None],
        Positions run on from one row of the batch to the next. Each row is a text of its own, from start_pos on.
    the end of the range: start_pos + seq_len -> seq_len
        Your positions run from start_pos to seq_len - 1, as in arange(start_pos, seq_len) or in a slice of seq_len
        rows. seq_len is how many there are, not where they end: the end is start_pos + seq_len.
    positions from 0 to the end: torch.arange(start_pos, start_pos -> torch.arange(0, start_pos
        Your positions run from 0, and end where they should: there are start_pos too many. They begin at start_pos.
    positions for the whole batch: start_pos + seq_len -> start_pos + tokens.numel()
        You make a position for each token of the whole batch, batch * seq_len in one row. Each row of the batch is a
        text of its own, and all take the same seq_len positions.
    one position too many: start_pos + seq_len -> start_pos + seq_len + 1
        You make seq_len + 1 positions, one too many: arange leaves its end out, which is start_pos + seq_len.
    start_pos is not used: (positions, frequencies) -> (positions - start_pos, frequencies)
        Your first token stands at 0, as if start_pos were not used.
    unscaled, from 0: scaled + encodings -> embedding[tokens] + sinusoidal_encoding(positions - start_pos, frequencies)
        Two things: embeddings are not multiplied by the root of dim, and your first token stands at 0.
    positions from 1: (positions, frequencies) -> (positions + 1, frequencies)
        Your first token stands one position too far. It stands at start_pos itself, and positions count from 0.
    positions from the right: (positions, frequencies) -> (positions.flip(0), frequencies)
        Your last token stands at start_pos, and those before it further on. The first token stands there.
    all tokens at start_pos: (positions, frequencies) -> (positions[:1], frequencies)
        All tokens get the encoding of start_pos. The first stands there, the others follow it.
    the token's id as its position: (positions, frequencies) -> (tokens, frequencies)
        You encode the id of each token, its number in the vocabulary. Its position is where it stands in the text.
    the token's id counted from start_pos: (positions, frequencies) -> (tokens + start_pos, frequencies)
        You encode start_pos plus the id of each token. An id is a number in the vocabulary; a position is where a token
        stands in the text.
    an axis in the middle: scaled + encodings -> scaled + encodings[:, None]
        Your encodings have an axis in the middle, (seq_len, 1, dim), and line up with the batch. As (seq_len, dim) they
        line up with the tokens of each row.
    no positions: scaled + encodings -> scaled
        Your embeddings are scaled, but nothing is added to them.
    gradients of a copy: = embedding[tokens] -> = torch.nn.Parameter(embedding.detach())[tokens]
        The numbers are right, but no gradient reaches the embedding, as if rows were taken from another tensor:
        nn.Parameter, nn.Embedding.from_pretrained and .detach() make one. Index the embedding itself.
    no gradient to row 0: = embedding[tokens] -> = torch.nn.functional.embedding(tokens, embedding, padding_idx=0)
        The numbers are right, but no gradient reaches row 0 of the embedding, as with padding_idx=0. No token is
        padding here.
    the embedding itself multiplied: = embedding[tokens] * math.sqrt(dim) -> = embedding.mul_(math.sqrt(dim))[tokens]
        You multiply the embedding itself, in place, and the next call would multiply it again. Multiply the rows that
        you took from it: embedding[tokens] * math.sqrt(dim).
    positions in the embedding's dtype: (positions, frequencies) -> (positions.to(embedding.dtype).long(), frequencies)
        Positions are rounded to the dtype of the embedding before the angle is taken. In bfloat16 position 257 is 256,
        and the first angle is off by a radian. Leave them integers, and cast what goes out.
    frequencies in the embedding's dtype: (positions, frequencies) -> (positions, frequencies.to(embedding.dtype))
        Frequencies are rounded to the dtype of the embedding before the angle is taken, which multiplies that rounding
        by the position. Take angles in float64, and cast what goes out.
    frequencies in float32: (positions, frequencies) -> (positions, frequencies.float())
        Frequencies are rounded to float32 before the angle is taken, which multiplies that rounding by the position.
        Take angles in float64, as sinusoidal_frequencies gives them.
    encodings kept from an earlier call: (positions, -> (globals().setdefault((seq_len, dim), positions),
        Your result is that of the start_pos of an earlier call with as many tokens: encodings are kept from call to
        call, under a key that does not hold start_pos.
    float32 whatever the embedding is in: .to(embedding.dtype) -> .float()
        The result is float32 whatever the embedding is in. Go back to embedding.dtype at the end.
""")
no_gradient(exercise, "embedding", "It could not be trained.")
float32_out(exercise, "embedding")
needs_contiguous(exercise, "tokens")
needs_contiguous(exercise, "embedding")


def with_angles_in(dtype: torch.dtype, tokens: Tensor, embedding: Tensor, start_pos: int) -> Tensor:
    seq_len, dim = tokens.shape[1], embedding.shape[1]
    positions = torch.arange(start_pos, start_pos + seq_len, device=tokens.device).to(dtype)
    angles = positions[:, None] * sinusoidal_frequencies(dim).to(positions)
    encodings = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
    return embedding[tokens] * math.sqrt(dim) + encodings


@exercise.misconception
def angles_in_the_dtype_of_the_embedding(tokens, embedding, start_pos=0):
    """Angles are taken in the dtype of the embedding: positions and frequencies are rounded to it, and so is their
    product. In bfloat16 position 257 is 256. Take angles in float64, and cast what goes out."""
    return with_angles_in(embedding.dtype, tokens, embedding, start_pos).to(embedding.dtype)


@exercise.misconception
def angles_in_float32(tokens, embedding, start_pos=0):
    """Angles are taken in float32, which keeps seven digits: at position 100,000 up to six of them stand before the
    decimal point. Take angles in float64, as sinusoidal_encoding does."""
    return with_angles_in(torch.float32, tokens, embedding, start_pos).to(embedding.dtype)


@exercise.misconception
def the_sum_written_into_the_embedding(tokens, embedding, start_pos=0):
    """You write the sums into the rows of the embedding, as embedding[tokens] += ... does: a token that stands at two
    places gets one position, and the next call begins with what this one left. Make a new tensor."""
    embedding[tokens] = embed_with_positions(tokens, embedding, start_pos)
    return embedding[tokens]


@exercise.misconception
def float64_goes_out(tokens, embedding, start_pos=0):
    """The numbers are right, but the result is in float64 whatever the embedding is in. Go back to embedding.dtype at
    the end."""
    return with_angles_in(torch.float64, tokens, embedding, start_pos)
