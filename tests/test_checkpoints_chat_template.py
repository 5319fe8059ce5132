"""Chat templates in the places where folders and GGUF files keep them, beside what transformers finds there."""

import json
import re

import gguf
import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from llama_lessons.checkpoints import load_chat_template

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
OTHER = "{% for m in messages %}{{ m.content }}{% endfor %}"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def folder(tmp_path):
    """Make a folder of files; what is no text is written as JSON."""

    def make(files):
        Tokenizer(models.BPE({"<s>": 0, "</s>": 1, "<pad>": 2}, [])).save(str(tmp_path / "tokenizer.json"))
        for name, content in files.items():
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return tmp_path

    return make


AS_TOKEN = {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False, "special": True}
PLACES = {
    "in the config": {"tokenizer_config.json": {"chat_template": TEMPLATE, **TOKENS}},
    "in a file": {"tokenizer_config.json": TOKENS, "chat_template.jinja": TEMPLATE},
    "in both": {"tokenizer_config.json": {"chat_template": OTHER, **TOKENS}, "chat_template.jinja": TEMPLATE},
    "among several": {
        "tokenizer_config.json": {
            "chat_template": [{"name": "tool_use", "template": OTHER}, {"name": "default", "template": TEMPLATE}],
            **TOKENS,
        }
    },
    "tokens as objects": {
        "tokenizer_config.json": {"chat_template": TEMPLATE, **TOKENS, "bos_token": AS_TOKEN, "add_bos_token": True}
    },
    "tokens in a file": {"tokenizer_config.json": {"chat_template": TEMPLATE}, "special_tokens_map.json": TOKENS},
    "a token is null": {"tokenizer_config.json": {"chat_template": TEMPLATE, **TOKENS, "pad_token": None}},
    "no bos": {"tokenizer_config.json": {"chat_template": TEMPLATE, "eos_token": "</s>"}},
}


@pytest.mark.parametrize("files", PLACES.values(), ids=PLACES)
def test_a_folder_s_template_is_the_one_that_transformers_finds(folder, files):
    path = folder({"config.json": {"model_type": "llama"}, **files})
    config = {**files["tokenizer_config.json"], "tokenizer_class": "PreTrainedTokenizerFast"}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = AutoTokenizer.from_pretrained(path)
    expected = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    assert load_chat_template(path).text(MESSAGES) == expected


def test_a_folder_without_one_has_none(folder):
    assert load_chat_template(folder({})) is None
    assert load_chat_template(folder({"tokenizer_config.json": TOKENS})) is None
    assert load_chat_template(folder({"tokenizer_config.json": {"chat_template": []}})) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config.json": "{"}, "tokenizer_config.json is damaged"),
        ({"tokenizer_config.json": "5"}, "tokenizer_config.json is damaged"),
        ({"tokenizer_config.json": "[" * 10**5}, "tokenizer_config.json is damaged"),
        ({"tokenizer_config.json": {"chat_template": 5}}, "the chat template is no Jinja"),
        ({"tokenizer_config.json": {"chat_template": [5]}}, "'int' object is not subscriptable"),
        ({"tokenizer_config.json": {"chat_template": [{"name": "default"}]}}, "template"),
        ({"chat_template.jinja": "{% if %}"}, "the chat template is no Jinja"),
    ],
)
def test_a_damaged_folder_is_told(folder, files, message):
    path = folder(files)
    with pytest.raises(ValueError, match=re.escape(f"no chat template can be read from {path}: ") + f".*{message}"):
        load_chat_template(path)
    (path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="no chat template can be read"):
        load_chat_template(path)


def write_gguf(path, template, **ids):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["<s>", "</s>"])
    for name, id in ids.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_id", id)
    if template is not None:
        writer.add_chat_template(template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_s_template_names_its_tokens(tmp_path):
    template = load_chat_template(write_gguf(tmp_path / "a.gguf", TEMPLATE, bos_token=0, eos_token=1))
    assert template.text(MESSAGES) == "<s>user: Hi</s>"
    assert load_chat_template(write_gguf(tmp_path / "b.gguf", TEMPLATE, bos_token=7)).special_tokens == {}
    assert load_chat_template(write_gguf(tmp_path / "c.gguf", None, bos_token=0)) is None


def test_a_damaged_gguf_file_is_told(tmp_path):
    with pytest.raises(ValueError, match="the chat template is no Jinja"):
        load_chat_template(write_gguf(tmp_path / "a.gguf", "{% if %}"))
    with pytest.raises(FileNotFoundError):
        load_chat_template(tmp_path / "none.gguf")
