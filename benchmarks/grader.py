"""Time of a verdict: what a learner waits after running `check`.

    python -m benchmarks.grader [--json FILE]

For each exercise the right answer, and the misconception that takes longest: a wrong answer is also compared with
every misconception. The first verdict of a process, which warms torch up, is listed apart.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from llama_lessons.grading import exercises  # noqa: F401  (fills the registry)
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY, Exercise
from llama_lessons.grading.report import verdict_html, verdict_text

ROUNDS = 7


def seconds(exercise: Exercise, function: Callable) -> float:
    """Seconds of one verdict, words included."""
    start = time.perf_counter()
    verdict = grade(exercise, function)
    verdict_text(verdict), verdict_html(verdict)
    return time.perf_counter() - start


def median(exercise: Exercise, function: Callable) -> float:
    return statistics.median(seconds(exercise, function) for _ in range(ROUNDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    first = seconds(REGISTRY["apply_rope"], REGISTRY["apply_rope"].reference)
    print(f"first verdict of a process: {first * 1e3:.0f} ms")
    print(f"{'exercise':<26}{'right, ms':>10}{'wrong, ms':>11}   slowest misconception")
    results = []
    for exercise in REGISTRY.values():
        right = median(exercise, exercise.reference)
        wrong = {m.name: median(exercise, m.make()) for m in exercise.misconceptions}
        slowest = max(wrong, key=wrong.get)
        results.append({"exercise": exercise.name, "right": right, "wrong": wrong})
        print(f"{exercise.name:<26}{right * 1e3:>10.1f}{wrong[slowest] * 1e3:>11.1f}   {slowest}")
    every = sorted(time for result in results for time in (result["right"], *result["wrong"].values()))
    middle, most = (1e3 * q for q in (statistics.median(every), statistics.quantiles(every, n=20)[-1]))
    print(f"{len(every)} verdicts: median {middle:.0f} ms, 95 % in {most:.0f} ms, largest {every[-1] * 1e3:.0f} ms")
    if arguments.json:
        about = {"machine": platform.machine(), "torch": torch.__version__, "python": platform.python_version()}
        figures = {"first": first, "results": results}
        arguments.json.write_text(json.dumps(about | figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
