"""Settings for every test, those in notebooks included."""

import os
import tempfile
from pathlib import Path

import pytest

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    # One thread each, in kernels too: threads of several workers on the same cores mostly wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Keep what whoever runs the tests has solved out of them, and what one worker solves out of another's."""
    for variable, place in (("LLAMA_LESSONS_PROGRESS", "progress.json"), ("LLAMA_LESSONS_MINE", "my_llama")):
        if IS_WORKER or variable not in os.environ:
            os.environ[variable] = str(Path(tempfile.mkdtemp()) / place)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this torch cannot do on this Python."""
    compiling = [item for item in items if item.get_closest_marker("compile")]
    if compiling:
        from torch._dynamo import is_dynamo_supported

        if not is_dynamo_supported():
            for item in compiling:
                item.add_marker(pytest.mark.skip(reason="torch.compile is not supported on this Python"))


@pytest.fixture(autouse=True)
def _nothing_compiled_before(request: pytest.FixtureRequest) -> None:
    """Begin with nothing compiled: torch gives up on code that other tests had it compile in many ways."""
    if request.node.get_closest_marker("compile"):
        import torch

        torch._dynamo.reset()
