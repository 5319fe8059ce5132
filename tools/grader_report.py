"""Report what the grader catches: `python -m tools.grader_report [--json FILE]`, or `make grader-report`.

Two things are tried on every exercise: its named misconceptions, each of which must be rejected under its own name,
and its solution with one small mechanical change (a mutant), which must be rejected, whatever is said about it.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llama_lessons.grading import exercises  # noqa: F401  (fills the registry)
from llama_lessons.grading.exercise import REGISTRY
from tools.cells import SOLUTIONS, notebooks, read


@dataclass(frozen=True)
class Solution:
    """The answer to an exercise as its solution notebook gives it: the function, and what it needs from other cells."""

    name: str
    source: str
    surroundings: str

    def function(self, source: str | None = None) -> Callable[..., Any]:
        """The function made from its own source, or from a changed one."""
        names: dict[str, Any] = {"__name__": "solution"}
        exec(compile(self.surroundings, "<surroundings>", "exec"), names)
        exec(compile(source or self.source, "<solution>", "exec"), names)
        return names[self.name]


def solutions() -> dict[str, Solution]:
    """The answers in all solution notebooks, by exercise."""
    found = {}
    for path in notebooks(SOLUTIONS):
        cells = [cell for cell in read(path).cells if cell.cell_type == "code" and cell.metadata.get("name") != "setup"]
        nodes = [node for cell in cells for node in ast.parse(cell.source).body if _defines(node)]
        surroundings = "\n".join(map(ast.unparse, nodes))
        for cell in cells:
            if "# BEGIN SOLUTION" not in cell.source:
                continue
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef) and node.name in REGISTRY:
                    found[node.name] = Solution(node.name, ast.unparse(node), surroundings)
    return found


def _defines(node: ast.stmt) -> bool:
    """Whether a statement of a cell only makes names known: an import, a function or class, a plain constant."""
    if isinstance(node, ast.Assign):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
