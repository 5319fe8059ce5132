"""JupyterLab on a copy of the course, and Chromium to look at it as a learner does."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tools.cells import EXERCISES, LESSONS, ROOT, notebooks, read, write
from tools.normalise import without_outputs

RESULTS = ROOT / "test-results"
# Two busy cores are slow, and the first run fetches the model. All waiting polls, so that a long limit costs nothing.
SECONDS = 1000
PATIENCE, RUN_PATIENCE = 60 * SECONDS, 420 * SECONDS
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
ERROR = "[data-mime-type='application/vnd.jupyter.error']"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def _missing(what: str) -> None:
    """Skip for want of `what`, but fail in CI, where it has to be there."""
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, and {what}", pytrace=False)
    pytest.skip(what)


# ------------------------------------------------------------------------------------------- JupyterLab


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: where it answers, and the folder that holds the course, its settings and progress."""

    url: str
    token: str
    home: Path

    @property
    def root(self) -> Path:
        """The folder that it serves."""
        return self.home / "course"

    def renew(self) -> None:
        """As on the first day: every notebook as committed, no progress, no my_llama, no settings, no kernel."""
        for kernel in self.request("kernels"):
            self.request(f"kernels/{kernel['id']}", method="DELETE")
        (self.home / "progress.json").unlink(missing_ok=True)
        for folder in (self.root, self.home / "my_llama"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in notebooks(LESSONS, EXERCISES):
            target = self.root / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Without stored outputs, so that what is seen comes from this run.
            write(without_outputs(read(path)), target)
        shutil.rmtree(self.home / "config/lab", ignore_errors=True)

    def request(self, path: str, method: str = "GET") -> Any:
        """What the server's API answers, or None if that is nothing."""
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or "null")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on loopback, with a token, and nothing of the user's own."""
    if find_spec("jupyterlab") is None:
        _missing("JupyterLab is not installed: pip install -r requirements.txt")
    home = tmp_path_factory.mktemp("lab")
    (home / "course").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), home)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={lab.root}"]
    command += [f"--IdentityProvider.token={lab.token}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    own = {f"JUPYTER_{kind.upper()}_DIR": str(home / kind) for kind in ("config", "data", "runtime")}
    own |= {"IPYTHONDIR": str(home / "ipython"), "LLAMA_LESSONS_PROGRESS": str(home / "progress.json")}
    own["LLAMA_LESSONS_MINE"] = str(home / "my_llama")
    own |= {"LLAMA_LESSONS_PLAIN": ""}
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_it_answers(lab, server)
        yield lab
    finally:
        server.terminate()  # it ends its kernels first
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()  # kernels end when they see that it is gone
            server.wait()


def _wait_until_it_answers(lab: Lab, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE / SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            lab.request("status")
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{(lab.home / 'lab.log').read_text()[-3000:]}", pytrace=False)


# --------------------------------------------------------------------------------------------- Chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser: the system's Chromium, or CHROMIUM if that names one."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed: pip install -r requirements-test.txt")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        _missing("there is no Chromium: apt install chromium, or name one with CHROMIUM=/path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_notebook(lab: Lab, chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Open a notebook by its path in the course, each in a window of its own; a failure leaves pictures of them."""
    lab.renew()
    opened: list[Notebook] = []

    def open_notebook(path: str) -> Notebook:
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        opened.append(Notebook(page))
        page.goto(f"{lab.url}/lab/tree/{path}?token={lab.token}")
        opened[-1].wait_until_ready()
        return opened[-1]

    yield open_notebook
    for number, notebook in enumerate(opened):
        if getattr(request.node, "failed", False):
            _keep(notebook.page, f"{request.node.name}-{number}")
        notebook.page.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Tell the fixtures whether the test has failed."""
    report = yield
    item.failed = getattr(item, "failed", False) or report.failed
    return report


def _keep(page: Any, name: str) -> None:
    """Keep what can be seen on the page, as a picture and as text."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / re.sub(r"\W+", "-", name)
    page.screenshot(path=target.with_suffix(".png"))
    target.with_suffix(".txt").write_text(page.inner_text("body"), encoding="utf-8")


# --------------------------------------------------------------------------------------------- Notebook


class Notebook:
    """A notebook open in JupyterLab, used as a learner does: by menu, mouse and keyboard."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def cell(self, text: str) -> Any:
        """The unfolded code cell whose source begins with `text`."""
        begins = re.compile(rf"^\s*{re.escape(text)}")
        return self.page.locator(".jp-CodeCell").filter(has=self.page.locator(".cm-content", has_text=begins))

    def menu(self, *items: str) -> None:
        """Choose an entry of the menu bar, such as ("Run", "Run All Cells")."""
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{items[0]}$")).click()
        for item in items[1:]:
            label = self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{re.escape(item)}$"))
            self.page.locator(".lm-Menu-item:visible").filter(has=label).click()

    def wait_until_ready(self) -> None:
        """Wait until the notebook is shown and its kernel has started."""
        self.page.locator(".jp-StatusBar-Widget").get_by_text("| Idle").wait_for()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`."""
        deadline = time.monotonic() + PATIENCE / SECONDS
        while not holds():
            assert time.monotonic() < deadline, "waited in vain"
            self.page.wait_for_timeout(50)

    def run_all(self) -> None:
        """Run > Run All Cells, and wait until the last has run, or one has failed."""
        self.menu("Run", "Run All Cells")
        last = self.page.locator(".jp-CodeCell").last.locator(".jp-InputPrompt", has_text=re.compile(r"\d"))
        last.or_(self.page.locator(ERROR)).first.wait_for(timeout=RUN_PATIENCE)

    def errors(self) -> list[str]:
        """The text of each error that is shown below a cell."""
        return self.page.locator(ERROR).all_inner_texts()

    def run(self, text: str) -> Any:
        """Run the cell whose source begins with `text` by Ctrl + Enter, and wait until it has; return its outputs."""
        cell = self.cell(text)
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        self.wait_until(lambda: re.search(r"\d", now := prompt.inner_text()) and now != before)
        return cell.locator(".jp-OutputArea")

    def write(self, text: str, source: str) -> None:
        """Type `source` in place of what is in the cell whose source begins with `text`."""
        self.cell(text).locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(source)
