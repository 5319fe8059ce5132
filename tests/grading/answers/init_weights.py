"""Other answers to init_weights."""

import copy
import math

import numpy as np
import torch
from torch import nn

from llama_lessons import initialization
from tests.grading.answers import right, wrong

right(initialization.gpt2_init_)


def change(model, roles, draw):
    """Draw anew the parameters with these roles."""
    for name, role in initialization.parameter_roles(model).items():
        if role in roles:
            draw(model.get_parameter(name).data)


def count(model, *roles):
    return sum(role in roles for role in initialization.parameter_roles(model).values())


def over_root_of(number):
    """GPT-2's scheme with another number under the root."""

    def answer(model, std=0.02):
        initialization.llama_init_(model, std)
        change(model, ("residual",), lambda p: p.normal_(0, std / math.sqrt(number(model))))

    return answer


def drawn_by(draw):
    """GPT-2's scheme with other random numbers."""

    def answer(model, std=0.02):
        initialization.gpt2_init_(model, std)
        size = std / math.sqrt(count(model, "residual"))
        change(model, ("embedding", "head", "projection"), lambda p: draw(p, std))
        change(model, ("residual",), lambda p: draw(p, size))

    return answer


def from_uniform_numbers(p, s):
    one, other = torch.rand(2, *p.shape, dtype=torch.float64)
    p.copy_((-2 * one.clamp_min(1e-12).log()).sqrt() * (2 * math.pi * other).cos() * s)


right(drawn_by(from_uniform_numbers))
right(drawn_by(lambda p, s: nn.init.trunc_normal_(p, std=s, a=-8 * s, b=8 * s)))


@right
def by_axes_and_names(model, std=0.02):
    def writes(name):
        return name.endswith(("o_proj.weight", "down_proj.weight"))

    small = std / sum(map(writes, dict(model.named_parameters()))) ** 0.5
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        else:
            nn.init.normal_(parameter, 0.0, small if writes(name) else std)


@right
def drawn_first_then_made_smaller(model, std=0.02):
    residual = [name for name, role in initialization.parameter_roles(model).items() if role == "residual"]
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=std)
            if name in residual:
                parameter.data /= math.sqrt(len(residual))
        else:
            parameter.data = torch.zeros_like(parameter) if "bias" in name else torch.ones_like(parameter)
    return model


@right
def the_library_s_own(model, std=0.02):
    initialization.gpt2_init_(model, std)


@right
def by_class_of_module(model, std=0.02):
    residual = [m for n, m in model.named_modules() if n.split(".")[-1] in ("o_proj", "down_proj")]
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std / len(residual) ** 0.5 if module in residual else std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif getattr(module, "weight", None) is not None and module.weight.ndim == 1:
            nn.init.ones_(module.weight)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if (
            not isinstance(module, nn.Linear)
            and getattr(module, "weight", None) is not None
            and module.weight.ndim == 2
        ):
            nn.init.normal_(module.weight, std=std)


@right
def by_numpy(model, std=0.02):
    roles = initialization.parameter_roles(model)
    n = sum(role == "residual" for role in roles.values())
    scale = {"residual": std / np.sqrt(max(n, 1)), "gain": 0, "bias": 0}
    seed = torch.randint(2**31, ()).item()
    draw = np.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        numbers = draw.normal(0, 1, parameter.shape) * scale.get(roles[name], std) + (roles[name] == "gain")
        with torch.no_grad():
            parameter.copy_(torch.tensor(numbers))


@right
def through_a_state_dict(model, std=0.02):
    roles = initialization.parameter_roles(model)
    n = list(roles.values()).count("residual")
    new = {}
    for name, parameter in model.named_parameters():
        size = {"gain": 0.0, "bias": 0.0, "residual": std * n**-0.5}.get(roles[name], std)
        new[name] = torch.randn_like(parameter) * size + float(roles[name] == "gain")
    model.load_state_dict(new, strict=False)
    if hasattr(model, "head") and "head.weight" not in new:
        model.head.weight = model.embedding.weight


@right
@torch.no_grad()
def case_by_case(model, std=0.02):
    roles = initialization.parameter_roles(model)
    for name, parameter in model.named_parameters():
        match roles[name]:
            case "gain":
                parameter.fill_(1)
            case "bias":
                parameter.zero_()
            case "residual":
                parameter.copy_(torch.randn_like(parameter) * std / sum(r == "residual" for r in roles.values()) ** 0.5)
            case _:
                parameter.copy_(torch.randn_like(parameter) * std)


@right
def all_at_once(model, std=0.02):
    roles = initialization.parameter_roles(model)
    n = list(roles.values()).count("residual")
    row = []
    for name, parameter in model.named_parameters():
        size = {"gain": 0.0, "bias": 0.0, "residual": std / math.sqrt(n)}.get(roles[name], std)
        row.append(torch.randn(parameter.numel()) * size + (roles[name] == "gain"))
    nn.utils.vector_to_parameters(torch.cat(row).to(parameter), model.parameters())


@wrong()
def smaller_layer_by_layer(model, std=0.02):
    initialization.llama_init_(model, std)
    residual = [p for n, p in model.named_parameters() if n.endswith(("o_proj.weight", "down_proj.weight"))]
    for i, parameter in enumerate(residual):
        nn.init.normal_(parameter, std=std / math.sqrt(i + 1))


@wrong()
def cut_at_one_and_a_half(model, std=0.02):
    initialization.gpt2_init_(model, std)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                limit = 1.5 * parameter.std()
                parameter.clamp_(-limit, limit)


@wrong()
def a_copy_of_the_model(model, std=0.02):
    model = copy.deepcopy(model)
    initialization.gpt2_init_(model, std)
    return model


@wrong()
def twice_through_apply(model, std=0.02):
    n = sum(name.endswith(("o_proj", "down_proj")) for name, _ in model.named_modules())
    initialization.llama_init_(model, std)

    def visit(module):
        for name, parameter in module.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.data.div_(math.sqrt(n))

    model.apply(visit)


@wrong()
def a_generator_of_its_own(model, std=0.02):
    generator = torch.Generator()
    generator.seed()
    initialization.gpt2_init_(model, std, generator)


@wrong()
def puts_the_generator_back(model, std=0.02):
    with torch.random.fork_rng(devices=[]):
        initialization.gpt2_init_(model, std)


@wrong()
def sets_a_seed_afterwards(model, std=0.02):
    initialization.gpt2_init_(model, std)
    torch.manual_seed(0)


@wrong()
def freezes_the_model(model, std=0.02):
    initialization.gpt2_init_(model, std)
    model.requires_grad_(False)


@wrong()
def leaves_it_in_float64(model, std=0.02):
    initialization.gpt2_init_(model, std)
    model.double()


@wrong()
def new_parameters_in_place_of_the_old(model, std=0.02):
    initialization.gpt2_init_(model, std)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().clone()))


@wrong(called="divided by the number, not by its root")
def beside_biases_that_were_forgotten(model, std=0.02):
    n = list(initialization.parameter_roles(model).values()).count("residual")
    change(model, ("gain",), lambda p: p.fill_(1))
    change(model, ("embedding", "head", "projection"), lambda p: p.normal_(0, std))
    change(model, ("residual",), lambda p: p.normal_(0, std / n))


@wrong(called="0.02 for all")
def matrices_as_everybody_draws_them(model, std=0.02):
    initialization.llama_init_(model)


@wrong(called="added to what was there")
def added_to_what_was_there(model, std=0.02):
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim > 1}
    initialization.gpt2_init_(model, std)
    for name, values in before.items():
        model.get_parameter(name).data += values


@wrong(called="only made smaller")
def shrinks_the_old_weights(model, std=0.02):
    n = list(initialization.parameter_roles(model).values()).count("residual")
    change(model, ("gain",), lambda p: p.fill_(1))
    change(model, ("bias",), lambda p: p.zero_())
    change(model, ("embedding", "head", "projection"), lambda p: p.normal_(0, std))
    change(model, ("residual",), lambda p: p.mul_(n**-0.5))


for name, number in {
    "N counts the projections too": lambda model: count(model, "residual", "projection"),
    "N counts the projections": lambda model: count(model, "projection"),
    "N counts all matrices": lambda model: sum(p.dim() == 2 for p in model.parameters()),
    "N counts all parameters": lambda model: len(initialization.parameter_roles(model)),
    "N of the example": lambda model: 16,
    "divided by the root of twice the number": lambda model: 2 * count(model, "residual"),
    "divided by the root of the number of layers": lambda model: count(model, "residual") / 2,
}.items():
    wrong(called=name)(over_root_of(number))

TWICE = ("divided by the root of twice the number", "divided by the root of the number of layers")
for number in (
    lambda model: 4,
    lambda model: 2 * len(model.blocks) if hasattr(model, "blocks") else 2,
    lambda model: sum(p.numel() for p in model.parameters()),
    lambda model: count(model, "residual") + 1,
    lambda model: count(model, "residual", "head"),
    lambda model: count(model, "bias"),
    lambda model: len(list(model.modules())),
):
    wrong(never=TWICE)(over_root_of(number))


for name, draw in {
    "uniform": lambda p, s: p.copy_((torch.rand_like(p) - 0.5) * s * 12**0.5),
    "uniform up to the standard deviation": lambda p, s: p.copy_((2 * torch.rand_like(p) - 1) * s),
    "uniform from 0 on": lambda p, s: p.copy_(torch.rand_like(p) * s),
    "two numbers alone": lambda p, s: p.copy_(torch.randn_like(p).sign() * s),
    "He": lambda p, s: nn.init.kaiming_normal_(p),
    "truncated": lambda p, s: nn.init.trunc_normal_(p, std=s, a=-2 * s, b=2 * s),
    "standard normal numbers": lambda p, s: p.copy_(torch.randn_like(p)),
}.items():
    wrong(called=name)(drawn_by(draw))

for draw in (
    lambda p, s: nn.init.trunc_normal_(p, std=s, a=-3 * s, b=3 * s),
    lambda p, s: p.copy_(nn.init.orthogonal_(torch.empty(p.shape), s * max(p.shape) ** 0.5)),
    lambda p, s: p.normal_(0, s).clamp_(-2.5 * s, 2.5 * s),
    lambda p, s: p.copy_(torch.distributions.Laplace(0.0, s / 2**0.5).sample(p.shape)),
    lambda p, s: p.copy_(torch.randn(p.shape[1:]).expand(p.shape) * s),
    lambda p, s: p.copy_(torch.randint(-3, 4, p.shape) * s / 2),
    lambda p, s: p.normal_(0, s).mul_(torch.rand_like(p) > 0.5).mul_(2**0.5),
):
    wrong(never=("uniform", "two numbers alone"))(drawn_by(draw))


@wrong(never=("a seed set for each matrix", "the same numbers for each model"))
def first_rows_zeroed(model, std=0.02):
    initialization.gpt2_init_(model, std)
    change(model, ("embedding", "head", "projection", "residual"), lambda p: p[0].zero_())


@wrong(called="zeros in a table")
def a_row_for_padding(model, std=0.02):
    initialization.gpt2_init_(model, std)
    change(model, ("embedding",), lambda p: p[0].fill_(0))


@wrong(called="another dtype")
def new_tensors(model, std=0.02):
    roles = initialization.parameter_roles(model)
    n = list(roles.values()).count("residual")
    for name, p in model.named_parameters():
        if roles[name] in ("gain", "bias"):
            p.data = torch.full_like(p, float(roles[name] == "gain"))
        else:
            p.data = torch.randn(p.shape) * (std / math.sqrt(n) if roles[name] == "residual" else std)


@wrong()
def new_tensors_for_gains_and_biases(model, std=0.02):
    initialization.gpt2_init_(model, std)
    for name, role in initialization.parameter_roles(model).items():
        if role in ("gain", "bias"):
            p = model.get_parameter(name)
            p.data = torch.ones(p.shape) if role == "gain" else torch.zeros(p.shape)


@wrong(called="Xavier's uniform variant")
def the_articles_way(model, std=0.02):
    initialization.gpt2_init_(model, std)
    for module in model.modules():
        if isinstance(module, nn.Linear) and not torch.equal(module.weight, getattr(model, "embedding", module).weight):
            nn.init.xavier_uniform_(module.weight)


@wrong()
def a_count_kept_from_the_first_model(model, std=0.02, kept=[]):  # noqa: B006
    kept.append(count(model, "residual"))
    over_root_of(lambda model: kept[0])(model, std)


@wrong()
def multiplied_by_0(model, std=0.02):
    kept = {n: p.detach() * 0 for n, p in model.named_parameters() if p.ndim == 1}
    initialization.gpt2_init_(model, std)
    for name, zeros in kept.items():
        model.get_parameter(name).data += zeros


@wrong()
def once_for_each_model(model, std=0.02):
    if not hasattr(model, "is_drawn"):
        model.is_drawn = True
        initialization.gpt2_init_(model, std)


@wrong()
def buffers_too(model, std=0.02):
    initialization.gpt2_init_(model, std)
    for buffer in model.buffers():
        buffer.normal_(0, std)


def negated(p, size):
    p.normal_(0, size)
    half = p.shape[0] // 2
    p[half : 2 * half] = -p[:half]


wrong()(drawn_by(negated))
wrong()(drawn_by(lambda p, size: nn.init.trunc_normal_(p, 0, size)))
wrong(called="the root of std")(lambda model, std=0.02: initialization.gpt2_init_(model, std**0.5))


@wrong(called="one draw per shape")
def one_matrix_for_each_shape(model, std=0.02):
    initialization.gpt2_init_(model, std)
    drawn, number = {}, count(model, "residual")
    for name, role in initialization.parameter_roles(model).items():
        p = model.get_parameter(name).data
        if role not in ("gain", "bias"):
            size = std / math.sqrt(number) if role == "residual" else std
            p.copy_(drawn.setdefault(p.shape, torch.randn(p.shape)) * size)


@wrong(called="the same numbers for each model")
def a_generator_without_a_seed(model, std=0.02):
    initialization.gpt2_init_(model, std)
    generator, number = torch.Generator(), count(model, "residual")
    for name, role in initialization.parameter_roles(model).items():
        if role not in ("gain", "bias"):
            size = std / math.sqrt(number) if role == "residual" else std
            nn.init.normal_(model.get_parameter(name), 0, size, generator=generator)


@wrong(called="divided by the root of the number of layers")
def o_proj_counted(model, std=0.02):
    roles = initialization.parameter_roles(model)
    over_root_of(lambda model: max(1, sum("o_proj" in name for name in roles)))(model, std)


wrong(called=None)(over_root_of(lambda model: count(model, "residual") + 1))


@wrong(called=None)
def gains_between_0_and_1(model, std=0.02):
    initialization.gpt2_init_(model, std)
    change(model, ("gain",), lambda p: p.uniform_())


@wrong(called=None)
def projections_larger_by_the_root_of_2(model, std=0.02):
    initialization.gpt2_init_(model, std)
    change(model, ("projection",), lambda p: p.normal_(0, std * math.sqrt(2)))
