"""The two cells that every notebook begins with, written from one place: the Colab badge and the setup cell."""

import re
import tomllib
from functools import cache
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from tools.cells import ROOT, NotebookError

# What the setup cell leaves alone, since Colab brings it; above all it must not touch torch and numpy, which the
# running kernel already holds.
LEFT_ALONE = {"torch", "numpy", "matplotlib", "ipython", "ipywidgets", "nbclient", "nbformat", "jinja2"}

SETUP = """\
# Setup: finds the course. Run this cell first; running it again does no harm.
# On Colab it fetches the course, and the small packages that Colab lacks; torch and numpy stay as they are.
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = os.environ.get("LLAMA_LESSONS_REPOSITORY", "{repository}")
PACKAGES = {packages}
ON_COLAB = bool(find_spec("google") and find_spec("google.colab"))


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        reason = (result.stderr.strip() or "no reason given").splitlines()[-1]
        raise RuntimeError(f"`{{' '.join(command)}}` failed: {{reason}}. Check the network, then run this cell again.")


if not find_spec("llama_lessons"):
    course = next((f for f in (Path.cwd(), *Path.cwd().parents) if (f / "llama_lessons/__init__.py").exists()), None)
    if not course and ON_COLAB:
        course = Path("llama-lessons").resolve()
        # git writes .git/index last: a clone without it was cut short.
        if not all((course / part).exists() for part in (".git/index", "llama_lessons/__init__.py")):
            with tempfile.TemporaryDirectory(dir=".") as scratch:
                run("git", "clone", "--quiet", "--depth=1", REPOSITORY, f"{{scratch}}/new")
                if course.exists():
                    course.rename(tempfile.mkdtemp(prefix="llama-lessons-old-", dir="."))
                Path(scratch, "new").rename(course)
    if course:
        sys.path.insert(0, str(course))

missing = [name for name in ["llama_lessons", *PACKAGES] if not find_spec(name.split(">=")[0])]
if "llama_lessons" in missing or (missing and not ON_COLAB):
    raise RuntimeError(f"Not installed here: {{', '.join(missing)}}. Run `make lab` in the course's folder instead.")
if missing:
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *missing)"""


@cache
def project() -> dict:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def setup_source() -> str:
    """The code of the setup cell."""
    small = [spec for spec in project()["dependencies"] if re.split(r"\W", spec)[0] not in LEFT_ALONE]
    packages = "[" + ", ".join(f'"{spec}"' for spec in small) + "]"
    return SETUP.format(repository=project()["urls"]["Repository"], packages=packages)


def badge_source(path: Path) -> str:
    """The Markdown of the badge that opens this notebook on Colab."""
    repository = project()["urls"]["Repository"].removeprefix("https://github.com/")
    target = f"https://colab.research.google.com/github/{repository}/blob/main/{path.resolve().parent.name}/{path.name}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({target})"


def write_setup(nb: NotebookNode, path: Path) -> None:
    """Put the badge first and the setup cell after the title, or where the author put a code cell named "setup".

    Raises:
        NotebookError: if the notebook does not begin with a title.
    """
    cells = [cell for cell in nb.cells if cell.metadata.get("name") != "badge"]
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        raise NotebookError(f"{path}: the first cell must be Markdown and begin with the title: # ...")
    setup = next((cell for cell in cells if cell.metadata.get("name") == "setup"), None)
    if setup is None:
        setup = new_code_cell(metadata={"name": "setup"})
        cells.insert(1, setup)
    setup.source = setup_source()
    nb.cells = [new_markdown_cell(badge_source(path), metadata={"name": "badge"}), *cells]
