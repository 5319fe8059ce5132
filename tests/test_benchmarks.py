"""The table of figures: what the README shows is what was measured, and each figure is of sense."""

import json
import math
import re
from pathlib import Path

import pytest

from benchmarks.side_by_side import median_seconds
from benchmarks.table import markdown, put_into_readme

ROOT = Path(__file__).parents[1]
# By benchmark: rows, and when and where they were taken
RESULTS = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))


def test_the_readme_shows_the_last_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert put_into_readme(readme, RESULTS) == readme
    assert all(benchmark["date"] in readme for benchmark in RESULTS.values())


ROWS = [row for benchmark in RESULTS.values() for row in benchmark["rows"]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['what']}, {row['peer']}")
def test_a_row_compares_in_the_right_direction(row):
    ours, theirs, better = row["ours"], row["theirs"], row["better"]
    assert min(ours, theirs, better) > 0
    # More tokens a second are better; less time, memory and loss.
    expected = ours / theirs if row["unit"] == "tokens/s" else theirs / ours
    assert math.isclose(better, expected, rel_tol=1e-9)
    assert row["share_of_limit"] is None or 0 < row["share_of_limit"] < 1


def test_a_readme_without_the_marks_is_refused():
    with pytest.raises(ValueError, match=re.escape("the README has no <!-- benchmarks -->")):
        put_into_readme("# Title\n", RESULTS)


def test_table_has_a_line_for_each_row():
    table = markdown(RESULTS).split("\n\n")[0].splitlines()
    assert len(table) == 2 + len(ROWS)
    assert {line.count("|") for line in table} == {7}


def test_contestants_take_turns_and_warm_up_rounds_do_not_count(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr("benchmarks.side_by_side.time.perf_counter", lambda: clock[0])

    def contestant(name, seconds):
        def call():
            calls.append(name)
            # The first call of each takes a hundred times as long.
            clock[0] += seconds * (100 if calls.count(name) == 1 else 1)

        return call

    medians = median_seconds({"a": contestant("a", 1.0), "b": contestant("b", 3.0)}, rounds=2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert medians == {"a": 1.0, "b": 3.0}
