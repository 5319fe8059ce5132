"""Several processes, started by torchrun: the losses of one, and nothing lost when one is killed or told to stop."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.fsdp
from safetensors import safe_open

import llama_lessons.__main__ as command
from llama_lessons.checkpoints.training_run import CHECKPOINT
from llama_lessons.processes import Processes
from llama_lessons.settings import PLAIN

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="torch for Windows is often built without gloo"),
]

ROOT = Path(__file__).parents[1]
STEPS = 20
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", PLAIN: "1", "PYTHONPATH": str(ROOT)}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
STREAMS = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
SHARD = pytest.param(
    ["--shard"],
    marks=pytest.mark.skipif(
        not hasattr(torch.distributed.fsdp, "fully_shard"), reason="FSDP2 is in torch from 2.6 on"
    ),
    id="FSDP2",
)
WAYS = pytest.mark.parametrize("more", [pytest.param([], id="DDP"), SHARD])


@contextlib.contextmanager
def started(*arguments):
    """Two processes; whatever happens here, none of them is left."""
    with subprocess.Popen([*TORCHRUN, *map(str, arguments)], cwd=ROOT, env=ENVIRONMENT, **STREAMS) as torchrun:
        try:
            yield torchrun
        finally:
            if torchrun.poll() is None:
                torchrun.terminate()  # and torchrun its processes


def run_two(*arguments):
    """Return exit code, stdout and stderr."""
    with started(*arguments) as torchrun:
        out, err = torchrun.communicate(timeout=120)
    return torchrun.returncode, out, err


def run_one(*arguments):
    out, err = io.StringIO(), io.StringIO()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command.main([str(argument) for argument in arguments])
    finally:
        torch.set_num_threads(threads)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "cat.txt"
    path.write_text("The cat sat on the mat;\nthe hat of the cat was flat.\n" * 40)
    return path


def train(text, folder, *more, steps=STEPS):
    sizes = "--dim 16 --layers 2 --heads 2 --kv-heads 1 --batch-size 4 --seq-len 16 --lr 0.01 --device cpu"
    return ["train", "--text", text, "--folder", folder, "--steps", steps, *sizes.split(), *more]


def train_two(*arguments, **keywords):
    return ["-m", "llama_lessons", *train(*arguments, **keywords)]


def contents(folder):
    with safe_open(folder / CHECKPOINT, framework="pt") as file:
        run = json.loads(file.metadata()["run"])
        run.pop("seconds")
        return run, {name: file.get_tensor(name).clone() for name in list(file.keys())}


def losses(folder):
    return contents(folder)[1]["history.losses"].tolist()


def assert_close(folder, other_folder):
    """The same run, but for the order in which numbers were added."""
    (run, tensors), (other_run, other_tensors) = contents(folder), contents(other_folder)
    assert run["fingerprint"] == other_run["fingerprint"]
    validated, other_validated = dict(run["validation_losses"]), dict(other_run["validation_losses"])
    assert validated == pytest.approx(other_validated, abs=1e-5)
    assert len(validated) == STEPS + 1
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, other_tensors[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def one(text, tmp_path_factory):
    """The folder of a run in one process, and its sample."""
    folder = tmp_path_factory.mktemp("one")
    code, sample, _ = run_one(*train(text, folder))
    assert code == 0
    return folder, sample


@WAYS
def test_two_processes_have_the_losses_of_one_and_speak_with_one_voice(text, tmp_path, one, more):
    code, out, err = run_two(*train_two(text, tmp_path, *more))
    assert (code, out) == (0, one[1])
    assert len([line for line in err.splitlines() if "Validation loss" in line]) == 1
    assert len(err.splitlines()) == 3
    assert_close(tmp_path, one[0])
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in one[0].iterdir()}
    assert (tmp_path / "config.json").read_bytes() == (one[0] / "config.json").read_bytes()


CHECKS = """
import sys
import torch
from torch.distributed.tensor import DTensor
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.processes import Processes, average_gradients_
from llama_lessons.training import add_gradients, next_token_loss

sizes = dict(dim=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, hidden_dim=24)
config = LlamaConfig(vocab_size=12, max_seq_len=8, **sizes)
tokens = torch.randint(12, (8, 9), generator=torch.Generator().manual_seed(1))

def new_model(seed=0):
    torch.manual_seed(seed)
    return Llama(config).double()

def assert_gradients(model, expected, whole):
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(whole(ours.grad), theirs.grad, rtol=1e-6, atol=1e-9)

alone = new_model()
expected_loss = add_gradients(alone, tokens)
shard = "--shard" in sys.argv
with Processes(torch.device("cpu"), shard) as processes:
    assert processes.count == 2
    part = processes.part(tokens)
    assert torch.equal(part, tokens[4 * processes.rank :][:4])
    for accumulate in (1, 2):
        # Another model in each process: all take the first one's weights.
        model = new_model(seed=processes.rank)
        loss = add_gradients(processes.wrap(model), part, accumulate=accumulate)
        (mean,) = processes.mean(loss)
        assert abs(mean - expected_loss.item()) < 1e-6 < abs(loss.item() - expected_loss.item())
        assert_gradients(model, alone, processes.whole)
    by_hand = new_model()
    add_gradients(by_hand, part)
    average_gradients_(by_hand)
    assert_gradients(by_hand, alone, lambda gradient: gradient)
    for parameter, whole in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(processes.whole(parameter.data), whole)
        shared = processes.share(whole.data, parameter)
        if shard:  # half of it is here
            assert torch.equal(shared.to_local(), whole.chunk(2)[processes.rank])
        else:
            assert torch.equal(shared, whole)
    if processes.rank == 0:
        print("right", end="")
"""


@WAYS
def test_the_gradients_are_those_of_the_whole_batch_by_hand_and_by_torch(tmp_path, more):
    (tmp_path / "checks.py").write_text(CHECKS)
    code, out, err = run_two(tmp_path / "checks.py", *more)
    assert (code, out) == (0, "right"), err


def stop_after(steps):
    """Have a run in this process stop as Ctrl-C stops it."""
    update, calls = torch.optim.AdamW.step, []

    def step(optimizer):
        calls.append(None)
        if len(calls) > steps:
            raise KeyboardInterrupt
        update(optimizer)

    return step


@WAYS
def test_one_process_begins_and_two_go_on(text, tmp_path, one, monkeypatch, more):
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", stop_after(9))
        assert run_one(*train(text, tmp_path))[0] == 130
    assert losses(tmp_path) == losses(one[0])[:9]
    assert run_two(*train_two(text, tmp_path, *more))[0] == 0
    assert losses(tmp_path)[:9] == losses(one[0])[:9]
    assert_close(tmp_path, one[0])


def workers(torchrun):
    done = subprocess.run(["pgrep", "-P", str(torchrun.pid)], capture_output=True, text=True, check=True)
    return [int(pid) for pid in done.stdout.split()]


@contextlib.contextmanager
def amid_a_run(text, folder, *more):
    """Two processes that have just kept their first checkpoint, and have many steps to go."""
    with started(*train_two(text, folder, *more, steps=2000)) as torchrun:
        for _ in range(6000):
            if (folder / CHECKPOINT).exists():
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                torchrun.wait(timeout=0.01)
                pytest.fail(torchrun.communicate()[1])
        yield torchrun


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_and_one_process_goes_on(text, tmp_path, monkeypatch, rank):
    folder, ran = tmp_path / "killed", tmp_path / "whole"
    with amid_a_run(text, folder) as torchrun:
        others = workers(torchrun)
        assert len(others) == 2
        killed = sorted(others)[rank]
        os.kill(killed, signal.SIGKILL)
        out, err = torchrun.communicate(timeout=60)
    assert (torchrun.returncode, out) == (1, "")
    assert re.search(rf"exitcode  : -9 \(pid: {killed}\)", err)
    for pid in others:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    kept = losses(folder)
    assert 100 <= len(kept) < 2000
    assert len(kept) % 100 == 0
    # Nothing else is left in the folder but the one whole file, and one process goes on with it.
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == [CHECKPOINT]
    for place in (folder, ran):
        with monkeypatch.context() as patched:
            patched.setattr(torch.optim.AdamW, "step", stop_after(10 if place == folder else len(kept) + 10))
            assert run_one(*train(text, place, steps=2000))[0] == 130
    assert losses(folder)[: len(kept)] == kept
    # Rounding errors grow over hundreds of steps.
    assert losses(folder) == pytest.approx(losses(ran), abs=1e-2)


@WAYS
def test_ctrl_c_ends_all_after_the_same_whole_step(text, tmp_path, more):
    with amid_a_run(text, tmp_path, *more) as torchrun:
        # To torchrun, which tells all, or to one of them, which has to tell the other
        os.kill(max(workers(torchrun)) if more else torchrun.pid, signal.SIGINT)
        out, err = torchrun.communicate(timeout=60)
    assert torchrun.returncode != 0
    assert out == ""
    told = re.findall(r"Stopped after step (\d+) of 2000. The same command goes on from there.", err)
    assert told == [str(len(losses(tmp_path)))]
    assert 100 <= int(told[0]) < 2000
    assert "-9" not in err  # none had to be killed


def test_a_mistake_is_named_once(text, tmp_path):
    code, out, err = run_two(*train_two(text, tmp_path, "--batch-size", 3))
    assert (code, out) == (1, "")
    said = [line for line in err.splitlines() if line.startswith("llama_lessons: ")]
    assert said == ["llama_lessons: batch_size (3) must be a multiple of processes (2) x accumulate (1)"]
    assert list(tmp_path.iterdir()) == []


def test_a_torch_without_fsdp2_is_named(monkeypatch):
    monkeypatch.delattr("torch.distributed.fsdp.fully_shard", raising=False)
    with pytest.raises(
        ValueError, match=r"torch has from 2\.6 on, and this is torch 2\.\d+\.\d+.*: leave sharding out"
    ):
        Processes(torch.device("cpu"), shard=True)


def test_one_process_needs_nothing_of_distributed(text, tmp_path):
    asked = [str(argument) for argument in train(text, tmp_path, steps=2)]
    told = "import sys; import llama_lessons.__main__ as command\n"
    told += f"assert command.main({asked!r}) == 0\n"
    told += "import torch; print('llama_lessons.processes' in sys.modules, torch.distributed.is_initialized())"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, env=ENVIRONMENT, timeout=120, check=True, **STREAMS)
    assert done.stdout.splitlines()[-1] == "False False"
