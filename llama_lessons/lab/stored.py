"""Results of long runs, kept as data together with the run that made them."""

import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llama_lessons.settings import FULL

__all__ = ["stored"]

FOLDER = Path(__file__).with_name("results")


def stored(name: str, run: Callable[[], Any]) -> Any:
    """What `run` returned when it was last run; or run it now, and keep what it returns.

    It is run if the environment's LLAMA_LESSONS_FULL is 1, for all results, or holds this one's name, as in
    LLAMA_LESSONS_FULL=thread. Prints which of the two happened, and when the result was made.

    Args:
        name: of the result, and of its file.
        run: returns what JSON can hold: dictionaries with keys that are strings, lists, numbers, strings.

    Raises:
        ValueError: if no result of that name is kept, and it is not to be run.
    """
    path = FOLDER / f"{name}.json"
    runs = bool({"1", name} & set(os.environ.get(FULL, "").split(",")))
    if runs:
        started, threads = time.perf_counter(), torch.get_num_threads()
        result = run()
        made = {
            "date": datetime.date.today().isoformat(),
            "minutes": round((time.perf_counter() - started) / 60, 1),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {threads} thread{'s' * (threads > 1)}",
        }
        path.parent.mkdir(exist_ok=True)
        whole = path.with_suffix(".part")
        whole.write_text(json.dumps({"made": made, "result": result}, indent=1) + "\n", encoding="utf-8")
        whole.replace(path)  # in one step, so that Ctrl-C leaves no half file
        print(f"Run just now in {made['minutes']:g} minutes, and kept in {path.name}.")
    elif not path.exists():
        raise ValueError(f"no result {name!r} is kept: set {FULL}={name} before you start Python, to make it")
    kept = json.loads(path.read_text(encoding="utf-8"))
    made = kept["made"]
    if not runs:
        print(
            f"Stored result of {made['date']} ({made['minutes']:g} minutes, torch {made['torch']}, {made['machine']}). "
            f"Set {FULL}={name} to run it again."
        )
    return kept["result"]
