"""The workbench: Llama with parts exchanged, one at a time."""

import dataclasses

import pytest
import torch

from llama_lessons.extrapolation import AlibiBias
from llama_lessons.feed_forward import GeluMLP
from llama_lessons.initialization import parameter_roles
from llama_lessons.llama import Block, Llama
from llama_lessons.norms import LayerNorm, RMSNorm
from llama_lessons.positions import SinusoidalPositionalEncoding
from llama_lessons.rope import RotaryEmbedding
from llama_lessons.rope_scaling import LinearScaling
from llama_lessons.workbench import ARTICLE_PARTS, Decoder, NoPositions, Parts, PostNormBlock
from tests.test_llama import TINY, shaken, tokens


@pytest.mark.parametrize("scaling", [None, LinearScaling(factor=4.0)])
def test_made_of_llama_s_parts_it_is_a_llama(scaling):
    config = dataclasses.replace(TINY, rope_scaling=scaling)
    torch.manual_seed(0)
    llama = Llama(config)
    torch.manual_seed(0)
    decoder = Decoder(config)
    assert llama.state_dict().keys() == decoder.state_dict().keys()
    assert all(torch.equal(weight, llama.state_dict()[name]) for name, weight in decoder.state_dict().items())
    assert torch.equal(decoder(tokens(2, 9)), llama(tokens(2, 9)))


def test_without_positions_one_layer_cannot_tell_the_order_of_the_past():
    # With more layers it could: the causal mask alone makes what the first ones say differ by place.
    model = shaken(Decoder(dataclasses.replace(TINY, n_layers=1), Parts(rope=lambda config: NoPositions())))
    x, swapped = torch.tensor([[3, 14, 15, 9]]), torch.tensor([[15, 3, 14, 9]])
    torch.testing.assert_close(model(x)[:, -1], model(swapped)[:, -1], atol=2e-6, rtol=0)
    model.rope = RotaryEmbedding(TINY.head_dim)
    assert (model(x) - model(swapped))[:, -1].abs().max() > 1e-3


def test_articles_model_is_the_decoder_with_other_parts():
    torch.manual_seed(0)
    model = Decoder(TINY, ARTICLE_PARTS)
    kinds = [type(part) for part in (model.norm, model.blocks[0].feed_forward, model.rope)]
    assert kinds == [LayerNorm, GeluMLP, NoPositions]
    assert model.positions.weight.shape == (TINY.max_seq_len, TINY.dim)
    assert model.blocks[0].attention.n_kv_heads == TINY.n_heads
    assert model(tokens(2, 9)).shape == (2, 9, TINY.vocab_size)
    with pytest.raises(ValueError, match=f"max_seq_len is {TINY.max_seq_len}"):
        model(tokens(1, TINY.max_seq_len + 1))


ONE_AT_A_TIME = {
    "positions": {"positions": lambda config: SinusoidalPositionalEncoding(config.dim)},
    "rope": {"positions": None, "rope": Parts().rope},
    "alibi": {"positions": None, "bias": lambda config: AlibiBias(config.n_heads)},
    "norm": {"norm": lambda config: RMSNorm(config.dim, config.norm_eps)},
    "attention": {"attention": Parts().attention},
    "feed_forward": {"feed_forward": Parts().feed_forward},
    "block": {"block": PostNormBlock},
    "initialize": {"initialize": Parts().initialize},
}


@pytest.mark.parametrize("swap", ONE_AT_A_TIME.values(), ids=ONE_AT_A_TIME)
def test_one_part_is_swapped(swap):
    model = shaken(Decoder(TINY, dataclasses.replace(ARTICLE_PARTS, **swap)))
    assert set(parameter_roles(model)) == {name for name, _ in model.named_parameters()}
    x, mask = tokens(2, 11), torch.ones(2, 11, dtype=torch.bool)
    mask[1, :4] = False
    with torch.inference_mode():
        # causal, with a cache and with padding as without
        expected, cache = model(x), model.new_cache(2, 11)
        pieces = [model(piece, cache=cache) for piece in x.split([5, 1, 1, 4], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected, atol=1e-5, rtol=0)
        padded = model(x, attention_mask=mask)
        torch.testing.assert_close(padded[1, 4:], model(x[1:, 4:])[0], atol=1e-5, rtol=0)
        later = torch.cat((x[:, :6], tokens(2, 5) + 1), dim=1) % TINY.vocab_size
        torch.testing.assert_close(model(later)[:, :6], expected[:, :6], atol=1e-5, rtol=0)
        assert (model(later)[:, 6:] - expected[:, 6:]).abs().max() > 1e-3


def test_alibi_takes_its_bias_from_distance_alone():
    model = shaken(Decoder(TINY, dataclasses.replace(ARTICLE_PARTS, **ONE_AT_A_TIME["alibi"])))
    x, positions = tokens(2, 12), torch.arange(12)
    torch.testing.assert_close(model(x, positions + 1000), model(x), atol=1e-5, rtol=0)
    assert (model(x, 2 * positions) - model(x)).abs().max() > 1e-3
    cache = model.new_cache(2, 12)
    model(x[:, :6], positions[:6], cache=cache)
    with pytest.raises(ValueError, match="positions of the cached tokens are not known"):
        model(x[:, 6:], positions[6:], cache=cache)


def test_post_norm_normalises_the_residual_stream_itself():
    x, rotate = torch.randn(2, 5, TINY.dim), RotaryEmbedding(TINY.head_dim)(torch.arange(5))
    pre, post = Block(TINY), PostNormBlock(TINY, Parts())
    assert (pre(100 * x, rotate).square().mean(-1) > 1000).all()
    torch.testing.assert_close(post(100 * x, rotate).square().mean(-1), torch.ones(2, 5), atol=1e-4, rtol=0)
