"""A learner solves, the course's notebooks change, and the learner updates: all answers are still there."""

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_lessons.update import merge_notebooks, update
from tests.update.course import ANSWER, CELLS, EXERCISE, LESSON, MODULE, NEW_STUB, STUB, Course, git, notebook, write


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
    assert (
        f"{EXERCISE}: cell turn has changed; yours is as it was, and the course's new one stands below it\n"
        in capsys.readouterr().out
    )


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


def test_cells_whose_ids_are_gone_as_on_colab_are_not_doubled(course: Course) -> None:
    nb = notebook(CELLS | {"turn": ANSWER})
    for cell in nb.cells:
        del cell["id"]
    nb.nbformat_minor = 0
    write(course.mine / EXERCISE, nbformat.writes(nb))
    course.publish(**{EXERCISE: CELLS | {"title": "# New"}})
    update(course.mine)
    assert course.sources() == ["# New", ANSWER, CELLS["check"], CELLS["other"]]
    nbformat.validate(course.read())


@pytest.mark.filterwarnings("ignore:Non-unique cell id")
def test_two_cells_of_one_id_are_both_kept(course: Course) -> None:
    text = (course.mine / EXERCISE).read_text().replace('"other"', '"turn"').replace("def other", "def mine")
    write(course.mine / EXERCISE, text)
    course.publish(**{EXERCISE: CELLS | {"title": "# New"}})
    update(course.mine)
    assert course.sources() == ["# New", STUB, CELLS["check"], "def mine():\n    ..."]
    nbformat.validate(course.read())


CELL_LISTS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("pqrst"), max_size=6)


@settings(max_examples=300, deadline=None)
@given(CELL_LISTS, st.lists(st.tuples(st.sampled_from("abcxyz"), st.sampled_from("pqrMN"))), CELL_LISTS)
def test_no_source_of_the_learners_is_ever_lost(handed: dict, mine: list, newest: dict) -> None:
    own = notebook(dict(mine))
    merged = nbformat.reads(merge_notebooks(notebook(handed), own, notebook(newest))[0], as_version=4)
    sources = [cell.source for cell in merged.cells]
    for cell in own.cells:
        if cell.source not in (handed.get(cell.id), newest.get(cell.id)) and cell.source not in handed.values():
            assert cell.source in sources


@given(CELL_LISTS, CELL_LISTS)
def test_a_notebook_that_was_only_opened_becomes_the_newest(handed: dict, newest: dict) -> None:
    published = nbformat.writes(notebook(newest)) + "\n"
    assert merge_notebooks(notebook(handed), notebook(handed), notebook(newest)) == (published, [])
