"""Take the figures, print them as one table, and keep them: in results.json, and in the README's table.

    python -m benchmarks [NAME ...]

With names, such as rope or decoding, only those are taken anew; the others stay, with the day and the machine that they
were taken on. The grader's times are apart: python -m benchmarks.grader
"""

import argparse
import datetime
import importlib
import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from tqdm.auto import tqdm

from benchmarks.side_by_side import THREADS
from benchmarks.table import markdown, put_into_readme

NAMES = ("rope", "training", "decoding", "four_bits", "loading", "learning")
RESULTS = Path(__file__).with_name("results.json")
README = Path(__file__).parent.parent / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; all without it")
    names = parser.parse_args().names or list(NAMES)
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(NAMES)}")
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in (bar := tqdm(names, unit="benchmark")):
        bar.set_postfix_str(name)
        results[name] = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{_processor()}, {THREADS} threads",
            "versions": {"python": platform.python_version()}
            | {module.__name__: module.__version__ for module in (torch, transformers)},
            "rows": [asdict(row) for row in importlib.import_module(f"benchmarks.{name}").rows()],
        }
        # After each one, so that Ctrl-C in a later one loses nothing.
        results = {known: results[known] for known in NAMES if known in results}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        README.write_text(put_into_readme(README.read_text(encoding="utf-8"), results), encoding="utf-8")
    print(markdown({name: results[name] for name in names}))


def _processor() -> str:
    # platform.processor() is empty or "x86_64" on Linux.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
