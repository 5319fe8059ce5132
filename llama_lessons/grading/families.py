"""Mistakes that can be made in nearly every exercise: one line each adds them to one."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .exercise import Exercise, Function
from .expect import at_least_float32

__all__ = [
    "another_error",
    "batch_of_one",
    "float32_out",
    "kept_from_the_first_call",
    "needs_contiguous",
    "no_gradient",
    "overwrites",
]


def another_error(exercise: Exercise) -> None:
    """What is to be refused with a ValueError ends in an AssertionError, or in the RuntimeError of torch."""
    assertion = (
        "An AssertionError comes where a ValueError is asked for. assert is for what cannot happen, and python -O "
        "leaves it out: write if and raise ValueError(...)."
    )
    exercise.add("an assert, no ValueError", assertion, lambda: _around(exercise, error=AssertionError))
    runtime = (
        "A RuntimeError comes where a ValueError is asked for, such as torch raises for sizes that do not fit. Look "
        "at them before anything else, and raise a ValueError."
    )
    exercise.add("a RuntimeError, no ValueError", runtime, lambda: _around(exercise, error=RuntimeError))


def no_gradient(exercise: Exercise, name: str, more: str = "") -> None:
    """The numbers are right, but no gradient reaches the tensor `name`."""
    place = _place(exercise, name)

    def before(args: list) -> None:
        args[place] = args[place].detach()

    diagnosis = (
        f"The numbers are right, but no gradient reaches {name}: something cuts it off, such as .detach(), .data, "
        f".item(), torch.no_grad, a new torch.tensor or a new nn.Parameter. {more}"
    )
    exercise.add(f"no gradient to {name}", diagnosis, lambda: _around(exercise, before))


def overwrites(exercise: Exercise, name: str, more: str = "") -> None:
    """The result, which has the shape and dtype of `name`, is right and written into `name` itself."""
    place = _place(exercise, name)

    def after(result: Tensor, args: list) -> Tensor:
        return args[place].copy_(result)

    diagnosis = (
        f"The numbers are right, but {name} itself is changed, which its caller may still need. +=, -=, *=, /=, an "
        f"assignment to {name}[i] and what ends in an underscore change a tensor in place: make a new one. {more}"
    )
    exercise.add(f"{name} overwritten", diagnosis, lambda: _around(exercise, after=after))


def float32_out(exercise: Exercise, name: str) -> None:
    """Half precision comes in as `name`, and the right numbers go out in float32."""

    def before(args: list) -> None:
        args[:] = [at_least_float32(arg) if _is_floating(arg) else arg for arg in args]

    diagnosis = (
        "The numbers are right, but half precision comes in and float32 goes out: cast the result back to the dtype "
        f"in which {name} came."
    )
    exercise.add("float32 goes out", diagnosis, lambda: _around(exercise, before))


def needs_contiguous(exercise: Exercise, name: str) -> None:
    """Right, but for a tensor `name` whose numbers do not lie in memory in the order of its axes.

    The exercise's cases hold such a tensor: `x.transpose(0, 1)`, say.
    """
    place = _place(exercise, name)

    def before(args: list) -> None:
        if isinstance(args[place], Tensor):
            args[place].view(-1)

    diagnosis = (
        f"The numbers are right, but an error comes where the numbers of {name} do not lie in memory in the order of "
        "its axes, as after a transpose. .view() raises there; .reshape() and .flatten() copy where they must."
    )
    exercise.add(f"only for a contiguous {name}", diagnosis, lambda: _around(exercise, before))


def batch_of_one(exercise: Exercise, name: str, more: str = "") -> None:
    """The first row of the batch stands for all of them."""
    place = _place(exercise, name)

    def before(args: list) -> None:
        args[place] = args[place][:1].expand_as(args[place])

    diagnosis = (
        "The first row of the batch is computed and given to all others: look for an index of 0 on axis 0 of "
        f"{name}. {more}"
    )
    exercise.add("only the first row of the batch", diagnosis, lambda: _around(exercise, before))


def kept_from_the_first_call(exercise: Exercise, name: str, under: Sequence[str] = (), more: str = "") -> None:
    """The argument `name` of the first call is used in all later ones, or in those with the same arguments `under`.

    To name it in an answer, the exercise's cases need values of `under` that its properties do not use.
    """
    place, keys = _place(exercise, name), [_place(exercise, key) for key in under]

    def make() -> Function:
        kept: dict[tuple, Any] = {}

        def before(args: list) -> None:
            args[place] = kept.setdefault(tuple(args[key] for key in keys), args[place])

        return _around(exercise, before)

    diagnosis = (
        f"Your result is that of the {name} of an earlier call: something is kept from call to call, under a key that "
        f"does not hold {name}. {more}"
    )
    exercise.add(f"{name} kept from an earlier call", diagnosis, make)


def _is_floating(arg: Any) -> bool:
    return isinstance(arg, Tensor) and arg.is_floating_point()


def _place(exercise: Exercise, name: str) -> int:
    """Which argument of a call is called `name`; a class is called through its method forward."""
    reference = exercise.reference
    function = reference.forward if isinstance(reference, type) else reference
    return [parameter for parameter in inspect.signature(function).parameters if parameter != "self"].index(name)


def _around(
    exercise: Exercise,
    before: Callable | None = None,
    after: Callable | None = None,
    error: type[Exception] = ValueError,
) -> Any:
    """The reference, with the list of its arguments changed before a call, its result after it, or its ValueError."""

    def call(function: Function, given: tuple) -> Any:
        bound = inspect.signature(function).bind(*given)
        bound.apply_defaults()
        args = list(bound.args)
        if before:
            before(args)
        try:
            result = function(*args)
        except ValueError as refusal:
            raise error(*refusal.args) from None
        return after(result, args) if after else result

    reference = exercise.reference
    if not isinstance(reference, type):
        return lambda *given: call(reference, given)

    class Wrong(reference):
        def forward(self, *given: Any) -> Any:
            return call(super().forward, given)

    return Wrong
