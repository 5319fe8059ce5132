"""Other answers to layer_norm."""

import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import norms
from tests.grading.answers import right, wrong

right(norms.layer_norm)


@right
def by_torch_s_own(x, weight, bias, eps=1e-5):
    return F.layer_norm(x.float(), weight.shape, weight.float(), bias.float(), eps).to(x.dtype)


@right
def rounded_before_the_gain(x, weight, bias, eps=1e-5):
    spread, mean = torch.var_mean(x.float(), dim=-1, correction=0, keepdim=True)
    return (x.float() - mean).mul(torch.rsqrt(spread + eps)).type_as(x) * weight + bias


@right
def by_projection(x, weight, bias, eps=1e-5):
    # In float64, along (1, 1, ..., 1)
    n = x.shape[-1]
    keep = torch.eye(n, dtype=torch.float64, device=x.device) - 1 / n
    y = x.double() @ keep
    return (weight * y / (torch.linalg.vector_norm(y, dim=-1, keepdim=True) ** 2 / n + eps) ** 0.5 + bias).to(x.dtype)


@right
def by_loops(x, weight, bias, eps=1e-5):
    results = []
    for token in x.float().reshape(-1, x.shape[-1]):
        mean = sum(token) / len(token)
        variance = sum((value - mean) ** 2 for value in token) / len(token)
        channels = [(v - mean) / (variance + eps) ** 0.5 * w + b for v, w, b in zip(token, weight, bias, strict=True)]
        results.append(torch.stack(channels))
    return torch.stack(results).reshape(x.shape).to(x.dtype)


@right
def by_matmul_with_ones(x, weight, bias, eps=1e-5):
    ones = torch.full((x.shape[-1], 1), 1 / x.shape[-1], device=x.device)
    y = x.float()
    y = y - y @ ones
    return (y * ((y * y) @ ones + eps) ** -0.5 * weight.float() + bias.float()).to(x.dtype)


@right
def by_var_and_addcmul(x, weight, bias, eps=1e-5):
    y = x.to(torch.float64)
    y = (y - y.mean(-1)[..., None]) / torch.sqrt(torch.var(y, -1, unbiased=False)[..., None] + eps)
    return torch.addcmul(bias.double(), y, weight.double()).type_as(x)


@right
def by_the_module(x, weight, bias, eps=1e-5):
    norm = nn.LayerNorm(x.shape[-1], eps, elementwise_affine=False, device=x.device)
    return (norm(x.float()) * weight + bias).to(x.dtype)


@right
def by_the_norm_of_what_is_left(x, weight, bias, eps=1e-5):
    y = x.float() - x.float().mean(dim=x.ndim - 1, keepdim=True)
    squares = y.unsqueeze(-2) @ y.unsqueeze(-1) / y.size(-1)
    return (y / squares.squeeze(-1).add(eps).sqrt()).mul(weight).add(bias).to(x.dtype)


@wrong()
def over_dim_1(x, weight, bias, eps=1e-5):
    axis = 1 if x.ndim > 1 else 0
    y = x.float() - x.float().mean(dim=axis, keepdim=True)
    return (y / (y.square().mean(dim=axis, keepdim=True) + eps).sqrt() * weight + bias).to(x.dtype)


@wrong()
def for_three_axes_only(x, weight, bias, eps=1e-5):
    _batch, _seq_len, _dim = x.shape
    return norms.layer_norm(x, weight, bias, eps)


@wrong()
def one_variance_for_a_row(x, weight, bias, eps=1e-5):
    y = x.float() - x.float().mean(-1, keepdim=True)
    return (y / (y.square().mean() + eps).sqrt() * weight + bias).to(x.dtype)


@wrong()
def eps_both_inside_and_outside(x, weight, bias, eps=1e-5):
    y = x.float() - x.float().mean(-1, keepdim=True)
    return (y / ((y.square().mean(-1, keepdim=True) + eps).sqrt() + eps) * weight + bias).to(x.dtype)


@wrong()
def by_absolute_deviation(x, weight, bias, eps=1e-5):
    y = x.float() - x.float().mean(-1, keepdim=True)
    return (y / (y.abs().mean(-1, keepdim=True) + eps) * weight + bias).to(x.dtype)


@wrong()
def only_for_small_numbers(x, weight, bias, eps=1e-5):
    return norms.layer_norm(x.clamp(-500, 500), weight, bias, eps)


@wrong()
def gain_on_the_bias_too(x, weight, bias, eps=1e-5):
    return norms.layer_norm(x, weight, weight * bias, eps)


@wrong()
def bias_before_the_norm(x, weight, bias, eps=1e-5):
    return norms.layer_norm(x + bias, weight, torch.zeros_like(bias), eps)


@wrong()
def mean_in_half_precision(x, weight, bias, eps=1e-5):
    y = (x - x.mean(-1, keepdim=True)).float()
    return (y / (y.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias).to(x.dtype)


HALF_NAMES = ("bfloat16 is not cast", "float16 is not cast", "mean in half precision", "variance in half precision")


@wrong(called="computed in half precision", never=HALF_NAMES)
def by_var_in_the_dtype_of_x(x, weight, bias, eps=1e-5):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


@wrong(called="computed in half precision", never=HALF_NAMES)
def by_squares_in_the_dtype_of_x(x, weight, bias, eps=1e-5):
    x = x - x.mean(dim=-1, keepdim=True)
    return weight * x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps) + bias


@wrong(called="eps outside the root", never=HALF_NAMES)
def std_plus_eps_in_the_dtype_of_x(x, weight, bias, eps=1e-5):
    std = x.var(-1, keepdim=True, unbiased=False).sqrt()
    return (x - x.mean(-1, keepdim=True)) / (std + eps) * weight + bias


@wrong(called="torch's std plus eps")
def as_the_annotated_transformer_has_it(x, weight, bias, eps=1e-5):
    return weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) + bias


@wrong(called="eps as a floor inside the root", never=("1e-5 whatever eps is",))
def variance_clamped(x, weight, bias, eps=1e-5):
    y = x.float()
    var = y.var(-1, unbiased=False, keepdim=True).clamp(min=eps)
    return ((y - y.mean(-1, keepdim=True)) / var.sqrt() * weight + bias).to(x.dtype)


@wrong(called="keepdim forgotten, torch's var")
def without_keepdim(x, weight, bias, eps=1e-5):
    y = x.float()
    return ((y - y.mean(-1)) / torch.sqrt(y.var(-1, unbiased=False) + eps) * weight + bias).to(x.dtype)


@wrong(called="variance in half precision", never=HALF_NAMES[:3])
def variance_of_half_precision(x, weight, bias, eps=1e-5):
    var = x.var(-1, unbiased=False, keepdim=True).float()
    return ((x.float() - x.float().mean(-1, keepdim=True)) / torch.sqrt(var + eps) * weight + bias).to(x.dtype)


@wrong(called="mean and variance taken for constants")
def under_no_grad(x, weight, bias, eps=1e-5):
    with torch.no_grad():
        var, mean = torch.var_mean(x.float(), dim=-1, keepdim=True, unbiased=False)
    return ((x.float() - mean) / torch.sqrt(var + eps) * weight + bias).to(x.dtype)


@wrong(called="only for a contiguous x")
def by_a_view(x, weight, bias, eps=1e-5):
    y = x.view(-1, x.shape[-1]).float()
    y = (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True, unbiased=False) + eps)
    return (y * weight + bias).view(x.shape).to(x.dtype)


@wrong(called="a cast taken for a copy")
def in_place_through_float(x, weight, bias, eps=1e-5):
    v = x.float()
    v -= v.mean(-1, keepdim=True)
    return (v / (v.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias).to(x.dtype)


@wrong(called="divides by dim - 1")
def unbiased_and_float32_out(x, weight, bias, eps=1e-5):
    y = x.float()
    return (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True) + eps).sqrt() * weight + bias


@wrong(never=("computed in half precision",))
def halves_the_other_way(x, weight, bias, eps=1e-5):
    return norms.layer_norm(x, weight, bias, eps).half()


@right
def refuses_what_is_not_asked(x, weight, bias, eps=1e-5):
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise TypeError("float32 or half precision")
    return norms.layer_norm(x, weight, bias, eps)


@wrong(called="gains before the norm")
def gain_first(x, weight, bias, eps=1e-5):
    y = x.float() * weight.float()
    y = y - y.mean(-1, keepdim=True)
    return (y / (y.pow(2).mean(-1, keepdim=True) + eps).sqrt() + bias.float()).to(x.dtype)


@wrong(called="difference of large numbers")
def variance_by_einsum(x, weight, bias, eps=1e-5):
    y = x.float()
    mean = torch.einsum("...d->...", y)[..., None] / y.shape[-1]
    variance = torch.einsum("...d,...d->...", y, y)[..., None] / y.shape[-1] - mean * mean
    return ((y - mean) / torch.sqrt(variance + eps) * weight + bias).to(x.dtype)


@wrong(never=("no gradient to x", "no gradient to weight", "no gradient to bias"))
def no_gradients_in_half_precision(x, weight, bias, eps=1e-5):
    y = norms.layer_norm(x, weight, bias, eps)
    return y if x.dtype == torch.float32 else y.detach()


@wrong(called="a new axis in second place")
def new_axes_in_second_place(x, weight, bias, eps=1e-5):
    y = x.float()
    y = (y - y.mean(-1)[:, None]) / torch.sqrt(y.var(-1, correction=0)[:, None] + eps)
    return (y * weight + bias).to(x.dtype)


@right
def a_group_norm_of_one_group(x, weight, bias, eps=1e-5):
    tokens = x.float().reshape(-1, x.shape[-1])
    return F.group_norm(tokens, 1, weight.float(), bias.float(), eps).reshape(x.shape).to(x.dtype)
