"""Report what the grader catches: `python -m tools.grader_report [LESSON ...]`, or `make grader-report`.

Two things are tried on every exercise: its named misconceptions, each of which must be rejected under its own name,
and its solution with one small mechanical change (a mutant), which must be rejected, whatever is said about it.
"""

import argparse
import ast
import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from llama_lessons.grading import exercises  # noqa: F401  (fills the registry)
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY, Exercise, catalogued, lessons
from tools.cells import SOLUTIONS, NotebookError, notebooks, read, short
from tools.equivalent import EQUIVALENT

MUTANT_SECONDS = 3.0
NAMED_TARGET, MECHANICAL_TARGET = 1.0, 1.0


@dataclass(frozen=True)
class Solution:
    """The answer to an exercise as its solution notebook gives it: the function or class, and what it needs."""

    name: str
    source: str
    surroundings: str

    def function(self, source: str | None = None) -> Callable[..., Any]:
        """The function made from its own source, or from a changed one."""
        names: dict[str, Any] = {"__name__": "solution"}
        with redirect_stdout(None):  # a part of my_llama says whose it is
            exec(compile(self.surroundings, "<surroundings>", "exec"), names)
        exec(compile(source or self.source, "<solution>", "exec"), names)
        return names[self.name]


def solutions() -> dict[str, Solution]:
    """The answers in all solution notebooks, by exercise.

    Raises:
        NotebookError: if a notebook answers an exercise of another lesson.
    """
    found = {}
    for path in notebooks(SOLUTIONS):
        cells = [cell for cell in read(path).cells if cell.cell_type == "code" and cell.metadata.get("name") != "setup"]
        nodes = [node for cell in cells for node in ast.parse(cell.source).body if _defines(node)]
        surroundings = "\n".join(map(ast.unparse, nodes))
        for cell in cells:
            for node in ast.parse(cell.source).body if "# BEGIN SOLUTION" in cell.source else ():
                if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name not in REGISTRY:
                    continue
                # What the cell has beside its answer may be called like an exercise of another lesson.
                if REGISTRY[node.name].lesson == path.stem:
                    found[node.name] = Solution(node.name, ast.unparse(_bare(node)), surroundings)
                elif "# BEGIN SOLUTION" in "\n".join(cell.source.splitlines()[node.lineno - 1 : node.end_lineno]):
                    raise NotebookError(f"{short(path)}: {node.name} belongs to {REGISTRY[node.name].lesson}")
    return found


def _defines(node: ast.stmt) -> bool:
    """Whether a statement of a cell only makes names known: an import, a function or class, a plain constant."""
    if isinstance(node, ast.Assign):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def _bare(answer: ast.FunctionDef | ast.ClassDef) -> ast.FunctionDef | ast.ClassDef:
    """The answer without docstrings, annotations and texts of exceptions, which no verdict depends on."""
    answer = copy.deepcopy(answer)
    for node in ast.walk(answer):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
    return answer


# ------------------------------------------------------------------------------------------- the mutants

OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add, ast.Mult),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Mult, ast.Mod),
    ast.Mod: (ast.FloorDiv, ast.Mult),
    ast.Pow: (ast.Mult, ast.Div),
    ast.MatMult: (ast.Mult,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
NAMES = {"cos": "sin", "float32": "float64", "all": "any", "min": "max", "sum": "mean", "zeros": "ones", "cat": "stack"}
NAMES |= {other: name for name, other in NAMES.items()}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Each source that differs from `source` by one small change, and the line that the change is seen in."""
    original = ast.unparse(ast.parse(source))
    seen = {original}
    for position, node in enumerate(ast.walk(ast.parse(source))):
        for number in range(len(_changes(node))):
            tree = ast.parse(source)
            old = next(n for i, n in enumerate(ast.walk(tree)) if i == position)
            mutated = ast.unparse(ast.fix_missing_locations(_Replace(old, _changes(old)[number]).visit(tree)))
            if mutated not in seen:
                seen.add(mutated)
                yield mutated, _changed_line(original, mutated)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().generic_visit(node)


def _changed_line(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    differs = [i for i, line in enumerate(new) if i >= len(old) or line != old[i]]
    return new[differs[0]].strip() if differs else new[-1].strip()


def _changes(node: ast.AST) -> list[ast.AST]:
    """The nodes that may stand in place of `node`."""
    change = {
        ast.BinOp: _binary_operations,
        ast.BoolOp: _conditions,
        ast.Compare: _comparisons,
        ast.UnaryOp: lambda n: [n.operand],
        ast.Constant: _constants,
        ast.If: lambda n: [ast.Pass(), _with(n, test=_not(n.test))],
        ast.IfExp: lambda n: [n.body, n.orelse],
        ast.While: lambda n: [ast.Pass()],
        ast.For: lambda n: [ast.Pass()],
        ast.Call: _calls,
        ast.Slice: _slices,
        ast.Tuple: _orders,
        ast.List: _orders,
        ast.Attribute: lambda n: [_with(n, attr=NAMES[n.attr])] if n.attr in NAMES else [],
        ast.Name: lambda n: [_with(n, id=NAMES[n.id])] if n.id in NAMES else [],
        ast.Assign: lambda n: [ast.Pass()],
        ast.AugAssign: lambda n: [ast.Pass(), ast.Assign(targets=[n.target], value=n.value)],
        ast.Expr: lambda n: [ast.Pass()],
        ast.Raise: lambda n: [ast.Pass()],
        ast.Return: lambda n: [ast.Pass()],
    }.get(type(node))
    return change(node) if change else []


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    """A copy of the node with some fields changed."""
    node = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def _not(node: ast.expr) -> ast.expr:
    return ast.UnaryOp(op=ast.Not(), operand=node)


def _binary_operations(node: ast.BinOp) -> list[ast.AST]:
    changed = [_with(node, op=op()) for op in OPERATORS.get(type(node.op), ())] + [node.left, node.right]
    if not isinstance(node.op, ast.Add | ast.Mult):
        changed.append(_with(node, left=node.right, right=node.left))
    return changed


def _conditions(node: ast.BoolOp) -> list[ast.AST]:
    return [_with(node, op=op()) for op in OPERATORS[type(node.op)]] + node.values


def _comparisons(node: ast.Compare) -> list[ast.AST]:
    return [_with(node, ops=[op(), *node.ops[1:]]) for op in OPERATORS[type(node.ops[0])]]


def _constants(node: ast.Constant) -> list[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        others = [not value]
    elif isinstance(value, int):
        others = [value + 1, value - 1, 0, 1]
    elif isinstance(value, float):
        others = [2 * value, value + 1, 0.0]
    elif isinstance(value, str):
        others = ["other"]
    else:
        others = []
    return [ast.Constant(other) for other in others if other != value]


def _calls(node: ast.Call) -> list[ast.AST]:
    """Drop a method call, an argument or a keyword; exchange the first two arguments; take the argument itself."""
    changed: list[ast.AST] = []
    if isinstance(node.func, ast.Attribute):
        changed.append(node.func.value)
    if node.args:
        changed += [node.args[0], _with(node, args=node.args[:-1])]
    if len(node.args) > 1:
        changed.append(_with(node, args=[node.args[1], node.args[0], *node.args[2:]]))
    changed += [_with(node, keywords=[k for k in node.keywords if k is not dropped]) for dropped in node.keywords]
    return changed


def _slices(node: ast.Slice) -> list[ast.AST]:
    exchanged = _with(node, lower=node.upper, upper=node.lower)
    return [exchanged, *(_with(node, **{part: None}) for part in ("lower", "upper", "step") if getattr(node, part))]


def _orders(node: ast.Tuple | ast.List) -> list[ast.AST]:
    if len(node.elts) < 2:
        return []
    first, second, *others = node.elts
    return [_with(node, elts=[second, first, *others])]


# -------------------------------------------------------------------------------------------- the report


@dataclass
class Row:
    """What was caught of one exercise."""

    exercise: str
    misconceptions: int = 0
    named: int = 0
    mutants: int = 0
    killed: int = 0
    equivalent: dict[str, str] = field(default_factory=dict)
    survivors: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    @property
    def counted(self) -> int:
        """Mutants that a test could tell from the solution."""
        return self.killed + len(self.survivors)


def examine(exercise: Exercise, solution: Solution, mutants_only: bool = False) -> Row:
    """Try all mutants, and misconceptions, of one exercise."""
    row = Row(exercise.name)
    for misconception in () if mutants_only else exercise.misconceptions:
        verdict = grade(exercise, misconception.make())
        row.misconceptions += 1
        if verdict.mistake and (verdict.mistake.name, verdict.mistake.sure) == (misconception.name, True):
            row.named += 1
        else:
            row.unnamed.append(misconception.name)
    changed = list(mutants(solution.source))
    for source, line in tqdm(changed, desc=exercise.name, unit="mutant", leave=False, disable=None):
        row.mutants += 1
        if is_killed(exercise, solution, source):
            row.killed += 1
        elif (exercise.name, line) in EQUIVALENT:
            row.equivalent[line] = EQUIVALENT[exercise.name, line]
        else:
            row.survivors.append(line)
    return row


def is_killed(exercise: Exercise, solution: Solution, source: str) -> bool:
    """Whether the exercise tells a mutant from the solution; the first property that does is enough."""
    try:
        function = solution.function(source)
    except Exception:  # such as a default value that cannot be computed
        return True
    return not grade(exercise, function, seconds=MUTANT_SECONDS, briefly=True).passed


def report(names: Sequence[str], mutants_only: bool = False) -> list[Row]:
    """One row for each exercise of these names.

    Raises:
        NotebookError: if an exercise has no solution, or a solution does not pass.
    """
    found = solutions()
    if missing := [name for name in names if name not in found]:
        raise NotebookError(f"no solution notebook answers {', '.join(missing)}")
    rows = []
    for name, exercise in ((name, REGISTRY[name]) for name in names):
        if not grade(exercise, found[name].function()).passed:
            raise NotebookError(f"the solution of {name} does not pass")
        rows.append(examine(exercise, found[name], mutants_only))
    return rows


def shares(rows: list[Row]) -> tuple[float, float]:
    """The share of misconceptions that are named, and of mutants that are killed; 1 where none was tried."""
    named, misconceptions = sum(row.named for row in rows), sum(row.misconceptions for row in rows)
    killed, counted = sum(row.killed for row in rows), sum(row.counted for row in rows)
    return named / misconceptions if misconceptions else 1.0, killed / counted if counted else 1.0


def table(rows: list[Row]) -> str:
    """The rows as text, with survivors and equivalent mutants below."""
    lines = [f"{'exercise':<24} {'named':>9} {'mutants killed':>16} {'equivalent':>11}"]
    for row in rows:
        named, killed = f"{row.named} of {row.misconceptions}", f"{row.killed} of {row.counted}"
        lines.append(f"{row.exercise:<24} {named:>9} {killed:>16} {len(row.equivalent):>11}")
    named, killed = shares(rows)
    lines += ["", f"named {named:.1%} (asked for: {NAMED_TARGET:.0%}), mutants killed {killed:.1%} "
              f"(asked for: {MECHANICAL_TARGET:.0%})"]  # fmt: skip
    for title, items in (
        ("Not named", [f"{row.exercise}: {name}" for row in rows for name in row.unnamed]),
        ("Survivors", [f"{row.exercise}: {line}" for row in rows for line in row.survivors]),
        (
            "Equivalent",
            [f"{row.exercise}: {line}\n      {why}" for row in rows for line, why in row.equivalent.items()],
        ),
    ):
        if items:
            lines += ["", f"{title}:", *(f"  {item}" for item in items)]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the report; return 1 if too little is named or killed."""
    parser = argparse.ArgumentParser(prog="python -m tools.grader_report", description=__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="such as 03_rope; default: all lessons")
    parser.add_argument("--mutants-only", action="store_true", help="try no misconceptions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    options = parser.parse_args(arguments)
    known = lessons()
    if unknown := [lesson for lesson in options.lessons if lesson not in known]:
        parser.error(f"no lesson {', '.join(unknown)} has exercises; there are {', '.join(known)}")
    try:
        names = [exercise.name for lesson in options.lessons or known for exercise in known[lesson]]
        rows = report([name for name in names if name in catalogued()], options.mutants_only)
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(rows))
    named, killed = shares(rows)
    if options.json:
        options.json.write_text(
            json.dumps({"named": named, "killed": killed, "exercises": [asdict(row) for row in rows]}, indent=1) + "\n"
        )
    return int(named < NAMED_TARGET or killed < MECHANICAL_TARGET)


if __name__ == "__main__":
    sys.exit(main())
