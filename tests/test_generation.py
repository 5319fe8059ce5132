"""Generation against transformers, against reading everything anew at each step, and row by row."""

import copy
import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llama_lessons import generation
from llama_lessons.checkpoints import load_hugging_face, save_hugging_face
from llama_lessons.generation import (
    compile_blocks_,
    draw,
    generate,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    probabilities,
    sample,
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


@pytest.mark.parametrize("k", [1, 5, 50, 96, 97, 1000])
def test_top_k_agrees_with_transformers(k):
    logits = torch.randn(4, 97, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9, 0.99])
def test_top_p_agrees_with_transformers(p, scale):
    logits = scale * torch.randn(4, 997, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_min_p_agrees_with_transformers(p, scale):
    torch.manual_seed(0)
    logits = scale * torch.randn(4, 97)
    torch.testing.assert_close(keep_min_p(logits, p), MinPLogitsWarper(p)(None, logits))


def test_min_p_of_0_keeps_all_and_of_1_the_best_with_its_equals():
    logits = torch.tensor([[2.0, -1.0, 2.0, -torch.inf]])
    assert torch.equal(keep_min_p(logits, 0), logits)
    assert keep_min_p(logits, 1).isfinite().tolist() == [[True, False, True, False]]


def test_probabilities_are_those_that_sample_draws_with():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    assert probabilities(logits).tolist() == [[0, 1, 0, 0]]
    cut = probabilities(logits, temperature=0.5, top_k=3, top_p=0.999, min_p=0.05)
    torch.testing.assert_close(cut, (2 * torch.tensor([[-torch.inf, 3, 2, -torch.inf]])).softmax(-1))
    generators = [torch.Generator().manual_seed(0)] * 4000
    drawn = sample(logits.expand(4000, 4), 0.5, 3, 0.999, 0.05, generators)
    assert drawn.unique().tolist() == [1, 2]
    assert (drawn == 2).float().mean().item() == pytest.approx(cut[0, 2].item(), abs=0.02)


def test_the_order_is_temperature_then_top_k_then_top_p():
    logits = 3 * torch.randn(1, 200, generator=torch.Generator().manual_seed(0))
    kept = TopPLogitsWarper(0.6)(None, TopKLogitsWarper(5)(None, TemperatureLogitsWarper(2.0)(None, logits)))
    allowed = set(kept.isfinite().nonzero()[:, 1].tolist())
    torch.manual_seed(0)
    drawn = sample(logits.expand(5000, -1), temperature=2.0, top_k=5, top_p=0.6)
    assert set(drawn.tolist()) == allowed
    # In other orders the same settings would leave other sets.
    top_p_first = TopKLogitsWarper(5)(None, TopPLogitsWarper(0.6)(None, TemperatureLogitsWarper(2.0)(None, logits)))
    cold_top_p = TopPLogitsWarper(0.6)(None, TopKLogitsWarper(5)(None, logits))
    assert len(allowed) not in (top_p_first.isfinite().sum(), cold_top_p.isfinite().sum())


@settings(deadline=None, max_examples=150)
@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40),
    p=st.floats(1e-6, 1, exclude_min=True),
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits, p):
    logits = torch.tensor(logits)
    kept = keep_top_p(logits, p).isfinite()
    probabilities = logits.double().softmax(-1)
    assert kept.any()
    assert torch.equal(keep_top_p(logits, p)[kept], logits[kept])
    slack = 1e-6
    assert probabilities[kept].sum() >= p - slack
    if p < 1:
        assert probabilities[kept].sum() - probabilities[kept].min() < p + slack
    if not kept.all():
        # softmax in float32 may tie what float64 tells apart
        assert probabilities[~kept].max() <= probabilities[kept].min() + slack


@pytest.mark.parametrize(("p", "ids"), [(1e-9, [0]), (0.25, [0]), (0.26, [0, 1]), (0.5, [0, 1]), (0.76, [0, 1, 2, 3])])
def test_of_equals_top_p_takes_no_more_than_it_needs(p, ids):
    assert keep_top_p(torch.zeros(2, 4), p).isfinite().tolist() == [[i in ids for i in range(4)]] * 2


@pytest.mark.parametrize("p", [0.3, 0.6, 0.95])
def test_a_row_s_set_does_not_depend_on_its_neighbours(p):
    generator = torch.Generator().manual_seed(0)
    many_equals = torch.randint(-3, 3, (1, 5000), generator=generator).float()
    peaked = 9 * torch.randn(1, 5000, generator=generator)
    together = keep_top_p(torch.cat((peaked, many_equals, torch.zeros(1, 5000))), p)
    assert torch.equal(together[1:2], keep_top_p(many_equals, p))
    assert torch.equal(together[:1], keep_top_p(peaked, p))
    expected = TopPLogitsWarper(p)(None, many_equals).isfinite().sum()
    assert abs(together[1].isfinite().sum() - expected) <= 1  # sums in other orders


@pytest.mark.parametrize("p", [1e-12, 1e-6])
@pytest.mark.parametrize("vocab_size", [1, 3, 7, 1000, 49_152])
def test_top_p_keeps_one_token_at_least(vocab_size, p):
    assert keep_top_p(torch.full((2, vocab_size), 0.1), p).isfinite().sum(-1).tolist() == [1, 1]


def test_top_p_of_1_keeps_what_float32_can_t_add_to_a_sum():
    logits = torch.tensor([[40.0, 0.0, 0.0]])
    assert torch.equal(keep_top_p(logits, 1.0), logits)


def test_top_p_of_half_precision_is_that_of_float32():
    logits = 2 * torch.randn(20, 997, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(keep_top_p(logits, 0.9), keep_top_p(logits.float(), 0.9).bfloat16())


def test_what_is_excluded_already_stays_so_and_nothing_is_written():
    logits = torch.tensor([[1.0, -torch.inf, 3.0, -torch.inf]])
    before = logits.clone()
    for kept in (keep_top_k(logits, 3), keep_top_p(logits, 0.999), keep_top_p(logits, 1.0)):
        assert torch.equal(kept, before)
    sample(logits, 0.5, top_k=1, top_p=0.5)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
def test_the_fast_way_of_top_p_is_the_plain_one(p, scale):
    generator = torch.Generator().manual_seed(0)
    tied = torch.randint(-3, 3, (4, 3000), generator=generator).float()
    for logits in (scale * torch.randn(4, 3000, generator=generator), scale * tied):
        assert torch.equal(generation._keep_top_p_fast(logits, p), keep_top_p(logits, p))


def test_the_draw_is_the_first_token_whose_cumulative_probability_exceeds_u():
    probabilities = torch.rand(500, 40, generator=torch.Generator().manual_seed(0)) ** 4
    probabilities[:, ::3] = 0
    seeds = range(500)
    drawn = draw(probabilities, [torch.Generator().manual_seed(seed) for seed in seeds])
    u = torch.cat([torch.rand(1, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    cumulative = probabilities.cumsum(-1)
    assert torch.equal(drawn, (cumulative > u * cumulative[:, -1:]).int().argmax(-1))
    assert (probabilities.gather(-1, drawn[:, None]) > 0).all()


@pytest.mark.parametrize("cuts", [{}, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}], ids=str)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_refused(cuts, bad):
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    logits[1, 7] = bad
    with pytest.raises(ValueError, match="logits of row 1 are not finite"):
        sample(logits, **cuts)
    with pytest.raises(ValueError, match="logits of row 0 are not finite"):
        sample(torch.full((1, 5), -torch.inf), **cuts)


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


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("own_generators", [True, False])
def test_draws_are_as_frequent_as_the_softmax_says(temperature, own_generators):
    logits, n = torch.tensor([1.0, -0.5, 0.7, 2.0, -3.0]), 5_000
    torch.manual_seed(0)
    generators = [torch.Generator().manual_seed(seed) for seed in range(n)] if own_generators else None
    drawn = sample(logits.expand(n, -1), temperature, generators=generators)
    expected = n * (logits.double() / temperature).softmax(-1)
    counts = drawn.bincount(minlength=5)
    likely = expected > 1  # a token of less than one draw in all says nothing
    chi_square = ((counts - expected) ** 2 / expected)[likely].sum()
    assert chi_square < 23.5  # of 4 degrees of freedom, exceeded once in 10,000 times
    assert counts[~likely].sum() <= 5


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_the_ends_of_the_range_draw_a_token_that_may_be_drawn(number, monkeypatch):
    # Among 200 rows, some sum to a little less than the largest number that can be drawn.
    logits = torch.randn(200, 3000, generator=torch.Generator().manual_seed(0))
    logits[:, :1000] = logits[:, 2000:] = -torch.inf
    assert (logits.softmax(-1).cumsum(-1)[:, -1] < 1 - 2**-24).any()
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, number))
    drawn = sample(logits, 1.0)
    assert (drawn >= 1000).all()
    assert (drawn < 2000).all()
    assert (drawn == 1000).all() == (number == 0)


@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 1e-300])
def test_next_to_no_temperature_is_greedy(temperature):
    logits = 30 * torch.randn(8, 500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample(logits, temperature), logits.argmax(-1))
    assert torch.equal(sample(logits, temperature, top_k=3, top_p=0.5), logits.argmax(-1))


@pytest.mark.parametrize("cuts", [{}, {"top_k": 300, "top_p": 0.9}], ids=str)
def test_half_precision_is_drawn_in_float32(cuts):
    logits = torch.randn(1000, 997, generator=torch.Generator().manual_seed(0)).bfloat16()
    drawn = []
    for x in (logits, logits.float()):
        torch.manual_seed(0)
        drawn.append(sample(x, 0.7, **cuts))
    assert torch.equal(*drawn)


def test_at_temperature_0_the_first_of_equals_is_taken():
    assert sample(torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 0.0]])).tolist() == [1, 0]


ROW = torch.zeros(1, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: keep_top_k(ROW, 0), "top_k (0) must be at least 1"),
        (lambda m: keep_top_p(ROW, 0.0), "top_p (0.0) must be above 0 and at most 1"),
        (lambda m: keep_top_p(ROW, 1.01), "top_p (1.01) must be above 0 and at most 1"),
        (lambda m: keep_top_p(ROW, float("nan")), "top_p (nan)"),
        (lambda m: sample(ROW, -0.1), "temperature (-0.1) must be finite and at least 0"),
        (lambda m: sample(ROW, float("inf")), "temperature (inf) must be finite"),
        (lambda m: sample(ROW, float("nan")), "temperature (nan) must be finite"),
        (lambda m: sample(ROW, 0.0, top_k=-1), "top_k (-1)"),
        (
            lambda m: sample(ROW, 1.0, generators=[torch.Generator()] * 2),
            "generators (2) must be as many as rows (1)",
        ),
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
