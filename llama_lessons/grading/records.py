"""Points and hints kept between kernels, in one small JSON file."""

import json
import os
import tempfile
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_data_path

from llama_lessons.settings import PROGRESS

from .exercise import find_exercise

__all__ = ["Record", "load", "path", "update"]


@dataclass(frozen=True)
class Record:
    """What is kept of one exercise: the best points ever, whether it was ever right, tries, hints read."""

    points: int = 0
    passed: bool = False
    attempts: int = 0
    hints: int = 0


def path() -> Path:
    """Where progress is kept: LLAMA_LESSONS_PROGRESS, else the user's data folder."""
    given = os.environ.get(PROGRESS)
    return Path(given).expanduser() if given else user_data_path("llama-lessons") / "progress.json"


def load() -> dict[str, Record]:
    """Records by exercise. A file that cannot be read is set aside under another name, with a warning."""
    records = {name: _record(name, value) for name, value in _read()["exercises"].items()}
    return {name: record for name, record in records.items() if record is not None}


def update(name: str, *, points: int = 0, passed: bool = False, attempts: int = 0, hints: int = 0) -> Record:
    """Keep the best points, add tries and hints; return what is now kept of exercise `name`.

    Safe when several kernels do it at once. Where nothing can be written it warns and goes on: a verdict
    matters more than its record.
    """
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=10):
            whole = _read()
            value = whole["exercises"].get(name)
            old = _record(name, value) or Record()
            new = Record(
                points=max(old.points, points),
                passed=old.passed or passed,
                attempts=old.attempts + attempts,
                hints=old.hints + hints,
            )
            whole["exercises"][name] = (value if isinstance(value, dict) else {}) | asdict(new)
            _write(file.resolve(), whole)  # what a link leads to, not the link
            return new
    except OSError as error:  # filelock's Timeout is one too
        warnings.warn(f"progress could not be kept in {file}: {error}", stacklevel=3)
        return Record(points, passed, attempts, hints)


def _read() -> dict[str, Any]:
    """The whole file, with what a newer version may have put into it."""
    file = path()
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(whole["exercises"], dict):
            raise TypeError("its exercises are no object")
        return whole
    except FileNotFoundError:
        return {"exercises": {}}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _set_aside(file, error)
        return {"exercises": {}}


def _record(name: str, value: Any) -> Record | None:
    """The record of an exercise, its numbers within their range; None for what is no record."""
    exercise = find_exercise(name)
    try:
        known = {field.name: value[field.name] for field in fields(Record) if field.name in value}
        passed = known.pop("passed", False)
        numbers = {key: max(int(number), 0) for key, number in known.items()}
        record = Record(**numbers, passed=passed is True)
    except (TypeError, ValueError, OverflowError):
        return None
    most = exercise.points if exercise else record.points
    return Record(min(record.points, most), record.passed, record.attempts, record.hints)


def _write(file: Path, whole: dict[str, Any]) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(whole, indent=1) + "\n")
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _set_aside(file: Path, error: Exception) -> None:
    number = 1
    while (aside := file.with_name(f"{file.stem}.unreadable-{number}{file.suffix}")).exists():
        number += 1
    try:
        os.replace(file, aside)
        where = f"it was set aside as {aside}, and a new one begins"
    except OSError:
        where = "it could not be moved out of the way either"
    warnings.warn(f"the progress file {file} cannot be read ({error}); {where}", stacklevel=5)
