"""Finds the calls of `check` in notebooks."""

import ast

import pytest
from nbformat import NotebookNode


def checked(cell: NotebookNode) -> list[str]:
    """The names that this cell hands to `check`."""
    if cell.cell_type != "code" or cell.source.lstrip().startswith(("%", "!")):
        return []
    calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    return [
        ast.unparse(call.args[0])
        for call in calls
        if call.args and ast.unparse(call.func) in ("check", "grading.check", "llama_lessons.grading.check")
    ]


@pytest.fixture(name="checked")
def checked_fixture():
    return checked
