"""Lesson 06: answers that no catalogue lists. Right ones written in unusual ways pass, wrong ones do not."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import initialization
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from llama_lessons.norms import RMSNorm
from tests.grading.answers import Answers, assert_fails, assert_passes

ANSWERS = Answers()
right, wrong = ANSWERS.right, ANSWERS.wrong


def refuse(*fans):
    for fan in fans:
        if fan < 1:
            raise ValueError(f"a fan of {fan}")


# -------------------------------------------------------------------------------- xavier_std, kaiming_std


@right("xavier_std")
def xavier_by_logarithms(fan_in, fan_out, gain=1):
    refuse(fan_in, fan_out)
    return gain * math.exp((math.log(2) - math.log(fan_in + fan_out)) / 2)


@right("xavier_std")
def xavier_by_numpy(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return np.multiply(gain, np.power(np.mean([fan_in, fan_out]), -0.5))


@right("xavier_std")
def xavier_by_fractions(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain * float(Fraction(2, fan_in + fan_out)) ** 0.5


@right("xavier_std")
def xavier_from_the_uniform_limit(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    limit = gain * math.sqrt(6 / (fan_in + fan_out))
    return limit / math.sqrt(3)


@right("xavier_std")
def xavier_with_an_error_of_its_own(fan_in, fan_out, gain=1.0):
    class NoChannels(ValueError):
        pass

    if min(fan_in, fan_out) < 1:
        raise NoChannels
    return math.sqrt(2 * gain**2 / (fan_in + fan_out))


@wrong("xavier_std")
def xavier_measured(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return nn.init.xavier_normal_(torch.empty(fan_out, fan_in), gain).std().item()


@wrong("xavier_std")
def xavier_of_square_layers(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain / math.sqrt(max(fan_in, fan_out))


@wrong("xavier_std")
def xavier_with_an_assert(fan_in, fan_out, gain=1.0):
    assert fan_in > 0
    assert fan_out > 0
    return gain * math.sqrt(2 / (fan_in + fan_out))


@wrong("xavier_std")
def xavier_rounded(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return round(gain * math.sqrt(2 / (fan_in + fan_out)), 3)


@wrong("xavier_std")
def xavier_as_a_tensor(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return torch.tensor(gain * math.sqrt(2 / (fan_in + fan_out)))


@wrong("xavier_std")
def xavier_whole_mean(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return gain / math.sqrt((fan_in + fan_out) // 2)


@wrong("xavier_std")
def xavier_of_two_negative_fans(fan_in, fan_out, gain=1.0):
    if fan_in * fan_out <= 0:
        raise ValueError("a fan is not positive")
    return gain * math.sqrt(2 / abs(fan_in + fan_out))


@wrong("xavier_std")
def xavier_never_above_1(fan_in, fan_out, gain=1.0):
    refuse(fan_in, fan_out)
    return min(1.0, gain * math.sqrt(2 / (fan_in + fan_out)))


@right("kaiming_std")
def kaiming_by_logarithms(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain * math.exp(-math.log(fan_in) / 2)


@right("kaiming_std")
def kaiming_by_torch(fan_in, gain=2**0.5):
    refuse(fan_in)
    return float(torch.tensor(fan_in, dtype=torch.float64).rsqrt() * gain)


@right("kaiming_std")
def kaiming_without_a_default_in_sight(fan_in, gain=None):
    refuse(fan_in)
    return (math.sqrt(2) if gain is None else gain) / math.sqrt(fan_in)


@right("kaiming_std")
def kaiming_with_a_root_in_the_product(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain / fan_in * fan_in**0.5


@wrong("kaiming_std")
def kaiming_with_a_rough_root(fan_in, gain=1.4):
    refuse(fan_in)
    return gain / math.sqrt(fan_in)


@wrong("kaiming_std")
def kaiming_for_small_layers(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain / math.sqrt(min(fan_in, 512)) if fan_in < 10 else math.sqrt(2 / fan_in)


@wrong("kaiming_std")
def kaiming_zero_refused_alone(fan_in, gain=2**0.5):
    if fan_in == 0:
        raise ValueError("no inputs")
    return gain / math.sqrt(abs(fan_in))


@wrong("kaiming_std")
def kaiming_by_division_by_zero(fan_in, gain=2**0.5):
    return gain / math.sqrt(fan_in)


@wrong("kaiming_std")
def kaiming_half_gain(fan_in, gain=2**0.5):
    refuse(fan_in)
    return gain**0.5 * 2**0.25 / math.sqrt(fan_in)


# ------------------------------------------------------------------------------------------ init_weights


@right("init_weights")
def the_library_s_own(model, std=0.02):
    initialization.gpt2_init_(model, std)


@right("init_weights")
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


@right("init_weights")
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


@right("init_weights")
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


@right("init_weights")
def truncated_far_out(model, std=0.02):
    roles = initialization.parameter_roles(model)
    n = list(roles.values()).count("residual")
    for name, p in model.named_parameters():
        if p.ndim > 1:
            s = std / math.sqrt(n) if roles[name] == "residual" else std
            nn.init.trunc_normal_(p, std=s, a=-8 * s, b=8 * s)
        else:
            nn.init.constant_(p, float(roles[name] == "gain"))


@wrong("init_weights")
def counts_layers_of_a_decoder(model, std=0.02):
    initialization.llama_init_(model, std)
    n = 2 * len(model.blocks) if hasattr(model, "blocks") else 2
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.normal_(parameter, std=std / math.sqrt(n))


@wrong("init_weights")
def for_two_layers(model, std=0.02):
    initialization.llama_init_(model, std)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.normal_(parameter, std=std / 2)


@wrong("init_weights")
def smaller_layer_by_layer(model, std=0.02):
    initialization.llama_init_(model, std)
    residual = [p for n, p in model.named_parameters() if n.endswith(("o_proj.weight", "down_proj.weight"))]
    for i, parameter in enumerate(residual):
        nn.init.normal_(parameter, std=std / math.sqrt(i + 1))


@wrong("init_weights")
def cut_at_one_and_a_half(model, std=0.02):
    initialization.gpt2_init_(model, std)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                limit = 1.5 * parameter.std()
                parameter.clamp_(-limit, limit)


@wrong("init_weights")
def a_copy_of_the_model(model, std=0.02):
    import copy

    model = copy.deepcopy(model)
    initialization.gpt2_init_(model, std)
    return model


@wrong("init_weights")
def signs_alone(model, std=0.02):
    roles = initialization.parameter_roles(model)
    n = list(roles.values()).count("residual")
    for name, p in model.named_parameters():
        if p.ndim > 1:
            p.data = torch.randn_like(p).sign() * (std / math.sqrt(n) if roles[name] == "residual" else std)
        else:
            nn.init.constant_(p, float(roles[name] == "gain"))


@wrong("init_weights")
def twice_through_apply(model, std=0.02):
    n = sum(name.endswith(("o_proj", "down_proj")) for name, _ in model.named_modules())
    initialization.llama_init_(model, std)

    def visit(module):
        for name, parameter in module.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.data.div_(math.sqrt(n))

    model.apply(visit)


@right("init_weights")
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


@right("init_weights")
def all_at_once(model, std=0.02):
    roles = initialization.parameter_roles(model)
    n = list(roles.values()).count("residual")
    row = []
    for name, parameter in model.named_parameters():
        size = {"gain": 0.0, "bias": 0.0, "residual": std / math.sqrt(n)}.get(roles[name], std)
        row.append(torch.randn(parameter.numel()) * size + (roles[name] == "gain"))
    nn.utils.vector_to_parameters(torch.cat(row).to(parameter.device), model.parameters())


@right("init_weights")
def from_uniform_numbers(model, std=0.02):
    roles = initialization.parameter_roles(model)
    n = list(roles.values()).count("residual")
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.data.fill_(roles[name] == "gain")
        else:
            one, other = torch.rand(2, *parameter.shape, dtype=torch.float64)
            normal = (-2 * one.clamp_min(1e-12).log()).sqrt() * (2 * math.pi * other).cos()
            parameter.data.copy_(normal * (std / math.sqrt(n) if roles[name] == "residual" else std))


@wrong("init_weights")
def a_generator_of_its_own(model, std=0.02):
    generator = torch.Generator()
    generator.seed()
    initialization.gpt2_init_(model, std, generator)


@wrong("init_weights")
def puts_the_generator_back(model, std=0.02):
    with torch.random.fork_rng(devices=[]):
        initialization.gpt2_init_(model, std)


@wrong("init_weights")
def sets_a_seed_afterwards(model, std=0.02):
    initialization.gpt2_init_(model, std)
    torch.manual_seed(0)


@wrong("init_weights")
def freezes_the_model(model, std=0.02):
    initialization.gpt2_init_(model, std)
    model.requires_grad_(False)


@wrong("init_weights")
def leaves_it_in_float64(model, std=0.02):
    initialization.gpt2_init_(model, std)
    model.double()


@wrong("init_weights")
def new_parameters_in_place_of_the_old(model, std=0.02):
    initialization.gpt2_init_(model, std)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().clone()))


# ---------------------------------------------------------------------------------- predict_first_losses


@right("predict_first_losses")
def rounded():
    return 4.43, 10.8, 576, 0


@right("predict_first_losses")
def with_what_the_logits_cost():
    return (
        initialization.expected_first_loss(84, 0.02 * math.sqrt(128)),
        initialization.expected_first_loss(49_152, 0.02 * math.sqrt(576)),
        576.0,
        0.0,
    )


@right("predict_first_losses")
def by_numpy_logarithms():
    return tuple(np.array([np.log(84), np.log(49_152), 24.0**2, 1e-9]))


@wrong("predict_first_losses")
def three_numbers():
    return math.log(84), math.log(49_152), 576.0


@wrong("predict_first_losses")
def all_of_them_dim():
    return 576.0, 576.0, 576.0, 576.0


@wrong("predict_first_losses")
def the_wrong_order():
    return math.log(49_152), math.log(84), 576.0, 0.0


@wrong("predict_first_losses")
def words():
    return "4.4 10.8 576 0"


@wrong("predict_first_losses")
def not_numbers():
    return math.nan, math.nan, math.nan, math.nan


# ---------------------------------------------------------------------------------------- activation_rms


@right("activation_rms")
def in_one_einsum_a_layer(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(torch.einsum("...i,oi->...o", x, weight))
        flat = x.flatten().double()
        sizes.append(torch.sqrt(flat @ flat / len(flat)))
    return torch.stack(sizes)


@right("activation_rms")
def by_linear_modules(x, weights, activation):
    found = torch.zeros(len(weights), dtype=torch.float64, device=x.device)
    with torch.no_grad():
        for i, weight in enumerate(weights):
            layer = nn.Linear(*reversed(weight.shape), bias=False).to(weight)
            layer.weight.copy_(weight)
            x = activation(layer(x))
            found[i] = x.double().norm() / math.sqrt(x.numel())
    return found


@right("activation_rms")
def measured_by_the_library(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(F.linear(x, weight))
        sizes.append(initialization.rms(x))
    return torch.tensor(sizes, dtype=torch.float64, device=x.device)


@right("activation_rms")
def scaled_before_squaring(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(weight.mm(x.reshape(-1, x.shape[-1]).T).T).reshape(*x.shape[:-1], -1)
        largest = x.abs().max().double()
        sizes.append(largest * (x.double() / largest).square().mean().sqrt() if largest else largest)
    return torch.stack(sizes)


@wrong("activation_rms")
def for_square_layers(x, weights, activation):
    sizes = []
    for weight in torch.stack(list(weights)):
        x = activation(x @ weight.T)
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong("activation_rms")
def over_the_channels_of_the_first_token(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append(x.reshape(-1, x.shape[-1])[0].double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong("activation_rms")
def always_relu(x, weights, activation):
    sizes = []
    for weight in weights:
        x = (x @ weight.T).relu()
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong("activation_rms")
def with_an_eps(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append((x.double().square().mean() + 1e-12).sqrt())
    return torch.stack(sizes)


@wrong("activation_rms")
def returned_in_float32(x, weights, activation):
    return in_one_einsum_a_layer(x, weights, activation).float()


@wrong("activation_rms")
def a_norm_between(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append(x.double().square().mean().sqrt())
        x = F.layer_norm(x, x.shape[-1:])
    return torch.stack(sizes)


@right("activation_rms")
def by_hypotenuse(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(torch.inner(x, weight))
        sizes.append(math.hypot(*x.flatten().tolist()) / math.sqrt(x.numel()))
    return torch.tensor(sizes, dtype=torch.float64, device=x.device)


@wrong("activation_rms")
def puts_other_weights_into_the_list(x, weights, activation):
    for i, weight in enumerate(weights):
        weights[i] = weight.double()
    return in_one_einsum_a_layer(x.double(), weights, activation)


@wrong("activation_rms")
def empties_the_list(x, weights, activation):
    sizes = []
    while weights:
        x = activation(x @ weights.pop(0).T)
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


# --------------------------------------------------------------------------------------------- TiedModel


class Given(nn.Module):
    def __init__(self, vocab_size, dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.begin()

    def forward(self, tokens):
        return self.head(self.norm(self.embedding(tokens)))


@right("TiedModel")
class DrawsTheTable(Given):
    def begin(self):
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight = self.embedding.weight


@right("TiedModel")
class DrawsByTheLibrary(Given):
    def begin(self):
        self.embedding.weight = self.head.weight
        initialization.llama_init_(self)


@right("TiedModel")
class DrawsAtTheVeryEnd(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        for name, parameter in self.named_parameters():
            if name == "embedding.weight":
                parameter.data.normal_(0, 0.02)


@right("TiedModel")
class OneParameterForBoth(Given):
    def begin(self):
        shared = nn.Parameter(0.02 * torch.randn(self.embedding.weight.shape))
        self.embedding.weight = self.head.weight = shared


@wrong("TiedModel")
class TiesInForwardAlone(Given):
    def begin(self):
        for weight in (self.embedding.weight, self.head.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, tokens):
        return F.linear(self.norm(self.embedding(tokens)), self.embedding.weight)


@wrong("TiedModel")
class LeavesTheNormOut(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


@wrong("TiedModel")
class TiesTheNumbersOnly(Given):
    def begin(self):
        nn.init.normal_(self.head.weight, std=0.02)
        self.embedding.weight.data = self.head.weight.data.clone()


@wrong("TiedModel")
class DetachesTheHead(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens):
        return F.linear(self.norm(self.embedding(tokens)), self.head.weight.detach())


@wrong("TiedModel")
class FreezesTheTable(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.02).requires_grad_(False)


@wrong("TiedModel")
class OneRowForAll(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.zeros_(self.head.weight)
        nn.init.normal_(self.head.weight.data[0], std=0.02 * self.head.out_features**0.5)


@right("TiedModel")
class DeletesTheHeadsWeight(Given):
    def begin(self):
        del self.head.weight
        self.head.weight = self.embedding.weight
        self.head.weight.data = torch.normal(0.0, 0.02, self.head.weight.shape)


@wrong("TiedModel")
class DrawsAroundAnotherMean(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, 0.02, 0.02)


@wrong("TiedModel")
class DrawsEvenly(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.uniform_(self.head.weight, -0.02 * math.sqrt(3), 0.02 * math.sqrt(3))


@wrong("TiedModel")
class GivesAFrozenTable(Given):
    def begin(self):
        self.embedding = nn.Embedding.from_pretrained(0.02 * torch.randn(self.embedding.weight.shape))
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.right_ones)
def test_an_unusual_right_answer_passes(exercise, answer):
    assert_passes(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.wrong_ones)
def test_an_unlisted_wrong_answer_fails(exercise, answer):
    assert_fails(exercise, answer)


# ------------------------------------------------------------------------------------------ what it is called

CALLED = []


def called(exercise, name):
    """Collect a wrong answer with what it has to be called: None where no name would be true of it."""

    def add(answer):
        CALLED.append(pytest.param(exercise, answer, name, id=f"{exercise}-{answer.__name__}"))
        return answer

    return add


@called("xavier_std", "fan_in alone")
def xavier_by_another_order_of_operations(fan_in, fan_out, gain=1.0):
    return (1 / fan_in) ** 0.5 * gain


@called("kaiming_std", "a gain of 1 for ReLU")
def kaiming_root_of_the_whole(fan_in, gain=1.0):
    return gain * math.sqrt(1 / fan_in)


@called("kaiming_std", "the limit of the uniform variant")
def kaiming_limit_whatever_gain_is(fan_in, gain=2**0.5):
    refuse(fan_in)
    return math.sqrt(6 / fan_in)


@called("predict_first_losses", "the two vocabularies exchanged")
def vocabularies_exchanged():
    return math.log(49_152), math.log(84), 576, 0


@called("predict_first_losses", "the same loss whatever comes")
def another_and_the_same_confused():
    return math.log(84), math.log(49_152), math.log(49_152) + 3, 576


@called("activation_rms", "squares in float32")
def in_the_dtype_of_x(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append((x**2).mean().sqrt())
    return torch.stack(sizes)


@called("activation_rms", "the standard deviation")
def deviation_in_float32(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append(x.std().item())
    return torch.tensor(sizes, dtype=torch.float64)


@called("activation_rms", "returned in float32")
def python_numbers_in_a_tensor(x, weights, activation):
    return torch.tensor(in_one_einsum_a_layer(x, weights, activation).tolist())


@called("activation_rms", None)
def without_the_last_layer(x, weights, activation):
    return in_one_einsum_a_layer(x, weights, activation)[:-1]


def change(model, roles, draw):
    for name, role in initialization.parameter_roles(model).items():
        if role in roles:
            draw(model.get_parameter(name).data)


@called("init_weights", "divided by the number, not by its root")
def beside_biases_that_were_forgotten(model, std=0.02):
    n = list(initialization.parameter_roles(model).values()).count("residual")
    change(model, ("gain",), lambda p: p.fill_(1))
    change(model, ("embedding", "head", "projection"), lambda p: p.normal_(0, std))
    change(model, ("residual",), lambda p: p.normal_(0, std / n))


@called("init_weights", "0.02 for all")
def matrices_as_everybody_draws_them(model, std=0.02):
    initialization.llama_init_(model)


@called("init_weights", None)
def divided_as_in_the_example(model, std=0.02):
    initialization.gpt2_init_(model, std)
    change(model, ("residual",), lambda p: p.normal_(0, std / math.sqrt(16)))


@called("init_weights", None)
def added_to_what_was_there(model, std=0.02):
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim > 1}
    initialization.gpt2_init_(model, std)
    for name, values in before.items():
        model.get_parameter(name).data += values


@called("TiedModel", "equal, but not tied")
class SharesTheNumbers(Given):
    def begin(self):
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight.data = self.embedding.weight.data


@called("TiedModel", "0.02 as the mean")
class MissesTheWordStd(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, 0.02)


@called("TiedModel", None)
class OneNumberForAll(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.constant_(self.head.weight, 0.02)


@called("init_weights", "divided by the root of the number of all parameters")
def counts_every_name(model, std=0.02):
    roles = initialization.parameter_roles(model)
    for name, parameter in model.named_parameters():
        if roles[name] in ("gain", "bias"):
            nn.init.constant_(parameter, float(roles[name] == "gain"))
        else:
            nn.init.normal_(parameter, std=std / math.sqrt(len(roles)) if roles[name] == "residual" else std)


@called("init_weights", "what writes into the stream made smaller, not drawn")
def shrinks_the_old_weights(model, std=0.02):
    n = list(initialization.parameter_roles(model).values()).count("residual")
    change(model, ("gain",), lambda p: p.fill_(1))
    change(model, ("bias",), lambda p: p.zero_())
    change(model, ("embedding", "head", "projection"), lambda p: p.normal_(0, std))
    change(model, ("residual",), lambda p: p.mul_(n**-0.5))


@called("kaiming_std", "gain upside down")
def kaiming_with_what_relu_keeps(fan_in, gain=0.5**0.5):
    refuse(fan_in)
    return gain / fan_in**0.5


@called("TiedModel", "Xavier")
class XavierFromTheUniform(Given):
    def begin(self):
        self.embedding.weight = self.head.weight
        nn.init.xavier_uniform_(self.head.weight)


@called("TiedModel", None)
class ANoughtForgotten(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.2)


@called("activation_rms", "the variance")
def the_variance_from_float64_on(x, weights, activation):
    x, sizes = x.double(), []
    for weight in weights:
        x = activation(F.linear(x, weight.double()))
        sizes.append(x.var())
    return torch.stack(sizes)


@pytest.mark.parametrize(("exercise", "answer", "name"), CALLED)
def test_a_wrong_answer_is_called_what_it_is(exercise, answer, name):
    verdict = grade(REGISTRY[exercise], answer)
    assert not verdict.passed
    assert (verdict.misconception and verdict.misconception.name) == name


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (lambda model, std=0.02: len(model.blocks), "count the roles that are 'residual'"),
        (lambda model, std=0.02: [p.fill_(1) for p in model.parameters()], "Use the functions of nn.init"),
    ],
)
def test_what_torch_says_of_a_mistake_comes_with_advice(answer, advice):
    messages = [result.message for result in grade(REGISTRY["init_weights"], answer).results]
    assert any(advice in message for message in messages)
