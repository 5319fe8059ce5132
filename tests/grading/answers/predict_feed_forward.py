"""Other answers to predict_feed_forward."""

import torch
import torch.nn.functional as F

from tests.grading.answers import right, wrong


def layer(x, activation=F.silu):
    return activation(100 * x) * (2 * x)


@right
def by_running_it():
    both = layer(torch.tensor([1.0, 3.0]))
    one = torch.tensor(1.0)
    results = layer(one), layer(3 * one), layer(-one), layer(-one, lambda gate: gate), both[0]
    return tuple(result.item() for result in results)


@right
def as_a_list_of_whole_numbers():
    return [200, 1800, 0, 200, 200]


@wrong()
def all_the_same():
    return 200.0, 200.0, 200.0, 200.0, 200.0


@wrong()
def one_too_few():
    return 200.0, 1800.0, 0.0, 200.0


@wrong()
def far_off():
    return 1.0, 2.0, 3.0, 4.0, 5.0
