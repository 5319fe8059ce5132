"""Exercise 3: draw the weights of a whole model, by what each parameter is."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from torch import nn

from llama_lessons.initialization import parameter_roles

from ...exercise import Exercise
from ...expect import Mismatch
from .common import expect_normal
from .models import BIASED, CASES, DEEP, HALF, LLAMA, ONE_MATRIX, TIED, TWO_LAYERS, begin_alike, drawn, look_at


def init_weights(model: nn.Module, std: float = 0.02) -> None:
    roles = parameter_roles(model)
    n = list(roles.values()).count("residual")
    for name, p in model.named_parameters():
        role = roles[name]
        size = std / math.sqrt(n) if role == "residual" else std
        if role == "gain":
            nn.init.ones_(p)
        elif role == "bias":
            nn.init.zeros_(p)
        else:
            nn.init.normal_(p, 0.0, size)


def use(answer: Callable) -> Callable:
    """The function that gives the weights of a model drawn by the answer, or what is seen of one part of some."""

    def ask(what: str, std: float | dict | None) -> Any:
        return look_at(answer, what, std) if isinstance(std, dict) else drawn(answer, what, std)

    return ask


def cases() -> list[tuple]:
    seen: dict = {}
    return [(part, seen) for part in CASES]


exercise = Exercise(
    init_weights,
    points=5,
    minutes=15,
    cases=cases,
    returns=dict,
    using=use,
    hints=(
        "parameter_roles(model) gives a role for each name of model.named_parameters(), so one loop over names and "
        "parameters is enough. Count the roles that are 'residual' before it.",
        "nn.init has functions that change a tensor in place and leave gradients out of it: ones_, zeros_, and normal_ "
        "with the keyword std.",
        "Three cases: a gain, a bias, all else. For all else only the standard deviation differs: std for most, and "
        "for the residual ones std over the root of how many there are.",
    ),
)


# Kinds of models, with the standard deviation given; cut off at 2, numbers differ where it is large.
KINDS = {LLAMA: 0.1, BIASED: 0.1, ONE_MATRIX: 2.0, DEEP: 0.1}


def is_residual(name: str) -> bool:
    return name.endswith(("o_proj.weight", "down_proj.weight"))


def is_table(name: str) -> bool:
    return name in ("embedding.weight", "positions.weight")


def expect_drawn(answer: Callable, kind: str, std: float | None, chosen: Callable = lambda name: True) -> None:
    """Refuse a model whose chosen matrices and tables are not drawn as GPT-2 does."""
    found = answer(kind, std)
    number, together = sum(map(is_residual, found)), []
    for name, x in found.items():
        if x.ndim > 1 and chosen(name):
            want, where = std or 0.02, f"{kind}: {name}, shape {tuple(x.shape)}"
            if is_residual(name):
                want, where = want / math.sqrt(number), f"{where}, one of {number} that write into the residual stream"
            expect_normal(x, want, where=where)
            together.append(x.flatten() / want)
    # Smaller differences show in many numbers.
    where = f"{kind}: {len(together)} weights together, each divided by the standard deviation that it is to have"
    expect_normal(torch.cat(together), 1.0, where=where)


@exercise.property("gains are 1 and biases are 0")
def gains_and_biases(answer: Callable) -> None:
    for kind in (LLAMA, BIASED, ONE_MATRIX):
        for name, x in answer(kind, 0.02).items():
            want = 0.0 if name.endswith("bias") else 1.0
            if x.ndim == 1 and not (x == want).all():
                raise Mismatch(f"{kind}: expected {want:.0f} everywhere in {name}, got {x[x != want][0].item():.4g}")


@exercise.property("tables of tokens and of positions have the standard deviation std")
def tables(answer: Callable) -> None:
    for kind, std in KINDS.items():
        expect_drawn(answer, kind, std, is_table)


@exercise.property("the head and matrices that do not write into the residual stream have the standard deviation std")
def head_and_projections(answer: Callable) -> None:
    for kind, std in KINDS.items():
        expect_drawn(answer, kind, std, lambda name: not is_table(name) and not is_residual(name))


@exercise.property("o_proj and down_proj are smaller, by the root of their number")
def residual_matrices(answer: Callable) -> None:
    for kind, std in KINDS.items():
        expect_drawn(answer, kind, std, is_residual)


@exercise.property("std is 0.02 where it is not given")
def default_std(answer: Callable) -> None:
    expect_drawn(answer, LLAMA, None)


@exercise.property("a tied weight stays one, and is drawn as the table that it is")
def tied_weight(answer: Callable) -> None:
    expect_drawn(answer, TIED, 0.1)


@exercise.property("a model in bfloat16 stays in bfloat16")
def half_precision(answer: Callable) -> None:
    for name, x in answer(HALF, 0.1).items():
        want = 0.1 / math.sqrt(2) if is_residual(name) else 0.1
        # What else a distribution is asked for shows in float32; some ways to draw are rough in bfloat16.
        if x.ndim > 1 and not 0.7 * want < x.float().std().item() < 1.4 * want:
            raise Mismatch(f"{HALF}: {name}: expected a standard deviation of {want:.3g}, got {x.float().std():.3g}")


@exercise.property("each matrix, and each model, gets numbers of its own, from torch's own generator")
def numbers_of_its_own(answer: Callable) -> None:
    def three() -> list[dict]:
        torch.manual_seed(5)
        return [{n: x for n, x in answer(TWO_LAYERS, 0.02).items() if x.ndim > 1} for _ in range(3)]

    first, second, third = three()
    for name, other in combinations(first, 2):
        if begin_alike(first[name], first[other]):
            raise Mismatch(f"{other} begins with the same random numbers as {name}: expected both to be drawn anew")
    for name, x in first.items():
        if torch.equal(x, second[name]) or torch.equal(second[name], third[name]):
            raise Mismatch(f"two models drawn one after the other have the same {name}: expected no fixed seed")
    again = three()[0]
    if not all(torch.equal(x, again[name]) for name, x in first.items()):
        raise Mismatch(
            "after the same torch.manual_seed the numbers are others: expected them to come from torch's own generator"
        )


exercise.slips("""
    every parameter drawn alike: role = roles[name] -> role = "head" if p.ndim == 1 else roles[name]
        Your gains and biases are random, around 0. Gains are 1, biases 0: gains near 0 leave a layer little to read.
    gains drawn at random: ones_(p) -> normal_(p, std=std)
        Your gains of norms are random, around 0: drawn with std, they leave a layer little to read. Gains are 1.
    gains drawn around 1: ones_(p) -> normal_(p, 1.0, std)
        Your gains are random numbers around 1. They start at exactly 1.
    biases drawn at random: zeros_(p) -> normal_(p, std=std)
        You draw biases at random. They start at 0.
    gains of 0: ones_ -> zeros_
        You set gains to 0, as though they were biases. A norm multiplies by its gain: with 0 nothing gets through.
    biases of 1: zeros_ -> ones_
        You set biases to 1, as though they were gains. A bias is added, so the one that does nothing is 0.
    gains and biases exchanged: = roles[name] -> = {"gain": "bias", "bias": "gain"}.get(roles[name], roles[name])
        You have them the wrong way round: a gain multiplies, so it starts at 1; a bias is added, so it starts at 0.
    gains and biases left as they were: = roles[name] -> = roles[name]; p = p if p.ndim > 1 else p.clone()
        Gains and biases keep what they had. The model may have been trained before: gains become 1 again, biases 0.
    biases left as they were: nn.init.zeros_(p) -> pass
        Biases are left as they were. They become 0, whatever they held.
    gains left as they were: nn.init.ones_(p) -> pass
        The gains of norms are left as they were. They become 1.
    tables left as they were: nn.init.normal_( -> role == "embedding" or nn.init.normal_(
        The tables of embeddings are left as they were. They are no linear layers, but have a weight to draw, too.
    the position table left as it was: nn.init.normal_( -> "positions" in name or nn.init.normal_(
        The table of positions is left as it was. It is no nn.Embedding, but its role is `embedding`: go by role.
    the head left as it was: nn.init.normal_( -> role == "head" or nn.init.normal_(
        The head is left as it was. It has a role of its own, and is drawn with std.
    tables and head left as they were: nn.init.normal_( -> role in ("embedding", "head") or nn.init.normal_(
        Tables and head are left as they were. Each has a role of its own, and is drawn with std like the projections.
    projections left as they were: nn.init.normal_( -> role == "projection" or nn.init.normal_(
        The matrices with the role `projection` are left as they were. They are drawn with std.
    what writes into the residual stream left as it was: nn.init.normal_( -> role == "residual" or nn.init.normal_(
        o_proj and down_proj are left as they were. Their role is `residual`, and they are drawn too, only smaller.
    only the linear layers: = roles[name] -> = roles[name]; p = p.clone() if role in ("gain", "embedding") else p
        You draw linear layers alone. Tables and gains of norms keep what they had: go by role, so that none is missed.
    tables drawn with std 1: else std -> else 1.0 if role == "embedding" else std
        The tables have the standard deviation 1, which is torch's own for nn.Embedding. Draw them with std.
    one standard deviation for all: std / math.sqrt(n) if -> std if
        o_proj and down_proj are drawn with std like the rest, as Hugging Face's Llama does. In GPT-2 they are smaller.
    divided by the number, not by its root: math.sqrt(n) -> n
        Yours is std / N. A sum of N random terms is sqrt(N) times as large as one of them: divide by the root.
    divided by the root of the number of layers: "residual") -> "residual") // 2
        You divide as if N were the number of layers. Each adds to the residual stream twice: o_proj and down_proj.
    divided by the root of twice the number: math.sqrt(n) -> math.sqrt(2 * n)
        Your o_proj and down_proj are too small, by sqrt(2). N counts both of each layer already: it needs no 2.
    N counts the projections: "residual") -> "projection")
        You divide as if N counted the role `projection`. It counts the role `residual`.
    N counts the projections too: list(roles.values()) -> str(list(roles.values())).replace("projection", "residual")
        You divide as if N counted other linear layers, such as q_proj, as well. Only the role `residual` counts.
    N counts all matrices: list(roles.values()).count("residual") -> sum(w.ndim > 1 for w in model.parameters())
        You divide as if N counted all matrices and tables. Only the role `residual` counts.
    N counts all parameters: list(roles.values()).count("residual") -> len(roles)
        You divide as if N counted all parameters of the model. Only the role `residual` counts.
    N of the example: math.sqrt(n) -> math.sqrt(16)
        You divide by 4 in every model, which suits the example of 8 layers. N depends on the model: count.
    only made smaller: nn.init.normal_( -> p.data.div_(n**0.5) if role == "residual" else nn.init.normal_(
        o_proj and down_proj hold what they held before, only smaller. Draw them anew.
    multiplied by the root: std / math.sqrt(n) -> std * math.sqrt(n)
        Your o_proj and down_proj are larger than the rest, by the root of N: divide by it.
    only o_proj is smaller: role == "residual" else -> "o_proj" in name else
        down_proj is drawn with std undivided. It writes into the residual stream too.
    only down_proj is smaller: role == "residual" else -> "down_proj" in name else
        o_proj is drawn with std undivided. It writes into the residual stream too.
    the wrong ones are smaller: role == "residual" else -> role == "projection" else
        You have them the wrong way round: o_proj and down_proj are to be smaller, and the other projections are not.
    all matrices of the layers are smaller: role == "residual" else -> role in ("residual", "projection") else
        You divide by the root inside a layer too. Only o_proj and down_proj write into the residual stream.
    tables and head smaller too: std / math.sqrt(n) if role == "residual" else std -> std / math.sqrt(n)
        You divide by the root everywhere. Only o_proj and down_proj write into the residual stream.
    the square of the standard deviation: 0.0, size -> 0.0, size**2
        Yours is the square of the right standard deviation. Papers write N(0, std ** 2), but normal_ takes std.
    the root of std: 0.0, size -> 0.0, size / math.sqrt(std)
        Yours is the root of std where std is meant, as if std were a variance. normal_ takes std itself.
    the standard deviation given as the mean: p, 0.0, size -> p, size
        What normal_ takes after the tensor is the mean, and its standard deviation is 1 by itself. Write std=....
    std written in: roles = parameter_roles(model) -> roles, std = parameter_roles(model), 0.02
        Your numbers are those for a std of 0.02, whatever std is. Use the argument.
    0.02 for all: 0.0, size -> 0.0, 0.02
        You draw all with 0.02, whatever std is. Use the argument, and make o_proj and down_proj smaller.
    standard normal numbers: p, 0.0, size -> p
        Your weights have the standard deviation 1: none of them is multiplied by std.
    Xavier: nn.init.normal_( -> nn.init.xavier_normal_(p) if role != "embedding" else nn.init.normal_(
        You draw matrices by Xavier's formula, from their own shapes. Neither GPT-2 nor Llama does that: go by role.
    Xavier's uniform variant: nn.init.normal_( -> nn.init.xavier_uniform_(p) if role[0] != "e" else nn.init.normal_(
        You draw matrices by Xavier's formula, from their own shapes. Neither GPT-2 nor Llama does that: go by role.
    Xavier for the projections: nn.init.normal_( -> nn.init.xavier_normal_(p) if role[0] == "p" else nn.init.normal_(
        Your matrices with the role `projection` have Xavier's standard deviation. They are to have std, like the head.
    Xavier for the tables too: normal_(p, 0.0, size) -> xavier_normal_(p)
        You draw all by Xavier's formula, from their own shapes. Neither GPT-2 nor Llama does that: go by role.
    He: nn.init.normal_( -> nn.init.kaiming_normal_(p) if role != "embedding" else nn.init.normal_(
        You draw matrices by He's formula, from their own shapes. Neither GPT-2 nor Llama does that: go by role.
    uniform: normal_(p, 0.0, size) -> uniform_(p, -(3**0.5) * size, 3**0.5 * size)
        Your numbers are spread evenly between two limits. A normal distribution is asked for: nn.init.normal_.
    uniform up to the standard deviation: normal_(p, 0.0, size) -> uniform_(p, -size, size)
        Your numbers are spread evenly, and the standard deviation is their limit: draw with nn.init.normal_.
    uniform from 0 on: normal_(p, 0.0, size) -> uniform_(p, 0.0, size)
        Your numbers lie between 0 and the standard deviation, as torch.rand gives them: torch.randn is the normal one.
    truncated: normal_(p, 0.0, size) -> trunc_normal_(p, 0.0, size, -2 * size, 2 * size)
        Your numbers are cut off on both sides, which leaves a smaller standard deviation. Draw with nn.init.normal_.
    two numbers alone: nn.init.normal_(p, 0.0, size) -> p.data = p.data.normal_().sign() * size
        Your weights are plus or minus one number. A normal distribution is asked for: nn.init.normal_.
    not random: normal_(p, 0.0, size) -> constant_(p, size)
        Each matrix holds one number throughout, so that all its outputs are alike. Draw each number by itself.
    added to what was there: nn.init.normal_( -> old = p.data.clone(); p.data = old + nn.init.normal_(
        You add random numbers to those that were there. Nothing of the old weights may remain.
    zeros in a table: 0.0, size) -> 0.0, size).data[:1] *= role != "embedding"
        Numbers in a table are 0, as in a row for a padding token, which these models do not have.
    another dtype: nn.init.normal_(p, 0.0, size) -> p.data = size * torch.randn_like(p.float())
        In half precision your weights come out in float32, as new tensors do. Change them in place: nn.init.normal_.
    a seed set for each matrix: nn.init.normal_( -> torch.manual_seed(0); nn.init.normal_(
        Matrices of yours begin with the same random numbers, as with a seed before each. Leave seeds to the caller.
    one draw per shape: nn.init.normal_(p, 0.0, size) -> p.data = roles.setdefault(p.shape, torch.randn_like(p)) * size
        Matrices of the same shape hold the same random numbers, up to a factor. Draw each number by itself.
    the same numbers for each model: roles = parameter -> torch.manual_seed(0); roles = parameter
        Two models in a row get the same weights: you set a seed, put the generator back, use a generator of your own,
        or keep what was drawn. Draw from torch's own generator, and leave its seed to the caller.
""")
