"""SwiGLU and the GELU layer against Hugging Face and the formulas in float64, and the published sizes."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from llama_lessons.feed_forward import GeluMLP, SwiGLU, swiglu_hidden_dim


@pytest.mark.parametrize("shape", [(16,), (2, 16), (2, 5, 16)])
def test_agrees_with_hugging_face_and_the_formula(shape):
    torch.manual_seed(0)
    theirs = LlamaMLP(LlamaConfig(hidden_size=16, intermediate_size=40, num_attention_heads=2))
    ours = SwiGLU(16, 40)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs(x), atol=2e-6, rtol=0)
    gate, up, down = (layer.weight.double() for layer in (ours.gate_proj, ours.up_proj, ours.down_proj))
    gated = x.double() @ gate.T
    formula = (gated / (1 + torch.exp(-gated)) * (x.double() @ up.T)) @ down.T
    torch.testing.assert_close(ours(x), formula.float(), atol=2e-6, rtol=0)


def test_the_gate_is_the_one_that_bends():
    torch.manual_seed(0)
    layer = SwiGLU(8, 24)
    x = torch.randn(5, 8)
    out = layer(x)
    with torch.no_grad():
        layer.up_proj.weight.mul_(-2)
        torch.testing.assert_close(layer(x), -2 * out)
        layer.gate_proj.weight.mul_(-2)
    assert (layer(x) - 4 * out).abs().max() > 0.01


def test_three_matrices_and_no_bias():
    assert sum(parameter.numel() for parameter in SwiGLU(576, 1536).parameters()) == 3 * 576 * 1536


@pytest.mark.parametrize("shape", [(16,), (2, 16), (2, 5, 16)])
def test_gelu_layer_agrees_with_the_formula(shape):
    torch.manual_seed(0)
    layer, x = GeluMLP(16, 64), torch.randn(shape)
    up, down = layer.up_proj, layer.down_proj
    hidden = x.double() @ up.weight.double().T + up.bias.double()
    # x times the share of a standard normal below x
    bent = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    torch.testing.assert_close(layer(x), (bent @ down.weight.double().T + down.bias.double()).float())


def test_gelu_layer_bends_between_its_projections_and_not_after_them():
    layer = GeluMLP(4, 8)
    with torch.no_grad():
        layer.down_proj.bias.fill_(-3.0)
        layer.down_proj.weight.zero_()
    assert torch.equal(layer(torch.randn(5, 4)), torch.full((5, 4), -3.0))


def test_swiglu_and_gelu_layer_of_a_width_have_nearly_as_many_parameters():
    gelu, swiglu = (sum(p.numel() for p in m.parameters() if p.ndim == 2) for m in _of_width_4096())
    assert (gelu, swiglu) == (134_217_728, 135_266_304)


def _of_width_4096():
    with torch.device("meta"):
        return GeluMLP(4096, 4 * 4096), SwiGLU(4096, swiglu_hidden_dim(4096))


@pytest.mark.parametrize(
    ("arguments", "published"),
    [
        ((4096,), 11_008),  # Llama 1 and 2, 7B
        ((5120,), 13_824),  # 13B
        ((6656,), 17_920),  # Llama 1 33B
        ((8192,), 22_016),  # Llama 1 65B
        ((8192, 4096, 1.3), 28_672),  # Llama 2 and 3, 70B
        ((4096, 1024, 1.3), 14_336),  # Llama 3 8B
        ((2048, 256, 1.5), 8192),  # Llama 3.2 1B
        ((16_384, 4096, 1.2), 53_248),  # Llama 3.1 405B
    ],
)
def test_published_hidden_sizes(arguments, published):
    assert swiglu_hidden_dim(*arguments) == published


@given(st.integers(1, 20_000), st.integers(1, 4096))
def test_hidden_size_is_two_thirds_of_four_dim_rounded_up(dim, multiple_of):
    hidden_dim = swiglu_hidden_dim(dim, multiple_of)
    assert hidden_dim % multiple_of == 0
    assert 0 <= hidden_dim - (8 * dim) // 3 < multiple_of


@pytest.mark.parametrize("arguments", [(0,), (64, 0), (64, 256, 0.0), (-1,)])
def test_a_size_that_cannot_be_is_named(arguments):
    with pytest.raises(ValueError, match=re.escape("must all be positive")):
        swiglu_hidden_dim(*arguments)
