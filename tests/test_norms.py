"""RMSNorm and LayerNorm against Hugging Face, torch and the formulas in float64."""

import re

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from llama_lessons.norms import LayerNorm, RMSNorm, layer_norm, rms_norm


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def formula(x, weight, eps):
    x, weight = x.double(), weight.double()
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps) * weight


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
@pytest.mark.parametrize("shape", [(8,), (3, 1), (2, 5, 64), (1, 7, 576)])
def test_agrees_with_hugging_face(shape, eps):
    x, weight = torch.randn(shape), torch.randn(shape[-1])
    theirs = LlamaRMSNorm(shape[-1], eps)
    theirs.weight.data = weight
    torch.testing.assert_close(rms_norm(x, weight, eps), theirs(x), atol=2e-6, rtol=2e-6)


def test_agrees_with_torch_s_own():
    x, weight = torch.randn(2, 5, 64), torch.randn(64)
    expected = torch.nn.functional.rms_norm(x, (64,), weight, 1e-5)
    torch.testing.assert_close(rms_norm(x, weight), expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gradients", [True, False])
def test_autocast_rounds_nothing(dtype, gradients):
    x, weight = 300 * torch.randn(2, 5, 64).abs(), torch.randn(64)  # squares overflow in float16
    with torch.autocast("cpu", dtype=dtype), torch.set_grad_enabled(gradients):
        got = rms_norm(x, weight)
    torch.testing.assert_close(got, formula(x, weight, 1e-5).float(), atol=2e-6, rtol=2e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_both_ways_agree_on_a_gpu(dtype):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    x, weight = torch.randn(4, 64).to(dtype), torch.randn(64).to(dtype)
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(rms_norm(x.cuda(), weight.cuda()).cpu(), rms_norm(x, weight), atol=2e-6, rtol=step)


def layer_norm_formula(x, weight, bias, eps):
    x, weight, bias = x.double(), weight.double(), bias.double()
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(dim=-1, keepdim=True) + eps) * weight + bias


@pytest.mark.parametrize("eps", [1e-5, 1e-1])
@pytest.mark.parametrize("shape", [(8,), (3, 1), (2, 5, 64), (1, 7, 576)])
def test_layer_norm_agrees_with_the_formula_and_torch(shape, eps):
    x, weight, bias = torch.randn(shape), torch.randn(shape[-1]), torch.randn(shape[-1])
    ours, exact = layer_norm(x, weight, bias, eps), layer_norm_formula(x, weight, bias, eps)
    torch.testing.assert_close(ours, exact.float(), atol=2e-6, rtol=2e-6)
    theirs = torch.nn.LayerNorm(shape[-1], eps)
    theirs.weight.data, theirs.bias.data = weight, bias
    torch.testing.assert_close(ours, theirs(x), atol=2e-6, rtol=2e-6)


def test_layer_norm_ignores_scale_and_shift():
    x, weight, bias = torch.randn(2, 3, 16), torch.randn(16), torch.randn(16)
    torch.testing.assert_close(layer_norm(10 * x + 5, weight, bias, 0.0), layer_norm(x, weight, bias, 0.0))


def test_layer_norm_of_equal_numbers_is_its_bias():
    bias = torch.randn(4)
    assert torch.equal(layer_norm(torch.full((3, 4), 7.0), torch.ones(4), bias), bias.expand(3, 4))


def test_layer_norm_s_gradients():
    x, weight, bias = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 3, 5), 5, 5))
    assert torch.autograd.gradcheck(layer_norm, (x, weight, bias))


def test_layer_norm_module_starts_with_ones_and_zeros_and_uses_its_eps():
    norm = LayerNorm(8, eps=0.5)
    x = torch.randn(2, 8)
    assert {name: tuple(p.shape) for name, p in norm.named_parameters()} == {"weight": (8,), "bias": (8,)}
    torch.testing.assert_close(norm(x), layer_norm_formula(x, torch.ones(8), torch.zeros(8), 0.5).float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("norm", [rms_norm, layer_norm])
def test_dtype_is_kept_and_rounded_once(norm, dtype):
    x, weight, bias = torch.randn(4, 64).to(dtype), torch.randn(64).to(dtype), torch.randn(64).to(dtype)
    if norm is rms_norm:
        exact, normalised = formula(x, weight, 1e-5), rms_norm(x, weight)
    else:
        exact, normalised = layer_norm_formula(x, weight, bias, 1e-5), layer_norm(x, weight, bias)
    assert normalised.dtype == dtype
    bound = torch.finfo(dtype).eps / 2 * exact.abs() + (1e-14 if dtype == torch.float64 else 2e-6)
    assert ((normalised.double() - exact).abs() <= bound).all()


def test_squares_that_overflow_in_float16():
    x = torch.full((2, 8), 1000.0, dtype=torch.float16)
    assert torch.equal(rms_norm(x, torch.ones(8, dtype=torch.float16)), torch.ones(2, 8, dtype=torch.float16))


def test_weight_may_be_more_exact_than_x():
    x, weight = torch.randn(4, 8).bfloat16(), torch.randn(8)
    exact = formula(x, weight, 1e-5)  # half a step of bfloat16, and no second rounding from the weight's
    assert ((rms_norm(x, weight).double() - exact).abs() <= torch.finfo(x.dtype).eps / 2 * exact.abs() + 2e-6).all()


def test_eps_is_inside_the_root():
    x = torch.full((1, 4), 1e-3)
    # 1e-3 / sqrt(1e-6 + 1e-2); eps beside the root would give 1e-3 / (1e-3 + 1e-2), nine times as much
    torch.testing.assert_close(rms_norm(x, torch.ones(4), eps=1e-2), torch.full((1, 4), 0.0099995), atol=1e-6, rtol=0)
    assert torch.equal(rms_norm(torch.zeros(1, 4), torch.ones(4)), torch.zeros(1, 4))


def test_each_token_by_its_own_root_mean_square_with_no_mean_taken():
    x, weight = torch.randn(2, 3, 16), torch.ones(16)
    normalised = rms_norm(x, weight, eps=0.0)
    torch.testing.assert_close(normalised.square().mean(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(rms_norm(10 * x, weight, eps=0.0), normalised)
    assert (rms_norm(x + 5, weight, eps=0.0) - normalised).abs().max() > 0.5
    changed = x.clone()
    changed[0, 1] = 100.0
    others = torch.ones(2, 3, dtype=torch.bool)
    others[0, 1] = False
    assert torch.equal(rms_norm(changed, weight, eps=0.0)[others], normalised[others])


def test_gradients():
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rms_norm, (x, weight))


def test_module_starts_with_gains_of_one_and_uses_its_eps():
    norm = RMSNorm(8, eps=0.5)
    x = torch.randn(2, 8)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]
    torch.testing.assert_close(norm(x), formula(x, torch.ones(8), 0.5).float())


@pytest.mark.parametrize(("x", "weight"), [((2, 8), (4,)), ((2, 8), (1,)), ((2, 1), (8,)), ((2, 8), (2, 8))])
def test_a_weight_that_does_not_fit_is_named(x, weight):
    message = f"weight {weight} must hold one number for each channel of x {x}"
    with pytest.raises(ValueError, match=re.escape(message)):
        rms_norm(torch.ones(x), torch.ones(weight))


def test_a_bias_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=re.escape("bias (4,) must hold one number for each channel of x (2, 8)")):
        layer_norm(torch.ones(2, 8), torch.ones(8), torch.ones(4))
    with pytest.raises(ValueError, match=re.escape("weight (4,) must hold one number")):
        layer_norm(torch.ones(2, 8), torch.ones(4), torch.ones(8))
