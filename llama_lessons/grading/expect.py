"""What properties are written with: comparisons whose failure is a sentence for the learner."""

import contextlib
import inspect
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llama_lessons.lab.device import choose_device

__all__ = [
    "HALVES",
    "LearnerError",
    "Mismatch",
    "OutOfTime",
    "at_least_float32",
    "draw",
    "exact",
    "expect_close",
    "expect_gradients",
    "expect_like",
    "expect_number",
    "expect_same_for_views",
    "expect_type",
    "expect_value_error",
    "on_device",
    "plain",
    "random_tensor",
    "same_chance",
    "tensor",
    "visible",
]


HALVES = {torch.bfloat16: 8, torch.float16: 11}  # bits of a number's digits


class Mismatch(Exception):
    """An answer is wrong; the text says what was expected and what came."""


class LearnerError(Exception):
    """The learner's own code raised; the cause is what it raised."""


def random_tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, device: Any = None) -> Tensor:
    """Normal numbers, the same on every device: drawn on the CPU in float32, then cast and moved."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).to(device or "cpu")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers on the learner's device."""
    return on_device(random_tensor(*shape, seed=seed, dtype=dtype))


def tensor(values: Any, dtype: torch.dtype | None = None) -> Tensor:
    """These values on the learner's device."""
    return on_device(torch.tensor(values, dtype=dtype))


def on_device(x: Tensor) -> Tensor:
    """x on the learner's device; float64 stays on the CPU where that device, such as Apple's mps, does not know it."""
    try:
        return x.to(choose_device())
    except TypeError:
        return x


def exact(x: Tensor) -> Tensor:
    """x in float64, on the CPU, as not every device knows float64; gradients flow through."""
    return x.cpu().double()


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class OutOfTime(BaseException):
    """The learner's code ran past the limit; a BaseException, so that `except Exception` does not swallow it."""


@contextlib.contextmanager
def same_chance() -> Iterator[None]:
    """Let chance fall the same way each time, so that a verdict does not change from run to run."""
    state = random.getstate()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        # torch.manual_seed seeds accelerators too, and is slow where there are none.
        there_are = torch.cuda.is_available() or torch.backends.mps.is_available()
        (torch.manual_seed if there_are else torch.default_generator.manual_seed)(0)
        random.seed(0)
        try:
            yield
        finally:
            random.setstate(state)


def plain(result: Any) -> Any:
    """What was returned, in Python's and torch's own types, which bring no equality of their own; lists as tuples."""
    if isinstance(result, np.generic):
        result = result.item()
    if isinstance(result, Tensor) and type(result) is not Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            return result.as_subclass(Tensor)
    for kind in (tuple, list):
        if isinstance(result, kind):
            return tuple(plain(item) for item in kind.__iter__(result))
    for kind, base in ((int, int.__int__), (float, float.__float__), (str, str.__str__)):
        if isinstance(result, kind) and type(result) is not bool:
            return base(result)
    return result


def visible(text: str) -> str:
    """The text with what a terminal would obey, and what cannot be printed, written out: \\x1b for escape."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def expect_type(result: Any, returns: Any, name: str) -> None:
    """Refuse a result of another type than `returns` (a type, or a tuple of types for a tuple of results)."""
    _expect_type(result, returns, f"{name} returned", f"one of the results of {name} is")


def _expect_type(result: Any, returns: Any, it_is: str, one_is: str) -> None:
    if isinstance(result, np.generic):
        result = result.item()
    if result is None:
        raise Mismatch(f"{it_is} None. Is its `return` missing?")
    if result is NotImplemented:
        raise Mismatch(f"{it_is} NotImplemented, so it is not solved yet")
    if inspect.isgenerator(result):
        raise Mismatch(f"{it_is} a generator: it has a `yield`, or returns (... for ...) in round brackets")
    if inspect.iscoroutine(result):
        result.close()
        raise Mismatch(f"{it_is} a coroutine: write `def`, not `async def`")
    if isinstance(returns, tuple):
        wanted = f"a tuple of {len(returns)}"
        if not isinstance(result, (tuple, list)):
            raise Mismatch(f"{it_is} {_a(result)}, where {wanted} is expected")
        if len(result) != len(returns):
            raise Mismatch(f"{it_is} {len(result)} things, where {wanted} is expected")
        for item, kind in zip(result, returns, strict=True):
            _expect_type(item, kind, one_is, one_is)
    elif not isinstance(result, returns):
        remedy = {
            Tensor: "; return a torch.Tensor",
            bool: "; return True or False (bool(...) makes one of a one-element tensor)",
        }.get(returns, "")
        raise Mismatch(f"{it_is} {_a(result)}, where {_a_type(returns)} is expected{remedy}")


def _a(thing: Any) -> str:
    return _a_type(type(thing))


def _a_type(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__name__}" if kind.__module__ in ("numpy", "torch") else kind.__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def expect_like(got: Tensor, *, shape: tuple[int, ...], dtype: torch.dtype, device: Any = None, where: str) -> None:
    """Refuse a tensor of another shape, dtype or device; `where` says for which input."""
    if tuple(got.shape) != tuple(shape):
        raise Mismatch(f"{where}: expected shape {tuple(shape)}, got {tuple(got.shape)}")
    if got.dtype != dtype:
        raise Mismatch(f"{where}: expected dtype {_short(dtype)}, got {_short(got.dtype)}")
    if device is not None and got.device.type != torch.device(device).type:
        raise Mismatch(f"{where}: expected a result on {torch.device(device).type}, got one on {got.device.type}")


def expect_close(got: Tensor, want: Tensor, *, where: str, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    """Refuse numbers further from `want` than atol + rtol * |want|; shapes have to agree, dtypes need not."""
    if tuple(got.shape) != tuple(want.shape):
        raise Mismatch(f"{where}: expected shape {tuple(want.shape)}, got {tuple(got.shape)}")
    got, want = exact(got.detach()), exact(want.detach())
    if (bad := ~got.isfinite()).any():
        index = bad.nonzero()[0].tolist()
        value = got[tuple(index)].item()
        seen = "NaN" if math.isnan(value) else value
        raise Mismatch(f"{where}: expected {want[tuple(index)].item():.4g} at {index}, got {seen}")
    excess = (got - want).abs() - (atol + rtol * want.abs())
    if excess.numel() and excess.max() > 0:
        if got.numel() <= 8:
            expected, came = _in_words(want, got)
            raise Mismatch(f"{where}: expected {expected}, got {came}")
        # Of several that are equally far off, the first: rounding must not choose.
        index = tuple((excess >= excess.max() * (1 - 1e-6)).nonzero()[0].tolist())
        expected, came = _in_words(want[index], got[index])
        off = f"{int((excess > 0).sum())} of {excess.numel()} numbers are off"
        raise Mismatch(f"{where}: expected {expected} at {list(index)}, got {came} ({off})")


def expect_number(got: float, want: float, *, where: str, rtol: float = 1e-6) -> None:
    """Refuse a plain number further from `want` than rtol * |want|."""
    if not math.isclose(got, want, rel_tol=rtol):
        digits = next(d for d in (6, 9, 12, 17) if f"{want:.{d}g}" != f"{got:.{d}g}")
        came = "NaN" if math.isnan(got) else f"{got:.{digits}g}"
        raise Mismatch(f"{where}: expected {want:.{digits}g}, got {came}")


def expect_gradients(
    answer: Callable, exact_answer: Callable, *args: Any, names: tuple[str, ...], rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Refuse gradients of the tensors among args, called by their names, that differ from those of `exact_answer`."""
    given = [arg.detach().clone().requires_grad_() if _has_gradient(arg) else arg for arg in args]
    tensors = [arg for arg in given if _has_gradient(arg)]
    got = answer(*given)
    if not got.requires_grad:
        raise Mismatch(f"the result is expected to carry gradients to {' and '.join(names)}, but it carries none")
    upstream = random_tensor(*got.shape, seed=9)
    # Sums: for anything but a scalar torch imports sympy the first time, which takes seconds.
    try:
        found = torch.autograd.grad((got * upstream.to(got)).sum(), tensors, allow_unused=True)
    except RuntimeError as error:
        raise Mismatch(f"gradients cannot be computed backwards through the result: {_clip(str(error), 120)}") from None
    copies = {id(arg): exact(arg.detach()).requires_grad_() for arg in tensors}
    want = exact_answer(*(copies.get(id(arg), arg) for arg in given))
    wanted = torch.autograd.grad((want * upstream.double()).sum(), list(copies.values()))
    for name, gradient, expected in zip(names, found, wanted, strict=True):
        if gradient is None:
            raise Mismatch(f"the result is expected to carry gradients to {name}, but none arrives there")
        expect_close(gradient.to_dense(), expected, where=f"gradient of {name}", rtol=rtol, atol=atol)


def _has_gradient(arg: Any) -> bool:
    return isinstance(arg, Tensor) and arg.is_floating_point()


def expect_same_for_views(answer: Callable, *args: Any, where: str = "inputs") -> None:
    """Refuse another result for the same numbers where they do not lie in memory in the order of their axes."""
    want = answer(*args)
    views = [arg.transpose(0, -1).contiguous().transpose(0, -1) if isinstance(arg, Tensor) else arg for arg in args]
    expect_close(answer(*views), want, where=f"{where} that are not contiguous, as after a transpose")


def expect_value_error(answer: Callable, *args: Any, where: str) -> None:
    """Refuse an answer that does not raise ValueError for `args`."""
    try:
        answer(*args)
    except LearnerError as error:
        cause = error.__cause__
        if isinstance(cause, ValueError):
            return
        if isinstance(cause, NotImplementedError):
            raise
        raise Mismatch(f"{where}: expected a ValueError, got {type(cause).__name__}: {_clip(str(cause), 80)}") from None
    except Mismatch:
        pass  # it returned something, if only nonsense
    raise Mismatch(f"{where}: expected a ValueError, but nothing was raised")


def _clip(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _in_words(want: Tensor, got: Tensor) -> tuple[str, str]:
    """Both in as few digits as show that they differ, and without the noise of rounding beside large numbers."""
    sizes = torch.cat((want.flatten(), got.flatten())).abs()
    largest = max(sizes[sizes.isfinite()].tolist(), default=0.0)
    for digits, noise in ((3, 1e-6), (6, 1e-9), (9, 1e-12), (17, 0.0)):
        rows = [
            # Adding 0 makes 0 of -0.
            [f"{(v if abs(v) > noise * largest else 0) + 0:.{digits}g}" for v in values.flatten().tolist()]
            for values in (want, got)
        ]
        if rows[0] != rows[1]:
            break
    expected, came = (row[0] if want.ndim == 0 else f"[{', '.join(row)}]" for row in rows)
    return expected, came
