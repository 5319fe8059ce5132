"""Finds the calls of `check` in notebooks."""

import ast

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode


def checked(cell: NotebookNode) -> list[str]:
    """The names that this cell hands to `check`."""
    if cell.cell_type != "code":
        return []
    python = TransformerManager().transform_cell(cell.source)  # %pip and the like
    calls = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)]
    return [
        ast.unparse(call.args[0])
        for call in calls
        if call.args and ast.unparse(call.func) in ("check", "grading.check", "llama_lessons.grading.check")
    ]


@pytest.fixture(name="checked")
def checked_fixture():
    return checked
