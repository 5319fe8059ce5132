"""Exercise 1: what goes wrong in a table of positions."""

import torch
from torch import Tensor, nn

from .embedding import embedding

__all__: list[str] = []


class Table(nn.Module):
    """Right in all that the wrong answers below do not get wrong."""

    def __init__(self, max_seq_len: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(max_seq_len, dim))

    def forward(self, x: Tensor, start_pos: int = 0) -> Tensor:
        self.refuse(x.shape[1], start_pos)
        return self.add(x, self.rows(x, start_pos))

    def refuse(self, seq_len: int, start_pos: int) -> None:
        if start_pos < 0 or start_pos + seq_len > len(self.weight):
            raise ValueError(f"{start_pos + seq_len} rows needed, {len(self.weight)} there")

    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[self.positions(x, start_pos)]

    def positions(self, x: Tensor, start_pos: int) -> Tensor:
        return torch.arange(start_pos, start_pos + x.shape[1], device=x.device)

    def add(self, x: Tensor, rows: Tensor) -> Tensor:
        return x + rows


@embedding.misconception(
    "the table lies along the batch",
    "You take one row of the table for each sequence of the batch, and add it to all of its tokens: so the number of "
    "the sequence is encoded, and the position is not. In x, (batch, seq_len, dim), positions run along axis 1.",
)
class _(Table):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[torch.arange(len(x), device=x.device) + start_pos][:, None]


@embedding.misconception(
    "start_pos ignored",
    "You begin at row 0 whatever start_pos is, so each new piece of a text believes that it is the beginning.",
)
class _(Table):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[: x.shape[1]]


@embedding.misconception(
    "positions counted from 1",
    "Your first token gets row 1. Positions count from 0, so row 0 is never used, and the last token of a full table "
    "finds no row.",
)
class _(Table):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[start_pos + 1 : start_pos + 1 + x.shape[1]]


@embedding.misconception(
    "start_pos for every token",
    "All tokens of a sequence get row start_pos. With one token at a time nobody notices; with several, token i "
    "belongs to row start_pos + i.",
)
class _(Table):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[start_pos]


@embedding.misconception(
    "start_pos taken for the end",
    "You slice [start_pos:seq_len], whose end does not move with start_pos. A slice has a begin and an end: begin at "
    "start_pos, and end seq_len rows later.",
)
class _(Table):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[start_pos : x.shape[1]]


class Unguarded(Table):
    """Refuses a negative start_pos alone, and reads by a slice."""

    def refuse(self, seq_len: int, start_pos: int) -> None:
        if start_pos < 0:
            raise ValueError("negative")

    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[start_pos : start_pos + x.shape[1]]


@embedding.misconception(
    "wrapped round",
    "Past the end you begin again at row 0 (a remainder, %). Then two tokens with the same position stand far apart in "
    "the text, and nobody is told. Raise a ValueError instead.",
)
class _(Unguarded):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[self.positions(x, start_pos) % len(self.weight)]


@embedding.misconception(
    "the last row again and again",
    "Past the end, all tokens get the last row (clamp). To attention they then stand in one place, and nobody is told. "
    "Raise a ValueError instead.",
)
class _(Unguarded):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return self.weight[self.positions(x, start_pos).clamp(max=len(self.weight) - 1)]


@embedding.misconception(
    "nothing added past the end",
    "Tokens past the end get no position at all, and nobody is told. Raise a ValueError instead.",
)
class _(Unguarded):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        missing = torch.zeros(start_pos + x.shape[1], x.shape[2], dtype=x.dtype, device=x.device)
        return torch.cat((self.weight, missing))[start_pos : start_pos + x.shape[1]]


@embedding.misconception(
    "the end is left to the slice",
    "You do not look whether the rows exist, and a slice hands out as many as there are. Mostly the sum then crashes, "
    "but where just one row is left, it is added to all tokens in silence. Compare start_pos + seq_len with "
    "max_seq_len before you read, and raise a ValueError.",
)
class _(Unguarded):
    """Without the guard, and nothing else."""


@embedding.misconception(
    "start_pos forgotten in the check",
    "You compare seq_len alone with max_seq_len. The last token stands at start_pos + seq_len - 1: with start_pos 10, "
    "five tokens need 15 rows.",
)
class _(Unguarded):
    def refuse(self, seq_len: int, start_pos: int) -> None:
        if start_pos < 0 or seq_len > len(self.weight):
            raise ValueError("too long")


@embedding.misconception(
    "texts counted in the check",
    "Before you read, you compare start_pos plus the number of *texts*, len(x), with max_seq_len. Rows are needed for "
    "the tokens of one text: x.shape[1].",
)
class _(Unguarded):
    def forward(self, x: Tensor, start_pos: int = 0) -> Tensor:
        Table.refuse(self, len(x), start_pos)
        return self.add(x, self.rows(x, start_pos))


@embedding.misconception(
    "channels counted in the check",
    "Before you read, you compare start_pos plus the number of *channels*, the last axis of x, with max_seq_len. Rows "
    "are needed for the tokens of one text: x.shape[1].",
)
class _(Unguarded):
    def forward(self, x: Tensor, start_pos: int = 0) -> Tensor:
        Table.refuse(self, x.shape[2], start_pos)
        return self.add(x, self.rows(x, start_pos))


@embedding.misconception(
    "one token too many",
    "You let one token too many through: start_pos + seq_len may equal max_seq_len, and not exceed it. With 12 rows, "
    "the last position is 11.",
)
class _(Unguarded):
    def refuse(self, seq_len: int, start_pos: int) -> None:
        if start_pos < 0 or start_pos + seq_len > len(self.weight) + 1:
            raise ValueError("too long")


@embedding.misconception(
    "negative positions read from the end",
    "A negative start_pos is not refused, and Python reads row -1 as the last row: the token before the text gets the "
    "position of its far end.",
)
class _(Table):
    def refuse(self, seq_len: int, start_pos: int) -> None:
        if start_pos + seq_len > len(self.weight):
            raise ValueError("too long")


@embedding.misconception(
    "rows in place of tokens",
    "You return the rows alone. They are added to the tokens: x + rows.",
)
class _(Table):
    def add(self, x: Tensor, rows: Tensor) -> Tensor:
        return rows.expand_as(x).clone()


@embedding.misconception(
    "joined, not added",
    "You put the rows beside the tokens (torch.cat), which makes vectors of twice the length. They are added.",
)
class _(Table):
    def add(self, x: Tensor, rows: Tensor) -> Tensor:
        return torch.cat((x, rows.expand_as(x)), dim=-1)


@embedding.misconception("multiplied, not added", "You multiply the tokens by their rows. They are added.")
class _(Table):
    def add(self, x: Tensor, rows: Tensor) -> Tensor:
        return x * rows


@embedding.misconception(
    "tokens scaled first",
    "You multiply the tokens by the root of dim before the sum, as the original Transformer does with its own "
    "embeddings. Here x comes as it should be: only add.",
)
class _(Table):
    def add(self, x: Tensor, rows: Tensor) -> Tensor:
        return x * x.shape[-1] ** 0.5 + rows


@embedding.misconception(
    "the table gets no gradient",
    "The sums are right, but the table is cut off from the gradient: .data, .detach(), torch.no_grad or a new "
    "torch.tensor does that. The rows would stay as they were drawn for ever.",
)
class _(Table):
    def rows(self, x: Tensor, start_pos: int) -> Tensor:
        return super().rows(x, start_pos).detach()


@embedding.misconception(
    "tokens changed in place",
    "The sums are right, but x += rows changes the tokens of whoever passed them in. x + rows makes a new tensor.",
)
class _(Table):
    def add(self, x: Tensor, rows: Tensor) -> Tensor:
        x += rows
        return x


@embedding.misconception(
    "always float32",
    "The sums are right, but come out in float32 whatever was given. With tokens and table of one dtype, x + rows has "
    "that dtype by itself.",
)
class _(Table):
    def add(self, x: Tensor, rows: Tensor) -> Tensor:
        return (x + rows).float()
