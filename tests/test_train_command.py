"""`python -m llama_lessons train`: what it keeps, that it goes on where it was stopped, and what it refuses."""

import contextlib
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import PreTrainedTokenizerFast

import llama_lessons.__main__ as command
import llama_lessons.lab.figures
from llama_lessons import training
from llama_lessons.checkpoints import load_hugging_face, load_hugging_face_tokenizer, training_run
from llama_lessons.checkpoints.training_run import CHECKPOINT
from llama_lessons.data import CharTokenizer, split, spread_windows
from llama_lessons.settings import PLAIN
from llama_lessons.train_command import CURVE
from llama_lessons.training import mean_loss

ROOT = Path(__file__).parents[1]
TEXT = "The cat sat on the mat;\nthe hat of the cat was flat.\n" * 40
VOCAB_SIZE = len(set(TEXT))
STEPS = 20
FILES = {CHECKPOINT, CURVE, "config.json", "model.safetensors", "tokenizer.json"}


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "cat.txt"
    path.write_text(TEXT)
    return path


def arguments(text, folder, *more, steps=STEPS):
    sizes = "--dim 16 --layers 1 --heads 2 --kv-heads 1 --batch-size 4 --seq-len 16 --lr 0.01 --device cpu"
    return ["train", "--text", str(text), "--folder", str(folder), "--steps", str(steps), *sizes.split(), *more]


def in_a_process(*arguments):
    return [sys.executable, "-m", "llama_lessons", *arguments]


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command here; return its exit code, stdout and stderr."""
    monkeypatch.setenv(PLAIN, "1")

    def run(*arguments):
        try:
            code = command.main(arguments)
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


def losses(folder):
    with safe_open(folder / CHECKPOINT, framework="pt") as file:
        return file.get_tensor("history.losses").tolist()


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command.main(arguments(text, folder))
    return folder


def test_only_the_sample_goes_to_stdout_and_the_rest_is_told(run, text, tmp_path):
    code, out, err = run(*arguments(text, tmp_path / "a" / "b"))
    assert code == 0
    assert len(out) == 401
    assert set(out) <= set(TEXT)
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == FILES
    measured, held, asked = err.splitlines()
    assert re.match(r"Validation loss \d\.\d+ nats per character after 20 steps; ", measured)
    assert measured.endswith(f"guessing blindly costs {math.log(VOCAB_SIZE):.3f}.")
    assert str(tmp_path / "a" / "b") in held
    assert f"ask --temperature 0.8 --model {tmp_path / 'a' / 'b'}" in asked


def test_the_folder_holds_the_model_that_was_trained(whole):
    model, tokenizer = load_hugging_face(whole), load_hugging_face_tokenizer(whole)
    characters = CharTokenizer(TEXT)
    ids = tokenizer.encode(TEXT).ids
    assert ids == characters.encode(TEXT).tolist()
    assert tokenizer.decode(ids) == TEXT
    assert PreTrainedTokenizerFast(tokenizer_file=str(whole / "tokenizer.json"))(TEXT)["input_ids"] == ids
    windows = spread_windows(characters.encode(split(TEXT)[1]), 40, 17)
    with safe_open(whole / CHECKPOINT, framework="pt") as file:
        measured = dict(json.loads(file.metadata()["run"])["validation_losses"])
    assert list(measured) == list(range(STEPS + 1))
    assert mean_loss(model, windows, batch_size=4) == pytest.approx(measured[STEPS], abs=1e-6)
    assert measured[STEPS] < measured[0] - 0.5


def test_ask_goes_on_from_a_text(run, whole):
    code, out, _ = run("ask", "--model", str(whole), "--device", "cpu", "--max-new-tokens", "5", "The cat")
    assert (code, len(out)) == (0, 6)


def test_the_curve_begins_at_ln_v(run, text, tmp_path, monkeypatch):
    drawn, subplots = [], llama_lessons.lab.figures.subplots
    monkeypatch.setattr(llama_lessons.lab.figures, "subplots", lambda: drawn.append(subplots()) or drawn[0])
    run(*arguments(text, tmp_path))
    ((_, axes),) = drawn
    start, trained, validated = axes.get_lines()
    assert list(start.get_ydata()) == [math.log(VOCAB_SIZE)] * 2
    assert list(trained.get_ydata()) == losses(tmp_path)
    assert list(validated.get_xdata()) == list(range(STEPS + 1))
    assert validated.get_ydata()[0] == pytest.approx(math.log(VOCAB_SIZE), abs=0.1)
    assert (tmp_path / CURVE).read_bytes().startswith(b"\x89PNG")


def test_the_settings_are_those_of_the_command(run, text, tmp_path, monkeypatch):
    seen = []

    def train(model, data, settings, **more):
        seen.append((model.config, settings, data, more["validation"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", train)
    more = ["--layers", "3", "--kv-heads", "2", "--seed", "7", "--autocast", "bfloat16"]
    assert run(*arguments(text, tmp_path, *more, steps=200))[0] == 130
    ((config, settings, data, validation),) = seen
    assert (config.vocab_size, config.dim, config.n_layers, config.n_heads, config.n_kv_heads) == (
        VOCAB_SIZE,
        16,
        3,
        2,
        2,
    )
    assert (config.head_dim, config.max_seq_len) == (8, 16)
    assert (settings.total_steps, settings.batch_size, settings.seq_len, settings.seed) == (200, 4, 16, 7)
    assert (settings.peak_lr, settings.lowest_lr, settings.warmup_steps) == (0.01, 0.001, 20)
    assert (settings.autocast, settings.save_every) == (torch.bfloat16, 10)
    assert torch.equal(torch.cat((data, validation)), CharTokenizer(TEXT).encode(TEXT))


def test_the_same_seed_learns_the_same_and_another_does_not(run, text, tmp_path, whole):
    for name, seed in (("same", "0"), ("other", "1")):
        run(*arguments(text, tmp_path / name, "--seed", seed))
    assert losses(tmp_path / "same") == losses(whole)
    assert losses(tmp_path / "other")[0] != losses(whole)[0]


def test_one_bar_shows_the_progress(run, text, tmp_path, monkeypatch):
    monkeypatch.setenv(PLAIN, "")
    err = run(*arguments(text, tmp_path))[2]
    assert "20/20" in err
    assert err.count("| 0/20 [00:00<?") == 1  # a bar begins so; at its end it may be drawn twice
    assert {int(total) for total in re.findall(r"\d+/(\d+) \[", err)} == {STEPS}


def interrupt_after(monkeypatch, steps):
    update, calls = torch.optim.AdamW.step, []

    def step(optimizer):
        calls.append(None)
        update(optimizer)
        if len(calls) == steps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)


@pytest.fixture
def ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_after_ctrl_c_the_same_command_goes_on_bit_for_bit(run, text, tmp_path, whole, monkeypatch):
    interrupt_after(monkeypatch, 7)
    code, out, err = run(*arguments(text, tmp_path))
    assert (code, out) == (130, "")
    assert err.startswith("Stopped after step 7 of 20. The same command goes on from there.\n")
    assert losses(tmp_path) == losses(whole)[:7]
    monkeypatch.undo()
    monkeypatch.setenv(PLAIN, "")
    code, _, err = run(*arguments(text, tmp_path))
    assert code == 0
    assert "7/20" in err
    assert not re.search(r"\b0/20 \[", err)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    assert losses(tmp_path) == losses(whole)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="for a POSIX system")
def test_kill_9_loses_no_more_than_the_steps_since_the_last_checkpoint(run, text, tmp_path):
    asked = arguments(text, tmp_path / "killed", steps=400)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(in_a_process(*asked), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_for((tmp_path / "killed" / CHECKPOINT).exists)
        process.kill()
    kept = losses(tmp_path / "killed")
    assert 20 <= len(kept) < 400
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as there
    try:
        assert run(*asked)[0] == run(*arguments(text, tmp_path / "whole", steps=400))[0] == 0
    finally:
        torch.set_num_threads(threads)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert losses(tmp_path / "whole")[: len(kept)] == kept


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr", "0.02"], "settings.peak_lr is 0.01 there and 0.02 here"),
        (["--dim", "32"], "config.dim is 16 there and 32 here"),
        (["--seed", "1"], "settings.seed is 0 there and 1 here"),
        (["--autocast", "bfloat16"], "settings.autocast is None there and torch.bfloat16 here"),
    ],
)
def test_another_setting_is_refused_by_name_and_nothing_is_lost(run, text, whole, more, message):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    code, out, err = run(*arguments(text, whole, *more))
    assert (code, out) == (1, "")
    assert err.startswith(f"llama_lessons: {whole / CHECKPOINT} holds another run: ")
    assert message in err
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_another_text_is_refused(run, whole, tmp_path):
    (tmp_path / "text").write_text(TEXT.replace("flat", "that"))
    code, _, err = run(*arguments(tmp_path / "text", whole))
    assert code == 1
    assert "holds another run: " in err


@contextlib.contextmanager
def room_for(n_bytes):
    import resource  # not on Windows

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform == "win32", reason="for a POSIX system")
def test_no_room_on_the_disk_is_one_line_and_loses_nothing(run, text, tmp_path, whole, monkeypatch):
    with room_for(4096):
        code, out, err = run(*arguments(text, tmp_path))
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"llama_lessons: {tmp_path / CHECKPOINT} cannot be written \(.*File too large.*\); .*\n", err)
    assert list(tmp_path.iterdir()) == []
    # Now the disk gets full later on
    saves, save_file = [], training_run.save_file

    def save(*arguments):
        saves.append(None)
        with room_for(4096) if len(saves) == 8 else contextlib.nullcontext():
            save_file(*arguments)

    monkeypatch.setattr(training_run, "save_file", save)
    assert run(*arguments(text, tmp_path))[0] == 1
    assert losses(tmp_path) == losses(whole)[:7]
    monkeypatch.undo()
    assert run(*arguments(text, tmp_path))[0] == 0
    assert losses(tmp_path) == losses(whole)


def test_a_damaged_file_is_one_line(run, text, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"no run")
    code, out, err = run(*arguments(text, tmp_path))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{tmp_path / CHECKPOINT} is damaged, cut short or no training run" in err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_line_at_once(run, text, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = run(*arguments(text, tmp_path))
    assert (code, err.count("\n")) == (1, 1)
    assert "Permission denied" in err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--folder", __file__], 1, f"{__file__} is a file: give a folder to write into"),
        (["--text", "/nowhere/at/all"], 1, "No such file or directory: '/nowhere/at/all'"),
        (["--text", sys.executable], 1, f"{sys.executable} is no UTF-8 text"),
        (["--seq-len", "10000"], 1, "is shorter than one window (10001)"),
        (["--heads", "3"], 1, "--dim (16) must be a multiple of --heads (3)"),
        (["--heads", "0"], 1, "--dim (16) must be a multiple of --heads (0)"),
        (["--kv-heads", "3"], 1, "n_heads (2) must be a multiple of n_kv_heads (3)"),
        (["--layers", "0"], 1, "n_layers (0) must be positive"),
        (["--steps", "0"], 1, "total_steps (0) must be at least 1"),
        (["--lr", "1e30"], 1, "this run diverges"),
        (["--device", "tpu"], 1, "'tpu'"),
        (["--autocast", "float16"], 2, "invalid choice: 'float16'"),
        (["--shard"], 2, "start them by torchrun"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, text, tmp_path, more, code, message):
    got, out, err = run(*arguments(text, tmp_path, *more))
    assert (got, out) == (code, "")
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith(("llama_lessons: ", "python -m llama_lessons train: error: "))
    assert code == 2 or err.count("\n") == 1
