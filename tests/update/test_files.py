"""An update of files that are not notebooks: what the learner has changed is kept."""

import shutil

import pytest

from llama_lessons.update import update
from tests.update.course import ANSWER, CELLS, EXERCISE, LESSON, MODULE, Course, git, write


def test_other_files_that_both_have_changed_are_kept_beside(course: Course, capsys) -> None:
    for news, kept in (("2\n", "rope.mine.py"), ("3\n", "rope.mine1.py")):
        write(course.mine / MODULE, f"mine, before {news}")
        course.publish(**{MODULE: news})
        update(course.mine)
        assert (course.mine / MODULE).read_text() == news
        assert (course.mine / "llama_lessons" / kept).read_text() == f"mine, before {news}"
        assert f"{MODULE}: you had changed it; yours is now {kept}\n" in capsys.readouterr().out


def test_what_only_the_learner_has_changed_stays(course: Course) -> None:
    write(course.mine / MODULE, "mine\n")
    write(course.mine / "notes.txt", "mine\n")
    course.solve(turn=ANSWER)
    course.publish(**{LESSON: CELLS | {"title": "# New"}})
    before = course.files()
    update(course.mine)
    assert {name for name, content in course.files().items() if before.get(name) != content} == {LESSON, "HEAD"}


@pytest.mark.parametrize(
    ("name", "mine", "news", "kept"),
    [
        ("new.py", "mine\n", "the course's\n", "new.mine.py"),
        (EXERCISE, "no notebook", CELLS | {"title": "# New"}, "exercises/03_rope.mine.ipynb"),
        ("old.py", "mine\n", None, "old.py"),
        (LESSON, "{}", None, LESSON),
    ],
    ids=["untracked", "broken", "deleted", "a notebook deleted"],
)
def test_a_file_in_the_way_is_kept(course: Course, name: str, mine: str, news: dict | str | None, kept: str) -> None:
    write(course.mine / name, mine)
    course.publish(**{name: news})
    update(course.mine)
    assert (course.mine / kept).read_text() == mine


def test_a_folder_in_the_way_is_kept(course: Course) -> None:
    write(course.mine / "new.py/inside.txt", "mine\n")
    course.publish(**{"new.py": "the course's\n"})
    update(course.mine)
    assert (course.mine / "new.mine.py/inside.txt").read_text() == "mine\n"
    assert (course.mine / "new.py").read_text() == "the course's\n"


def test_a_change_that_git_was_told_to_overlook_is_kept(course: Course) -> None:
    git(course.mine, "update-index", "--assume-unchanged", MODULE)
    write(course.mine / MODULE, "mine\n")
    course.publish(**{MODULE: "the course's\n"})
    update(course.mine)
    assert (course.mine / "llama_lessons/rope.mine.py").read_text() == "mine\n"
    assert (course.mine / MODULE).read_text() == "the course's\n"


def test_line_ends_of_windows_are_no_changes(course: Course) -> None:
    git(course.mine, "config", "core.autocrlf", "true")
    shutil.rmtree(course.mine / "llama_lessons")
    git(course.mine, "checkout", "--quiet", ".")
    assert (course.mine / MODULE).read_bytes().endswith(b"\r\n")
    course.solve(turn=ANSWER)
    course.publish(**{EXERCISE: CELLS | {"title": "# New"}, MODULE: "2\n"})
    update(course.mine)
    assert git(course.mine, "status", "--porcelain") == f" M {EXERCISE}\n"
    assert course.sources()[:2] == ["# New", ANSWER]
