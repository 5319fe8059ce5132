"""Other answers to rms_norm."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from llama_lessons import norms
from tests.grading.answers import right, wrong

right(norms.rms_norm)


def refuse(x, weight):
    if tuple(weight.shape) != (x.shape[-1],):
        raise ValueError("weight")


@right
def rounded_before_the_gain_as_meta_does(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)).type_as(x) * weight


@right
def by_torch_s_own(x, weight, eps=1e-5):
    refuse(x, weight)
    return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)


@right
def by_einsum(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.double()
    squares = torch.einsum("...d,...d->...", y, y)[..., None] / x.size(-1)
    return (y * weight / torch.sqrt(squares + eps)).to(x.dtype)


@right
def token_by_token(x, weight, eps=1e-5):
    refuse(x, weight)
    tokens = [t / torch.sqrt((t**2).sum() / t.numel() + eps) for t in x.float().reshape(-1, len(weight))]
    return (torch.stack(tokens).view(x.shape) * weight).to(x.dtype)


@right
def by_length(x, weight, eps=1e-5):
    refuse(x, weight)
    y, dim = x.double(), x.shape[-1]
    return (math.sqrt(dim) * y / torch.sqrt(y.norm(dim=-1, keepdim=True) ** 2 + dim * eps) * weight).to(x.dtype)


@right
def by_vmap(x, weight, eps=1e-5):
    refuse(x, weight)

    def one(token):
        return token * torch.rsqrt(token.dot(token) / token.shape[0] + eps)

    y = torch.func.vmap(one)(x.float().reshape(-1, x.shape[-1]))
    return (y.reshape(x.shape) * weight).to(x.dtype)


@right
def by_diagonal_matrix(x, weight, eps=1e-5):
    if weight.dim() != 1 or weight.shape[0] != x.shape[-1]:
        raise ValueError(f"{weight.shape} does not fit {x.shape}")
    y = x.float()
    return ((y @ torch.diag(weight.float())) / torch.sqrt(y.pow(2).mean(-1).unsqueeze(-1) + eps)).to(x.dtype)


@right
def from_variance_and_mean(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.double()
    mean_square = y.var(-1, correction=0, keepdim=True) + y.mean(-1, keepdim=True) ** 2
    return (y / (mean_square + eps) ** 0.5 * weight).to(x.dtype)


@right
def in_place_on_a_copy(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float().clone()
    y = y.div((y.pow(2).mean(-1, keepdim=True) + eps).sqrt())
    y *= weight
    return y.to(x.dtype)


HALF_NAMES = ("bfloat16 is not cast", "float16 is not cast", "float32 goes out")


@wrong(called="computed in half precision", never=HALF_NAMES)
def rsqrt_in_the_dtype_of_x(x, weight, eps=1e-5):
    refuse(x, weight)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


@wrong(called="computed in half precision", never=HALF_NAMES)
def gain_over_root_in_the_dtype_of_x(x, weight, eps=1e-5):
    refuse(x, weight)
    return weight / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps) * x


@wrong()
def with_an_assert(x, weight, eps=1e-5):
    assert weight.shape == x.shape[-1:]
    return norms.rms_norm(x, weight, eps)


@wrong()
def for_one_dim(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / (y.square().sum(-1, keepdim=True) / 64 + eps).sqrt() * weight).to(x.dtype)


@wrong(called="eps as a floor inside the root")
def clamped_instead_of_eps(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / y.square().mean(-1, keepdim=True).clamp(min=eps).sqrt() * weight).to(x.dtype)


@wrong()
def eps_under_a_root_of_its_own(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / (y.square().mean(-1, keepdim=True).sqrt() + eps**0.5) * weight).to(x.dtype)


@wrong()
def eps_before_the_square(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / (y + eps).square().mean(-1, keepdim=True).sqrt() * weight).to(x.dtype)


@wrong()
def through_numpy(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.detach().float().cpu().numpy()
    y = y / np.sqrt((y**2).mean(-1, keepdims=True) + eps) * weight.detach().float().cpu().numpy()
    return torch.from_numpy(y).to(x)


@wrong()
def statistics_in_bfloat16(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps).bfloat16().float() * weight).to(x.dtype)


@wrong()
def scaled_down_first(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float() / 1000
    return (y / (y.square().mean(-1, keepdim=True) + eps).sqrt() * weight).to(x.dtype)


@wrong()
def weight_must_divide(x, weight, eps=1e-5):
    if x.shape[-1] % weight.shape[-1]:
        raise ValueError("weight")
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


@wrong()
def a_row_of_gains_accepted(x, weight, eps=1e-5):
    if weight.numel() != x.shape[-1]:
        raise ValueError("weight")
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


def scaled_by(scale):
    """RMSNorm but for what it divides by."""

    def answer(x, weight, eps=1e-5):
        refuse(x, weight)
        y = x.float()
        return (y / scale(y, eps) * weight).to(x.dtype)

    return answer


for name, scale in {
    "eps as a floor": lambda y, eps: y.square().mean(-1, keepdim=True).sqrt().clamp(min=eps),
    "length plus eps": lambda y, eps: y.norm(dim=-1, keepdim=True) + eps,
    "square of the mean": lambda y, eps: (y.mean(-1, keepdim=True) ** 2 + eps).sqrt(),
    "keepdim forgotten": lambda y, eps: (y.square().mean(-1) + eps).sqrt(),
    "over axis 1": lambda y, eps: (y.square().mean(1, keepdim=True) + eps).sqrt(),
}.items():
    wrong(called=name)(scaled_by(scale))


@wrong(called="divides by dim - 1", never=HALF_NAMES)
def by_dim_less_one(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / torch.sqrt((y**2).sum(-1, keepdim=True) / (y.shape[-1] - 1) + eps) * weight).to(x.dtype)


@wrong(called="torch's eps", never=("1e-5 whatever eps is",))
def by_torch_s_own_without_eps(x, weight, eps=1e-5):
    refuse(x, weight)
    return F.rms_norm(x, weight.shape, weight)


@wrong(called="only for a contiguous x")
def by_a_view(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.view(-1, x.shape[-1]).float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps) * weight).view(x.shape).to(x.dtype)


@wrong(called="float32 goes out")
def x_bound_to_another_dtype(x, weight, eps=1e-5):
    refuse(x, weight)
    x = x.float()
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


@right
def for_float32_and_half_precision_alone(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    y = y / (y.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight.float()
    return y.to(x.dtype) if x.dtype in (torch.float16, torch.bfloat16) else y


@wrong(never=("no gradient to x", "no gradient to weight"))
def no_gradients_in_half_precision(x, weight, eps=1e-5):
    y = norms.rms_norm(x, weight, eps)
    return y if x.dtype == torch.float32 else y.detach()


@wrong(never=("root mean square taken for a constant",))
def one_token_by_item(x, weight, eps=1e-5):
    if x.ndim > 1:
        return norms.rms_norm(x, weight, eps)
    refuse(x, weight)
    return (x.float() / (x.float().pow(2).mean() + eps).sqrt().item() * weight.float()).to(x.dtype)


@wrong()
def the_first_1024_channels(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / (y[..., :1024].pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight).to(x.dtype)


@wrong(called="scale in half precision", never=HALF_NAMES)
def times_a_rounded_scale(x, weight, eps=1e-5):
    refuse(x, weight)
    scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)
    return x * scale.to(x.dtype) * weight


@wrong(called="scale in half precision", never=HALF_NAMES)
def over_a_rounded_root(x, weight, eps=1e-5):
    refuse(x, weight)
    root = (x.float().pow(2).mean(-1, keepdim=True) + eps).sqrt().to(x.dtype)
    return x / root * weight


@wrong(called="eps divided by dim")
def root_of_dim_over_length(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y * math.sqrt(y.shape[-1]) / (y.pow(2).sum(-1, keepdim=True) + eps).sqrt() * weight.float()).to(x.dtype)


@wrong(called="an assert, no ValueError")
def with_an_assert_of_its_own(x, weight, eps=1e-5):
    assert weight.shape == x.shape[-1:], "weight"
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


@wrong(called="a new axis in second place")
def unsqueezed_in_second_place(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1) + eps).unsqueeze(1) * weight).to(x.dtype)


@wrong(never=("a new axis in second place",))
def a_new_axis_for_two_axes_alone(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=x.ndim != 3) + eps) * weight).to(x.dtype)
