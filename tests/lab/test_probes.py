"""Each probe says yes and no on functions whose answer is known, and sees through what hides it."""

import pytest
import torch
from torch import Tensor, nn

from llama_lessons.lab.probes import is_causal, is_identity_at_zero, is_order_blind, mixes_batch_rows
from llama_lessons.llama import Block, LlamaConfig
from llama_lessons.rope import RotaryEmbedding

X = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(0))


def attention(x: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(x, x, x)


def causal_attention(x: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)


def sequence_first_positions(x: Tensor) -> Tensor:
    """A table laid along the batch: each row is told its place in the batch."""
    return x + torch.arange(x.shape[0])[:, None, None]


@pytest.mark.parametrize(
    ("mix", "blind"),
    [
        (attention, True),
        (torch.tanh, True),
        (causal_attention, False),
        (lambda x: attention(x + torch.arange(7)[:, None]), False),
        (lambda x: x * (torch.arange(7) - 3).abs()[:, None], False),  # symmetric under reversal
    ],
)
def test_is_order_blind(mix, blind: bool) -> None:
    assert is_order_blind(mix, X) is blind


@pytest.mark.parametrize("seq_len", [2, 3])
def test_is_order_blind_on_very_short_sequences(seq_len: int) -> None:
    assert is_order_blind(attention, X[:, :seq_len])
    assert not is_order_blind(lambda x: x + torch.arange(seq_len)[:, None], X[:, :seq_len])


@pytest.mark.parametrize(
    ("mix", "causal"),
    [
        (causal_attention, True),
        (torch.tanh, True),
        (lambda x: x.cumsum(dim=1), True),
        (attention, False),
        (lambda x: x + x[:, -1:], False),
        # A norm hides a constant added to a later token; tokens replaced at random show through it.
        (lambda x: nn.functional.layer_norm(x, (16,)).flip(1), False),
    ],
)
def test_is_causal(mix, causal: bool) -> None:
    assert is_causal(mix, X) is causal


def test_our_block_is_causal() -> None:
    config = LlamaConfig(
        vocab_size=8, dim=16, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=4, hidden_dim=24, max_seq_len=16
    )
    torch.manual_seed(0)
    block, rotate = Block(config), RotaryEmbedding(4)(torch.arange(7))
    assert is_causal(lambda x: block(x, rotate), X)
    assert not mixes_batch_rows(lambda x: block(x, rotate), X)


@pytest.mark.parametrize(
    ("mix", "mixes"),
    [
        (attention, False),
        (sequence_first_positions, True),
        (lambda x: x - x.mean(dim=0), True),
        (lambda x: attention(x.transpose(0, 1)).transpose(0, 1), True),
    ],
)
def test_mixes_batch_rows(mix, mixes: bool) -> None:
    assert mixes_batch_rows(mix, X) is mixes


class Residual(nn.Module):
    def __init__(self, plus: bool) -> None:
        super().__init__()
        self.layer, self.plus = nn.Linear(16, 16), plus

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x) if self.plus else self.layer(x)


def test_is_identity_at_zero_and_puts_the_weights_back() -> None:
    for plus in (True, False):
        block = Residual(plus)
        weight = block.layer.weight.detach().clone()
        assert is_identity_at_zero(block, [block.layer], X) is plus
        assert torch.equal(block.layer.weight, weight)


def test_is_identity_at_zero_puts_the_weights_back_after_an_error() -> None:
    block = Residual(plus=True)
    weight = block.layer.weight.detach().clone()
    with pytest.raises(RuntimeError):
        is_identity_at_zero(block, [block.layer], X[..., :3])
    assert torch.equal(block.layer.weight, weight)
