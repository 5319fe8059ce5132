"""Drafted tokens: the text of generation without them, and, where it is drawn, the same distribution."""

from itertools import chain, product

import pytest
import torch

from llama_lessons.generation import generate
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.rope_scaling import DynamicNTKScaling
from llama_lessons.sampling import probabilities
from llama_lessons.speculative import DraftModel, PromptLookup, accept_drafts, look_up, stream_with_drafts

TINY = LlamaConfig(vocab_size=5, dim=24, n_layers=2, n_heads=3, n_kv_heads=1, head_dim=8, hidden_dim=32, max_seq_len=64)


def build(seed, config=TINY):
    torch.manual_seed(seed)
    model = Llama(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def model():
    return build(0)


def grid(n):
    """Numbers that stand for all of [0, 1): the middles of n equal parts."""
    return [(i + 0.5) / n for i in range(n)]


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([0.5, 0.25, 0.25], [0.25, 0.25, 0.5]),
        ([0.5, 0.5, 0.0], [0.25, 0.5, 0.25]),
        ([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]),
        ([0.0, 0.0, 1.0], [0.75, 0.25, 0.0]),
        ([0.25, 0.25, 0.5], [0.0, 1.0, 0.0]),  # the draft is certain, as prompt lookup is
    ],
)
def test_what_comes_out_is_distributed_as_the_target_and_as_much_is_kept_as_can_be(p, q):
    p, q = torch.tensor(p), torch.tensor(q)
    bonus = torch.tensor([0.25, 0.25, 0.5])
    came, behind, kept, weight = torch.zeros(3), torch.zeros(3), 0.0, 1 / 24**2
    for token, u, v in product(range(3), grid(24), grid(24)):
        if q[token]:
            first, *second = accept_drafts(torch.stack([p, bonus]), q[None], [token], [u], v)
            came[first] += q[token] * weight
            if second:
                kept += q[token].item() * weight
                behind[second[0]] += q[token] * weight
    torch.testing.assert_close(came, p)
    assert kept == pytest.approx(torch.minimum(p, q).sum().item())
    torch.testing.assert_close(behind / max(kept, 1e-9), bonus if kept else torch.zeros(3))


def test_what_follows_a_refused_token_is_dropped():
    certain = torch.eye(3)
    assert accept_drafts(certain[[0, 1, 2, 0]], certain[[0, 2, 2]], [0, 2, 2], [0.5] * 3, 0.5) == [0, 1]
    assert accept_drafts(certain[[0, 1, 2, 0]], certain[[0, 1, 2]], [0, 1, 2], [0.5] * 3, 0.5) == [0, 1, 2, 0]
    assert accept_drafts(certain[[1]], torch.empty(0, 3), [], [], 0.5) == [1]


def test_where_nothing_is_missing_but_for_rounding_the_target_is_drawn_from():
    p = torch.tensor([0.5, 0.5])
    assert accept_drafts(torch.stack([p, p]), (p + 1e-6)[None], [0], [0.9999999], 0.7) == [1]


def test_the_text_is_looked_up_at_its_latest_and_longest_place():
    text = [1, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3]
    assert look_up(text, 4) == [4, 9, 2, 3]
    assert look_up(text, 4, longest=2) == [5, 8, 1, 2]
    assert look_up([7, 7, 7], 5) == [7]
    assert look_up([1, 2], 4) == []
    assert look_up([1], 4) == []


@pytest.mark.parametrize("n_drafts", [0, 1, 3, 8])
@pytest.mark.parametrize("max_new_tokens", [1, 2, 30])
@pytest.mark.parametrize("kind", ["lookup", "same model", "another model"])
def test_greedy_the_text_is_the_same(model, kind, n_drafts, max_new_tokens):
    prompt = [1, 2, 3, 1, 2]
    drafts = {
        "lookup": PromptLookup(TINY.vocab_size),
        "same model": DraftModel(model, 40),
        "another model": DraftModel(build(1), 40),
    }
    passes = list(stream_with_drafts(model, prompt, max_new_tokens, drafts[kind], n_drafts))
    assert list(chain.from_iterable(passes)) == generate(model, [prompt], max_new_tokens)[0]
    if kind == "same model":
        assert [len(tokens) for tokens in passes[:-1]] == [n_drafts + 1] * (len(passes) - 1)
    if n_drafts == 0:
        assert len(passes) == max_new_tokens


def test_it_ends_before_a_stop_token(model):
    whole = generate(model, [[1, 2, 3]], 30)[0]
    for stop in set(whole):
        passes = stream_with_drafts(model, [1, 2, 3], 30, DraftModel(model, 40), 4, stop_tokens=[stop])
        assert list(chain.from_iterable(passes)) == whole[: whole.index(stop)]


def test_drawn_texts_are_as_frequent_as_without_drafts(model):
    """Two tokens, 25 pairs: exact for the model, counted for what comes of drafts of another one."""
    sampling = {"temperature": 0.9, "top_k": 4}
    prompt = [1, 2, 3]
    counts = torch.zeros(5, 5)
    other = build(1)
    for seed in range(1500):
        draft = DraftModel(other, 8, seed=10_000 + seed, **sampling)
        first, second = chain.from_iterable(stream_with_drafts(model, prompt, 2, draft, 2, seed=seed, **sampling))
        counts[first, second] += 1
    with torch.no_grad():
        p = probabilities(model(torch.tensor([prompt]))[:, -1], **sampling)[0]
        then = probabilities(model(torch.tensor([[*prompt, token] for token in range(5)]))[:, -1], **sampling)
    expected = 1500 * p[:, None] * then
    seen = expected > 5
    chi_square = ((counts - expected)[seen] ** 2 / expected[seen]).sum().item()
    assert counts[expected == 0].sum() == 0
    assert chi_square < 50  # of some 15 degrees of freedom: more, one time in 100,000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": []}, "a prompt of 0 tokens"),
        ({"max_new_tokens": 0}, r"max_new_tokens \(0\)"),
        ({"n_drafts": -1}, r"n_drafts \(-1\)"),
        ({"temperature": -1.0}, r"temperature \(-1.0\)"),
    ],
)
def test_a_mistake_is_named_at_once(model, change, message):
    arguments = {"prompt": [1], "max_new_tokens": 3, "draft": PromptLookup(5), "n_drafts": 2} | change
    with pytest.raises(ValueError, match=message):
        stream_with_drafts(model, **arguments)


def test_frequencies_that_depend_on_the_length_are_refused():
    config = LlamaConfig(**(vars(TINY) | {"rope_scaling": DynamicNTKScaling(factor=2.0, original_max_seq_len=16)}))
    with pytest.raises(ValueError, match="depend on the length"):
        stream_with_drafts(build(0, config), [1], 3, PromptLookup(5))
