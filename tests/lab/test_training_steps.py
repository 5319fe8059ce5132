"""What lesson 10 shows of single steps is kept for every step, and is what it is called."""

import math

from llama_lessons.lab.training_steps import KEPT, NO_WARMUP, PEAKS, kept_steps, watched_run


def test_a_run_keeps_each_step():
    run = watched_run(3e-3, warmup=2, steps=4)
    assert all(len(run[name]) == 4 for name in ("loss", "gradient", "update"))
    assert abs(run["loss"][0] - math.log(84)) < 0.15
    assert all(norm > 0 for norm in run["gradient"])
    # The first step moves every weight by the rate, a third of the peak; their standard deviation is 0.02.
    assert abs(run["update"][0] - 1e-3 / 0.02) < 0.005


def test_three_seeds_of_every_setting_are_kept():
    kept = kept_steps()
    assert list(kept["warm-up"]) == [f"{peak:g}" for peak in PEAKS]
    assert list(kept["no warm-up"]) == [f"{peak:g}" for peak in NO_WARMUP]
    assert all(
        len(runs) == 3 and len(run["loss"]) == len(KEPT) for by in kept.values() for runs in by.values() for run in runs
    )
