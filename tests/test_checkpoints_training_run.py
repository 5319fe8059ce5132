"""A run that goes on: bit for bit what it would have been, after an interrupt anywhere; another run is refused."""

import dataclasses
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from llama_lessons.checkpoints import training_run
from llama_lessons.checkpoints.training_run import CHECKPOINT, fingerprint, load_run
from llama_lessons.llama import LlamaConfig
from llama_lessons.norms import LayerNorm
from llama_lessons.settings import PLAIN
from llama_lessons.training import TrainSettings, parameter_groups, train
from llama_lessons.workbench import ARTICLE_PARTS, Decoder, Parts

CONFIG = LlamaConfig(
    vocab_size=11, dim=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=4, hidden_dim=24, max_seq_len=16
)
SETTINGS = TrainSettings(
    total_steps=6,
    batch_size=4,
    seq_len=8,
    peak_lr=1e-2,
    lowest_lr=1e-3,
    warmup_steps=2,
    accumulate=2,
    eval_every=2,
    eval_batches=1,
    save_every=2,
)
DATA, VALIDATION = (torch.randint(11, (300,), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))


class WithDropout(nn.Module):
    """Draws random numbers in training, so that a run also hangs on torch's generator."""

    def __init__(self, **changes):
        super().__init__()
        self.decoder = Decoder(replace(CONFIG, **changes), ARTICLE_PARTS)
        self.config = self.decoder.config
        self.dropout = nn.Dropout(0.2)

    def forward(self, tokens):
        return self.decoder.head(self.dropout(self.decoder.hidden_states(tokens)))


def new_model(**changes):
    torch.manual_seed(0)
    return WithDropout(**changes)


def run(model, folder, settings=SETTINGS, data=DATA, validation=VALIDATION):
    return train(model, data, settings, validation=validation, folder=folder, progress=False)


def contents(folder):
    with safe_open(folder / CHECKPOINT, framework="pt") as file:
        run = json.loads(file.metadata()["run"])
        run.pop("seconds")
        return run, {name: file.get_tensor(name).clone() for name in list(file.keys())}


def assert_same_run(folder, model, history, whole_folder, whole_model, whole_history):
    for name, weight in whole_model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    measured = dataclasses.asdict(history) | {"seconds": 0}
    assert measured == dataclasses.asdict(whole_history) | {"seconds": 0}
    run, tensors = contents(folder)
    whole_run, whole_tensors = contents(whole_folder)
    assert run == whole_run
    assert tensors.keys() == whole_tensors.keys()
    for name, tensor in whole_tensors.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts: its folder, its model and its history."""
    folder, model = tmp_path_factory.mktemp("whole"), new_model()
    return folder, model, run(model, folder)


# A validation before steps 0, 2 and 4 and after the last, and two parts a step
CALLS = 3 * 1 + 6 * 2 + 1


def test_the_calls_that_can_be_interrupted_are_counted_right(tmp_path):
    model, calls = new_model(), []
    model.register_forward_pre_hook(lambda *_: calls.append(None))
    run(model, tmp_path)
    assert len(calls) == CALLS


@pytest.mark.parametrize("call", range(CALLS))
def test_a_run_interrupted_anywhere_goes_on_bit_for_bit(tmp_path, whole, call):
    model, calls = new_model(), []

    def interrupt(*_):
        calls.append(None)
        if len(calls) == call + 1:
            torch.rand(3)  # whatever was drawn in the step that is lost
            raise KeyboardInterrupt

    model.register_forward_pre_hook(interrupt)
    history = run(model, tmp_path)
    assert history.interrupted
    assert history.losses == whole[2].losses[: len(history.losses)]
    torch.manual_seed(99)  # a new process would begin with other random numbers, and other weights
    model = WithDropout()
    assert_same_run(tmp_path, model, run(model, tmp_path), *whole)


def test_an_interrupt_in_every_step_is_no_matter(tmp_path, whole):
    for _ in range(SETTINGS.total_steps):
        model, calls = new_model(), []

        def interrupt(module, *_, calls=calls):
            calls.append(module.training)
            if sum(calls) == 3:  # the first part of the second step
                raise KeyboardInterrupt

        hook = model.register_forward_pre_hook(interrupt)
        history = run(model, tmp_path)
    assert not history.interrupted
    hook.remove()
    assert_same_run(tmp_path, model, history, *whole)


@pytest.mark.parametrize("where", ["save_file", "os.replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left on device")])
def test_a_save_that_fails_leaves_the_old_file_whole(tmp_path, whole, monkeypatch, where, error):
    saves = []

    def fails_at_the_second_save(original):
        def save(*arguments):
            saves.append((tmp_path / CHECKPOINT).read_bytes() if saves else None)
            if len(saves) >= 2:
                if where == "save_file":
                    arguments[1].write_bytes(b"half")
                raise error
            return original(*arguments)

        return save

    owner, name = (training_run, where) if where == "save_file" else (training_run.os, "replace")
    monkeypatch.setattr(owner, name, fails_at_the_second_save(getattr(owner, name)))
    # An interrupted save is tried once more at the end of the run; interrupted again, it gives up.
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else OSError):
        run(new_model(), tmp_path)
    monkeypatch.undo()
    assert len(saves) == (3 if error is KeyboardInterrupt else 2)
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]
    assert (tmp_path / CHECKPOINT).read_bytes() == saves[-1]
    model = new_model()
    assert_same_run(tmp_path, model, run(model, tmp_path), *whole)


def test_an_interrupt_while_saving_ends_the_run_and_keeps_it(tmp_path, whole, monkeypatch):
    saves, original = [], training_run.save_file

    def save(*arguments):
        saves.append(None)
        if len(saves) == 2:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(training_run, "save_file", save)
    history = run(new_model(), tmp_path)
    assert history.interrupted
    assert len(history.losses) == 4
    model = new_model()
    assert_same_run(tmp_path, model, run(model, tmp_path), *whole)


def test_the_bar_goes_on_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(PLAIN, "")
    model, calls = new_model(), []
    model.register_forward_pre_hook(lambda *_: calls.append(None) if len(calls) < 9 else interrupt())

    def interrupt():
        raise KeyboardInterrupt

    assert len(run(model, tmp_path).losses) == 3
    train(new_model(), DATA, SETTINGS, validation=VALIDATION, folder=tmp_path)
    shown = capsys.readouterr().err
    assert "3/6" in shown
    assert "6/6" in shown
    assert "0/6" not in shown


def test_a_finished_run_calls_the_model_no_more(tmp_path, whole):
    first = new_model()
    finished = run(first, tmp_path)
    again = new_model()
    again.register_forward_pre_hook(lambda *_: pytest.fail("the model was called"))
    history = run(again, tmp_path)
    assert finished.seconds <= history.seconds < finished.seconds + 60
    assert_same_run(tmp_path, again, history, *whole)


def test_the_folder_is_made_and_may_be_a_string(tmp_path):
    run(new_model(), str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b" / CHECKPOINT).is_file()


def test_no_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(new_model(), None)
    assert list(tmp_path.iterdir()) == []


def test_what_was_loaded_lives_without_the_file(tmp_path):
    # Read lazily, it would change with the bytes on the disk: when someone copies another run over this one.
    run(new_model(), tmp_path)
    model, path = new_model(), tmp_path / CHECKPOINT
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), fused=True)
    same = fingerprint(model, SETTINGS, data=DATA, validation=VALIDATION)
    load_run(path, model=model, optimizer=optimizer, fingerprint=same)
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    assert all(weight.any() for weight in model.parameters())
    assert all(state["exp_avg_sq"].any() for state in optimizer.state.values())
    assert len(optimizer.state) == len(list(model.parameters()))


def interrupt_at_call(number, module):
    calls = []

    def interrupt(*_):
        calls.append(None)
        if len(calls) == number:
            raise KeyboardInterrupt

    module.register_forward_pre_hook(interrupt)


def test_tied_and_frozen_weights_come_back(tmp_path):
    def decoder():
        model = Decoder(replace(CONFIG, tied_embeddings=True))
        model.blocks[0].requires_grad_(False)
        return model

    model, whole = decoder(), decoder()
    whole.load_state_dict(model.state_dict())
    expected = run(whole, None)
    interrupt_at_call(9, model)
    assert run(model, tmp_path).interrupted
    history = run(resumed := decoder(), tmp_path)
    assert history.losses == expected.losses
    assert resumed.head.weight is resumed.embedding.weight
    assert all(map(torch.equal, resumed.state_dict().values(), whole.state_dict().values()))


def blocks_compiled(model):
    for i, block in enumerate(model.blocks):
        model.blocks[i] = torch.compile(block, backend="eager")
    return model


@pytest.mark.compile
@pytest.mark.parametrize(
    "compiled", [lambda model: torch.compile(model, backend="eager"), blocks_compiled], ids=["whole", "blocks"]
)
@pytest.mark.parametrize("compiled_first", [True, False])
def test_a_compiled_run_goes_on_plain_and_the_other_way_round(tmp_path, compiled, compiled_first):
    whole, first, then = Decoder(CONFIG), Decoder(CONFIG), Decoder(CONFIG)
    for model in (whole, first, then):
        torch.manual_seed(0)
        Parts().initialize(model)
    expected = run(whole, None)
    interrupt_at_call(9, first.head)
    assert run(compiled(first) if compiled_first else first, tmp_path).interrupted
    history = run(then if compiled_first else compiled(then), tmp_path)
    assert history.losses == expected.losses
    assert all(map(torch.equal, then.parameters(), whole.parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"peak_lr": 0.02, "lowest_lr": 0.0}}, "settings.peak_lr is 0.01 there and 0.02 here (1 more"),
        ({"settings": {"total_steps": 7}}, "settings.total_steps is 6 there and 7 here. Choose another folder"),
        ({"settings": {"betas": (0.9, 0.99)}}, "settings.betas is (0.9, 0.95) there and (0.9, 0.99) here"),
        ({"settings": {"max_grad_norm": math.inf}}, "settings.max_grad_norm is 1.0 there and inf here"),
        ({"settings": {"autocast": torch.bfloat16}}, "settings.autocast is None there and torch.bfloat16 here"),
        ({"config": {"n_heads": 2, "n_kv_heads": 1, "head_dim": 8}}, "config.n_heads is 4 there and 2 here"),
        ({"config": {"dim": 8}}, "config.dim is 16 there and 8 here"),
        ({"data": DATA.flip(0)}, "data is 300 tokens with sha256 "),
        ({"data": DATA[:-1]}, " there and 299 tokens with sha256 "),
        ({"validation": None}, "validation is 300 tokens with sha256 "),
        ({"validation": DATA}, "validation is 300 tokens with sha256 "),
    ],
)
def test_another_run_is_refused_by_name(tmp_path, changes, message):
    run(new_model(), tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    model = new_model(**changes.get("config", {}))
    weights = [weight.clone() for weight in model.state_dict().values()]
    arguments = {key: changes[key] for key in ("data", "validation") if key in changes}
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        run(model, tmp_path, replace(SETTINGS, **changes.get("settings", {})), **arguments)
    assert str(refusal.value).startswith(f"{tmp_path / CHECKPOINT} holds another run: ")
    assert all(map(torch.equal, model.state_dict().values(), weights))
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.double(), "weight embedding.weight is (11, 16) torch.float32 there and (11, 16) torch.fl"),
        (lambda model: model.head.requires_grad_(False), "and (11, 16) torch.float32 frozen here"),
        (lambda model: setattr(model.head, "bias", nn.Parameter(torch.zeros(11))), "weight head.bias is absent there"),
        (lambda model: setattr(model, "norm", LayerNorm(16)), "module norm is RMSNorm there and LayerNorm here (1 mor"),
    ],
)
def test_another_model_is_refused_by_name(tmp_path, change, message):
    run(Decoder(CONFIG), tmp_path)
    model = Decoder(CONFIG, Parts())
    change(model)
    with pytest.raises(ValueError, match=re.escape(message)):
        run(model, tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_a_file_cut_short_is_refused_by_name(tmp_path, kept):
    run(new_model(), tmp_path)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))] if isinstance(kept, float) else whole[:kept])
    message = re.escape(f"{path} is damaged, cut short or no training run") + ".*remove it to begin anew"
    with pytest.raises(ValueError, match=message):
        run(new_model(), tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_another_safetensors_file_is_refused_by_name(tmp_path, metadata):
    save_file({"weight": torch.zeros(3)}, tmp_path / CHECKPOINT, metadata)
    with pytest.raises(ValueError, match="is damaged, cut short or no training run"):
        run(new_model(), tmp_path)
