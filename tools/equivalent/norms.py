"""Equivalent mutants of lesson 05."""

__all__ = ["EQUIVALENT"]

PROMOTED = "float32 times a weight in half precision is float32 all the same"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("mended_norm", "return (values / scale * weight).to(x.dtype)"): PROMOTED,
}
