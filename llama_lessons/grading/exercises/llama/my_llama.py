"""Exercise 6: all parts together, with SmolLM2's weights, beside the course's own Llama."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from llama_lessons.settings import plain

from ...exercise import Exercise
from ...expect import Mismatch
from ...locator import locate, locate_in_cache
from ...mine import owners
from ...verdict import Mistake

OWN = ("Block", "Llama", "load")  # what this lesson asks for; all others may be the course's
NEW_TOKENS = 40
TEXT = "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness"


def my_llama() -> Any:
    from llama_lessons.lab.mine import assemble

    return assemble(say=lambda text: None)


class Seen:
    """What is seen of a learner's Llama beside the course's, on the same tokens; each thing when it is asked for.

    Args:
        own: the learner's, as `assemble` gives it.
    """

    def __init__(self, own: Any) -> None:
        from llama_lessons.checkpoints import load_gguf, load_gguf_tokenizer
        from llama_lessons.lab.mine import Assembled

        if not isinstance(own, Assembled):
            raise Mismatch("my_llama has to return what assemble() returns")
        self.bar = tqdm(total=4, desc="beside the course's", unit="step", leave=False, disable=plain())
        self.own, self.reference = own, load_gguf(own.path)
        self.bar.update()
        self.ids = torch.tensor([load_gguf_tokenizer(own.path).encode(TEXT).ids])

    @cached_property
    @torch.inference_mode()
    def logits(self) -> tuple[Tensor, Tensor]:
        """The learner's and the course's, for each token."""
        self.bar.update()
        return self.own.model(self.ids), self.reference(self.ids)

    @cached_property
    @torch.inference_mode()
    def pieces(self) -> Tensor:
        """The learner's, when the text is read in two pieces with caches."""
        self.bar.update()
        cache, half = self.own.model.new_cache(1, self.ids.shape[1]), self.ids.shape[1] // 2
        return torch.cat(
            [self.own.model(part, cache=cache) for part in (self.ids[:, :half], self.ids[:, half:])], dim=1
        )

    @cached_property
    def chosen(self) -> tuple[list[int], list[int]]:
        """The tokens that each goes on with, the best at each step."""
        from llama_lessons.generation import generate

        chosen = tuple(generate(model, self.ids.tolist(), NEW_TOKENS)[0] for model in (self.own.model, self.reference))
        self.bar.close()
        return chosen


def use(answer: Callable) -> Callable[[], Seen]:
    """Assemble it once; a mistake that stops it does so again for each property."""
    outcome: list[Seen | Exception] = []

    def seen() -> Seen:
        if not outcome:
            try:
                assembled = answer()
                if missing := [part for part in OWN if owners()[part] != "yours"]:
                    raise Mismatch(f"not solved yet: {', '.join(missing)}. check keeps what is right in my_llama")
                outcome.append(Seen(assembled))
            except Exception as error:
                outcome.append(error)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    return seen


def diagnose(answer: Callable[[], Seen]) -> Mistake | None:
    """The first part that differs, and what it looks like."""
    try:
        seen = answer()
        own, model = seen.own, seen.own.model.model
        report = locate(model, seen.reference, seen.ids, own.modules)
        if not report.faults and not same(seen.pieces, seen.logits[1]):
            room = seen.ids.numel() * own.model.config.n_layers
            return locate_in_cache(model, seen.ids, lambda: own.model.new_cache(1, room), own.model.config)
    except Exception:  # the properties have said so
        return None
    if not report.faults:
        return None
    name, sure = (report.mistake.name, report.mistake.sure) if report.mistake else ("the first part that differs", True)
    return Mistake(name, str(report), sure)


exercise = Exercise(
    my_llama,
    points=8,
    minutes=5,
    cases=list,
    returns=Seen,
    using=use,
    seconds=120,
    diagnose=diagnose,
    hints=(
        "The card names the first part of your model that differs from the course's for the same input. If it has a "
        "name for the mistake, that is where to look.",
        "from llama_lessons.grading.locator import locate does the same outside of the check, for any two models: "
        "print(locate(model, reference, tokens, modules)).",
    ),
)


@exercise.property("Block, Llama and load are your own, and are assembled")
def parts_are_own(answer: Callable[[], Seen]) -> None:
    answer()


@exercise.property("every number of the file has its place, once")
def all_numbers(answer: Callable[[], Seen]) -> None:
    seen = answer()
    own, wanted = (sum(p.numel() for p in model.parameters()) for model in (seen.own.model, seen.reference))
    if own != wanted:
        raise Mismatch(f"parameters, a tied head counted once: expected {wanted:,}, got {own:,}")


@exercise.property("the same logits as the course's Llama, to 0.001")
def same_logits(answer: Callable[[], Seen]) -> None:
    own, wanted = answer().logits
    expect_same(own, wanted, "logits")


@exercise.property("the same in two pieces, with your caches")
def same_in_pieces(answer: Callable[[], Seen]) -> None:
    seen = answer()
    expect_same(seen.pieces, seen.logits[1], "logits of a text read in two pieces")


@exercise.property(f"the same {NEW_TOKENS} tokens, the best at each step")
def same_tokens(answer: Callable[[], Seen]) -> None:
    own, wanted = answer().chosen
    same = next((i for i, pair in enumerate(zip(own, wanted, strict=False)) if pair[0] != pair[1]), len(wanted))
    if own != wanted:
        raise Mismatch(f"{same} of {NEW_TOKENS} tokens are the same, and then another one comes")


def same(own: Tensor, wanted: Tensor) -> bool:
    """Whether logits are within 0.001 of those wanted."""
    return own.shape == wanted.shape and bool(((own - wanted).abs() < 1e-3).all())


def expect_same(own: Tensor, wanted: Tensor, what: str) -> None:
    """Refuse logits that are not the same as those wanted, and say of which token."""
    if own.shape != wanted.shape:
        raise Mismatch(f"{what}: expected shape {tuple(wanted.shape)}, got {tuple(own.shape)}")
    if not same(own, wanted):
        off = (own - wanted).abs().amax(dim=(0, 2))
        first = int((~(off < 1e-3)).nonzero()[0])
        raise Mismatch(f"{what} of {len(off)} tokens: those of token {first} are off by {off[first]:.3g}")
