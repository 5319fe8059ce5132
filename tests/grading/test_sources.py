"""What of a notebook goes with an answer into a file of its own."""

import importlib.util
import math
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from llama_lessons.grading.sources import CannotKeep, module_source

SETUP = """
import math
import torch
import torch.nn.functional as F
from dataclasses import dataclass
from functools import lru_cache as remembered
from torch import Tensor, nn
"""


@pytest.fixture
def notebook(shell):
    """Runs cells as a notebook does, and gives what they define by name."""

    def run(*cells: str):
        for cell in (SETUP, *cells):
            shell.run_cell(cell, silent=False).raise_error()
        return shell.user_ns

    return run


def alone(source: str) -> dict:
    """What a file with this source defines, where nothing else is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "alone.py")
        file.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("alone", file)
        sys.modules["alone"] = module = importlib.util.module_from_spec(spec)  # where dataclass looks
        spec.loader.exec_module(module)
    return vars(module)


def source_of(answer, *siblings: str) -> str:
    return module_source(answer, lambda name, value: name in siblings)


def test_a_function_goes_with_its_helpers_constants_and_imports(notebook):
    cells = (
        "BASE, KIND = 10.0, torch.float64\nsizes = [1, 2]",
        "def half(x: Tensor) -> Tensor:\n    return x / 2  # one of two",
        "doubled = lambda x: half(x) * 4",
        "def answer(x: Tensor) -> Tensor:\n    return F.relu(doubled(x).to(KIND)) + BASE * math.pi + len(sizes)",
    )
    given = notebook(*cells)
    source = source_of(given["answer"])
    assert "# one of two" in source
    assert source.count("import torch.nn.functional as F") == 1
    x = torch.tensor([1.0, -2.0])
    assert torch.equal(alone(source)["answer"](x), given["answer"](x))
    assert alone(source)["answer"](x)[0] == 2 + 10 * math.pi + 2


def test_a_class_goes_with_its_bases_and_decorators(notebook):
    given = notebook(
        "@dataclass\nclass Sizes:\n    dim: int = 3\n\n    def half(self) -> float:\n        return self.dim / 2",
        "class Base(nn.Module):\n    def size(self) -> Sizes:\n        return Sizes(4)",
        "class Answer(Base):\n    def __init__(self):\n        super().__init__()\n        self.size_of = nn.Linear\n"
        "    @property\n    def width(self):\n        return self.size().half()",
    )
    assert alone(source_of(given["Answer"]))["Answer"]().width == 2.0


def test_the_last_of_several_definitions_counts(notebook):
    given = notebook("def answer():\n    return 1", "def answer():\n    return 2")
    assert alone(source_of(given["answer"]))["answer"]() == 2


def test_a_name_that_is_local_is_no_tensor_of_another_cell(notebook):
    given = notebook("q = torch.ones(2)", "def answer(k):\n    q = k * 2\n    return [q for q in q]")
    assert "ones" not in source_of(given["answer"])


def test_recursion_and_helpers_that_call_each_other(notebook):
    given = notebook(
        "def even(n):\n    return n == 0 or odd(n - 1)",
        "def odd(n):\n    return n > 0 and even(n - 1)",
        "def answer(n):\n    return even(n) if n < 5 else answer(n - 2)",
    )
    assert alone(source_of(given["answer"]))["answer"](9) is False


def test_an_import_under_another_name_and_a_decorator(notebook):
    given = notebook("@remembered\ndef answer(n):\n    return n + 1")
    source = source_of(given["answer"])
    assert "from functools import lru_cache as remembered" in source
    assert alone(source)["answer"](1) == 2


def test_a_part_that_lies_beside_it_is_imported(notebook):
    given = notebook("def rotate(x):\n    return x", "def answer(x):\n    return rotate(x)")
    source = source_of(given["answer"], "rotate")
    assert "from .rotate import rotate" in source
    assert "def rotate" not in source


def test_what_only_annotations_name_needs_no_course(notebook):
    given = notebook(
        "from llama_lessons.llama import LlamaConfig\nfrom llama_lessons import presets",
        "def answer(config: LlamaConfig, cache: 'presets.Cache | None' = None) -> Tensor:\n"
        "    size: LlamaConfig = config\n    return torch.zeros(size)",
    )
    source = source_of(given["answer"])
    assert "llama_lessons" not in source
    assert alone(source)["answer"](2).shape == (2,)


def test_the_course_s_own_functions_are_copied_and_marked(notebook):
    given = notebook("from llama_lessons.attention import repeat_kv", "def answer(x):\n    return repeat_kv(x, 2)")
    source = source_of(given["answer"])
    assert "# The course's\ndef repeat_kv" in source
    assert "llama_lessons" not in source
    assert alone(source)["answer"](torch.ones(1, 1, 1, 1)).shape == (1, 2, 1, 1)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (("table = torch.ones(2)", "def answer(x):\n    return x + table"), "table of another cell, which is a Tensor"),
        (("from llama_lessons import rope", "def answer(x):\n    return rope.rope_tables(x)"), "course's module rope"),
        (
            ("def make(n):\n    def answer(x):\n        return x + n\n    return answer", "answer = make(2)"),
            "whose n it",
        ),
        (
            ("def answer(x):\n    from llama_lessons.rope import apply_rope\n    return apply_rope(x)",),
            "imports the course",
        ),
        (("class answer:\n    size = 3",), "give the class a method"),
        (("half = nn.Linear(2, 2)", "def answer(x):\n    return half(x)"), "half of another cell, which is a Linear"),
    ],
)
def test_what_no_file_can_hold_is_said(notebook, cells, why):
    with pytest.raises(CannotKeep, match=why):
        source_of(notebook(*cells)["answer"])
