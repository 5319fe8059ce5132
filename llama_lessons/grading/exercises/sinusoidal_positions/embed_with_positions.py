"""Exercise 8: the input of the original Transformer, embeddings scaled and positions added."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .common import LESSON, draw, exact_rows

__all__ = ["embed_with_positions"]

# Dtypes of an embedding, and how far a result may be off when encodings are rounded to it before the sum
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 4e-2, torch.float16: 4e-3}


def _positions(tokens: Tensor, start_pos: int) -> Tensor:
    return torch.arange(start_pos, start_pos + tokens.shape[1])


def _rows(positions: Tensor, embedding: Tensor) -> Tensor:
    """Encodings of positions in float32, as the course's function gives them, on the embedding's device."""
    return exact_rows(positions, embedding.shape[1]).float().to(embedding.device)


def _sum(tokens: Tensor, embedding: Tensor, rows: Tensor, scale: float) -> Tensor:
    return (scale * embedding[tokens] + rows).to(embedding.dtype)


def _root(embedding: Tensor) -> float:
    return math.sqrt(embedding.shape[1])


def _reference(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _sum(tokens, embedding, _rows(_positions(tokens, start_pos), embedding), _root(embedding))


def _draw_ids(batch: int, seq_len: int, vocab_size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (batch, seq_len), generator=generator).to(choose_device())


def _cases() -> list[tuple]:
    """Batches, squares that hide exchanged axes, later starts, far ones, and half precision."""
    cases = []
    for seed, (batch, seq_len, vocab_size, dim, start_pos, dtype) in enumerate(
        [
            (1, 3, 10, 4, 0, torch.float32),
            (2, 5, 11, 8, 0, torch.float32),
            (4, 4, 9, 16, 2, torch.float32),
            (3, 2, 20, 6, 7, torch.float64),
            (2, 5, 11, 8, 4, torch.float32),
            (3, 4, 13, 6, 1, torch.float32),
            (2, 3, 12, 8, 100_000, torch.float32),
            (2, 4, 12, 16, 257, torch.bfloat16),
        ]
    ):
        embedding = draw(vocab_size, dim, seed=seed, dtype=dtype).requires_grad_()
        cases.append((_draw_ids(batch, seq_len, vocab_size, seed), embedding, start_pos))
    return cases


embed_with_positions = Exercise(
    name="embed_with_positions",
    lesson=LESSON,
    points=4,
    minutes=9,
    parameters=("tokens", "embedding", "start_pos"),
    reference=_reference,
    cases=_cases,
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


def _expect(answer: Callable, tokens: Tensor, embedding: Tensor, start_pos: int) -> None:
    got = answer(tokens, embedding, start_pos)
    short = str(embedding.dtype)[6:]
    where = f"tokens {tuple(tokens.shape)}, embedding {tuple(embedding.shape)} in {short}, start_pos {start_pos}"
    shape = (*tokens.shape, embedding.shape[1])
    expect_like(got, shape=shape, dtype=embedding.dtype, where=where)
    rows = exact_rows(torch.arange(start_pos, start_pos + tokens.shape[1]), embedding.shape[1])
    want = embedding.detach().double().cpu()[tokens.cpu()] * math.sqrt(embedding.shape[1]) + rows
    tolerance = ROUNDING[embedding.dtype]
    expect_close(got, want, where=where, rtol=tolerance / 2, atol=tolerance)


@embed_with_positions.property("shape (batch, seq_len, dim), dtype of the embedding")
def _(answer: Callable) -> None:
    for batch, seq_len, dim in ((1, 1, 2), (2, 5, 8), (3, 4, 6)):
        for dtype in ROUNDING:
            got = answer(_draw_ids(batch, seq_len, 10), draw(10, dim, dtype=dtype), 0)
            where = f"tokens {(batch, seq_len)}, embedding {(10, dim)} in {str(dtype)[6:]}"
            expect_like(got, shape=(batch, seq_len, dim), dtype=dtype, where=where)


@embed_with_positions.property("a token whose row is 0 is its position alone")
def _(answer: Callable) -> None:
    tokens, embedding = (
        torch.zeros(1, 4, dtype=torch.int64, device=choose_device()),
        torch.zeros(3, 16, device=choose_device()),
    )
    want = exact_rows(torch.arange(4), 16)[None]
    expect_close(answer(tokens, embedding, 0), want, where="an embedding of zeros, dim 16", atol=1e-6)


@embed_with_positions.property("embeddings times the root of dim, plus encodings")
def _(answer: Callable) -> None:
    for seed, (batch, seq_len, vocab_size, dim) in enumerate(((1, 3, 10, 4), (2, 7, 30, 64), (4, 4, 5, 16))):
        _expect(answer, _draw_ids(batch, seq_len, vocab_size, seed), draw(vocab_size, dim, seed=seed), 0)


@embed_with_positions.property("each row of the batch has the same positions")
def _(answer: Callable) -> None:
    tokens, embedding = _draw_ids(1, 6, 10).expand(3, 6), draw(10, 8)
    got = answer(tokens, embedding, 0)
    for row in (1, 2):
        expect_close(got[row], got[0], where=f"three equal rows of tokens, row {row} beside row 0")
    _expect(answer, tokens, embedding, 0)


@embed_with_positions.property("start_pos is the position of the first token, 0 where it is not given")
def _(answer: Callable) -> None:
    for start_pos in (1, 7, 100_000):
        _expect(answer, _draw_ids(2, 5, 10), draw(10, 8), start_pos)
    tokens, embedding = _draw_ids(2, 5, 10), draw(10, 8)
    _expect(lambda tokens, embedding, start_pos: answer(tokens, embedding), tokens, embedding, 0)


@embed_with_positions.property("in pieces or at once, the same comes out")
def _(answer: Callable) -> None:
    tokens, embedding = _draw_ids(2, 8, 10), draw(10, 8)
    pieces = [answer(tokens[:, :5], embedding, 0), answer(tokens[:, 5:], embedding, 5)]
    whole = answer(tokens, embedding, 0)
    expect_close(torch.cat(pieces, dim=1), whole, where="5 tokens, then 3, against 8 at once")


@embed_with_positions.property("half precision: only the result is rounded, not the angles")
def _(answer: Callable) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        for start_pos in (0, 257, 5_001):
            _expect(answer, _draw_ids(2, 4, 10), (0.1 * draw(10, 16)).to(dtype), start_pos)


@embed_with_positions.property("gradients reach the embedding, times the root of dim")
def _(answer: Callable) -> None:
    tokens = torch.tensor([[0, 2, 2]], device=choose_device())
    embedding = draw(4, 16).requires_grad_()
    got = answer(tokens, embedding, 0)
    gradient = torch.autograd.grad(got.sum(), embedding, allow_unused=True)[0] if got.requires_grad else None
    if gradient is None:
        raise Mismatch("the result is expected to carry gradients back to the embedding, but it is cut off")
    want = 4 * torch.tensor([1.0, 0.0, 2.0, 0.0])[:, None].expand(4, 16)
    expect_close(gradient, want, where="tokens 0, 2, 2, dim 16, gradient of the embedding's rows")


@embed_with_positions.misconception(
    "embeddings as they are",
    "You add the encodings to the embeddings as these are. Beside them an encoding is long, the root of dim / 2: "
    "multiply the embeddings by the root of dim first.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _sum(tokens, embedding, _rows(_positions(tokens, start_pos), embedding), 1)


@embed_with_positions.misconception(
    "divided by the root",
    "You divide the embeddings by the root of dim (as attention does with its scores). They are too small beside the "
    "encodings already: multiply.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _sum(tokens, embedding, _rows(_positions(tokens, start_pos), embedding), 1 / _root(embedding))


@embed_with_positions.misconception(
    "the whole sum scaled",
    "You multiply the encodings too: the sum as a whole. That leaves the balance between token and position as it was. "
    "Only the embeddings are multiplied.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    root = _root(embedding)
    return _sum(tokens, embedding, root * _rows(_positions(tokens, start_pos), embedding), root)


@embed_with_positions.misconception(
    "the encodings scaled",
    "You multiply the encodings by the root of dim instead of the embeddings. They are the louder of the two already.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _sum(tokens, embedding, _root(embedding) * _rows(_positions(tokens, start_pos), embedding), 1)


@embed_with_positions.misconception(
    "times dim",
    "You multiply by dim. It is the root of dim.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _sum(tokens, embedding, _rows(_positions(tokens, start_pos), embedding), embedding.shape[1])


@embed_with_positions.misconception(
    "root of half of dim",
    "You multiply by the root of dim / 2, which is the length of an encoding. It is the root of dim.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    rows = _rows(_positions(tokens, start_pos), embedding)
    return _sum(tokens, embedding, rows, math.sqrt(embedding.shape[1] / 2))


@embed_with_positions.misconception(
    "root of the vocabulary's size",
    "You take the root of embedding.shape[0], the size of the vocabulary. dim is the length of a row: shape[1].",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    rows = _rows(_positions(tokens, start_pos), embedding)
    return _sum(tokens, embedding, rows, math.sqrt(embedding.shape[0]))


@embed_with_positions.misconception(
    "root of the text's length",
    "You take the root of seq_len. dim is the length of an embedding's row: embedding.shape[1].",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _sum(tokens, embedding, _rows(_positions(tokens, start_pos), embedding), math.sqrt(tokens.shape[1]))


@embed_with_positions.misconception(
    "sequence first",
    "Positions run along axis 0, the batch: all tokens of a text get the same encoding, and each text another one. "
    "Tokens stand along axis 1.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    rows = _rows(torch.arange(start_pos, start_pos + tokens.shape[0]), embedding)[:, None]
    return _sum(tokens, embedding, rows, _root(embedding))


@embed_with_positions.misconception(
    "positions run on over the batch",
    "Positions run on from one row of the batch to the next. Each row is a text of its own: its first token stands at "
    "start_pos.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    running = torch.arange(start_pos, start_pos + tokens.numel())
    return _sum(tokens, embedding, _rows(running, embedding).unflatten(0, tokens.shape), _root(embedding))


@embed_with_positions.misconception(
    "the end of the range",
    "Your positions are arange(start_pos, seq_len). The second number is where the range ends, not how long it is: "
    "start_pos + seq_len.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _sum(tokens, embedding, _rows(torch.arange(start_pos, tokens.shape[1]), embedding), _root(embedding))


@embed_with_positions.misconception(
    "start_pos is not used",
    "Your first token stands at 0 whatever start_pos is.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _reference(tokens, embedding)


@embed_with_positions.misconception(
    "positions from 1",
    "Your first token stands one position too far. It stands at start_pos itself, and positions count from 0.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _reference(tokens, embedding, start_pos + 1)


@embed_with_positions.misconception(
    "all tokens at start_pos",
    "All tokens get the encoding of start_pos. The first stands there, the others follow it.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    rows = _rows(torch.full((tokens.shape[1],), start_pos), embedding)
    return _sum(tokens, embedding, rows, _root(embedding))


@embed_with_positions.misconception(
    "the token's id as its position",
    "You encode the id of each token. That is its number in the vocabulary; its position is where it stands in the "
    "text.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    rows = _rows(tokens.flatten() + start_pos, embedding).unflatten(0, tokens.shape)
    return _sum(tokens, embedding, rows, _root(embedding))


@embed_with_positions.misconception(
    "no positions",
    "Your embeddings are scaled, but nothing is added to them.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _sum(tokens, embedding, torch.zeros(1, device=embedding.device), _root(embedding))


@embed_with_positions.misconception(
    "no gradients",
    "The numbers are right, but no gradient reaches the embedding: .detach(), .data, torch.no_grad or a new "
    "torch.tensor cuts it off, and it could not be trained.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _reference(tokens, embedding.detach(), start_pos)


@embed_with_positions.misconception(
    "gradients of a copy",
    "The numbers are right, but their gradients reach a new parameter, not the embedding: nn.Parameter(embedding) cuts "
    "them off. Index the embedding itself.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return _reference(tokens, torch.nn.Parameter(embedding.detach()), start_pos)


@embed_with_positions.misconception(
    "the embedding itself multiplied",
    "You multiply the embedding itself, in place, and the next call would multiply it again. Multiply the rows that "
    "you took from it: embedding[tokens] * math.sqrt(dim).",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    embedding *= _root(embedding)
    return _sum(tokens, embedding, _rows(_positions(tokens, start_pos), embedding), 1)


@embed_with_positions.misconception(
    "half precision becomes float32",
    "An embedding in half precision gives a float32 sum, since the encodings are float32: go back to embedding.dtype "
    "at the end.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    return embedding[tokens] * _root(embedding) + _rows(_positions(tokens, start_pos), embedding)


@embed_with_positions.misconception(
    "another dtype",
    "The numbers are right, but not in the dtype of the embedding. Float32 encodings make a float32 sum: go back to "
    "embedding.dtype at the end.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    result = _reference(tokens, embedding, start_pos)
    return result.float()


@embed_with_positions.misconception(
    "angles in half precision",
    "Positions or frequencies are cast to the dtype of the embedding before the angle is taken. In bfloat16 position "
    "257 is 256, and the angles are off by radians. Take them in float64, and cast what goes out.",
)
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    dtype = embedding.dtype if embedding.dtype in (torch.bfloat16, torch.float16) else torch.float64
    return _reference_from(tokens, embedding, _positions(tokens, start_pos).to(dtype))


def _reference_from(tokens: Tensor, embedding: Tensor, positions: Tensor) -> Tensor:
    return _sum(tokens, embedding, _rows(positions, embedding), _root(embedding))


@embed_with_positions.alternative
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    from llama_lessons.positions import sinusoidal_encoding, sinusoidal_frequencies

    positions = torch.arange(start_pos, start_pos + tokens.shape[1], device=tokens.device)
    rows = sinusoidal_encoding(positions, sinusoidal_frequencies(embedding.shape[1]))
    return (embedding[tokens] * embedding.shape[1] ** 0.5 + rows).to(embedding.dtype)


@embed_with_positions.alternative
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    # Everything in the embedding's own dtype, but for the encodings before they are rounded
    from llama_lessons.positions import SinusoidalPositionalEncoding

    add = SinusoidalPositionalEncoding(embedding.shape[1])
    return add(torch.nn.functional.embedding(tokens, embedding) * math.sqrt(embedding.shape[1]), start_pos)


@embed_with_positions.alternative
def _(tokens: Tensor, embedding: Tensor, start_pos: int = 0) -> Tensor:
    from llama_lessons.positions import sinusoidal_positions

    table = sinusoidal_positions(start_pos + tokens.shape[1], embedding.shape[1])[start_pos:]
    one_hot = torch.nn.functional.one_hot(tokens, embedding.shape[0]).to(embedding.dtype)
    return one_hot @ embedding * math.sqrt(embedding.shape[1]) + table.to(embedding)
