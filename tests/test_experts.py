"""A mixture of experts, held to the sum that it stands for, and to transformers' Mixtral."""

import pytest
import torch

from llama_lessons.experts import MixtureOfExperts, balance_loss, top_k_router


@pytest.fixture
def layer() -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts(dim=12, hidden_dim=20, n_experts=5, k=2)


@pytest.mark.parametrize("shape", [(3, 4, 12), (7, 12), (1, 1, 12)])
def test_each_token_is_the_weighted_sum_of_its_best_experts(layer, shape):
    x = torch.randn(shape)
    probabilities = layer.router(x).softmax(dim=-1)
    kept = probabilities * (probabilities >= probabilities.topk(2, dim=-1).values[..., -1:])
    kept = kept / kept.sum(dim=-1, keepdim=True)
    every = torch.stack([expert(x) for expert in layer.experts], dim=-1)
    torch.testing.assert_close(layer(x), (every * kept[..., None, :]).sum(-1), rtol=1e-5, atol=1e-6)


def test_it_agrees_with_mixtral_of_transformers(layer):
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    sizes = {"hidden_size": 12, "intermediate_size": 20, "num_local_experts": 5, "num_experts_per_tok": 2}
    theirs = MixtralSparseMoeBlock(MixtralConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)).eval()
    with torch.no_grad():
        theirs.gate.weight.copy_(layer.router.weight)
        for number, expert in enumerate(layer.experts):
            both = torch.cat((expert.gate_proj.weight, expert.up_proj.weight))
            theirs.experts.gate_up_proj[number].copy_(both)
            theirs.experts.down_proj[number].copy_(expert.down_proj.weight)
        x = torch.randn(2, 9, 12)
        theirs_says = theirs(x)
        theirs_says = theirs_says[0] if isinstance(theirs_says, tuple) else theirs_says
        torch.testing.assert_close(layer(x), theirs_says, rtol=1e-5, atol=2e-6)


def test_experts_that_nobody_chooses_get_no_gradient(layer):
    x = torch.randn(1, 12)
    layer(x).sum().backward()
    _, chosen = top_k_router(layer.router(x), 2)
    moved = {n for n, expert in enumerate(layer.experts) if expert.down_proj.weight.grad.abs().sum() > 0}
    assert moved == set(chosen.flatten().tolist())
    assert layer.router.weight.grad.abs().sum() > 0


def test_weights_are_of_the_chosen_alone_and_sum_to_1():
    weights, experts = top_k_router(torch.tensor([[0.0, 3.0, -1.0, 3.0]]), 2)
    assert sorted(experts[0].tolist()) == [1, 3]
    assert weights.tolist() == [[0.5, 0.5]]
    assert top_k_router(torch.randn(4, 8).bfloat16(), 3)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("k", [0, 6])
def test_more_experts_than_there_are_or_none_are_refused(k):
    with pytest.raises(ValueError, match=rf"k \({k}\) must be from 1 to the number of experts \(5\)"):
        top_k_router(torch.zeros(2, 5), k)


def test_even_use_costs_1_and_one_expert_for_all_costs_their_number():
    logits = torch.eye(4).repeat(3, 1) * 50
    assert balance_loss(logits, logits.topk(1).indices).item() == pytest.approx(1)
    always = torch.tensor([[50.0, 0, 0, 0]]).expand(6, 4)
    assert balance_loss(always, always.topk(1).indices).item() == pytest.approx(4)


def test_the_balance_loss_pushes_down_what_is_chosen_often():
    logits = torch.tensor([[1.0, 0.0, -1.0]]).repeat(5, 1).requires_grad_()
    balance_loss(logits, logits.topk(1).indices).backward()
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()
