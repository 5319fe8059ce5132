"""A folder's tokenizer.json: settings of one call that were saved with it, and files that are damaged or missing."""

import json
import re

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llama_lessons.checkpoints import load_hugging_face_tokenizer

TEXT = "The lighthouse keeper wrote one line a day in a grey book, and é 🙂 in the margin."


def tokenizer():
    vocabulary = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def put(folder, **changes):
    content = json.loads(tokenizer().to_str()) | changes
    (folder / "tokenizer.json").write_text(json.dumps(content))


def test_truncation_and_padding_of_a_saved_call_are_off(tmp_path):
    expected = tokenizer().encode(TEXT).ids
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="!")
    saved([TEXT, "b"], padding="max_length", truncation=True, max_length=16)
    saved.save_pretrained(tmp_path)
    assert len(Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(TEXT).ids) == 16
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in (TEXT, "b", ""):
        found = load_hugging_face_tokenizer(tmp_path).encode(text).ids
        assert found == tokenizer().encode(text).ids == theirs(text)["input_ids"]
    assert load_hugging_face_tokenizer(str(tmp_path)).encode(TEXT).ids == expected


@pytest.mark.parametrize("stride", [15, 16, 17])
def test_a_stride_of_a_saved_call_is_off_with_it(tmp_path, stride):
    put(
        tmp_path,
        truncation={"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": stride},
        padding={
            "strategy": {"Fixed": 32},
            "direction": "Right",
            "pad_to_multiple_of": 0,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "!",
        },
    )
    assert load_hugging_face_tokenizer(tmp_path).encode(TEXT).ids == tokenizer().encode(TEXT).ids


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    remedy = r"has no tokenizer\.json, .*save_pretrained\(folder\)"
    with pytest.raises(FileNotFoundError, match=remedy):
        load_hugging_face_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=remedy):
        load_hugging_face_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_hugging_face_tokenizer(tmp_path / "nowhere")


REPLACE = {"type": "Replace", "pattern": {"String": ""}, "content": "x"}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [],
    "special_tokens": {},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}},
        {"normalizer": REPLACE},
        {"normalizer": REPLACE | {"pattern": {"Regex": "("}}},
        {"post_processor": TEMPLATE},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}},
        {"model": {}},
    ],
    ids=str,
)
def test_a_tokenizer_that_fails_is_refused_in_one_line(tmp_path, changes, capfd):
    put(tmp_path, **changes)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'tokenizer.json'} ")) as refusal:
        load_hugging_face_tokenizer(tmp_path)
    assert "\n" not in str(refusal.value)
    # A panic of Rust writes a message and a backtrace of its own.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"{}", b"[" * 100_000])
def test_a_damaged_file_is_refused(tmp_path, content, capfd):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged or no tokenizer \("):
        load_hugging_face_tokenizer(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_vocabulary_without_unknown_characters_serves_for_what_it_knows(tmp_path):
    made = Tokenizer(models.WordLevel({"to": 0, "be": 1}))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    assert load_hugging_face_tokenizer(tmp_path).encode("to be").ids == [0, 1]


def test_ctrl_c_is_no_fault_of_the_file(tmp_path, monkeypatch):
    put(tmp_path)
    for error in (KeyboardInterrupt, SystemExit):

        def interrupt(*args, error=error):
            raise error

        monkeypatch.setattr("llama_lessons.checkpoints.hugging_face_tokenizer.Tokenizer.from_buffer", interrupt)
        with pytest.raises(error):
            load_hugging_face_tokenizer(tmp_path)
