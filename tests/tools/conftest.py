"""Tiny notebooks for the tools to work on."""

from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.cells import write


@pytest.fixture
def make(tmp_path: Path):
    """Write a notebook of a title and the given cells (str: code) in a course of its own; return its path."""

    def make(*cells: NotebookNode | str, path: str = "solutions/03_x.ipynb") -> Path:
        made = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        target = tmp_path / path
        write(new_notebook(cells=[new_markdown_cell("# Solutions: turning"), *made]), target)
        return target

    return make
