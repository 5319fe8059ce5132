"""The learner's own package: what check keeps, what is filled in, and what survives what."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llama_lessons.grading import check, mine, progress
from llama_lessons.grading.exercise import find_exercise

RIGHT = """
def apply_rope(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)
"""
OTHER = RIGHT.replace("a, b =", "first, b =").replace("(a * cos", "(first * cos").replace("+ a *", "+ first *")
WRONG = RIGHT.replace("a * cos - b", "a * cos + b")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LLAMA_LESSONS_MINE", str(tmp_path / "my_llama"))
    monkeypatch.setenv("LLAMA_LESSONS_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "my_llama"


@pytest.fixture
def notebook(shell):
    def run(cell: str, name: str = "apply_rope"):
        shell.run_cell(f"import torch\nfrom torch import nn\n{cell}").raise_error()
        return shell.user_ns[name]

    return run


def test_a_right_answer_is_kept_and_a_better_one_takes_its_place(folder, notebook, capsys):
    check(notebook(RIGHT))
    assert "kept" not in capsys.readouterr().out.replace("kept it on", "")
    text = (folder / "apply_rope.py").read_text()
    assert text.startswith("# Yours: check(apply_rope) kept it on ")
    assert RIGHT.strip() in text
    check(notebook(OTHER))
    assert "first * cos" in (folder / "apply_rope.py").read_text()
    assert mine.owners()["apply_rope"] == "yours"
    assert mine.owners()["RMSNorm"] == "missing"


def test_a_wrong_answer_leaves_the_right_one_where_it_is(folder, notebook):
    check(notebook(RIGHT))
    before = (folder / "apply_rope.py").read_text()
    with pytest.raises(Exception, match="not right yet"):
        check(notebook(WRONG))
    assert (folder / "apply_rope.py").read_text() == before
    check(notebook(OTHER), keep=False)
    assert (folder / "apply_rope.py").read_text() == before


def test_what_is_no_part_is_not_kept(folder, notebook):
    check(
        notebook(
            "def repeat_kv(x, group_size):\n    if group_size < 1:\n        raise ValueError\n"
            "    return x.repeat_interleave(group_size, dim=1)",
            "repeat_kv",
        )
    )
    assert not folder.exists()


def test_missing_parts_are_the_course_s_and_are_replaced_when_solved(folder, notebook):
    (rotate,) = mine.take("apply_rope")
    assert mine.owners()["apply_rope"] == "the course's"
    assert rotate(torch.ones(1, 1, 1, 2), torch.zeros(1, 1), torch.ones(1, 1)).tolist() == [[[[-1.0, 1.0]]]]
    check(notebook(RIGHT))
    assert mine.owners()["apply_rope"] == "yours"
    (folder / "apply_rope.py").unlink()
    mine.complete()
    assert "missing" not in mine.owners().values()


@pytest.mark.parametrize("part", mine.PARTS)
def test_the_course_s_own_parts_stand_alone_and_pass_their_checks(folder, part):
    (taken,) = mine.take(part)
    assert taken is not find_exercise(part).reference
    text = (folder / f"{part}.py").read_text()
    assert "llama_lessons" not in text
    assert text.count("# The course's") == 1
    check(taken, keep=False)


def test_the_course_s_own_function_is_not_called_yours(folder, capsys):
    check(find_exercise("apply_rope").reference)
    assert "is not kept in my_llama: it is the course's own" in capsys.readouterr().out
    assert mine.owners()["apply_rope"] == "missing"


def test_what_was_taken_stays_as_it_was_when_it_passes_again(folder, notebook):
    check(notebook(RIGHT))
    before = (folder / "apply_rope.py").read_text()
    check(mine.take("apply_rope")[0])
    assert (folder / "apply_rope.py").read_text() == before


def test_an_answer_that_needs_its_notebook_passes_and_says_why_it_is_not_kept(folder, notebook, capsys):
    check(
        notebook(
            "signs = torch.tensor([1.0, -1.0])\n" + RIGHT.replace("a, b = x.float()", "a, b = (x.float() * signs[0])")
        )
    )
    said = capsys.readouterr().out
    assert "apply_rope is right: " in said
    assert "is not kept in my_llama: it uses signs of another cell, which is a Tensor" in said
    assert not (folder / "apply_rope.py").exists()


def test_what_changes_in_a_file_of_its_own_is_not_kept(folder, notebook, capsys):
    check(notebook(RIGHT.replace("a, b =", "sin = sin if __name__ == '__main__' else -sin\n    a, b =")))
    assert "in a file of its own it gives other results" in capsys.readouterr().out
    assert not (folder / "apply_rope.py").exists()


def test_a_file_broken_by_hand_is_named_with_the_remedy(folder, notebook):
    check(notebook(RIGHT))
    (folder / "apply_rope.py").write_text("def apply_rope(x, cos, sin:\n")
    with pytest.raises(mine.BrokenPart, match=r"apply_rope\.py cannot be imported \(SyntaxError.*Delete the file"):
        mine.take("apply_rope")
    check(notebook(RIGHT))
    mine.take("apply_rope")


def test_a_folder_that_cannot_be_written_costs_no_verdict(tmp_path, folder, notebook, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLAMA_LESSONS_MINE", str(tmp_path / "file" / "my_llama"))
    check(notebook(RIGHT))
    said = capsys.readouterr().out
    assert "apply_rope is right" in said
    assert "cannot be written" in said
    assert "LLAMA_LESSONS_MINE names another folder" in said


def test_two_kernels_at_once_lose_nothing(folder):
    code = (
        "from llama_lessons.grading import mine\n"
        "for _ in range(5):\n"
        "    mine.take({parts})\n"
        "    for part in {parts}:\n"
        "        (mine.folder() / f'{{part}}.py').unlink(missing_ok=True)\n"
        "mine.take({parts})"
    )
    pairs = [("'apply_rope', 'RMSNorm'"), ("'KVCache', 'rope_frequencies'")]
    running = [subprocess.Popen([sys.executable, "-c", code.format(parts=parts)]) for parts in pairs]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    present = {part for part, owner in mine.owners().items() if owner != "missing"}
    assert present == {"apply_rope", "RMSNorm", "KVCache", "rope_frequencies"}
    init = (folder / "__init__.py").read_text()
    assert all(f"from .{part} import {part}" in init for part in present)
    assert not list(folder.glob(".*.py-*")), "nothing half written is left"


def test_progress_says_how_many_parts_are_yours(folder, notebook, capsys):
    progress()
    assert "my_llama: 0 of 11 parts are yours" in capsys.readouterr().out
    check(notebook(RIGHT))
    progress()
    assert "my_llama: 1 of 11 parts are yours: apply_rope" in capsys.readouterr().out


def test_the_folder_lies_beside_the_notebooks_or_the_points(tmp_path, monkeypatch):
    monkeypatch.delenv("LLAMA_LESSONS_MINE")
    monkeypatch.setenv("LLAMA_LESSONS_PROGRESS", str(tmp_path / "progress.json"))
    assert mine.folder() == mine.COURSE_FOLDER / "my_llama"
    monkeypatch.setattr(mine, "COURSE_FOLDER", tmp_path / "site-packages")
    assert mine.folder() == tmp_path / "my_llama"
    monkeypatch.setenv("LLAMA_LESSONS_MINE", "~/elsewhere")
    assert mine.folder() == Path.home() / "elsewhere"


def test_an_unknown_part_is_refused(folder):
    with pytest.raises(ValueError, match="no part 'apply_ropes'; its parts are rope_frequencies"):
        mine.take("apply_ropes")


def test_without_the_course_the_package_makes_logits_of_ids(folder, tmp_path):
    """Copied to an empty place, where llama_lessons cannot be imported."""
    mine.complete()
    sizes = {
        "vocab_size": 11,
        "dim": 8,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 4,
        "hidden_dim": 16,
        "max_seq_len": 32,
        "rope_theta": 1e4,
        "norm_eps": 1e-5,
        "tied_embeddings": True,
    }
    code = f"""
import sys
sys.modules["llama_lessons"] = None  # cannot be imported
import json, types, torch
sys.path.insert(0, {str(folder.parent)!r})
import my_llama
torch.manual_seed(0)
model = my_llama.Llama(types.SimpleNamespace(**json.loads({json.dumps(json.dumps(sizes))})))
tokens = torch.tensor([[1, 2, 3, 4]])
with torch.no_grad():
    logits = model(tokens)
    cache = [my_llama.KVCache(1, 2, 8, 4) for _ in range(2)]
    pieces = torch.cat([model(tokens[:, :3], cache), model(tokens[:, 3:], cache)], dim=1)
assert logits.shape == (1, 4, 11)
assert torch.allclose(logits, pieces, atol=1e-5)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
