"""Each kind of answer that cannot be right gets a sentence of its own, and no answer brings the grader down."""

import functools
import sys
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llama_lessons import rope
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
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
    ("function", "sentence"),
    [
        (lambda mix, x: torch.tensor(True), "returned a torch.Tensor, where a bool is expected; return True or False"),
        (lambda mix, x: np.bool_(True), "returned a numpy.bool, where a bool is expected; return True or False"),
        (lambda mix, x: 1, "returned an int, where a bool is expected"),
    ],
)
def test_bool_is_asked_for(function, sentence):
    assert sentence in message(failed(function, "is_order_blind"))


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


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (deep, "RecursionError: maximum recursion depth exceeded"),
        (leaves, "SystemExit: bye"),
        (raises_own, "Own: odd"),
        (raises_keyless, "KeyError"),
        (speaks_at_length, "lines left out"),
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


@pytest.mark.parametrize("function", [endless, endless_and_deaf, endless_and_idle])
def test_an_endless_loop_is_cut(function):
    verdict = failed(function, seconds=0.3)
    assert (
        "still running after 0.3 seconds of computing, where milliseconds are enough. Look for a loop"
        in verdict.problem
    )
    assert verdict.points == 0


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
    assert verdict_text(verdict) == "apply_rope is right: 10 of 10 checks, 5 of 5 points."


def test_learner_keeps_random_state_threads_and_stdout():
    torch.manual_seed(5)
    state, threads, out = torch.random.get_rng_state(), torch.get_num_threads(), sys.stdout
    failed(lambda x, cos, sin: torch.rand(x.shape))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert sys.stdout is out


def test_any_callable_is_graded():
    class Rope(nn.Module):
        def forward(self, x, cos, sin):
            return right(x, cos, sin)

    assert grade(REGISTRY["apply_rope"], Rope()).passed
    assert grade(REGISTRY["apply_rope"], functools.partial(right, layout="half")).passed


def test_no_grad_around_check_does_not_fail_a_right_answer():
    with torch.no_grad():
        verdict = grade(REGISTRY["apply_rope"], right)
    assert verdict.passed, message(verdict)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_verdict_on_cuda_is_the_same(monkeypatch):
    for exercise in REGISTRY.values():
        texts = []
        for device in ("cpu", "cuda"):
            monkeypatch.setenv("LLAMA_LESSONS_DEVICE", device)
            texts.append(verdict_text(grade(exercise, exercise.reference)))
            for misconception in exercise.misconceptions:
                assert grade(exercise, misconception.function).misconception is misconception
        assert texts[0] == texts[1]
    verdict = grade(REGISTRY["apply_rope"], lambda x, cos, sin: right(x, cos, sin).cpu())
    assert "given tensors on cuda, and returned one on cpu" in message(verdict)
