"""Mutants that are as right as the solution: exercise, the line after the change, and why no test can tell."""

from . import attention, extrapolation, initialization, learned_positions, norms, rope, sinusoidal_positions, start_here

__all__ = ["EQUIVALENT"]

EQUIVALENT: dict[tuple[str, str], str] = {
    key: why
    for lesson in (
        attention,
        extrapolation,
        initialization,
        learned_positions,
        norms,
        rope,
        sinusoidal_positions,
        start_here,
    )
    for key, why in lesson.EQUIVALENT.items()
}
