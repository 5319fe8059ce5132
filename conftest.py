"""Settings for every test, those in notebooks included."""

import os
import tempfile
from pathlib import Path

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    # One thread each, in kernels too: threads of several workers on the same cores mostly wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Keep the progress of whoever runs the tests out of them, and that of one worker out of another's."""
    if IS_WORKER or "LLAMA_LESSONS_PROGRESS" not in os.environ:
        os.environ["LLAMA_LESSONS_PROGRESS"] = str(Path(tempfile.mkdtemp()) / "progress.json")
