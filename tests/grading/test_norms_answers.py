"""Answers to the exercises of lesson 05 that no catalogue lists: unusual right ones pass, wrong ones do not."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import norms
from llama_lessons.grading.engine import grade
from llama_lessons.grading.exercise import REGISTRY
from tests.grading.answers import Answers, assert_fails, assert_passes

ANSWERS = Answers()
right, wrong = ANSWERS.right, ANSWERS.wrong


# -------------------------------------------------------------------------------------------- layer_norm


@right("layer_norm")
def by_loops(x, weight, bias, eps=1e-5):
    results = []
    for token in x.float().reshape(-1, x.shape[-1]):
        mean = sum(token) / len(token)
        variance = sum((value - mean) ** 2 for value in token) / len(token)
        channels = [(v - mean) / (variance + eps) ** 0.5 * w + b for v, w, b in zip(token, weight, bias, strict=True)]
        results.append(torch.stack(channels))
    return torch.stack(results).reshape(x.shape).to(x.dtype)


@right("layer_norm")
def by_matmul_with_ones(x, weight, bias, eps=1e-5):
    ones = torch.full((x.shape[-1], 1), 1 / x.shape[-1], device=x.device)
    y = x.float()
    y = y - y @ ones
    return (y * ((y * y) @ ones + eps) ** -0.5 * weight.float() + bias.float()).to(x.dtype)


@right("layer_norm")
def by_var_and_addcmul(x, weight, bias, eps=1e-5):
    y = x.to(torch.float64)
    y = (y - y.mean(-1)[..., None]) / torch.sqrt(torch.var(y, -1, unbiased=False)[..., None] + eps)
    return torch.addcmul(bias.double(), y, weight.double()).type_as(x)


@right("layer_norm")
def by_the_module(x, weight, bias, eps=1e-5):
    norm = nn.LayerNorm(x.shape[-1], eps, elementwise_affine=False, device=x.device)
    return (norm(x.float()) * weight + bias).to(x.dtype)


@right("layer_norm")
def by_the_norm_of_what_is_left(x, weight, bias, eps=1e-5):
    y = x.float() - x.float().mean(dim=x.ndim - 1, keepdim=True)
    squares = y.unsqueeze(-2) @ y.unsqueeze(-1) / y.size(-1)
    return (y / squares.squeeze(-1).add(eps).sqrt()).mul(weight).add(bias).to(x.dtype)


@wrong("layer_norm")
def over_dim_1(x, weight, bias, eps=1e-5):
    axis = 1 if x.ndim > 1 else 0
    y = x.float() - x.float().mean(dim=axis, keepdim=True)
    return (y / (y.square().mean(dim=axis, keepdim=True) + eps).sqrt() * weight + bias).to(x.dtype)


@wrong("layer_norm")
def for_three_axes_only(x, weight, bias, eps=1e-5):
    _batch, _seq_len, _dim = x.shape
    return norms.layer_norm(x, weight, bias, eps)


@wrong("layer_norm")
def one_variance_for_a_row(x, weight, bias, eps=1e-5):
    y = x.float() - x.float().mean(-1, keepdim=True)
    return (y / (y.square().mean() + eps).sqrt() * weight + bias).to(x.dtype)


@wrong("layer_norm")
def eps_both_inside_and_outside(x, weight, bias, eps=1e-5):
    y = x.float() - x.float().mean(-1, keepdim=True)
    return (y / ((y.square().mean(-1, keepdim=True) + eps).sqrt() + eps) * weight + bias).to(x.dtype)


@wrong("layer_norm")
def by_absolute_deviation(x, weight, bias, eps=1e-5):
    y = x.float() - x.float().mean(-1, keepdim=True)
    return (y / (y.abs().mean(-1, keepdim=True) + eps) * weight + bias).to(x.dtype)


@wrong("layer_norm")
def only_for_small_numbers(x, weight, bias, eps=1e-5):
    return norms.layer_norm(x.clamp(-500, 500), weight, bias, eps)


@wrong("layer_norm")
def gain_on_the_bias_too(x, weight, bias, eps=1e-5):
    return norms.layer_norm(x, weight, weight * bias, eps)


@wrong("layer_norm")
def bias_before_the_norm(x, weight, bias, eps=1e-5):
    return norms.layer_norm(x + bias, weight, torch.zeros_like(bias), eps)


@wrong("layer_norm")
def mean_in_half_precision(x, weight, bias, eps=1e-5):
    y = (x - x.mean(-1, keepdim=True)).float()
    return (y / (y.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias).to(x.dtype)


# ---------------------------------------------------------------------------------------------- rms_norm


def refuse(x, weight):
    if tuple(weight.shape) != (x.shape[-1],):
        raise ValueError("weight")


@right("rms_norm")
def token_by_token(x, weight, eps=1e-5):
    refuse(x, weight)
    tokens = [t / torch.sqrt((t**2).sum() / t.numel() + eps) for t in x.float().reshape(-1, len(weight))]
    return (torch.stack(tokens).view(x.shape) * weight).to(x.dtype)


@right("rms_norm")
def by_length(x, weight, eps=1e-5):
    refuse(x, weight)
    y, dim = x.double(), x.shape[-1]
    return (math.sqrt(dim) * y / torch.sqrt(y.norm(dim=-1, keepdim=True) ** 2 + dim * eps) * weight).to(x.dtype)


@right("rms_norm")
def by_vmap(x, weight, eps=1e-5):
    refuse(x, weight)

    def one(token):
        return token * torch.rsqrt(token.dot(token) / token.shape[0] + eps)

    y = torch.func.vmap(one)(x.float().reshape(-1, x.shape[-1]))
    return (y.reshape(x.shape) * weight).to(x.dtype)


@right("rms_norm")
def by_diagonal_matrix(x, weight, eps=1e-5):
    if weight.dim() != 1 or weight.shape[0] != x.shape[-1]:
        raise ValueError(f"{weight.shape} does not fit {x.shape}")
    y = x.float()
    return ((y @ torch.diag(weight.float())) / torch.sqrt(y.pow(2).mean(-1).unsqueeze(-1) + eps)).to(x.dtype)


@right("rms_norm")
def from_variance_and_mean(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.double()
    mean_square = y.var(-1, correction=0, keepdim=True) + y.mean(-1, keepdim=True) ** 2
    return (y / (mean_square + eps) ** 0.5 * weight).to(x.dtype)


@right("rms_norm")
def in_place_on_a_copy(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float().clone()
    y = y.div((y.pow(2).mean(-1, keepdim=True) + eps).sqrt())
    y *= weight
    return y.to(x.dtype)


@wrong("rms_norm")
def with_an_assert(x, weight, eps=1e-5):
    assert weight.shape == x.shape[-1:]
    return norms.rms_norm(x, weight, eps)


@wrong("rms_norm")
def for_one_dim(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / (y.square().sum(-1, keepdim=True) / 64 + eps).sqrt() * weight).to(x.dtype)


@wrong("rms_norm")
def clamped_instead_of_eps(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / y.square().mean(-1, keepdim=True).clamp(min=eps).sqrt() * weight).to(x.dtype)


@wrong("rms_norm")
def eps_under_a_root_of_its_own(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / (y.square().mean(-1, keepdim=True).sqrt() + eps**0.5) * weight).to(x.dtype)


@wrong("rms_norm")
def eps_before_the_square(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y / (y + eps).square().mean(-1, keepdim=True).sqrt() * weight).to(x.dtype)


@wrong("rms_norm")
def through_numpy(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.detach().float().cpu().numpy()
    y = y / np.sqrt((y**2).mean(-1, keepdims=True) + eps) * weight.detach().float().cpu().numpy()
    return torch.from_numpy(y).to(x)


@wrong("rms_norm")
def statistics_in_bfloat16(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps).bfloat16().float() * weight).to(x.dtype)


@wrong("rms_norm")
def scaled_down_first(x, weight, eps=1e-5):
    refuse(x, weight)
    y = x.float() / 1000
    return (y / (y.square().mean(-1, keepdim=True) + eps).sqrt() * weight).to(x.dtype)


@wrong("rms_norm")
def weight_must_divide(x, weight, eps=1e-5):
    if x.shape[-1] % weight.shape[-1]:
        raise ValueError("weight")
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


@wrong("rms_norm")
def a_row_of_gains_accepted(x, weight, eps=1e-5):
    if weight.numel() != x.shape[-1]:
        raise ValueError("weight")
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


# ----------------------------------------------------------------------------------------------- RMSNorm


@right("RMSNorm")
class WithResetParameters(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.zeros(dim)))
        self.dim, self.variance_epsilon = dim, eps
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.constant_(self.weight, 1.0)

    def forward(self, x):
        return F.rms_norm(x.float(), (self.dim,), self.weight, self.variance_epsilon).to(x.dtype)


@right("RMSNorm")
class FromTheCourse(norms.RMSNorm):
    pass


@right("RMSNorm")
class WithAHelper(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.eps = torch.tensor(eps).item()
        self.weight = torch.nn.parameter.Parameter(torch.full((dim,), 1.0))

    def scale(self, x):
        return torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps)

    def forward(self, x):
        y = x.to(torch.float32)
        return (y * self.scale(y) * self.weight).to(x.dtype)


@right("RMSNorm")
class WithEpsAsAnUnsavedBuffer(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.register_buffer("eps", torch.tensor(eps, dtype=torch.float64), persistent=False)
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return norms.rms_norm(x, self.weight, self.eps.item())


@wrong("RMSNorm")
class GainsTwice(norms.RMSNorm):
    def forward(self, x):
        return super().forward(x) * self.weight.to(x.dtype)


@wrong("RMSNorm")
class LearnsItsEps(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.eps = nn.Parameter(torch.tensor(eps))
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@wrong("RMSNorm")
class SavesItsEps(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.register_buffer("eps", torch.tensor(eps))
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return norms.rms_norm(x, self.weight, self.eps.item())


@wrong("RMSNorm")
class CutOffFromItsInput(norms.RMSNorm):
    def forward(self, x):
        y = x.detach()
        return norms.rms_norm(y, self.weight, self.eps)


@wrong("RMSNorm")
class OneGainShort(norms.RMSNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim - 1, eps)


@wrong("RMSNorm")
class ForgetsGainsInForward(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x):
        weight = nn.Parameter(torch.ones(self.dim))
        return norms.rms_norm(x, weight, self.eps)


@right("RMSNorm")
class WithGainsCast(norms.RMSNorm):
    def forward(self, x):
        return norms.rms_norm(x, self.weight.to(x.dtype), self.eps)


@wrong("RMSNorm")
class GainsAsData(norms.RMSNorm):
    def forward(self, x):
        return norms.rms_norm(x, self.weight.data, self.eps)


@wrong("RMSNorm")
class GainsCopied(norms.RMSNorm):
    def forward(self, x):
        return norms.rms_norm(x, torch.tensor(self.weight.tolist(), device=x.device), self.eps)


# ----------------------------------------------------------------------------------------- predict_norms


@right("predict_norms")
def as_list_of_strings_made_numbers():
    return [float(text) for text in ["-1", "-0.2", "-0.2", "-1", "-0.2"]]


@right("predict_norms")
def as_fractions():
    return Fraction(-1), Fraction(-1, 5), Fraction(-20, 100), Fraction(-8, 8), Fraction(-1, 5)


@right("predict_norms")
def as_tensors():
    return tuple(torch.tensor([-1.0, -0.2, -0.2, -1.0, -0.2]))


@right("predict_norms")
def as_numpy_numbers():
    return tuple(np.array([-1.0, -0.2, -0.2, -1.0, -0.2]))


@wrong("predict_norms")
def too_few():
    return -1.0, -0.2, -0.2, -1.0


@wrong("predict_norms")
def both_channels():
    return (-1.0, 1.0), (-0.2, 1.4), (-0.2, 1.4), (-1.0, 1.0), (-0.2, 1.4)


@wrong("predict_norms")
def nan_everywhere():
    return (math.nan,) * 5


@wrong("predict_norms")
def as_text():
    return "-1", "-0.2", "-0.2", "-1", "-0.2"


@wrong("predict_norms")
def all_of_layer_norm():
    return (-1.0,) * 5


# ---------------------------------------------------------------------------------------- pre_norm_block


@right("pre_norm_block")
def with_names_for_all(x, attention_norm, attention, feed_forward_norm, feed_forward):
    residual = x
    hidden = attention_norm(x)
    hidden = attention(hidden)
    hidden = residual + hidden
    residual = hidden
    hidden = feed_forward_norm(hidden)
    hidden = feed_forward(hidden)
    return hidden + residual


@right("pre_norm_block")
def as_nested_modules(x, attention_norm, attention, feed_forward_norm, feed_forward):
    def residual(norm, layer):
        return lambda stream: stream + layer(norm(stream))

    return residual(feed_forward_norm, feed_forward)(residual(attention_norm, attention)(x))


@right("pre_norm_block")
def in_place_on_a_clone(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x + 0
    x += attention(attention_norm(x))
    return x + feed_forward(feed_forward_norm(x))


@right("pre_norm_block")
def by_a_sum_over_a_new_axis(x, attention_norm, attention, feed_forward_norm, feed_forward):
    stream = sum((x, attention(attention_norm(x))))
    return torch.sum(torch.stack([stream, feed_forward(feed_forward_norm(stream))], dim=-1), dim=-1)


@wrong("pre_norm_block")
def half_of_each(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = (x + attention(attention_norm(x))) / 2
    return (x + feed_forward(feed_forward_norm(x))) / 2


@wrong("pre_norm_block")
def attention_twice(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x + attention(attention_norm(x))
    return x + feed_forward(feed_forward_norm(x)) + 0 * attention(attention_norm(x))


@wrong("pre_norm_block")
def residual_cut_off(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x.detach() + attention(attention_norm(x))
    return x.detach() + feed_forward(feed_forward_norm(x))


@wrong("pre_norm_block")
def norm_at_the_end(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x + attention(attention_norm(x))
    return feed_forward_norm(x + feed_forward(feed_forward_norm(x)))


@wrong("pre_norm_block")
def second_norm_of_the_first_copy(x, attention_norm, attention, feed_forward_norm, feed_forward):
    copy = attention_norm(x)
    x = x + attention(copy)
    return x + feed_forward(feed_forward_norm(copy))


# ------------------------------------------------------------------------------------------- mended_norm


@right("mended_norm")
def scale_into_the_gain(x, weight, eps=1e-5):
    values = x.float()
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    gain = weight.float() / scale
    return (values * gain).to(x.dtype)


@right("mended_norm")
def by_the_course(x, weight, eps=1e-5):
    return norms.rms_norm(x, weight, eps)


@right("mended_norm")
def mean_put_back(x, weight, eps=1e-5):
    values = x.double()
    mean = values.mean(-1, keepdim=True)
    centred = values - mean
    mean_square = centred.square().mean(-1, keepdim=True) + mean.square()
    return ((centred + mean) / (mean_square + eps).sqrt() * weight).to(x.dtype)


@wrong("mended_norm")
def scale_of_the_whole_text(x, weight, eps=1e-5):
    values = x.float()
    return (values / torch.sqrt(values.square().mean() + eps) * weight.float()).to(x.dtype)


@wrong("mended_norm")
def scale_detached(x, weight, eps=1e-5):
    values = x.float()
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    return (values / scale.detach() * weight.float()).to(x.dtype)


@wrong("mended_norm")
def mean_added_at_the_end(x, weight, eps=1e-5):
    values = x.float()
    mean = values.mean(dim=-1, keepdim=True)
    values = values - mean
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    return (values / scale * weight.float() + mean).to(x.dtype)


@wrong("mended_norm")
def eps_lost_with_the_scale(x, weight, eps=1e-5):
    values = x.float()
    return (values / values.square().mean(dim=-1, keepdim=True).sqrt() * weight.float()).to(x.dtype)


@wrong("mended_norm")
def layer_norm_of_torch(x, weight, eps=1e-5):
    return F.layer_norm(x.float(), weight.shape, weight.float(), None, eps).to(x.dtype)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.right_ones)
def test_an_unusual_right_answer_passes(exercise, answer):
    assert_passes(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS.wrong_ones)
def test_an_unlisted_wrong_answer_fails(exercise, answer):
    assert_fails(exercise, answer)


def named(exercise, answer):
    misconception = grade(REGISTRY[exercise], answer).misconception
    return misconception and misconception.name


def test_two_mistakes_in_a_prediction_are_told_by_their_numbers():
    verdict = grade(REGISTRY["predict_norms"], lambda: (-1.0, -1 / 3, -2, -1.0, -0.2))
    failed = [result.name for result in verdict.results if not result.passed]
    assert [name[0] for name in failed] == ["2", "3"]
    assert verdict.misconception.name == "divided by the mean"
    assert verdict.points == 1.5


def test_a_second_mistake_does_not_hide_the_first():
    def unbiased_and_float32(x, weight, bias, eps=1e-5):
        y = x.float()
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True) + eps).sqrt() * weight + bias

    assert named("layer_norm", unbiased_and_float32) == "divides by dim - 1"


def scaled_by(scale):
    """RMSNorm but for what it divides by."""

    def answer(x, weight, eps=1e-5):
        refuse(x, weight)
        y = x.float()
        return (y / scale(y, eps) * weight).to(x.dtype)

    return answer


@pytest.mark.parametrize(
    ("scale", "name"),
    [
        (lambda y, eps: y.square().mean(-1, keepdim=True).sqrt().clamp(min=eps), "eps as a floor"),
        (lambda y, eps: y.square().mean(-1, keepdim=True).clamp(min=eps).sqrt(), "eps as a floor inside the root"),
        (lambda y, eps: y.norm(dim=-1, keepdim=True) + eps, "length plus eps"),
        (lambda y, eps: (y.mean(-1, keepdim=True) ** 2 + eps).sqrt(), "square of the mean"),
        (lambda y, eps: (y.square().mean(-1) + eps).sqrt(), "keepdim forgotten"),
        (lambda y, eps: (y.square().mean(1, keepdim=True) + eps).sqrt(), "over axis 1"),
    ],
)
def test_what_rms_norm_divides_by_is_named(scale, name):
    assert named("rms_norm", scaled_by(scale)) == name


def test_a_change_through_float_is_named():
    def in_place(x, weight, bias, eps=1e-5):
        v = x.float()
        v -= v.mean(-1, keepdim=True)
        return (v / (v.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias).to(x.dtype)

    assert named("layer_norm", in_place) == "x.float() taken for a copy"


def test_gains_that_no_gradient_reaches_are_named():
    assert named("RMSNorm", GainsAsData) == "the gains are cut off from the gradient"
