"""Other answers to LearnedPositionalEmbedding."""

import torch
from torch import nn

from llama_lessons.positions import LearnedPositionalEmbedding as Ours
from tests.grading.answers import right, wrong

right(Ours)


def refuse(needed, there, start_pos):
    if start_pos < 0 or needed > there:
        raise ValueError(f"{needed} rows needed, {there} there")


@right
class AnEmbeddingByItself(nn.Embedding):
    def forward(self, x, start_pos=0):
        needed = start_pos + x.shape[1]
        refuse(needed, self.num_embeddings, start_pos)
        return x + super().forward(torch.arange(start_pos, needed, device=x.device))


@right
class OneHotTimesTable(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.table = nn.Linear(max_seq_len, dim, bias=False)
        self.table.weight = nn.Parameter(torch.randn(max_seq_len, dim))
        self.register_buffer("one_hot", torch.eye(max_seq_len), persistent=False)

    def forward(self, x, start_pos=0):
        needed = start_pos + x.size(1)
        refuse(needed, len(self.one_hot), start_pos)
        return x + self.one_hot[start_pos:needed].to(x) @ self.table.weight


@right
class NarrowAndLoop(nn.Module):
    def __init__(self, n, d):
        super().__init__()
        self.rows = nn.Parameter(torch.empty(n, d).normal_())

    def forward(self, tokens, start_pos: int = 0):
        needed = start_pos + tokens.shape[1]
        refuse(needed, self.rows.shape[0], start_pos)
        rows = self.rows.narrow(0, start_pos, tokens.shape[1])
        return torch.stack([sequence + rows for sequence in tokens])


@right
class SequenceFirstInside(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_seq_len, dim))

    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], len(self.weight), start_pos)
        turned = x.transpose(0, 1)
        return (turned + self.weight[start_pos : start_pos + len(turned), None]).transpose(0, 1)


def naive(self, x, start_pos=0):
    return x + self.weight[start_pos : start_pos + x.shape[1]]


@wrong(called=None)
class WithoutATable(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.weight = torch.randn(max_seq_len, dim)

    forward = naive


@wrong(called=None)
class ABufferForATable(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.register_buffer("weight", torch.randn(max_seq_len, dim))

    forward = naive


@wrong(called="the last row refused")
class RefusesTheLastRow(Ours):
    def forward(self, x, start_pos=0):
        if start_pos + x.shape[1] >= len(self.weight):
            raise ValueError(f"{start_pos + x.shape[1]} of {len(self.weight)}")
        return super().forward(x, start_pos)


@wrong(called="an IndexError")
class LeavesTheEndToTheLookup(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.table = nn.Embedding(max_seq_len, dim)

    def forward(self, x, start_pos=0):
        return x + self.table(torch.arange(start_pos, start_pos + x.shape[1], device=x.device))


@wrong(called=None)
class NamesNoNumbers(Ours):
    def forward(self, x, start_pos=0):
        try:
            return super().forward(x, start_pos)
        except ValueError:
            raise ValueError("the text is too long") from None


@wrong(called=None)
class NamesThePositionOfTheLastToken(Ours):
    def forward(self, x, start_pos=0):
        if start_pos >= 0 and start_pos + x.shape[1] > len(self.weight):
            raise ValueError(f"position {start_pos + x.shape[1] - 1}, rows 0 to {len(self.weight) - 1}")
        return super().forward(x, start_pos)


@wrong(called="an AssertionError")
class AssertsInstead(Ours):
    def forward(self, x, start_pos=0):
        assert start_pos >= 0
        assert start_pos + x.shape[1] <= len(self.weight)
        return super().forward(x, start_pos)


@wrong(called=None)
class OneNumberForAPosition(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_seq_len, 1))

    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], len(self.weight), start_pos)
        return x + self.weight[start_pos : start_pos + x.shape[1]]


@wrong()
class ATableTurnedRound(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, max_seq_len))

    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], self.weight.shape[1], start_pos)
        return x + self.weight[:, start_pos : start_pos + x.shape[1]].T


@wrong(called="only the first text")
class AddsToTheFirstSequenceOnly(Ours):
    def forward(self, x, start_pos=0):
        return torch.cat((super().forward(x[:1], start_pos), x[1:]))


@wrong()
class ForgetsTheConstructorOfItsParent(nn.Module):
    def __init__(self, max_seq_len, dim):
        self.weight = torch.randn(max_seq_len, dim)

    forward = naive


@wrong()
class NoModule:
    def __init__(self, max_seq_len, dim):
        self.weight = nn.Parameter(torch.randn(max_seq_len, dim))

    __call__ = naive


@wrong()
class KeepsTheFirstRows(Ours):
    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], len(self.weight), start_pos)
        if not hasattr(self, "rows") or len(self.rows) < start_pos + x.shape[1]:
            self.rows = self.weight
        return x + self.rows[start_pos : start_pos + x.shape[1]]


@wrong()
class CountsItsCalls(Ours):
    seen = 0

    def forward(self, x, start_pos=0):
        result = super().forward(x, start_pos or min(self.seen, len(self.weight) - x.shape[1]))
        self.seen += x.shape[1]
        return result


@wrong()
class ChecksTheNumberOfTexts(nn.Embedding):
    def forward(self, x, start_pos=0):
        refuse(start_pos + len(x), self.num_embeddings, start_pos)
        return x + super().forward(torch.arange(start_pos, start_pos + x.shape[1], device=x.device))


@right
class ByStacking(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.max_seq_len, self.pos = max_seq_len, nn.Parameter(torch.zeros(max_seq_len, dim))

    def forward(self, x, start_pos=0):
        batch, seq_len, _ = x.shape
        if not 0 <= start_pos <= self.max_seq_len - seq_len:
            raise ValueError(f"{start_pos} + {seq_len} = {start_pos + seq_len}, max_seq_len = {self.max_seq_len}")
        chosen = torch.stack([self.pos[start_pos + i] for i in range(seq_len)])
        return x + chosen.unsqueeze(0).repeat(batch, 1, 1)


@right
class WithPositionsInABuffer(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.wpe = nn.Embedding(max_seq_len, dim)
        nn.init.normal_(self.wpe.weight, std=0.02)
        self.register_buffer("positions", torch.arange(max_seq_len)[None], persistent=False)

    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], self.positions.shape[1], start_pos)
        return x + self.wpe(self.positions[:, start_pos : start_pos + x.shape[1]])


def by_lookup(**options):
    """A module around nn.Embedding with these options."""

    class ByLookup(nn.Module):
        def __init__(self, max_seq_len, dim):
            super().__init__()
            self.table = nn.Embedding(max_seq_len, dim, **options)

        def forward(self, x, start_pos=0):
            refuse(start_pos + x.shape[1], self.table.num_embeddings, start_pos)
            positions = torch.arange(start_pos, start_pos + x.shape[1], device=x.device)
            return x + self.table(positions.expand(len(x), -1))

    ByLookup.__name__ += "With" + "_".join(options)
    return ByLookup


right(by_lookup())
right(by_lookup(sparse=True))
wrong(called="row 0 does not learn")(by_lookup(padding_idx=0))
wrong(called=None)(by_lookup(padding_idx=-1))
wrong(called=None)(by_lookup(max_norm=10.0))
wrong(called=None)(by_lookup(scale_grad_by_freq=True))


@wrong(called=None)
class WithAFrozenTable(by_lookup()):
    def __init__(self, max_seq_len, dim):
        super().__init__(max_seq_len, dim)
        self.table = nn.Embedding.from_pretrained(torch.randn(max_seq_len, dim))


def module(forward):
    """The library's module with another forward."""
    return type(forward.__name__, (Ours,), {"forward": forward})


def rows(self, x, start_pos):
    return self.weight[start_pos : start_pos + x.shape[1]]


@wrong(called="positions kept")
@module
def keeps_its_positions(self, x, start_pos=0):
    refuse(start_pos + x.shape[1], len(self.weight), start_pos)
    if not hasattr(self, "positions"):
        self.positions = torch.arange(start_pos, start_pos + x.shape[1])
    return x + self.weight[self.positions]


@wrong(called=None)
@module
def keeps_its_positions_by_length(self, x, start_pos=0):
    refuse(start_pos + x.shape[1], len(self.weight), start_pos)
    if not hasattr(self, "positions") or len(self.positions) != x.shape[1]:
        self.positions = torch.arange(start_pos, start_pos + x.shape[1])
    return x + self.weight[self.positions]


@wrong(called=None)
@module
def keeps_rows_by_position(self, x, start_pos=0):
    refuse(start_pos + x.shape[1], len(self.weight), start_pos)
    return x + vars(self).setdefault("kept", {}).setdefault((start_pos, x.shape[1]), rows(self, x, start_pos))


@wrong(never=("always float32",))
@module
def casts_x_to_the_first_dtype(self, x, start_pos=0):
    return Ours.forward(self, x.to(vars(self).setdefault("dtype", x.dtype)), start_pos)


@wrong()
@module
def makes_its_table_float32(self, x, start_pos=0):
    self.weight.data = self.weight.data.float()
    return Ours.forward(self, x.float(), start_pos).to(x.dtype)


@wrong(called="texts counted in the check")
@module
def refuses_by_the_number_of_texts(self, x, start_pos=0):
    if start_pos < 0 or start_pos + x.shape[0] > len(self.weight):
        raise ValueError(f"{start_pos + x.shape[1]} {len(self.weight)}")
    return x + rows(self, x, start_pos)


def unguarded(called, read):
    """A wrong answer that adds read(weight, start_pos, seq_len) and refuses nothing, unless read does."""

    def forward(self, x, start_pos=0):
        return x + read(self.weight, start_pos, x.shape[1])

    forward.__name__ = "unguarded_" + called.replace(" ", "_")
    wrong(called=called)(module(forward))


def lookup(weight, positions):
    return nn.functional.embedding(positions, weight)


unguarded("both ends are left to the slice", lambda w, start, n: w[None, start : start + n])
unguarded("both ends are left to the lookup", lambda w, start, n: w[torch.arange(n) + start])
unguarded("start_pos ignored", lambda w, start, n: lookup(w, torch.arange(n)))
unguarded("wrapped round", lambda w, start, n: (refuse(0, 1, start), w[(torch.arange(n) + start) % len(w)])[1])
unguarded(
    "the last row again and again",
    lambda w, start, n: (refuse(0, 1, start), w[(torch.arange(n) + start).clamp(max=len(w) - 1)])[1],
)


def reading(called, result):
    """A wrong answer that refuses what it should, and returns result(x, rows)."""

    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], len(self.weight), start_pos)
        return result(x, rows(self, x, start_pos))

    forward.__name__ = "reading_" + called.replace(" ", "_")
    wrong(called=called)(module(forward))


reading("always float32", lambda x, rows: x.float() + rows.float())
reading("x overwritten", lambda x, rows: x.add_(rows))
reading("no gradient to the table", lambda x, rows: x + rows.data)
reading("no gradient at all", lambda x, rows: x.detach() + rows.detach())
reading("only for a contiguous x", lambda x, rows: (x.view(-1, x.shape[-1]) + rows.repeat(len(x), 1)).view(x.shape))


reading("float64 through float32", lambda x, rows: (x.float() + rows.float()).to(x.dtype))
reading("dropout", lambda x, rows: nn.functional.dropout(x + rows, 0.1))


@wrong(called=None)
@module
def learns_only_beside_an_x_that_does(self, x, start_pos=0):
    return Ours.forward(self, x, start_pos) if x.requires_grad else Ours.forward(self, x, start_pos).detach()


@wrong(called=None)
@module
def adds_nothing_in_evaluation(self, x, start_pos=0):
    added = Ours.forward(self, x, start_pos)
    return added if self.training else x


@wrong(called=None)
@module
def writes_into_one_buffer_without_gradients(self, x, start_pos=0):
    added = Ours.forward(self, x, start_pos)
    if torch.is_grad_enabled():
        return added
    return vars(self).setdefault("kept", {}).setdefault(x.shape, torch.empty_like(x)).copy_(added)


@wrong(called=None)
@module
def wraps_round_after_512_rows(self, x, start_pos=0):
    refuse(start_pos + x.shape[1], len(self.weight), start_pos)
    return x + self.weight[torch.arange(start_pos, start_pos + x.shape[1]) % 512]


@wrong(called="an IndexError")
@module
def looks_first_and_raises_an_index_error(self, x, start_pos=0):
    if start_pos < 0 or start_pos + x.shape[1] > len(self.weight):
        raise IndexError("it does not fit")
    return x + rows(self, x, start_pos)


TABLES = {}


@wrong(called=None)
class SharesItsTableWithOthers(Ours):
    def __init__(self, max_seq_len, dim):
        super().__init__(max_seq_len, dim)
        self.weight = TABLES.setdefault((max_seq_len, dim), self.weight)


@wrong()
@module
def no_gradient_in_evaluation(self, x, start_pos=0):
    read = rows(self, x, start_pos)
    return x + (read if self.training else read.detach())


@wrong()
@module
def rows_of_evaluation_kept(self, x, start_pos=0):
    kept, read = self.__dict__.setdefault("kept", {}), rows(self, x, start_pos)
    return x + (read if self.training else kept.setdefault((start_pos, x.shape[1]), read.clone()))
