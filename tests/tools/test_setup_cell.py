"""The setup cell, run as on Colab: an empty folder, no course, a remote to clone from, small packages missing.

Its Python has no site-packages (-S). What is installed is what lies in a folder of the test's own, where a stand-in
for pip notes its arguments and "installs" by making empty modules.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cells import ROOT
from tools.setup_cell import setup_source

SMALL = ["tqdm", "filelock", "platformdirs", "gguf", "tokenizers", "safetensors"]
REPORT = "\nimport llama_lessons\nprint('found', llama_lessons.__file__)"
FAKE_PIP = """\
import os, re, sys
with open(os.environ["FAKE_LOG"], "a") as log:
    print(*sys.argv[1:], file=log)
if os.environ.get("FAKE_FAILS"):
    sys.exit("ERROR: Could not find a version that satisfies the requirement gguf")
for spec in sys.argv[1:]:
    if not spec.startswith("-") and spec != "install":
        open(os.path.join(os.path.dirname(os.path.dirname(__file__)), re.split(r"\\W", spec)[0] + ".py"), "w")
"""


class Machine:
    """A computer that has only what the test gives it."""

    def __init__(self, folder: Path) -> None:
        self.site, self.home, self.remote = folder / "site", folder / "home", folder / "remote.git"
        self.home.mkdir()
        self.log = folder / "pip.log"
        self.install("numpy", "torch", *SMALL)
        pip = self.site / "pip"
        pip.mkdir()
        (pip / "__init__.py").touch()
        (pip / "__main__.py").write_text(FAKE_PIP)
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.site),
            "LLAMA_LESSONS_REPOSITORY": self.remote.as_uri(),
            "FAKE_LOG": str(self.log),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def install(self, *names: str) -> None:
        self.site.mkdir(exist_ok=True)
        for name in names:
            (self.site / f"{name}.py").touch()

    def remove(self, *names: str) -> None:
        for name in names:
            (self.site / f"{name}.py").unlink()

    def pip_calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def run(self, code: str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess:
        """Run the setup cell, or other code, in a new process, as a kernel that starts anew would."""
        code = setup_source() + REPORT if code is None else code
        command = [sys.executable, "-S", "-c", code]
        return subprocess.run(command, cwd=cwd or self.home, env=self.env, capture_output=True, text=True, check=False)

    def found(self) -> Path:
        """Run the setup cell, which has to go well; return the package that it found."""
        result = self.run()
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return Path(re.fullmatch(r"found (.*)/__init__.py\n", result.stdout)[1])

    def error(self, code: str | None = None, cwd: Path | None = None) -> str:
        """Run the setup cell, which has to fail with a RuntimeError and nothing else; return its message."""
        result = self.run(code, cwd)
        assert result.returncode == 1
        assert result.stderr.count("Traceback") == 1
        return re.search(r"^RuntimeError: (.*)\n\Z", result.stderr, re.MULTILINE)[1]


@pytest.fixture
def local(tmp_path: Path) -> Machine:
    """A computer without the course."""
    return Machine(tmp_path)


@pytest.fixture
def colab(local: Machine) -> Machine:
    """Colab: google.colab is there, and a remote to clone the course from."""
    (local.site / "google" / "colab").mkdir(parents=True)
    (local.site / "google" / "colab" / "__init__.py").touch()
    work = local.home.parent / "work"
    shutil.copytree(ROOT / "llama_lessons", work / "llama_lessons", ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(work)]
    for command in ("init --quiet", "add .", "commit --quiet --message=all"):
        subprocess.run([*git, *command.split()], check=True, env=local.env)
    subprocess.run(["git", "clone", "--quiet", "--bare", work, local.remote], check=True, env=local.env)
    return local


def test_first_run_clones_and_leaves_nothing_else_behind(colab: Machine) -> None:
    assert colab.found() == colab.home / "llama-lessons" / "llama_lessons"
    assert [path.name for path in colab.home.iterdir()] == ["llama-lessons"]
    assert colab.pip_calls() == []


def test_second_run_finds_the_clone_without_a_network(colab: Machine) -> None:
    first = colab.found()
    (first / "mine.py").touch()
    shutil.rmtree(colab.remote)
    assert colab.found() == first
    assert (first / "mine.py").exists()
    assert [path.name for path in colab.home.iterdir()] == ["llama-lessons"]


def test_it_can_run_twice_in_one_kernel(colab: Machine) -> None:
    twice = f"{setup_source()}\n{setup_source()}\nprint(sum('llama-lessons' in folder for folder in sys.path))"
    result = colab.run(twice)
    assert (result.stdout, result.stderr) == ("1\n", "")


@pytest.mark.parametrize("lost", [".git/index", "llama_lessons/__init__.py", "llama_lessons", ".git", "."])
def test_a_half_made_clone_is_replaced_and_set_aside(colab: Machine, lost: str) -> None:
    package = colab.found()
    clone = package.parent
    (clone / "mine.txt").write_text("a note")
    victim = clone / lost
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    if lost == ".":
        clone.mkdir()
    assert colab.found() == package
    assert (clone / ".git" / "index").exists()
    aside = [path for path in colab.home.iterdir() if path != clone]
    assert [path.name.startswith("llama-lessons-old-") for path in aside] == [True]
    assert (aside[0] / "mine.txt").exists() == (lost != ".")


def test_no_network_is_one_clear_error_and_leaves_nothing_behind(colab: Machine) -> None:
    shutil.rmtree(colab.remote)
    message = colab.error()
    assert message.startswith("`git clone")
    assert message.endswith("Check the network, then run this cell again.")
    assert list(colab.home.iterdir()) == []


def test_no_network_keeps_a_half_made_clone(colab: Machine) -> None:
    clone = colab.found().parent
    (clone / ".git" / "index").unlink()
    shutil.rmtree(colab.remote)
    colab.error()
    assert list(colab.home.iterdir()) == [clone]


def test_only_the_small_packages_that_are_missing_are_installed_and_alone(colab: Machine) -> None:
    colab.remove("gguf", "filelock")
    colab.found()
    assert colab.pip_calls() == ["install --quiet --no-deps filelock gguf>=0.16"]
    colab.found()
    assert len(colab.pip_calls()) == 1


def test_torch_and_numpy_are_never_installed(colab: Machine) -> None:
    colab.remove("torch", "numpy", *SMALL)
    colab.found()
    (call,) = colab.pip_calls()
    installed = {re.split(r"\W", spec)[0] for spec in call.split() if not spec.startswith("-")} - {"install"}
    assert installed == set(SMALL)


def test_a_failing_installation_is_one_clear_error(colab: Machine) -> None:
    colab.remove("gguf")
    colab.env["FAKE_FAILS"] = "1"
    message = colab.error()
    assert "Could not find a version that satisfies the requirement gguf" in message
    assert message.endswith("Check the network, then run this cell again.")


def test_on_ones_own_computer_nothing_is_cloned_or_installed(local: Machine) -> None:
    local.remove("gguf")
    message = local.error()
    assert message.startswith("Not installed here: llama_lessons, gguf>=0.16.")
    assert "make lab" in message
    assert list(local.home.iterdir()) == []
    assert local.pip_calls() == []


def test_in_a_checkout_its_own_package_is_found(local: Machine) -> None:
    shutil.copytree(ROOT / "llama_lessons", local.home / "llama_lessons")
    folder = local.home / "notebooks"
    folder.mkdir()
    result = local.run(cwd=folder)
    assert result.stdout == f"found {local.home}/llama_lessons/__init__.py\n", result.stderr
    local.remove("gguf")
    assert local.error(cwd=folder).startswith("Not installed here: gguf>=0.16. Run `make lab`")


def test_where_the_course_is_installed_nothing_happens(local: Machine) -> None:
    (local.site / "llama_lessons.py").touch()
    result = local.run(setup_source())
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(local.home.iterdir()) == []


def test_the_repository_is_the_one_in_pyproject() -> None:
    line = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("Repository"))
    assert line.split('"')[1] in setup_source()
