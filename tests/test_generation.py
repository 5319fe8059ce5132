"""Generation against transformers, against reading everything anew at each step, and row by row."""

import copy
import dataclasses
import re

import pytest
import torch

from llama_lessons import generation
from llama_lessons.checkpoints import load_hugging_face, save_hugging_face
from llama_lessons.generation import (
    compile_blocks_,
    generate,
    store_for_decoding_,
    stream,
)
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.rope_scaling import DynamicNTKScaling, LongRopeScaling
from llama_lessons.workbench import ARTICLE_PARTS, Decoder
from tests.hugging_face import hugging_face

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

TINY = LlamaConfig(
    vocab_size=97, dim=36, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=8, hidden_dim=56, max_seq_len=64
)
PROMPTS = [[5, 17, 3, 88, 41, 2, 9], [96], [11, 12, 13, 14]]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # Threads have nothing to share in so small a model, and wait for each other where the processor is busy.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(config=TINY, parts=None):
    """A model whose choices depend on all it has read: with the small weights of a start they hardly would."""
    torch.manual_seed(0)
    model = Llama(config) if parts is None else Decoder(config, parts)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def theirs(model):
    return hugging_face(model)


def their_tokens(theirs, prompts, max_new_tokens, stop_token=None):
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = {"eos_token_id": stop_token, "pad_token_id": 0, "do_sample": False}
    return theirs.generate(padded, attention_mask=mask, max_new_tokens=max_new_tokens, **settings)[:, longest:].tolist()


def read_anew(model, prompt, n):
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(n):
            tokens.append(model(torch.tensor([tokens]))[0, -1].argmax().item())
    return tokens[len(prompt) :]


@pytest.mark.compile
def test_compiled_it_is_one_graph_a_step_with_the_same_tokens(model):
    compiled = copy.copy(model)
    # fullgraph: a break in the graph is an error. The backend runs the graph as it is, without a compiler.
    compiled.hidden_states = torch.compile(model.hidden_states, dynamic=True, fullgraph=True, backend="eager")
    assert generate(compiled, PROMPTS[:1], 12) == generate(model, PROMPTS[:1], 12)


@pytest.mark.compile
def test_a_block_is_compiled_once_for_all_with_the_same_tokens(model):
    compiled = copy.deepcopy(model)
    compile_blocks_(compiled)
    torch._dynamo.utils.counters.clear()
    assert generate(compiled, PROMPTS[:1], 12) == generate(model, PROMPTS[:1], 12)
    # At the first call the cache is empty, at the others it is not; neither the length nor the block makes another one.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize("tied", [False, True])
def test_stored_for_decoding_a_model_is_the_same(tied, tmp_path):
    model = build(dataclasses.replace(TINY, tied_embeddings=tied))
    tokens, before = generate(model, PROMPTS, 30), copy.deepcopy(model.state_dict())
    store_for_decoding_(model)
    assert model.head.weight.stride() == (1, TINY.vocab_size)
    assert model.blocks[0].feed_forward.up_proj.weight.stride() == (1, TINY.hidden_dim)
    assert model.blocks[0].feed_forward.down_proj.weight.is_contiguous()
    assert (model.head.weight is model.embedding.weight) == tied
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert generate(model, PROMPTS, 30) == tokens
    save_hugging_face(model, tmp_path)
    assert generate(load_hugging_face(tmp_path), PROMPTS, 30) == tokens


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_of_transformers(model, theirs, prompt):
    expected = their_tokens(theirs, [prompt], 40)
    assert generate(model, [prompt], 40) == expected
    assert len(set(expected[0])) > 5  # not one token again and again


def test_a_padded_batch_is_that_of_transformers(model, theirs):
    assert generate(model, PROMPTS, 40) == their_tokens(theirs, PROMPTS, 40)


@pytest.mark.parametrize("parts", [None, ARTICLE_PARTS], ids=["llama", "article"])
def test_the_cache_changes_nothing(parts):
    model = build(parts=parts)
    for prompt in PROMPTS:
        assert generate(model, [prompt], 30) == [read_anew(model, prompt, 30)]


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.5, "top_k": 20, "top_p": 0.9, "seed": 7}], ids=str)
@pytest.mark.parametrize("parts", [None, ARTICLE_PARTS], ids=["llama", "article"])
def test_a_row_of_a_batch_is_as_if_it_were_alone(parts, settings):
    model, stop_tokens = build(parts=parts), {4, 60}
    together = generate(model, PROMPTS, 30, stop_tokens=stop_tokens, **settings)
    for row, prompt in enumerate(PROMPTS):
        seed = settings.get("seed", 0) + row
        alone = generate(model, [prompt], 30, stop_tokens=stop_tokens, **{**settings, "seed": seed})
        assert together[row] == alone[0]


def test_reads_the_prompt_once_then_a_token_at_a_time_and_scores_the_last_position_alone(model):
    read, scored = [], []
    hooks = [
        model.embedding.register_forward_pre_hook(lambda _, args: read.append(tuple(args[0].shape))),
        model.head.register_forward_pre_hook(lambda _, args: scored.append(tuple(args[0].shape))),
    ]
    generate(model, PROMPTS, 4)
    for hook in hooks:
        hook.remove()
    assert read == [(3, 7), (3, 1), (3, 1), (3, 1)]
    assert scored == [(3, TINY.dim)] * 4


@pytest.mark.parametrize("parts", [None, ARTICLE_PARTS], ids=["llama", "article"])
def test_a_long_prompt_is_read_in_pieces_with_the_same_tokens(parts, monkeypatch):
    model, read = build(parts=parts), []
    expected = generate(model, PROMPTS, 30)
    monkeypatch.setattr(generation, "PREFILL", 3)
    model.embedding.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    assert generate(model, PROMPTS, 30) == expected
    assert read[:5] == [3, 3, 1, 1, 1]


@pytest.mark.parametrize("kind", [DynamicNTKScaling, LongRopeScaling])
def test_where_frequencies_depend_on_the_length_a_prompt_is_read_at_once(kind, monkeypatch):
    divisors = {"short_factor": (1.0,) * 4, "long_factor": (3.0,) * 4} if kind is LongRopeScaling else {}
    scaling = kind(factor=4.0, original_max_seq_len=4, **divisors)
    model, read = build(dataclasses.replace(TINY, rope_scaling=scaling)), []
    model.embedding.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    monkeypatch.setattr(generation, "PREFILL", 3)
    generate(model, PROMPTS[:1], 3)
    assert read == [7, 1, 1]


@pytest.mark.parametrize("max_new_tokens", [10**12, 10**18, 10**30])
def test_more_tokens_than_memory_holds_are_told(model, max_new_tokens):
    message = (
        f"no memory for the keys and values of {max_new_tokens + 1} tokens: make max_new_tokens ({max_new_tokens}) less"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        generate(model, [[5]], max_new_tokens)


def test_prompts_of_one_length_need_no_mask(model, monkeypatch):
    masks, hidden_states = [], model.hidden_states

    def watched(*args, attention_mask=None, **kwargs):
        masks.append(attention_mask)
        return hidden_states(*args, attention_mask=attention_mask, **kwargs)

    monkeypatch.setattr(model, "hidden_states", watched)
    generate(model, [[1, 2], [3, 4]], 3)
    assert masks == [None] * 3
    generate(model, [[1, 2], [3]], 3)
    assert [mask.tolist() for mask in masks[3:]] == [[[True] * n, [False] + [True] * (n - 1)] for n in (2, 3, 4)]


def test_stop_tokens_end_their_row_and_are_left_out(model, theirs):
    full = generate(model, PROMPTS, 40)
    stop = full[0][10]
    cut = [row[: row.index(stop)] if stop in row else row for row in full]
    assert generate(model, PROMPTS, 40, stop_tokens=[stop]) == cut
    steps = list(stream(model, PROMPTS, 40, stop_tokens=[stop]))
    assert len(steps) == max(map(len, cut))
    for row, tokens in enumerate(cut):
        assert [step[row] for step in steps] == tokens + [None] * (len(steps) - len(tokens))
    # transformers keeps the stop token, then pads.
    expected = their_tokens(theirs, PROMPTS[:1], 40, stop_token=stop)[0]
    assert expected == [*cut[0], stop]


def test_no_step_is_taken_after_all_have_stopped(model):
    first = [row[0] for row in generate(model, PROMPTS, 1)]
    assert list(stream(model, PROMPTS, 40, stop_tokens=first)) == []
    assert generate(model, PROMPTS, 40, stop_tokens=first) == [[], [], []]


def test_a_stream_hands_out_each_token_at_once_and_leaves_the_caller_s_gradients_on(model):
    read = []
    hook = model.embedding.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    steps = stream(model, PROMPTS, 3)
    assert read == []
    next(steps)
    assert read == [7]
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    hook.remove()
    assert len(list(steps)) == 2


def test_llama_reads_past_its_length():
    model = build(dataclasses.replace(TINY, max_seq_len=8))
    assert generate(model, PROMPTS[:1], 20) == generate(build(), PROMPTS[:1], 20)


def test_a_table_of_positions_ends_before_the_first_token():
    model = build(dataclasses.replace(TINY, max_seq_len=16), ARTICLE_PARTS)
    # 7 tokens are read, and 9 of the 10 new ones.
    assert generate(model, PROMPTS, 10) == [read_anew(model, prompt, 10) for prompt in PROMPTS]
    with pytest.raises(
        ValueError, match=re.escape("7 tokens and max_new_tokens (11) do not fit the model's table of 16")
    ):
        stream(model, PROMPTS, 11)


def test_dtypes_other_than_float32_are_kept():
    model = build().bfloat16()
    rows = generate(model, PROMPTS, 5, temperature=1.0)
    assert [len(row) for row in rows] == [5, 5, 5]


def test_seeds_make_draws_again(model):
    def draw(seed):
        return generate(model, PROMPTS, 20, temperature=1.0, seed=seed)

    torch.manual_seed(1)
    first = draw(3)
    torch.manual_seed(2)
    assert draw(3) == first
    assert draw(4) != first
    state = torch.get_rng_state()
    draw(3)
    assert torch.equal(torch.get_rng_state(), state)
    same_prompt = generate(model, [PROMPTS[0]] * 2, 20, temperature=1.0)
    assert same_prompt[0] != same_prompt[1]


def test_a_damaged_model_says_that_its_logits_are_not_finite():
    model = build()
    with torch.no_grad():
        model.norm.weight[3] = torch.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(ValueError, match="logits of row 0 are not finite"):
            generate(model, PROMPTS[:1], 5, temperature=temperature)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "top_p": 0.9}], ids=str)
def test_generates_under_autocast(model, settings):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert len(generate(model, PROMPTS[:1], 12, **settings)[0]) == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: stream(m, [[1]], 0), "max_new_tokens (0) must be at least 1"),
        (lambda m: stream(m, [[1]], 1, temperature=-1), "temperature (-1)"),
        (lambda m: stream(m, [[1]], 1, top_k=0), "top_k (0)"),
        (lambda m: stream(m, [[1]], 1, top_p=2), "top_p (2)"),
        (lambda m: stream(m, [], 1), "at least one prompt"),
        (lambda m: stream(m, [[1], []], 1), "prompt 1 is empty"),
        (lambda m: stream(m, [1, 2, 3], 1), "for one prompt, [prompt]"),
        (lambda m: stream(m, [[1], [3, 97]], 1), "prompt 1: token id 97 is not in the vocabulary: vocab_size is 97"),
        (lambda m: stream(m, [[-1, 3]], 1), "prompt 0: token id -1 is not in the vocabulary"),
        (lambda m: generate(m, [[]], 1), "prompt 0 is empty"),
    ],
)
def test_a_mistake_is_named_before_the_first_token(model, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(model)


@pytest.mark.cuda
@needs_cuda
def test_cuda_draws_the_same(model):
    settings = {"temperature": 1.0, "top_k": 20, "top_p": 0.9}
    assert generate(build().cuda(), PROMPTS, 10, **settings) == generate(model, PROMPTS, 10, **settings)
