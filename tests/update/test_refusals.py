"""An update that cannot be done changes nothing, and says what helps; one that was interrupted can be run again."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from llama_lessons import update as module
from llama_lessons.update import UpdateError, main, update
from tests.update.course import ANSWER, Course, git, news


def test_nothing_new_changes_nothing(course: Course, capsys) -> None:
    news(course)
    update(course.mine)
    before = course.files()
    update(course.mine)
    assert course.files() == before
    assert capsys.readouterr().out.endswith("This is the newest version.\n")


def commit_own_work(course: Course) -> None:
    git(course.mine, "commit", "--quiet", "--all", "--message=mine")


def stage(course: Course) -> None:
    git(course.mine, "add", "--all")


def pull_into_a_conflict(course: Course) -> None:
    commit_own_work(course)
    (course.mine / "new.py").unlink()
    subprocess.run(["git", "pull", "--quiet", "--no-rebase"], cwd=course.mine, check=False, capture_output=True)


def lose_the_default_branch(course: Course) -> None:
    git(course.mine, "branch", "--unset-upstream")
    git(course.mine, "remote", "set-head", "origin", "--delete")


@pytest.mark.parametrize(
    ("spoil", "said", "times"),
    [
        (commit_own_work, "there are commits of your own", 1),
        (stage, "files are staged", 1),
        (pull_into_a_conflict, "a merge is not finished", 2),
        (lose_the_default_branch, "git does not know the course's branch", 1),
    ],
)
def test_a_refusal_changes_nothing_and_its_remedy_helps(course: Course, spoil, said: str, times: int) -> None:
    news(course)
    spoil(course)
    for _ in range(times):  # after a merge is undone, there are commits of the learner's own
        before = course.files()
        with pytest.raises(UpdateError) as refusal:
            update(course.mine)
        assert course.files() == before
        line = str(refusal.value)
        assert "\n" not in line
        assert said in line or times == 2
        for command in re.findall(r"`git (.+?)`", line):
            git(course.mine, *command.split())
    update(course.mine)
    assert ANSWER in course.sources()
    assert git(course.mine, "rev-parse", "HEAD") == git(course.published, "rev-parse", "HEAD")


def test_a_rebase_that_has_stopped_is_not_touched(course: Course) -> None:
    news(course)
    commit_own_work(course)
    (course.mine / "new.py").unlink()
    subprocess.run(["git", "pull", "--quiet", "--rebase"], cwd=course.mine, check=False, capture_output=True)
    before = course.files()
    with pytest.raises(UpdateError, match="has ended in conflicts: git status says how to undo it"):
        update(course.mine)
    assert course.files() == before


def test_a_shallow_clone_is_updated_too(course: Course) -> None:
    course.publish(**{"new/older.py": "1\n"})
    shutil.rmtree(course.mine)
    git(course.mine.parent, "clone", "--quiet", "--depth=1", course.published.as_uri(), "mine")
    news(course)
    update(course.mine)
    assert ANSWER in course.sources()
    assert git(course.mine, "rev-parse", "HEAD") == git(course.published, "rev-parse", "HEAD")


def test_a_detached_head_is_updated_too(course: Course) -> None:
    git(course.mine, "checkout", "--quiet", "--detach")
    news(course)
    update(course.mine)
    assert ANSWER in course.sources()
    assert git(course.mine, "rev-parse", "HEAD") == git(course.published, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda course: shutil.rmtree(course.mine / ".git"), "is not a git checkout: clone the course with git"),
        (lambda course: course.published.rename("gone"), "git fetch: .*; check the network and run this again"),
        (lambda course: os.environ.update(PATH="/nowhere"), "git is not found: install it"),
    ],
    ids=["no checkout", "no network", "no git"],
)
def test_without_git_or_network_one_line_says_so(course: Course, monkeypatch, capsys, tmp_path, spoil, said) -> None:
    news(course)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(module, "ROOT", course.mine)
    spoil(course)
    assert main([]) == 1
    assert re.fullmatch(f"llama_lessons.update: .*{said}.*\n", capsys.readouterr().err)
    assert ANSWER in course.sources()


def test_a_rewritten_history_is_said(course: Course) -> None:
    git(course.published, "checkout", "--quiet", "--orphan", "again")
    course.publish(**{"new.py": "2\n"})
    git(course.published, "branch", "--move", "--force", "again", "main")
    with pytest.raises(UpdateError, match="have no commit in common: clone anew"):
        update(course.mine)


def test_an_update_that_was_interrupted_anywhere_is_completed_by_the_next(course: Course, monkeypatch, capsys) -> None:
    news(course)
    start = course.mine.rename(course.mine.with_name("start"))
    monkeypatch.setattr(module, "ROOT", course.mine)
    monkeypatch.setattr(nbformat.v4.nbbase, "random_cell_id", lambda: "laid")

    def renewed() -> None:
        shutil.rmtree(course.mine, ignore_errors=True)
        shutil.copytree(start, course.mine)

    renewed()
    update(course.mine)
    whole = course.files()
    interrupted = module.INTERRUPTED
    for calls in range(100):
        left = calls

        def interrupt(real):
            def call(*arguments, **keywords):
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return real(*arguments, **keywords)

            return call

        renewed()
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "run", interrupt(subprocess.run))
            patch.setattr(os, "replace", interrupt(os.replace))
            patch.setattr(Path, "rename", interrupt(Path.rename))
            code = main([])
        if code == 0:
            break
        assert code == interrupted
        assert main([]) == 0
        assert course.files() == whole, f"after {calls} calls"
    assert calls > 12
    assert "Interrupted: nothing is lost; run this again." in capsys.readouterr().err
