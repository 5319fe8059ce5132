"""The source of an answer as a module of its own: its definition, the helpers that it calls, and its imports."""

import ast
import builtins
import importlib
import inspect
import linecache
import symtable
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch

__all__ = ["CannotKeep", "module_source", "of_the_course"]

COURSE = __name__.partition(".")[0]
# Where a name is imported from if several modules have it: the one that people write
FAMILIAR = ("torch", "torch.nn", "math", "typing", "collections.abc", "collections", "dataclasses", "functools")


class CannotKeep(ValueError):
    """Why an answer cannot stand in a file of its own."""


def of_the_course(value: Any) -> bool:
    """Whether a function or class is this package's own."""
    return str(getattr(value, "__module__", "")).partition(".")[0] == COURSE


def module_source(answer: Any, sibling: Callable[[str, Any], bool]) -> str:
    """What has to stand in a file so that it defines `answer`, and needs neither the notebook nor this package.

    Args:
        answer: a function or class.
        sibling: says of a name and its value whether a module of that name lies beside this one, to import it from.

    Raises:
        CannotKeep: if it uses what no file can hold, such as a tensor of another cell, or this package as a module.
    """
    gathered = _Gathered(sibling, marks=not of_the_course(answer))
    gathered.add(answer.__name__, answer, asked=True)
    lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(gathered.froms.items())]
    imports = "\n".join([*sorted(gathered.imports), *lines])
    siblings = "\n".join(f"from .{name} import {name}" for name in sorted(gathered.siblings))
    constants = "\n".join(gathered.constants)
    parts = ["from __future__ import annotations", imports, siblings, constants]
    return "\n\n".join(filter(None, parts)) + "\n\n\n" + "\n\n\n".join(gathered.definitions) + "\n"


class _Gathered:
    """What a module needs, found by following names from the answer."""

    def __init__(self, sibling: Callable[[str, Any], bool], marks: bool) -> None:
        self.sibling = sibling
        self.marks = marks  # whether the course's helpers are marked
        self.imports: set[str] = set()
        self.froms: dict[str, set[str]] = {}  # names by module
        self.siblings: set[str] = set()
        self.constants: list[str] = []
        self.definitions: list[str] = []  # what is called before what calls it
        self.names: dict[str, Any] = {}

    def add(self, name: str, value: Any, *, asked: bool = False) -> None:
        if name in self.names:
            if self.names[name] is not value:
                raise CannotKeep(f"it uses two different things that are both called {name}")
            return
        self.names[name] = value
        if isinstance(value, ModuleType):
            self._add_module(name, value)
        elif not asked and callable(value) and self.sibling(name, value):
            self.siblings.add(name)
        elif not asked and (module := _library_of(name, value)):
            public = name if getattr(sys.modules[module], name, None) is value else value.__name__
            self.froms.setdefault(module, set()).add(name if public == name else f"{public} as {name}")
        elif isinstance(_unwrapped(value), FunctionType | type):
            self._add_definition(name, value)
        else:
            self._add_constant(name, value)

    def _add_module(self, name: str, value: ModuleType) -> None:
        full = value.__name__
        if full.partition(".")[0] == COURSE:
            raise CannotKeep(
                f"it uses the course's module {name}. Import by name what it needs of it, as in "
                f"from {full} import ..., and that is kept with it"
            )
        parent, _, leaf = full.rpartition(".")
        if parent and leaf == name:
            self.froms.setdefault(parent, set()).add(leaf)
        else:
            self.imports.add(f"import {full}" if name == full else f"import {full} as {name}")

    def _add_definition(self, name: str, value: FunctionType | type) -> None:
        value = _unwrapped(value)
        source, needs_names = _definition(name, value)
        namespace = _namespace(value)
        if any(_imports_the_course(node) for node in ast.walk(ast.parse(source))):
            raise CannotKeep("it imports the course inside. Import on top of the notebook what it needs of it, by name")
        used, needed = _names(source), _names(_without_annotations(source))
        for other in sorted(used - {name}):
            if other not in namespace or other.startswith("__"):
                continue  # a builtin, a name that is never reached, or what each module has of its own
            try:
                self.add(other, namespace[other])
            except CannotKeep:
                self.names.pop(other, None)
                if other in needed:
                    raise
        if needs_names and name != value.__name__:
            source += f"\n\n\n{name} = {value.__name__}"
        self.definitions.append(f"# The course's\n{source}" if self.marks and of_the_course(value) else source)

    def _add_constant(self, name: str, value: Any) -> None:
        text = repr(value)
        if isinstance(value, torch.dtype):
            self.imports.add("import torch")
        else:
            try:
                same = ast.literal_eval(text) == value
            except (ValueError, SyntaxError, TypeError):
                same = False
            if not same:
                raise CannotKeep(
                    f"it uses {name} of another cell, which is {_described(value)}: make it inside, or pass it in"
                )
        self.constants.append(f"{name} = {text}")


def _imports_the_course(node: ast.AST) -> bool:
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    return any(module.partition(".")[0] == COURSE for module in modules)


def _unwrapped(value: Any) -> Any:
    """What a decorator has wrapped, such as lru_cache."""
    return inspect.unwrap(value) if callable(value) else value


def _described(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def _namespace(value: FunctionType | type) -> dict[str, Any]:
    """The global names that its code sees, without Python's own."""
    if isinstance(value, FunctionType):
        found = value.__globals__
    else:
        codes = _functions(value)
        found = codes[0].__globals__ if codes else vars(sys.modules[value.__module__])
    return {name: found[name] for name in found if not (name in vars(builtins) and found[name] is vars(builtins)[name])}


def _functions(value: type) -> list[FunctionType]:
    """The functions written in a class's own body."""
    found = []
    for member in vars(value).values():
        member = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        if isinstance(member, FunctionType):
            member = inspect.unwrap(member)
            if linecache.getlines(member.__code__.co_filename):  # none where dataclass wrote it
                found.append(member)
    return found


def _definition(name: str, value: FunctionType | type) -> tuple[str, bool]:
    """The text that defines a function or class, and whether that text gives it its own name alone."""
    functions = [value] if isinstance(value, FunctionType) else _functions(value)
    if not functions:
        raise CannotKeep(f"the source of {name} cannot be found: give the class a method, such as __init__")
    code = functions[0].__code__
    free = set(code.co_freevars) - {"__class__"}
    if free:
        raise CannotKeep(f"{name} is made inside another function, whose {', '.join(sorted(free))} it uses")
    text = "".join(linecache.getlines(code.co_filename))
    try:
        tree = ast.parse(text)
    except SyntaxError:
        tree = ast.Module([], [])
    wanted = value.__name__
    for node in reversed(list(ast.walk(tree))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name != wanted:
                continue
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        elif isinstance(node, ast.Assign) and wanted == "<lambda>" and isinstance(node.value, ast.Lambda):
            first = node.lineno
        else:
            continue
        if first <= code.co_firstlineno <= node.end_lineno:
            lines = text.splitlines()[first - 1 : node.end_lineno]
            return textwrap.dedent("\n".join(lines)), wanted != "<lambda>"
    raise CannotKeep(f"the source of {name} cannot be found")


def _names(source: str) -> set[str]:
    """The global names that a definition reads."""

    def read(table: symtable.SymbolTable) -> Iterator[str]:
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or (top and not symbol.is_assigned())):
                yield symbol.get_name()
        for inner in table.get_children():
            yield from read(inner)

    return set(read(symtable.symtable(source, "<answer>", "exec")))


class _Plain(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        value = self.visit(node.value) if node.value else ast.Constant(None)
        return ast.copy_location(ast.Assign([node.target], value), node)


def _without_annotations(source: str) -> str:
    """The code without its annotations, which are never evaluated in a module that says so on top."""
    return ast.unparse(ast.fix_missing_locations(_Plain().visit(ast.parse(source))))


def _library_of(name: str, value: Any) -> str:
    """The module of a library that has this value, under this name or its own; empty if none has."""
    own = getattr(value, "__module__", None)
    for module in (*FAMILIAR, own):
        found = sys.modules.get(module or "")
        if found is not None and (module in FAMILIAR or _is_library(found)):
            known = getattr(value, "__name__", name)
            if any(getattr(found, public, None) is value for public in (name, known)):
                return module
    return ""


def _is_library(module: ModuleType) -> bool:
    """Whether a module is Python's own or installed, so that it can be imported anywhere."""
    top = module.__name__.partition(".")[0]
    if top == COURSE or top == "__main__":
        return False
    if top in sys.stdlib_module_names:
        return True
    file = getattr(importlib.import_module(top), "__file__", None)
    places = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    return bool(file) and any(Path(file).is_relative_to(place) for place in places)
