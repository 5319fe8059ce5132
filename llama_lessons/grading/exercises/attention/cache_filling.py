"""What KVCache is graded with: the function that fills a cache step by step, and what is expected of it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...expect import Mismatch, expect_close, expect_like, plain

Filled = tuple[Tensor, Tensor, bool, bool, bool, str]


def fills(cache_class: Any) -> Callable[..., Filled]:
    """Make of a class the function that fills a cache: a step appends so many tokens, or sets length back if below 0.

    It returns what the last append returned; whether all lay in the memory taken beforehand; whether `length` always
    told the places that were filled; whether refusals left the memory alone; and what was refused. A second cache may
    be filled beside it, with other numbers.
    """

    def fill(k: Tensor, v: Tensor, max_seq_len: int, steps: tuple[int, ...], second: bool = False) -> Filled:
        sizes = (*k.shape[:2], max_seq_len, k.shape[3], k.dtype, k.device)
        cache, *others = (cache_class(*sizes) for _ in range(1 + second))
        taken = {x.untyped_storage().data_ptr() for x in memory(cache)}
        kept, filled, new, refused = (k[:, :, :0], v[:, :, :0]), 0, 0, []
        in_place = counted = unharmed = True
        for step in steps:
            if step < 0:
                cache.length, filled = cache.length + step, filled + step
                continue
            pieces, before = (k[:, :, new : new + step], v[:, :, new : new + step]), memory(cache, copied=True)
            try:
                kept = cache.append(*pieces)
            except Exception as error:
                if not isinstance(error, ValueError) and filled + step <= max_seq_len:
                    raise
                name = "ValueError" if isinstance(error, ValueError) else type(error).__name__
                refused.append(f"{name} on appending {step} after {filled}")
                unharmed &= all(x.equal(y) for x, y in zip(before, memory(cache, copied=True), strict=True))
            else:
                if not (isinstance(kept, (tuple, list)) and [isinstance(x, Tensor) for x in kept] == [True, True]):
                    came = "None" if kept is None else type(kept).__name__
                    raise TypeError(f"append returned {came}, where two tensors are expected: keys and values so far")
                filled, new = filled + step, new + step
                in_place &= {x.untyped_storage().data_ptr() for x in kept} <= taken
            counted &= int(plain(getattr(cache, "length", -1))) == filled
            for other in others:
                other.append(*(-x for x in pieces))
        return (*kept, in_place, counted, unharmed, " and ".join(refused))

    return fill


def memory(cache: Any, copied: bool = False) -> list[Tensor]:
    """self.keys and self.values, or copies without the NaNs that memory may hold which was never written."""
    found = [x for x in (getattr(cache, "keys", None), getattr(cache, "values", None)) if isinstance(x, Tensor)]
    return [x.nan_to_num() for x in found] if copied else found


def expect_kept(answer: Callable, k: Tensor, v: Tensor, room: int, steps: tuple[int, ...], *more: bool) -> Filled:
    """Refuse an answer that does not keep all pieces but those that there is no room for; returns all that it says."""
    places, new, refused = [], 0, []
    for step in steps:
        if step < 0:
            del places[step:]
        elif len(places) + step > room:
            refused.append(f"ValueError on appending {step} after {len(places)}")
        else:
            places, new = [*places, *range(new, new + step)], new + step
    words = ", ".join(f"{step} appended" if step > 0 else f"length set back by {-step}" for step in steps)
    done = f"{words} in a cache for {room}" + ", and others in a second cache" * any(more)
    *kept, _, _, _, seen = filled = answer(k, v, room, steps, *more)
    if seen != (wanted := " and ".join(refused)):
        raise Mismatch(f"{done}: expected {wanted or 'no error'}, got {seen or 'no error'}")
    for name, got, want in zip(("keys", "values"), kept, (k, v), strict=True):
        expect_like(got, shape=(*k.shape[:2], len(places), k.shape[3]), dtype=k.dtype, where=f"{name}, after {done}")
        expect_close(got, want[:, :, places], where=f"{name}, after {done}", rtol=0, atol=0)
    return filled
