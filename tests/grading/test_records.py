"""Points are kept: the best ones, through crashes, beside other kernels, and never at the cost of a verdict."""

import json
import multiprocessing
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from llama_lessons.grading import check
from llama_lessons.grading.exercise import REGISTRY
from llama_lessons.grading.records import Record, load, path, update
from tools.cells import ROOT


@pytest.fixture
def file(monkeypatch, tmp_path):
    file = tmp_path / "kept" / "progress.json"
    monkeypatch.setenv("LLAMA_LESSONS_PROGRESS", str(file))
    return file


def test_nothing_is_kept_at_first(file):
    assert load() == {}
    assert not file.parent.exists()


def test_best_points_are_kept_and_tries_counted(file):
    update("apply_rope", points=2, attempts=1)
    update("apply_rope", points=5, passed=True, attempts=1)
    update("apply_rope", points=1, attempts=1)
    update("apply_rope", hints=1)
    update("to_half", points=1, attempts=1)
    assert load() == {
        "apply_rope": Record(points=5, passed=True, attempts=3, hints=1),
        "to_half": Record(points=1, passed=False, attempts=1, hints=0),
    }


def test_check_keeps_the_points_of_a_later_worse_answer(file, capsys):
    right = REGISTRY["rope_frequencies"].reference

    def rope_frequencies(head_dim, theta=10_000.0):
        return right(head_dim, theta) * factor

    factor = 1
    check(rope_frequencies)
    factor = 2
    with pytest.raises(Exception, match="not right yet"):
        check(rope_frequencies)
    assert load()["rope_frequencies"] == Record(points=3, passed=True, attempts=2)


def test_default_place_is_the_users_data_folder(monkeypatch):
    monkeypatch.delenv("LLAMA_LESSONS_PROGRESS")
    assert path().name == "progress.json"
    assert path().parent.name == "llama-lessons"
    monkeypatch.setenv("LLAMA_LESSONS_PROGRESS", "~/mine.json")
    assert path() == Path.home() / "mine.json"


def test_a_failing_write_leaves_the_old_file(file, monkeypatch):
    update("apply_rope", points=1)
    before = file.read_text()

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.warns(UserWarning, match="progress could not be kept in .*no space left on device"):
        record = update("apply_rope", points=2)
    assert record.points == 2
    assert file.read_text() == before
    assert [item.name for item in file.parent.iterdir() if item.name.startswith(".progress")] == []


def test_a_kill_in_the_middle_leaves_the_old_file(file):
    update("apply_rope", points=1)
    before = file.read_text()
    code = (
        "import os\nfrom llama_lessons.grading.records import update\n"
        "os.replace = lambda *_: os._exit(9)\nupdate('apply_rope', points=3)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120)
    assert done.returncode == 9
    assert file.read_text() == before
    assert update("apply_rope", points=2).points == 2  # and the dead process holds no lock


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"exercises": 5}',
        b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_an_unreadable_file_is_set_aside_and_kept(file, content):
    file.parent.mkdir()
    for number in (1, 2):
        file.write_bytes(content)
        with pytest.warns(UserWarning, match=f"cannot be read .* set aside as .*progress.unreadable-{number}.json"):
            update("apply_rope", points=2)
        assert (file.parent / f"progress.unreadable-{number}.json").read_bytes() == content
        assert load()["apply_rope"].points == 2


GOOD = {"points": 3, "passed": True, "attempts": 4, "hints": 1}


@pytest.mark.parametrize(
    ("value", "record"),
    [
        (GOOD | {"stars": 5, "seen": ["today"]}, Record(3, True, 4, 1)),
        ({"points": 2}, Record(2)),
        ({"points": 2.5, "attempts": 1.0}, Record(2, False, 1)),
        (GOOD | {"points": 1e308}, Record(5, True, 4, 1)),
        (GOOD | {"points": 50, "hints": -2, "attempts": -1}, Record(5, True, 0, 0)),
        (GOOD | {"passed": "yes"}, Record(3, False, 4, 1)),
        (GOOD | {"points": float("nan")}, None),
        (GOOD | {"points": float("inf")}, None),
        (GOOD | {"points": "many"}, None),
        (GOOD | {"points": [3]}, None),
        (5, None),
        (None, None),
        ("points", None),
    ],
)
def test_an_odd_record_loses_nothing_else(file, value, record):
    """A newer version may keep more; what is no record counts for nothing; numbers lie within their range."""
    file.parent.mkdir()
    file.write_text(json.dumps({"version": 9, "exercises": {"apply_rope": value, "rope_frequencies": GOOD}}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load().get("apply_rope") == record
        assert load()["rope_frequencies"] == Record(**GOOD)
        update("rope_frequencies", attempts=1)
        written = json.loads(file.read_text())
        update("apply_rope", points=1, attempts=1)
    assert written["version"] == 9
    assert json.dumps(written["exercises"]["apply_rope"]) == json.dumps(value)  # NaN is not equal to itself
    assert load()["rope_frequencies"].attempts == 5
    assert load()["apply_rope"].points == max(1, record.points if record else 0)
    if record and isinstance(value, dict) and "stars" in value:
        assert json.loads(file.read_text())["exercises"]["apply_rope"]["stars"] == 5


def test_a_link_to_the_file_stays_a_link(file, tmp_path):
    file.parent.mkdir()
    real = tmp_path / "drive.json"
    file.symlink_to(real)
    update("apply_rope", points=2)
    assert file.is_symlink()
    assert json.loads(real.read_text())["exercises"]["apply_rope"]["points"] == 2


def test_a_folder_that_cannot_be_written_only_warns(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LLAMA_LESSONS_PROGRESS", str(tmp_path / "file" / "progress.json"))
    right = REGISTRY["rope_frequencies"].reference

    def rope_frequencies(head_dim, theta=10_000.0):
        return right(head_dim, theta)

    with pytest.warns(UserWarning, match="progress could not be kept"):
        check(rope_frequencies)
    assert capsys.readouterr().out.startswith("rope_frequencies is right")


def count(number):
    """Update one shared exercise, and one of this process's own, many times."""
    for _ in range(25):
        update("shared", attempts=1, points=number)
        update(f"own-{number}", attempts=1)


@pytest.mark.slow
def test_two_processes_lose_nothing(file):
    workers = [multiprocessing.get_context("spawn").Process(target=count, args=(n,)) for n in (1, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
            assert worker.exitcode == 0
        records = load()
    assert records["shared"].attempts == 50
    assert records["shared"].points == 2
    assert {records["own-1"].attempts, records["own-2"].attempts} == {25}
    assert set(json.loads(file.read_text())) == {"exercises"}
