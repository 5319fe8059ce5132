"""Each kind of answer that cannot be right gets a sentence of its own, and no answer brings the grader down."""

import functools
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llama_lessons import rope
from llama_lessons.grading import CheckFailed, check
from llama_lessons.grading.engine import Answer, grade
from llama_lessons.grading.exercise import REGISTRY, catalogued
from llama_lessons.grading.expect import Mismatch
from llama_lessons.grading.report import verdict_html, verdict_text

LINES = 40
right = rope.apply_rope


class Liar:
    """Equal to everything."""

    def __eq__(self, other):
        return True

    __hash__ = None

    def __getattr__(self, name):
        return self


class LyingTensor(Tensor):
    """A tensor that says of itself whatever is wanted: every comparison is true, every difference nothing."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in ("allclose", "equal", "eq", "__eq__", "isclose"):
            return True
        if name in ("double", "detach", "sub", "abs", "to", "cpu"):
            return args[0]
        return super().__torch_function__(function, types, args, kwargs or {})


def failed(function, exercise="apply_rope", **options):
    """The verdict on an answer that has to fail, with what holds of each such verdict."""
    verdict = grade(REGISTRY[exercise], function, **options)
    assert not verdict.passed
    assert verdict.points < REGISTRY[exercise].points
    text = verdict_text(verdict)
    assert len(text.splitlines()) <= LINES
    assert "llama_lessons/grading" not in text
    assert verdict_html(verdict).count("<div") == verdict_html(verdict).count("</div>")
    return verdict


def message(verdict):
    """What was wrong in the first check that failed."""
    return next(result.message for result in verdict.results if not result.passed)


def generator(x, cos, sin):
    yield right(x, cos, sin)


async def coroutine(x, cos, sin):
    return right(x, cos, sin)


def in_place(x, cos, sin):
    result = right(x, cos, sin)
    x.zero_()
    return result


def changes_sin(x, cos, sin):
    result = right(x, cos, sin)
    sin.neg_()
    return result


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x, cos, sin: None, "apply_rope returned None. Is its `return` missing?"),
        (lambda x, cos, sin: NotImplemented, "apply_rope returned NotImplemented, so it is not solved yet"),
        (lambda x, cos, sin: right(x, cos, sin).tolist(), "returned a list, where a torch.Tensor is expected"),
        (lambda x, cos, sin: right(x, cos, sin).detach().float().numpy(), "returned a numpy.ndarray, where a torch"),
        (lambda x, cos, sin: 1.0, "returned a float, where a torch.Tensor is expected; return a torch.Tensor"),
        (lambda x, cos, sin: "right", "returned a str, where a torch.Tensor is expected"),
        (lambda x, cos, sin: (x, x), "returned a tuple, where a torch.Tensor is expected"),
        (lambda x, cos, sin: nn.Identity(), "returned an Identity, where a torch.Tensor is expected"),
        (lambda x, cos, sin: Liar(), "returned a Liar, where a torch.Tensor is expected"),
        (generator, "returned a generator: it has a `yield`"),
        (coroutine, "returned a coroutine: write `def`, not `async def`"),
        (lambda x, cos, sin: right(x, cos, sin)[0], "expected shape (1, 1, 3, 2), got (1, 3, 2)"),
        (lambda x, cos, sin: right(x, cos, sin).to("meta"), "given tensors on cpu, and returned one on meta"),
        (lambda x, cos, sin: right(x, cos, sin).to_sparse(), "returned a sparse tensor"),
        (lambda x, cos, sin: right(x, cos, sin) / 0, "got "),
        (lambda x, cos, sin: right(x, cos, sin) * float("nan"), "expected 1 at [0, 0, 0, 0], got NaN"),
        (lambda x, cos, sin: right(x, cos, sin) + 1j, "returned complex numbers, where real ones are expected"),
        (lambda x, cos, sin: (x * 0).as_subclass(LyingTensor), "expected [1, 0, 0, 1, -1, 0], got [0, 0, 0, 0, 0, 0]"),
        (in_place, "x was changed in place. Whoever passed it in still needs it"),
        (changes_sin, "sin was changed in place"),
    ],
)
def test_each_wrong_kind_of_answer_gets_its_own_sentence(function, sentence):
    verdict = failed(function)
    assert sentence in message(verdict)
    assert sentence in verdict_text(verdict)


def test_wrong_dtype_is_named():
    verdict = failed(lambda x, cos, sin: right(x.double(), cos.double(), sin.double()))
    assert message(verdict).endswith("expected dtype float32, got float64")
    assert verdict.points > 0


def test_meta_tensor_is_refused_where_no_input_says_a_device():
    verdict = failed(lambda head_dim, theta=1e4: rope.rope_frequencies(head_dim, theta).to("meta"), "rope_frequencies")
    assert "on the device meta, which holds no numbers" in message(verdict)


@pytest.mark.parametrize(
    ("result", "is_new"),
    [
        (lambda x: x, False),
        (lambda x: x.detach(), False),
        (lambda x: x[:, :, 1:], False),
        (lambda x: x.float(), False),
        (lambda x: x.clone(), True),
        (lambda x: x + 0, True),
    ],
)
def test_a_property_can_ask_for_a_new_tensor(result, is_new):
    answer = Answer(lambda x, cos, sin: result(x), REGISTRY["apply_rope"])
    answer(torch.ones(1, 1, 3, 2), torch.ones(3, 1), torch.zeros(3, 1))
    if is_new:
        answer.expect_new("no angle")
        return
    with pytest.raises(Mismatch, match="no angle: expected a new tensor, got x itself or a view of it"):
        answer.expect_new("no angle")


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda mix, x: torch.tensor(True), "returned a torch.Tensor, where a bool is expected; return True or False"),
        (lambda mix, x: 1, "returned an int, where a bool is expected"),
    ],
)
def test_bool_is_asked_for(function, sentence):
    assert sentence in message(failed(function, "is_order_blind"))


@pytest.mark.parametrize("exercise", ["kv_cache_bytes", "ntk_theta"])
@pytest.mark.parametrize("value", [{}, set(), [[1]], np.zeros(3), Liar()], ids=lambda value: type(value).__name__)
def test_what_is_no_number_and_cannot_be_hashed_is_named(exercise, value):
    verdict = failed(lambda *args: value, exercise)
    assert not verdict.problem
    assert f"returned a{'n'[: type(value).__name__[0] in 'aeiou']} " in message(verdict)
    assert type(value).__name__ in message(verdict)


def test_a_number_of_numpy_is_a_number():
    reference = REGISTRY["is_order_blind"].reference
    assert grade(REGISTRY["is_order_blind"], lambda mix, x: np.bool_(reference(mix, x))).passed
    reference = REGISTRY["kv_cache_bytes"].reference
    assert grade(REGISTRY["kv_cache_bytes"], lambda *args: np.int64(reference(*args))).passed


class YesInt(int):
    """Equal to every number."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __index__(self):
        return 7

    __int__ = __index__
    __hash__ = int.__hash__


class YesStr(str):
    """Equal to every text."""

    def __eq__(self, other):
        return True

    def strip(self, *args):
        return self

    __hash__ = str.__hash__
    removesuffix = lower = strip


def test_numbers_and_letters_are_compared_by_value_whatever_they_say_of_themselves():
    for exercise in REGISTRY.values():
        if exercise.is_question:
            assert not grade(exercise, lambda: YesStr("z")).passed
        elif exercise.returns is int:
            assert not grade(exercise, lambda *args: YesInt(-1)).passed


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda q, k, n, theta: q, "returned a torch.Tensor, where a tuple of 2 is expected"),
        (lambda q, k, n, theta: (q, k, q), "returned 3 things, where a tuple of 2 is expected"),
        (lambda q, k, n, theta: (q, None), "one of the results of rotate_new_tokens is None"),
        (lambda q, k, n, theta: [q, k.to("meta")], "given tensors on cpu, and returned one on meta"),
    ],
)
def test_tuple_is_asked_for(function, sentence):
    assert sentence in message(failed(function, "rotate_new_tokens"))


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x, cos: x, "apply_rope(x, cos, sin) is asked for, but yours is apply_rope(x, cos)"),
        (lambda: None, "but yours is apply_rope()"),
        (lambda x, *, cos, sin: x, "but yours is apply_rope(x, *, cos, sin)"),
        (dict.fromkeys, "apply_rope(x, cos, sin) is asked for"),
    ],
)
def test_wrong_signature_is_named_before_anything_runs(function, sentence):
    verdict = failed(function)
    assert sentence in verdict.problem
    assert verdict.points == 0


def outer(x, cos, sin):
    return inner(x)


def inner(x):
    return x.no_such_thing


def test_an_exception_shows_the_traceback_of_the_answer_and_none_of_ours():
    text = verdict_text(failed(outer))
    assert "Your code raised:" in text
    assert "return inner(x)" in text
    assert "return x.no_such_thing" in text
    assert "AttributeError: 'Tensor' object has no attribute 'no_such_thing'" in text
    assert "grading/engine.py" not in text.replace("tests/grading/test_engine.py", "")
    assert "grading/exercises" not in text


def deep(x, cos, sin):
    return deep(x, cos, sin)


def leaves(x, cos, sin):
    sys.exit("bye")


class Own(BaseException):
    """What no sensible handler catches."""


def raises_own(x, cos, sin):
    raise Own("odd")


def raises_keyless(x, cos, sin):
    raise KeyError


def speaks_at_length(x, cos, sin):
    raise RuntimeError("\n".join(f"line {i} " + "x" * 500 for i in range(100)))


class Mute(Exception):
    """Whose text cannot be had."""

    def __str__(self):
        raise RuntimeError("no text")


class Leaving(Exception):
    """Whose text ends Python."""

    def __str__(self):
        sys.exit("bye")


class Wordless(Exception):
    """Whose text is none."""

    def __str__(self):
        return 5


def raising(error):
    def answer(x, cos, sin):
        raise error

    return answer


class RaisesBackwards(torch.autograd.Function):
    """The right numbers, and an exit where gradients are asked for."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        return right(x, cos, sin)

    @staticmethod
    def backward(ctx, gradient):
        raise Own("backwards")


def hooked(x, cos, sin):
    result = right(x, cos, sin)
    if result.requires_grad:
        result.register_hook(raising_hook)
    return result


def raising_hook(gradient):
    raise Own("in a hook")


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (deep, "RecursionError: maximum recursion depth exceeded"),
        (leaves, "SystemExit: bye"),
        (raises_own, "Own: odd"),
        (raises_keyless, "KeyError"),
        (speaks_at_length, "lines left out"),
        (raising(Mute()), "Mute: its text cannot be read"),
        (raising(Leaving()), "Leaving: its text cannot be read"),
        (raising(Wordless()), "Wordless: its text cannot be read"),
        (raising(ValueError("\ud800 and \x1b[2J")), "ValueError: \\ud800 and \\x1b[2J"),
        (lambda x, cos, sin: RaisesBackwards.apply(x, cos, sin), "Own: backwards"),
        (hooked, "Own: in a hook"),
        (lambda x, cos, sin: torch.nested.nested_tensor([x[0, 0]]), "returned a sparse tensor"),
    ],
)
def test_no_exception_escapes(function, sentence):
    text = verdict_text(failed(function))
    assert sentence in text
    assert max(map(len, text.splitlines())) < 400


def not_for_this_dtype(x, cos, sin):
    raise NotImplementedError("\"tril\" not implemented for 'Half'")


def test_only_a_stub_counts_as_not_solved_yet():
    assert not failed(not_for_this_dtype).unsolved


def endless(x, cos, sin):
    while True:
        pass


def endless_and_deaf(x, cos, sin):
    while True:
        try:
            x = x + 1
        except Exception:
            print("never mind")


def endless_and_idle(x, cos, sin):
    while True:
        time.sleep(1)


def endless_inside_a_bare_except(x, cos, sin):
    try:
        while True:
            pass
    except:  # noqa: E722
        return x


def endless_around_a_bare_except(x, cos, sin):
    while True:
        try:
            torch.ones(9).sum()
        except:  # noqa: E722
            x = -x


def endless_backwards(x, cos, sin):
    result = right(x, cos, sin)
    if result.requires_grad:
        result.register_hook(lambda gradient: endless(gradient, cos, sin))
    return result


LOOPS = [endless, endless_and_deaf, endless_inside_a_bare_except, endless_around_a_bare_except, endless_backwards]


def is_cut(verdict):
    want = "still running after 0.3 seconds of computing, where milliseconds are enough. Look for a loop"
    return want in verdict.problem and not verdict.passed


@pytest.mark.parametrize("function", [*LOOPS, endless_and_idle])
def test_an_endless_loop_is_cut(function):
    verdict = failed(function, seconds=0.3)
    if function is endless_and_idle:
        assert "still running after 2 seconds, where" in verdict.problem
        assert "or for something that waits" in verdict.problem
    else:
        assert is_cut(verdict)
    assert signal.getitimer(signal.ITIMER_PROF) == signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("function", LOOPS)
def test_an_endless_loop_is_cut_where_there_are_no_timers(function, monkeypatch):
    """As on Windows, where `signal` has no setitimer."""
    monkeypatch.delattr(signal, "setitimer")
    assert is_cut(failed(function, seconds=0.3))
    assert grade(REGISTRY["apply_rope"], right).passed


def test_an_endless_loop_is_cut_in_another_thread():
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(grade(REGISTRY["apply_rope"], endless, seconds=0.3)))
    thread.start()
    thread.join(60)
    assert is_cut(verdicts[0])


def checks_itself(x, cos, sin):
    check(apply_rope)
    return right(x, cos, sin)


def apply_rope(x, cos, sin):
    return checks_itself(x, cos, sin)


def checks_another_and_loops(x, cos, sin):
    try:
        check(REGISTRY["rope_frequencies"].reference)
    except RuntimeError:
        endless(x, cos, sin)


def test_a_check_within_an_answer_is_refused():
    verdict = failed(checks_itself)
    assert "check is running already, and apply_rope has called it. Is check(...) indented" in message(verdict)
    assert is_cut(failed(checks_another_and_loops, seconds=0.3))
    with pytest.raises(CheckFailed, match="apply_rope is not right yet"):
        check(apply_rope, keep=False)


def waits(x, cos, sin):
    time.sleep(0.05)
    return right(x, cos, sin)


def test_a_busy_machine_is_not_the_answer_s_fault():
    """An answer that waits for longer than it may compute, as it does where other programs have the cores."""
    assert grade(REGISTRY["apply_rope"], right).passed  # torch imports things when they are first used
    assert grade(REGISTRY["apply_rope"], waits, seconds=1).passed


def interrupted(x, cos, sin):
    raise KeyboardInterrupt


def test_an_interrupt_is_a_verdict():
    verdict = failed(interrupted)
    assert "was interrupted after" in verdict.problem
    assert "Look for a loop that never ends" in verdict.problem


def loops_late(x, cos, sin):
    while x.shape[-1] == 64:
        pass
    return right(x, cos, sin)


def test_what_was_right_before_the_loop_counts():
    verdict = failed(loops_late, seconds=0.5)
    assert verdict.results[0].passed
    assert verdict.results[-1].message == "not reached"
    assert 0 < verdict.points < 5


def chatty(x, cos, sin):
    for i in range(1000):
        print("line", i, "of", tuple(x.shape))
    return -right(x, cos, sin)


def test_what_an_answer_prints_is_kept_back_and_shown_shortened(capsys):
    verdict = failed(chatty)
    assert capsys.readouterr().out == ""
    text = verdict_text(verdict)
    assert "Your code printed:\n  line 0 of (1, 1, 3, 2)" in text
    assert "994 lines left out" in text
    assert "(2, 3, 5, 8)" not in text  # only what belongs to the first check that failed


def test_right_answer_prints_nothing(capsys):
    def talks(x, cos, sin):
        print("hello")
        return right(x, cos, sin)

    verdict = grade(REGISTRY["apply_rope"], talks)
    assert verdict.passed
    assert capsys.readouterr().out == ""
    assert verdict_text(verdict) == "apply_rope is right: 8 of 8 checks, 5 of 5 points."


def test_learner_keeps_random_state_threads_and_stdout():
    torch.manual_seed(5)
    state, threads, out = torch.random.get_rng_state(), torch.get_num_threads(), sys.stdout
    failed(lambda x, cos, sin: torch.rand(x.shape))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert sys.stdout is out


def closes_stdout(x, cos, sin):
    print("before")
    sys.stdout.close()
    return -right(x, cos, sin)


def prints_a_lone_surrogate(x, cos, sin):
    print("\ud800\x1b[2J")
    return -right(x, cos, sin)


def test_whatever_is_printed_the_verdict_can_be_shown():
    assert "Your code printed:\n  before" in verdict_text(failed(closes_stdout))
    text = verdict_text(failed(prints_a_lone_surrogate))
    assert "Your code printed:\n  \\ud800\\x1b[2J" in text
    text.encode()


def test_what_an_answer_sets_for_the_whole_process_spoils_no_verdict():
    frequencies, cells = REGISTRY["rope_frequencies"], (torch.get_default_dtype(), torch.get_default_device())

    def sets_everything(head_dim, theta=10_000.0):
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.set_num_threads(2)
        return frequencies.reference(head_dim, theta)

    grade(frequencies, sets_everything)
    assert (torch.get_default_dtype(), torch.get_default_device()) == cells
    assert torch.is_grad_enabled()
    assert grade(REGISTRY["to_interleaved"], rope.to_interleaved).passed


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_a_notebook_has_set_before_fails_no_right_answer(device, dtype):
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        for name in ("apply_rope", "to_interleaved", "rope_frequencies"):
            assert grade(REGISTRY[name], getattr(rope, name)).passed
        assert torch.get_default_dtype() == dtype
        assert torch.get_default_device().type == device
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


class Hostile:
    """Raises whatever it is asked."""

    def __getattribute__(self, name):
        raise RuntimeError("hands off")

    def __call__(self, x, cos, sin):
        return x


class Leaves(nn.Module):
    """Ends Python when its parameters are read."""

    @property
    def __signature__(self):
        sys.exit("bye")


def test_a_signature_that_cannot_be_read_gets_a_verdict():
    assert "it cannot be used (SystemExit: bye)" in failed(Leaves()).problem


def test_an_object_that_refuses_every_question_gets_a_verdict():
    verdict = grade(REGISTRY["apply_rope"], Hostile())
    assert not verdict.passed
    assert verdict.problem
    with pytest.raises(CheckFailed):
        check(Hostile())


def test_any_callable_is_graded():
    class Rope(nn.Module):
        def forward(self, x, cos, sin):
            return right(x, cos, sin)

    assert grade(REGISTRY["apply_rope"], Rope()).passed
    assert grade(REGISTRY["apply_rope"], functools.partial(right, layout="half")).passed


@torch.jit.script
def to_interleaved(weight: Tensor, n_heads: int):
    if weight.shape[0] % (2 * n_heads) != 0:
        raise ValueError("rows")
    return weight.unflatten(0, [n_heads, 2, -1]).transpose(1, 2).flatten(0, 2)


def test_a_scripted_function_is_graded_like_its_source(capsys):
    check(to_interleaved, keep=False)
    assert capsys.readouterr().out.startswith("to_interleaved is right")


def test_no_grad_around_check_does_not_fail_a_right_answer():
    with torch.no_grad():
        verdict = grade(REGISTRY["apply_rope"], right)
    assert verdict.passed, message(verdict)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_verdict_on_cuda_is_the_same(monkeypatch):
    for exercise in catalogued().values():
        texts = []
        for device in ("cpu", "cuda"):
            monkeypatch.setenv("LLAMA_LESSONS_DEVICE", device)
            texts.append(verdict_text(grade(exercise, exercise.reference)))
            for misconception in exercise.misconceptions:
                assert grade(exercise, misconception.make()).mistake.name == misconception.name
        assert texts[0] == texts[1]
    verdict = grade(REGISTRY["apply_rope"], lambda x, cos, sin: right(x, cos, sin).cpu())
    assert "given tensors on cuda, and returned one on cpu" in message(verdict)
