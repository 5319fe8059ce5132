"""Exercise 9: a block of weights in 4 bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, draw, exact, expect_close, expect_like, tensor
from ...families import batch_of_one


def quantize_block(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    minimum = x.amin(dim=-1)
    scale = (x.amax(dim=-1) - minimum) / 15
    divisor = scale.where(scale > 0, 1)
    steps = (x - minimum[..., None]) / divisor[..., None]
    codes = steps.round().clamp(0, 15)
    return codes.to(torch.uint8), scale, minimum


def cases() -> list[tuple]:
    made = [(size * draw(*shape, seed=seed),) for seed, (shape, size) in enumerate(SHAPES)]
    made.append((draw(4, 32, seed=20).abs() + 3,))
    made.append((-draw(4, 32, seed=21).abs() - 1,))
    made.append((torch.cat([draw(2, 32, seed=22), tensor([[0.75] * 32])]),))
    return [*made, (tensor([0.0] * 32),), (-tensor([float(i) for i in range(32)]),)]


SHAPES = (((32,), 1.0), ((3, 32), 0.02), ((2, 5, 32), 30.0), ((40, 32), 1.0), ((2, 32), 1e-5))

exercise = Exercise(
    quantize_block,
    points=4,
    minutes=10,
    cases=cases,
    returns=(Tensor, Tensor, Tensor),
    hints=(
        "From the minimum to the maximum there are 16 levels. How many steps lie between them?",
        "A block of equal values has a scale of 0. Divide by 1 there: scale.where(scale > 0, 1).",
    ),
)


@exercise.property("codes are uint8, (..., 32); scale and minimum are float32, (...,)")
def shapes(answer: Callable) -> None:
    for shape, _ in SHAPES:
        codes, scale, minimum = answer(draw(*shape))
        where = f"x of shape {shape}"
        expect_like(codes, shape=shape, dtype=torch.uint8, where=f"codes, {where}")
        for name, got in (("scale", scale), ("minimum", minimum)):
            expect_like(got, shape=shape[:-1], dtype=torch.float32, where=f"{name}, {where}")


@exercise.property("minimum is the block's smallest value, scale a fifteenth of the way to the largest")
def scales(answer: Callable) -> None:
    for seed, (shape, size) in enumerate(SHAPES):
        x = size * draw(*shape, seed=40 + seed)
        _, scale, minimum = answer(x)
        values = exact(x)
        where = f"x of shape {shape}"
        expect_close(minimum, values.amin(-1), where=f"minimum, {where}", atol=1e-6 * size)
        want = (values.amax(-1) - values.amin(-1)) / 15
        expect_close(scale, want, where=f"scale, {where}", atol=1e-6 * size)


@exercise.property("codes go from 0 at the minimum to 15 at the maximum")
def all_codes(answer: Callable) -> None:
    x = tensor([float(i) for i in range(16)] * 2)
    got, want = answer(x)[0].tolist(), list(range(16)) * 2
    if got != want:
        raise Mismatch(f"the values 0, 1, ... 15, twice: expected the codes 0, 1, ... 15, got {got[:16]}")
    codes = answer(draw(50, 32, seed=5))[0]
    if (codes.amin(-1) != 0).any() or (codes.amax(-1) != 15).any():
        raise Mismatch("a block's smallest value is expected to have code 0, and its largest one code 15")


@exercise.property("scale * code + minimum is within half a scale of each value")
def round_trip(answer: Callable) -> None:
    for seed, (shape, size) in enumerate(SHAPES):
        x = size * draw(*shape, seed=60 + seed)
        codes, scale, minimum = (exact(part) for part in answer(x))
        error = (scale[..., None] * codes + minimum[..., None] - exact(x)).abs() / scale[..., None]
        if error.max() > 0.501:
            raise Mismatch(
                f"x of shape {shape}: a value comes back {error.max():.2f} scales away; half a scale at most"
            )


@exercise.property("a block of equal values: scale 0, codes 0, no NaN")
def equal_values(answer: Callable) -> None:
    for value in (0.0, 0.75, -3.0):
        codes, scale, minimum = answer(tensor([[value] * 32, [float(i) for i in range(32)]]))
        got = (codes[0].unique().tolist(), scale[0].item(), minimum[0].item())
        if got != ([0], 0.0, value):
            raise Mismatch(
                f"32 times {value}: expected codes 0, scale 0, minimum {value}; got codes {got[0]}, scale {got[1]:g}, "
                f"minimum {got[2]:g}"
            )


exercise.slips("""
    16 steps: - minimum) / 15 -> - minimum) / 16
        You divide by 16. Between 16 levels there are 15 steps.
    from 0: minimum = x.amin(dim=-1) -> minimum = 0 * x.amin(dim=-1)
        Your levels begin at 0, whatever the smallest value is.
    around 0: minimum = x.amin(dim=-1) -> minimum = -x.abs().amax(dim=-1)
        Your levels begin at minus the largest size. They begin at the smallest value.
    rounded down: steps.round() -> steps.floor()
        You round down. The nearest code is at most half a step away.
    rounded up: steps.round() -> steps.ceil()
        You round up. The nearest code is at most half a step away.
    codes from 1: steps.round().clamp(0, 15) -> (steps.round() + 1).clamp(0, 16)
        Your codes begin at 1.
    centred codes: steps.round().clamp(0, 15) -> (steps.round() - 8).clamp(-8, 7) % 256
        You subtract 8 from the codes. They go from 0 to 15.
    upside down: steps.round() -> (15 - steps).round()
        Your codes go from 15 at the minimum to 0 at the maximum.
    int8: torch.uint8), scale -> torch.int8), scale
        Your codes are int8. uint8 is asked for.
    codes as numbers with a point: codes.to(torch.uint8), scale -> codes, scale
        Your codes are floating-point numbers. uint8 is asked for.
    one scale for all: scale = (x.amax(dim=-1) - minimum) / 15 -> scale = 0 * minimum + (x.amax() - x.amin()) / 15
        All blocks have one scale. Each has its own.
    one minimum for all: minimum = x.amin(dim=-1) -> minimum = 0 * x.amin(dim=-1) + x.amin()
        All blocks have one minimum. Each has its own.
    a small number for 0: scale.where(scale > 0, 1) -> scale + 1e-6
        You add a small number to the scale, so that blocks of small values are not rounded to their own levels.
    scale of 1 for equal values: codes.to(torch.uint8), scale, minimum -> codes.to(torch.uint8), divisor, minimum
        For a block of equal values you return a scale of 1. It is 0.
    axes kept: , scale, minimum -> , scale[..., None], minimum[..., None]
        Your scale and minimum have an axis of 1 at the end.
    the maximum for the minimum: uint8), scale, minimum -> uint8), scale, x.amax(dim=-1)
        You return the maximum in place of the minimum.
    the middle: uint8), scale, minimum -> uint8), scale, minimum + 8 * scale
        You return the value of code 8 in place of the minimum.
    the inverse scale: uint8), scale, minimum -> uint8), 1 / divisor, minimum
        You return 1 / scale.
""")
batch_of_one(exercise, "x")
