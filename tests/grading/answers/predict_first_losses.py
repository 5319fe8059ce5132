"""Other answers to predict_first_losses."""

import math

import numpy as np
import torch

from llama_lessons import initialization
from tests.grading.answers import right, wrong


@right
def with_two_digits():
    return 4.4, 10.8, 576, 0


@right
def as_a_list():
    return [math.log(84), -math.log(1 / 49_152), 560.0, 1e-6]


@right
def numpy_s_numbers():
    return np.log(84), np.float32(10.8), np.int64(576), np.int32(0)


@right
def with_ln_v_on_top():
    return math.log(84), math.log(49_152), 576 + math.log(49_152), 0.005


@right
def rounded():
    return 4.43, 10.8, 576, 0


@right
def with_what_the_logits_cost():
    return (
        initialization.expected_first_loss(84, 0.02 * math.sqrt(128)),
        initialization.expected_first_loss(49_152, 0.02 * math.sqrt(576)),
        576.0,
        0.0,
    )


@right
def by_numpy_logarithms():
    return tuple(np.array([np.log(84), np.log(49_152), 24.0**2, 1e-9]))


@wrong()
def three_numbers():
    return math.log(84), math.log(49_152), 576.0


@wrong()
def all_of_them_dim():
    return 576.0, 576.0, 576.0, 576.0


@wrong()
def the_wrong_order():
    return math.log(49_152), math.log(84), 576.0, 0.0


@wrong()
def words():
    return "4.4 10.8 576 0"


@wrong()
def not_numbers():
    return math.nan, math.nan, math.nan, math.nan


@wrong(called="the two vocabularies exchanged")
def vocabularies_exchanged():
    return math.log(49_152), math.log(84), 576, 0


@wrong(called="dim where the same token comes")
def another_and_the_same_confused():
    return math.log(84), math.log(49_152), math.log(49_152) + 3, 576


@wrong(called="in bits")
def rounded_bits():
    return 6.4, 15.6, 576, 0


@wrong(called="ln V with tied embeddings too")
def nothing_known_anywhere():
    return 4.43, 10.8, 10.8, 10.8


@wrong(called="ln V where the same token comes")
def sure_and_wrong_alone():
    return 4.43, 10.8, 576, 10.8


@wrong(called="independent logits")
def from_the_library():
    loss = initialization.expected_first_loss
    return loss(84), loss(49_152), loss(49_152, 24.0), 0.0


@wrong(called="the perplexity")
def perplexities():
    return 84, 49_152, 576, 0


@wrong(called=None)
def a_vector():
    return torch.tensor([4.43, 10.8, 576.0, 0.0])


@wrong(called=None)
def text():
    return "4.43", "10.8", "576", "0"


@wrong(called=None)
def truths():
    return 4.43, 10.8, 576.0, False


@wrong(called="the probability where the same token comes")
def one_for_the_same():
    return 4.43, 10.8, 576.0, 1


@wrong()
def twice_dim():
    return 4.43, 10.8, 1152.0, 0.0


@wrong(called="the table drawn with 0.02")
def small_logits():
    return 4.43, 10.8, 0.02 * 576, 0.0
