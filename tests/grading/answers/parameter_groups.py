"""Other answers to parameter_groups."""

from torch import nn

from llama_lessons.initialization import parameter_roles
from tests.grading.answers import right, wrong


@right
def by_modules(model, weight_decay):
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)} - tables
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if id(p) in linear], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) not in linear], "weight_decay": 0.0},
    ]


@right
def a_group_for_each_role(model, weight_decay):
    """Six groups in place of two: each parameter decays as it should."""
    roles = parameter_roles(model)
    decays = {"head": weight_decay, "projection": weight_decay, "residual": weight_decay}
    return [
        {
            "params": [p for n, p in model.named_parameters() if roles[n] == role and p.requires_grad],
            "weight_decay": decays.get(role, 0.0),
        }
        for role in ("embedding", "head", "projection", "residual", "gain", "bias")
    ]


@right
def the_other_order(model, weight_decay):
    first, second = by_modules(model, weight_decay)
    return [second, first]


@wrong(called=None)
def names(model, weight_decay):
    roles = parameter_roles(model)
    kept = [name for name, role in roles.items() if role in ("embedding", "gain", "bias")]
    return [
        {"params": [name for name in roles if name not in kept], "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]


@wrong()
def tied_tables_decay(model, weight_decay):
    """A tied weight is taken for a head."""
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if id(p) in linear], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) not in linear], "weight_decay": 0.0},
    ]


@wrong()
def half_the_decay(model, weight_decay):
    first, second = by_modules(model, weight_decay)
    return [first | {"weight_decay": weight_decay / 2}, second]
