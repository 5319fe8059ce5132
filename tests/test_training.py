"""Training: held to transformers' loss, to a loop by hand, and to what can and cannot be learned from a text."""

import copy
import itertools
import math
import os
import re
import signal
import threading
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from llama_lessons.checkpoints.training_run import CHECKPOINT
from llama_lessons.data import CharTokenizer, random_batch, spread_windows
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.settings import PLAIN
from llama_lessons.training import (
    TrainSettings,
    adamw_step,
    add_gradients,
    learning_rate,
    mean_loss,
    next_token_loss,
    parameter_groups,
    train,
)
from llama_lessons.workbench import ARTICLE_PARTS, Decoder

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CONFIG = LlamaConfig(
    vocab_size=11, dim=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=4, hidden_dim=24, max_seq_len=16
)
SETTINGS = TrainSettings(total_steps=5, batch_size=4, seq_len=8, peak_lr=1e-2, lowest_lr=1e-3, warmup_steps=2)


def small_model(**changes):
    torch.manual_seed(0)
    return Llama(replace(CONFIG, **changes))


def small_data(length=400, vocab_size=11, seed=0):
    return torch.randint(vocab_size, (length,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def hugging_face():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    model = transformers.LlamaForCausalLM(config)
    nn.init.normal_(model.lm_head.weight)  # as it comes, all losses are near ln 11
    return model.eval()


@pytest.mark.parametrize("shape", [(1, 2), (3, 9)])
def test_loss_agrees_with_transformers(hugging_face, shape):
    tokens = torch.randint(11, shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = hugging_face(tokens, labels=tokens)
    torch.testing.assert_close(next_token_loss(output.logits, tokens), output.loss)
    torch.testing.assert_close(next_token_loss(output.logits[:, :-1], tokens), output.loss)
    torch.testing.assert_close(next_token_loss(output.logits, tokens.int()), output.loss)


@pytest.mark.parametrize("side", ["right", "left"])
def test_loss_agrees_with_transformers_on_padding(hugging_face, side):
    tokens = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9) < torch.tensor([[9], [5], [2]])
    mask = mask if side == "right" else mask.flip(-1)
    labels = tokens.masked_fill(~mask, -100)
    if side == "left":  # transformers would have the first token of a row predicted from padding
        labels[1, 4] = labels[2, 7] = -100
    with torch.no_grad():
        output = hugging_face(tokens, attention_mask=mask.long(), labels=labels)
    torch.testing.assert_close(next_token_loss(output.logits, tokens, mask), output.loss)
    assert abs(next_token_loss(output.logits, tokens) - output.loss) > 0.01


def test_loss_is_a_mean_over_tokens_whatever_row_they_are_in():
    logits, tokens = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    log_probabilities = logits.log_softmax(dim=-1)
    terms = [-log_probabilities[0, t - 1, tokens[0, t]] for t in range(1, 5)]
    terms.append(-log_probabilities[1, 0, tokens[1, 1]])
    torch.testing.assert_close(next_token_loss(logits, tokens, mask), sum(terms) / 5)


def test_padding_gets_no_gradient():
    logits, tokens = torch.randn(1, 6, 7, requires_grad=True), torch.randint(7, (1, 6))
    next_token_loss(logits, tokens, torch.tensor([[False, True, True, True, False, False]])).backward()
    assert (logits.grad != 0).any(dim=-1).tolist() == [[False, True, True, False, False, False]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_loss_is_computed_in_float32_at_least(dtype):
    logits, tokens = torch.randn(4, 50, 300).to(dtype), torch.randint(300, (4, 50))
    loss = next_token_loss(logits, tokens)
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    expected = next_token_loss(logits.double(), tokens)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=0)


def test_equal_logits_cost_ln_v():
    loss = next_token_loss(torch.zeros(2, 4, 65), torch.randint(65, (2, 4)))
    assert loss.item() == pytest.approx(math.log(65))


def names_of(model, parameters):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter] for parameter in parameters}


@pytest.mark.parametrize("tied", [False, True])
def test_a_llama_s_matrices_decay(tied):
    model = small_model(tied_embeddings=tied)
    decayed, kept = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert len(decayed["params"]) == 7 * 2 + (not tied)
    norms = {f"blocks.{i}.{norm}.weight" for i in (0, 1) for norm in ("attention_norm", "feed_forward_norm")}
    assert names_of(model, kept["params"]) == norms | {"norm.weight", "embedding.weight"}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_biases_and_learned_positions_do_not_decay():
    model = Decoder(CONFIG, ARTICLE_PARTS)
    decayed, kept = parameter_groups(model, 0.3)
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    kept_matrices = [parameter for parameter in kept["params"] if parameter.ndim == 2]
    assert names_of(model, kept_matrices) == {"embedding.weight", "positions.weight"}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_in_no_group():
    model = small_model()
    model.blocks.requires_grad_(False)
    decayed, kept = parameter_groups(model, 0.3)
    assert names_of(model, decayed["params"] + kept["params"]) == {
        "embedding.weight",
        "norm.weight",
        "head.weight",
    }


def test_decay_alone_moves_matrices_alone():
    class NoGradients(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Decoder(CONFIG, ARTICLE_PARTS)

        def forward(self, tokens):
            return self.model(tokens) * 0.0

    torch.manual_seed(0)
    model = NoGradients()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    before = copy.deepcopy(model.state_dict())
    history = train(model, small_data(), replace(SETTINGS, weight_decay=0.5), progress=False)
    assert history.grad_norms == [0.0] * 5
    decayed = names_of(model, parameter_groups(model, 0.5)[0]["params"])
    shrunk = math.prod(1 - rate * 0.5 for rate in history.learning_rates)
    assert shrunk < 0.99
    for name, parameter in model.state_dict().items():
        expected = before[name] * (shrunk if name in decayed else 1.0)
        torch.testing.assert_close(parameter, expected, atol=0, rtol=1e-6 if name in decayed else 0)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.0, 0.999)])
def test_adamw_by_hand_is_torch_s(weight_decay, betas):
    torch.manual_seed(0)
    theirs = nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
    ours, exp_avg, exp_avg_sq = theirs.detach().clone(), torch.zeros_like(theirs), torch.zeros_like(theirs)
    optimizer = torch.optim.AdamW([theirs], betas=betas, eps=1e-3, weight_decay=weight_decay)
    for step in range(1, 8):
        lr = 0.1 / step
        theirs.grad = torch.randn(5, 3, dtype=torch.float64) * step
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        before = [tensor.clone() for tensor in (ours, exp_avg, exp_avg_sq)]
        given = ours, exp_avg, exp_avg_sq
        ours, exp_avg, exp_avg_sq = adamw_step(
            ours, theirs.grad, exp_avg, exp_avg_sq, step, lr=lr, betas=betas, eps=1e-3, weight_decay=weight_decay
        )
        assert all(map(torch.equal, given, before))
        torch.testing.assert_close(ours, theirs.detach())
        torch.testing.assert_close(exp_avg, optimizer.state[theirs]["exp_avg"])
        torch.testing.assert_close(exp_avg_sq, optimizer.state[theirs]["exp_avg_sq"])


def rates(**schedule):
    return [learning_rate(step, **schedule) for step in range(schedule["total_steps"])]


@hypothesis_settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 60), st.floats(1e-6, 1.0), st.floats(0.0, 1.0))
def test_rate_rises_to_the_peak_and_falls(data, total_steps, peak, share):
    warmup_steps = data.draw(st.integers(0, total_steps - 1))
    lowest = peak * share
    schedule = rates(warmup_steps=warmup_steps, total_steps=total_steps, peak=peak, lowest=lowest)
    up, down = schedule[: warmup_steps + 1], schedule[warmup_steps:]
    assert all(0 < rate <= peak for rate in up)
    assert all(lowest * (1 - 1e-9) <= rate <= peak * (1 + 1e-9) for rate in down)
    assert up == sorted(up)
    assert all(earlier >= later - 1e-9 * peak for earlier, later in itertools.pairwise(down))


@pytest.mark.parametrize(("warmup_steps", "total_steps"), [(0, 2), (1, 3), (10, 100), (0, 100)])
def test_rate_at_both_ends(warmup_steps, total_steps):
    schedule = rates(warmup_steps=warmup_steps, total_steps=total_steps, peak=0.5, lowest=0.125)
    assert schedule[0] == pytest.approx(0.5 / (warmup_steps + 1))
    assert schedule[warmup_steps] == 0.5
    assert schedule[-1] == pytest.approx(0.125)


@pytest.mark.parametrize("total_steps", [1, 7])
def test_rate_may_end_at_the_peak(total_steps):
    schedule = rates(warmup_steps=total_steps - 1, total_steps=total_steps, peak=0.5, lowest=0.0)
    assert schedule == pytest.approx([0.5 * (step + 1) / total_steps for step in range(total_steps)])


def test_rate_falls_along_torch_s_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=39, eta_min=0.1)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    schedule = rates(warmup_steps=10, total_steps=50, peak=0.5, lowest=0.1)
    assert schedule[10:] == pytest.approx(expected)
    assert schedule[:11] == pytest.approx([0.5 * i / 11 for i in range(1, 12)])


@pytest.mark.parametrize("max_grad_norm", [1.0, math.inf])
def test_train_is_the_loop_one_would_write(max_grad_norm):
    data, settings = small_data(), replace(SETTINGS, max_grad_norm=max_grad_norm, seed=3)
    model, by_hand = small_model(), small_model()
    history = train(model, data, settings, progress=False)
    matrices = [p for name, p in by_hand.named_parameters() if p.ndim == 2 and name != "embedding.weight"]
    others = [p for name, p in by_hand.named_parameters() if p.ndim == 1 or name == "embedding.weight"]
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.95), weight_decay=0.1
    )
    for step in range(settings.total_steps):
        windows = random_batch(data, 4, 9, 3, step)
        inputs, targets = windows[:, :-1], windows[:, 1:]
        loss = F.cross_entropy(by_hand(inputs).reshape(-1, 11), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in by_hand.parameters()]).norm()
        for parameter in by_hand.parameters():
            parameter.grad *= min(1.0, max_grad_norm / norm)
        rate = learning_rate(step, warmup_steps=2, total_steps=5, peak=1e-2, lowest=1e-3)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        assert history.losses[step] == pytest.approx(loss.item(), rel=1e-5)
        assert history.grad_norms[step] == pytest.approx(norm.item(), rel=1e-4)
        assert history.learning_rates[step] == rate
    assert list(history.steps) == [0, 1, 2, 3, 4]
    assert not history.interrupted
    for (name, ours), theirs in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(accumulate):
    def first_step(accumulate):
        model = small_model().double()  # so that nothing but a wrong mean could differ
        settings = replace(SETTINGS, total_steps=1, warmup_steps=0, accumulate=accumulate)
        return model, train(model, small_data(), settings, progress=False)

    whole, whole_history = first_step(1)
    parts, parts_history = first_step(accumulate)
    assert parts_history.losses == pytest.approx(whole_history.losses, rel=1e-6)
    assert parts_history.grad_norms == pytest.approx(whole_history.grad_norms, rel=1e-6)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2, 3, 4])
def test_with_padding_parts_count_by_their_tokens(accumulate):
    tokens = small_data(4 * 9).view(4, 9)
    mask = torch.arange(9) < torch.tensor([[9], [8], [3], [2]])  # parts of 15 and 3 tokens to predict, for one

    model = small_model().double()
    expected = next_token_loss(model(tokens[:, :-1]), tokens, mask)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    loss = add_gradients(model, tokens, mask, accumulate=accumulate)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-9, rtol=1e-6)


def test_the_mean_of_the_parts_means_would_be_another_loss():
    model, tokens = small_model(), small_data(4 * 9).view(4, 9)
    mask = torch.arange(9) < torch.tensor([[9], [8], [3], [2]])
    halves = [
        next_token_loss(model(t[:, :-1]), t, m).item() for t, m in zip(tokens.chunk(2), mask.chunk(2), strict=True)
    ]
    assert abs(sum(halves) / 2 - add_gradients(model, tokens, mask, accumulate=2).item()) > 1e-3


def test_gradients_are_added_to_those_that_are_there():
    model, tokens = small_model(), small_data(4 * 9).view(4, 9)
    add_gradients(model, tokens)
    once = [parameter.grad.clone() for parameter in model.parameters()]
    add_gradients(model, tokens)
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_a_part_is_read_alone():
    model, sizes = small_model(), []
    model.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(inputs[0].shape)))
    train(model, small_data(), replace(SETTINGS, total_steps=2, warmup_steps=0, accumulate=4), progress=False)
    assert sizes == [(1, 8)] * 8


@pytest.mark.parametrize(("max_grad_norm", "clipped"), [(0.01, True), (100.0, False)])
def test_clipping_bounds_the_norm(max_grad_norm, clipped):
    model = small_model()
    settings = replace(SETTINGS, total_steps=1, warmup_steps=0, max_grad_norm=max_grad_norm)
    history = train(model, small_data(), settings, progress=False)
    left = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
    assert 0.1 < history.grad_norms[0] < 10
    assert left == pytest.approx(max_grad_norm if clipped else history.grad_norms[0], rel=1e-3)


def test_autocast_multiplies_in_bfloat16_and_stays_close():
    model, exact, dtypes = small_model(), small_model(), set()
    model.blocks[0].attention.q_proj.register_forward_hook(lambda *call: dtypes.add(call[2].dtype))
    data, validation = small_data(), small_data(seed=1)
    history = train(model, data, replace(SETTINGS, autocast=torch.bfloat16), validation=validation, progress=False)
    expected = train(exact, data, SETTINGS, validation=validation, progress=False)
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    # bfloat16 has 8 bits: a relative error of 2 ** -9 a product, in losses of 2.4
    assert history.losses == pytest.approx(expected.losses, abs=0.02)
    assert history.losses != expected.losses
    validated, expected_validated = history.validation_losses, expected.validation_losses
    assert validated == pytest.approx(expected_validated, abs=0.02)
    assert validated != expected_validated


def test_validation_is_taken_at_both_ends_and_changes_nothing():
    data, validation = small_data(), small_data(seed=1)
    model, unwatched = small_model(), small_model()
    settings = replace(SETTINGS, eval_every=2, eval_batches=3)
    first = mean_loss(model, spread_windows(validation, 12, 9), batch_size=12)
    history = train(model, data, settings, validation=validation, progress=False)
    assert list(history.validation_losses) == [0, 2, 4, 5]
    assert history.validation_losses[0] == pytest.approx(first)
    last = mean_loss(model, spread_windows(validation, 12, 9), batch_size=12)
    assert history.validation_losses[5] == pytest.approx(last)
    assert history.losses == train(unwatched, data, settings, progress=False).losses
    assert all(map(torch.equal, model.state_dict().values(), unwatched.state_dict().values()))


def test_a_model_is_trained_in_training_mode():
    model, modes = small_model().eval(), []
    model.register_forward_pre_hook(lambda *_: modes.append(model.training))
    train(model, small_data(), replace(SETTINGS, eval_batches=1), validation=small_data(), progress=False)
    assert modes == [False, *[True] * 5, False]


def test_frozen_weights_stay():
    model = small_model()
    model.embedding.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    train(model, small_data(), SETTINGS, progress=False)
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == set(before) - {"embedding.weight"}


def test_torch_s_random_numbers_are_not_touched():
    model = small_model()
    state = torch.get_rng_state()
    train(model, small_data(), SETTINGS, validation=small_data(seed=1), progress=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_draws_other_windows():
    one = train(small_model(), small_data(), SETTINGS, progress=False)
    same = train(small_model(), small_data(), SETTINGS, progress=False)
    other = train(small_model(), small_data(), replace(SETTINGS, seed=1), progress=False)
    assert one.losses == same.losses
    assert one.losses != other.losses


@pytest.mark.parametrize(("progress", "plain", "shown"), [(True, "", True), (True, "1", False), (False, "", False)])
def test_the_bar_shows_the_loss_unless_told_not_to(capsys, monkeypatch, progress, plain, shown):
    monkeypatch.setenv(PLAIN, plain)
    history = train(small_model(), small_data(), SETTINGS, progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    if shown:
        assert "5/5" in err
        assert f"loss {history.losses[-1]:.3f}" in err
    else:
        assert err == ""


def test_a_text_is_learned_down_to_what_is_left_to_chance():
    # After b or c comes a; after a comes what did not come last time. Only a window's first token may leave it
    # open: if it is a, with probability 1/2, the second is b or c. So ln 2 / 2 / seq_len is left to chance. Whoever
    # does not look back pays ln 2 at each a: ln 2 / 2.
    text = "abac" * 100
    tokenizer = CharTokenizer(text)
    model = small_model(vocab_size=tokenizer.vocab_size)
    settings = replace(SETTINGS, total_steps=150, batch_size=8, seq_len=16, warmup_steps=10, eval_every=1000)
    data = tokenizer.encode(text)
    history = train(model, data, settings, validation=data, progress=False)
    floor = math.log(2) / 2 / 16
    assert history.losses[0] == pytest.approx(math.log(3), abs=0.1)
    assert 0.5 * floor < history.validation_losses[150] < floor + 0.03 < math.log(2) / 2


def test_chance_is_not_learned_except_by_a_model_that_sees_the_future():
    class Leaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(11, 16), nn.Linear(16, 11)

        def forward(self, tokens):
            return self.head(self.embedding(tokens.roll(-1, dims=1)))

    settings = replace(SETTINGS, total_steps=60, batch_size=8, seq_len=16, eval_every=1000, eval_batches=25)
    chance = math.log(11)

    def fresh_loss(model):
        history = train(model, small_data(20_000), settings, validation=small_data(4000, seed=1), progress=False)
        return history.validation_losses[60]

    # 3200 tokens of which no guess is better than another: their mean varies by far less than 0.01.
    assert chance - 0.01 < fresh_loss(small_model()) < chance + 0.05
    torch.manual_seed(0)
    assert fresh_loss(Leaky()) < chance - 0.3


def test_mean_loss_counts_each_window_once():
    model, windows = small_model(), small_data(90).view(10, 9)
    expected = next_token_loss(model(windows), windows).item()
    for batch_size in (1, 3, 10, 99):
        read = []
        hook = model.register_forward_pre_hook(lambda module, inputs, read=read: read.append(len(inputs[0])))
        assert mean_loss(model, windows, batch_size=batch_size) == pytest.approx(expected, rel=1e-6)
        hook.remove()
        assert sum(read) == 10
        assert max(read) == min(batch_size, 10)


@pytest.mark.parametrize("training", [True, False])
def test_mean_loss_is_taken_without_dropout_and_leaves_the_mode(training):
    model = nn.Sequential(nn.Embedding(11, 8), nn.Dropout(0.5), nn.Linear(8, 11)).train(training)
    windows = small_data(90).view(10, 9)
    loss = mean_loss(model, windows, batch_size=4)
    assert loss == mean_loss(model, windows, batch_size=4)
    assert model.training == model[1].training == training
    assert all(parameter.grad is None for parameter in model.parameters())


def interrupt_at_call(model, call):
    calls = []

    def interrupt(*_):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt

    return model.register_forward_pre_hook(interrupt)


def test_an_interrupt_leaves_whole_steps_and_their_history():
    model, whole = small_model(), small_model()
    interrupt_at_call(model, 4)
    history = train(model, small_data(), SETTINGS, progress=False)
    assert history.interrupted
    assert len(history.losses) == len(history.grad_norms) == len(history.learning_rates) == 3
    assert 0 < history.seconds < 60
    rehearsed = train(whole, small_data(), SETTINGS, progress=False)
    assert history.losses == rehearsed.losses[:3]


@pytest.mark.skipif(os.name != "posix", reason="a process cannot send itself Ctrl-C there")
def test_ctrl_c_waits_for_the_update_in_progress(monkeypatch, tmp_path):
    step, calls = torch.optim.AdamW.step, []

    def step_with_ctrl_c(optimizer):
        calls.append(None)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(1000))  # time for a handler to run
        step(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", step_with_ctrl_c)
    # Tests run in the background inherit that Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupted = train(small_model(), small_data(), SETTINGS, folder=tmp_path, progress=False)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupted.interrupted
    assert len(interrupted.losses) == 3
    model, whole = small_model(), small_model()
    train(model, small_data(), SETTINGS, folder=tmp_path, progress=False)
    train(whole, small_data(), SETTINGS, progress=False)
    assert all(map(torch.equal, model.state_dict().values(), whole.state_dict().values()))


def test_train_works_in_a_thread():
    histories = []
    data = small_data()
    model = small_model()
    thread = threading.Thread(target=lambda: histories.append(train(model, data, SETTINGS, progress=False)))
    thread.start()
    thread.join()
    assert len(histories[0].losses) == 5


def test_a_loss_that_is_not_finite_is_named_before_it_spoils_anything(tmp_path):
    model, calls = small_model(), []

    def spoil(module, inputs, output):
        calls.append(copy.deepcopy(module.state_dict()))
        return output * math.nan if len(calls) == 4 else output

    model.register_forward_hook(spoil)
    settings = replace(SETTINGS, save_every=2)
    message = (
        "step 3 has loss nan and gradient norm nan: with peak_lr (0.01) this run diverges. The model stays as "
        f"it was before the step; {tmp_path / CHECKPOINT} is as it was"
    )
    with pytest.raises(RuntimeError, match=re.escape(message)):
        train(model, small_data(), settings, folder=tmp_path, progress=False)
    assert all(map(torch.equal, model.state_dict().values(), calls[3].values()))
    # The checkpoint after step 1, from which the run goes on
    resumed, whole = small_model(), small_model()
    history = train(resumed, small_data(), settings, folder=tmp_path, progress=False)
    assert history.losses == train(whole, small_data(), settings, progress=False).losses


def test_a_gradient_that_is_not_finite_counts_too():
    model = small_model()
    model.norm.weight.register_hook(lambda gradient: gradient * math.inf)
    message = r"step 0 has loss 2\.\d+ and gradient norm (inf|nan): .* no checkpoint was kept"
    with pytest.raises(RuntimeError, match=message):
        train(model, small_data(), SETTINGS, progress=False)


LOGITS, TOKENS = torch.zeros(2, 5, 7), torch.zeros(2, 5).long()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: next_token_loss(LOGITS, TOKENS[:, :4]), "logits (2, 5, 7) do not fit tokens (2, 4)"),
        (lambda: next_token_loss(LOGITS[:, :3], TOKENS), "logits (2, 3, 7) do not fit tokens (2, 5)"),
        (lambda: next_token_loss(LOGITS[:1], TOKENS), "logits (1, 5, 7) do not fit tokens (2, 5)"),
        (lambda: next_token_loss(LOGITS[0], TOKENS), "logits (5, 7) do not fit tokens (2, 5)"),
        (lambda: next_token_loss(LOGITS, TOKENS[0]), "at least two tokens per row, not (5,)"),
        (lambda: next_token_loss(LOGITS[:, :1], TOKENS[:, :1]), "at least two tokens per row, not (2, 1)"),
        (lambda: next_token_loss(LOGITS, TOKENS, TOKENS), "mask must be bool (2, 5) like tokens, not torch.int64"),
        (lambda: next_token_loss(LOGITS, TOKENS, TOKENS[:, 1:] == 0), "not torch.bool (2, 4)"),
        (lambda: next_token_loss(LOGITS, TOKENS, TOKENS != 0), "mask leaves no token that follows another one"),
        (
            lambda: learning_rate(5, warmup_steps=2, total_steps=5, peak=1.0, lowest=0.1),
            "step (5) must be at least 0 and below total_steps (5)",
        ),
        (lambda: learning_rate(-1, warmup_steps=2, total_steps=5, peak=1.0, lowest=0.1), "step (-1)"),
        (
            lambda: learning_rate(0, warmup_steps=5, total_steps=5, peak=1.0, lowest=0.1),
            "warmup_steps (5) must be at least 0 and below total_steps (5)",
        ),
        (
            lambda: adamw_step(*[torch.zeros(2)] * 4, 0, lr=0.1),
            "step (0) must be at least 1",
        ),
        (
            lambda: replace(SETTINGS, batch_size=12, accumulate=2).check_processes(4),
            "batch_size (12) must be a multiple of processes (4) x accumulate (2)",
        ),
        (lambda: replace(SETTINGS, total_steps=0), "total_steps (0) must be at least 1"),
        (lambda: replace(SETTINGS, batch_size=0), "batch_size (0) must be at least 1"),
        (lambda: replace(SETTINGS, seq_len=0), "seq_len (0) must be at least 1"),
        (lambda: replace(SETTINGS, accumulate=0), "accumulate (0) must be at least 1"),
        (lambda: replace(SETTINGS, eval_every=0), "eval_every (0) must be at least 1"),
        (lambda: replace(SETTINGS, eval_batches=0), "eval_batches (0) must be at least 1"),
        (lambda: replace(SETTINGS, save_every=0), "save_every (0) must be at least 1"),
        (lambda: replace(SETTINGS, seed=-1), "seed (-1) must not be negative"),
        (lambda: replace(SETTINGS, weight_decay=-0.1), "weight_decay (-0.1) must not be negative"),
        (lambda: replace(SETTINGS, weight_decay=math.nan), "weight_decay (nan)"),
        (lambda: replace(SETTINGS, warmup_steps=-1), "warmup_steps (-1) must not be negative"),
        (lambda: replace(SETTINGS, warmup_steps=5), "warmup_steps (5) must be below total_steps (5)"),
        (lambda: replace(SETTINGS, accumulate=3), "batch_size (4) must be a multiple of accumulate (3)"),
        (lambda: replace(SETTINGS, lowest_lr=0.1), "lowest_lr (0.1) must be at least 0 and at most peak_lr (0.01)"),
        (lambda: replace(SETTINGS, lowest_lr=-0.1), "lowest_lr (-0.1) must be at least 0"),
        (lambda: replace(SETTINGS, peak_lr=math.nan), "peak_lr (nan)"),
        (lambda: replace(SETTINGS, betas=(0.9, 1.0)), "betas ((0.9, 1.0)) must be at least 0 and below 1"),
        (lambda: replace(SETTINGS, max_grad_norm=0.0), "max_grad_norm (0.0) must be positive"),
        (lambda: replace(SETTINGS, autocast=torch.float16), "autocast (torch.float16) must be None or torch.bfloat16"),
        (
            lambda: train(small_model(), small_data(8), SETTINGS, progress=False),
            "data (8 tokens) is shorter than one window (9)",
        ),
        (
            lambda: train(small_model(), small_data(), SETTINGS, validation=small_data(8), progress=False),
            "(8 tokens) is shorter than one window (9)",
        ),
        (
            lambda: train(small_model(), small_data(vocab_size=13), SETTINGS, progress=False),
            "token id 12 is not in the vocabulary: vocab_size is 11",
        ),
        (lambda: train(nn.Conv1d(3, 3, 3), small_data(), SETTINGS, progress=False), "weight has no known role"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_cuda_agrees_with_cpu(autocast, tmp_path):
    model = small_model().cuda()
    settings = replace(SETTINGS, autocast=autocast)
    interrupt_at_call(model, 4)
    assert train(model, small_data(), settings, folder=tmp_path, progress=False).interrupted
    history = train(small_model().cuda(), small_data(), settings, folder=tmp_path, progress=False)
    expected = train(small_model(), small_data(), SETTINGS, progress=False)
    assert history.losses == pytest.approx(expected.losses, abs=0.02 if autocast else 1e-4)
