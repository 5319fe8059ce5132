"""Exercise 4: which parameters decay."""

from collections.abc import Callable
from functools import cache

from torch import nn

from llama_lessons.initialization import parameter_roles
from llama_lessons.llama import Llama, LlamaConfig

from ...exercise import Exercise
from ...expect import Mismatch

DECAY = 0.3


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    roles = parameter_roles(model)
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        matrix = roles[name] in ("head", "projection", "residual")
        if parameter.requires_grad:
            (decayed if matrix else kept).append(parameter)
    first, second = {"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}
    return [first, second]


def llama(**more) -> nn.Module:
    sizes = {"n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 4, "hidden_dim": 12, "max_seq_len": 8}
    return Llama(LlamaConfig(vocab_size=10, dim=8, **sizes, **more))


def frozen() -> nn.Module:
    model = llama()
    for parameter in (model.embedding.weight, *model.blocks[0].parameters()):
        parameter.requires_grad_(False)
    return model


def with_biases() -> nn.Module:
    """Its names do not say what its parts are."""
    parts = {"table": nn.Embedding(10, 8), "up_proj": nn.Linear(8, 12), "scale": nn.LayerNorm(12)}
    return nn.ModuleDict(parts | {"down_proj": nn.Linear(12, 8), "head": nn.Linear(8, 10)})


PLAIN, TIED, FROZEN = "a Llama", "a Llama with tied embeddings", "a Llama, its embedding and first block frozen"
BIASED = "a model with biases and a LayerNorm"
MODELS: dict[str, Callable[[], nn.Module]] = {
    PLAIN: llama,
    TIED: lambda: llama(tied_embeddings=True),
    FROZEN: frozen,
    BIASED: with_biases,
}
KINDS = ("embedding", "head", "projection", "residual", "gain", "bias")


@cache
def made(kind: str) -> tuple[nn.Module, dict[str, str]]:
    model = MODELS[kind]()
    return model, parameter_roles(model)


def decays(answer: Callable) -> Callable[[str, str, float], str]:
    """Make of an answer what says, for a kind of model and a role, which of its parameters decay by how much."""

    def run(kind: str, role: str, weight_decay: float) -> str:
        model, roles = made(kind)
        trained = [parameter.requires_grad for parameter in model.parameters()]
        groups = answer(model, weight_decay)
        if trained != [parameter.requires_grad for parameter in model.parameters()]:
            for parameter, before in zip(model.parameters(), trained, strict=True):
                parameter.requires_grad_(before)
            raise Mismatch(
                "a frozen parameter is no longer frozen, or the other way round: leave requires_grad as it is"
            )
        if not isinstance(groups, (list, tuple)) or not all(isinstance(group, dict) for group in groups):
            raise Mismatch(f"a list of dictionaries is asked for, not {type(groups).__name__}")
        found: dict[int, list[float]] = {}
        for group in groups:
            if group.keys() != {"params", "weight_decay"} or not isinstance(group["params"], (list, tuple)):
                raise Mismatch(
                    'each dictionary has a list of parameters under "params", and a number at "weight_decay"'
                )
            for parameter in group["params"]:
                if not isinstance(parameter, nn.Parameter):
                    raise Mismatch(f'"params" holds {type(parameter).__name__}: it lists the parameters themselves')
                found.setdefault(id(parameter), []).append(float(group["weight_decay"]))
        said = {
            name: " and ".join(f"{decay:g}" for decay in found.get(id(parameter), [])) or "left out"
            for name, parameter in model.named_parameters()
            if roles[name] == role
        }
        return "; ".join(f"{name}: {decay}" for name, decay in said.items())

    return run


def cases() -> list[tuple]:
    return [(kind, role, DECAY) for kind in MODELS for role in KINDS if role in made(kind)[1].values()] + [
        (PLAIN, role, 0.05) for role in ("projection", "gain")
    ]


exercise = Exercise(
    parameter_groups,
    points=3,
    minutes=8,
    cases=cases,
    returns=str,
    using=decays,
    hints=(
        "parameter_roles(model), known from lesson 06, gives each name of model.named_parameters() its role. Which "
        "three roles are matrices of linear layers?",
        "parameter.requires_grad says whether a parameter is trained. One loop over model.named_parameters() does it.",
    ),
)


def expect_decays(answer: Callable, kind: str, role: str, wanted: float, weight_decay: float = DECAY) -> None:
    said = answer(kind, role, weight_decay)
    for entry in filter(None, said.split("; ")):
        name, _, decay = entry.partition(": ")
        model, _ = made(kind)
        want = f"{wanted:g}" if dict(model.named_parameters())[name].requires_grad else "left out"
        if decay != want:
            asked = "it is frozen, and to be left out" if want == "left out" else f"expected weight_decay {want}"
            got = "it is left out" if decay == "left out" else f"got {decay}"
            raise Mismatch(f"{kind}, {name}, whose role is {role}: {asked}, {got}")


@exercise.property("the matrices of linear layers decay, the head's too")
def matrices(answer: Callable) -> None:
    for kind in (PLAIN, TIED, BIASED):
        for role in ("projection", "residual", "head"):
            expect_decays(answer, kind, role, DECAY)
    expect_decays(answer, PLAIN, "projection", 0.05, 0.05)


@exercise.property("embeddings do not, whether the head is tied to them or not")
def embeddings(answer: Callable) -> None:
    for kind in (PLAIN, TIED, BIASED):
        expect_decays(answer, kind, "embedding", 0.0)


@exercise.property("gains of norms and biases do not")
def gains(answer: Callable) -> None:
    for kind in (PLAIN, TIED, BIASED):
        for role in ("gain", "bias"):
            expect_decays(answer, kind, role, 0.0)


@exercise.property("frozen parameters are left out")
def frozen_left_out(answer: Callable) -> None:
    for role in KINDS:
        expect_decays(answer, FROZEN, role, DECAY if role in ("projection", "residual", "head") else 0.0)


exercise.slips("""
    all that has two axes: matrix = roles[name] in ("head", "projection", "residual") -> matrix = parameter.ndim > 1
        Your embedding decays: you go by the number of axes, as nanoGPT does. Here the table of tokens does not decay,
        since the row of a rare token would fade between its occurrences.
    all of them: matrix = roles[name] in ("head", "projection", "residual") -> matrix = True
        Everything decays. Embeddings, gains and biases are not to.
    none of them: matrix = roles[name] in ("head", "projection", "residual") -> matrix = False
        Nothing decays. The matrices of linear layers are to.
    exchanged: (decayed if matrix else kept) -> (kept if matrix else decayed)
        The two groups are exchanged: what should decay does not, and the other way round.
    the head forgotten: ("head", "projection", "residual") -> ("projection", "residual")
        The head does not decay. It is the matrix of a linear layer like the others.
    the residual ones forgotten: ("head", "projection", "residual") -> ("head", "projection")
        o_proj and down_proj do not decay: their role is `residual`, and they are matrices too.
    only the residual ones: ("head", "projection", "residual") -> ("head", "residual")
        Matrices with the role `projection` do not decay.
    gains too: ("head", "projection", "residual") -> ("head", "projection", "residual", "gain")
        The gains of norms decay. They have no reason to be near 0.
    biases too: ("head", "projection", "residual") -> ("head", "projection", "residual", "bias")
        Biases decay. Only the matrices of linear layers are to.
    frozen ones too: if parameter.requires_grad: -> if True:
        Frozen parameters are in a group. They are not trained: leave them out, as requires_grad says.
    frozen ones not decayed: if parameter.requires_grad: -> if (matrix := matrix and parameter.requires_grad) or True:
        Frozen parameters are in the group that does not decay. Leave them out of both.
    the default decay: "weight_decay": weight_decay}, -> "weight_decay": 0.1},
        Your matrices decay by 0.1, whatever weight_decay is.
    decay twice: {"params": kept, "weight_decay": 0.0} -> {"params": decayed + kept, "weight_decay": 0.0}
        Matrices are in both groups. torch refuses that: each parameter belongs into one group.
    one group alone: [first, second] -> [first]
        What does not decay is missing, so it would not be trained at all. It needs a group of its own, with 0.
    by the name weight: matrix = roles[name] in ("head", "projection", "residual") -> matrix = name.endswith("weight")
        You go by the name `weight`. Embeddings and the gains of norms are called so too.
    all but norms by name: matrix = roles[name] in ("head", "projection", "residual") -> matrix = "norm" not in name
        You leave out what is called norm, and nothing else: embeddings and biases decay.
""")
