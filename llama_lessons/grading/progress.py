"""Points and hints kept between kernels, in one small JSON file."""

import json
import os
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_data_path

__all__ = ["Record", "load", "path", "update"]

VARIABLE = "LLAMA_LESSONS_PROGRESS"


@dataclass(frozen=True)
class Record:
    """What is kept of one exercise: the best points ever, whether it was ever right, tries, hints read."""

    points: float = 0.0
    passed: bool = False
    attempts: int = 0
    hints: int = 0


def path() -> Path:
    """Where progress is kept: LLAMA_LESSONS_PROGRESS, else the user's data folder."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else user_data_path("llama-lessons") / "progress.json"


def load() -> dict[str, Record]:
    """Records by exercise. A file that cannot be read is set aside under another name, with a warning."""
    file = path()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        return _set_aside(file, error)
    try:
        return {name: _record(value) for name, value in json.loads(text)["exercises"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _set_aside(file, error)


def update(name: str, *, points: float = 0.0, passed: bool = False, attempts: int = 0, hints: int = 0) -> Record:
    """Keep the best points, add tries and hints; return what is now kept of exercise `name`.

    Safe when several kernels do it at once. Where nothing can be written it warns and goes on: a verdict
    matters more than its record.
    """
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=10):
            records = load()
            old = records.get(name, Record())
            records[name] = Record(
                points=max(old.points, points),
                passed=old.passed or passed,
                attempts=old.attempts + attempts,
                hints=old.hints + hints,
            )
            _write(file, records)
            return records[name]
    except OSError as error:  # filelock's Timeout is one too
        warnings.warn(f"progress could not be kept in {file}: {error}", stacklevel=3)
        return Record(points, passed, attempts, hints)


def _record(value: dict) -> Record:
    record = Record(**value)
    if not (
        isinstance(record.points, (int, float))
        and isinstance(record.passed, bool)
        and isinstance(record.attempts, int)
        and isinstance(record.hints, int)
    ):
        raise TypeError(f"not a record: {value}")
    return record


def _write(file: Path, records: dict[str, Record]) -> None:
    text = json.dumps({"exercises": {name: asdict(record) for name, record in records.items()}}, indent=1)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _set_aside(file: Path, error: Exception) -> dict[str, Record]:
    number = 1
    while (aside := file.with_name(f"{file.stem}.unreadable-{number}{file.suffix}")).exists():
        number += 1
    try:
        os.replace(file, aside)
        where = f"it was set aside as {aside}, and a new one begins"
    except OSError:
        where = "it could not be moved out of the way either"
    warnings.warn(f"the progress file {file} cannot be read ({error}); {where}", stacklevel=4)
    return {}
