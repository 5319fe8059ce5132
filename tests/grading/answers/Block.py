"""Other answers to Block."""

import torch.nn.functional as F
from torch import nn

from llama_lessons.grading.exercises.attention.Attention import Attention
from llama_lessons.grading.exercises.feed_forward.SwiGLU import SwiGLU
from llama_lessons.norms import RMSNorm
from tests.grading.answers import right, wrong


class Made(nn.Module):
    """The four modules that all have."""

    def __init__(self, config):
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config.dim, config.n_heads, config.n_kv_heads, config.head_dim)
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = SwiGLU(config.dim, config.hidden_dim)


@right
class StepByStep(Made):
    def forward(self, x, cos, sin, cache=None):
        shortcut = x
        x = self.attention_norm(x)
        x = self.attention(x, cos=cos, sin=sin, cache=cache)
        x = shortcut + x
        shortcut = x
        return shortcut + self.feed_forward(self.feed_forward_norm(x))


@right
class TorchNorms(Made):
    def __init__(self, config):
        super().__init__(config)
        self.attention_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.feed_forward_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)

    def forward(self, x, cos, sin, cache=None):
        for norm, layer, more in (
            (self.attention_norm, self.attention, (cos, sin, cache)),
            (self.feed_forward_norm, self.feed_forward, ()),
        ):
            x = x.add(layer(norm(x), *more))
        return x


@right
class NormsMadeLast(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.feed_forward = SwiGLU(hidden_dim=config.hidden_dim, dim=config.dim)
        sizes = {"n_heads": config.n_heads, "n_kv_heads": config.n_kv_heads, "head_dim": config.head_dim}
        self.attention = Attention(config.dim, **sizes)
        self.feed_forward_norm, self.attention_norm = (RMSNorm(config.dim, config.norm_eps) for _ in range(2))

    def forward(self, x, cos, sin, cache=None):
        x = x + self.attention(self.attention_norm(x), cos, sin, cache)
        return self.feed_forward(self.feed_forward_norm(x)) + x


@wrong(called="both layers read x")
class SideBySide(Made):
    def forward(self, x, cos, sin, cache=None):
        a, b = self.attention_norm(x), self.feed_forward_norm(x)
        return x + self.attention(a, cos, sin, cache) + self.feed_forward(b)


@wrong(called=None)
class SumsScaled(Made):
    def forward(self, x, cos, sin, cache=None):
        x = (x + self.attention(self.attention_norm(x), cos, sin, cache)) / 2**0.5
        return (x + self.feed_forward(self.feed_forward_norm(x))) / 2**0.5


@wrong()
class OneNorm(Made):
    """The second norm is the first one: a parameter too few."""

    def __init__(self, config):
        super().__init__(config)
        self.feed_forward_norm = self.attention_norm

    def forward(self, x, cos, sin, cache=None):
        x = x + self.attention(self.attention_norm(x), cos, sin, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


@wrong(never=("no attention",))
class AttentionHalved(Made):
    def forward(self, x, cos, sin, cache=None):
        x = x + self.attention(self.attention_norm(x), cos, sin, cache) / 2
        return x + self.feed_forward(self.feed_forward_norm(x))


@wrong(never=("both norms with the default eps",))
class EpsOfAMillionth(Made):
    def forward(self, x, cos, sin, cache=None):
        def norm(module, x):
            return F.rms_norm(x, module.weight.shape, module.weight, 1e-6)

        x = x + self.attention(norm(self.attention_norm, x), cos, sin, cache)
        return x + self.feed_forward(norm(self.feed_forward_norm, x))
