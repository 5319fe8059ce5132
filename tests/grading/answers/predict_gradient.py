"""Other answers to predict_gradient."""

import numpy as np
import torch

from llama_lessons.positions import LearnedPositionalEmbedding
from tests.grading.answers import right, wrong


@right
def as_a_list():
    return [20, 29, 10, 4]


@right
def in_floats():
    return 20.0, 29.0, 10.0, 4.0


@right
def by_running_it():
    table = LearnedPositionalEmbedding(128, 16)
    table(torch.zeros(4, 10, 16), start_pos=20).sum().backward()
    rows = table.weight.grad.nonzero()[:, 0].unique().tolist()
    return min(rows), max(rows), len(rows), table.weight.grad[22].mean().item()


@wrong()
def three_numbers():
    return 20, 29, 10


@wrong()
def a_range():
    return range(20, 30), 4


@wrong()
def in_words():
    return "20", "29", "10", "4"


@wrong()
def true_for_one():
    return 20, 29, 10, True


@wrong()
def no_number():
    return 20, 29, 10, float("nan")


@right
def by_a_table_of_zeros():
    table = torch.zeros(128, 16, requires_grad=True)
    (torch.zeros(4, 10, 16) + table[20:30]).sum().backward()
    rows = (table.grad != 0).any(dim=1).nonzero().flatten().tolist()
    return rows[0], rows[-1], len(rows), table.grad[22, 0].item()


@right
def in_numpy_s_numbers():
    return np.int64(20), np.int64(29), np.int32(10), np.float32(4)


@wrong(called="one long text")
def as_one_text():
    return 20, 59, 40, 1


@wrong(called="the table along the batch")
def as_the_bug_does():
    return 20, 23, 4, 10


@wrong(called="a row for each token of the batch")
def forty_rows():
    return (20, 29, 40, 4)


@wrong()
def from_0_to_9():
    return 0, 9, 10, 4


@wrong()
def up_to_30():
    return 20, 30, 11, 4


@wrong()
def counted_once():
    return 20, 30, 10, 1


@wrong()
def an_array():
    return np.array([20, 29, 10, 4])


@right
def in_tensors():
    return np.int64(20), 29, torch.tensor(10), torch.tensor(4.0)


@wrong(called=None)
def a_row_of_the_gradient():
    return 20, 29, 10, torch.full((16,), 4.0)


@wrong(called="nothing from zeros")
def zeros_give_nothing():
    return 20, 29, 10, 0
