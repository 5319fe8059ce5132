"""The time of a call."""

import time

import torch

from llama_lessons.lab.timing import seconds


def test_the_least_of_several_calls_counts(monkeypatch):
    ticks = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    called = []
    assert seconds(lambda *arguments: called.append(arguments) or torch.ones(2), 1, 2, repeat=3) == 2.0
    assert called == [(1, 2)] * 3
