"""Other answers to activation_rms."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import initialization
from tests.grading.answers import right, wrong


@right
def written_into_a_tensor(x, weights, activation):
    sizes = torch.empty(len(weights), dtype=torch.float64)
    for layer, weight in enumerate(weights):
        x = activation(F.linear(x, weight))
        sizes[layer] = x.to(torch.float64).pow(2).mean() ** 0.5
    return sizes.to(x.device)


@right
def the_whole_stack_in_float64(x, weights, activation):
    x, found = x.double(), []
    for weight in weights:
        x = activation(torch.einsum("...i,oi->...o", x, weight.double()))
        found.append(x.norm().item() / x.numel() ** 0.5)
    return torch.tensor(found, dtype=torch.float64, device=x.device)


@right
def layer_within_layer(x, weights, activation):
    def sizes(x, weights):
        if not weights:
            return []
        x = activation(x @ weights[0].mT)
        return [float(x.double().var(correction=0) + x.double().mean() ** 2) ** 0.5, *sizes(x, weights[1:])]

    return torch.tensor(sizes(x, list(weights)), dtype=torch.float64).to(x.device)


@right
def in_one_einsum_a_layer(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(torch.einsum("...i,oi->...o", x, weight))
        flat = x.flatten().double()
        sizes.append(torch.sqrt(flat @ flat / len(flat)))
    return torch.stack(sizes)


@right
def by_linear_modules(x, weights, activation):
    found = torch.zeros(len(weights), dtype=torch.float64, device=x.device)
    with torch.no_grad():
        for i, weight in enumerate(weights):
            layer = nn.Linear(*reversed(weight.shape), bias=False).to(weight)
            layer.weight.copy_(weight)
            x = activation(layer(x))
            found[i] = x.double().norm() / math.sqrt(x.numel())
    return found


@right
def measured_by_the_library(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(F.linear(x, weight))
        sizes.append(initialization.rms(x))
    return torch.tensor(sizes, dtype=torch.float64, device=x.device)


@right
def scaled_before_squaring(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(weight.mm(x.reshape(-1, x.shape[-1]).T).T).reshape(*x.shape[:-1], -1)
        largest = x.abs().max().double()
        sizes.append(largest * (x.double() / largest).square().mean().sqrt() if largest else largest)
    return torch.stack(sizes)


@right
def by_hypotenuse(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(torch.inner(x, weight))
        sizes.append(math.hypot(*x.flatten().tolist()) / math.sqrt(x.numel()))
    return torch.tensor(sizes, dtype=torch.float64, device=x.device)


@wrong()
def for_square_layers(x, weights, activation):
    sizes = []
    for weight in torch.stack(list(weights)):
        x = activation(x @ weight.T)
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong()
def over_the_channels_of_the_first_token(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append(x.reshape(-1, x.shape[-1])[0].double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong(called="ReLU, whatever is asked for")
def always_relu(x, weights, activation):
    sizes = []
    for weight in weights:
        x = (x @ weight.T).relu()
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong()
def with_an_eps(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append((x.double().square().mean() + 1e-12).sqrt())
    return torch.stack(sizes)


@wrong(called="returned in float32")
def returned_in_float32(x, weights, activation):
    return in_one_einsum_a_layer(x, weights, activation).float()


@wrong()
def a_norm_between(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append(x.double().square().mean().sqrt())
        x = F.layer_norm(x, x.shape[-1:])
    return torch.stack(sizes)


@wrong()
def puts_other_weights_into_the_list(x, weights, activation):
    for i, weight in enumerate(weights):
        weights[i] = weight.double()
    return in_one_einsum_a_layer(x.double(), weights, activation)


@wrong()
def empties_the_list(x, weights, activation):
    sizes = []
    while weights:
        x = activation(x @ weights.pop(0).T)
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong(called="no float64 at all")
def in_the_dtype_of_x(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append((x**2).mean().sqrt())
    return torch.stack(sizes)


@wrong(called="the standard deviation")
def deviation_in_float32(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append(x.std().item())
    return torch.tensor(sizes, dtype=torch.float64)


@wrong(called="returned in float32")
def python_numbers_in_a_tensor(x, weights, activation):
    return torch.tensor(in_one_einsum_a_layer(x, weights, activation).tolist())


@wrong(called="the last layer left out")
def without_the_last_layer(x, weights, activation):
    return in_one_einsum_a_layer(x, weights, activation)[:-1]


@wrong(called="the variance")
def the_variance_from_float64_on(x, weights, activation):
    x, sizes = x.double(), []
    for weight in weights:
        x = activation(F.linear(x, weight.double()))
        sizes.append(x.var())
    return torch.stack(sizes)


def measured(size):
    """The stack, with another size for each layer."""

    def answer(x, weights, activation):
        sizes = []
        for weight in weights:
            x = activation(F.linear(x, weight))
            sizes.append(size(x))
        return torch.stack(sizes)

    return answer


for name, size in {
    "squared in the dtype of x": lambda x: (x * x).mean().double().sqrt(),
    "no float64 at all": lambda x: torch.sqrt(torch.mean(x**2)),
    "float32 in place of float64": lambda x: x.float().pow(2).mean().sqrt(),
    "returned in float32": lambda x: x.double().pow(2).mean().sqrt().float(),
    "the norm": lambda x: torch.linalg.norm(x.double().flatten()),
    "the mean square": lambda x: (x.double() ** 2).sum() / x.numel(),
    "the mean of absolute values": lambda x: x.double().abs().sum() / x.numel(),
    "a mean over tokens of each token's own": lambda x: (x.double().norm(dim=-1) / x.shape[-1] ** 0.5).mean(),
    "divided by the channels alone": lambda x: (x.double().square().sum() / x.size(-1)).sqrt(),
    "the largest number": lambda x: x.double().flatten().norm(p=float("inf")),
    "only what is not 0": lambda x: x[x != 0].double().square().mean().sqrt(),
    "the next layer reads the squares": lambda x: x.double().mul_(x.double()).mean().sqrt(),
    None: lambda x: x.double().square().mean(dim=-1).sqrt().max(),
}.items():
    wrong(called=name)(measured(size))


@wrong(called="the activation before the matrix")
def activates_what_it_reads(x, weights, activation):
    sizes = []
    for weight in weights:
        x = F.linear(activation(x), weight)
        sizes.append(x.double().pow(2).mean().sqrt())
    return torch.stack(sizes)


@wrong(called="measured before the activation")
def appends_too_early(x, weights, activation):
    sizes = []
    for weight in weights:
        x = weight.mm(x.reshape(-1, x.shape[-1]).T).T.reshape(*x.shape[:-1], -1)
        sizes.append(x.double().norm() / x.numel() ** 0.5)
        x = activation(x)
    return torch.stack(sizes)


@wrong(called="only for a contiguous x")
def flattened_with_view(x, weights, activation):
    sizes, x = [], x.view(-1, x.shape[-1])
    for weight in weights:
        x = activation(x @ weight.T)
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong()
def transposes_what_is_there(x, weights, activation):
    sizes = []
    for weight in weights:
        weight.t_()
        x = activation(x @ weight)
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong(called="every layer reads the input")
def forgets_to_keep_x(x, weights, activation):
    return torch.stack([activation(F.linear(x, w)).double().square().mean().sqrt() for w in weights])


@wrong(called=None)
def plain_numbers(x, weights, activation):
    return measured(lambda x: x.double().square().mean().sqrt())(x, weights, activation).tolist()


@wrong()
def for_two_axes(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(torch.mm(x, weight.T))
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


wrong(called="squared in float32")(measured(lambda x: x.float().square().double().mean().sqrt()))
wrong(called="squared in float32")(measured(lambda x: torch.linalg.vector_norm(x.float()).double() / x.numel() ** 0.5))


@wrong(called="only for two axes")
def from_the_left(x, weights, activation):
    x, sizes = x.double(), []
    for weight in weights:
        x = activation((weight.double() @ x.t()).t())
        sizes.append(x.square().mean().sqrt())
    return torch.stack(sizes)


@wrong(called=None)
def weights_turned_in_place(x, weights, activation):
    x, sizes = x.double(), []
    for weight in weights:
        x = activation(x @ weight.t_().double())
        sizes.append(x.square().mean().sqrt())
    return torch.stack(sizes)


@wrong(called="the next layer reads the squares")
def squares_under_the_same_name(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        x = x**2
        sizes.append(x.double().mean().sqrt())
    return torch.stack(sizes)


@wrong(called="no activation")
def what_the_activation_gives_is_dropped(x, weights, activation):
    sizes = []
    for weight in weights:
        x = x @ weight.T
        activation(x)
        sizes.append(x.double().square().mean().sqrt())
    return torch.stack(sizes)


@wrong()
def divided_by_the_largest_which_may_be_0(x, weights, activation):
    sizes = []
    for weight in weights:
        x = activation(x @ weight.T)
        largest = x.double().abs().max()
        sizes.append(largest * (x.double() / largest).square().mean().sqrt())
    return torch.stack(sizes)
