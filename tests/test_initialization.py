"""Initialization against torch.nn.init, Hugging Face's Llama and GPT-2, and losses and sizes that were measured."""

import dataclasses
import math
import re

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from llama_lessons.initialization import (
    expected_first_loss,
    gpt2_init_,
    kaiming_std,
    llama_init_,
    parameter_roles,
    rms,
    rms_by_depth,
    xavier_init_,
    xavier_std,
)
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.norms import LayerNorm, RMSNorm
from llama_lessons.positions import LearnedPositionalEmbedding
from llama_lessons.workbench import ARTICLE_PARTS, Decoder, Parts, PostNormBlock

CONFIG = LlamaConfig(
    vocab_size=1000, dim=128, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=32, hidden_dim=256, max_seq_len=64
)
TIED = dataclasses.replace(CONFIG, tied_embeddings=True)
SCHEMES = [llama_init_, gpt2_init_, xavier_init_]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def by_role(model):
    """All numbers of each role, in one row."""
    roles, rows = parameter_roles(model), {}
    for name, parameter in model.named_parameters():
        rows.setdefault(roles[name], []).append(parameter.detach().flatten())
    return {role: torch.cat(parts) for role, parts in rows.items()}


def assert_normal(x, std):
    # Five standard errors of the mean and of the standard deviation of normal numbers
    assert abs(x.mean().item()) < 5 * std / math.sqrt(x.numel())
    assert abs(x.std().item() - std) < 5 * std / math.sqrt(2 * x.numel())
    # 68.3 % within one standard deviation, as a normal has and a uniform has not (57.7 %)
    assert abs((x.abs() < std).float().mean().item() - 0.683) < 0.03


# Standard deviations


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (512, 128), (128, 512)])
@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_standard_deviations_are_torch_s(shape, gain):
    fan_out, fan_in = shape
    theirs = nn.init.xavier_normal_(torch.empty(shape), gain, generator=seeded())
    ours = nn.init.normal_(torch.empty(shape), std=xavier_std(fan_in, fan_out, gain), generator=seeded())
    assert torch.equal(ours, theirs)
    theirs = nn.init.kaiming_normal_(torch.empty(shape), nonlinearity="relu", generator=seeded())
    ours = nn.init.normal_(torch.empty(shape), std=kaiming_std(fan_in), generator=seeded())
    assert torch.equal(ours, theirs)
    assert kaiming_std(fan_in, gain) == gain / math.sqrt(fan_in)


# Roles


class Stack(nn.Module):
    """One of each kind, torch's own modules and the course's; the head may come before what it is tied to."""

    def __init__(self, tied=False):
        super().__init__()
        self.head = nn.Linear(8, 30)
        self.embedding = nn.Embedding(30, 8)
        self.positions = LearnedPositionalEmbedding(5, 8)
        self.norms = nn.ModuleList([nn.LayerNorm(8), nn.RMSNorm(8), LayerNorm(8), RMSNorm(8)])
        self.up_proj = nn.Linear(8, 16)
        self.o_proj = nn.Linear(8, 8)
        self.down_proj = nn.Linear(16, 8, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


STACK_ROLES = {
    "head.weight": "head",
    "head.bias": "bias",
    "embedding.weight": "embedding",
    "positions.weight": "embedding",
    "norms.0.weight": "gain",
    "norms.0.bias": "bias",
    "norms.1.weight": "gain",
    "norms.2.weight": "gain",
    "norms.2.bias": "bias",
    "norms.3.weight": "gain",
    "up_proj.weight": "projection",
    "up_proj.bias": "bias",
    "o_proj.weight": "residual",
    "o_proj.bias": "bias",
    "down_proj.weight": "residual",
}


def test_a_role_is_what_a_parameter_is():
    assert list(parameter_roles(Stack()).items()) == list(STACK_ROLES.items())
    assert parameter_roles(nn.Linear(2, 3)) == {"weight": "projection", "bias": "bias"}
    assert parameter_roles(nn.Identity()) == {}


def test_a_tied_weight_is_an_embedding_wherever_it_is_met_first():
    tied = {name: role for name, role in STACK_ROLES.items() if name != "embedding.weight"}
    assert parameter_roles(Stack(tied=True)) == tied | {"head.weight": "embedding"}
    roles = parameter_roles(Llama(TIED))
    assert roles["embedding.weight"] == "embedding"
    assert "head.weight" not in roles


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize(
    "parts",
    [Parts(), ARTICLE_PARTS, dataclasses.replace(Parts(), block=PostNormBlock)],
    ids=["llama", "articles", "post-norm"],
)
def test_every_parameter_of_a_decoder_has_a_role(config, parts):
    model = Decoder(config, parts)
    roles = parameter_roles(model)
    assert list(roles) == [name for name, _ in model.named_parameters()]
    residuals = [name for name, role in roles.items() if role == "residual"]
    expected = [
        f"blocks.{i}.{name}.weight" for i in range(4) for name in ("attention.o_proj", "feed_forward.down_proj")
    ]
    assert residuals == expected
    assert all(("norm" in name) == (role == "gain") for name, role in roles.items() if not name.endswith("bias"))


class OwnNorm(nn.Module):
    """A norm as somebody else writes it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 5.0))
        self.bias = nn.Parameter(torch.full((4,), 5.0))


def test_a_norm_of_any_class_is_known_by_its_shape():
    model = nn.Sequential(OwnNorm(), nn.Linear(4, 4))
    assert list(parameter_roles(model).values()) == ["gain", "bias", "projection", "bias"]
    llama_init_(model)
    assert model[0].weight.tolist() == [1.0] * 4
    assert model[0].bias.tolist() == [0.0] * 4


class Scaled(nn.Linear):
    """A linear layer with a parameter of its own kind."""

    def __init__(self):
        super().__init__(4, 4, bias=False)
        self.scale = nn.Parameter(torch.ones(4))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Scaled(), "0.scale has no known role: it is `scale` of a Scaled"),
        (nn.Conv1d(2, 2, 1), "0.weight has no known role: it is `weight` of a Conv1d"),
        (nn.MultiheadAttention(4, 2), "0.in_proj_weight has no known role"),
        (nn.ParameterList([torch.ones(2)]), "0.0 has no known role: it is `0` of a ParameterList"),
    ],
)
@pytest.mark.parametrize("function", [parameter_roles, *SCHEMES])
def test_an_unknown_parameter_is_named_before_anything_is_drawn(function, module, message):
    model = nn.Sequential(module, nn.Linear(2, 2))
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=re.escape(message)):
        function(model)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


# Schemes


def kind_in_hugging_face(name):
    """What Hugging Face's parameter is, read from its name."""
    if name.endswith("bias"):
        return "bias"
    if "embed_tokens" in name or "wte" in name or "wpe" in name:
        return "embedding"
    if "norm" in name or "ln_" in name:
        return "gain"
    if "lm_head" in name:
        return "head"
    return "residual" if re.search(r"o_proj|down_proj|\.c_proj", name) else "projection"


def hugging_face_llama():
    config = transformers.LlamaConfig(
        vocab_size=CONFIG.vocab_size,
        hidden_size=CONFIG.dim,
        num_hidden_layers=CONFIG.n_layers,
        num_attention_heads=CONFIG.n_heads,
        num_key_value_heads=CONFIG.n_kv_heads,
        intermediate_size=CONFIG.hidden_dim,
    )
    return transformers.LlamaForCausalLM(config)


def hugging_face_gpt2():
    config = transformers.GPT2Config(
        vocab_size=CONFIG.vocab_size,
        n_embd=CONFIG.dim,
        n_layer=CONFIG.n_layers,
        n_head=CONFIG.n_heads,
        n_positions=CONFIG.max_seq_len,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


@pytest.mark.parametrize(
    ("make_theirs", "initialize", "config", "parts"),
    [
        (hugging_face_llama, llama_init_, CONFIG, Parts()),
        (hugging_face_gpt2, gpt2_init_, TIED, ARTICLE_PARTS),
    ],
    ids=["llama", "gpt2"],
)
def test_scheme_is_hugging_face_s(make_theirs, initialize, config, parts):
    theirs = {}
    for name, parameter in make_theirs().named_parameters():
        theirs.setdefault(kind_in_hugging_face(name), []).append(parameter.detach().flatten())
    model = Decoder(config, parts)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7.0)
    initialize(model)
    ours = by_role(model)
    assert theirs.keys() == ours.keys()
    for role, rows in theirs.items():
        a, b = torch.cat(rows), ours[role]
        if role in ("gain", "bias"):
            assert (a == a[0]).all()
            assert (b == a[0]).all()
        else:
            # Five standard errors of the difference between two standard deviations
            error = 5 * math.sqrt(a.var() / (2 * a.numel()) + b.var() / (2 * b.numel()))
            assert abs(a.std() - b.std()) < error


@pytest.mark.parametrize("n_layers", [1, 4, 9])
def test_gpt2_divides_what_writes_into_the_stream_by_the_root_of_their_number(n_layers):
    model = Llama(dataclasses.replace(CONFIG, n_layers=n_layers))
    gpt2_init_(model, std=0.1)
    rows = by_role(model)
    assert_normal(rows["residual"], 0.1 / math.sqrt(2 * n_layers))
    for role in ("embedding", "head", "projection"):
        assert_normal(rows[role], 0.1)


def test_llama_takes_one_std_for_all():
    model = Llama(CONFIG)
    llama_init_(model, std=0.3)
    rows = by_role(model)
    for role in ("embedding", "head", "projection", "residual"):
        assert_normal(rows[role], 0.3)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("initialize", SCHEMES)
def test_weights_are_drawn_in_the_order_of_their_names_and_tied_ones_once(initialize, tied):
    model, generator = Stack(tied), seeded(3)
    initialize(model, generator=seeded(3))
    roles = parameter_roles(model)
    for name, parameter in model.named_parameters():
        expected = torch.empty_like(parameter)
        if roles[name] in ("gain", "bias"):
            expected.fill_(roles[name] == "gain")
        elif initialize is xavier_init_ and roles[name] != "embedding":
            nn.init.xavier_normal_(expected, generator=generator)
        else:
            halved = initialize is gpt2_init_ and roles[name] == "residual"  # two of them here
            nn.init.normal_(expected, std=0.02 / math.sqrt(2) if halved else 0.02, generator=generator)
        assert torch.equal(parameter, expected), name


@pytest.mark.parametrize("initialize", SCHEMES)
def test_without_a_generator_torch_s_own_is_used_and_with_one_left_alone(initialize):
    first, second = Stack(), Stack()
    torch.manual_seed(5)
    initialize(first)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    initialize(second, generator=seeded(5))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.requires_grad
        assert a.grad_fn is None


@pytest.mark.parametrize("initialize", SCHEMES)
def test_a_model_without_blocks_can_be_drawn(initialize):
    model = nn.Sequential(nn.Embedding(50, 8), nn.LayerNorm(8))
    initialize(model)
    assert_normal(model[0].weight.detach(), 0.02)


# First loss


@pytest.mark.parametrize("logit_std", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("vocab_size", [1000, 5000])
def test_first_loss_of_random_logits(vocab_size, logit_std):
    logits = torch.randn(1000, vocab_size, dtype=torch.float64) * logit_std
    losses = F.cross_entropy(logits, torch.randint(vocab_size, (1000,)), reduction="none")
    # Five standard errors, and what the mean of exp over a finite vocabulary falls short of: the log is concave.
    bound = 5 * losses.std() / math.sqrt(1000) + math.expm1(logit_std**2) / vocab_size + 1e-12
    assert abs(losses.mean() - expected_first_loss(vocab_size, logit_std)) < bound


def test_first_loss_of_equal_logits_is_exact():
    assert expected_first_loss(49_152) == pytest.approx(10.8027, abs=1e-4)
    assert expected_first_loss(1) == 0.0
    loss = F.cross_entropy(torch.zeros(1, 777, dtype=torch.float64), torch.tensor([5]))
    assert loss.item() == pytest.approx(expected_first_loss(777))


def test_first_loss_of_large_logits_is_that_of_the_largest():
    logit_std, vocab_size = 10.0, 1000
    loss = F.cross_entropy(logit_std * torch.randn(4000, vocab_size), torch.randint(vocab_size, (4000,))).item()
    limit = logit_std * math.sqrt(2 * math.log(vocab_size))
    # The largest of 1000 normal numbers is 13 % below its limit for many; the formula is far above.
    assert 0.8 * limit < loss < limit < 0.7 * expected_first_loss(vocab_size, logit_std)


def losses_of(model):
    """Logits of random tokens, and their loss where any token comes next and where the same one does."""
    tokens, others = torch.randint(CONFIG.vocab_size, (2, 32, 64), generator=seeded(1))
    with torch.inference_mode():
        logits = model(tokens)
    losses = [F.cross_entropy(logits.flatten(0, 1), target.flatten()).item() for target in (others, tokens)]
    return tokens, logits, *losses


@pytest.mark.parametrize("parts", [Parts(), ARTICLE_PARTS], ids=["llama", "articles"])
@pytest.mark.parametrize("initialize", [llama_init_, gpt2_init_])
def test_first_loss_of_a_model(initialize, parts):
    model = Decoder(CONFIG, parts)
    initialize(model)
    _, logits, loss, repeated = losses_of(model)
    # A norm hands the head vectors of rms 1.
    logit_std = 0.02 * math.sqrt(CONFIG.dim)
    assert logits.std().item() == pytest.approx(logit_std, rel=0.1)
    assert loss == pytest.approx(expected_first_loss(CONFIG.vocab_size, logit_std), abs=0.03)
    assert repeated == pytest.approx(loss, abs=0.03)


def test_first_loss_of_tied_embeddings_of_std_1_is_the_logit_of_the_token_just_read():
    model = Llama(TIED)
    nn.init.normal_(model.embedding.weight)  # torch's own way with an embedding
    tokens, logits, loss, repeated = losses_of(model)
    own = logits.gather(-1, tokens[..., None]).mean().item()
    assert own == pytest.approx(CONFIG.dim, rel=0.05)
    assert loss == pytest.approx(own, rel=0.02)
    assert repeated < 1e-6
    assert loss > 10 * expected_first_loss(CONFIG.vocab_size)
    # No formula of independent logits says so: theirs is off by a third.
    assert expected_first_loss(CONFIG.vocab_size, math.sqrt(CONFIG.dim)) < 0.7 * loss


def test_tied_embeddings_of_small_std_favour_the_token_just_read_a_little():
    model = Llama(TIED)
    llama_init_(model, generator=seeded())
    _, _, loss, repeated = losses_of(model)
    assert loss == pytest.approx(expected_first_loss(CONFIG.vocab_size, 0.02 * math.sqrt(CONFIG.dim)), abs=0.03)
    assert repeated < loss - 0.1


# Sizes through depth


def test_rms_is_the_root_of_the_mean_square_and_does_not_underflow():
    x = torch.tensor([[3.0, -4.0], [0.0, 0.0]], requires_grad=True)
    assert rms(x) == 2.5
    assert rms(torch.full((10,), 1e-30)) == pytest.approx(1e-30, rel=1e-6, abs=0)
    assert rms(torch.full((10,), 60_000.0, dtype=torch.float16)) == pytest.approx(60_000, rel=1e-3)


class Times(nn.Module):
    """Multiply by a number, which learns."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * x


def test_sizes_by_depth_in_closed_form():
    blocks = nn.Sequential(Times(2.0), Times(5.0), Times(-3.0))
    x = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    activations, gradients = rms_by_depth(blocks, lambda: 7 * blocks(x).sum())
    assert activations == pytest.approx([5.0, 25.0, 75.0])
    assert gradients == pytest.approx([7 * 15, 7 * 3, 7])
    assert all(parameter.grad is None for parameter in blocks.parameters())


def test_a_block_that_runs_twice_counts_twice():
    block = Times(2.0)
    blocks = nn.Sequential(block, block)
    activations, gradients = rms_by_depth(blocks, lambda: blocks(torch.ones(3)).sum())
    assert activations == [2.0, 4.0]
    assert gradients == [2.0, 1.0]


def test_hooks_are_removed_whatever_happens():
    blocks = nn.Sequential(Times(2.0), Times(5.0))

    def fail():
        blocks(torch.ones(3))
        raise RuntimeError("the loss is broken")

    rms_by_depth(blocks, lambda: blocks(torch.ones(3)).sum())
    with pytest.raises(RuntimeError, match="the loss is broken"):
        rms_by_depth(blocks, fail)
    assert all(not block._forward_hooks for block in blocks)


ERRATA = [
    (nn.ReLU, xavier_std(512, 512), 3e-5),
    (nn.ReLU, kaiming_std(512), 0.98),
    (nn.ReLU, 0.02, 1e-15),
    (nn.Identity, xavier_std(512, 512), 1.0),
    (nn.Identity, kaiming_std(512), 3e4),
    (nn.Identity, kaiming_std(512, gain=1.0), 1.0),
]


@pytest.mark.parametrize(("activation", "std", "expected"), ERRATA)
def test_a_plain_stack_needs_the_std_that_suits_its_activation(activation, std, expected):
    n_layers, dim = 30, 512
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(dim, dim, bias=False), activation()) for _ in range(n_layers)))
    for weight in blocks.parameters():
        nn.init.normal_(weight, std=std)
    x, upstream = torch.randn(2, 64, dim)
    activations, gradients = rms_by_depth(blocks, lambda: (blocks(x) * upstream).sum())
    assert abs(math.log10(activations[-1] / expected)) < 0.5
    # Square layers treat gradients as they treat activations, one layer fewer.
    assert abs(math.log10(gradients[0] / expected)) < 0.8
    factor = dim * std**2 / (2 if activation is nn.ReLU else 1)
    assert abs(math.log10(activations[-1] / factor ** (n_layers / 2))) < 0.5


@pytest.mark.parametrize(("initialize", "grows"), [(llama_init_, True), (gpt2_init_, False)])
def test_residuals_and_norms_bear_a_small_std_and_gpt_2_s_stream_does_not_grow_with_depth(initialize, grows):
    last = {}
    for n_layers in (1, 16):
        model = Llama(dataclasses.replace(CONFIG, n_layers=n_layers))
        initialize(model)
        tokens = torch.randint(CONFIG.vocab_size, (4, 32))
        activations, gradients = rms_by_depth(
            model.blocks, lambda model=model, tokens=tokens: model(tokens).logsumexp(dim=-1).mean()
        )
        assert len(activations) == len(gradients) == n_layers
        assert min(activations) > 0.01
        # Below, they are larger by as much as the stream is smaller; 16 plain layers of std 0.02 would lose 1e-8.
        assert max(gradients) / min(gradients) < 100
        last[n_layers] = activations[-1]
    assert (last[16] > 2 * last[1]) == grows


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: xavier_std(0, 4), "fan_in (0) must be positive"),
        (lambda: xavier_std(4, -1), "fan_out (-1) must be positive"),
        (lambda: kaiming_std(0), "fan_in (0) must be positive"),
        (lambda: expected_first_loss(0), "vocab_size (0) must be positive"),
        (lambda: expected_first_loss(10, -0.5), "logit_std (-0.5) must not be negative"),
        (lambda: rms_by_depth([nn.Identity()], lambda: torch.ones(())), "loss() ran none of the blocks (1)"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
