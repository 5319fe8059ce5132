"""The exercise of the whole model: a learner's eleven parts with SmolLM2's weights, or with those of a small file."""

from dataclasses import replace

import pytest

from llama_lessons.grading import mine
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import find_exercise
from llama_lessons.grading.report import verdict_text
from tests.test_checkpoints_gguf import CONFIG, TOKENIZER, metadata, tensors, write

pytestmark = pytest.mark.slow

EXERCISE = find_exercise("my_llama")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A learner who has solved all parts, as right as the course."""
    monkeypatch.setenv("LLAMA_LESSONS_MINE", str(tmp_path / "my_llama"))
    mine.complete()
    for part in mine.PARTS:
        file = tmp_path / "my_llama" / f"{part}.py"
        file.write_text(file.read_text().replace("# The course's, as long as", "# Yours: in place of", 1))
    return tmp_path / "my_llama"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Three blocks in place of SmolLM2's thirty, for what is said of wrong parts."""
    config = replace(CONFIG, vocab_size=300, n_layers=3, max_seq_len=256, rope_theta=100_000.0)
    weights = {name: 5 * weight for name, weight in tensors(config).items()}  # so that each token looks at a few
    path = write(tmp_path / "small.gguf", weights, metadata(config) | TOKENIZER)
    monkeypatch.setattr("llama_lessons.lab.mine.fetch", lambda name: path)


def graded():
    return grade(EXERCISE, EXERCISE.reference)


def change(folder, part: str, old: str, new: str) -> None:
    file = folder / f"{part}.py"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_right_parts_make_a_right_model(folder):
    verdict = graded()
    assert verdict.passed, verdict.first_failure
    assert verdict.points == 8


def test_a_wrong_part_is_found_and_named(folder, small):
    change(folder, "Llama", "rope_frequencies(config.head_dim, config.rope_theta)", "rope_frequencies(config.head_dim)")
    verdict = graded()
    assert [result.passed for result in verdict.results] == [True, True, False, False, False]
    assert (verdict.mistake.name, verdict.mistake.sure) == ("rope_theta of 10,000", True)
    text = " ".join(verdict_text(verdict).split())
    assert "The first part that differs is blocks.0.attention. Given the right input, it returns what is off by" in text
    assert "In 2 other blocks this part differs too." in text
    assert "turned as if rope_theta were 10,000" in text


def test_what_is_no_known_mistake_is_located(folder, small):
    change(folder, "SwiGLU", "F.silu(gate)", "gate.tanh()")
    verdict = graded()
    assert verdict.mistake.name == "the first part that differs"
    assert verdict.mistake.diagnosis.startswith("The first part that differs is blocks.0.feed_forward.")


def test_the_course_s_parts_alone_earn_nothing_for_what_this_lesson_asks(folder, small):
    for part in ("Block", "load"):
        change(folder, part, "# Yours: in place of", "# The course's, as long as")
    verdict = graded()
    assert verdict.first_failure.message.startswith("not solved yet: Block, load. ")
    assert verdict.points == 0
    assert verdict.mistake is None


def test_a_part_that_fails_is_said_in_a_line(folder, small):
    change(folder, "SwiGLU", "return self.down_proj(hidden)", "return self.down(hidden)")
    verdict = graded()
    assert [result.passed for result in verdict.results] == [True, True, False, False, False]
    assert "'SwiGLU' object has no attribute 'down'" in verdict.results[2].message
    (folder / "Block.py").write_text("# Yours\nclass Block(:\n")
    assert "Block.py cannot be imported (SyntaxError: invalid syntax" in graded().first_failure.message


def test_a_mistake_with_caches_is_located(folder, small):
    change(folder, "Llama", "caches[0].length if caches else 0", "0")
    verdict = graded()
    assert [result.passed for result in verdict.results] == [True, True, True, False, False]
    assert verdict.mistake.name == "positions restart"
    assert "The cache of block 0, when a text is read in two pieces" in verdict.mistake.diagnosis


def test_anything_else_is_refused(folder):
    assert "has to return what assemble() returns" in grade(EXERCISE, lambda: 3).first_failure.message
