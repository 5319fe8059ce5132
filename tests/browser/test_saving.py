"""A learner opens a notebook, JupyterLab saves it, and git sees as good as no change."""

import platform

import pytest

from tools.cells import ROOT, read, text
from tools.normalise import format_notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LAST = '"pygments_lexer": "ipython3"'


@pytest.mark.parametrize("path", ["exercises/03_rope.ipynb", "notebooks/03_rope.ipynb"])
def test_opening_and_saving_adds_the_version_of_python_and_nothing_else(open_notebook, lab, path: str) -> None:
    target = lab.root / path
    committed = text(format_notebook(read(ROOT / path), ROOT / path))
    target.write_text(committed, encoding="utf-8")
    notebook = open_notebook(path)
    notebook.page.locator(".lm-TabBar-tab.jp-mod-current.jp-mod-dirty").wait_for()
    notebook.menu("File", "Save Notebook")
    notebook.wait_until(lambda: (now := target.read_text(encoding="utf-8")) != committed and now.endswith("}\n"))
    version = f'{LAST},\n   "version": "{platform.python_version()}"'
    assert committed.count(LAST) == 1
    assert target.read_text(encoding="utf-8") == committed.replace(LAST, version)
