"""Other answers to predict_norms."""

import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F

from tests.grading.answers import right, wrong


@right
def by_torch_s_own():
    token, both = torch.tensor([-2.0, 14.0]), torch.tensor([[-2.0, 14.0], [100.0, -100.0]])
    results = (
        F.layer_norm(token, (2,)),
        F.rms_norm(token, (2,)),
        F.rms_norm(10 * token, (2,)),
        F.rms_norm(token - token.mean(), (2,)),
        F.rms_norm(both, (2,))[0],
    )
    return tuple(result[0].item() for result in results)


@right
def as_list_of_fractions_written_out():
    return [-1, -1 / 5, -2 / 10, -1, -0.2]


@right
def as_list_of_strings_made_numbers():
    return [float(text) for text in ["-1", "-0.2", "-0.2", "-1", "-0.2"]]


@right
def as_fractions():
    return Fraction(-1), Fraction(-1, 5), Fraction(-20, 100), Fraction(-8, 8), Fraction(-1, 5)


@right
def as_tensors():
    return tuple(torch.tensor([-1.0, -0.2, -0.2, -1.0, -0.2]))


@right
def as_numpy_numbers():
    return tuple(np.array([-1.0, -0.2, -0.2, -1.0, -0.2]))


@wrong()
def too_few():
    return -1.0, -0.2, -0.2, -1.0


@wrong()
def both_channels():
    return (-1.0, 1.0), (-0.2, 1.4), (-0.2, 1.4), (-1.0, 1.0), (-0.2, 1.4)


@wrong()
def nan_everywhere():
    return (math.nan,) * 5


@wrong()
def as_text():
    return "-1", "-0.2", "-0.2", "-1", "-0.2"


@wrong()
def all_of_layer_norm():
    return (-1.0,) * 5


@wrong(called="divided by the mean")
def two_mistakes():
    return -1.0, -1 / 3, -2, -1.0, -0.2


@wrong(called="one scale for both tokens")
def over_the_tokens():
    return -1, -0.2, -0.2, -1, -2 / math.sqrt((4 + 10000) / 2)


@wrong(called="LayerNorm, sum of squares not halved")
def by_the_length():
    return -8 / math.sqrt(128), -0.2, -0.2, -1, -0.2
