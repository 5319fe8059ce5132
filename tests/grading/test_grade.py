"""`make grade`: red until every exercise is right, and nothing but right answers turns it green."""

import json
import signal
import time

import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output

from llama_lessons.grading.exercise import REGISTRY, lessons
from llama_lessons.grading.grade import clean, main

FAILURE = [new_output("error", ename="CheckFailed", evalue="not right yet", traceback=["CheckFailed: not right yet"])]


def full(lesson):
    return sum(exercise.points for exercise in lessons()[lesson])


def lines(out, start):
    return [line for line in out.splitlines() if line.startswith(start)]


def points(out):
    """Points got, by lesson, as the closing table says."""
    rows = [line.split() for line in out.splitlines() if " points" in line and line.split()[0] in lessons()]
    return {row[0]: float(row[1]) for row in rows}


def needs_cuda():
    return pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, needs_cuda()])])
def test_solving_turns_it_from_red_to_green(learner, device):
    graded = [exercise.name for lesson in learner.solutions for exercise in lessons()[lesson]]
    code, out, err = learner.grade(LLAMA_LESSONS_DEVICE=device)
    assert code == 1
    assert "Traceback" not in out + err
    for name in graded:
        (line,) = lines(out, f"FAIL  {name} ")
        assert "is not solved yet" in line or name == "rotate_new_tokens"  # a bug hunt begins with code
    assert "the planted bug" in out
    assert points(out) == dict.fromkeys(learner.solutions, 0)  # what was given earns nothing

    learner.solve()
    code, out, err = learner.grade(LLAMA_LESSONS_DEVICE=device)
    assert code == 0, out + err
    assert len(lines(out, "ok    ")) == len(graded)
    assert points(out) == {lesson: full(lesson) for lesson in learner.solutions}
    assert "not right yet" not in out
    assert not learner.progress.exists()


@pytest.mark.slow
def test_nothing_but_an_answer_turns_it_green(learner):
    passed = {name: {"points": exercise.points, "passed": True} for name, exercise in REGISTRY.items()}
    learner.progress.write_text(json.dumps({"exercises": passed}))
    learner.solve("rope_frequencies")

    cell = learner.cell("check(is_order_blind)")
    cell.outputs, cell.execution_count = FAILURE, 7
    cell.metadata.tags = ["raises-exception"]
    learner.remove(learner.cell("check(apply_rope)"))
    cell = learner.cell("check(apply_rope_interleaved)")
    cell.source, cell.metadata.tags = "# NBVAL_SKIP\n" + cell.source, ["nbval-skip"]
    cell = learner.cell("check(to_interleaved)")
    cell.source, cell.outputs, cell.execution_count = "# NBVAL_RAISES_EXCEPTION\n" + cell.source, FAILURE, 8
    cell = learner.cell("check(rotate_new_tokens)")
    cell.source = "try:\n    check(rotate_new_tokens)\nexcept Exception:\n    pass"

    code, out, _ = learner.grade()
    assert code == 1
    (line,) = lines(out, "ok    ")
    assert line.startswith("ok    rope_frequencies ")
    assert lines(out, "FAIL  is_order_blind is not solved yet")
    assert lines(out, "FAIL  apply_rope was never checked: its check cell is missing")
    assert lines(out, "FAIL  apply_rope_interleaved is not solved yet")
    assert lines(out, "FAIL  to_interleaved is not solved yet")
    assert lines(out, "FAIL  rotate_new_tokens was checked and is not right yet, but its cell hides the verdict")
    got = points(out)
    assert got["00_start_here"] == 0
    assert got["03_rope"] < full("03_rope")


@pytest.mark.slow
def test_one_notebook_in_ruins_leaves_the_other_graded(learner):
    learner.solve()
    cell = learner.cell("def apply_rope(")
    cell.source = "def apply_rope(x, cos, sin):\n    return rope.apply_rope(x, cos, -sin)"
    learner.cell("check(to_interleaved)").source = "check(to_interleaved"
    learner.notebooks["03_rope"].cells.append(new_code_cell("1 / 0"))
    del learner.notebooks["00_start_here"]
    (learner.folder / "00_start_here.ipynb").write_text('{"cells": [')

    code, out, err = learner.grade()
    assert code == 1
    assert "Traceback" not in out + err
    assert lines(out, "FAIL  exercises/00_start_here.ipynb is not a notebook that can be read")
    (line,) = lines(out, "FAIL  apply_rope is not right yet")
    assert " of 5 points" in line
    assert "What seems to have happened (turns backwards)" in out
    assert lines(out, "FAIL  to_interleaved was not checked: its check cell did not get as far")
    assert "`1 / 0`: ZeroDivisionError: division by zero" in out
    assert "`check(to_interleaved`: SyntaxError" in out
    assert len(lines(out, "ok    ")) == len(lessons()["03_rope"]) - 2

    (learner.folder / "00_start_here.ipynb").unlink()
    code, out, err = learner.grade(lessons=["00_start_here"])
    assert code == 1
    assert lines(out, "FAIL  exercises/00_start_here.ipynb is missing")
    assert points(out) == {"00_start_here": 0}


@pytest.mark.slow
def test_endless_loops_are_cut(learner):
    learner.solve()
    learner.cell("def is_order_blind(").source = "def is_order_blind(mix, x):\n    while True:\n        pass"
    learner.cell("q, k = torch.randn").source = "while True:\n    pass"
    code, out, _ = learner.grade("--cell-seconds", "6")
    assert code == 1
    (line,) = lines(out, "FAIL  is_order_blind cannot be checked: is_order_blind was interrupted after")
    assert "Look for a loop that never ends" in line
    assert "`while True:`: Timeout of 6 seconds exceeded" in out
    assert lines(out, "ok    to_interleaved")


@pytest.mark.slow
def test_ctrl_c_ends_it_without_a_traceback(learner):
    reached = learner.folder / "reached"
    cell = learner.cell("import torch\n\nfrom llama_lessons.grading")
    cell.source = f"open({str(reached)!r}, 'w').close()\nwhile True:\n    pass"
    process = learner.start(lessons=["00_start_here"])
    while not reached.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in err
    assert "Traceback" not in err


def test_unknown_lesson_is_refused_with_the_known_ones(capsys):
    assert main(["03_rope", "33_rope"]) == 2
    assert "no lesson '33_rope' has exercises. There are: 00_start_here, " in capsys.readouterr().err


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_unknown_device_is_refused_at_once(monkeypatch, capsys, device):
    monkeypatch.setenv("LLAMA_LESSONS_DEVICE", device)
    assert main([]) == 2
    assert "LLAMA_LESSONS_DEVICE" in capsys.readouterr().err


def test_missing_folder_is_named(tmp_path, capsys):
    assert main(["--exercises", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_clean_takes_away_all_that_nbval_heeds():
    cell = new_code_cell(
        "#NBVAL_SKIP\n  # NBVAL_RAISES_EXCEPTION \n## PYTEST_VALIDATE_IGNORE_OUTPUT\nx = 1  # NBVAL_SKIP is no marker",
        outputs=FAILURE,
        execution_count=3,
        metadata={"tags": ["nbval-skip", "nbval-raises-exception", "raises-exception"]},
    )
    nb = new_notebook(cells=[cell], metadata={"kernelspec": {"name": "other", "display_name": "other"}})
    (cleaned,) = clean(nb).cells
    assert cleaned.source == "#\n#\n#\nx = 1  # NBVAL_SKIP is no marker"
    assert (cleaned.outputs, cleaned.execution_count, cleaned.metadata) == ([], None, {})
    assert cell.outputs == FAILURE
    assert clean(nb).metadata == {}
