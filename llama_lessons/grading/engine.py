"""Run an exercise's properties on a function and say how it went."""

import contextlib
import inspect
import io
import math
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .exercise import Exercise, Misconception
from .expect import LearnerError, Mismatch, OutOfTime, expect_type, plain, same_chance
from .outcome import match_misconception

__all__ = ["TIME_LIMIT_SECONDS", "Result", "Verdict", "grade"]

TIME_LIMIT_SECONDS = 10.0  # of computing
WAITING = 6  # times as many of waiting

UNCHANGED = "leaves its inputs as they were"
_GRADING = str(Path(__file__).parent)
_COURSE = str(Path(__file__).parents[1])
_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Result:
    """How one property went: `message` says what was wrong, `trace` is the learner's own traceback."""

    name: str
    passed: bool
    message: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Verdict:
    """How an answer did in an exercise."""

    exercise: Exercise
    results: tuple[Result, ...]
    misconception: Misconception | None = None
    unsolved: bool = False
    problem: str = ""
    printed: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.passed for result in self.results)

    @property
    def points(self) -> float:
        """Full points only for all properties; else their share, down to half a point; none for what was given."""
        if self.passed:
            return float(self.exercise.points)
        if self.misconception and self.misconception.given:
            return 0.0
        share = sum(result.passed for result in self.results) / max(len(self.results), 1)
        return min(math.floor(2 * share * self.exercise.points) / 2, self.exercise.points - 0.5)


class Answer:
    """The learner's function, with its inputs protected and its results checked for type.

    Properties call it like the function itself. It notes whether a result of the right type ever came, and whether
    an input was ever changed in place.
    """

    def __init__(self, function: Callable, exercise: Exercise) -> None:
        self._function = exercise.called(function)
        self._exercise = exercise
        # What a class is given, its constructor and its calls together, is named by what calls it.
        self._names = tuple(inspect.signature(self._function).parameters) if exercise.using else exercise.parameters
        self.answered = False
        self.changed_input = ""

    def __call__(self, *args: Any) -> Any:
        # A property may go on using its inputs, so the answer gets them as copies that share gradients.
        given = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
        before = [arg.detach().clone() if isinstance(arg, Tensor) else None for arg in given]
        try:
            result = self._function(*given)
        except (OutOfTime, KeyboardInterrupt, Mismatch):  # what makes a function of a class may refuse it
            raise
        except BaseException as error:
            raise LearnerError from error
        for name, old, new in zip(self._names, before, given, strict=False):
            if old is not None and not _identical(old, new.detach()):
                self.changed_input = name
        name = self._exercise.name
        expect_type(result, self._exercise.returns, name)
        self.answered = True
        result = plain(result)
        device = next((arg.device.type for arg in args if isinstance(arg, Tensor)), None)
        for item in result if isinstance(result, tuple) else (result,):
            if not isinstance(item, Tensor):
                continue
            if item.layout != torch.strided:
                raise Mismatch(f"{name} returned a sparse tensor: make it an ordinary one with .to_dense()")
            if item.is_complex():
                raise Mismatch(f"{name} returned complex numbers, where real ones are expected")
            if device not in (None, item.device.type):
                raise Mismatch(f"{name} was given tensors on {device}, and returned one on {item.device.type}")
            if item.is_meta:
                raise Mismatch(f"{name} returned a tensor on the device meta, which holds no numbers")
        return result


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def grade(exercise: Exercise, function: Callable, seconds: float = TIME_LIMIT_SECONDS) -> Verdict:
    """Run every property of `exercise` on `function`, and look for the misconception behind a failure.

    It never raises for what the learner's code does. Where that code computes longer than `seconds`, or is
    interrupted, the verdict says so; nothing after that point is run. Of what it prints, the verdict keeps what
    belongs to the first property that failed.
    """
    problem = _signature_problem(exercise, function)
    if problem:
        return Verdict(exercise, (), problem=problem)
    answer = Answer(function, exercise)
    results: list[Result] = []
    misconception, problem = None, ""
    printed = io.StringIO()
    started = time.monotonic()
    try:
        with _limit(seconds), _settings():
            for prop in exercise.properties:
                if all(result.passed for result in results):
                    printed = output = io.StringIO()
                else:
                    output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    results.append(_run(prop.name, prop.test, answer))
                if _is_unsolved(results):
                    return Verdict(exercise, tuple(_fill(exercise, [])), unsolved=True)
            if exercise.parameters:
                results.append(_unchanged(answer))
            if not all(result.passed for result in results):
                with contextlib.redirect_stdout(io.StringIO()):
                    misconception = match_misconception(exercise, function)
    except OutOfTime:
        problem = (
            f"{exercise.name} was still running after {seconds:g} seconds of computing, where milliseconds are enough. "
            "Look for a loop that never ends"
        )
    except KeyboardInterrupt:
        problem = (
            f"{exercise.name} was interrupted after {time.monotonic() - started:.0f} seconds, where milliseconds "
            "are enough. Look for a loop that never ends"
        )
    return Verdict(exercise, tuple(_fill(exercise, results)), misconception, False, problem, printed.getvalue())


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


def _run(name: str, test: Callable, answer: Answer) -> Result:
    try:
        with same_chance():
            test(answer)
    except Mismatch as mismatch:
        return Result(name, False, str(mismatch))
    except LearnerError as error:
        cause = error.__cause__
        return Result(name, False, f"{type(cause).__name__}: {cause}", _learner_trace(cause))
    except Exception as error:
        # A result so odd that the test itself trips over it is the answer's fault, and no traceback of ours helps.
        return Result(name, False, f"what was returned cannot be used ({type(error).__name__}: {error})")
    return Result(name, True)


def _unchanged(answer: Answer) -> Result:
    if not answer.answered:
        return Result(UNCHANGED, False, "not reached")  # doing nothing earns nothing
    if answer.changed_input:
        message = f"{answer.changed_input} was changed in place. Whoever passed it in still needs it: make a new tensor"
        return Result(UNCHANGED, False, message)
    return Result(UNCHANGED, True)


def _is_unsolved(results: list[Result]) -> bool:
    # torch raises NotImplementedError too, for what a dtype or device cannot do; that is no stub.
    stub = re.compile(r"NotImplementedError: (|.* is not solved yet)")
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
    lines = traceback.format_list(own) + traceback.format_exception_only(error)
    # A notebook's cells have made-up file names, which tell a reader nothing.
    return re.sub(r'File "[^"]*ipykernel_[^"]*", line', "Your cell, line", "".join(lines)).rstrip()


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Record gradients whatever the caller does, and use one thread.

    Small tensors gain nothing from more threads, and lose much where other programs want the cores too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread after `seconds` of computing; elsewhere only an interrupt ends a loop.

    What other programs do on a busy machine is not the answer's fault, so it is this process's own time that counts,
    and the clock on the wall only for code that waits.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise OutOfTime

    timers = {
        signal.ITIMER_PROF: (signal.SIGPROF, seconds),
        signal.ITIMER_REAL: (signal.SIGALRM, WAITING * seconds),
    }
    old = {number: signal.signal(number, stop) for number, _ in timers.values()}
    for timer, (_, limit) in timers.items():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in old.items():
            signal.signal(number, handler)
