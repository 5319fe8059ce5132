"""What make sets up, with a stand-in for Python that only notes how it is called."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.cells import ROOT

FILES = ("Makefile", "pyproject.toml", "requirements.txt", "requirements-test.txt", "tools/lab_settings.json")
FAKE_PYTHON = """\
#!/bin/sh
echo "$@" >> calls
case "$*" in
    *"$FAIL"*) exit 1 ;;
    "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    -V) echo Python 3.4.5 ;;
esac
"""


class Course:
    """A folder with the Makefile and what it reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tools").mkdir(parents=True)
        for name in FILES:
            shutil.copy(ROOT / name, folder / name)
        self.stand_in("python", FAKE_PYTHON)

    def stand_in(self, name: str, script: str) -> None:
        (self.folder / name).write_text(script)
        (self.folder / name).chmod(0o755)

    def make(self, *arguments: str, fail: str = "nothing of this kind") -> subprocess.CompletedProcess:
        # A clean environment: a make around the tests hands its own settings on.
        env = {"PATH": f"{self.folder}:{os.environ['PATH']}", "FAIL": fail, "PYTHON": "./python"}
        command = ["make", "--no-print-directory", *arguments]
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)

    def installs(self) -> list[str]:
        """What was installed since the last call."""
        calls = self.folder / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [line.removeprefix("-m pip install ") for line in lines if line.startswith("-m pip install")]


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


COURSE = ["-r requirements.txt", "--no-deps -e ."]
TESTS = ["-r requirements-test.txt"]


def test_without_a_target_it_lists_what_there_is(course: Course) -> None:
    listed = course.make().stdout
    targets = "lab grade update test check format notebooks grader-report bench clean help"
    for target in targets.split():
        assert f"make {target} " in listed


def test_lab_opens_on_loopback_with_the_flags_given(course: Course) -> None:
    result = course.make("lab", "LAB_FLAGS=--no-browser --allow-root")
    assert result.returncode == 0, result.stderr
    last = (course.folder / "calls").read_text().splitlines()[-1]
    assert last.startswith("-m jupyterlab --ip=127.0.0.1 ")
    assert "/lab/tree/notebooks/00_start_here.ipynb --no-browser --allow-root" in last
    assert "token" not in last
    assert course.installs() == COURSE
    settings = course.folder / ".venv/share/jupyter/lab/settings/overrides.json"
    assert json.loads(settings.read_text())["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_lab_tells_root_what_jupyter_wants_to_hear_and_nobody_else(course: Course) -> None:
    course.stand_in("id", "#!/bin/sh\necho 0\n")
    result = course.make("lab")
    assert result.returncode != 0
    assert "make lab LAB_FLAGS=--allow-root" in result.stderr
    assert "-m jupyterlab" not in (course.folder / "calls").read_text()
    course.stand_in("id", "#!/bin/sh\necho 1000\n")
    assert course.make("lab").returncode == 0


@pytest.mark.parametrize("name", ["a $HOME", "a `touch hit`", "a $(touch hit)", "a 'quoted' \"one\""])
def test_the_shell_reads_nothing_in_the_folder_s_name(tmp_path: Path, name: str) -> None:
    course = Course(tmp_path / name)
    result = course.make("lab", "LAB_FLAGS=--allow-root")
    assert result.returncode == 0, result.stderr
    last = (course.folder / "calls").read_text().splitlines()[-1]
    assert f"--ServerApp.root_dir={course.folder} " in last
    assert not (course.folder / "hit").exists()


def test_what_is_installed_is_not_installed_again_until_requirements_change(course: Course) -> None:
    course.make("check")
    assert course.installs() == COURSE + TESTS
    course.make("check")
    course.make("lab")
    assert course.installs() == []
    (course.folder / "requirements-test.txt").touch()
    course.make("check")
    assert course.installs() == TESTS
    for name in ("requirements.txt", "pyproject.toml"):
        (course.folder / name).touch()
        course.make("check")
        assert course.installs() == COURSE + TESTS


@pytest.mark.parametrize("step", ["-m venv", *COURSE, *TESTS])
def test_an_installation_that_is_cut_short_is_done_again(course: Course, step: str) -> None:
    assert course.make("check", fail=step).returncode != 0
    course.installs()
    assert course.make("check").returncode == 0
    assert course.installs()[-1:] == TESTS


@pytest.mark.parametrize(
    ("arguments", "fail", "message"),
    [
        (["PYTHON=no-such-python"], "nothing", "no-such-python is not found. Install Python 3.11 or newer, or name it"),
        ([], "version_info", "Python 3.11 or newer is needed, and ./python is Python 3.4.5."),
        ([], "ensurepip", "./python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_named_with_the_remedy(course: Course, arguments, fail: str, message: str) -> None:
    result = course.make("lab", *arguments, fail=fail)
    assert result.returncode != 0
    assert message in result.stderr
    assert not (course.folder / ".venv").exists()


def test_a_test_run_that_fails_fails_make(course: Course) -> None:
    assert course.make("test", fail="-m pytest").returncode != 0


def test_grade_takes_a_lesson_or_all(course: Course) -> None:
    course.make("grade", "LESSON=03_rope")
    assert (course.folder / "calls").read_text().splitlines()[-1] == "-m llama_lessons.grading 03_rope"
    course.make("grade", "JSON=points.json")
    assert (course.folder / "calls").read_text().splitlines()[-1] == "-m llama_lessons.grading --json points.json"
    course.make("grade")
    assert (course.folder / "calls").read_text().splitlines()[-1] == "-m llama_lessons.grading"


def test_update_runs_the_course_s_own_and_fails_with_it(course: Course) -> None:
    assert course.make("update").returncode == 0
    assert (course.folder / "calls").read_text().splitlines()[-1] == "-m llama_lessons.update"
    assert course.make("update", fail="llama_lessons.update").returncode != 0
