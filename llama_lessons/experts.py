"""Lesson 08, outlook. A mixture of experts: several feed-forward layers, of which each token is sent to a few.

A router scores all experts for a token. The k best are computed, and their results are mixed by the softmax of their
scores, taken over those k alone, as in Mixtral; Switch takes the softmax over all experts, and the choice after it. So
a token costs k experts, while all of them lie in memory.

Nothing makes a router use all experts. What evens out their use in training is `balance_loss`, added to the loss with
a small factor.

Not done here: experts on devices of their own, a limit of tokens per expert, and experts that all tokens share.

Sources: Shazeer et al. 2017, "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer"; Fedus
et al. 2021, "Switch Transformers"; Jiang et al. 2024, "Mixtral of Experts".
"""

import torch
from torch import Tensor, nn

from llama_lessons.feed_forward import SwiGLU

__all__ = ["MixtureOfExperts", "balance_loss", "top_k_router"]


def top_k_router(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Which experts each token is sent to, and how much each counts: the softmax of the k largest logits alone.

    Args:
        logits: a score for each expert, shape (..., n_experts).
        k: experts per token.

    Returns:
        Weights, shape (..., k), that sum to 1; the experts' numbers, int64, the same shape, the best first.

    Raises:
        ValueError: if k is below 1 or above the number of experts.
    """
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k ({k}) must be from 1 to the number of experts ({logits.shape[-1]})")
    best, experts = logits.float().topk(k, dim=-1)
    return best.softmax(dim=-1).to(logits.dtype), experts


def balance_loss(logits: Tensor, experts: Tensor) -> Tensor:
    """n_experts * sum over experts of (share of choices) * (mean probability): 1 where use is even (Switch, eq. 4).

    The share cannot be differentiated; gradients flow through the probabilities, and push down those of experts that
    are chosen often.

    Args:
        logits: of all tokens, shape (..., n_experts).
        experts: what the router chose, shape (..., k).
    """
    n_experts = logits.shape[-1]
    share = torch.bincount(experts.flatten(), minlength=n_experts) / experts.numel()
    probability = logits.float().softmax(dim=-1).flatten(0, -2).mean(dim=0)
    return n_experts * (share * probability).sum()


class MixtureOfExperts(nn.Module):
    """A feed-forward layer of several SwiGLU, of which each token goes through k.

    Args:
        dim: channels of a token.
        hidden_dim: channels inside each expert.
        n_experts: experts.
        k: experts per token.
    """

    def __init__(self, dim: int, hidden_dim: int, n_experts: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.router = nn.Linear(dim, n_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(dim, hidden_dim) for _ in range(n_experts))

    def forward(self, x: Tensor) -> Tensor:
        """Take x, (..., dim); return the same shape. Each token is worked on by itself."""
        # (..., dim) -> (tokens, dim)
        tokens = x.flatten(0, -2)
        weights, experts = top_k_router(self.router(tokens), self.k)
        mixed = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            # Which tokens have chosen this expert, and in which place
            token, place = (experts == number).nonzero(as_tuple=True)
            mixed = mixed.index_add(0, token, expert(tokens[token]) * weights[token, place, None])
        return mixed.view_as(x)
