"""What the notebook tools share: where notebooks lie, how they are read and written, how a cell is named."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
LESSONS, SOLUTIONS, EXERCISES = "notebooks", "solutions", "exercises"


class NotebookError(Exception):
    """What is wrong with a notebook, one line a fault: file, cell, line where there is one, and the remedy."""


def notebooks(*folders: str, root: Path = ROOT) -> list[Path]:
    """The notebooks in the named folders of the course, in order."""
    return [path for folder in folders for path in sorted((root / folder).glob("*.ipynb"))]


def read(path: Path) -> NotebookNode:
    """Read a notebook as the newest format that the tools know.

    Raises:
        NotebookError: if the file is not a notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise NotebookError(f"{short(path)}: not a notebook: {str(error).splitlines()[0]}") from None


def text(nb: NotebookNode) -> str:
    """The notebook as it stands in its file: sorted keys, one-space indent, one newline at the end."""
    return nbformat.writes(nb, version=4).rstrip("\n") + "\n"


def write(nb: NotebookNode, path: Path) -> bool:
    """Write the notebook unless the file holds it already; return whether the file changed."""
    new = text(nb)
    if path.exists() and path.read_text(encoding="utf-8") == new:
        return False
    path.parent.mkdir(exist_ok=True)
    path.write_text(new, encoding="utf-8")
    return True


def short(path: Path) -> str:
    """A notebook's folder and file name, which is how messages name it."""
    return f"{path.resolve().parent.name}/{path.name}"


def where(path: Path, number: int, cell: NotebookNode, line: int | None = None) -> str:
    """The place of a fault: file, cell as number (from 1) and name, and line (from 1) in the cell."""
    name = cell.metadata.get("name") or cell.get("id", "?")
    return f"{short(path)}: cell {number} ({name})" + (f", line {line}" if line else "")


def tags(cell: NotebookNode) -> list[str]:
    """The cell's tags."""
    return cell.metadata.get("tags", [])
