"""A learner clones the course, solves, the course changes, and the learner updates: nothing of theirs is lost."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from llama_lessons import update as module
from llama_lessons.update import UpdateError, main, merge_notebooks, update

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

EXERCISE, LESSON, MODULE = "exercises/03_rope.ipynb", "notebooks/03_rope.ipynb", "llama_lessons/rope.py"
STUB = "def turn(x):\n    raise NotImplementedError('turn is not solved yet')"
NEW_STUB = "def turn(x, angle):\n    raise NotImplementedError('turn is not solved yet')"
ANSWER = "def turn(x):\n    return 'my answer'"
CELLS = {"title": "# Exercises", "turn": STUB, "check": "turn(1)", "other": "def other():\n    ..."}


def notebook(cells: dict[str, str]) -> NotebookNode:
    """A notebook of cells by id; what begins with # is Markdown."""
    made = [(new_markdown_cell if s.startswith("#") else new_code_cell)(s, id=id) for id, s in cells.items()]
    return new_notebook(cells=made)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


class Course:
    """The course as it is published, and a learner's clone."""

    def __init__(self, folder: Path) -> None:
        self.published, self.mine = folder / "published", folder / "mine"
        git(folder, "init", "--quiet", "--initial-branch=main", "published")
        self.publish(**{EXERCISE: CELLS, LESSON: CELLS, MODULE: "layout = 'half'\n", "old.py": "1\n"})
        git(folder, "clone", "--quiet", "published", "mine")

    def publish(self, **files: dict | str | None) -> None:
        """Publish these files: notebooks by their cells, texts, None for one that goes."""
        for name, content in files.items():
            write(self.published / name, content)
        git(self.published, "add", "--all")
        git(self.published, "commit", "--quiet", "--message=news")

    def solve(self, name: str = EXERCISE, **cells: str) -> None:
        """Write into cells by their ids, run them all, and save as JupyterLab does."""
        nb = self.read(name)
        for cell in nb.cells:
            cell.source = cells.pop(cell.id, cell.source)
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = 7, [new_output("stream", text="mine\n")]
        nb.cells += notebook(cells).cells
        nb.metadata["language_info"] = {"name": "python", "version": "3.99.9"}
        nbformat.write(nb, self.mine / name)

    def read(self, name: str = EXERCISE) -> NotebookNode:
        return nbformat.read(self.mine / name, as_version=4)

    def sources(self, name: str = EXERCISE) -> list[str]:
        return [cell.source for cell in self.read(name).cells]

    def files(self) -> dict[str, bytes]:
        """All files of the clone, and where its branch is."""
        files = {p for p in self.mine.rglob("*") if p.is_file() and ".git" not in p.relative_to(self.mine).parts}
        found = {p.relative_to(self.mine).as_posix(): p.read_bytes() for p in files}
        return found | {"HEAD": git(self.mine, "rev-parse", "HEAD").encode()}


def write(path: Path, content: dict | str | None) -> None:
    if content is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else nbformat.writes(notebook(content)) + "\n"
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    return Course(tmp_path)


# ------------------------------------------------------------------------------------------- notebooks


def test_answers_are_the_learners_and_all_else_is_the_courses(course: Course, capsys) -> None:
    course.solve(turn=ANSWER, mine="1 + 1")
    news = {"title": "# Better exercises", "hint": "# Read this", "turn": STUB, "check": "turn(2)"}
    course.publish(**{EXERCISE: news, MODULE: "layout = 'interleaved'\n", "new/file.py": "2\n", "old.py": None})
    update(course.mine)
    assert course.sources() == ["# Better exercises", "# Read this", ANSWER, "turn(2)", "1 + 1"]
    _, _, turn, check, _ = course.read().cells
    assert (turn.outputs[0].text, check.outputs) == ("mine\n", [])
    assert "version" not in course.read().metadata.get("language_info", {})
    assert git(course.mine, "status", "--porcelain") == f" M {EXERCISE}\n"
    assert git(course.mine, "rev-parse", "HEAD") == git(course.published, "rev-parse", "HEAD")
    assert f"{EXERCISE}: 2 cells of yours kept\n" in capsys.readouterr().out


def test_an_answer_whose_stub_has_changed_stays_and_the_new_stub_stands_below_it(course: Course, capsys) -> None:
    course.solve(turn=ANSWER)
    course.publish(**{EXERCISE: CELLS | {"turn": NEW_STUB}})
    update(course.mine)
    _, answer, laid, *_ = course.read().cells
    assert answer.source == ANSWER
    assert laid.cell_type == "markdown", "it must not run: it would take the answer's place"
    assert NEW_STUB in laid.source
    assert f"{EXERCISE}: turn has changed; your cell is as it was, and the" in capsys.readouterr().out


def test_a_new_stub_below_an_answer_stays_until_a_newer_one_comes_or_the_learner_deletes_it(course: Course) -> None:
    course.solve(turn=ANSWER)
    course.publish(**{EXERCISE: CELLS | {"turn": NEW_STUB}})
    update(course.mine)
    with_stub = course.sources()
    course.publish(**{EXERCISE: CELLS | {"turn": NEW_STUB, "title": "# New"}})
    update(course.mine)
    assert course.sources() == ["# New", *with_stub[1:]]

    course.publish(**{EXERCISE: CELLS | {"turn": "def newest(): ..."}})
    update(course.mine)
    assert len(course.sources()) == 5
    assert "def newest(): ..." in course.sources()[2]

    course.solve(**{course.read().cells[2].id: "# My notes on it"})
    course.publish(**{EXERCISE: CELLS | {"turn": "def last(): ..."}})
    update(course.mine)
    assert course.sources()[1] == ANSWER
    assert "# My notes on it" in course.sources()


def test_what_the_learner_has_only_run_is_as_published_afterwards(course: Course) -> None:
    course.solve(LESSON)
    course.publish(**{LESSON: CELLS | {"title": "# New"}})
    update(course.mine)
    assert git(course.mine, "status", "--porcelain") == ""


def test_empty_cells_which_jupyterlab_adds_below_the_last_go(course: Course) -> None:
    course.solve(turn=ANSWER, empty=" \n")
    course.publish(**{EXERCISE: CELLS | {"end": "# The end"}})
    update(course.mine)
    assert course.sources() == [*(CELLS | {"turn": ANSWER}).values(), "# The end"]


def test_edits_and_cells_in_a_lesson_are_kept(course: Course) -> None:
    course.solve(LESSON, check="turn(100)", note="# My note")
    course.publish(**{LESSON: {"title": "# New"} | CELLS | {"end": "# The end"}})
    update(course.mine)
    assert course.sources(LESSON) == ["# Exercises", STUB, "turn(100)", CELLS["other"], "# My note", "# The end"]


def test_an_answer_to_an_exercise_that_is_gone_stays_where_it_was(course: Course) -> None:
    course.solve(turn=ANSWER)
    course.publish(**{EXERCISE: {name: CELLS[name] for name in ("title", "other")}})
    update(course.mine)
    assert course.sources() == ["# Exercises", ANSWER, CELLS["other"]]


def test_an_answer_that_was_pasted_into_a_new_cell_does_not_get_the_stub_back(course: Course) -> None:
    moved = {("fresh" if name == "turn" else name): source for name, source in (CELLS | {"turn": ANSWER}).items()}
    write(course.mine / EXERCISE, moved)
    course.publish(**{EXERCISE: CELLS | {"title": "# New"}})
    update(course.mine)
    assert course.sources() == ["# New", ANSWER, CELLS["check"], CELLS["other"]]


def test_ids_that_colab_has_exchanged_double_nothing(course: Course) -> None:
    write(course.mine / EXERCISE, {f"colab{n}": s for n, s in enumerate((CELLS | {"turn": ANSWER}).values())})
    course.publish(**{EXERCISE: CELLS | {"title": "# New"}})
    update(course.mine)
    assert course.sources() == ["# New", ANSWER, CELLS["check"], CELLS["other"]]


CELL_LISTS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("pqrst"), max_size=6)
EMPTY = new_notebook()


@settings(max_examples=300, deadline=None)
@given(CELL_LISTS, st.lists(st.tuples(st.sampled_from("abcxyz"), st.sampled_from("pqrMN"))), CELL_LISTS)
def test_no_source_of_the_learners_is_ever_lost(handed: dict, mine: list, newest: dict) -> None:
    own = notebook(dict(mine))
    merged = nbformat.reads(merge_notebooks(notebook(handed), own, notebook(newest))[0], as_version=4)
    sources = [cell.source for cell in merged.cells]
    for cell in own.cells:
        if cell.source not in (handed.get(cell.id), newest.get(cell.id)) and cell.source not in handed.values():
            assert cell.source in sources
    assert merge_notebooks(notebook(handed), notebook(handed), notebook(newest)) == (
        nbformat.writes(notebook(newest)) + "\n",
        [],
    )


# ----------------------------------------------------------------------------------------- other files


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


# --------------------------------------------------------------------------------- what can go wrong


def news(course: Course) -> None:
    """Work of every kind, and news that meet it."""
    course.solve(turn=ANSWER, mine="1 + 1")
    course.solve(LESSON)
    write(course.mine / MODULE, "mine\n")
    write(course.mine / "new.py", "mine\n")
    changed = CELLS | {"turn": NEW_STUB}
    course.publish(**{EXERCISE: changed, LESSON: changed, MODULE: "2\n", "new.py": "2\n", "old.py": None})


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
