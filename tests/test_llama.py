"""The whole model against Hugging Face's, and its parts against the mistakes they are known for."""

import dataclasses
import re

import pytest
import torch
import transformers

from llama_lessons.llama import Llama, LlamaConfig, NoPositions, smollm2_135m
from llama_lessons.rope import RotaryEmbedding, to_interleaved

TINY = LlamaConfig(
    vocab_size=97, dim=36, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=8, hidden_dim=56, max_seq_len=64
)
NAMES = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "attention": "self_attn",
    "feed_forward": "mlp",
    "blocks": "model.layers",
}


def hugging_face(model):
    """Hugging Face's Llama with the same sizes and weights."""
    config = model.config
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.dim,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.hidden_dim,
            max_position_embeddings=config.max_seq_len,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=config.tied_embeddings,
        )
    ).eval()
    theirs.load_state_dict(
        {".".join(NAMES.get(part, part) for part in name.split(".")): w for name, w in model.state_dict().items()}
    )
    return theirs


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Llama(TINY)


def tokens(*shape, config=TINY):
    return torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(1, 1), (2, 17), (3, 64)])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"tied_embeddings": True},
        {"n_kv_heads": 6},
        {"n_kv_heads": 1},
        {"rope_theta": 500_000.0, "norm_eps": 1e-2},
        {"n_heads": 4, "n_kv_heads": 4},
    ],
    ids=str,
)
def test_agrees_with_hugging_face(change, shape):
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, **change)
    model = Llama(config)
    x = tokens(*shape)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), hugging_face(model)(x).logits, atol=2e-5, rtol=0)


def test_gradients_agree_with_hugging_face(model):
    theirs, x = hugging_face(model), tokens(2, 9)
    model(x).square().mean().backward()
    theirs(x).logits.square().mean().backward()
    their_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in model.named_parameters():
        expected = their_gradients[".".join(NAMES.get(part, part) for part in name.split("."))]
        torch.testing.assert_close(parameter.grad, expected, atol=1e-6, rtol=1e-4)


def test_no_token_sees_a_later_one_nor_another_row(model):
    x = tokens(2, 8)
    logits = model(x)
    for t in range(8):
        changed = x.clone()
        changed[0, t] = (x[0, t] + 1) % TINY.vocab_size
        moved = (model(changed) - logits).abs().amax(dim=-1) > 1e-6
        assert moved[0].tolist() == [False] * t + [True] * (8 - t)
        assert not moved[1].any()


def test_positions_count_by_distance_alone(model):
    x, positions = tokens(2, 12), torch.arange(12)
    expected = model(x)
    assert torch.equal(model(x, positions), expected)
    torch.testing.assert_close(model(x, positions + 1000), expected, atol=2e-5, rtol=0)
    assert (model(x, 2 * positions) - expected).abs().max() > 1e-3


def test_each_row_may_stand_elsewhere(model):
    x, positions = tokens(2, 5), torch.tensor([[0, 1, 2, 3, 4], [0, 2, 4, 6, 9]])
    together = model(x, positions)
    for row in range(2):
        torch.testing.assert_close(together[row], model(x[row : row + 1], positions[row])[0], atol=2e-6, rtol=0)


def test_rope_is_swapped_by_assignment(model):
    x = tokens(2, 12)
    expected = model(x)
    model.rope = RotaryEmbedding(TINY.head_dim, TINY.rope_theta, layout="interleaved")
    assert (model(x) - expected).abs().max() > 1e-3
    with torch.no_grad():
        for block in model.blocks:
            attention = block.attention
            attention.q_proj.weight.copy_(to_interleaved(attention.q_proj.weight, TINY.n_heads))
            attention.k_proj.weight.copy_(to_interleaved(attention.k_proj.weight, TINY.n_kv_heads))
    torch.testing.assert_close(model(x), expected, atol=2e-6, rtol=0)


def test_without_positions_one_layer_cannot_tell_the_order_of_the_past():
    # With more layers it could: the causal mask alone makes what the first ones say differ by place.
    torch.manual_seed(0)
    model = Llama(dataclasses.replace(TINY, n_layers=1), rope=NoPositions())
    x, swapped = torch.tensor([[3, 14, 15, 9]]), torch.tensor([[15, 3, 14, 9]])
    torch.testing.assert_close(model(x)[:, -1], model(swapped)[:, -1], atol=2e-6, rtol=0)
    model.rope = RotaryEmbedding(TINY.head_dim)
    assert (model(x) - model(swapped))[:, -1].abs().max() > 1e-3


def test_tied_head_is_the_embedding_s_weight():
    tied = Llama(dataclasses.replace(TINY, tied_embeddings=True))
    assert tied.head.weight is tied.embedding.weight
    untied = Llama(TINY)
    extra = TINY.vocab_size * TINY.dim
    assert count(untied) == count(tied) + extra


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_smollm2_has_the_published_size():
    with torch.device("meta"):
        model = Llama(smollm2_135m())
    assert count(model) == 134_515_008
    assert smollm2_135m().group_size == 3


def test_reads_past_its_length_and_int32(model):
    x = tokens(1, TINY.max_seq_len + 10)
    assert model(x).shape == (1, TINY.max_seq_len + 10, TINY.vocab_size)
    assert torch.equal(model(x.int()), model(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(torch.tensor([[3, 97]])), "token id 97 is not in the vocabulary: vocab_size is 97"),
        (lambda m: m(torch.tensor([[3, -1]])), "token id -1 is not in the vocabulary"),
        (lambda m: m(torch.tensor([3, 4])), "(batch, seq_len) with at least one token, not (2,)"),
        (lambda m: m(torch.zeros(2, 0).long()), "at least one token, not (2, 0)"),
        (lambda m: m(torch.ones(1, 2)), "int64 or int32 ids, not torch.float32"),
        (lambda m: m(tokens(2, 5), torch.arange(4)), "positions (4,) must be (seq_len,) or (batch, seq_len) for tok"),
        (lambda m: m(tokens(2, 5), torch.zeros(3, 5).long()), "positions (3, 5)"),
        (lambda m: m(tokens(2, 5), torch.arange(5.0)), "positions must be integers"),
    ],
)
def test_a_mistake_is_named(model, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 10, "n_kv_heads": 4}, "n_heads (10) must be a multiple of n_kv_heads (4)"),
        ({"n_kv_heads": 0}, "n_kv_heads (0) must be positive"),
        ({"dim": -1}, "dim (-1) must be positive"),
        ({"norm_eps": 0.0}, "norm_eps (0.0) must be positive"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(TINY, **change)


def test_config_is_frozen_and_knows_its_keys():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.dim = 3
    with pytest.raises(TypeError, match="n_kv_head"):
        dataclasses.replace(TINY, n_kv_head=3)


def test_odd_head_dim_is_refused():
    with pytest.raises(ValueError, match=re.escape("head_dim (7) must be even")):
        Llama(dataclasses.replace(TINY, head_dim=7))
