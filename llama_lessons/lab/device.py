"""Which device lessons and checks run on."""

import os

import torch

from llama_lessons.settings import DEVICE

__all__ = ["choose_device"]


def choose_device(name: str | None = None) -> torch.device:
    """Device for tensors: `name`, else LLAMA_LESSONS_DEVICE, else CUDA where there is one, else the CPU.

    Apple's mps is taken only on request, since float64 is missing there.

    Raises:
        ValueError: if the device asked for is unknown or not on this machine.
    """
    remedy = "ask for cpu" if name else f"unset {DEVICE} or set it to cpu"
    name = name or os.environ.get(DEVICE) or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} is not a device that torch knows; {remedy}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{name!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices; {remedy}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"'mps' was asked for, but torch does not see one; {remedy}")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"{name!r} was asked for, but lessons run on cpu, cuda and mps alone; {remedy}")
    return device
