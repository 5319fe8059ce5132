"""Settings for every test, those in notebooks included."""

import os
import tempfile
from pathlib import Path


def pytest_configure() -> None:
    """Keep the progress of whoever runs the tests out of them."""
    os.environ.setdefault("LLAMA_LESSONS_PROGRESS", str(Path(tempfile.mkdtemp()) / "progress.json"))
