"""Exercise 5: the learning rate of each step, up along a line and down along a cosine."""

import math
from collections.abc import Callable

from ...exercise import Exercise
from ...expect import Mismatch


def learning_rate(step: int, warmup_steps: int, total_steps: int, peak: float, lowest: float) -> float:
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    down = total_steps - 1 - warmup_steps
    share = (step - warmup_steps) / down
    height = (1 + math.cos(math.pi * share)) / 2
    return lowest + (peak - lowest) * height


RUNS = [(4, 13, 1.0, 0.3), (0, 11, 0.6, 0.06), (10, 31, 3e-3, 0.0), (1, 6, 2.0, 1.0)]


def cases() -> list[tuple]:
    """Each kind of step: the first, within the warm-up, its end, on the way down, the last."""
    made = []
    for warmup_steps, total_steps, peak, lowest in RUNS:
        middle = (warmup_steps + total_steps) // 2
        steps = {
            0,
            warmup_steps // 2,
            max(warmup_steps - 1, 0),
            warmup_steps,
            warmup_steps + 1,
            middle,
            total_steps - 1,
        }
        made += [(step, warmup_steps, total_steps, peak, lowest) for step in sorted(steps)]
    return made


exercise = Exercise(
    learning_rate,
    points=3,
    minutes=8,
    cases=cases,
    returns=float,
    hints=(
        "Two cases: step below warmup_steps, and from there on. Which value do both have to have at their seam?",
        "On the way down, first work out the share of the way: 0 at step warmup_steps, 1 at the last step, which is "
        "total_steps - 1. The cosine of pi times it runs from 1 to -1; make of that 1 to 0.",
    ),
)


def expect_rate(answer: Callable, run: tuple, step: int, want: float, why: str) -> None:
    warmup_steps, total_steps, peak, lowest = run
    where = f"step {step} of {total_steps}, warmup_steps {warmup_steps}, peak {peak}, lowest {lowest}: {why}"
    if not math.isclose(got := answer(step, *run), want, rel_tol=1e-6, abs_tol=1e-9 * peak):
        raise Mismatch(f"{where}: expected {want:.6g}, got {got:.6g}")


@exercise.property("warm-up: step 0 has peak / (warmup_steps + 1), each step as much more")
def warm_up(answer: Callable) -> None:
    for run in RUNS:
        for step in range(run[0]):
            expect_rate(answer, run, step, run[2] * (step + 1) / (run[0] + 1), "on the way up")


@exercise.property("step warmup_steps has peak")
def peak_there(answer: Callable) -> None:
    for run in RUNS:
        expect_rate(answer, run, run[0], run[2], "the peak")


@exercise.property("the last step, total_steps - 1, has lowest")
def lowest_there(answer: Callable) -> None:
    for run in RUNS:
        expect_rate(answer, run, run[1] - 1, run[3], "the last one")


@exercise.property("half-way down it is half-way between peak and lowest, and a cosine elsewhere")
def cosine(answer: Callable) -> None:
    expect_rate(answer, RUNS[0], 8, 0.65, "half-way down")
    for run in RUNS:
        warmup_steps, total_steps, peak, lowest = run
        for step in range(warmup_steps, total_steps):
            angle = math.pi * (step - warmup_steps) / (total_steps - 1 - warmup_steps)
            want = (peak + lowest) / 2 + (peak - lowest) / 2 * math.cos(angle)
            expect_rate(answer, run, step, want, "on the way down")


exercise.slips("""
    begins at 0: peak * (step + 1) / (warmup_steps + 1) -> peak * step / warmup_steps
        Your first step has a rate of 0, and is wasted: it is to have peak / (warmup_steps + 1).
    the peak too early: peak * (step + 1) / (warmup_steps + 1) -> peak * (step + 1) / warmup_steps
        You reach peak one step early, at step warmup_steps - 1. It is to be at step warmup_steps.
    never quite the peak: peak * (step + 1) / (warmup_steps + 1) -> peak * step / (warmup_steps + 1)
        Your first step has a rate of 0, and is wasted. Count it as the first of warmup_steps + 1 stairs.
    no warm-up: if step < warmup_steps: -> if step < 0:
        Your rate does not rise along a line: steps below warmup_steps follow the cosine too.
    peak from the start: peak * (step + 1) / (warmup_steps + 1) -> peak
        Your rate is peak from the start. It rises up to step warmup_steps.
    from lowest up: peak * (step + 1) / (warmup_steps + 1) -> lowest + (peak - lowest) * (step + 1) / (warmup_steps + 1)
        Your warm-up begins at lowest. It rises from nothing: the first step has peak / (warmup_steps + 1).
    the cosine of the whole run: share = (step - warmup_steps) / down -> share = step / (total_steps - 1)
        Your cosine begins at step 0, so it is on its way down when the warm-up ends. It begins at step warmup_steps.
    one step too long: down = total_steps - 1 - warmup_steps -> down = total_steps - warmup_steps
        Your rate never gets to lowest: the last step is total_steps - 1, since steps are counted from 0.
    as long as the whole run: down = total_steps - 1 - warmup_steps -> down = total_steps - 1
        You divide by the steps of the whole run. The way down has total_steps - 1 - warmup_steps.
    from the step after: share = (step - warmup_steps) -> share = (step - warmup_steps + 1)
        Your cosine is one step ahead. At step warmup_steps the share of the way down is 0.
    down to 0: return lowest + (peak - lowest) * -> return peak *
        Your rate goes down to 0. It goes down to lowest.
    too high by lowest: (peak - lowest) * -> peak *
        Your rate runs from peak + lowest down to lowest. What the cosine is multiplied by is the difference of the two.
    not below lowest: return lowest + (peak - lowest) * height -> return max(lowest, peak * height)
        Your rate follows a cosine down to 0, and is cut off at lowest. The cosine itself is to end at lowest.
    a cosine from 1 to -1: (1 + math.cos(math.pi * share)) / 2 -> math.cos(math.pi * share)
        The cosine runs from 1 to -1, and you take it as it is, so that rates become negative or too low. (1 + cos) / 2
        runs from 1 to 0.
    not halved: (1 + math.cos(math.pi * share)) / 2 -> (1 + math.cos(math.pi * share))
        1 + cos runs from 2 to 0: half of it is wanted.
    up in place of down: (1 + math.cos -> (1 - math.cos
        Your rate rises after the warm-up. 1 + cos falls, 1 - cos rises.
    a whole turn: math.pi * share -> 2 * math.pi * share
        Your cosine makes a whole turn, and is back at peak at the end. Half a turn is wanted: pi.
    a quarter turn: (1 + math.cos(math.pi * share)) / 2 -> math.cos(math.pi / 2 * share)
        You take the first quarter of a cosine's turn. Half a turn is wanted, made to run from 1 to 0.
    degrees: math.pi * share -> 180 * share
        math.cos takes radians: half a turn is pi, not 180.
    without pi: math.pi * share -> share
        pi is missing: the cosine of the share itself hardly falls.
    a line: (1 + math.cos(math.pi * share)) / 2 -> (1 - share)
        Your rate falls along a line. A cosine is asked for.
    whole numbers: share = (step - warmup_steps) / down -> share = (step - warmup_steps) // down
        // cuts the share to a whole number, 0 up to the last step. Use /.
    the peak throughout: return lowest + (peak - lowest) * height -> return peak
        Your rate stays at peak after the warm-up. It falls along a cosine.
""")
