"""Other answers to SwiGLU."""

import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import feed_forward
from tests.grading.answers import right, wrong

right(feed_forward.SwiGLU)


class Projected(nn.Module):
    """The three matrices that all have."""

    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)


@right
class BySigmoid(Projected):
    def forward(self, x):
        gate = self.gate_proj(x)
        return self.down_proj(gate * torch.sigmoid(gate) * self.up_proj(x))


@right
class ByMatrices(Projected):
    def forward(self, x):
        hidden = F.silu(x @ self.gate_proj.weight.T) * (x @ self.up_proj.weight.T)
        return hidden @ self.down_proj.weight.T


@right
class InOneProduct(Projected):
    def forward(self, x):
        both = F.linear(x, torch.cat((self.gate_proj.weight, self.up_proj.weight)))
        gate, up = both.chunk(2, dim=-1)
        return F.linear(nn.SiLU()(gate) * up, self.down_proj.weight)


@right
class WithAModule(Projected):
    def __init__(self, dim, hidden_dim):
        super().__init__(dim, hidden_dim)
        self.activation = nn.SiLU()

    def forward(self, x):
        return self.down_proj(self.up_proj(x).mul(self.activation(self.gate_proj(x))))


@wrong(called="gate and up exchanged")
class SiluOnUp(Projected):
    def forward(self, x):
        return self.down_proj(self.gate_proj(x) * F.silu(self.up_proj(x)))


@wrong()
class Mish(Projected):
    def forward(self, x):
        return self.down_proj(F.mish(self.gate_proj(x)) * self.up_proj(x))


@wrong()
class OnePlusTheGate(Projected):
    def forward(self, x):
        return self.down_proj((1 + F.silu(self.gate_proj(x))) * self.up_proj(x))


@wrong()
class HalfOfTheNeurons(Projected):
    def forward(self, x):
        hidden = F.silu(self.gate_proj(x)) * self.up_proj(x)
        hidden = torch.cat((hidden[..., : -(-hidden.shape[-1] // 2)], 0 * hidden[..., -(-hidden.shape[-1] // 2) :]), -1)
        return self.down_proj(hidden)


@wrong()
class Dropped(Projected):
    def forward(self, x):
        return self.down_proj(F.dropout(F.silu(self.gate_proj(x)) * self.up_proj(x), 0.1))


@wrong()
class KeepsTheFirstText(Projected):
    def forward(self, x):
        if not hasattr(self, "kept"):
            self.kept = x
        return self.down_proj(F.silu(self.gate_proj(self.kept)) * self.up_proj(x))


@wrong()
class Scaled(Projected):
    def forward(self, x):
        hidden = F.silu(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(hidden) / hidden.shape[-1] ** 0.5
