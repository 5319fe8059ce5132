"""Run an exercise's properties on a function and say how it went."""

import contextlib
import inspect
import io
import re
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .exercise import Exercise
from .expect import LearnerError, Mismatch, OutOfTime, expect_type, plain, same_chance, visible
from .naming import match_misconception
from .process_settings import settings_kept, use_ordinary_settings
from .time_limit import TimeLimit
from .verdict import Result, Verdict

__all__ = ["UNCHANGED", "Answer", "grade"]

UNCHANGED = "leaves its inputs and its earlier results as they were"
REMEMBERED = 100_000  # numbers of a result that is looked at again later
_GRADING = str(Path(__file__).parent)
_COURSE = str(Path(__file__).parents[1])
_TORCH = str(Path(torch.__file__).parent)

_running: list[str] = []  # the exercise that is being graded


class Answer:
    """The learner's function, with its inputs protected and its results checked for type.

    Properties call it like the function itself. It notes whether a result of the right type ever came, which input was
    changed in place, and what came before, since a later call may write into the same memory.
    """

    def __init__(self, function: Callable, exercise: Exercise) -> None:
        self._function = exercise.called(function)
        self._exercise = exercise
        # What a class is given, its constructor and its calls together, is named by what calls it.
        self._names = tuple(inspect.signature(self._function).parameters) if exercise.using else exercise.parameters
        self.answered = False
        self.changed_input = ""
        self._results: list[tuple[Tensor, Tensor]] = []
        self._handed_back = ""  # the input that the last result is, or is a view of

    def __call__(self, *args: Any) -> Any:
        # A property may go on using its inputs, so the answer gets them as copies that share gradients.
        given = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
        before = [arg.detach().clone() if isinstance(arg, Tensor) else None for arg in given]
        use_ordinary_settings()
        try:
            result = self._function(*given)
        except (OutOfTime, KeyboardInterrupt, Mismatch):  # what makes a function of a class may refuse it
            raise
        except BaseException as error:
            raise LearnerError from error
        finally:
            use_ordinary_settings()
        for name, old, new in zip(self._names, before, given, strict=False):
            if old is not None and not _identical(old, new.detach()):
                self.changed_input = name
        name = self._exercise.name
        expect_type(result, self._exercise.returns, name)
        result = plain(result)
        self.answered = True
        device = next((arg.device.type for arg in args if isinstance(arg, Tensor)), None)
        self._handed_back = ""
        for item in result if isinstance(result, tuple) else (result,):
            if not isinstance(item, Tensor):
                continue
            if item.layout != torch.strided or item.is_nested:
                raise Mismatch(f"{name} returned a sparse tensor: make it an ordinary one with .to_dense()")
            if item.is_complex():
                raise Mismatch(f"{name} returned complex numbers, where real ones are expected")
            if device not in (None, item.device.type):
                raise Mismatch(f"{name} was given tensors on {device}, and returned one on {item.device.type}")
            if item.is_meta:
                raise Mismatch(f"{name} returned a tensor on the device meta, which holds no numbers")
            if item.numel() < REMEMBERED:
                self._results.append((item.detach(), item.detach().clone()))
            for parameter, arg in zip(self._names, given, strict=False):
                if isinstance(arg, Tensor) and _share_memory(arg, item):
                    self._handed_back = parameter
        return result

    @property
    def changed_result(self) -> bool:
        """Whether a result is no longer what it was when it was returned."""
        return any(not torch.equal(now.nan_to_num(), then.nan_to_num()) for now, then in self._results)

    def expect_new(self, where: str) -> None:
        """Refuse the last result if it is one of the inputs itself, or a view of one; `where` says for which input."""
        if name := self._handed_back:
            raise Mismatch(
                f"{where}: expected a new tensor, got {name} itself or a view of it. {name}.clone() is a new one"
            )


def _share_memory(a: Tensor, b: Tensor) -> bool:
    return a.numel() > 0 and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def grade(exercise: Exercise, function: Callable, seconds: float | None = None, briefly: bool = False) -> Verdict:
    """Run every property of `exercise` on `function`, and look for the misconception behind a failure.

    It never raises for what the learner's code does. Where that code computes longer than `seconds`, or is interrupted,
    the verdict says so; nothing after that is run. Of what it prints, the first failed property's part is kept.

    Args:
        exercise: what was asked.
        function: the answer.
        seconds: how long it may compute; by default what the exercise says.
        briefly: whether the first failure is enough, and nobody asks for the misconception behind it.

    Raises:
        RuntimeError: if the answer itself asks for a verdict, which has no end.
    """
    if _running:
        raise RuntimeError(
            f"check is running already, and {_running[0]} has called it. Is check(...) indented, so that it belongs to "
            "the function's own body? Write it below the function, at the start of a line"
        )
    started = time.monotonic()
    _running.append(exercise.name)
    try:
        found = _grade(exercise, unscripted(function), seconds or exercise.seconds, briefly)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # such as a signature that raises when it is read
        found = {"problem": f"it cannot be used ({said(error)})"}
    finally:
        _running.clear()
    return Verdict(exercise.name, exercise.lesson, exercise.points, **found, seconds=time.monotonic() - started)


def _grade(exercise: Exercise, function: Callable, seconds: float, briefly: bool) -> dict[str, Any]:
    if problem := _signature_problem(exercise, function):
        return {"problem": problem}
    answer = Answer(function, exercise)
    results: list[Result] = []
    found: dict[str, Any] = {}
    printed = Printed()
    started = time.monotonic()
    usual = "a few seconds" if exercise.diagnose else "milliseconds"
    with settings_kept(), TimeLimit(seconds) as limit:
        try:
            for prop in exercise.properties:
                output = Printed()
                with contextlib.redirect_stdout(output):
                    result = _run(prop.name, prop.test, answer, limit)
                if all(earlier.passed for earlier in results):
                    printed = output
                results.append(result)
                if _is_unsolved(results):
                    found["unsolved"] = True
                    results.clear()
                    break
                if briefly and not result.passed:
                    break
            else:
                if exercise.parameters:
                    results.append(_unchanged(answer))
                if not briefly and not all(result.passed for result in results):
                    with contextlib.redirect_stdout(Printed()):
                        if exercise.diagnose:
                            found["mistake"] = limit.run(exercise.diagnose, answer)
                        else:
                            found["mistake"] = match_misconception(exercise, function, limit)
        except OutOfTime:
            waited = f"{time.monotonic() - started:.0f} seconds"
            spent = waited if limit.waited else f"{seconds:g} seconds of computing"
            found["problem"] = (
                f"{exercise.name} was still running after {spent}, where {usual} are enough. Look for a loop that "
                "never ends, or takes very many steps, or for something that waits"
            )
        except KeyboardInterrupt:
            found["problem"] = (
                f"{exercise.name} was interrupted after {time.monotonic() - started:.0f} seconds, where {usual} "
                "are enough. Look for a loop that never ends, or takes very many steps"
            )
    found["results"] = tuple(_fill(exercise, results))
    if all(result.passed for result in found["results"]):
        found["reason"] = exercise.reason
    return found | {"printed": visible(printed.getvalue())}


class Printed(io.StringIO):
    """What an answer prints; it stays open even if the answer closes it."""

    def close(self) -> None:
        """Stay open: what was printed is still to be read."""


def unscripted(function: Any) -> Any:
    """A function of torch.jit.script as an ordinary one, which has a signature and raises what was raised in it."""
    if not isinstance(function, torch.jit.ScriptFunction):
        return function

    def answer(*args: Any) -> Any:
        try:
            return function(*args)
        except torch.jit.Error as error:
            lines = str(error).strip().splitlines()
            raise (ValueError if "ValueError" in lines[-1] else RuntimeError)(lines[-1]) from None

    answer.__signature__ = inspect.Signature(
        inspect.Parameter(
            arg.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=arg.default_value if arg.has_default_value() else inspect.Parameter.empty,
        )
        for arg in function.schema.arguments
    )
    return answer


def _signature_problem(exercise: Exercise, function: Callable) -> str:
    try:
        signature = inspect.signature(function)
        signature.bind(*exercise.parameters)
    except (TypeError, ValueError):
        wanted = f"{exercise.name}({', '.join(exercise.parameters)})"
        try:
            return f"{wanted} is asked for, but yours is {exercise.name}{inspect.signature(function)}"
        except (TypeError, ValueError):
            return f"{wanted} is asked for, but the parameters of yours cannot be read"
    return ""


def _run(name: str, test: Callable, answer: Answer, limit: TimeLimit) -> Result:
    try:
        with same_chance():
            limit.run(test, answer)
    except (OutOfTime, KeyboardInterrupt):
        raise
    except Mismatch as mismatch:
        return Result(name, False, visible(str(mismatch)))
    except LearnerError as error:
        return Result(name, False, said(error.__cause__), _learner_trace(error.__cause__))
    except BaseException as error:
        # A result so odd that the test itself trips over it is the answer's fault, and no traceback of ours helps.
        why = f"{answer.changed_input} was changed in place" if answer.changed_input else said(error)
        return Result(name, False, f"what was returned cannot be used ({why})")
    return Result(name, True)


def said(error: BaseException) -> str:
    """The type of an exception and its text, whatever its text does."""
    try:
        text = str(error)
    except BaseException:
        text = "its text cannot be read"
    return visible(f"{type(error).__name__}: {text}").removesuffix(": ")


def _unchanged(answer: Answer) -> Result:
    if not answer.answered:
        return Result(UNCHANGED, False, "not reached")  # doing nothing earns nothing
    if answer.changed_input:
        message = f"{answer.changed_input} was changed in place. Whoever passed it in still needs it: make a new tensor"
        return Result(UNCHANGED, False, message)
    if answer.changed_result:
        message = "a result that had been returned was changed by a later call: return a new tensor each time"
        return Result(UNCHANGED, False, message)
    return Result(UNCHANGED, True)


def _is_unsolved(results: list[Result]) -> bool:
    # torch raises NotImplementedError too, for what a dtype or device cannot do; that is no stub.
    stub = re.compile(r"NotImplementedError(: .* is not solved yet)?")
    return len(results) == 1 and not results[0].passed and bool(stub.fullmatch(results[0].message))


def _fill(exercise: Exercise, results: list[Result]) -> Iterator[Result]:
    # What an early stop left out counts as failed, so that partial points mean the same at every stop.
    yield from results
    names = [prop.name for prop in exercise.properties] + ([UNCHANGED] if exercise.parameters else [])
    for name in names[len(results) :]:
        yield Result(name, False, "not reached")


def _learner_trace(error: BaseException) -> str:
    """The traceback of the learner's code alone: without the grader's frames, and short where it recurses."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_GRADING)]
    # What is called from there, the course's code or torch's, says less than the line that called it.
    while len(own) > 1 and own[-1].filename.startswith((_COURSE, _TORCH)):
        own.pop()
    if len(own) > 8:
        own = own[:4] + own[-4:]
    text = "".join(traceback.format_list(own)) + said(error)
    # A notebook's cells have made-up file names, which tell a reader nothing.
    return re.sub(r'File "[^"]*ipykernel_[^"]*", line', "Your cell, line", visible(text)).rstrip()
