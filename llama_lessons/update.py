"""Bring the course to its newest version, and keep the learner's work: `python -m llama_lessons.update`.

Notebooks are merged by the ids of their cells: a cell that the learner wrote or changed is the learner's, all else is
the course's. Where both have changed a cell, the learner's stays as it is, and the course's new one stands below it as
text, which does not run. Any other file that both have changed is renamed (`rope.py` to `rope.mine.py`).

Git's branch moves last. Up to then an interrupted update has lost nothing, and running it again completes it.
"""

import argparse
import itertools
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook, upgrade

__all__ = ["UpdateError", "main", "merge_notebooks", "update"]

ROOT = Path(__file__).resolve().parent.parent
ABSENT = "0" * 40  # git's name for the content of a file that is not there
MARK = "llama_lessons_new_form"  # in the metadata of a cell that was laid beside the learner's
FAILED, INTERRUPTED = 1, 130


class UpdateError(Exception):
    """Why the course cannot be updated, with the remedy, in one line."""


def update(root: Path) -> None:
    """Bring the course in `root` to the newest version of its branch, and print what became of the learner's work.

    Raises:
        UpdateError: if that cannot be done; nothing of the learner's is lost.
    """
    _refuse_unless_ready(root)
    head, newest = _git(root, "rev-parse", "HEAD").strip(), _fetch(root)
    base = _git(root, "merge-base", head, newest, may_fail=True).strip()
    if base == newest:
        print("This is the newest version.")
        return
    if not base:
        raise UpdateError(f"{head[:7]} and {newest[:7]} have no commit in common: clone anew, and copy your exercises/")
    if base != head:
        raise UpdateError(
            f"there are commits of your own: `git branch my-work-{head[:7]}` keeps them, and `git reset {base[:7]}` "
            "goes back to the course's without changing a file; then run this again"
        )

    raw = _git(root, "diff-tree", "-r", "-z", "--no-renames", head, newest).split("\0")
    changes = {name: entry.split()[2:4] for entry, name in zip(raw[::2], raw[1::2], strict=False)}
    current = _current(root, list(changes))
    merged: dict[str, str] = {}
    taken, aside = [], []
    print(f"Updating from {head[:7]} to {newest[:7]}; files that have changed: {len(changes)}.")
    for name, (old, new) in changes.items():
        if current[name] in (old, new, ABSENT):
            taken.append(name)
        elif new == ABSENT:
            print(f"{name}: the course no longer has it; yours stays")
        elif name.endswith(".ipynb") and (mine := _notebook(root / name)):
            handed = _parse(_git(root, "cat-file", "blob", old)) if old != ABSENT else new_notebook()
            merged[name], lines = merge_notebooks(handed, mine, _parse(_git(root, "cat-file", "blob", new)))
            print("".join(f"{name}: {line}\n" for line in lines), end="")
        else:
            aside.append(name)

    for name in aside:
        print(f"{name}: you had changed it; yours is now {_put_aside(root / name).name}")
    if taken or aside:
        options = ("--worktree", "--pathspec-from-file=-", "--pathspec-file-nul")
        _git(root, "--literal-pathspecs", "restore", f"--source={newest}", *options, stdin="\0".join(taken + aside))
    for name, text in merged.items():
        beside = root / f"{name}.new"
        beside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(beside, root / name)
    _git(root, "reset", "--quiet", newest)

    if changes.keys() & {"requirements.txt", "pyproject.toml"}:
        print("Its requirements have changed: `make lab` installs them, as does `pip install -r requirements.txt -e .`")
    print("Done. If JupyterLab is open: File > Reload Notebook from Disk, for each notebook that it shows.")


def merge_notebooks(handed: NotebookNode, mine: NotebookNode, newest: NotebookNode) -> tuple[str, list[str]]:
    """The newest notebook with the learner's cells in it, and what there is to say about them.

    Args:
        handed: the notebook as the course handed it out.
        mine: what the learner made of it.
        newest: what the course makes of it now.

    Returns:
        The merged notebook as its file's text, and lines that name the cells that both have changed.
    """
    old, new = ({cell.id: cell for cell in nb.cells} for nb in (handed, newest))
    ids = {cell.id for cell in mine.cells}
    # In a notebook that comes from Colab, ids are gone.
    by_source = {cell.source: cell.id for cell in handed.cells if cell.id not in ids}
    present: set[str] = set()
    changed: dict[str, NotebookNode] = {}
    added: dict[str | None, list[NotebookNode]] = defaultdict(list)
    above: str | None = None  # the course's cell that the learner's own cells follow
    for cell in mine.cells:
        name = cell.id if cell.id in old or cell.id in new else by_source.get(cell.source)
        versions = [version[name] for version in (old, new) if name in version]
        present.add(name)
        if name in new:
            above = name
        if any(_same(cell, version) for version in versions) or not cell.source.strip() or _is_laid(cell, old, new):
            continue
        if name in new:
            changed[name] = cell
        else:
            added[above].append(cell)

    cells, notes = list(added[None]), []
    for name, cell in new.items():
        is_news = name not in old or not _same(cell, old[name])
        if name in changed:
            cells.append(changed[name])
        elif name in present or name not in old:
            cells.append(cell)
            is_news = False
        if is_news:  # the learner has changed or removed it
            cells.append(_lay(cell))
            notes.append(f"cell {name} has changed; yours is as it was, and the course's new one stands below it")
        cells += added[name]
    if kept := len(changed) + sum(map(len, added.values())):
        notes.insert(0, f"{kept} {'cell' if kept == 1 else 'cells'} of yours kept")
    merged = nbformat.from_dict(newest | {"cells": cells})
    return nbformat.writes(merged, version=4).rstrip("\n") + "\n", notes


def _same(cell: NotebookNode, other: NotebookNode) -> bool:
    return cell.cell_type == other.cell_type and cell.source.strip() == other.source.strip()


def _lay(cell: NotebookNode) -> NotebookNode:
    """The course's cell as text that can stand beside the learner's."""
    body = f"````python\n{cell.source}\n````" if cell.cell_type == "code" else cell.source
    opening = (
        "**The course has changed this cell, and so have you.** Yours is as you left it; this is the course's new one."
    )
    return new_markdown_cell(f"{opening} Compare them, then delete this.\n\n{body}", metadata={MARK: cell.id})


def _is_laid(cell: NotebookNode, old: dict[str, NotebookNode], new: dict[str, NotebookNode]) -> bool:
    """Whether an earlier update laid this cell, the learner has left it so, and a newer one takes its place."""
    name = cell.metadata.get(MARK)
    if name not in old or name not in new or _same(old[name], new[name]):
        return False
    return any(_same(cell, _lay(version[name])) for version in (old, new))


def _parse(text: str) -> NotebookNode:
    return nbformat.reads(text, as_version=4)


def _notebook(path: Path) -> NotebookNode | None:
    """The notebook at path, or None if it is not one."""
    try:
        return upgrade(_parse(path.read_text(encoding="utf-8")))  # Colab's cells have no ids
    except Exception:  # whatever is wrong with it, the file will be put aside
        return None


def _put_aside(path: Path) -> Path:
    """Rename what is at path to the first free name of its kind, such as rope.mine.py."""
    names = (path.with_name(f"{path.stem}.mine{number or ''}{path.suffix}") for number in itertools.count())
    return path.rename(next(name for name in names if not os.path.lexists(name)))


def _current(root: Path, names: list[str]) -> dict[str, str]:
    """Git's hash of each file as it is now, whatever git's index believes; "" is something that is not a file."""
    files = [name for name in names if (root / name).is_file()]
    hashes = _git(root, "hash-object", "--stdin-paths", stdin="".join(f"{name}\n" for name in files)).split()
    rest = {name: "" if os.path.lexists(root / name) else ABSENT for name in names}
    return rest | dict(zip(files, hashes, strict=True))


def _refuse_unless_ready(root: Path) -> None:
    if not (root / ".git").exists():
        raise UpdateError(f"{root} is not a git checkout: clone the course with git, and copy your exercises/ there")
    if _git(root, "rev-parse", "--quiet", "--verify", "MERGE_HEAD", may_fail=True):
        raise UpdateError("a merge is not finished: `git merge --abort` goes back to before it; then run this again")
    if _git(root, "ls-files", "--unmerged"):
        raise UpdateError("something has ended in conflicts: git status says how to undo it; then run this again")
    if _git(root, "diff", "--cached", "--name-only"):
        raise UpdateError("files are staged: `git reset` unstages them, and changes no file; then run this again")


def _fetch(root: Path) -> str:
    """Fetch, and return the commit that the course is at."""
    try:
        _git(root, "fetch", "--quiet")
    except UpdateError as error:
        raise UpdateError(f"{error}; check the network and run this again, nothing has changed") from None
    for branch in ("@{upstream}", "origin/HEAD"):
        if commit := _git(root, "rev-parse", "--quiet", "--verify", f"{branch}^{{commit}}", may_fail=True):
            return commit.strip()
    raise UpdateError("git does not know the course's branch: `git remote set-head origin --auto`; then run this again")


def _git(root: Path, *arguments: str, stdin: str = "", may_fail: bool = False) -> str:
    """What git prints.

    Raises:
        UpdateError: if git is missing, or fails where it may not; where it may, the answer is empty.
    """
    command = ["git", "-C", str(root), *arguments]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}  # a course that is gone must not ask for a password
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, encoding="utf-8", env=environment)
    except FileNotFoundError:
        raise UpdateError("git is not found: install it (https://git-scm.com), then run this again") from None
    if done.returncode and not may_fail:
        reason = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise UpdateError(f"git {arguments[0]}: {reason}")
    return "" if done.returncode else done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Update the course that this module belongs to, and return the exit code."""
    argparse.ArgumentParser(prog="python -m llama_lessons.update", description=__doc__).parse_args(arguments)
    try:
        update(ROOT)
    except KeyboardInterrupt:
        print("Interrupted: nothing is lost; run this again.", file=sys.stderr)
        return INTERRUPTED
    except (UpdateError, OSError) as error:
        print(f"llama_lessons.update: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
