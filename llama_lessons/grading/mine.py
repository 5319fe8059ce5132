"""The learner's own package, `my_llama`: a file for each part that has passed its check.

A part that is not solved yet is copied in as the course's, and marked so, once somebody asks for it. The package is
plain Python, and works without this course.
"""

import datetime
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock, Timeout

from llama_lessons.settings import MINE

from . import records
from .engine import grade
from .exercise import Exercise, find_exercise
from .sources import CannotKeep, module_source, of_the_course

__all__ = ["PACKAGE", "PARTS", "BrokenPart", "complete", "folder", "keep", "load_package", "owners", "take"]

PACKAGE = "my_llama"
PARTS = (
    "rope_frequencies",
    "rope_tables",
    "apply_rope",
    "RMSNorm",
    "grouped_query_attention",
    "KVCache",
    "Attention",
    "SwiGLU",
    "Block",
    "Llama",
    "load",
)
YOURS, COURSES = "# Yours", "# The course's"
COURSE_FOLDER = Path(__file__).resolve().parents[2]


class BrokenPart(Exception):
    """A file of my_llama that Python cannot import, with what to do about it."""


def folder() -> Path:
    """Where my_llama lies: LLAMA_LESSONS_MINE, else beside the notebooks, else beside the file of the points."""
    if given := os.environ.get(MINE):
        return Path(given).expanduser()
    beside = COURSE_FOLDER if (COURSE_FOLDER / "exercises").is_dir() else records.path().parent
    return beside / PACKAGE


def owners() -> dict[str, str]:
    """By part, "yours", "the course's", or "missing"."""
    found = {}
    for part in PARTS:
        try:
            first = (folder() / f"{part}.py").read_text(encoding="utf-8")
        except (OSError, UnicodeError):
            first = ""
        found[part] = "missing" if not first else "the course's" if first.startswith(COURSES) else "yours"
    return found


def keep(exercise: Exercise, answer: Any) -> None:
    """Keep a right answer as the learner's own part, in place of the one before.

    Raises:
        CannotKeep: if it cannot stand in a file of its own, or the folder cannot be written.
    """
    name = exercise.name
    if of_the_course(answer):
        raise CannotKeep("it is the course's own")
    if str(answer.__module__).partition(".")[0] == PACKAGE:
        return  # it comes from there
    text = f"{YOURS}: check({name}) kept it on {datetime.date.today()}.\n" + module_source(answer, _sibling)
    with _locked() as place, _trial(place) as trial:
        (trial / f"{name}.py").write_text(text, encoding="utf-8")
        try:
            alone = getattr(_import_folder(trial, trial.name, (name,)), name)
        except BrokenPart as error:
            raise CannotKeep(f"in a file of its own it fails ({error.__cause__})") from None
        if not grade(exercise, alone, briefly=True).passed:
            raise CannotKeep("in a file of its own it gives other results: look for what it uses of other cells")
        _write(place, name, text)


def complete(names: tuple[str, ...] = PARTS) -> None:
    """Copy in the course's own for those of the named parts that are missing.

    Raises:
        CannotKeep: if the folder cannot be written.
    """
    for name, owner in owners().items():
        if name in names and owner == "missing":
            text = module_source(find_exercise(name).reference, _sibling)
            with _locked() as place:
                _write(place, name, f"{COURSES}, as long as {name} is not solved.\n{text}")


def take(*names: str) -> tuple[Any, ...]:
    """The named parts of my_llama as they are now, completed with the course's.

    Raises:
        ValueError: if there is no such part.
        BrokenPart: if a file of my_llama cannot be imported.
    """
    for name in names:
        if name not in PARTS:
            raise ValueError(f"my_llama has no part {name!r}; its parts are {', '.join(PARTS)}")
    complete(names)
    package = load_package()
    return tuple(getattr(package, name) for name in names)


def load_package() -> ModuleType:
    """Import my_llama anew, as its files are now; from then on `import my_llama` gives it too.

    Raises:
        BrokenPart: if one of its files cannot be imported.
    """
    place = folder()
    present = tuple(name for name, owner in owners().items() if owner != "missing")
    try:
        return _import_folder(place, PACKAGE, present)
    except BrokenPart:
        raise
    except Exception as error:
        raise BrokenPart(f"{place} cannot be imported: {type(error).__name__}: {error}") from error


def _sibling(name: str, value: Any) -> bool:
    """Whether a name that an answer uses is a part of its own, which lies in a file beside it."""
    if name not in PARTS:
        return False
    exercise = find_exercise(name)
    if exercise is not None and value is exercise.reference:
        complete((name,))
    return (folder() / f"{name}.py").exists()


def _import_folder(place: Path, package: str, names: tuple[str, ...]) -> ModuleType:
    """Import the files of a folder as a package of that name; whatever bore the name before is forgotten."""
    _forget(package)
    spec = importlib.util.spec_from_loader(package, None, is_package=True)
    spec.submodule_search_locations = [str(place)]
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # within a second, two versions may look alike
    try:
        importlib.invalidate_caches()
        for name in names:
            try:
                part = importlib.import_module(f"{package}.{name}")
                setattr(module, name, getattr(part, name))
            except Exception as error:
                where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
                raise BrokenPart(
                    f"{place / name}.py cannot be imported ({type(error).__name__}: {error}{where}). Delete the file, "
                    f"and run check({name}) again"
                ) from error
    finally:
        sys.dont_write_bytecode = writes
    return module


def _forget(package: str) -> None:
    for known in [known for known in sys.modules if known == package or known.startswith(f"{package}.")]:
        del sys.modules[known]


@contextmanager
def _locked() -> Iterator[Path]:
    """The folder, made if need be, for one process at a time."""
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".lock", timeout=10):
            yield place
    except (OSError, Timeout) as error:
        raise CannotKeep(f"{place} cannot be written ({error}). LLAMA_LESSONS_MINE names another folder") from None


@contextmanager
def _trial(place: Path) -> Iterator[Path]:
    """A copy of the folder, to try a new part in."""
    with tempfile.TemporaryDirectory(prefix=f"{PACKAGE}_") as scratch:
        for part in PARTS:
            if (place / f"{part}.py").exists():
                shutil.copy(place / f"{part}.py", scratch)
        try:
            yield Path(scratch)
        finally:
            _forget(Path(scratch).name)


def _write(place: Path, name: str, text: str) -> None:
    """Put a part in its place in one step, and name it in the package."""
    _replace(place / f"{name}.py", text)
    present = [part for part in PARTS if (place / f"{part}.py").exists()]
    lines = [f"from .{part} import {part}" for part in present]
    head = '"""Your own Llama, a file for each part. Those that begin with "The course\'s" are not solved yet."""'
    exports = ", ".join(f'"{part}"' for part in present)
    _replace(place / "__init__.py", "\n".join([head, "", *lines, "", f"__all__ = [{exports}]", ""]))


def _replace(file: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
