"""Other answers to mended_norm."""

import torch
import torch.nn.functional as F

from llama_lessons import norms
from tests.grading.answers import right, wrong

right(norms.rms_norm)


@right
def as_in_the_notebook(x, weight, eps=1e-5):
    values = x.float()
    scale = (values.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return (values / scale * weight).to(x.dtype)


@right
def scale_turned_round(x, weight, eps=1e-5):
    gain = weight.float() * torch.rsqrt((x.float() ** 2).mean(-1, True) + eps)
    return (x.float() * gain).type(x.dtype)


@right
def scale_into_the_gain(x, weight, eps=1e-5):
    values = x.float()
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    gain = weight.float() / scale
    return (values * gain).to(x.dtype)


@right
def by_the_course(x, weight, eps=1e-5):
    return norms.rms_norm(x, weight, eps)


@right
def mean_put_back(x, weight, eps=1e-5):
    values = x.double()
    mean = values.mean(-1, keepdim=True)
    centred = values - mean
    mean_square = centred.square().mean(-1, keepdim=True) + mean.square()
    return ((centred + mean) / (mean_square + eps).sqrt() * weight).to(x.dtype)


@wrong()
def scale_of_the_whole_text(x, weight, eps=1e-5):
    values = x.float()
    return (values / torch.sqrt(values.square().mean() + eps) * weight.float()).to(x.dtype)


@wrong()
def scale_detached(x, weight, eps=1e-5):
    values = x.float()
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    return (values / scale.detach() * weight.float()).to(x.dtype)


@wrong()
def mean_added_at_the_end(x, weight, eps=1e-5):
    values = x.float()
    mean = values.mean(dim=-1, keepdim=True)
    values = values - mean
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    return (values / scale * weight.float() + mean).to(x.dtype)


@wrong()
def eps_lost_with_the_scale(x, weight, eps=1e-5):
    values = x.float()
    return (values / values.square().mean(dim=-1, keepdim=True).sqrt() * weight.float()).to(x.dtype)


@wrong()
def layer_norm_of_torch(x, weight, eps=1e-5):
    return F.layer_norm(x.float(), weight.shape, weight.float(), None, eps).to(x.dtype)


@wrong(called="not divided at all")
def one_fault_mended(x, weight, eps=1e-5):
    values = x.float()
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    gain = scale * weight.float()
    return (values / scale * gain).to(x.dtype)


@wrong(called="the root is missing")
def divided_by_the_gain_s_scale_too(x, weight, eps=1e-5):
    values = x.float()
    scale = torch.sqrt(values.square().mean(dim=-1, keepdim=True) + eps)
    gain = weight.float() / scale
    return (values / scale * gain).to(x.dtype)


@wrong(called="computed in half precision")
def without_float(x, weight, eps=1e-5):
    return x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight


@wrong(called="scale in half precision")
def scale_cast(x, weight, eps=1e-5):
    scale = torch.sqrt(x.float().square().mean(dim=-1, keepdim=True) + eps)
    return x / scale.to(x.dtype) * weight
