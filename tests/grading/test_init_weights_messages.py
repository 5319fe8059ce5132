"""What init_weights says of a mistake beside its name: advice where torch gives none, and nothing that was not seen."""

import pytest
import torch
from torch import nn

from llama_lessons import initialization
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY


def messages(answer):
    return [result.message for result in grade(REGISTRY["init_weights"], answer).results if not result.passed]


def zeroed_rows(model, std=0.02):
    initialization.gpt2_init_(model, std)
    for p in model.parameters():
        if p.ndim > 1:
            p.data[0] = 0


def float32_everywhere(model, std=0.02):
    initialization.gpt2_init_(model, std)
    for p in model.parameters():
        p.data = p.data.float()


def one_seed(model, std=0.02):
    for p in model.parameters():
        torch.manual_seed(0)
        nn.init.normal_(p, std=std)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda model, std=0.02: len(model.blocks), "count the roles that are 'residual'"),
        (lambda model, std=0.02: [p.fill_(1) for p in model.parameters()], "Use the functions of nn.init"),
        (zeroed_rows, "48 of 4800 are 0"),
        (float32_everywhere, "had dtype torch.bfloat16, and now has torch.float32"),
        (one_seed, "begins with the same random numbers as"),
    ],
)
def test_a_message_says_what_was_seen(answer, said):
    assert any(said in message for message in messages(answer)), messages(answer)


def test_rows_of_zeros_are_not_taken_for_a_seed():
    assert not any("begins with the same" in message for message in messages(zeroed_rows))
