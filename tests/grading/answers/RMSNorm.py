"""Other answers to RMSNorm."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import norms
from tests.grading.answers import right, wrong

right(norms.RMSNorm)


@right
class FromTorch(nn.RMSNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


@right
class WithAPartial(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim).fill_(1.0))
        self.norm = partial(norms.rms_norm, eps=eps)

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.norm.keywords["eps"]) * self.weight).type_as(x)


@right
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


@right
class FromTheCourse(norms.RMSNorm):
    pass


@right
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


@right
class WithEpsAsAnUnsavedBuffer(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.register_buffer("eps", torch.tensor(eps, dtype=torch.float64), persistent=False)
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return norms.rms_norm(x, self.weight, self.eps.item())


@wrong(called="gains twice")
class GainsTwice(norms.RMSNorm):
    def forward(self, x):
        return super().forward(x) * self.weight.to(x.dtype)


@wrong(called="a single number is learned too")
class LearnsItsEps(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.eps = nn.Parameter(torch.tensor(eps))
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@wrong(called="something else is saved")
class SavesItsEps(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.register_buffer("eps", torch.tensor(eps))
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return norms.rms_norm(x, self.weight, self.eps.item())


@wrong(called="no gradient to x")
class CutOffFromItsInput(norms.RMSNorm):
    def forward(self, x):
        y = x.detach()
        return norms.rms_norm(y, self.weight, self.eps)


@wrong()
class OneGainShort(norms.RMSNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim - 1, eps)


@wrong()
class ForgetsGainsInForward(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x):
        weight = nn.Parameter(torch.ones(self.dim))
        return norms.rms_norm(x, weight, self.eps)


@right
class WithGainsCast(norms.RMSNorm):
    def forward(self, x):
        return norms.rms_norm(x, self.weight.to(x.dtype), self.eps)


@wrong(called="the gains are cut off from the gradient")
class GainsAsData(norms.RMSNorm):
    def forward(self, x):
        return norms.rms_norm(x, self.weight.data, self.eps)


@wrong(called="the gains are cut off from the gradient")
class GainsCopied(norms.RMSNorm):
    def forward(self, x):
        return norms.rms_norm(x, torch.tensor(self.weight.tolist(), device=x.device), self.eps)


@wrong(called="the gains are recast")
class RecastByTo(norms.RMSNorm):
    def forward(self, x):
        self.to(x.dtype)
        return super().forward(x)


@wrong(called="the gains are recast")
class RecastByData(norms.RMSNorm):
    def forward(self, x):
        self.weight.data = self.weight.data.to(x.dtype)
        return super().forward(x)


@wrong()
class GainsReplaced(norms.RMSNorm):
    def forward(self, x):
        self.weight = nn.Parameter(self.weight.to(x.dtype))
        return super().forward(x)


@wrong(called="half precision, and float32 out")
class InTheDtypeOfX(norms.RMSNorm):
    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


@wrong(called="computed in half precision")
class CastAtTheEndAlone(norms.RMSNorm):
    def forward(self, x):
        return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).type_as(x)


@wrong(called="float32 goes out", never=("half precision, and float32 out",))
class CastBeforeTheGains(norms.RMSNorm):
    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


@wrong(never=("computed in half precision",))
class KeepsItsFirstDtype(norms.RMSNorm):
    def forward(self, x):
        self.dtype = getattr(self, "dtype", x.dtype)
        return super().forward(x).to(self.dtype)


@wrong(never=("root mean square taken for a constant",))
class KeepsItsFirstScale(norms.RMSNorm):
    def forward(self, x):
        if not hasattr(self, "scale"):
            self.scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (x.float() * self.scale * self.weight).to(x.dtype)


@wrong()
class InTrainingAlone(norms.RMSNorm):
    def forward(self, x):
        return super().forward(x) if self.training else x


@wrong(called="no gradients at all", never=("the gains are cut off from the gradient",))
class UnderNoGrad(norms.RMSNorm):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


@wrong(called="the gains have another name")
class Gamma(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.eps, self.gamma = eps, nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return norms.rms_norm(x, self.gamma, self.eps)


@wrong(called="one parameter too many")
class Beta(norms.RMSNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)
        self.beta = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return (super().forward(x) + self.beta).to(x.dtype)


@wrong(called="the mean is taken away")
class LayerNormWithoutBias(nn.LayerNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps, bias=False)

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


wrong(called="torch's eps by itself")(nn.RMSNorm)


@wrong(called="something else is saved")
class HoldsTorchsOwn(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps)
        self.weight = self.norm.weight

    def forward(self, x):
        return self.norm(x.float()).to(x.dtype)


@wrong(called="LayerNorm itself")
class LayerNormWithBias(nn.LayerNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps=eps)

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


class KeepsScales(norms.RMSNorm):
    def scale(self, x):
        return torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)

    def forward(self, x):
        self.scales = getattr(self, "scales", {})
        scale = self.scales.setdefault(x.shape, self.scale(x))
        return (x.float() * scale * self.weight).to(x.dtype)


wrong(called="the root mean square is kept")(KeepsScales)


@wrong(never=("root mean square taken for a constant", "no gradient to x"))
class KeepsScalesInInference(KeepsScales):
    def forward(self, x):
        if not x.requires_grad:
            return super().forward(x)
        return (x.float() * self.scale(x) * self.weight).to(x.dtype)


@wrong(never=("root mean square taken for a constant",))
class KeepsARunningMean(norms.RMSNorm):
    def forward(self, x):
        mean_square = x.float().square().mean(-1, keepdim=True)
        running = getattr(self, "running", None)
        if running is not None and running.shape == mean_square.shape:
            mean_square = 0.9 * running + 0.1 * mean_square
        self.running = mean_square.detach()
        return (x.float() * torch.rsqrt(mean_square + self.eps) * self.weight).to(x.dtype)


@wrong(never=("no gradient to x", "no gradients at all", "the gains are cut off from the gradient"))
class NoGradientsInHalfPrecision(norms.RMSNorm):
    def forward(self, x):
        return super().forward(x) if x.dtype == torch.float32 else super().forward(x).detach()


@wrong(called="one parameter too many, and float32 out")
class BiasInFloat32(norms.RMSNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return super().forward(x) + self.bias


@wrong(called="a single number is learned too")
class LearnsAScale(norms.RMSNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return super().forward(x) * self.scale.to(x.dtype)


@wrong()
class MadeAtTheFirstCall(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.dim, self.eps, self.weight = dim, eps, None

    def forward(self, x):
        if self.weight is None:
            self.weight = nn.Parameter(torch.ones(self.dim, device=x.device))
        return norms.rms_norm(x, self.weight, self.eps)
