"""The two cells that every notebook begins with, written from one place: the link to Colab and the setup cell."""

import tomllib
from functools import cache
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from tools.cells import ROOT, NotebookError

# pip leaves alone what Colab has and the ranges of pyproject.toml allow, above all torch, which the kernel may hold.
SETUP = """\
# @title Setup: run this cell first; running it again does no harm
import os
from importlib.util import find_spec

if not find_spec("llama_lessons") and os.environ.keys() & {{"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"}}:
    %pip install -q "git+{repository}"
if not find_spec("llama_lessons"):
    raise RuntimeError("No llama_lessons here: run `make lab` in the course's folder; on Colab, run this again.")"""


@cache
def repository() -> str:
    """Where the course is fetched from, as pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def setup_source() -> str:
    """The code of the setup cell."""
    return SETUP.format(repository=repository())


def colab_source(path: Path) -> str:
    """The Markdown that opens this notebook on Colab: words, since a badge is a broken picture without a network."""
    name = repository().removeprefix("https://github.com/")
    target = f"https://colab.research.google.com/github/{name}/blob/main/{path.resolve().parent.name}/{path.name}"
    return f"[Open in Colab]({target})"


def write_setup(nb: NotebookNode, path: Path) -> None:
    """Put the link first and the setup cell after the title, or where the author put a code cell named "setup".

    Raises:
        NotebookError: if the notebook does not begin with a title.
    """
    cells = [cell for cell in nb.cells if cell.metadata.get("name") != "colab"]
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        raise NotebookError(f"{path}: the first cell must be Markdown and begin with the title: # ...")
    setup = next((cell for cell in cells if cell.metadata.get("name") == "setup"), None)
    if setup is None:
        setup = new_code_cell(metadata={"name": "setup"})
        cells.insert(1, setup)
    setup.source = setup_source()
    nb.cells = [new_markdown_cell(colab_source(path), metadata={"name": "colab"}), *cells]
