"""The ways to train that lesson 10 compares: each changes what it names, and no more."""

import math

import pytest
import torch

from llama_lessons.lab.training_ways import WAYS, Dropped, kept_for_backward, kept_times, kept_ways, time_ratio, try_way

VOCAB_SIZE = 12
TEXT = torch.randint(VOCAB_SIZE, (4000,), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tried():
    return {name: try_way(way, TEXT, TEXT, VOCAB_SIZE, steps=42, seed=0) for name, way in WAYS.items()}


def test_what_only_saves_memory_leaves_the_losses(tried):
    usual = tried["as it is"]
    for name, tolerance in (
        ("4 parts accumulated", 1e-3),
        ("activation checkpointing", 1e-3),
        ("bfloat16 autocast", 0.02),
    ):
        assert tried[name]["training"] == pytest.approx(usual["training"], abs=tolerance)
        assert tried[name]["kept"] < 0.9 * usual["kept"]


def test_every_other_way_trains_another_run(tried):
    for name in ("dropout 0.1", "weight decay 1 for 0.1", "augmentation", "learning rate / 3", "learning rate x 3"):
        assert abs(tried[name]["training"] - tried["as it is"]["training"]) > 1e-5
        assert math.isfinite(tried[name]["validation"])


def test_each_way_has_three_seeds_and_its_own_base_line():
    ways, times = kept_ways(), kept_times()
    assert ways.keys() == times.keys() == WAYS.keys()
    assert all(len(runs) == 3 for way in ways.values() for runs in way.values())
    assert all(0.9 < ratio < 1.1 for ratio in times["as it is"])
    assert all(ratio > 1.1 for ratio in times["activation checkpointing"])


def test_a_step_takes_as_long_as_itself():
    assert 0.5 < time_ratio(WAYS["as it is"], TEXT, VOCAB_SIZE, seed=0, steps=42) < 2


def test_a_product_keeps_what_its_backward_pass_reads():
    layer, x = torch.nn.Linear(3, 5, bias=False), torch.ones(7, 3)
    assert kept_for_backward(layer, lambda: layer(x).sum()) == x.nbytes
    assert kept_for_backward(layer, lambda: layer(x).detach()) == x.nbytes
    with torch.no_grad():
        assert kept_for_backward(layer, lambda: layer(x).sum()) == 0


def test_dropout_is_behind_the_layer():
    dropped = Dropped(torch.nn.Identity(), 0.5)
    assert set(dropped(torch.ones(1000)).tolist()) == {0.0, 2.0}
    assert torch.equal(dropped.eval()(torch.ones(3)), torch.ones(3))
