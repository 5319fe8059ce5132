"""A learner meets an unsolved exercise, errs, is told why, solves it, and sees the points."""

import re

import pytest

from tools.cells import ROOT, SOLUTIONS, read

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NEIGHBOURS = """\
def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2).to(x.dtype)"""
CRASH = """\
def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x.turned(cos, sin)"""


def solution(start: str, lesson: str = "03_rope") -> str:
    """The cell of a lesson's solutions that begins so; its markers are comments."""
    cells = read(ROOT / SOLUTIONS / f"{lesson}.ipynb").cells
    return next(cell.source for cell in cells if cell.source.startswith(start))


@pytest.fixture
def exercise(open_notebook):
    """Exercise 03, opened, up to its first check."""
    notebook = open_notebook("exercises/03_rope.ipynb")
    notebook.run("import torch")
    notebook.run("def rope_frequencies")
    return notebook


def test_unsolved_then_solved_then_counted(exercise) -> None:
    output = exercise.run("check(rope_frequencies)")
    assert "rope_frequencies is not solved yet" in output.get_by_role("status").inner_text()
    assert "Traceback" not in output.inner_text()
    assert "grading" not in output.inner_text()
    assert "0 of 27" in exercise.run("progress()").locator("tr", has_text="03_rope").inner_text()

    exercise.write("def rope_frequencies", solution("def rope_frequencies("))
    exercise.run("def rope_frequencies")
    output = exercise.run("check(rope_frequencies)")
    right = r"✓ rope_frequencies is right: (\d+) of \1 checks, 3 of 3 points\."
    assert re.fullmatch(right, output.inner_text().strip()), "one line, and nothing of the error before"

    row = exercise.run("progress()").locator("tr", has_text="03_rope").inner_text()
    assert "3 of 27" in row
    assert "rope_frequencies" not in row
    assert "apply_rope" in row


def test_a_misconception_is_named(exercise) -> None:
    exercise.write("def apply_rope(", NEIGHBOURS)
    exercise.run("def apply_rope(")
    output = exercise.run("check(apply_rope)")
    card = output.get_by_role("status")
    assert "apply_rope is not right yet" in card.inner_text()
    assert "(pairs are neighbours): You pair channel 2i with 2i + 1" in card.inner_text()
    assert "Traceback" not in output.inner_text()
    checks = card.get_by_role("listitem")
    assert not checks.first.is_visible()
    card.locator("summary").click()
    checks.first.wait_for()


def test_a_crash_shows_the_learners_own_line_and_none_of_the_graders(exercise) -> None:
    exercise.write("def apply_rope(", CRASH)
    exercise.run("def apply_rope(")
    text = exercise.run("check(apply_rope)").inner_text()
    assert "Your cell, line 2" in text
    assert "return x.turned(cos, sin)" in text
    assert "AttributeError" in text
    assert "llama_lessons" not in text


def test_what_is_typed_becomes_a_model_that_answers(open_notebook) -> None:
    """Three solutions of lesson 09, the course's parts for the rest; the words come one by one."""
    notebook = open_notebook("exercises/09_llama.ipynb")
    notebook.run("from typing import Any")
    assert "SwiGLU: the course's" in notebook.run("from llama_lessons.lab.mine import Attention").inner_text()
    for start, name in (("class Block", "Block"), ("class Llama", "Llama"), ("def load", "load"), ("def my_llama", "")):
        notebook.write(start, solution(start, "09_llama"))
        notebook.run(start)
        if name:
            assert f"✓ {name} is right" in notebook.run(f"check({name})").inner_text()
    text = notebook.run("own = my_llama()").inner_text()
    assert "my_llama: 3 of 11 parts are yours; the course's: rope_frequencies, " in text
    assert "The capital of France is Paris." in text
    notebook.write("own = my_llama()", 'own.answer("Write about the sea.", max_new_tokens=60)')
    cell = notebook.cell("own.answer(")
    cell.locator(".cm-content").click()
    notebook.page.keyboard.press("Control+Enter")
    lengths: set[int] = set()

    def grows() -> bool:
        lengths.add(len(" ".join(cell.locator(".jp-OutputArea").all_inner_texts())))
        return len(lengths) > 5

    notebook.wait_until(grows)  # the words come one by one
    assert notebook.errors() == []
