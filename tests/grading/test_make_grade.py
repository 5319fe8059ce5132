"""`make grade`: red until every exercise is right, and nothing but right answers turns it green."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from nbformat.v4 import new_code_cell, new_output

from llama_lessons.grading import mine
from llama_lessons.grading.__main__ import main
from llama_lessons.grading.exercise import REGISTRY, lessons
from tools.cells import ROOT

FAILURE = [new_output("error", ename="CheckFailed", evalue="not right yet", traceback=["CheckFailed: not right yet"])]


def full(lesson):
    return sum(exercise.points for exercise in lessons()[lesson])


def lines(out, start):
    return [line for line in out.splitlines() if line.startswith(start)]


def points(out):
    """Points got, by lesson, as the closing table says."""
    rows = [line.split() for line in out.splitlines() if " points" in line and line.split()[0] in lessons()]
    return {row[0]: int(row[1]) for row in rows}


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
@pytest.mark.parametrize("own", [True, False])
def test_my_llama_is_filled_from_the_learner_s_own_folder_alone(learner, monkeypatch, tmp_path, own):
    learner.solve("rope_frequencies", "apply_rope")
    learner.save()
    monkeypatch.setenv("LLAMA_LESSONS_MINE", str(tmp_path / "my_llama"))
    if own:
        monkeypatch.setattr("llama_lessons.grading.__main__.COURSE", learner.folder.parent)
        assert main(["03_rope"]) == 1
    else:
        assert main(["03_rope", "--exercises", str(learner.folder)]) == 1
    yours = [part for part, owner in mine.owners().items() if owner == "yours"]
    assert yours == (["rope_frequencies", "apply_rope"] if own else [])


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
    assert lines(
        out, "FAIL  apply_rope cannot be checked: it was never checked. Put check(apply_rope) into a code cell"
    )
    assert lines(out, "FAIL  apply_rope_interleaved is not solved yet")
    assert lines(out, "FAIL  to_interleaved is not solved yet")
    assert lines(out, "FAIL  rotate_new_tokens is not right yet")  # its cell hides the verdict, and it is seen
    got = points(out)
    assert got["00_start_here"] == 0
    assert got["03_rope"] < full("03_rope")


FORGERIES = {
    "points written into the file of progress": """
import json, os
passed = {"points": %s, "passed": True, "attempts": 1, "hints": 0}
with open(os.environ["LLAMA_LESSONS_PROGRESS"], "w") as file:
    json.dump({"exercises": {"is_order_blind": passed}}, file)
""",
    "the record updated": """
from llama_lessons.grading import records
records.update("is_order_blind", points=3, passed=True)
""",
    "verdicts that say that they passed": """
from llama_lessons.grading.verdict import Verdict
Verdict.passed = True
Verdict.points = 1e308
""",
    "a verdict shown by hand": """
from IPython.display import display
from llama_lessons.grading.report import MIME
from llama_lessons.grading.verdict import Result, Verdict
verdict = Verdict("is_order_blind", "00_start_here", 3, (Result("all", True),))
display({MIME: {"word": "", "verdict": verdict.to_json()}}, raw=True)
""",
}
FORGERIES |= {
    f"{points} points written": FORGERIES["points written into the file of progress"] % points
    for points in ("1e308", "float('nan')")
}
FORGERIES["points written into the file of progress"] %= 3


@pytest.mark.slow
@pytest.mark.parametrize("source", FORGERIES.values(), ids=FORGERIES)
def test_no_cell_writes_its_own_points(learner, source):
    cell = learner.cell("check(is_order_blind)")
    cell.source = f"{source}\n{cell.source}"
    code, out, _ = learner.grade(lessons=["00_start_here"])
    assert code == 1
    assert points(out) == {"00_start_here": 0}


@pytest.mark.slow
def test_one_notebook_changes_nothing_for_the_next(learner):
    """The first one rewrites the grader that it finds, and puts modules beside itself that Python would take."""
    learner.cell("check(is_order_blind)").source = """
from pathlib import Path
import llama_lessons.grading.engine as engine
path = Path(engine.__file__)
always = "def _run(name, *_):\n    return Result(name, True)\n\n\ndef _old("
path.write_text(path.read_text().replace("def _run(", always))
Path("sitecustomize.py").write_text("import llama_lessons.grading.verdict as v; v.Verdict.passed = True")
"""
    code, out, _ = learner.grade()
    assert code == 1
    assert points(out) == dict.fromkeys(learner.solutions, 0)


@pytest.mark.slow
def test_what_is_right_in_jupyterlab_is_right_here(learner):
    """Odd characters, modules beside the notebook, and variables set in a cell are no fault of an answer."""
    learner.solve("is_order_blind")
    cell = learner.cell("def is_order_blind(")
    odd = "# pasted\u2028 text \x0c \x85\nSEPARATORS = '\x1c\u2028'"
    cell.source = f"{odd}\n%env LLAMA_LESSONS_PROGRESS=mine.json\n{cell.source}"
    for name in ("random", "types", "queue", "token", "sitecustomize"):
        (learner.folder / f"{name}.py").write_text("raise SystemExit('this is not the standard library')\n")
    (learner.folder / "helper.py").write_text("VALUE = 3\n")
    learner.cell("check(is_order_blind)").source = "from helper import VALUE\ncheck(is_order_blind)"
    code, out, _ = learner.grade(lessons=["00_start_here"])
    assert code == 0, out
    assert points(out) == {"00_start_here": 3}
    assert not (learner.folder / "mine.json").exists()


@pytest.mark.slow
def test_the_last_of_several_checks_counts_and_this_is_said_once(learner):
    learner.solve("is_order_blind", "rope_frequencies")
    solved = learner.cell("def is_order_blind(").source
    wrong = "def is_order_blind(mix, x):\n    return True"
    hidden = "try:\n    check(is_order_blind)\nexcept Exception:\n    pass"
    learner.cell("def is_order_blind(").source = f"{wrong}\n{hidden}\n{solved}"
    frequencies = "def rope_frequencies(head_dim, theta=1e4):\n    return None\n\ncheck(rope_frequencies)"
    learner.cell("check(rope_frequencies)").source += f"\n{frequencies}"
    code, out, _ = learner.grade()
    assert code == 1
    (line,) = [line for line in out.splitlines() if line[6:].startswith("is_order_blind ")]
    assert line == "ok    is_order_blind is right: 3 points. An earlier check in this notebook was not."
    (line,) = [line for line in out.splitlines() if line[6:].startswith("rope_frequencies ")]
    assert line.startswith("FAIL  rope_frequencies is not right yet: 0 of ")
    assert line.endswith("An earlier check in this notebook said otherwise; the last one counts.")
    assert points(out) == {"00_start_here": 3, "03_rope": 0}


@pytest.mark.slow
def test_a_dead_kernel_is_said_at_once_as_what_it_is(learner):
    learner.solve("is_order_blind")
    learner.cell("check(is_order_blind)").source = "import os\nos._exit(9)"
    learner.notebooks["00_start_here"].cells.insert(0, new_code_cell(""))
    started = time.monotonic()
    code, out, err = learner.grade(lessons=["00_start_here"])
    assert time.monotonic() - started < 100  # a cell may take 300 seconds
    assert code == 1
    assert "Traceback" not in out + err
    assert lines(out, "FAIL  is_order_blind cannot be checked: Python itself ended before its check, or within it")
    assert "`import os`: Python itself ended here" in out


@pytest.mark.slow
def test_escape_codes_are_shown_and_not_obeyed(learner):
    learner.cell("check(is_order_blind)").source = "raise ValueError('\x1b[2Jok    is_order_blind is right')"
    code, out, err = learner.grade(lessons=["00_start_here"])
    assert code == 1
    assert "\x1b" not in out + err
    assert "ValueError: \\x1b[2Jok" in out


@pytest.mark.slow
def test_all_verdicts_are_written_as_json(learner):
    learner.solve("rope_frequencies")
    file = learner.folder / "points.json"
    code, out, _ = learner.grade("--json", str(file))
    assert code == 1
    written = json.loads(file.read_text())
    assert (written["version"], written["status"]) == (1, "fail")
    assert written["score"] == sum(points(out).values()) == 3
    assert written["max_score"] == sum(map(full, learner.solutions))
    names = [f"{lesson}/{exercise.name}" for lesson in learner.solutions for exercise in lessons()[lesson]]
    assert [test["name"] for test in written["tests"]] == names
    by_name = {test["name"]: test for test in written["tests"]}
    assert by_name["03_rope/rope_frequencies"]["status"] == "pass"
    planted = by_name["03_rope/rotate_new_tokens"]
    assert planted["status"] == "fail"
    assert planted["verdict"]["mistake"]["given"]
    assert "rotate_new_tokens is not right yet" in planted["message"]


@pytest.mark.slow
def test_one_notebook_in_ruins_leaves_the_other_graded(learner):
    learner.solve()
    cell = learner.cell("def apply_rope(")
    cell.source = "def apply_rope(x, cos, sin):\n    return rope.apply_rope(x, cos, -sin)"
    learner.cell("check(to_interleaved)").source = "check(to_interleaved"
    run = sum(cell.cell_type == "code" for cell in learner.notebooks["03_rope"].cells)
    learner.notebooks["03_rope"].cells += [new_code_cell(" \n"), new_code_cell("1 / 0")]
    del learner.notebooks["00_start_here"]
    (learner.folder / "00_start_here.ipynb").write_text('{"cells": [')

    code, out, err = learner.grade()
    assert code == 1
    assert "Traceback" not in out + err
    assert "exercises/00_start_here.ipynb is not a notebook that can be read" in out
    (line,) = lines(out, "FAIL  apply_rope is not right yet")
    assert " of 5 points" in line
    assert "What seems to have happened (turns backwards)" in out
    assert lines(out, "FAIL  to_interleaved cannot be checked: its check cell did not get as far as check(to_inter")
    assert f"03_rope, code cell {run + 1}, `1 / 0`: ZeroDivisionError: division by zero" in out  # In [...] in Jupyter
    assert "`check(to_interleaved`: SyntaxError" in out
    assert len(lines(out, "ok    ")) == len(lessons()["03_rope"]) - 2

    (learner.folder / "00_start_here.ipynb").unlink()
    code, out, err = learner.grade(lessons=["00_start_here"])
    assert code == 1
    assert lines(out, "FAIL  exercises/00_start_here.ipynb is missing")
    assert lines(out, "FAIL  is_order_blind cannot be checked: its notebook could not be run")
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
    assert "`while True:`: Timeout: still running after 6 seconds. Look for a loop that never ends" in out
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


def test_json_that_cannot_be_written_is_said_after_the_points(tmp_path, capsys):
    assert main(["--exercises", str(tmp_path), "--json", str(tmp_path), "03_rope"]) == 2
    out, err = capsys.readouterr()
    assert points(out) == {"03_rope": 0}
    assert err.endswith(f"{tmp_path} cannot be written: [Errno 21] Is a directory: '{tmp_path}'\n")


def test_a_folder_for_json_that_is_not_there_is_named_before_anything_runs(tmp_path, capsys):
    assert main(["--exercises", str(tmp_path), "--json", str(tmp_path / "nowhere" / "points.json")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="for Linux")
@pytest.mark.parametrize(
    ("stream", "code", "said"),
    [
        ("| true", 141, ""),
        ("> /dev/full", 2, "the verdicts cannot be written: [Errno 28] No space left on device"),
        (">&-", 1, "stdout is closed, and the verdicts go there"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_a_code(tmp_path, stream, code, said):
    command = f"{sys.executable} -m llama_lessons.grading 00_start_here --exercises {tmp_path} {stream}"
    shell = ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(shell, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (code, said)
