"""Draw the weights of a whole model by what each parameter is.

What is expected is read from the model itself: which of its parameters are matrices that write into the stream, say.
The course's own `gpt2_init_` is asked only where wrong answers are told from right ones.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from llama_lessons.initialization import gpt2_init_, parameter_roles, xavier_std

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON, expect_normal
from .models import PARTS, by_name, draw_by, facts, make, part_of, weights_of

__all__ = ["init_weights"]

LLAMA, TIED = "a Llama of 2 layers", "a Llama with tied embeddings"
ARTICLE = "a model with LayerNorm, biases and a position table"
ONE_MATRIX = "a model in which one matrix writes into the stream"


def use(answer: Callable) -> Callable:
    """A function that gives all weights of models that the answer has drawn, or what is seen of one part of them."""

    def drawn(what: str, std: float | None = None, times: int = 1, seen: dict | None = None) -> Tensor:
        if seen is None:
            models = [make(what) for _ in range(times)]
            return torch.cat([weights_of(draw_by(answer, model, std)) for model in models])
        if answer not in seen:
            models = make("a model of 2 layers"), make("a model of 1 layer")
            seen[answer] = facts([draw_by(answer, model, s) for model, s in zip(models, (0.1, None), strict=True)])
        return torch.tensor(seen[answer][what], dtype=torch.float64)

    return drawn


def cases() -> list[tuple]:
    seen: dict = {}
    return [(what, None, 1, seen) for what in (*PARTS, "std not given", "afresh")]


init_weights = Exercise(
    name="init_weights",
    lesson=LESSON,
    points=5,
    minutes=15,
    parameters=("model", "std"),
    reference=gpt2_init_,
    cases=cases,
    returns=Tensor,
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


def writes_into_the_stream(name: str) -> bool:
    return name.endswith(("o_proj.weight", "down_proj.weight"))


def is_table(name: str) -> bool:
    return name in ("embedding.weight", "positions.weight")


def expect_drawn(
    answer: Callable, kind: str, std: float | None, chosen: Callable[[str], bool] = lambda name: True, number: int = 4
) -> None:
    """Refuse a model whose chosen matrices and tables are not drawn as GPT-2 does; `number` of them are residual."""
    for name, x in by_name(kind, answer(kind, std)).items():
        if x.ndim == 1 or not chosen(name):
            continue
        want, where = std or 0.02, f"{kind}: {name}, shape {tuple(x.shape)}"
        if writes_into_the_stream(name):
            want, where = want / math.sqrt(number), f"{where}, one of {number} that write into the stream"
        expect_normal(x, want, where=where)


@init_weights.property("gains are 1 and biases are 0")
def _(answer: Callable) -> None:
    for kind in (LLAMA, ARTICLE, ONE_MATRIX):
        for name, x in by_name(kind, answer(kind, 0.02)).items():
            want = 0.0 if name.endswith("bias") else 1.0
            if x.ndim == 1 and not (x == want).all():
                raise Mismatch(f"{kind}: expected {want:.0f} everywhere in {name}, got {x[0].item():.4g} ...")


@init_weights.property("tables of tokens and of positions have the standard deviation std")
def _(answer: Callable) -> None:
    for kind in (LLAMA, ARTICLE, ONE_MATRIX):
        expect_drawn(answer, kind, 0.1, is_table)


@init_weights.property("so have the head and the matrices that do not write into the stream")
def _(answer: Callable) -> None:
    for kind in (LLAMA, ARTICLE, ONE_MATRIX):
        expect_drawn(answer, kind, 0.1, lambda name: not is_table(name) and not writes_into_the_stream(name))


@init_weights.property("o_proj and down_proj are smaller, by the root of their number")
def _(answer: Callable) -> None:
    numbers = {LLAMA: 4, "a model of 8 layers": 16, "a model of 3 layers": 6, ARTICLE: 4, ONE_MATRIX: 1}
    for kind, number in numbers.items():
        expect_drawn(answer, kind, 0.1, writes_into_the_stream, number)


@init_weights.property("std is 0.02 where it is not given")
def _(answer: Callable) -> None:
    expect_drawn(answer, LLAMA, None)


@init_weights.property("a tied weight stays one, and is drawn as the table that it is")
def _(answer: Callable) -> None:
    expect_drawn(answer, TIED, 0.1)


@init_weights.property("each matrix, and each model, gets numbers of its own, from torch's own generator")
def _(answer: Callable) -> None:
    kind = "a model of 2 layers"
    torch.manual_seed(5)
    row = answer(kind, 0.02, 3)
    first, second, third = (by_name(kind, part) for part in row.chunk(3))
    seen: dict[float, str] = {}
    for name, x in first.items():
        if x.ndim == 1:
            continue
        number = x.flatten()[0].item()
        if number in seen:
            raise Mismatch(f"{name} begins with the same number as {seen[number]}: expected both to be drawn anew")
        seen[number] = name
        if torch.equal(x, second[name]) or torch.equal(second[name], third[name]):
            raise Mismatch(f"two models drawn one after the other have the same {name}: expected no fixed seed")
    torch.manual_seed(5)
    if not torch.equal(row, answer(kind, 0.02, 3)):
        raise Mismatch(
            "after the same torch.manual_seed the numbers are others: expected them to come from torch's own generator"
        )


Draw = Callable[[Tensor, float, int], None]


def keep(parameter: Tensor, std: float, number: int) -> None:
    """Draw nothing: the old numbers stay."""


def constant(value: float) -> Draw:
    return lambda parameter, std, number: nn.init.constant_(parameter, value)


def normal(size: Callable[[float, int], float]) -> Draw:
    """Draw from a normal distribution; `size` makes its standard deviation of std and of how many are residual."""
    return lambda parameter, std, number: nn.init.normal_(parameter, std=size(std, number))


def each(parts: tuple[str, ...], draw: Draw) -> dict[str, Draw]:
    return dict.fromkeys(parts, draw)


ones, zeros = constant(1.0), constant(0.0)
plain, smaller = normal(lambda std, number: std), normal(lambda std, number: std / math.sqrt(number))
TABLES, RESIDUAL = ("embedding", "positions"), ("o_proj", "down_proj")
OTHERS = (*TABLES, "head", "projection")
RIGHT = {"gain": ones, "bias": zeros, **each(OTHERS, plain), **each(RESIDUAL, smaller)}


def instead(draw: Callable[[Tensor, float], object]) -> dict[str, Draw]:
    """For all matrices and tables: draw from what `draw` makes of the standard deviation that is right for each."""
    return {
        **each(OTHERS, lambda parameter, std, number: draw(parameter, std)),
        **each(RESIDUAL, lambda parameter, std, number: draw(parameter, std / math.sqrt(number))),
    }


def wrong(name: str, diagnosis: str, **parts: Draw) -> None:
    """Add a misconception that draws these parts of a model in its own way, and all others right."""
    rules = RIGHT | parts

    @init_weights.misconception(name, diagnosis)
    def _(model: nn.Module, std: float = 0.02) -> None:
        roles = parameter_roles(model)
        number = list(roles.values()).count("residual")
        for its_name, parameter in model.named_parameters():
            rules[part_of(roles[its_name], its_name)](parameter, std, number)


wrong(
    "every parameter drawn alike",
    "You draw gains and biases from the normal distribution too, like the recursive initialization in section 9. A "
    "gain near 0 makes the norm before a layer almost delete what the layer reads. Gains are 1, biases 0: no `else` "
    "may reach them.",
    **each(("gain", "bias"), plain),
)
wrong(
    "gains drawn at random",
    "You draw the gains of norms from the normal distribution. A gain near 0 makes the norm before a layer almost "
    "delete what the layer reads: gains are 1.",
    gain=plain,
)
wrong("biases drawn at random", "You draw biases from the normal distribution. They start at 0.", bias=plain)
wrong(
    "gains of 0",
    "You set gains to 0, as though they were biases. A norm multiplies by its gain: with 0 nothing gets through.",
    gain=zeros,
)
wrong(
    "biases of 1",
    "You set biases to 1, as though they were gains. A bias is added, so the one that does nothing is 0.",
    bias=ones,
)
wrong(
    "gains and biases exchanged",
    "You have them the wrong way round: a gain multiplies, so it starts at 1; a bias is added, so it starts at 0.",
    gain=zeros,
    bias=ones,
)
wrong(
    "gains and biases left as they were",
    "Gains and biases are left as they were. The model may have been trained before: gains become 1 again, biases 0.",
    **each(("gain", "bias"), keep),
)
wrong("biases left as they were", "Biases are left as they were. They become 0, whatever they held.", bias=keep)
wrong("gains left as they were", "The gains of norms are left as they were. They become 1.", gain=keep)
wrong(
    "tables left as they were",
    "The tables of embeddings are left as they were. They are no linear layers, but they have a weight to draw, too.",
    **each(TABLES, keep),
)
wrong(
    "the position table left as it was",
    "The table of positions is left as it was. parameter_roles calls it an embedding, like the table of tokens; "
    "isinstance(module, nn.Embedding) does not find it, since its class is the course's own.",
    positions=keep,
)
wrong(
    "the head left as it was", "The head is left as it was. It has a role of its own, and is drawn with std.", head=keep
)
wrong(
    "tables and head left as they were",
    "Tables and head are left as they were. Each has a role of its own, and is drawn with std like the projections.",
    **each((*TABLES, "head"), keep),
)
wrong(
    "what writes into the stream left as it was",
    "o_proj and down_proj are left as they were. Their role is `residual`, and they are drawn too, only smaller.",
    **each(RESIDUAL, keep),
)
wrong(
    "only the linear layers",
    "You draw linear layers alone. Tables and gains of norms keep what they had: go by role, so that none is missed.",
    **each(("gain", *TABLES), keep),
)
wrong(
    "tables drawn with std 1",
    "The tables of embeddings have the standard deviation 1, which is torch's own for nn.Embedding. With tied "
    "embeddings the first loss is then about dim: draw them with std.",
    **each(TABLES, normal(lambda std, number: 1.0)),
)
wrong(
    "one standard deviation for all",
    "o_proj and down_proj are drawn with std like the rest. That is Llama's scheme in Hugging Face's code. Asked for "
    "is GPT-2's, in which these two, which write into the stream, are smaller.",
    **each(RESIDUAL, plain),
)
wrong(
    "divided by the number, not by its root",
    "You divide by N, the number of matrices that write into the stream. N random terms add up to a sum that is only "
    "sqrt(N) times as large as one of them: divide by the root.",
    **each(RESIDUAL, normal(lambda std, number: std / number)),
)
wrong(
    "divided by the root of the number of layers",
    "You divide by sqrt(n_layers). Each layer writes into the stream twice, through o_proj and through down_proj, so "
    "there are twice as many terms.",
    **each(RESIDUAL, normal(lambda std, number: std / math.sqrt(number / 2))),
)
wrong(
    "divided by the root of twice the number",
    "What writes into the stream is too small in your model, by sqrt(2). N counts both o_proj and down_proj of each "
    "layer already: it needs no 2 before it.",
    **each(RESIDUAL, normal(lambda std, number: std / math.sqrt(2 * number))),
)
wrong(
    "what writes into the stream made smaller, not drawn",
    "o_proj and down_proj hold what they held before, only smaller. Draw them anew, with the smaller standard "
    "deviation: nothing of the old weights may remain.",
    **each(RESIDUAL, lambda parameter, std, number: parameter.data.div_(math.sqrt(number))),
)
wrong(
    "multiplied by the root",
    "What writes into the stream is larger in your model, by the root of the number: divide by it.",
    **each(RESIDUAL, normal(lambda std, number: std * math.sqrt(number))),
)
wrong(
    "only o_proj is smaller", "down_proj is drawn with std undivided. It writes into the stream too.", down_proj=plain
)
wrong("only down_proj is smaller", "o_proj is drawn with std undivided. It writes into the stream too.", o_proj=plain)
wrong(
    "the wrong ones are smaller",
    "You have the two kinds of matrices the wrong way round: o_proj and down_proj, which write into the stream, are "
    "the ones to be divided, and the projections inside a layer are not.",
    projection=smaller,
    **each(RESIDUAL, plain),
)
wrong(
    "all matrices are smaller",
    "You divide by the root inside a layer too. Only o_proj and down_proj write into the stream.",
    projection=smaller,
)
wrong(
    "the variance given as the standard deviation",
    "Your numbers have the standard deviation std ** 2. Papers write N(0, std ** 2) with the variance, but normal_ in "
    "torch takes the standard deviation.",
    **instead(lambda parameter, std: nn.init.normal_(parameter, std=std**2)),
)
wrong(
    "the standard deviation given as the mean",
    "Your numbers have std as their mean, and the standard deviation 1. What normal_ takes after the tensor is the "
    "mean: name the other one, std=....",
    **instead(lambda parameter, std: nn.init.normal_(parameter, std)),
)
wrong(
    "std written in",
    "You draw with 0.02 whatever std is. Use the argument.",
    **{part: lambda parameter, std, number, draw=draw: draw(parameter, 0.02, number) for part, draw in RIGHT.items()},
)
wrong(
    "0.02 for all",
    "You draw all with 0.02, whatever std is. Use the argument, and make o_proj and down_proj smaller.",
    **each((*OTHERS, *RESIDUAL), normal(lambda std, number: 0.02)),
)
wrong(
    "Xavier",
    "You draw matrices by Xavier's formula, from their own shapes. Neither GPT-2 nor Llama does that: one std for all, "
    "and a smaller one for what writes into the stream.",
    **each(
        ("head", "projection", *RESIDUAL),
        lambda parameter, std, number: nn.init.normal_(parameter, std=xavier_std(*reversed(parameter.shape))),
    ),
)
wrong(
    "uniform",
    "Your numbers are spread evenly between two limits. A normal distribution is asked for: nn.init.normal_.",
    **instead(lambda parameter, std: nn.init.uniform_(parameter, -math.sqrt(3) * std, math.sqrt(3) * std)),
)


wrong(
    "a seed set for each matrix",
    "Your matrices begin with the same numbers, as they do where a seed is set before each. Draw every one anew, and "
    "leave seeds to whoever calls this.",
    **instead(
        lambda parameter, std: nn.init.normal_(
            parameter, std=std, generator=torch.Generator(parameter.device).manual_seed(0)
        )
    ),
)


@init_weights.misconception(
    "divided by the root of the number of all parameters",
    "You count all parameters of the model. N is how many have the role `residual`: only they write into the stream.",
)
def _(model: nn.Module, std: float = 0.02) -> None:
    gpt2_init_(model, std)
    roles = list(parameter_roles(model).values())
    for name, parameter in model.named_parameters():
        if writes_into_the_stream(name):
            parameter.data *= math.sqrt(roles.count("residual") / len(roles))


@init_weights.misconception(
    "a seed set once",
    "Two models drawn one after the other get the same weights: your function sets a seed, or puts the generator back "
    "to where it was. Leave both to whoever calls this.",
)
def _(model: nn.Module, std: float = 0.02) -> None:
    torch.manual_seed(0)
    gpt2_init_(model, std)


@init_weights.alternative
def _(model: nn.Module, std: float = 0.02) -> None:
    small = std / sum(map(writes_into_the_stream, dict(model.named_parameters()))) ** 0.5
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        else:
            nn.init.normal_(parameter, 0.0, small if writes_into_the_stream(name) else std)


@init_weights.alternative
def _(model: nn.Module, std: float = 0.02) -> nn.Module:
    # Drawn first, then made smaller; that is the same distribution, and returning the model does no harm.
    residual = [name for name, role in parameter_roles(model).items() if role == "residual"]
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=std)
            if name in residual:
                parameter.data /= math.sqrt(len(residual))
        else:
            parameter.data = torch.zeros_like(parameter) if "bias" in name else torch.ones_like(parameter)
    return model
