"""Apple's mps knows no float64. Such a device is simulated: what is drawn on it refuses to become float64."""

import sys

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from llama_lessons.grading import engine, expect, naming, outcome
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import catalogued

DEVICE = torch.device("cpu", 1)  # torch works with it as with the CPU, and it can be told from it


class OnDevice(Tensor):
    """A tensor on the simulated device; what is computed with it is on that device too."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        to_cpu = any(isinstance(arg, str) and arg == "cpu" for arg in [*args, *(kwargs or {}).values()])
        if function is Tensor.cpu or to_cpu:
            with torch._C.DisableTorchFunctionSubclass():
                return result.as_subclass(Tensor)
        return refused(result)


def refused(result):
    """The result, unless it is float64 on the device."""
    for item in result if isinstance(result, (tuple, list)) else (result,):
        if isinstance(item, OnDevice) and item.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
    return result


class Simulation(TorchFunctionMode):
    """Puts on the simulated device what is asked to be there."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        asked = any(isinstance(leaf, torch.device) and leaf.index == 1 for leaf in tree_leaves((args, kwargs)))
        return refused(result.as_subclass(OnDevice)) if asked and isinstance(result, Tensor) else result


@pytest.fixture(autouse=True)
def simulated(monkeypatch):
    real = expect.plain
    for module in (engine, outcome):
        monkeypatch.setattr(module, "plain", lambda result: result if isinstance(result, OnDevice) else real(result))
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("llama_lessons") and hasattr(module, "choose_device"):
            monkeypatch.setattr(module, "choose_device", lambda *_: DEVICE)
    with Simulation():
        yield


def test_the_simulated_device_refuses_float64_and_nothing_else():
    x = expect.draw(2, 3)
    assert isinstance(x, OnDevice)
    assert isinstance((x.half() + 1) @ torch.ones(3, 2).half(), OnDevice)
    with pytest.raises(TypeError, match="float64"):
        x.double()
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64, device=DEVICE)
    assert type(x.cpu().double()) is Tensor
    assert expect.draw(2, dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize("name", catalogued())
def test_a_right_answer_passes_and_a_wrong_one_is_named(name):
    exercise = catalogued()[name]
    verdict = grade(exercise, exercise.reference)
    assert verdict.passed, (verdict.problem, verdict.first_failure)
    naming.known_outcomes.cache_clear()
    misconception = exercise.misconceptions[0]
    verdict = grade(exercise, misconception.make())
    assert verdict.mistake, verdict
    assert verdict.mistake.name == misconception.name
