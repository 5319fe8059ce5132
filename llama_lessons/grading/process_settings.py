"""What torch holds for the whole process, and a notebook or an answer may have set: the same for every answer."""

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["settings_kept", "use_ordinary_settings"]


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Put back, at the end, what the grader and the answer set for the whole process.

    Small tensors gain nothing from more threads, and lose much where other programs want the cores too: one is used.
    """
    threads, dtype, device = torch.get_num_threads(), torch.get_default_dtype(), torch.get_default_device()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            use_ordinary_settings()
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)


def use_ordinary_settings() -> None:
    """Set what the notebook or an earlier answer may have set otherwise: device, dtype, gradients, threads."""
    if torch.get_default_device().type != "cpu":
        torch.set_default_device(None)
    if torch.get_default_dtype() != torch.float32:
        torch.set_default_dtype(torch.float32)
    if not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
