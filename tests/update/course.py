"""The course as it is published and a learner's clone of it, small enough to be made for each test."""

import subprocess
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

EXERCISE, LESSON, MODULE = "exercises/03_rope.ipynb", "notebooks/03_rope.ipynb", "llama_lessons/rope.py"
STUB = "def turn(x):\n    raise NotImplementedError('turn is not solved yet')"
NEW_STUB = "def turn(x, angle):\n    raise NotImplementedError('turn is not solved yet')"
ANSWER = "def turn(x):\n    return 'my answer'"
CELLS = {"title": "# Exercises", "turn": STUB, "check": "turn(1)", "other": "def other():\n    ..."}


def notebook(cells: dict[str, str]) -> NotebookNode:
    """A notebook of cells by id; what begins with # is Markdown."""
    made = [(new_markdown_cell if s.startswith("#") else new_code_cell)(s, id=id) for id, s in cells.items()]
    return new_notebook(cells=made)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


class Course:
    """The course as it is published, and a learner's clone."""

    def __init__(self, folder: Path) -> None:
        self.published, self.mine = folder / "published", folder / "mine"
        git(folder, "init", "--quiet", "--initial-branch=main", "published")
        self.publish(**{EXERCISE: CELLS, LESSON: CELLS, MODULE: "layout = 'half'\n", "old.py": "1\n"})
        git(folder, "clone", "--quiet", "published", "mine")

    def publish(self, **files: dict | str | None) -> None:
        """Publish these files: notebooks by their cells, texts, None for one that goes."""
        for name, content in files.items():
            write(self.published / name, content)
        git(self.published, "add", "--all")
        git(self.published, "commit", "--quiet", "--message=news")

    def solve(self, name: str = EXERCISE, **cells: str) -> None:
        """Write into cells by their ids, run them all, and save as JupyterLab does."""
        nb = self.read(name)
        for cell in nb.cells:
            cell.source = cells.pop(cell.id, cell.source)
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = 7, [new_output("stream", text="mine\n")]
        nb.cells += notebook(cells).cells
        nb.metadata["language_info"] = {"name": "python", "version": "3.99.9"}
        nbformat.write(nb, self.mine / name)

    def read(self, name: str = EXERCISE) -> NotebookNode:
        return nbformat.read(self.mine / name, as_version=4)

    def sources(self, name: str = EXERCISE) -> list[str]:
        return [cell.source for cell in self.read(name).cells]

    def files(self) -> dict[str, bytes]:
        """All files of the clone, and where its branch is."""
        files = {p for p in self.mine.rglob("*") if p.is_file() and ".git" not in p.relative_to(self.mine).parts}
        found = {p.relative_to(self.mine).as_posix(): p.read_bytes() for p in files}
        return found | {"HEAD": git(self.mine, "rev-parse", "HEAD").encode()}


def write(path: Path, content: dict | str | None) -> None:
    if content is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else nbformat.writes(notebook(content)) + "\n"
    path.write_text(text, encoding="utf-8")


def news(course: Course) -> None:
    """Work of every kind, and news that meet it."""
    course.solve(turn=ANSWER, mine="1 + 1")
    course.solve(LESSON)
    write(course.mine / MODULE, "mine\n")
    write(course.mine / "new.py", "mine\n")
    changed = CELLS | {"turn": NEW_STUB}
    course.publish(**{EXERCISE: changed, LESSON: changed, MODULE: "2\n", "new.py": "2\n", "old.py": None})
