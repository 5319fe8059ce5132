"""Exercise 5: predict what a gate lets pass, then run."""

from collections.abc import Callable
from functools import partial

from ...exercise import Exercise
from ...expect import Mismatch
from ...prediction import number_by_number


def predict_feed_forward() -> tuple[float, float, float, float, float]:
    first = 200.0  # silu(100) * 2
    second = 1800.0  # silu(300) * 6
    third = 0.0  # silu(-100) * -2
    fourth = 200.0  # -100 * -2
    fifth = 200.0  # as the first, whatever stands beside it
    return first, second, third, fourth, fifth


ASKED = {
    "1. SwiGLU of 1": 200.0,
    "2. SwiGLU of 3": 1800.0,
    "3. SwiGLU of -1": 0.0,
    "4. the layer without its activation, of -1": 200.0,
    "5. SwiGLU of two tokens, 1 and 3: the first one's result": 200.0,
}


exercise = Exercise(
    predict_feed_forward,
    points=3,
    minutes=6,
    cases=lambda: [(number,) for number in range(1, len(ASKED) + 1)],
    returns=float,
    using=number_by_number("predict_feed_forward", len(ASKED), digits=0),
    hints=(
        "SiLU of a large number is that number, and SiLU of a very negative one is 0. First what the gate lets pass, "
        "then times what up makes.",
        "Gate and up both grow with x. What happens to a product if both its factors are three times as large?",
    ),
)


def expect_prediction(number: int, right: float, answer: Callable) -> None:
    if (said := answer(number)) != right:
        raise Mismatch(f"to the nearest whole number your prediction is {said:g}, and that is not what comes out")


for number, (asked, right) in enumerate(ASKED.items(), 1):
    exercise.property(asked)(partial(expect_prediction, number, right))


exercise.slips("""
    the gate as a switch: first = 200.0 -> first = 2.0
        Number 1: you let up pass as it is, as if an open gate were 1. SiLU of 100 is 100: it multiplies by that.
    up forgotten: first = 200.0 -> first = 100.0
        Number 1: this is what comes out of the gate. It multiplies what up makes, which is 2.
    added: first = 200.0 -> first = 102.0
        Number 1: this is gate plus up. They are multiplied.
    in proportion: second = 1800.0 -> second = 600.0
        Number 2: three times the x makes three times the gate and three times the up, so their product is nine times as
        large. Without a gate it would be three times.
    only up grows: second = 1800.0 -> second = 6.0
        Number 2: you let up pass as it is, as if an open gate were 1. SiLU of 300 is 300.
    only one factor: second = 1800.0 -> second = 900.0
        Number 2: the square of 3 is there, but not the factor of up: 300 times 6.
    the gate alone, at 3: second = 1800.0 -> second = 300.0
        Number 2: this is what comes out of the gate. It multiplies what up makes, which is 6.
    odd: third = 0.0 -> third = -200.0
        Number 3: you take the result for -1 to be minus the one for 1. The gate of -1 is SiLU of -100, which is shut.
    even: third = 0.0 -> third = 200.0
        Number 3: minus times minus would be plus, if there were no activation. SiLU of -100 is 0.
    shut, but up gets through: third = 0.0 -> third = -2.0
        Number 3: this is up alone. A gate that is shut multiplies it by 0.
    shut without an activation too: fourth = 200.0 -> fourth = 0.0
        Number 4: without the activation nothing shuts: -100 times -2.
    minus lost once: fourth = 200.0 -> fourth = -200.0
        Number 4: both factors are negative, -100 and -2, so their product is positive.
    no gate either: fourth = 200.0 -> fourth = -2.0
        Number 4: this is up alone. Without the activation the gate still multiplies, by -100.
    tokens mixed: fifth = 200.0 -> fifth = 1000.0
        Number 5: this is the mean of both results. A feed-forward layer works on each token by itself.
    tokens summed: fifth = 200.0 -> fifth = 2000.0
        Number 5: this is the sum of both results. A feed-forward layer works on each token by itself.
    the second token's: fifth = 200.0 -> fifth = 1800.0
        Number 5: this is the second token's result.
    the sum of the tokens read: fifth = 200.0 -> fifth = 3200.0
        Number 5: this is the result for 4, the sum of both. A feed-forward layer works on each token by itself.
    the mean of the tokens read: fifth = 200.0 -> fifth = 800.0
        Number 5: this is the result for 2, the mean of both. A feed-forward layer works on each token by itself.
""")
