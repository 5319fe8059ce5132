"""Other answers to predict_dot_products."""

import math

import numpy as np
import torch

from llama_lessons import positions
from tests.grading.answers import right, wrong


@right
def whole_numbers():
    return 64, 64, 46.8, 46.8


@right
def tensors_and_more_digits():
    return [torch.tensor(64.0), 64.0, 46.84, 46.76]


@right
def a_list():
    return [64, 64, 46.8, 46.8]


@right
def more_digits():
    return 64.0, 64.0, 46.8218, 46.8218


@right
def numbers_of_numpy():
    return np.int64(64), np.float32(64), np.float64(46.8), np.float16(46.8)


@right
def found_by_running_it():
    table = positions.sinusoidal_positions(1018, 128)
    far = positions.sinusoidal_encoding(torch.tensor(1_000_000), positions.sinusoidal_frequencies(128))
    return table[5] @ table[5], far @ far, table[1010] @ table[1017], table[17] @ table[10]


@wrong()
def three():
    return 64, 64, 46.8


@wrong()
def words():
    return "64", "64", "46.8", "46.8"


@wrong()
def roughly():
    return 64, 64, 47.5, 47.5


@wrong()
def one_tenth_too_much():
    return 64, 64, 46.9, 46.9


@wrong()
def nothing():
    return math.nan, math.nan, math.nan, math.nan


@wrong(called="one for each channel")
def channels_counted():
    return 128, 128, 46.8, 46.8


@wrong(called="the sign of the direction")
def a_minus_on_the_other_side():
    return 64.0, 64.0, 46.82, -46.82


@wrong()
def everything_is_true():
    return True, True, True, True
