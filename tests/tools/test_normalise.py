"""The committed form of a notebook, rule by rule."""

import base64
import io

import pytest
from matplotlib.figure import Figure
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tools.cells import NotebookError, read, text
from tools.normalise import KERNELSPEC, LANGUAGE_INFO, execute, format_notebook, is_stale, main
from tools.setup_cell import setup_source

WIDGET = "application/vnd.jupyter.widget-view+json"


def formatted(path) -> NotebookNode:
    """The notebook at path in its committed form; formatting that again changes nothing."""
    nb = format_notebook(read(path), path)
    assert text(format_notebook(nb, path)) == text(nb)
    return nb


def with_output(*outputs: NotebookNode) -> NotebookNode:
    return new_code_cell("f()", outputs=list(outputs), metadata={"name": "call"})


def stream(name: str, content: str) -> NotebookNode:
    return new_output("stream", name=name, text=content)


def test_link_title_and_setup_come_first(make) -> None:
    nb = formatted(make("1", path="notebooks/03_x.ipynb"))
    link, title, setup, _ = nb.cells
    assert link.source.endswith("/llama-lessons/llama-lessons/blob/main/notebooks/03_x.ipynb)")
    assert title.source.startswith("# ")
    assert setup.source == setup_source()


def test_an_old_setup_cell_is_written_anew_where_it_stands(make) -> None:
    old = new_code_cell("print('old')", metadata={"name": "setup"})
    nb = formatted(make(new_markdown_cell("Three things you will be able to do."), old, "1"))
    assert [cell.metadata.get("name") for cell in nb.cells] == ["colab", None, None, "setup", None]
    assert nb.cells[3].source == setup_source()


def test_a_notebook_without_a_title_is_refused(make) -> None:
    path = make("1")
    nb = read(path)
    nb.cells = nb.cells[1:]
    with pytest.raises(NotebookError, match=r"solutions/03_x.ipynb: the first cell must .* title"):
        format_notebook(nb, path)


def test_ids_come_from_names_and_first_words_and_are_unique(make) -> None:
    named = new_code_cell("1", metadata={"name": "clock hand"})
    heading = new_markdown_cell("\n## The rotation of one pair, step by step and slowly\n\nText.")
    nb = formatted(make(heading, named, "def turn(x):\n    return x", "turn(1)", "turn(1)", "# £", "x" * 200))
    assert [cell.id for cell in nb.cells[3:]] == [
        "03_x-rotation-of-one-pair-step-by",
        "03_x-clock-hand",
        "03_x-turn",
        "03_x-turn-1",
        "03_x-turn-1-2",
        "03_x-code",
        "03_x-" + "x" * 55,
    ]


def test_setup_and_drawing_code_are_folded_and_nothing_else_is(make) -> None:
    drawing = new_code_cell("# @title Figure: a line\ndef draw(): ...", metadata={"tags": ["fold"]})
    nb = formatted(make(drawing, new_code_cell("1", metadata={"jupyter": {"source_hidden": True}})))
    folded = [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in nb.cells if "outputs" in cell]
    assert folded == [True, True, False]
    assert [cell.metadata.get("cellView") for cell in nb.cells if "outputs" in cell] == ["form", "form", None]


def test_what_is_to_be_guessed_is_collapsed(make) -> None:
    nb = formatted(make(new_code_cell("1", metadata={"tags": ["guess"]}), new_code_cell("2")))
    collapsed = [
        cell.metadata.get("jupyter", {}).get("outputs_hidden", False) for cell in nb.cells if "outputs" in cell
    ]
    assert collapsed == [cell.metadata.get("collapsed", False) for cell in nb.cells if "outputs" in cell]
    assert collapsed == [False, True, False]


def test_a_folded_cell_without_a_title_for_colab_is_refused(make) -> None:
    drawing = new_code_cell("def draw(): ...", metadata={"tags": ["fold"]})
    with pytest.raises(NotebookError, match="a folded cell begins with `# @title `"):
        formatted(make(drawing))


def test_metadata_is_reduced_to_what_is_meant(make) -> None:
    cell = new_code_cell(
        "1", metadata={"tags": ["keep"], "name": "one", "execution": {"iopub.execute_input": "2026"}, "collapsed": True}
    )
    path = make(cell)
    nb = read(path)
    nb.metadata = {"kernelspec": {"name": "mine", "display_name": "x"}, "widgets": {"state": {}}, "colab": {}}
    nb = format_notebook(nb, path)
    assert nb.cells[-1].metadata == {"tags": ["keep"], "name": "one"}
    assert nb.metadata == {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}


def test_counts_run_from_one_and_empty_cells_go(make) -> None:
    result = new_output("execute_result", {"text/plain": "7"}, execution_count=41)
    nb = formatted(make(new_code_cell("7", execution_count=41, outputs=[result]), " \n", "8"))
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3]
    assert code[1].outputs[0].execution_count == 2


def test_an_exercise_keeps_no_outputs(make) -> None:
    cell = new_code_cell("1", execution_count=3, outputs=[stream("stdout", "one\n")])
    nb = formatted(make(cell, path="exercises/03_x.ipynb"))
    assert nb.cells[-1].outputs == []
    assert nb.cells[-1].execution_count is None


def test_stdout_is_merged_and_progress_bars_go(make) -> None:
    bar = stream("stderr", "100%|####| 3/3 [00:00<00:00]\n")
    nb = formatted(make(with_output(stream("stdout", "a\n"), bar, stream("stdout", "b\n"))))
    assert nb.cells[-1].outputs == [stream("stdout", "a\nb\n")]


def test_widgets_go_and_what_stands_beside_them_stays(make) -> None:
    slider = new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "IntSlider()"})
    table = new_output("display_data", {WIDGET: {"model_id": "2"}, "text/plain": "t", "text/html": "<table>"})
    nb = formatted(make(with_output(slider, table)))
    assert [output.data for output in nb.cells[-1].outputs] == [{"text/plain": "t", "text/html": "<table>"}]


def test_pictures_lose_what_names_versions_and_dates(make) -> None:
    figure, plain, dated = Figure(), io.BytesIO(), io.BytesIO()
    figure.savefig(plain, metadata={"Software": None})
    figure.savefig(dated, metadata={"Software": "Matplotlib 9.9", "Creation Time": "today"})
    assert plain.getvalue() != dated.getvalue()
    picture = new_output("display_data", {"image/png": base64.encodebytes(dated.getvalue()).decode()})
    nb = formatted(make(with_output(picture)))
    assert base64.b64decode(nb.cells[-1].outputs[0].data["image/png"]) == plain.getvalue()


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (new_output("error", ename="ValueError", evalue="no", traceback=[]), r"is an error \(ValueError: no\)"),
        (stream("stderr", "x.py:3: UserWarning: old\n"), "it warns: x.py:3: UserWarning: old"),
        (stream("stdout", "<object at 0x7f0012ab34cd>"), "an object's address: at 0x7f0012ab34cd"),
        (stream("stdout", "saved to /home/me/run.pt"), "a path of this machine: /home/me"),
        (new_output("display_data", {"text/html": "<i>/root/run</i>"}), "a path of this machine: /root/run"),
    ],
)
def test_what_may_not_be_committed_is_refused_with_its_place(make, output: NotebookNode, fault: str) -> None:
    path = make(with_output(output))
    with pytest.raises(NotebookError, match=rf"^solutions/03_x.ipynb: cell 4 \(call\): .*{fault}"):
        format_notebook(read(path), path)


def test_bits_and_fractions_are_no_addresses_and_no_paths(make) -> None:
    formatted(make(with_output(stream("stdout", "0x3f800000 = 1.0, sum/root/mean, 3/4\n"))))


def test_a_notebook_that_cannot_be_read_is_named(tmp_path) -> None:
    path = tmp_path / "notebooks" / "03_x.ipynb"
    path.parent.mkdir()
    path.write_text("no notebook")
    with pytest.raises(NotebookError, match=r"notebooks/03_x.ipynb: not a notebook"):
        read(path)


@pytest.mark.slow
def test_main_executes_what_has_changed_and_twice_changes_nothing(make, capsys, monkeypatch) -> None:
    monkeypatch.setenv("LLAMA_LESSONS_PLAIN", "1")
    show = "import os, sys\nprint('bar', file=sys.stderr)\nprint('LLAMA_LESSONS_PLAIN' in os.environ)"
    path = make(show, "6 * 7", path="notebooks/03_x.ipynb")
    assert main([str(path), "--check"]) == 1
    assert main([str(path)]) == 0
    first = path.read_text()
    nb = read(path)
    assert nb.cells[-2].outputs == [stream("stdout", "False\n")]
    assert nb.cells[-1].outputs[0].data == {"text/plain": "42"}
    assert not is_stale(nb)
    assert main([str(path)]) == 0
    assert path.read_text() == first
    assert main([str(path), "--check"]) == 0

    path.write_text(first.replace("6 * 7", "6 * 8"))
    assert main([str(path), "--check"]) == 1
    assert "its code has changed since it was executed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cell_that_fails_is_named_and_nothing_is_written(make, capsys) -> None:
    path = make("1", new_code_cell("1 / 0", metadata={"name": "halve"}), "2")
    before = path.read_text()
    assert main([str(path)]) == 1
    assert "solutions/03_x.ipynb: cell 5 (halve): " in (error := capsys.readouterr().err)
    assert "ZeroDivisionError" in error
    assert path.read_text() == before


@pytest.mark.slow
def test_execute_leaves_the_learners_progress_alone(make, monkeypatch) -> None:
    monkeypatch.setenv("LLAMA_LESSONS_PROGRESS", "mine")
    path = make("import os\nprint(os.environ['LLAMA_LESSONS_PROGRESS'] == 'mine')")
    assert execute(read(path), path).cells[-1].outputs == [stream("stdout", "False\n")]
