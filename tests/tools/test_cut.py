"""Cutting exercises out of solutions, rule by rule."""

import json

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tools.cells import NotebookError, read, text
from tools.cut import cut, main

TURN = '''\
import torch


def turn(x, angle):
    """Turn it."""
    cos = torch.cos(angle)
    # BEGIN SOLUTION
    secret_angle = torch.sin(angle) * 2
    return x * cos + secret_angle
    # END SOLUTION'''


def cut_sources(path) -> list[str]:
    """The sources of the exercise's cells after title and setup."""
    return [cell.source for cell in cut(read(path), path).cells[3:]]


def test_the_answer_is_replaced_by_a_stub_that_says_unsolved(make) -> None:
    (source,) = cut_sources(make(TURN))
    assert source == TURN[: TURN.index("    # BEGIN")] + '    raise NotImplementedError("turn is not solved yet")'


def test_in_a_class_the_stub_names_the_class(make) -> None:
    cell = "class Norm:\n    def forward(self, x):\n        # BEGIN SOLUTION\n        return x\n        # END SOLUTION"
    (source,) = cut_sources(make(cell))
    assert source.splitlines()[-1] == '        raise NotImplementedError("Norm is not solved yet")'


def test_stub_lines_take_the_place_of_the_answer_with_their_indentation(make) -> None:
    cell = """\
def hunt(x):
    # BEGIN SOLUTION
    # STUB if x:
    # STUB     return x + 1
    # STUB
    # STUB return the_same_line_in_both(x)
    if x:
        return x - 1 + the_hidden_correction(x)
    return the_same_line_in_both(x)
    # END SOLUTION"""
    (source,) = cut_sources(make(cell))
    assert source == "def hunt(x):\n    if x:\n        return x + 1\n\n    return the_same_line_in_both(x)"


def test_several_answers_in_one_cell_and_lines_around_them(make) -> None:
    cell = """\
def f(x):
    # BEGIN SOLUTION
    # STUB a = ...
    a = x + 1
    # END SOLUTION
    b = 2
    # BEGIN SOLUTION
    # STUB return ...
    return a * b
    # END SOLUTION


check(f)"""
    (source,) = cut_sources(make(cell))
    assert source == "def f(x):\n    a = ...\n    b = 2\n    return ...\n\n\ncheck(f)"


def test_cells_tagged_solution_are_left_out_and_nbval_tags_too(make) -> None:
    why = new_markdown_cell("It holds because.", metadata={"tags": ["solution"]})
    shown = new_code_cell("1", metadata={"tags": ["nbval-check-output", "keep"], "name": "one"})
    path = make(TURN, why, shown)
    exercise = cut(read(path), path)
    assert [cell.source for cell in exercise.cells[4:]] == ["1"]
    assert exercise.cells[-1].metadata == {"tags": ["keep"], "name": "one"}


def test_title_link_and_outputs_are_the_exercises_own(make) -> None:
    out = new_output("stream", name="stdout", text="seen\n")
    path = make(TURN, new_code_cell("1", outputs=[out], execution_count=2))
    exercise = cut(read(path), path)
    assert exercise.cells[0].source.endswith("/exercises/03_x.ipynb)")
    assert exercise.cells[1].source == "# Exercises: turning"
    assert exercise.cells[-1].outputs == []
    assert exercise.cells[-1].execution_count is None
    assert "llama_lessons" not in exercise.metadata


@pytest.mark.parametrize(
    ("cell", "line", "fault"),
    [
        ("x = 1\n# END SOLUTION", 2, "END SOLUTION without a BEGIN SOLUTION before it"),
        ("def f():\n    # BEGIN SOLUTION\n    x = 1", 2, "BEGIN SOLUTION without an END SOLUTION after it"),
        (TURN.replace("    return", "    # BEGIN SOLUTION\n    return"), 9, "inside the one from line 7"),
        ("def f():\n    # BEGIN SOLUTION\n    # END SOLUTION", 2, "no answer between"),
        ("def f():\n    # BEGIN SOLUTION\n\n    # only this\n    # END SOLUTION", 2, "no answer between"),
        ("def f():\n    # BEGIN SOLUTION\n    # STUB return 2\n    # END SOLUTION", 2, "no answer between"),
        ("x = 1\n# STUB x = 2", 2, "STUB without a BEGIN SOLUTION"),
        (TURN.replace("    return", "    # STUB return\n    return"), 9, "STUB lines stand right after BEGIN SOLUTION"),
        ("# BEGIN SOLUTION\nx = 1\n# END SOLUTION", 1, "outside a function, the answer needs STUB lines"),
        (TURN.replace("# BEGIN SOLUTION", "#begin solution"), 7, "a marker has a line of its own"),
        (TURN.replace("# BEGIN SOLUTION", "# BEGIN SOLUTION of turn"), 7, "a marker has a line of its own"),
        (TURN.replace("(angle) * 2", "(angle) * 2  # END SOLUTION"), 8, "a marker has a line of its own"),
        (TURN.replace("# END SOLUTION", "### END_SOLUTION"), 10, "a marker has a line of its own"),
        (new_markdown_cell("Text.\n\n# BEGIN SOLUTION"), 3, "a marker outside a code cell"),
        (new_markdown_cell("# STUB x", metadata={"tags": ["solution"]}), 1, "a marker outside a code cell"),
    ],
)
def test_a_wrong_marker_is_an_error_with_file_cell_and_line(make, cell, line: int, fault: str) -> None:
    cell = new_code_cell(cell) if isinstance(cell, str) else cell
    cell.metadata["name"] = "culprit"
    path = make("1", cell)
    with pytest.raises(NotebookError, match=rf"(?m)^solutions/03_x.ipynb: cell 3 \(culprit\), line {line}: .*{fault}"):
        cut(read(path), path)


def test_every_wrong_marker_is_named_at_once(make) -> None:
    path = make("# END SOLUTION", "# BEGIN SOLUTION", new_markdown_cell("# END SOLUTION"))
    with pytest.raises(NotebookError) as caught:
        cut(read(path), path)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "leak",
    [
        "if True:\n    secret_angle = torch.sin(angle) * 2",
        new_markdown_cell("Remember: `secret_angle = torch.sin(angle) * 2`"),
        new_code_cell("1", metadata={"name": "secret_angle = torch.sin(angle) * 2"}),
    ],
    ids=["code", "prose", "metadata"],
)
def test_an_answer_that_can_still_be_read_is_an_error(make, leak) -> None:
    path = make(TURN, leak)
    with pytest.raises(
        NotebookError, match=r"cell 2 \(.*\), line 7: .* can still be read in the exercise: secret_angle"
    ):
        cut(read(path), path)


def test_main_writes_the_exercise_and_twice_changes_nothing(make, capsys) -> None:
    path = make(TURN)
    target = path.parent.parent / "exercises" / path.name
    assert main([str(path), "--check"]) == 1
    assert not target.exists()
    assert main([str(path)]) == 0
    first = target.read_text()
    assert json.loads(first)
    assert first == text(read(target))
    assert main([str(path)]) == 0
    assert target.read_text() == first
    assert main([str(path), "--check"]) == 0
    target.write_text(first + " ")
    assert main([str(path), "--check"]) == 1
    assert "exercises/03_x.ipynb: not what solutions/03_x.ipynb gives" in capsys.readouterr().err


def test_main_names_what_is_wrong_and_writes_nothing(make, capsys) -> None:
    path = make("# END SOLUTION")
    assert main([str(path)]) == 1
    assert "cell 2" in capsys.readouterr().err
    assert not (path.parent.parent / "exercises").exists()
