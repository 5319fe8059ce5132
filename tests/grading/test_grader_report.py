"""The grader kills mutants of every solution; that it names every misconception is tested one by one elsewhere."""

import json
import re

import pytest

from llama_lessons.grading.exercise import REGISTRY, catalogued, lessons
from tools import grader_report
from tools.grader_report import EQUIVALENT, MECHANICAL_TARGET, main, mutants, shares, solutions, table

SOURCE = """\
def f(x, n=2):
    if n < 0:
        raise ValueError
    a = -x.float()[1:n]
    return torch.cat((a, x), dim=1) + 2.5
"""


@pytest.mark.parametrize(
    "line",
    [
        "def f(x, n=3):",
        "if n <= 0:",
        "if n < 1:",
        "if not n < 0:",
        "pass",
        "a = x.float()[1:n]",
        "a = -x[1:n]",
        "a = -x.float()[n:1]",
        "a = -x.float()[:n]",
        "a = -x.float()[0:n]",
        "return torch.cat((x, a), dim=1) + 2.5",
        "return torch.cat((a, x), dim=2) + 2.5",
        "return torch.cat((a, x)) + 2.5",
        "return torch.cat((a, x), dim=1) - 2.5",
        "return torch.cat((a, x), dim=1) + 5.0",
        "return torch.stack((a, x), dim=1) + 2.5",
        "return (a, x) + 2.5",
        "return torch.cat((a, x), dim=1)",
    ],
)
def test_mutants_hold_each_small_change(line):
    assert line in {changed for _, changed in mutants(SOURCE)}


def test_mutants_differ_from_the_source_and_from_each_other():
    sources = [source for source, _ in mutants(SOURCE)]
    assert len(set(sources)) == len(sources)
    assert SOURCE.strip() not in sources
    for source in sources:
        compile(source, "<mutant>", "exec")


def test_texts_of_exceptions_and_annotations_are_not_mutated():
    for solution in solutions().values():
        assert not re.search(r"raise \w+\(", solution.source)
        assert "->" not in solution.source


def test_every_exercise_needs_a_solution(monkeypatch, capsys):
    monkeypatch.setattr(grader_report, "notebooks", lambda *_: [])
    assert main([]) == 1
    assert "no solution notebook answers is_order_blind, " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("lesson", lessons())
def test_all_mutants_are_killed(lesson, tmp_path, capsys):
    code = main([lesson, "--mutants-only", "--json", str(tmp_path / "report.json")])
    out = capsys.readouterr().out
    assert code == 0, out
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["exercises"][0]["misconceptions"] == 0  # test_exercises tries each, and asks for more
    assert written["killed"] >= MECHANICAL_TARGET
    names = [exercise.name for exercise in lessons()[lesson] if exercise.name in catalogued()]
    assert [row["exercise"] for row in written["exercises"]] == names
    listed = {(row["exercise"], line) for row in written["exercises"] for line in row["equivalent"]}
    expected = {(name, line) for name, line in EQUIVALENT if name in names}
    assert listed == expected  # none is listed that a check can tell after all


def test_each_equivalent_mutant_is_of_an_exercise():
    assert {name for name, _ in EQUIVALENT} <= set(REGISTRY)


def test_an_unknown_lesson_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["33_rope"])
    assert "no lesson 33_rope has exercises; there are 00_start_here, " in capsys.readouterr().err


def test_misconceptions_are_named(capsys):
    assert main(["00_start_here"]) == 0
    assert re.search(r"is_order_blind +(\d+) of \1 ", capsys.readouterr().out)


def test_a_survivor_and_an_unnamed_misconception_are_shown_and_count():
    row = grader_report.Row("f", misconceptions=2, named=1, mutants=4, killed=2)
    row.equivalent["y = 1"], row.survivors, row.unnamed = "a reason", ["x = 2"], ["odd"]
    assert shares([row]) == (0.5, 2 / 3)
    assert shares([]) == (1, 1)
    text = table([row])
    for part in ("named 50.0%", "mutants killed 66.7%", "f: odd", "f: x = 2", "f: y = 1\n      a reason"):
        assert part in text


def test_what_the_checks_cannot_tell_is_not_killed():
    """One property of these asks for refusals only: alone it earns nothing, but that tells no mutant."""
    exercise, solution = REGISTRY["repeat_kv"], solutions()["repeat_kv"]
    assert not grader_report.is_killed(exercise, solution, solution.source)
    assert grader_report.is_killed(exercise, solution, solution.source.replace("raise ValueError", "pass"))


def test_a_mutant_that_cannot_even_be_defined_is_killed():
    solution = solutions()["repeat_kv"]
    assert grader_report.is_killed(REGISTRY["repeat_kv"], solution, "def repeat_kv(x, group_size=1 / 0):\n    return x")
