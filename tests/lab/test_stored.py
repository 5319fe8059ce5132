"""A stored result says when it was made; LLAMA_LESSONS_FULL=1 makes it anew, whole or not at all."""

import json
import re

import pytest

from llama_lessons.lab import stored as module
from llama_lessons.lab.stored import stored
from llama_lessons.settings import FULL


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    monkeypatch.delenv(FULL, raising=False)
    return tmp_path / "results"


def never():
    raise AssertionError("it is not to be run")


def test_a_result_is_kept_with_its_run_and_read_again(folder, monkeypatch, capsys):
    monkeypatch.setenv(FULL, "1")
    assert stored("losses", lambda: {"rope": (1.5, 2.0)}) == {"rope": [1.5, 2.0]}, "as it will be read"
    assert re.fullmatch(r"Run just now in 0 minutes, and kept in losses\.json\.\n", capsys.readouterr().out)

    monkeypatch.delenv(FULL)
    assert stored("losses", never) == {"rope": [1.5, 2.0]}
    made = json.loads((folder / "losses.json").read_text())["made"]
    said = capsys.readouterr().out
    assert said.startswith(f"Stored result of {made['date']} (0 minutes, torch {made['torch']}, ")
    assert f"Set {FULL}=losses to run it again." in said


@pytest.mark.parametrize(("names", "runs"), [("losses", True), ("thread,losses", True), ("loss", False), ("", False)])
def test_one_result_can_be_named(folder, monkeypatch, names, runs):
    monkeypatch.setenv(FULL, "1")
    stored("losses", lambda: "old")
    monkeypatch.setenv(FULL, names)
    assert stored("losses", lambda: "new") == ("new" if runs else "old")


def test_a_missing_result_says_what_to_do():
    with pytest.raises(ValueError, match=f"no result 'losses' is kept: set {FULL}=losses"):
        stored("losses", never)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_ends_early_leaves_the_old_result(folder, monkeypatch, error):
    monkeypatch.setenv(FULL, "1")
    stored("losses", lambda: [1])

    def fails():
        raise error

    with pytest.raises(error):
        stored("losses", fails)
    with pytest.raises(TypeError):
        stored("losses", lambda: {1j})  # nothing that JSON can hold
    monkeypatch.delenv(FULL)
    assert stored("losses", never) == [1]
    assert [path.name for path in folder.iterdir()] == ["losses.json"]
