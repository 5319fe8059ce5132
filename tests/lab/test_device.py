"""Which device is chosen, and what is said where it is not there."""

import pytest
import torch

from llama_lessons.lab.device import choose_device
from llama_lessons.settings import DEVICE


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEVICE, raising=False)


def test_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")


def test_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device() == torch.device("cuda")


def test_the_variable_comes_before_cuda_and_the_argument_before_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv(DEVICE, "cuda:1")
    assert choose_device() == torch.device("cuda:1")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x"])
def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(DEVICE, name)
    with pytest.raises(ValueError, match=f"'{name}' is not a device that torch knows; unset {DEVICE}"):
        choose_device()


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="'cuda:1' was asked for, but torch sees 1 CUDA devices"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'mps' was asked for, but torch does not see one"):
        choose_device("mps")


@pytest.mark.parametrize("name", ["meta", "xpu"])
def test_a_device_on_which_lessons_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(
        ValueError, match=f"'{name}' was asked for, but lessons run on cpu, cuda and mps alone; ask for"
    ):
        choose_device(name)
    monkeypatch.setenv(DEVICE, name)
    with pytest.raises(ValueError, match=f"alone; unset {DEVICE} or set it to cpu"):
        choose_device()
