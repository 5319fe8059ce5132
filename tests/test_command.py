"""The command line, mostly in this process with a tiny model of random weights, whose answers are nonsense."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import llama_lessons.__main__ as command
import llama_lessons.generation
import llama_lessons.lab.materials
from llama_lessons.chat import ChatTemplate, stop_tokens
from llama_lessons.checkpoints import save_hugging_face
from llama_lessons.generation import generate
from llama_lessons.lab.materials import MaterialError
from llama_lessons.llama import Llama, LlamaConfig

ROOT = Path(__file__).parents[1]
# Threads that wait for each other on a busy processor make an answer many times slower.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
CONTROL = ["<s>", "<|im_start|>", "<|im_end|>"]
# ChatML with a system text, and a first token, of its own
TEMPLATE = (
    "{{ bos_token }}{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Tiny.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def byte_level(special_tokens):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=0, initial_alphabet=alphabet, special_tokens=special_tokens)
    tokenizer.train_from_iterator([], trainer)
    return tokenizer


class Tiny:
    """A folder with a model, and what the command should make of it."""

    def __init__(self, folder, special_tokens, template=TEMPLATE, endless=False):
        self.folder, self.tokenizer = folder, byte_level(special_tokens)
        self.template = template and ChatTemplate(template, bos_token="<s>", eos_token="<|im_end|>")
        torch.manual_seed(0)
        self.model = Llama(
            LlamaConfig(
                vocab_size=self.tokenizer.get_vocab_size(),
                dim=16,
                n_layers=1,
                n_heads=2,
                n_kv_heads=1,
                head_dim=8,
                hidden_dim=32,
                max_seq_len=512,
            )
        )
        for parameter in self.model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
        if endless:
            # Of hundreds of random scores the best is above 0.
            torch.nn.init.zeros_(self.model.head.weight[: len(special_tokens)])
        save_hugging_face(self.model, folder)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        if template:
            config = {"chat_template": template, **self.template.special_tokens}
            (folder / "tokenizer_config.json").write_text(json.dumps(config))

    def answer(self, prompt, max_new_tokens=20, **settings):
        stops = stop_tokens(self.tokenizer)
        (tokens,) = generate(self.model, [prompt], max_new_tokens, stop_tokens=stops, **settings)
        return self.tokenizer.decode(tokens)

    def prompt(self, *contents, system=None):
        roles = ["user", "assistant"] * len(contents)
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
        first = [] if system is None else [{"role": "system", "content": system}]
        return self.template.tokens(self.tokenizer, first + messages)

    def reply(self, *contents, system=None, **settings):
        return self.answer(self.prompt(*contents, system=system), **settings)

    def arguments(self, what, *more):
        return [what, "--model", str(self.folder), "--device", "cpu", "--max-new-tokens", "20", *more]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("chatml"), CONTROL)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("plain"), ["</s>"], template=None)


@pytest.fixture
def run(capsys):
    """Run the command here; return its exit code, stdout and stderr."""

    def run(*arguments):
        try:
            code = command.main(arguments)
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def stdin(monkeypatch, tmp_path):
    def give(text):
        (tmp_path / "stdin").write_text(text, encoding="utf-8")
        monkeypatch.setattr("sys.stdin", (tmp_path / "stdin").open(encoding="utf-8"))

    return give


def test_only_the_answer_goes_to_stdout(run, tiny):
    code, out, err = run(*tiny.arguments("ask", "Who are you?"))
    assert (code, out) == (0, tiny.reply("Who are you?") + "\n")
    assert len(out) > 5
    assert err == f"Loading {tiny.folder.name} ...\n"


def test_words_need_no_quotes(run, tiny):
    assert run(*tiny.arguments("ask", "Who", "are", "you?"))[1] == tiny.reply("Who are you?") + "\n"


@pytest.mark.parametrize("question", [["-"], []])
def test_stdin_is_read_where_it_is_asked_for_or_nothing_else_is_there(run, tiny, stdin, question):
    stdin("Who are you?\n")
    assert run(*tiny.arguments("ask", *question))[1] == tiny.reply("Who are you?") + "\n"


def test_a_question_leaves_stdin_alone(run, tiny, stdin):
    stdin("Something else")
    assert run(*tiny.arguments("ask", "Who are you?"))[1] == tiny.reply("Who are you?") + "\n"
    assert sys.stdin.read() == "Something else"


def test_the_system_text_reaches_the_model(run, tiny):
    told = run(*tiny.arguments("ask", "--system", "Be brief.", "Hi"))[1]
    assert told == tiny.reply("Hi", system="Be brief.") + "\n"
    assert told != tiny.reply("Hi") + "\n"


def test_settings_reach_the_model(run, tiny):
    settings = {"temperature": 0.9, "top_k": 50, "top_p": 0.8, "min_p": 0.1, "seed": 5}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    assert run(*tiny.arguments("ask", *options, "Hi"))[1] == tiny.reply("Hi", **settings) + "\n"
    assert run(*tiny.arguments("ask", "--max-new-tokens=3", "Hi"))[1] == tiny.reply("Hi", max_new_tokens=3) + "\n"


def test_each_run_draws_anew_and_a_seed_draws_again(run, tiny):
    drawn = [run(*tiny.arguments("ask", "--temperature=1", "Hi"))[1] for _ in range(2)]
    assert drawn[0] != drawn[1]
    for seed in ("7", "-1", str(2**64)):
        drawn = [run(*tiny.arguments("ask", "--temperature=1", f"--seed={seed}", "Hi"))[:2] for _ in range(2)]
        assert drawn[0] == drawn[1]
        assert drawn[0][0] == 0


def test_a_text_longer_than_the_model_learned_is_no_mistake(run, tiny):
    code, _, err = run(*tiny.arguments("ask", "--max-new-tokens=1", "a" * 600))
    assert code == 0
    assert "the model learned 512" in err


def test_a_model_that_did_not_learn_to_chat_goes_on_with_the_text(run, plain):
    code, out, err = run(*plain.arguments("ask", "Once upon a time"))
    assert (code, out) == (0, plain.answer(plain.tokenizer.encode("Once upon a time").ids) + "\n")
    assert "This model has no chat template: it goes on with your text" in err
    for wrong in (plain.arguments("ask", "--system", "Be brief.", "Hi"), plain.arguments("chat")):
        code, out, err = run(*wrong)
        assert (code, out) == (1, "")
        assert "for models that have a chat template; this one has none" in err


def test_chat_keeps_the_conversation(run, tiny, stdin):
    stdin("Hi\n\nWho are you?\n")
    code, out, _ = run(*tiny.arguments("chat"))
    first = tiny.reply("Hi")
    second = tiny.reply("Hi", first, "Who are you?")
    assert (code, out) == (0, f"{first}\n{second}\n")
    assert second != tiny.reply("Who are you?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: {ask,chat,train}"),
        (["answer"], "invalid choice: 'answer'"),
        (["ask", "--temperature=warm", "Hi"], "argument --temperature: invalid float value: 'warm'"),
        (["ask", "--top-k=1.5", "Hi"], "argument --top-k: invalid int value: '1.5'"),
        (["chat", "--seed=x"], "argument --seed: invalid int value: 'x'"),
        (["ask", "--top-p=0.9", "Hi"], "at temperature 0 nothing is drawn: --top-k, --top-p and --min-p need a --temp"),
        (["ask", "--min-p=0.1", "Hi"], "at temperature 0 nothing is drawn: --top-k, --top-p and --min-p need a --temp"),
        (["ask", "--top-k=5", "Hi"], "at temperature 0 nothing is drawn: --top-k, --top-p and --min-p need a --temp"),
        (["ask", ""], "there is no question: write it after ask"),
        (["ask", "-"], "there is no question"),
        (["ask"], "there is no question"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_loaded(run, stdin, monkeypatch, arguments, message):
    monkeypatch.setattr(llama_lessons.lab.materials, "fetch", lambda name: pytest.fail("fetched"))
    stdin("\n")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("usage: ")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--temperature=-1", "temperature (-1.0) must be finite and at least 0"),
        ("--temperature=nan", "temperature (nan) must be finite and at least 0"),
        ("--temperature=inf", "temperature (inf) must be finite and at least 0"),
        ("--top-p=0", "top_p (0.0) must be above 0 and at most 1"),
        ("--min-p=1.1", "min_p (1.1) must be at least 0 and at most 1"),
        ("--top-p=1.1", "top_p (1.1) must be above 0 and at most 1"),
        ("--top-k=0", "top_k (0) must be at least 1"),
    ],
)
def test_a_number_out_of_range_is_told_before_the_model_is_loaded(run, tmp_path, option, message):
    temperature = [] if "temperature" in option or option.endswith("=0") else ["--temperature=1"]
    code, out, err = run("ask", "--model", str(tmp_path / "none"), *temperature, option, "Hi")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"llama_lessons: {message}")


@pytest.mark.parametrize(("name", "texts"), [("ask", ["a\udcff"]), ("ask", ["--system=\udcff", "Hi"]), ("chat", [])])
def test_a_text_that_is_no_unicode_is_told(run, tiny, monkeypatch, name, texts):
    # A byte that is no UTF-8 comes from the command line, and in some locales from stdin, as half a surrogate pair.
    monkeypatch.setattr("builtins.input", lambda prompt: "\udcff")
    code, out, err = run(*tiny.arguments(name, *texts))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "llama_lessons: what you ask is not UTF-8 text: save it in that encoding"


def test_at_a_terminal_nobody_waits_for_stdin(run, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    code, _, err = run("ask")
    assert code == 2
    assert "there is no question" in err


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("abacus", "'abacus' is not a device that torch knows; ask for cpu"),
        ("meta", "'meta' was asked for, but lessons run on cpu, cuda and mps alone; ask for cpu"),
        ("xpu", "'xpu' was asked for, but lessons run on cpu, cuda and mps alone; ask for cpu"),
    ],
)
def test_a_device_that_is_not_there_is_told(run, tiny, device, message):
    code, out, err = run("ask", "--model", str(tiny.folder), "--device", device, "Hi")
    assert (code, out, err.splitlines()[1:]) == (1, "", [f"llama_lessons: {message}"])


def no_such_file(folder):
    return folder / "model.gguf"


def no_gguf(folder):
    (folder / "notes.txt").write_text("hello")
    return folder / "notes.txt"


def no_tokenizer(folder):
    return folder


def damaged_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")
    return folder


def no_weights(folder):
    byte_level(CONTROL).save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_such_file, "No such file"),
        (no_gguf, "no GGUF file"),
        (no_tokenizer, "has no tokenizer.json"),
        (damaged_tokenizer, "tokenizer.json is damaged"),
        (no_weights, "has no config.json"),
    ],
)
def test_a_model_that_cannot_be_read_is_told_in_one_line(run, tmp_path, make, message):
    path = make(tmp_path)
    code, out, err = run("ask", "--model", str(path), "--device", "cpu", "Hi")
    assert (code, out) == (1, "")
    loading, error = err.splitlines()
    assert loading == f"Loading {path.name} ..."
    assert error.startswith("llama_lessons: ")
    assert str(path) in error
    assert message in error


def no_unknown_token(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = {str(i): i for i in range(len(CONTROL), 259)}
    tokenizer |= {"model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}, "pre_tokenizer": None}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def bad_weights(change):
    def make(folder):
        weights = load_file(folder / "model.safetensors")
        weights = {name: change(weight) if "mlp" in name else weight for name, weight in weights.items()}
        save_file(weights, folder / "model.safetensors")

    return make


def damaged_template(folder):
    (folder / "chat_template.jinja").write_text("{% if %}")


def template_for_users_in_turn(folder):
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only in pairs') }}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_unknown_token, "Missing [UNK] token"),
        (bad_weights(lambda weight: weight * float("nan")), "not finite"),
        (damaged_template, "the chat template is no Jinja"),
        (template_for_users_in_turn, "the model's chat template does not take this conversation: only in pairs"),
    ],
)
def test_a_model_that_fails_later_is_told_in_one_line(run, tiny, tmp_path, make, message):
    folder = shutil.copytree(tiny.folder, tmp_path / "model")
    make(folder)
    code, out, err = run("ask", "--model", str(folder), "--device", "cpu", "Hi")
    _, error = err.splitlines()
    assert (code, out, error[:15], message in error) == (1, "", "llama_lessons: ", True)


@pytest.mark.parametrize(
    ("number", "message"),
    [(0, "max_new_tokens (0) must be at least 1"), (10**12, "there is no memory for the keys and values of")],
)
def test_a_number_of_tokens_that_cannot_be_is_told(run, tiny, number, message):
    code, out, err = run(*tiny.arguments("ask", f"--max-new-tokens={number}", "Hi"))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"llama_lessons: {message}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full, a device that is full")
def test_a_full_disk_is_told_and_a_full_one_for_messages_harms_nothing(run, tiny, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", io.TextIOWrapper(io.FileIO("/dev/full", "w")))
        code, _, err = run(*tiny.arguments("ask", "Hi"))
        assert (code, err.splitlines()[1:]) == (1, ["llama_lessons: [Errno 28] No space left on device"])
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True))
        assert run(*tiny.arguments("ask", "Hi"))[:2] == (0, tiny.reply("Hi") + "\n")


SHELL = f"{sys.executable} -m llama_lessons"


@pytest.mark.skipif(sys.platform == "win32", reason="for a POSIX shell")
@pytest.mark.parametrize(
    ("command", "code", "err"),
    [
        ("ask --help >&-", 1, "llama_lessons: stdout is closed, and the answer goes there"),
        ("ask --help >&- 2>&-", 1, None),
        ("ask --help >/dev/full", 1, "llama_lessons: [Errno 28] No space left on device"),
        ("ask <&-", 2, "there is no question: write it after ask"),
        ("ask 2>&-", 2, None),
        ("ask --top-k=5 Hi 2>/dev/full", 2, None),
    ],
)
def test_streams_that_are_closed_or_full(command, code, err):
    env = {name: value for name, value in ONE_THREAD.items() if name != "PYTHONUNBUFFERED"}
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(f"{SHELL} {command}", shell=True, cwd=ROOT, env=env, **streams)
    assert (done.returncode, done.stdout) == (code, "")
    if err is None:
        assert done.stderr == ""
    else:
        assert err in done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="for a POSIX shell")
def test_without_stderr_the_answer_alone_goes_to_stdout_and_a_panic_is_one_line(tiny, tmp_path):
    def ask(folder, more):
        command = f"{SHELL} ask --model {folder} --device cpu --max-new-tokens 20 Hi {more}"
        return subprocess.run(command, shell=True, cwd=ROOT, env=ONE_THREAD, capture_output=True)

    assert ask(tiny.folder, "2>&- <&-").stdout.decode() == tiny.reply("Hi") + "\n"
    folder = shutil.copytree(tiny.folder, tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": ""}, "content": "a"}  # one without end
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = ask(folder, "")
    assert (done.returncode, done.stdout) == (1, b"")
    _, error = done.stderr.decode().splitlines()
    assert error.startswith("llama_lessons: ")
    assert "tokenizer.json holds a tokenizer that fails on a plain text" in error


@pytest.mark.skipif(sys.platform == "win32", reason="for a POSIX system")
@pytest.mark.parametrize(("module", "codes"), [("secrets", {-signal.SIGINT}), ("torch", {130, -signal.SIGINT})])
def test_ctrl_c_amid_imports_leaves_without_a_traceback(tiny, module, codes):
    # Python's import system asks here for the module: that is when the user presses Ctrl-C.
    start = (
        "import os, runpy, signal, sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        f"sys.argv = ['llama_lessons', *{tiny.arguments('ask', 'Hi')!r}]\n"
        "runpy.run_module('llama_lessons', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", start], cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True)
    assert done.returncode in codes
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_model_that_cannot_be_fetched_is_told(run, monkeypatch):
    def fetch(name):
        raise MaterialError(f"{name} is not in the cache")

    monkeypatch.setattr(llama_lessons.lab.materials, "fetch", fetch)
    assert run("ask", "Hi") == (1, "", "llama_lessons: smollm2 is not in the cache\n")


def test_a_token_is_shown_before_the_next_one_is_chosen(tiny, monkeypatch):
    shown, (read_end, write_end) = [], os.pipe()

    def stream(*args, **kwargs):
        for token in tiny.tokenizer.encode("Par").ids:
            yield [token]
            shown.append(os.read(read_end, 100))

    os.set_blocking(read_end, False)
    monkeypatch.setattr(llama_lessons.generation, "stream", stream)
    with os.fdopen(read_end), os.fdopen(write_end, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert command.main(tiny.arguments("ask", "Hi")) == 0
    assert shown == [b"P", b"a", b"r"]


def test_ctrl_c_at_a_line_of_a_piped_chat_leaves(run, tiny, monkeypatch):
    def interrupt(prompt):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert run(*tiny.arguments("chat"))[:2] == (130, "")


def test_ctrl_c_ends_an_answer_and_its_line_on_the_terminal(run, tiny, monkeypatch):
    def stream(*args, **kwargs):
        for token in tiny.tokenizer.encode("Par").ids:
            yield [token]
        raise KeyboardInterrupt

    monkeypatch.setattr(llama_lessons.generation, "stream", stream)
    assert run(*tiny.arguments("ask", "Hi")) == (130, "Par", f"Loading {tiny.folder.name} ...\n\n")


def test_ctrl_c_while_loading_leaves_quietly(run, monkeypatch):
    def fetch(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(llama_lessons.lab.materials, "fetch", fetch)
    assert run("ask", "Hi") == (130, "", "\n")


def test_help_comes_at_once_and_names_the_options():
    told = "import runpy, sys; sys.argv = ['llama_lessons', 'ask', '--help']\n"
    told += "try: runpy.run_module('llama_lessons', run_name='__main__')\n"
    told += "except SystemExit as exit: print(exit.code, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0 False"
    for option in ("temperature", "top-k", "top-p", "min-p", "seed", "max-new-tokens", "system", "model", "device"):
        assert f"--{option}" in done.stdout


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A model that talks until it is stopped."""
    return Tiny(tmp_path_factory.mktemp("endless"), CONTROL, endless=True)


ENDLESS = "--max-new-tokens=100000"


@pytest.mark.slow
def test_an_answer_comes_token_by_token_until_ctrl_c_or_nobody_reads_it(endless):
    asked = [sys.executable, "-m", "llama_lessons", *endless.arguments("ask", ENDLESS, "Hi")]
    # A terminal that knows ASCII alone gets a "?" for what it can't show.
    pipes = {
        "env": {**ONE_THREAD, "PYTHONIOENCODING": "ascii"},
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    with (
        subprocess.Popen(asked, cwd=ROOT, **pipes) as interrupted,
        subprocess.Popen(asked, cwd=ROOT, **pipes) as unread,
    ):
        first = os.read(interrupted.stdout.fileno(), 1)
        interrupted.send_signal(signal.SIGINT)
        assert os.read(unread.stdout.fileno(), 1)
        unread.stdout.close()
        err = interrupted.communicate(timeout=60)[1]
        assert (interrupted.returncode, len(first)) == (130, 1)
        assert (unread.wait(timeout=60), unread.stderr.read() + b"\n") == (141, err)
    loading, note, _ = err.decode().splitlines()
    assert loading.startswith("Loading ")
    assert "the model learned 512" in note


@pytest.mark.slow
def test_chat_at_a_terminal(endless):
    arguments = ["-m", "llama_lessons", *endless.arguments("chat", ENDLESS)]
    terminal = pexpect.spawn(
        sys.executable, arguments, cwd=ROOT, env=ONE_THREAD, timeout=60, encoding="utf-8", codec_errors="replace"
    )
    terminal.expect_exact("Ctrl-C stops an answer, Ctrl-D leaves.")
    terminal.expect_exact("> ")
    terminal.sendintr()
    terminal.expect_exact("Ctrl-D leaves.")
    terminal.expect_exact("> ")
    terminal.sendline("Hi")
    terminal.expect_exact("the model learned 512")
    terminal.expect("gets worse beyond.\r\n.{20}")  # amid the answer
    terminal.sendintr()
    terminal.expect_exact("\r\n> ")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    assert "Traceback" not in terminal.before
    terminal.close()
    assert terminal.exitstatus == 0


@pytest.mark.slow
def test_the_real_model_knows_the_capital_of_france():
    asked = [sys.executable, "-m", "llama_lessons", "ask", "What is the capital of France?"]
    done = subprocess.run(asked, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, check=True)
    assert done.stdout == "The capital of France is Paris.\n"
    assert done.stderr == "Loading SmolLM2-135M-Instruct.Q4_1.gguf ...\nWeights: 4 bits, as stored.\n"
