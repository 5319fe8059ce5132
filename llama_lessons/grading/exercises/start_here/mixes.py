"""Functions of a token sequence, (batch, seq_len, dim) to the same, for the exercise of lesson 00."""

from collections.abc import Callable

import torch
from torch import Tensor

Mix = Callable[[Tensor], Tensor]


def attention(x: Tensor) -> Tensor:
    """Self-attention without positions, mask or weights; (batch, seq_len, dim) to the same."""
    return (x @ x.transpose(1, 2) / x.shape[-1] ** 0.5).softmax(dim=-1) @ x


def causal_attention(x: Tensor) -> Tensor:
    """The same, each token seeing itself and earlier ones."""
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
    scores = x @ x.transpose(1, 2) / x.shape[-1] ** 0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ x


def positions(x: Tensor) -> Tensor:
    """A number for each place, shape (seq_len, 1)."""
    return torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None]


def attention_with_positions(x: Tensor) -> Tensor:
    return attention(x + 0.5 * positions(x))


def only_adds_positions(x: Tensor) -> Tensor:
    return x + positions(x)


def knows_distance_to_middle(x: Tensor) -> Tensor:
    """Reading backwards changes nothing here, though order matters."""
    return x * (positions(x) - (x.shape[1] - 1) / 2).abs()


def on_a_ring(own: float, left: float, right: float) -> Mix:
    """A function of each token and its neighbours: shifting all tokens round the ring changes nothing."""
    return lambda x: own * x + left * x.roll(1, dims=1) + right * x.roll(-1, dims=1)


def adds_the_number_of_its_pair(x: Tensor) -> Tensor:
    """Exchanging the first two tokens changes nothing here, though order matters."""
    return x + positions(x) // 2


def adds_the_mean(x: Tensor) -> Tensor:
    return x + x.mean(dim=1, keepdim=True)


def sums_exponentials(x: Tensor) -> Tensor:
    """Large positive sums, which round to other bits in another order, and to nearly the same number."""
    return x.exp().sum(dim=1, keepdim=True).expand_as(x)


def each_token_alone(x: Tensor) -> Tensor:
    return torch.tanh(x) * 3


def weighs_channels(x: Tensor) -> Tensor:
    """Each channel in its own way, all tokens alike."""
    return adds_the_mean(x) * torch.arange(1, x.shape[2] + 1, device=x.device)


def marks_place(place: int, size: float = 0.001) -> Mix:
    """A function that tells one place from the others, softly."""
    return lambda x: attention(x) + size * (positions(x) == place)


def orders_some(axis: int, *signs: int) -> Mix:
    """A function that adds positions to some rows (axis 0) or channels (axis 2), or takes them away."""

    def mix(x: Tensor) -> Tensor:
        sign = torch.tensor([*signs, *[0] * x.shape[axis]][: x.shape[axis]], device=x.device)
        return x + positions(x) * sign.view([-1 if i == axis else 1 for i in range(3)])

    return mix


def turns_signs(x: Tensor) -> Tensor:
    """Order shows in signs alone, not in how long or how large anything is."""
    return x * (1 - 2 * (positions(x) % 2))


def hears(place: int) -> Mix:
    """A function that adds the token at one place to all: only who moves that token notices."""
    return lambda x: x + x[:, place : place + 1]


def orders_negative_rows(x: Tensor) -> Tensor:
    """Only rows whose mean is negative are told positions."""
    return x + positions(x) * (x.mean(dim=(1, 2), keepdim=True) < 0)
