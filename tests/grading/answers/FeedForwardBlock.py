"""Other answers to FeedForwardBlock."""

import torch.nn.functional as F
from torch import nn

from llama_lessons.norms import RMSNorm
from tests.grading.answers import right, wrong


class Given(nn.Module):
    """The constructor, which is right."""

    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.norm = RMSNorm(dim)
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)


@right
class InOneLine(Given):
    def forward(self, x):
        return x + self.down_proj(F.silu(self.gate_proj(self.norm(x))) * self.up_proj(self.norm(x)))


@right
class WithTheNamesAsGiven(Given):
    def forward(self, x):
        read = self.norm(x)
        hidden = F.silu(self.gate_proj(read)) * self.up_proj(read)
        written = self.down_proj(hidden)
        return written.add(x)


@right
class BySigmoid(Given):
    def forward(self, x):
        gate = self.gate_proj(self.norm(x))
        return x + self.down_proj(self.up_proj(self.norm(x)) * gate * gate.sigmoid())


@wrong()
class Halved(Given):
    def forward(self, x):
        read = self.norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(read)) * self.up_proj(read)) / 2


@wrong()
class TanhBehindDown(Given):
    def forward(self, x):
        read = self.norm(x)
        return x + F.tanh(self.down_proj(F.silu(self.gate_proj(read)) * self.up_proj(read)))


@wrong()
class NormTwice(Given):
    def forward(self, x):
        read = self.norm(self.norm(x))
        return x + self.down_proj(F.silu(self.gate_proj(read)) * self.up_proj(read)) + read
