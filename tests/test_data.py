"""Texts and windows: round trips, windows counted one by one, and mistakes by name."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_lessons.data import CharTokenizer, load_text, random_batch, split, spread_windows


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"To be\r\nor not\n", "To be\nor not\n"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("Öl, 水, 🦙".encode(), "Öl, 水, 🦙"),
    ],
)
def test_a_text_file_is_read(tmp_path, content, text):
    (tmp_path / "text.txt").write_bytes(content)
    assert load_text(tmp_path / "text.txt") == text
    assert load_text(str(tmp_path / "text.txt")) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "text.txt is empty"),
        (b"\xef\xbb\xbf", "text.txt is empty"),
        (b"caf\xe9", "text.txt is no UTF-8 text ('utf-8' codec can't decode byte 0xe9 in position 3"),
        ("café".encode("utf-16"), "text.txt is no UTF-8 text"),
        ("cafe".encode("utf-16-le"), "text.txt is no UTF-8 text (it holds zero bytes)"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_text(tmp_path / "text.txt")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_text(tmp_path / "nowhere")


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1))
def test_encoding_has_an_inverse(text):
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert (ids.dtype, ids.shape) == (torch.int64, (len(text),))
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    assert torch.equal(CharTokenizer(tokenizer.characters).encode(text), ids)


def test_ids_are_places_in_the_sorted_characters():
    tokenizer = CharTokenizer("hello\n")
    assert tokenizer.characters == "\nehlo"
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("hello").tolist() == [2, 1, 3, 3, 4]
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == ""


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=20), st.floats(0.05, 0.95))
def test_split_keeps_all_and_cuts_once(text, share):
    training, validation = split(text, share)
    assert training + validation == text
    assert abs(len(validation) - share * len(text)) <= 0.5 + 1e-9


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_windows_are_pieces_of_the_data(dtype):
    data = torch.arange(100, dtype=dtype)
    batch = random_batch(data, batch_size=7, seq_len=9, seed=0, step=3)
    assert (batch.dtype, batch.shape) == (torch.int64, (7, 9))
    assert torch.equal(batch - batch[:, :1], torch.arange(9).expand(7, 9))


def test_windows_depend_on_seed_and_step_alone():
    data = torch.arange(10_000)

    def draw(seed, step):
        return random_batch(data, 8, 5, seed, step)

    expected = draw(1, 2)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert torch.equal(draw(1, 2), expected)
    assert torch.equal(torch.get_rng_state(), state)
    # A sum of seed and step would draw for (2, 1) and (0, 3) what it drew for (1, 2).
    for seed, step in [(1, 3), (2, 2), (2, 1), (0, 3), (3, 0)]:
        assert not torch.equal(draw(seed, step), expected)


def test_every_window_is_drawn_as_often():
    starts = random_batch(torch.arange(12), batch_size=9000, seq_len=4, seed=0, step=0)[:, 0]
    counts = torch.bincount(starts)
    assert len(counts) == 9  # 0 to 8: the last window ends with the data
    # 1000 each, with a standard deviation of 30
    assert ((counts - 1000).abs() < 150).all()


@pytest.mark.parametrize("n_windows", [1, 2, 5, 40])
def test_spread_windows_reach_both_ends(n_windows):
    data = torch.arange(50)
    windows = spread_windows(data, n_windows, seq_len=8)
    assert torch.equal(windows - windows[:, :1], torch.arange(8).expand(n_windows, 8))
    assert windows[0, 0] == 0
    if n_windows > 1:
        assert windows[-1, -1] == 49
        distances = windows[1:, 0] - windows[:-1, 0]
        assert distances.max() - distances.min() <= 1


def test_data_may_be_one_window_long():
    data = torch.arange(6)
    assert torch.equal(random_batch(data, 2, 6, seed=0, step=0), data.expand(2, 6))
    assert torch.equal(spread_windows(data, 2, 6), data.expand(2, 6))


TOKENIZER = CharTokenizer("abc")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CharTokenizer(""), "text is empty"),
        (lambda: TOKENIZER.encode("abxz"), "character 'x' at 2 is not among the 3 that this tokenizer knows"),
        (lambda: TOKENIZER.decode([0, 3]), "token id 3 is not in the vocabulary: vocab_size is 3"),
        (lambda: TOKENIZER.decode(torch.tensor([-1])), "token id -1 is not in the vocabulary"),
        (lambda: split("abc", 0.0), "validation (0.0) of 3 characters leaves one of the two parts empty"),
        (lambda: split("abc", 1.0), "validation (1.0) of 3 characters"),
        (lambda: split("a"), "validation (0.1) of 1 characters"),
        (lambda: random_batch(torch.arange(5), 1, 6, 0, 0), "data (5 tokens) is shorter than one window (6)"),
        (lambda: spread_windows(torch.arange(5), 1, 6), "data (5 tokens) is shorter than one window (6)"),
        (lambda: random_batch(torch.ones(1, 9).long(), 1, 6, 0, 0), "not (1, 9) of torch.int64"),
        (lambda: random_batch(torch.ones(9), 1, 6, 0, 0), "integer token ids, not (9,) of torch.float32"),
        (lambda: spread_windows(torch.ones(9).bool(), 1, 6), "not (9,) of torch.bool"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
