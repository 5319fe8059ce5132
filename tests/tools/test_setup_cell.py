"""The setup cell, run by IPython where the course is missing, with a stand-in for pip that notes how it is called."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.cells import ROOT
from tools.setup_cell import repository, setup_source

# A name that nothing installed here has
CELL = setup_source().replace("llama_lessons", "no_such_course")
RUN = """\
import sys
from IPython.core.interactiveshell import InteractiveShell
for cell in sys.argv[1:]:
    result = InteractiveShell.instance().run_cell(cell)
    print("error:", result.error_before_exec or result.error_in_exec)
"""
FAKE_PIP = """\
import os, sys
with open(os.environ["FAKE_LOG"], "a") as log:
    print(*sys.argv[1:], file=log)
if os.environ.get("FAKE_FAILS"):
    sys.exit("ERROR: no network")
open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "no_such_course.py"), "w")
"""


class Machine:
    """A computer whose Python has IPython, but neither the course nor a network."""

    def __init__(self, folder: Path) -> None:
        self.log, pip = folder / "pip.log", folder / "site" / "pip"
        pip.mkdir(parents=True)
        (pip / "__init__.py").touch()
        (pip / "__main__.py").write_text(FAKE_PIP)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "FAKE_LOG": str(self.log)}
        self.env |= {"PYTHONPATH": str(folder / "site"), "IPYTHONDIR": str(folder / "ipython")}

    def run(self, *cells: str) -> list[str]:
        """Run cells in one kernel; return the error of each, or "None"."""
        command = [sys.executable, "-c", RUN, *cells]
        printed = subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout
        return [line.removeprefix("error: ") for line in printed.splitlines() if line.startswith("error: ")]

    def pip_calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("place", ["COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"])
def test_on_colab_and_kaggle_the_course_is_installed_once(machine: Machine, place: str) -> None:
    machine.env[place] = "yes"
    assert machine.run(CELL, "import no_such_course", CELL) == ["None"] * 3
    assert machine.pip_calls() == [f"install -q git+{repository()}"]


def test_a_failing_installation_says_what_to_do(machine: Machine) -> None:
    machine.env |= {"COLAB_RELEASE_TAG": "yes", "FAKE_FAILS": "1"}
    (error,) = machine.run(CELL)
    assert error.startswith("No no_such_course here")
    assert error.endswith("on Colab, run this again.")


def test_elsewhere_nothing_is_installed(machine: Machine) -> None:
    (error,) = machine.run(CELL)
    assert error.startswith("No no_such_course here: run `make lab` in the course")
    assert machine.pip_calls() == []


def test_where_the_course_is_installed_nothing_happens(machine: Machine) -> None:
    assert machine.run(setup_source()) == ["None"]
    assert machine.pip_calls() == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md"):  # a build leaves files behind where it is made
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "llama_lessons", folder / "llama_lessons", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(folder)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_a_wheel_holds_all_that_the_package_holds(wheel: Path) -> None:
    files = [path for path in (ROOT / "llama_lessons").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    wanted = {path.relative_to(ROOT).as_posix() for path in files}
    assert any(name.endswith(".json") for name in wanted)
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_from_a_wheel_a_stored_result_is_shown(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import llama_lessons; from llama_lessons.lab.thread import show_table; show_table('norm')"
    code += "; print(llama_lessons.__file__)"
    command = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    printed = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == str(tmp_path / "llama_lessons" / "__init__.py")
