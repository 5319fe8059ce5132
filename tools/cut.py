"""Cut the exercises out of the solutions: `python -m tools.cut [SOLUTION ...] [--check]`.

In a code cell of solutions/NN_name.ipynb, the lines from `# BEGIN SOLUTION` to `# END SOLUTION` are the answer.
The exercise has the stub in their place: the lines `# STUB <code>` right after BEGIN, or, where there are none, a
`raise NotImplementedError("<name> is not solved yet")`. A cell tagged `solution` is left out altogether.
"""

import argparse
import ast
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.cells import EXERCISES, SOLUTIONS, NotebookError, notebooks, read, short, tags, text, where, write
from tools.normalise import format_notebook, without_outputs

MARKER = re.compile(r"^(?P<indent>\s*)#\s*(?P<kind>BEGIN SOLUTION|END SOLUTION|STUB\b)(?P<rest>.*)$")
ANY_MARKER = re.compile(r"\b(?:BEGIN|END)[ _]+SOLUTION\b|^\s*#\s*STUB\b", re.IGNORECASE)
SHORTEST_LEAK = 20  # characters; a shorter line of an answer, such as `return x`, gives nothing away


@dataclass
class Answer:
    """One marked block: where it begins, what it is replaced by, and what must not be seen."""

    line: int
    indent: str
    stub: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def hidden(self) -> list[str]:
        """The lines that the exercise must not show: a bug hunt's stub shares some with its answer."""
        given = {line.strip() for line in self.stub}
        return [line for line in self.lines if line.strip() not in given]


def cut(solution: NotebookNode, path: Path) -> NotebookNode:
    """The exercise notebook for a solution notebook.

    Args:
        solution: the worked exercises; left as they are.
        path: where the solution lies.

    Raises:
        NotebookError: if a marker is stray, nested, missing, empty, misspelt or outside a code cell, or if a line of an
            answer can still be read in the exercise; all such places are named.
    """
    exercise = without_outputs(solution)
    exercise.metadata = nbformat.from_dict({})
    faults: list[str] = []
    answers: list[tuple[str, str]] = []
    kept = []
    for number, cell in enumerate(exercise.cells, start=1):
        if cell.cell_type == "code":
            lines, found = _cut_cell(cell.source, lambda line, n=number, c=cell: where(path, n, c, line), faults)
            answers += [(where(path, number, cell, a.line), line) for a in found for line in a.hidden()]
            cell.source = "\n".join(lines)
        else:
            for line, content in enumerate(cell.source.split("\n"), start=1):
                if ANY_MARKER.search(content):
                    faults.append(f"{where(path, number, cell, line)}: a marker outside a code cell")
        if "solution" in tags(cell):
            continue
        # The outputs that a tag asks nbval to compare, or to collapse, are gone.
        cell.metadata["tags"] = [tag for tag in tags(cell) if tag != "guess" and not tag.startswith("nbval-")]
        kept.append(cell)
    if faults:
        raise NotebookError("\n".join(faults))
    title = next((cell for cell in kept if cell.cell_type == "markdown" and cell.source.startswith("# ")), None)
    if title:
        title.source = re.sub(r"^# Solutions\b", "# Exercises", title.source)
    exercise.cells = kept
    exercise = format_notebook(exercise, path.resolve().parent.parent / EXERCISES / path.name)
    if leaks := _leaks(answers, exercise):
        raise NotebookError("\n".join(leaks))
    return exercise


def _cut_cell(source: str, place, faults: list[str]) -> tuple[list[str], list[Answer]]:
    """The cell's lines with stubs for answers, and the answers; what is wrong with the markers is added to faults."""
    kept: list[str] = []
    answers: list[Answer] = []
    answer: Answer | None = None
    for number, line in enumerate(source.split("\n"), start=1):
        marker = MARKER.match(line)
        if marker is None or (marker["kind"] != "STUB" and marker["rest"].strip()):
            if ANY_MARKER.search(line):
                faults.append(f"{place(number)}: a marker has a line of its own: # BEGIN SOLUTION or # END SOLUTION")
            elif answer is not None:
                answer.lines.append(line)
            else:
                kept.append(line)
        elif marker["kind"] == "BEGIN SOLUTION":
            if answer is not None:
                faults.append(f"{place(number)}: BEGIN SOLUTION inside the one from line {answer.line}")
            else:
                answer = Answer(number, marker["indent"])
        elif answer is None:
            faults.append(f"{place(number)}: {marker['kind']} without a BEGIN SOLUTION before it")
        elif marker["kind"] == "STUB":
            if answer.lines:
                faults.append(f"{place(number)}: STUB lines stand right after BEGIN SOLUTION, before the answer")
            answer.stub.append((answer.indent + marker["rest"].removeprefix(" ")).rstrip())
        else:
            if not any(map(_is_code, answer.lines)):
                faults.append(f"{place(answer.line)}: no answer between BEGIN SOLUTION and END SOLUTION")
            elif not answer.stub:
                name = _name_around(source, answer.line)
                if name is None:
                    faults.append(f"{place(answer.line)}: outside a function, the answer needs STUB lines")
                answer.stub = [f'{answer.indent}raise NotImplementedError("{name} is not solved yet")']
            kept += answer.stub
            answers.append(answer)
            answer = None
    if answer is not None:
        faults.append(f"{place(answer.line)}: BEGIN SOLUTION without an END SOLUTION after it")
    return kept, answers


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")


def _name_around(source: str, line: int) -> str | None:
    """The name of the outermost function or class that holds this line, which is the name that `check` is given."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno <= line <= node.end_lineno:
            return node.name
    return None


def _leaks(answers: list[tuple[str, str]], exercise: NotebookNode) -> list[str]:
    """Lines of answers that can still be read somewhere in the exercise."""
    visible = "\n".join([*(cell.source for cell in exercise.cells), json.dumps(exercise, ensure_ascii=False)])
    visible = " ".join(visible.split())
    return [
        f"{place}: this line of the answer can still be read in the exercise: {line.strip()}"
        for place, line in answers
        if len(line.strip()) >= SHORTEST_LEAK and " ".join(line.split()) in visible
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write the exercises of the named solutions, or of all; return 1 if one is at fault (with --check: not as cut)."""
    parser = argparse.ArgumentParser(prog="python -m tools.cut", description=__doc__)
    parser.add_argument("solutions", nargs="*", type=Path, help="default: all")
    parser.add_argument("--check", action="store_true", help="write nothing, say which exercises would change")
    options = parser.parse_args(arguments)
    failed = False
    for path in options.solutions or notebooks(SOLUTIONS):
        target = path.resolve().parent.parent / EXERCISES / path.name
        try:
            exercise = cut(read(path), path)
            if options.check:
                if not target.exists() or target.read_text(encoding="utf-8") != text(exercise):
                    raise NotebookError(f"{short(target)}: not what {short(path)} gives; run `make notebooks`")
            elif write(exercise, target):
                print(f"{short(target)}: written")
        except NotebookError as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
