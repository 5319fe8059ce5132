"""Bring notebooks into the one form that is committed: `python -m tools.normalise [NOTEBOOK ...] [--check]`.

Lessons and solutions are executed with a fresh kernel when their code has changed since they last were, or when
they are named; exercises are kept without outputs. Doing it twice changes nothing.
"""

import argparse
import base64
import hashlib
import os
import re
import struct
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from llama_lessons.settings import MINE, PLAIN, PROGRESS
from tools.cells import (
    EXERCISES,
    LESSONS,
    ROOT,
    SOLUTIONS,
    NotebookError,
    notebooks,
    read,
    short,
    tags,
    text,
    where,
    write,
)
from tools.setup_cell import write_setup

CELL_TIMEOUT = 600  # seconds
# What JupyterLab writes into a notebook as soon as its kernel has started, so that opening a lesson changes nothing
# else. It adds Python's version to language_info, down to the patch; that one line is the learner's, not ours.
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
WIDGET = "application/vnd.jupyter.widget-view+json"
FILLERS = {"import", "from", "a", "an", "the"}
TITLE = "# @title "  # in Colab's forms
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
MACHINE_PATH = re.compile(rf"(?<![\w.])(?:{re.escape(str(ROOT))}|/(?:home|root|Users|tmp|var/folders|content)/[\w.-]+)")
WARNING = re.compile(r"warning", re.IGNORECASE)


def format_notebook(nb: NotebookNode, path: Path) -> NotebookNode:
    """The notebook in its committed form, without running it; formatting twice changes nothing.

    Args:
        nb: the notebook; it is left as it is.
        path: where it lies: the folder says whether it keeps outputs, the name goes into the cell ids.

    Raises:
        NotebookError: if an output holds what no committed notebook may (an error, a warning, an object's address, a
            path of this machine); all such places are named.
    """
    nb = nbformat.from_dict(nb)
    nb.cells = [cell for cell in nb.cells if cell.source.strip()]
    write_setup(nb, path)
    is_exercise = path.resolve().parent.name == EXERCISES
    faults: list[str] = []
    taken: set[str] = set()
    count = 0
    for number, cell in enumerate(nb.cells, start=1):
        cell.id = _cell_id(path, cell, taken)
        cell.metadata = {key: cell.metadata[key] for key in ("name", "tags") if cell.metadata.get(key)}
        if cell.metadata.get("name") == "setup" or "fold" in tags(cell):
            # Folded in JupyterLab, and on Colab: a lesson begins with its question, and a picture needs no drawing
            # instructions. Colab shows the title in the place of the code.
            cell.metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
            if not cell.source.startswith(TITLE):
                faults.append(f"{where(path, number, cell)}: a folded cell begins with `{TITLE}` and what it draws")
        if "guess" in tags(cell):  # the text before it asks for a guess, so its stored result is not shown at once
            cell.metadata.setdefault("jupyter", {})["outputs_hidden"] = True
            cell.metadata["collapsed"] = True  # its older name, which JupyterLab would add when it saves
        cell.source = "\n".join(line.rstrip() for line in cell.source.strip("\n").split("\n"))
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = None if is_exercise else count
        cell.outputs = [] if is_exercise else _outputs(cell, where(path, number, cell), faults)
    if faults:
        raise NotebookError("\n".join(faults))
    executed = nb.metadata.get("llama_lessons", {}).get("executed")
    nb.metadata = {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}
    if executed and not is_exercise:
        nb.metadata["llama_lessons"] = {"executed": executed}
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nbformat.from_dict(nb)


def without_outputs(nb: NotebookNode) -> NotebookNode:
    """A copy of the notebook with no output in it."""
    nb = nbformat.from_dict(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nb


def code_hash(nb: NotebookNode) -> str:
    """What the stored outputs were made from: a hash of all code but the setup cell's."""
    sources = [c.source.strip() for c in nb.cells if c.cell_type == "code" and c.metadata.get("name") != "setup"]
    return hashlib.sha256("\0".join(source for source in sources if source).encode()).hexdigest()[:12]


def is_stale(nb: NotebookNode) -> bool:
    """Whether the code has changed since the notebook was executed."""
    return nb.metadata.get("llama_lessons", {}).get("executed") != code_hash(nb)


def execute(nb: NotebookNode, path: Path, allow_errors: bool = False) -> NotebookNode:
    """Run all cells in a fresh kernel in the notebook's folder, and return the notebook with its new outputs.

    The learner's own progress, and my_llama, are neither read nor changed.

    Raises:
        NotebookError: if a cell fails, unless allow_errors.
    """
    nb = nbformat.from_dict(nb)
    started = [0]
    client = NotebookClient(
        nb,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.resolve().parent)}},
        record_timing=False,
        store_widget_state=False,
        allow_errors=allow_errors,
        on_cell_execute=lambda cell, cell_index: started.append(cell_index),
    )
    with tempfile.TemporaryDirectory() as scratch:
        env = {**os.environ, PROGRESS: f"{scratch}/progress.json", MINE: f"{scratch}/my_llama"}
        env.pop(PLAIN, None)
        try:
            client.execute(env=env)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            cell = nb.cells[started[-1]]
            # A verdict is shown, not raised.
            shown = [output.data.get("text/plain", "") for output in cell.outputs if "data" in output]
            raise NotebookError("\n".join([f"{where(path, started[-1] + 1, cell)}: {error}", *shown])) from None
    nb.metadata["llama_lessons"] = {"executed": code_hash(nb)}
    return nb


def check(path: Path) -> None:
    """Hold a committed notebook to its form.

    Raises:
        NotebookError: if normalising would change the file, or its code has changed since it was executed.
    """
    nb = read(path)
    if path.resolve().parent.name != EXERCISES and is_stale(nb):
        raise NotebookError(f"{short(path)}: its code has changed since it was executed; run `make notebooks`")
    if path.read_text(encoding="utf-8") != text(format_notebook(nb, path)):
        raise NotebookError(f"{short(path)}: not in the committed form; run `make notebooks`")


def _cell_id(path: Path, cell: NotebookNode, taken: set[str]) -> str:
    """An id from the notebook's and the cell's name, or the first words of the cell; the same on every run."""
    name = cell.metadata.get("name")
    if not name:
        first_line = next(filter(str.strip, cell.source.split("\n")))
        defined = re.match(r"(?:def|class) (\w+)", first_line)
        words = [word for word in re.findall(r"[a-z0-9]+", first_line.lower()) if word not in FILLERS]
        name = defined[1] if defined else "-".join(words[:6]) or cell.cell_type
    base = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{path.stem}-{name}")[:60].rstrip("-")
    cell_id, copy = base, 1
    while cell_id in taken:
        copy += 1
        cell_id = f"{base}-{copy}"
    taken.add(cell_id)
    return cell_id


def _outputs(cell: NotebookNode, place: str, faults: list[str]) -> list[NotebookNode]:
    """The cell's outputs in their committed form; what may not be committed is added to faults."""
    kept: list[NotebookNode] = []
    for output in cell.outputs:
        if output.output_type == "error":
            faults.append(f"{place}: its output is an error ({output.ename}: {output.evalue})")
            continue
        if output.output_type == "stream":
            if output.name == "stderr":
                if WARNING.search(output.text):
                    faults.append(f"{place}: it warns: {output.text.strip().splitlines()[0]}")
                continue  # progress bars
            texts = [output.text]
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
            else:
                kept.append(nbformat.v4.new_output("stream", name="stdout", text=output.text))
        else:
            data = {kind: value for kind, value in output.data.items() if kind != WIDGET}
            if WIDGET in output.data and set(data) <= {"text/plain"}:
                continue
            if "image/png" in data:
                data["image/png"] = _bare_png(data["image/png"])
            texts = [value for kind, value in data.items() if isinstance(value, str) and kind != "image/png"]
            extra = {"execution_count": cell.execution_count} if output.output_type == "execute_result" else {}
            kept.append(nbformat.v4.new_output(output.output_type, data, metadata=output.metadata, **extra))
        for pattern, what in ((ADDRESS, "an object's address"), (MACHINE_PATH, "a path of this machine")):
            faults.extend(f"{place}: its output shows {what}: {hit}" for text in texts for hit in pattern.findall(text))
    return kept


def _bare_png(encoded: str) -> str:
    """The picture without its text and time chunks, which name versions and dates."""
    png = base64.b64decode(encoded)
    bare, at = png[:8], 8
    while at < len(png):
        end = at + 12 + struct.unpack(">I", png[at : at + 4])[0]
        if png[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"tIME"):
            bare += png[at:end]
        at = end
    return base64.b64encode(bare).decode()


def main(arguments: list[str] | None = None) -> int:
    """Normalise the named notebooks, or all; return 1 if one is at fault (with --check: not in its committed form)."""
    parser = argparse.ArgumentParser(prog="python -m tools.normalise", description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all, executing those whose code has changed")
    parser.add_argument("--check", action="store_true", help="change and execute nothing, say what would change")
    parser.add_argument("--no-execute", action="store_true", help="keep the outputs as they are")
    options = parser.parse_args(arguments)
    failed = False
    for path in options.notebooks or notebooks(LESSONS, SOLUTIONS, EXERCISES):
        try:
            if options.check:
                check(path)
                continue
            nb = read(path)
            runs = path.resolve().parent.name != EXERCISES and (is_stale(nb) or bool(options.notebooks))
            if runs and not options.no_execute:
                print(f"{short(path)}: executing", flush=True)
                nb = execute(format_notebook(without_outputs(nb), path), path)
            if write(format_notebook(nb, path), path):
                print(f"{short(path)}: written")
        except NotebookError as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
