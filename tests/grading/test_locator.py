"""The locator, on mistakes that are planted one at a time in a learner's whole Llama, and in none."""

import importlib
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llama_lessons.grading.exercise import find_exercise
from llama_lessons.grading.exercises.llama.common import IN_BLOCK
from llama_lessons.grading.locator import find_modules, locate
from llama_lessons.grading.locator.running import run
from llama_lessons.grading.mine import PARTS
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.rope import to_interleaved
from tests.hugging_face import hugging_face

locator = importlib.import_module("llama_lessons.grading.locator.locate")

TOKENS = torch.arange(18).view(2, 9) * 7 % 23


def reference(seed: int = 0, **sizes: Any) -> Llama:
    """The course's Llama with numbers like those of a trained one: gains far from 1, scores far from 0."""
    own = {"n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "hidden_dim": 20, "dim": 24, "rope_theta": 700.0}
    fixed = {"vocab_size": 23, "n_layers": 3, "max_seq_len": 64, "norm_eps": 3e-5, "tied_embeddings": True}
    model = Llama(LlamaConfig(**fixed | own | sizes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + drawn / 3 if weight.ndim == 1 else drawn * 1.5 / weight.shape[1] ** 0.5)
        model.embedding.weight.mul_(0.1)
    return model.eval()


def in_file(model: Llama) -> dict[str, Tensor]:
    """The model's weights as a GGUF file has them."""
    config = model.config
    stored = {"token_embd.weight": model.embedding.weight, "output_norm.weight": model.norm.weight}
    if not config.tied_embeddings:
        stored["output.weight"] = model.head.weight
    for i, block in enumerate(model.blocks):
        for theirs, ours in IN_BLOCK.items():
            stored[f"blk.{i}.{theirs}.weight"] = block.get_parameter(f"{ours}.weight")
        for name, n_heads in (("attn_q", config.n_heads), ("attn_k", config.n_kv_heads)):
            stored[f"blk.{i}.{name}.weight"] = to_interleaved(stored[f"blk.{i}.{name}.weight"], n_heads)
    return {name: weight.detach().clone() for name, weight in stored.items()}


def learners(*changes: tuple[str, str, str]) -> dict[str, Any]:
    """A learner's whole package, in one namespace, with changes: in which part, what, and what stands there."""
    names: dict[str, Any] = {"__name__": "learner"}
    for part in PARTS:
        exercise = find_exercise(part)
        module = inspect.getmodule(exercise.reference)
        names |= {key: value for key, value in vars(module).items() if key not in PARTS and not key.startswith("__")}
        source = inspect.getsource(exercise.reference)
        for _, old, new in (change for change in changes if change[0] == part):
            assert source.count(old) == 1, (part, old, source)
            source = source.replace(old, new)
        exec(compile(source, part, "exec"), names)
    return names


def located(*changes: tuple[str, str, str], **sizes: Any):
    model = reference(**sizes)
    own, modules = learners(*changes)["load"](model.config, in_file(model))
    return locate(own, model, TOKENS, modules)


@pytest.mark.parametrize("sizes", [{}, {"tied_embeddings": False}, {"n_kv_heads": 4}, {"n_kv_heads": 1, "n_layers": 1}])
def test_a_right_model_has_no_fault(sizes):
    report = located(**sizes)
    assert (report.first, report.faults, report.mistake) == ("", (), None)
    assert str(report).startswith("All ")


def test_hugging_faces_model_is_compared_as_it_is():
    model = reference()
    theirs = hugging_face(model)
    assert not locate(theirs, model, TOKENS).faults
    assert not locate(model, theirs, TOKENS).faults
    theirs.model.layers[1].mlp.act_fn = nn.GELU()
    report = locate(theirs, model, TOKENS)
    assert (report.first, report.mistake.name) == ("blocks.1.feed_forward", "GELU for SiLU")
    model.blocks[2].attention_norm.eps = 1e-3
    report = locate(model, hugging_face(reference()), TOKENS)
    assert (report.first, report.mistake.name) == ("blocks.2.attention_norm", "eps of 1e-3")


def test_one_block_for_all_is_called_so():
    report = located(
        ("Llama", "[Block(config) for _ in range(config.n_layers)]", "[Block(config)] * config.n_layers"),
        ("load", "model.named_parameters()", "model.named_parameters(remove_duplicate=False)"),
    )
    assert report.mistake.name == "one block in several places"
    assert "3 blocks are asked for, and there are 1" in report.mistake.diagnosis


# What is planted, where it is found, and how it is called; "" where the place alone can be told.
PLANTED = {
    "q and k rows as in the file": (
        [("load", 'if ".attn_q." in name', "if False"), ("load", 'if ".attn_k." in name', "if False")],
        "blocks.0.attention",
        "rows in the file's order",
    ),
    "only q reordered": (
        [("load", 'if ".attn_k." in name', "if False")],
        "blocks.0.attention",
        "rows of k in the file's order",
    ),
    "k reordered by n_heads": (
        [("load", "to_half(weight, config.n_kv_heads)", "to_half(weight, config.n_heads)")],
        "blocks.0.attention",
        "rows of k reordered as if it had all heads",
    ),
    "neighbouring pairs turned": (
        [
            ("apply_rope", "a, b = v.chunk(2, dim=-1)", "a, b = v[..., ::2], v[..., 1::2]"),
            ("apply_rope", "torch.cat((new_a, new_b), dim=-1)", "torch.stack((new_a, new_b), dim=-1).flatten(-2)"),
        ],
        "blocks.0.attention",
        "pairs side by side",
    ),
    "turned backwards": ([("rope_tables", "angles.sin()", "-angles.sin()")], "blocks.0.attention", "turned backwards"),
    "no rotation": (
        [("Attention", "q, k = (apply_rope(y, cos, sin) for y in (q, k))", "pass")],
        "blocks.0.attention",
        "nothing turned",
    ),
    "values rotated": (
        [
            (
                "Attention",
                "q, k = (apply_rope(y, cos, sin) for y in (q, k))",
                "q, k, v = (apply_rope(y, cos, sin) for y in (q, k, v))",
            )
        ],
        "blocks.0.attention",
        "values turned too",
    ),
    "default theta": (
        [("Llama", "rope_frequencies(config.head_dim, config.rope_theta)", "rope_frequencies(config.head_dim)")],
        "blocks.0.attention",
        "rope_theta of 10,000",
    ),
    "angles of dim / 2 steps": ([("rope_frequencies", "/ head_dim", "/ (2 * head_dim)")], "blocks.0.attention", ""),
    "heads repeated in turn": (
        [("grouped_query_attention", "// (n_heads // n_kv_heads)", "% n_kv_heads")],
        "blocks.0.attention",
        "heads repeated in turn",
    ),
    "scores not scaled": (
        [("grouped_query_attention", " / head_dim**0.5", "")],
        "blocks.0.attention",
        "scores not scaled",
    ),
    "scores by head_dim": (
        [("grouped_query_attention", "head_dim**0.5", "head_dim")],
        "blocks.0.attention",
        "scores divided by head_dim",
    ),
    "no mask": (
        [("grouped_query_attention", ".triu(key_len - query_len + 1)", ".triu(key_len)")],
        "blocks.0.attention",
        "every token sees the future",
    ),
    "mask off by one": (
        [("grouped_query_attention", "query_len + 1)", "query_len + 2)")],
        "blocks.0.attention",
        "one token too many",
    ),
    "heads merged untransposed": (
        [("grouped_query_attention", "mixed.transpose(1, 2).flatten(2)", "mixed.reshape(q.shape[0], query_len, -1)")],
        "blocks.0.attention",
        "heads merged without transposing",
    ),
    "softmax in bfloat16": (
        [("grouped_query_attention", "q @ k.transpose(2, 3)", "(q.bfloat16() @ k.bfloat16().transpose(2, 3)).float()")],
        "blocks.0.attention",
        "scores in bfloat16",
    ),
    "gate and up exchanged": (
        [("SwiGLU", "gate, up = self", "up, gate = self")],
        "blocks.0.feed_forward",
        "gate and up exchanged",
    ),
    "gate and up exchanged when loaded": (
        [("load", "feed_forward.gate_proj feed_forward.up_proj", "feed_forward.up_proj feed_forward.gate_proj")],
        "blocks.0.feed_forward",
        "gate and up exchanged",
    ),
    "GELU": ([("SwiGLU", "F.silu(gate)", "F.gelu(gate)")], "blocks.0.feed_forward", "GELU for SiLU"),
    "activation behind down": (
        [("SwiGLU", "return self.down_proj(hidden)", "return F.gelu(self.down_proj(hidden))")],
        "blocks.0.feed_forward",
        "a GELU behind down",
    ),
    "eps of 1e-6": ([("RMSNorm", "+ eps", "+ 1e-6")], "blocks.0.attention_norm", "eps of 1e-6"),
    "norm's own default eps": (
        [("Block", "config.dim, config.norm_eps", "config.dim, 1e-5")],
        "blocks.0.attention_norm",
        "eps of 1e-5",
    ),
    "eps outside": (
        [("RMSNorm", "(mean_square + eps).sqrt()", "(mean_square.sqrt() + eps)")],
        "blocks.0.attention_norm",
        "eps outside the root",
    ),
    "norm in bfloat16": (
        [("RMSNorm", "v = at_least_float32(x)", "v, weight = x.bfloat16(), weight.bfloat16()")],
        "blocks.0.attention_norm",
        "computed in bfloat16",
    ),
    "whole tensor": (
        [("RMSNorm", "mean(dim=-1, keepdim=True)", "mean()")],
        "blocks.0.attention_norm",
        "one scale for the whole tensor",
    ),
    "gains not loaded": (
        [
            ("load", '"norm.weight"}', '"norm.weight"}; model.norm.weight.requires_grad_()'),
            ("load", "own[place].copy_(weight)", 'own[place].copy_(weight) if "norm" not in place else None'),
        ],
        "blocks.0.attention_norm",
        "gains not used",
    ),
    "residual from the normalised stream": (
        [("Block", "mid = x + found", "mid = read + found")],
        "blocks.0.feed_forward_norm",
        "residual from the normalised stream",
    ),
    "second residual from it": (
        [("Block", "return mid + made", "return again + made")],
        "blocks.0",
        "second residual from the normalised stream",
    ),
    "no residual": (
        [("Block", "mid = x + found", "mid = found"), ("Block", "return mid + made", "return made")],
        "blocks.0.feed_forward_norm",
        "no residual connections",
    ),
    "ffn doubled": (
        [("Block", "return mid + made", "return made + made")],
        "blocks.0",
        "the feed-forward layer's result doubled",
    ),
    "parallel": (
        [("Block", "self.feed_forward_norm(mid)", "self.feed_forward_norm(x)")],
        "blocks.0.feed_forward_norm",
        "both layers read x",
    ),
    "post-norm": (
        [
            (
                "Block",
                "read = self.attention_norm(x)",
                "x = self.attention_norm(x + self.attention(x, cos, sin, cache)); "
                "return self.feed_forward_norm(x + self.feed_forward(x))",
            )
        ],
        "blocks.0.attention_norm",
        "post norm",
    ),
    "untied head": ([("Llama", "if config.tied_embeddings", "if False")], "head", "untied head"),
    "no last norm": ([("Llama", "x = self.norm(x)", "self.norm(x)")], "head", "no last norm"),
    "last block left out": (
        [("Llama", "enumerate(self.blocks)", "enumerate(self.blocks[:-1])")],
        "blocks.2",
        "last block left out",
    ),
    "first block for all": (
        [("Llama", "x = block(x, cos", "x = self.blocks[0](x, cos")],
        "blocks.0",
        "first block for all",
    ),
    "embedding scaled": (
        [("Llama", "self.embedding(tokens)", "self.embedding(tokens) * 24**0.5")],
        "blocks.0",
        "embedding scaled",
    ),
    "softmax at the end": (
        [("Llama", "return self.head(x)", "return self.head(x).softmax(-1)")],
        "logits",
        "probabilities for logits",
    ),
    "blocks in the other order": (
        [("load", 'f"blk.{i}.', 'f"blk.{config.n_layers - 1 - i}.')],
        "blocks.0.attention_norm",
        "weights of another block",
    ),
    "o_proj not loaded": (
        [("load", "own[place].copy_(weight)", 'own[place].copy_(weight) if "o_proj" not in place else None')],
        "blocks.0.attention",
        "other numbers",
    ),
    "v loaded into k": (
        [("load", "attention.k_proj attention.v_proj", "attention.v_proj attention.k_proj")],
        "blocks.0.attention",
        "keys and values exchanged",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_mistake_is_found_where_it_is_and_called_what_it_is(planted):
    changes, first, name = PLANTED[planted]
    report = located(*changes)
    assert (report.first, report.mistake.name if report.mistake else "") == (first, name), str(report)
    assert report.mistake is None or report.mistake.sure
    said = str(report)
    assert said.startswith(f"The first part that differs is {first}. ")
    assert not name or f"It looks like this ({name}): " in said


# Near to what is known, and none of it: the place is found, and no name is given.
UNKNOWN = {
    "an eps between those known": ("RMSNorm", "+ eps", "+ eps / 24"),
    "a theta near 500,000": ("Llama", "config.rope_theta)", "490_000.0)"),
    "tanh for SiLU": ("SwiGLU", "F.silu(gate)", "gate.tanh()"),
    "a part of the stream": ("Block", "mid = x + found", "mid = 0.9 * x + found"),
    "one head left out": ("grouped_query_attention", "mixed = weights @ v", "weights[:, 1] = 0; mixed = weights @ v"),
    "gains twice": ("RMSNorm", "* weight", "* weight * weight"),
    "a constant in the logits": ("Llama", "return self.head(x)", "return self.head(x) + 1"),
}


@pytest.mark.parametrize("planted", UNKNOWN)
def test_no_false_word_is_said(planted):
    report = located(UNKNOWN[planted])
    assert report.first
    assert report.mistake is None, str(report)
    assert "looks like" not in str(report)


def test_beside_another_mistake_it_is_said_with_care():
    report = located(("SwiGLU", "gate, up = self", "up, gate = self"), ("RMSNorm", "+ eps", "+ 1e-3"))
    assert (report.first, report.mistake.name, report.mistake.sure) == ("blocks.0.attention_norm", "eps of 1e-3", False)
    assert "One of the mistakes may be (eps of 1e-3)" in str(report)
    assert "blocks.1.feed_forward" in {fault.role for fault in report.faults}


@pytest.mark.parametrize(
    "place",
    [
        "embedding",
        "blocks.1.attention_norm",
        "blocks.1.attention",
        "blocks.1.feed_forward",
        "head",
        "blocks.1",
        "stack",
    ],
)
def test_each_mistake_is_told_from_right_code_and_from_the_others(place):
    model = reference(n_layers=4, dim=32, norm_eps=3e-4)
    modules = find_modules(model)
    seen = run(model, modules, TOKENS)
    comparison = locator._Comparison(modules, modules, seen, seen, seen, model.config)
    catalogue = locator._catalogue(place)
    # Without a scaling the frequencies are right; so small an eps is as good as none; fewer keys than queries here.
    same = ("no scaling of the frequencies", "no eps", "queries and keys exchanged")
    with torch.no_grad():
        right = comparison.made_by(place, catalogue.reference)
        made = {m.name: comparison.made_by(place, m.make()) for m in catalogue.misconceptions if m.name not in same}
    for name, signals in made.items():
        assert locator._distance(right, signals) > 1e-6, name
        for other in made.keys() - {name}:
            assert locator._distance(made[other], signals) > 1e-8, (name, other)


def test_queries_and_keys_exchanged_where_they_have_the_same_shape():
    report = located(("load", "attention.q_proj attention.k_proj", "attention.k_proj attention.q_proj"), n_kv_heads=4)
    assert (report.first, report.mistake.name) == ("blocks.0.attention", "queries and keys exchanged")


def test_parts_of_unknown_names_have_to_be_given():
    with pytest.raises(ValueError, match="the parts of Linear have names that are not known here: pass modules"):
        locate(nn.Linear(2, 2), reference(), TOKENS)


def test_roles_that_no_module_plays_may_be_left_out():
    model = reference()
    own, modules = learners(("Block", "mid = x + found", "mid = read + found"))["load"](model.config, in_file(model))
    few = {role: module for role, module in modules.items() if "norm" not in role and role != "head"}
    report = locate(own, model, TOKENS, few)
    assert report.first == "blocks.0.feed_forward"
    assert "blocks.0.attention_norm" not in {step.role for step in report.steps}


def test_of_a_part_that_no_module_plays_nothing_is_said():
    """Here the head is a function, and wrong: what is seen is the model's result alone."""
    model = reference()
    wrong = ("Llama", "return self.head(x)", "return x @ self.head.weight.roll(1, 0).T")
    own, modules = learners(wrong)["load"](model.config, in_file(model))
    del modules["head"]
    report = locate(own, model, TOKENS, modules)
    assert (report.first, report.mistake) == ("logits", None)
    assert "All parts before it return the right thing, but the model's result is off by" in str(report)
    assert "head" not in str(report)


def test_models_are_left_as_they_were():
    model = reference()
    own, modules = learners()["load"](model.config, in_file(model))
    own.train()
    before = {name: weight.clone() for name, weight in own.state_dict().items()}
    locate(own, model, TOKENS, modules)
    assert own.training
    assert not model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in own.modules())
    assert all(torch.equal(before[name], weight) for name, weight in own.state_dict().items())


def test_in_bfloat16_rounding_is_no_fault():
    model = reference()
    report = locate(hugging_face(model).bfloat16(), model, TOKENS)
    assert not report.faults, str(report)
