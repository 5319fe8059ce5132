"""The learner's own parts, as `check` has kept them in my_llama.

Each part can be imported from here, such as `from llama_lessons.lab.mine import RMSNorm`: the learner's own, or the
course's as long as it is not solved.
"""

from typing import Any

from llama_lessons.grading import mine

__all__: list[str] = []  # each part is made known by __getattr__


def __getattr__(name: str) -> Any:
    """A part of your own Llama, for `from llama_lessons.lab.mine import RMSNorm`; says whose it is.

    Raises:
        BrokenPart: if a file of my_llama cannot be imported.
    """
    if name not in mine.PARTS:
        raise AttributeError(f"{__name__} has no {name}; the parts of my_llama are {', '.join(mine.PARTS)}")
    (part,) = mine.take(name)
    print(f"{name}: {mine.owners()[name]}")
    return part
