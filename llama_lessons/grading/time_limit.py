"""End code that runs too long, whatever it catches, on every system and in every thread."""

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .expect import OutOfTime

__all__ = ["TimeLimit"]

WAITING = 6  # times as many seconds of waiting as of computing
AGAIN = 0.02  # seconds until OutOfTime is raised again, as a bare `except:` may have swallowed it


class TimeLimit:
    """Raises OutOfTime in what `run` is given, after `seconds` of computing or WAITING times as many of waiting.

    What other programs do on a busy machine is not the answer's fault, so it is this process's own time that counts,
    and the clock on the wall only for code that waits. A signal does it in the main thread, where there are timers for
    it; elsewhere, as on Windows, a second thread, which cannot wake code that sleeps.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.over = False
        self.waited = False  # whether it is over since the code waited, and not since it computed
        self._armed = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.get_ident()
        self._by_signal = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "TimeLimit":
        if self._by_signal:
            limits = {signal.ITIMER_PROF: self.seconds, signal.ITIMER_REAL: WAITING * self.seconds}
            self._old = {n: signal.signal(n, self._ring) for n in (signal.SIGPROF, signal.SIGALRM)}
            self._timers = {timer: signal.setitimer(timer, limit, AGAIN) for timer, limit in limits.items()}
        else:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._armed = False
        self._done.set()
        if self._by_signal:
            for timer in self._timers:
                signal.setitimer(timer, 0)
            for number, handler in self._old.items():
                signal.signal(number, handler)
            for timer, left in self._timers.items():
                signal.setitimer(timer, *left)

    def run(self, function: Callable, *args: Any) -> Any:
        """The function's result.

        Raises:
            OutOfTime: once the time is over, even if the function swallowed it.
        """
        try:
            self._armed = True
            result = function(*args)
        finally:
            self._armed = False
            with self._lock:
                if not self._by_signal:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
        if self.over:
            raise OutOfTime
        return result

    def _ring(self, number: int, _: Any) -> None:
        if not self.over:
            self.waited = number == signal.SIGALRM
        self.over = True
        if self._armed:
            raise OutOfTime

    def _watch(self) -> None:
        computing, waiting = time.process_time() + self.seconds, time.monotonic() + WAITING * self.seconds
        while not self._done.wait(AGAIN):
            if time.process_time() < computing and time.monotonic() < waiting:
                continue
            with self._lock:
                if not self.over:
                    self.waited = time.process_time() < computing
                self.over = True
                if self._armed:
                    raised = ctypes.py_object(OutOfTime)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), raised)
