"""Lesson 01: right answers written in unusual ways pass, wrong ones that no catalogue lists do not."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from llama_lessons.lab.probes import mixes_batch_rows
from llama_lessons.positions import LearnedPositionalEmbedding as Ours
from tests.grading.answers import Answers, assert_fails, assert_passes

ANSWERS = Answers()
right, wrong = ANSWERS.right, ANSWERS.wrong


# ----------------------------------------------------------------------------- LearnedPositionalEmbedding

TABLE = "LearnedPositionalEmbedding"


def refuse(needed, there, start_pos):
    if start_pos < 0 or needed > there:
        raise ValueError(f"{needed} rows needed, {there} there")


@right(TABLE)
class AnEmbeddingByItself(nn.Embedding):
    def forward(self, x, start_pos=0):
        needed = start_pos + x.shape[1]
        refuse(needed, self.num_embeddings, start_pos)
        return x + super().forward(torch.arange(start_pos, needed, device=x.device))


@right(TABLE)
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


@right(TABLE)
class NarrowAndLoop(nn.Module):
    def __init__(self, n, d):
        super().__init__()
        self.rows = nn.Parameter(torch.empty(n, d).normal_())

    def forward(self, tokens, start_pos: int = 0):
        needed = start_pos + tokens.shape[1]
        refuse(needed, self.rows.shape[0], start_pos)
        rows = self.rows.narrow(0, start_pos, tokens.shape[1])
        return torch.stack([sequence + rows for sequence in tokens])


@right(TABLE)
class SequenceFirstInside(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_seq_len, dim))

    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], len(self.weight), start_pos)
        turned = x.transpose(0, 1)
        return (turned + self.weight[start_pos : start_pos + len(turned), None]).transpose(0, 1)


class RightOutside(Ours):
    """The library's, for wrong answers that change one thing."""

    def forward(self, x, start_pos=0):
        return super().forward(x, start_pos)


@wrong(TABLE)
class WithoutATable(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.weight = torch.randn(max_seq_len, dim)

    def forward(self, x, start_pos=0):
        return x + self.weight[start_pos : start_pos + x.shape[1]]


@wrong(TABLE)
class ABufferForATable(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.register_buffer("weight", torch.randn(max_seq_len, dim))

    def forward(self, x, start_pos=0):
        return x + self.weight[start_pos : start_pos + x.shape[1]]


@wrong(TABLE)
class RefusesTheLastRow(RightOutside):
    def forward(self, x, start_pos=0):
        if start_pos + x.shape[1] >= len(self.weight):
            raise ValueError(f"{start_pos + x.shape[1]} of {len(self.weight)}")
        return super().forward(x, start_pos)


@wrong(TABLE)
class LeavesTheEndToTheLookup(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.table = nn.Embedding(max_seq_len, dim)

    def forward(self, x, start_pos=0):
        return x + self.table(torch.arange(start_pos, start_pos + x.shape[1], device=x.device))


@wrong(TABLE)
class NamesNoNumbers(RightOutside):
    def forward(self, x, start_pos=0):
        try:
            return super().forward(x, start_pos)
        except ValueError:
            raise ValueError("the text is too long") from None


@wrong(TABLE)
class NamesThePositionOfTheLastToken(RightOutside):
    def forward(self, x, start_pos=0):
        if start_pos >= 0 and start_pos + x.shape[1] > len(self.weight):
            raise ValueError(f"position {start_pos + x.shape[1] - 1}, rows 0 to {len(self.weight) - 1}")
        return super().forward(x, start_pos)


@wrong(TABLE)
class AssertsInstead(RightOutside):
    def forward(self, x, start_pos=0):
        assert start_pos >= 0
        assert start_pos + x.shape[1] <= len(self.weight)
        return super().forward(x, start_pos)


@wrong(TABLE)
class OneNumberForAPosition(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_seq_len, 1))

    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], len(self.weight), start_pos)
        return x + self.weight[start_pos : start_pos + x.shape[1]]


@wrong(TABLE)
class ATableTurnedRound(nn.Module):
    def __init__(self, max_seq_len, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, max_seq_len))

    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], self.weight.shape[1], start_pos)
        return x + self.weight[:, start_pos : start_pos + x.shape[1]].T


@wrong(TABLE)
class AddsToTheFirstSequenceOnly(Ours):
    def forward(self, x, start_pos=0):
        return torch.cat((super().forward(x[:1], start_pos), x[1:]))


@wrong(TABLE)
class ForgetsTheConstructorOfItsParent(nn.Module):
    def __init__(self, max_seq_len, dim):
        self.weight = torch.randn(max_seq_len, dim)

    def forward(self, x, start_pos=0):
        return x + self.weight[start_pos : start_pos + x.shape[1]]


@wrong(TABLE)
class NoModule:
    def __init__(self, max_seq_len, dim):
        self.weight = nn.Parameter(torch.randn(max_seq_len, dim))

    def __call__(self, x, start_pos=0):
        return x + self.weight[start_pos : start_pos + x.shape[1]]


@wrong(TABLE)
class KeepsTheFirstRows(RightOutside):
    def forward(self, x, start_pos=0):
        refuse(start_pos + x.shape[1], len(self.weight), start_pos)
        if not hasattr(self, "rows") or len(self.rows) < start_pos + x.shape[1]:
            self.rows = self.weight
        return x + self.rows[start_pos : start_pos + x.shape[1]]


@wrong(TABLE)
class CountsItsCalls(RightOutside):
    seen = 0

    def forward(self, x, start_pos=0):
        result = super().forward(x, start_pos or min(self.seen, len(self.weight) - x.shape[1]))
        self.seen += x.shape[1]
        return result


@wrong(TABLE)
class ChecksTheNumberOfTexts(nn.Embedding):
    def forward(self, x, start_pos=0):
        refuse(start_pos + len(x), self.num_embeddings, start_pos)
        return x + super().forward(torch.arange(start_pos, start_pos + x.shape[1], device=x.device))


# --------------------------------------------------------------------------------------------- depends_on


@right("depends_on")
def by_pairs(add, x):
    added = (add(x) - x).tolist()
    places = itertools.product(range(x.shape[0]), itertools.combinations(range(x.shape[1]), 2))
    rows = itertools.product(itertools.combinations(range(x.shape[0]), 2), range(x.shape[1]))

    def far(a, b):
        return any(abs(p - q) > 5e-4 for p, q in zip(a, b, strict=True))

    by_position = any(far(added[b][i], added[b][j]) for b, (i, j) in places)
    by_row = any(far(added[b][i], added[c][i]) for (b, c), i in rows)
    return by_position, by_row


@right("depends_on")
def in_numpy(add, x):
    added = (add(x) - x).detach().cpu().numpy()
    return tuple(bool(np.ptp(added, axis=axis).max() > 5e-4) for axis in (1, 0))


@right("depends_on")
def as_a_list_against_the_mean(add, x):
    added = add(torch.ones_like(x)) - 1
    return [(added - added.mean(axis, keepdim=True)).abs().max().item() > 1e-4 for axis in (1, 0)]


@right("depends_on")
def by_rolling(add, x):
    added = add(x) - x
    return tuple(not torch.allclose(added, added.roll(1, axis), rtol=0, atol=3e-4) for axis in (1, 0))


@wrong("depends_on")
def one_tensor_with_both(add, x):
    added = add(x) - x
    return torch.stack([(added - added[:, :1]).abs().max(), (added - added[:1]).abs().max()]) > 1e-4


@wrong("depends_on")
def one_text_at_a_time(add, x):
    alone = torch.cat([add(x[i : i + 1]) - x[i : i + 1] for i in range(len(x))])
    return bool((alone - alone[:, :1]).abs().max() > 1e-4), bool((alone - alone[:1]).abs().max() > 1e-4)


@wrong("depends_on")
def by_shuffling_the_tokens(add, x):
    order = torch.arange(x.shape[1] - 1, -1, -1)
    position = not torch.allclose(add(x[:, order]), add(x)[:, order], atol=1e-4)
    return position, not torch.allclose(add(x.flip(0)), add(x).flip(0), atol=1e-4)


@wrong("depends_on")
def neighbours_of_the_first_text(add, x):
    added = add(x) - x
    return bool(added[0].diff(dim=0).abs().max() > 1e-4), bool(added.diff(dim=0).abs().max() > 1e-4)


@wrong("depends_on")
def changes_the_tokens(add, x):
    before = x.clone()
    x.copy_(add(x) - x)
    return in_numpy(lambda y: y + x, before)


@wrong("depends_on")
def by_the_name(add, x):
    return "position" in add.__name__, "batch" in add.__name__


@wrong("depends_on")
def positions_by_the_reverse(add, x):
    added = add(x) - x
    return (added - added.flip(1)).abs().max().item() > 1e-4, (added - added[:1]).abs().max().item() > 1e-4


@wrong("depends_on")
def by_the_lengths(add, x):
    lengths = (add(x) - x).norm(dim=-1)
    return tuple((lengths.amax(axis) - lengths.amin(axis)).max().item() > 1e-4 for axis in (1, 0))


@wrong("depends_on")
def by_the_mean_difference(add, x):
    added = add(x) - x
    return tuple(added.diff(dim=axis).abs().mean().item() > 1e-5 for axis in (1, 0))


@wrong("depends_on")
def with_the_probe_of_the_lesson(add, x):
    added = add(x) - x
    return bool((added - added[:, :1]).abs().max() > 1e-4), mixes_batch_rows(add, x)


# ------------------------------------------------------------------------------------- rows_with_gradient


@right("rows_with_gradient")
def in_numpy_with_where(grad):
    if grad is None:
        return []
    return np.where((grad.double().cpu().numpy() != 0).any(axis=1))[0].tolist()


@right("rows_with_gradient")
def unique_rows_of_nonzero(grad):
    return [] if grad is None else grad.nonzero()[:, 0].unique().tolist()


@right("rows_with_gradient")
def number_by_number(grad):
    found = []
    for i in range(0 if grad is None else grad.shape[0]):
        for j in range(grad.shape[1]):
            if grad[i, j].item() != 0.0:
                found.append(i)
                break
    return found


@right("rows_with_gradient")
def rows_that_differ_from_zeros(grad):
    if grad is None:
        return []
    return [i for i in range(len(grad)) if not torch.equal(grad[i], torch.zeros_like(grad[i]))]


@wrong("rows_with_gradient")
def a_tensor_of_rows(grad):
    return torch.tensor([]) if grad is None else (grad != 0).any(1).nonzero().flatten()


@wrong("rows_with_gradient")
def a_list_of_tensors(grad):
    return [] if grad is None else list((grad != 0).any(1).nonzero().flatten())


@wrong("rows_with_gradient")
def a_list_of_lists(grad):
    return [] if grad is None else (grad != 0).any(1).nonzero().tolist()


@wrong("rows_with_gradient")
def stops_for_none(grad):
    return (grad != 0).any(1).nonzero().flatten().tolist()


@wrong("rows_with_gradient")
def none_for_none(grad):
    return None if grad is None else unique_rows_of_nonzero(grad)


@wrong("rows_with_gradient")
def in_no_order(grad):
    return unique_rows_of_nonzero(grad)[::-1]


@wrong("rows_with_gradient")
def floats(grad):
    return [float(row) for row in unique_rows_of_nonzero(grad)]


@wrong("rows_with_gradient")
def by_the_norm(grad):
    return [] if grad is None else [i for i, row in enumerate(grad) if row.norm() > 1e-6]


@wrong("rows_with_gradient")
def in_the_last_channel(grad):
    return [] if grad is None else (grad[:, -1] != 0).nonzero().flatten().tolist()


@wrong("rows_with_gradient")
def by_a_tiny_tolerance(grad):
    return [] if grad is None else [i for i, row in enumerate(grad) if row.abs().max() > 1e-12]


# --------------------------------------------------------------------------------------- predict_gradient


@right("predict_gradient")
def as_a_list():
    return [20, 29, 10, 4]


@right("predict_gradient")
def in_floats():
    return 20.0, 29.0, 10.0, 4.0


@right("predict_gradient")
def by_running_it():
    table = Ours(128, 16)
    table(torch.zeros(4, 10, 16), start_pos=20).sum().backward()
    rows = unique_rows_of_nonzero(table.weight.grad)
    return min(rows), max(rows), len(rows), table.weight.grad[22].mean().item()


@wrong("predict_gradient")
def three_numbers():
    return 20, 29, 10


@wrong("predict_gradient")
def a_range():
    return range(20, 30), 4


@wrong("predict_gradient")
def in_words():
    return "20", "29", "10", "4"


@wrong("predict_gradient")
def true_for_one():
    return 20, 29, 10, True


@wrong("predict_gradient")
def no_number():
    return 20, 29, 10, float("nan")


# --------------------------------------------------------------------------------------------- read_batch


def attend(x):
    return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)


@right("read_batch")
def text_by_text(x, table, start_pos=0):
    rows = table[start_pos : start_pos + x.shape[1]]
    return torch.cat([attend(text[None] + rows) for text in x])


@right("read_batch")
def with_embedding_and_expand(x, table, start_pos=0):
    positions = torch.arange(start_pos, start_pos + x.size(1), device=x.device).expand(x.size(0), -1)
    return attend(x + nn.functional.embedding(positions, table))


@right("read_batch")
def with_a_mask_of_its_own(x, table, start_pos=0):
    x = x + table.narrow(0, start_pos, x.shape[1]).unsqueeze(0)
    scores = torch.einsum("bid,bjd->bij", x, x) / x.shape[-1] ** 0.5
    weights = (scores + torch.full(scores.shape[1:], -torch.inf, device=x.device).triu(1)).softmax(-1)
    return torch.einsum("bij,bjd->bid", weights, x)


@right("read_batch")
def sequence_first_and_back(x, table, start_pos=0):
    turned = x.permute(1, 0, 2)
    turned = turned + table[start_pos : start_pos + turned.size(0)].unsqueeze(1)
    return attend(turned.permute(1, 0, 2).contiguous())


@wrong("read_batch")
def only_for_one_text(x, table, start_pos=0):
    positions = torch.arange(start_pos, start_pos + len(x), device=x.device)
    if len(x) == 1:
        return text_by_text(x, table, start_pos)
    return attend(x + table[positions].unsqueeze(1))


@wrong("read_batch")
def every_text_as_the_first(x, table, start_pos=0):
    return text_by_text(x[:1], table, start_pos).expand_as(x)


@wrong("read_batch")
def not_causal_any_more(x, table, start_pos=0):
    x = x + table[start_pos : start_pos + x.shape[1]]
    return nn.functional.scaled_dot_product_attention(x, x, x)


@wrong("read_batch")
def along_the_channels(x, table, start_pos=0):
    positions = torch.arange(start_pos, start_pos + x.shape[-1], device=x.device)
    return attend(x + table[positions][: x.shape[1]])


@wrong("read_batch")
def added_twice(x, table, start_pos=0):
    rows = table[start_pos : start_pos + x.shape[1]]
    return attend(x + rows + rows)


@wrong("read_batch")
def adds_in_place(x, table, start_pos=0):
    with torch.no_grad():
        x += table[start_pos : start_pos + x.shape[1]]
    return attend(x)


@wrong("read_batch")
def x_gets_no_gradient(x, table, start_pos=0):
    return text_by_text(x.detach(), table, start_pos)


# ---------------------------------------------------------------------------------------------- questions


@wrong("who_has_a_table")
@wrong("rows_that_stay")
@wrong("only_eight_rows")
def no_letter():
    return "the last one"


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.right_ones)
def test_an_unusual_right_answer_passes(exercise, answer):
    assert_passes(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.wrong_ones)
def test_an_unlisted_wrong_answer_fails(exercise, answer):
    assert_fails(exercise, answer)


@pytest.mark.parametrize(
    ("exercise", "answer", "name"),
    [
        ("rows_with_gradient", in_the_last_channel, None),  # it drops no gradient for its size
        ("rows_with_gradient", by_a_tiny_tolerance, "small ones left out"),  # it squares nothing
        ("depends_on", by_the_lengths, "lengths compared"),
    ],
)
def test_a_diagnosis_is_true(exercise, answer, name):
    misconception = grade(REGISTRY[exercise], answer).misconception
    assert (misconception and misconception.name) == name


def test_refusing_the_last_row_is_told_so():
    failed = [result.message for result in grade(REGISTRY[TABLE], RefusesTheLastRow).results if not result.passed]
    assert "start_pos + seq_len is *greater*" in failed[0]
