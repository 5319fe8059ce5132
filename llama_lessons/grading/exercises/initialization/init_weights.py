"""Draw the weights of a whole model by what each parameter is.

What is expected is read from the model itself: which of its parameters are matrices that write into the stream, say.
The course's own `gpt2_init_` is asked only where wrong answers are told from right ones.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from llama_lessons.initialization import gpt2_init_, parameter_roles, xavier_std
from llama_lessons.lab.device import choose_device
from llama_lessons.llama import ARTICLE_PARTS, Decoder, LlamaConfig, Parts
from llama_lessons.positions import LearnedPositionalEmbedding

from ...exercise import Exercise
from ...expect import Mismatch
from .common import LESSON

__all__ = ["init_weights"]

CONFIG = LlamaConfig(
    vocab_size=150, dim=64, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=32, hidden_dim=160, max_seq_len=48
)
Names = dict[str, Tensor]


class Layer(nn.Module):
    """What stands in a block, under the names that say what it is for; it is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.q_proj = nn.Linear(32, 40)
        self.o_proj = nn.Linear(40, 32)
        self.up_proj = nn.Linear(32, 48, bias=False)
        self.down_proj = nn.Linear(48, 32)


class Small(nn.Module):
    """A model of torch's own modules, quickly made: there are many wrong answers to compare with."""

    def __init__(self, n_layers: int, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.positions = LearnedPositionalEmbedding(40, 32)
        self.layers = nn.ModuleList(Layer() for _ in range(n_layers))
        self.norm = nn.RMSNorm(32)
        self.head = nn.Linear(32, 50, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


class OneMatrix(nn.Module):
    """A model in which a single matrix writes into the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.norms = nn.ModuleList([nn.LayerNorm(32), nn.RMSNorm(32)])
        self.up_proj = nn.Linear(32, 48)
        self.down_proj = nn.Linear(48, 32)


def decoder(parts: Parts, **sizes: Any) -> Decoder:
    return Decoder(replace(CONFIG, **sizes), replace(parts, initialize=lambda model: None))


KINDS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "llama": ("a Llama of 2 layers", lambda: decoder(Parts())),
    "three layers": ("a Llama of 3 layers", lambda: decoder(Parts(), n_layers=3)),
    "tied": ("a Llama with tied embeddings", lambda: decoder(Parts(), tied_embeddings=True)),
    "article": ("a model with LayerNorm, biases and a position table", lambda: decoder(ARTICLE_PARTS)),
    "one matrix": ("a model in which one matrix writes into the stream", OneMatrix),
    "small": ("a model of 2 layers of torch's own modules", lambda: Small(2)),
    "small, tied": ("a model of 2 layers of torch's own modules, tied", lambda: Small(2, tied=True)),
    "deep": ("a model of 8 layers of torch's own modules", lambda: Small(8)),
}


def make(kind: str) -> nn.Module:
    """A model whose weights are all 7, and whose gains and biases are all 3."""
    model = KINDS[kind][1]()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7.0 if parameter.ndim > 1 else 3.0)
    return model.to(choose_device())


@cache
def shapes(kind: str) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in make(kind).named_parameters()}


def use(answer: Callable) -> Callable:
    """A function that gives all weights of a model that the answer has drawn, one after another."""

    def drawn(kind: str, std: float | None, roughly: bool = False) -> Tensor:
        models = [make(kind) for _ in range(2 if roughly and kind == "small" else 1)]
        for model in models:
            before = weights_of(model)
            answer(model, *(() if std is None else (std,)))
            if torch.equal(before, weights_of(model)):
                raise RuntimeError("every weight of the model is as it was. Change them in place, in `model` itself")
        return rough_facts(models[0], models[-1], 0.02 if std is None else std) if roughly else weights_of(model)

    return drawn


def weights_of(model: nn.Module) -> Tensor:
    """All its weights in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def rough_facts(model: nn.Module, other: nn.Module, std: float) -> Tensor:
    """What chance does not change: of each parameter how large it is, in steps of a fifth, and what is odd about it."""
    facts = [float(other is not model and torch.equal(weights_of(model), weights_of(other)))]
    first: set[float] = set()
    for parameter in model.parameters():
        x = parameter.detach().double().cpu().flatten()
        if (x == x[0]).all():
            facts += [1000 + x[0].item(), 0, 0]
        elif len(x) < 1000:
            facts += [-1000, 0, 0]  # too few to say more than that they differ
        else:
            inside = (x.abs() < x.std()).double().mean().item()
            facts += [round(4 * math.log2(x.std().item() / std)), inside < 0.63, x[0].item() in first]
            first.add(x[0].item())
    return torch.tensor([float(fact) for fact in facts], dtype=torch.float64)


def cases() -> list[tuple]:
    return [("small", 0.1, True), ("small, tied", None, True)]


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


def by_name(answer: Callable, kind: str, std: float | None) -> Names:
    """The parameters of a drawn model by name."""
    row, wanted, names = answer(kind, std), shapes(kind), {}
    total = sum(shape.numel() for shape in wanted.values())
    if len(row) != total:
        raise Mismatch(
            f"{describe(kind)}: expected {total:,} numbers in the model as before, got {len(row):,}. Was a tied weight "
            "replaced by two?"
        )
    for name, shape in wanted.items():
        names[name], row = row[: shape.numel()].view(shape), row[shape.numel() :]
    return names


def describe(kind: str) -> str:
    return KINDS[kind][0]


def expect_normal(name: str, x: Tensor, std: float, where: str) -> None:
    """Refuse numbers that are not drawn from N(0, std ** 2)."""
    x = x.detach().double().cpu()
    if not x.isfinite().all():
        raise Mismatch(f"{where}: {name} holds numbers that are not finite")
    where = f"{where}: {name}, shape {tuple(x.shape)}"
    got = x.std().item()
    # Six standard errors, as no seed is ours to choose.
    if not abs(got - std) < 6 * std / math.sqrt(2 * x.numel()):
        raise Mismatch(f"{where}: expected a standard deviation of {std:.4g}, got {got:.4g}")
    if not abs(x.mean().item()) < 6 * std / math.sqrt(x.numel()):
        raise Mismatch(f"{where}: expected a mean near 0, got {x.mean().item():.4g}")
    inside = (x.abs() < std).double().mean().item()
    if not abs(inside - 0.683) < 3 / math.sqrt(x.numel()):
        raise Mismatch(
            f"{where}: a normal distribution has 68% of its numbers within one standard deviation, but here it is "
            f"{inside:.0%}"
        )


def writes_into_the_stream(name: str) -> bool:
    return name.endswith(("o_proj.weight", "down_proj.weight"))


def is_table(name: str) -> bool:
    return name in ("embedding.weight", "positions.weight", "table.weight")


def matrices(names: Names) -> Iterator[tuple[str, Tensor]]:
    return ((name, x) for name, x in names.items() if x.ndim > 1)


@init_weights.property("gains are 1 and biases are 0")
def _(answer: Callable) -> None:
    for kind in ("llama", "article", "one matrix"):
        for name, x in by_name(answer, kind, 0.02).items():
            if x.ndim > 1:
                continue
            want = 0.0 if name.endswith("bias") else 1.0
            if not (x == want).all():
                raise Mismatch(f"{describe(kind)}: expected {want:.0f} everywhere in {name}, got {x[0].item():.4g} ...")


@init_weights.property("tables of tokens and of positions have the standard deviation std")
def _(answer: Callable) -> None:
    for kind in ("llama", "article", "one matrix"):
        for name, x in matrices(by_name(answer, kind, 0.1)):
            if is_table(name):
                expect_normal(name, x, 0.1, describe(kind))


@init_weights.property("so have the head and the matrices that do not write into the stream")
def _(answer: Callable) -> None:
    for kind in ("llama", "article", "one matrix"):
        for name, x in matrices(by_name(answer, kind, 0.1)):
            if not is_table(name) and not writes_into_the_stream(name):
                expect_normal(name, x, 0.1, describe(kind))


@init_weights.property("o_proj and down_proj are smaller, by the root of their number")
def _(answer: Callable) -> None:
    for kind, number in (("llama", 4), ("deep", 16), ("three layers", 6), ("article", 4), ("one matrix", 1)):
        for name, x in matrices(by_name(answer, kind, 0.1)):
            if writes_into_the_stream(name):
                expect_normal(name, x, 0.1 / math.sqrt(number), f"{describe(kind)}, {number} such matrices")


@init_weights.property("std is 0.02 where it is not given")
def _(answer: Callable) -> None:
    for name, x in matrices(by_name(answer, "llama", None)):
        expect_normal(name, x, 0.01 if writes_into_the_stream(name) else 0.02, "init_weights(model)")


@init_weights.property("a tied weight stays one, and is drawn as the table that it is")
def _(answer: Callable) -> None:
    for name, x in matrices(by_name(answer, "tied", 0.1)):
        expect_normal(name, x, 0.05 if writes_into_the_stream(name) else 0.1, describe("tied"))


@init_weights.property("each matrix, and each model, gets numbers of its own")
def _(answer: Callable) -> None:
    first, second = by_name(answer, "deep", 0.02), by_name(answer, "deep", 0.02)
    seen: dict[float, str] = {}
    for name, x in matrices(first):
        number = x.flatten()[0].item()
        if number in seen:
            raise Mismatch(f"{name} begins with the same number as {seen[number]}: expected both to be drawn anew")
        seen[number] = name
        if torch.equal(x, second[name]):
            raise Mismatch(f"two models drawn one after the other have the same {name}: expected no fixed seed")


def drawing(draw: Callable[[str, str, Tensor, float, int], None]) -> Callable:
    """A wrong answer that goes through the parameters by role, and does what `draw` does."""

    def answer(model: nn.Module, std: float = 0.02) -> None:
        roles = parameter_roles(model)
        number = list(roles.values()).count("residual")
        for name, parameter in model.named_parameters():
            draw(roles[name], name, parameter, std, number)

    return answer


def right(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    if role == "gain":
        nn.init.ones_(parameter)
    elif role == "bias":
        nn.init.zeros_(parameter)
    else:
        nn.init.normal_(parameter, std=std / math.sqrt(number) if role == "residual" else std)


def wrong(name: str, diagnosis: str) -> Callable:
    """Make the decorated function, which draws one parameter, a misconception."""

    def add(draw: Callable) -> Callable:
        init_weights.misconception(name, diagnosis)(drawing(draw))
        return draw

    return add


@wrong(
    "every parameter drawn alike",
    "You draw gains and biases from the normal distribution too, like the recursive initialization in section 9. A "
    "gain near 0 makes the norm before a layer almost delete what the layer reads. Gains are 1, biases 0.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right("projection" if role in ("gain", "bias") else role, name, parameter, std, number)


@wrong(
    "gains of 0",
    "You set the gains of norms to 0, as though they were biases. A norm multiplies by its gain: with 0 nothing gets "
    "through.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right("bias" if role == "gain" else role, name, parameter, std, number)


@wrong(
    "biases of 1",
    "You set biases to 1, as though they were gains. A bias is added, so the one that does nothing is 0.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right("gain" if role == "bias" else role, name, parameter, std, number)


@wrong(
    "gains and biases left as they were",
    "You draw the matrices and leave gains and biases as they were. Whoever calls this may have a trained model: after "
    "it, gains are 1 and biases 0.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    if role not in ("gain", "bias"):
        right(role, name, parameter, std, number)


@wrong(
    "biases left as they were",
    "Matrices, tables and gains are right, but biases are left as they were. They become 0.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    if role != "bias":
        right(role, name, parameter, std, number)


@wrong(
    "gains left as they were",
    "Matrices, tables and biases are right, but the gains of norms are left as they were. They become 1.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    if role != "gain":
        right(role, name, parameter, std, number)


@wrong(
    "tables left as they were",
    "The tables of embeddings are left as they were. They are no linear layers, but they have a weight to draw, too.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    if role != "embedding":
        right(role, name, parameter, std, number)


@wrong(
    "the position table left as it was",
    "The table of tokens is drawn, the table of positions is not. parameter_roles calls both an embedding; its class "
    "alone does not tell you, since it is the course's own.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    if not name.startswith("positions"):
        right(role, name, parameter, std, number)


@wrong(
    "tables drawn with std 1",
    "The tables of embeddings have the standard deviation 1, which is torch's own for nn.Embedding. With tied "
    "embeddings the first loss is then about dim: draw them with std.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right(role, name, parameter, 1.0 if role == "embedding" else std, number)


@wrong(
    "one standard deviation for all",
    "All matrices have the same standard deviation. That is Llama's scheme in Hugging Face's code. Asked for is "
    "GPT-2's, in which those that write into the stream, o_proj and down_proj, are smaller.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right(role, name, parameter, std, 1)


@wrong(
    "divided by the number, not by its root",
    "You divide by N, the number of matrices that write into the stream. N random terms add up to a sum that is only "
    "sqrt(N) times as large as one of them: divide by the root.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right(role, name, parameter, std, number**2)


@wrong(
    "divided by the root of the number of layers",
    "You divide by sqrt(n_layers). Each layer writes into the stream twice, through o_proj and through down_proj, so "
    "there are twice as many terms.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right(role, name, parameter, std, max(number / 2, 1))


@wrong(
    "multiplied by the root",
    "What writes into the stream is larger in your model, by the root of the number: divide by it.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right(role, name, parameter, std * number if role == "residual" else std, number)


@wrong(
    "only o_proj is smaller",
    "o_proj is smaller, down_proj is not. Both write into the stream.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right("projection" if "down_proj" in name else role, name, parameter, std, number)


@wrong(
    "only down_proj is smaller",
    "down_proj is smaller, o_proj is not. Both write into the stream.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right("projection" if "o_proj" in name else role, name, parameter, std, number)


@wrong(
    "all matrices are smaller",
    "All matrices are divided by the root, those inside a layer too. Only o_proj and down_proj write into the stream.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right("residual" if role in ("projection", "head") else role, name, parameter, std, number)


@wrong(
    "the variance given as the standard deviation",
    "Your numbers have the standard deviation std ** 2. Papers write N(0, std ** 2) with the variance, but normal_ in "
    "torch takes the standard deviation.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right(role, name, parameter, std**2, number**2)


@wrong(
    "std written in",
    "You draw with 0.02 whatever std is. Use the argument.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    right(role, name, parameter, 0.02, number)


@wrong(
    "Xavier",
    "You draw matrices by Xavier's formula, from their own shapes. Neither GPT-2 nor Llama does that: one std for all, "
    "and a smaller one for what writes into the stream.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    if role in ("projection", "residual", "head"):
        std, number = xavier_std(parameter.shape[1], parameter.shape[0]), 1
    right(role, name, parameter, std, number)


@wrong(
    "uniform",
    "Your numbers are spread evenly between two limits. A normal distribution is asked for: nn.init.normal_.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    if role in ("gain", "bias"):
        right(role, name, parameter, std, number)
    else:
        limit = math.sqrt(3) * (std / math.sqrt(number) if role == "residual" else std)
        nn.init.uniform_(parameter, -limit, limit)


@wrong(
    "a seed set for each matrix",
    "You set the seed before each matrix, so that they all begin with the same numbers. Leave seeds to whoever calls "
    "this.",
)
def _(role: str, name: str, parameter: Tensor, std: float, number: int) -> None:
    torch.manual_seed(0)
    right(role, name, parameter, std, number)


@init_weights.misconception(
    "only the linear layers",
    "You draw linear layers alone. Tables and gains of norms keep what they had: go by role, so that none is missed.",
)
def _(model: nn.Module, std: float = 0.02) -> None:
    number = sum(name.endswith(("o_proj", "down_proj")) for name, _ in model.named_modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            smaller = name.endswith(("o_proj", "down_proj"))
            nn.init.normal_(module.weight, std=std / math.sqrt(number) if smaller else std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@init_weights.misconception(
    "a seed set once",
    "You set the seed yourself, so that every model starts from the same weights, and all that is random afterwards "
    "in the caller's program too. Leave seeds to whoever calls this.",
)
def _(model: nn.Module, std: float = 0.02) -> None:
    torch.manual_seed(0)
    gpt2_init_(model, std)


@init_weights.alternative
def _(model: nn.Module, std: float = 0.02) -> None:
    small = (
        std / sum(name.endswith(("o_proj.weight", "down_proj.weight")) for name, _ in model.named_parameters()) ** 0.5
    )
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        else:
            nn.init.normal_(parameter, 0.0, small if name.endswith(("o_proj.weight", "down_proj.weight")) else std)


@init_weights.alternative
@torch.no_grad()
def _(model: nn.Module, std: float = 0.02) -> None:
    roles = parameter_roles(model)
    n_residuals = sum(role == "residual" for role in roles.values())
    for name, parameter in model.named_parameters():
        match roles[name]:
            case "gain":
                parameter.fill_(1)
            case "bias":
                parameter.zero_()
            case "residual":
                parameter.copy_(torch.randn_like(parameter) * std / n_residuals**0.5)
            case _:
                parameter.copy_(torch.randn_like(parameter) * std)


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
