"""SwiGLU against Hugging Face and the formula in float64."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from llama_lessons.feed_forward import SwiGLU


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
