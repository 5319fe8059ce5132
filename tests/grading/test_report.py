"""What a learner sees: in a notebook, in a terminal, of a right answer and of wrong ones."""

import os
import re
import subprocess
import sys

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from llama_lessons.grading import CheckFailed, check, hint, progress
from llama_lessons.grading.exercise import REGISTRY
from tools.cells import ROOT

WRONG = """\
from llama_lessons import rope
from llama_lessons.grading import check, hint, progress

def apply_rope(x, cos, sin):
    print("<script>alert('printed')</script>")
    raise ValueError("<b>bold</b> & " + repr(tuple(x.shape)))
"""
RIGHT = """\
import torch
def apply_rope(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)
"""


@pytest.fixture(autouse=True)
def own_progress(monkeypatch, tmp_path):
    monkeypatch.setenv("LLAMA_LESSONS_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setenv("LLAMA_LESSONS_MINE", str(tmp_path / "my_llama"))


def run_script(tmp_path, source, *flags):
    script = tmp_path / "script.py"
    script.write_text(source)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *flags, str(script)], capture_output=True, text=True, env=env, timeout=120)


def test_failure_in_a_script_prints_the_verdict_and_no_traceback(tmp_path):
    done = run_script(tmp_path, WRONG + "check(apply_rope)\nprint('not reached')\n")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("CheckFailed: apply_rope is not right yet: 0 of 8 checks, 0 of 5 points.")
    assert "Traceback" not in done.stderr
    assert "llama_lessons/grading" not in done.stderr
    assert 'raise ValueError("<b>bold</b> & " + repr(tuple(x.shape)))' in done.stderr
    assert len(done.stderr.splitlines()) <= 40


def test_the_card_in_the_readme_is_what_this_answer_gets(tmp_path):
    neighbours = 'def apply_rope(x, cos, sin):\n    return rope.apply_rope(x, cos, sin, layout="interleaved")\n'
    said = run_script(tmp_path, f"{WRONG}\n{neighbours}\ncheck(apply_rope)").stderr
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    assert shown.startswith("apply_rope is not right yet")
    for part in shown.split("..."):  # some numbers and checks are left out
        assert part.strip(", ]\n") in said


def test_other_exceptions_in_a_script_keep_their_traceback(tmp_path):
    done = run_script(tmp_path, WRONG + RIGHT + "check(apply_rope)\n1 / 0\n")
    assert done.stdout == "apply_rope is right: 8 of 8 checks, 5 of 5 points.\n"
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def run_cells(tmp_path, *sources, **variables):
    """The outputs of each cell."""
    nb = new_notebook(cells=[new_code_cell(source) for source in sources])
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    client = NotebookClient(nb, timeout=120, kernel_name="python3", allow_errors=True, record_timing=False)
    client.execute(env=env)
    return [cell.outputs for cell in nb.cells]


@pytest.mark.slow
def test_notebook_shows_a_card_and_one_line_of_error(tmp_path):
    outputs = run_cells(
        tmp_path, WRONG, "check(apply_rope)", "hint(apply_rope)", RIGHT, "check(apply_rope)", "progress()", "check(1)"
    )
    card, error = outputs[1]
    markup, plain = card.data["text/html"], card.data["text/plain"]
    assert markup.startswith("<div")
    assert "<script>" not in markup
    assert "<b>bold" not in markup
    assert "&lt;script&gt;" in markup
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; (1, 1, 3, 2)" in markup
    assert plain.startswith("apply_rope is not right yet: 0 of 8 checks, 0 of 5 points.")
    assert "ValueError: <b>bold</b> & (1, 1, 3, 2)" in plain
    assert "Your cell, line 6, in apply_rope" in plain
    assert error.output_type == "error"
    assert error.traceback == ["CheckFailed: apply_rope is not right yet"]

    (first_hint,) = outputs[2]
    assert "Hint 1 of 3 for apply_rope" in first_hint.data["text/html"]
    (right,) = outputs[4]
    assert right.data["text/plain"] == "apply_rope is right: 8 of 8 checks, 5 of 5 points."
    assert "✓ apply_rope is right" in right.data["text/html"]
    (points,) = outputs[5]
    assert re.search(r"03_rope +5 of +27 points", points.data["text/plain"])
    (wrong_call,) = outputs[6]
    assert wrong_call.traceback[0].startswith("CheckFailed: check and hint take your function itself, not a value of")


@pytest.mark.slow
def test_plain_text_on_request_in_a_notebook(tmp_path):
    outputs = run_cells(tmp_path, WRONG, "check(apply_rope)", RIGHT + "check(apply_rope)", LLAMA_LESSONS_PLAIN="1")
    (error,) = outputs[1]
    assert error.traceback[0].startswith("CheckFailed: apply_rope is not right yet")
    assert "ValueError: <b>bold</b>" in error.traceback[0]
    (right,) = outputs[2]
    assert right.text == "apply_rope is right: 8 of 8 checks, 5 of 5 points.\n"


def lambda_named(name):
    def function(*args):
        return args[0]

    function.__name__ = name
    return function


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        (lambda_named("aply_rope"), "no exercise is called 'aply_rope', and check goes by the function's name. "
                                    "Did you mean apply_rope?"),
        (lambda_named("zzz"), "no exercise is called 'zzz', and check goes by the function's name. progress() lists "
                              "them all."),
        (lambda x: x, "check goes by the function's name, and this one has none: write it with def"),
        ("apply_rope", "check takes your function itself, not its name in quotes: write check(apply_rope)"),
        ("not a name", "not its name in quotes: write check("),
        (None, "check and hint take your function itself, not a value of type NoneType"),
    ],
)  # fmt: skip
def test_check_says_what_it_wants(argument, sentence):
    with pytest.raises(CheckFailed, match=re.escape(sentence)):
        check(argument)


def test_check_of_a_tensor_says_not_to_call():
    import torch

    with pytest.raises(CheckFailed, match=r"a value of type Tensor: write only its name"):
        check(torch.ones(2))


def test_stub_says_it_is_not_solved_yet():
    def apply_rope(x, cos, sin):
        raise NotImplementedError("apply_rope is not solved yet")

    with pytest.raises(CheckFailed) as failure:
        check(apply_rope)
    assert str(failure.value) == (
        "apply_rope is not solved yet: put your answer in place of the line that raises.\n\n"
        "Stuck? Run hint(apply_rope)."
    )


def test_hints_come_one_by_one_and_then_all(capsys):
    hints = REGISTRY["apply_rope"].hints
    for number, text in enumerate(hints, 1):
        hint("apply_rope")
        assert capsys.readouterr().out == f"Hint {number} of {len(hints)} for apply_rope: {text}\n"
    hint("apply_rope")
    assert capsys.readouterr().out.count("Hint ") == len(hints)


def test_hint_of_an_unknown_exercise_names_the_nearest():
    with pytest.raises(CheckFailed, match="Did you mean apply_rope"):
        hint("aply_rope")


def test_progress_shows_points_and_what_is_open(capsys):
    reference = REGISTRY["is_order_blind"].reference

    def is_order_blind(mix, x):
        return reference(mix, x)

    check(is_order_blind)
    assert capsys.readouterr().out == "is_order_blind is right: 8 of 8 checks, 3 of 3 points.\n"
    progress()
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"00_start_here +3 of +3 points", lines[0])
    assert re.fullmatch(r"03_rope +0 of +27 points +rope_frequencies, rope_tables, apply_rope, .*", lines[3])
    points = sum(exercise.points for exercise in REGISTRY.values())
    assert re.fullmatch(rf"all lessons +3 of +{points} points", lines[-2])
    assert lines[-1].startswith("my_llama: 0 of 11 parts are yours")
