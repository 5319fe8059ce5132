"""Other answers to load."""

import torch

from llama_lessons.grading.exercises.llama.common import IN_BLOCK as PARTS
from llama_lessons.grading.exercises.llama.Llama import Llama
from tests.grading.answers import right, wrong


def our_name(name):
    if name == "token_embd.weight":
        return "embedding.weight"
    if name == "output_norm.weight":
        return "norm.weight"
    if name == "output.weight":
        return "head.weight"
    pieces = name.split(".")
    if len(pieces) != 4 or pieces[2] not in PARTS:
        raise ValueError(f"no place for {name}")
    return f"blocks.{pieces[1]}.{PARTS[pieces[2]]}.weight"


def roles_of(model):
    roles = {"embedding": model.embedding, "norm": model.norm, "head": model.head}
    for i, block in enumerate(model.blocks):
        roles |= {f"blocks.{i}": block} | {f"blocks.{i}.{name}": part for name, part in block.named_children()}
    return roles


def rows(weight, n_heads):
    """From pairs side by side to halves, by an index."""
    head_dim = len(weight) // n_heads
    order = torch.cat((torch.arange(0, head_dim, 2), torch.arange(1, head_dim, 2)))
    return weight[(torch.arange(n_heads)[:, None] * head_dim + order).flatten()]


@right
def by_load_state_dict(config, weights):
    model = Llama(config)
    found = {}
    for name, weight in weights.items():
        ours = our_name(name)
        if ours not in model.state_dict() or (ours == "head.weight" and config.tied_embeddings):
            raise ValueError(f"{name} is one too many")
        if model.state_dict()[ours].shape != weight.shape:
            raise ValueError(f"{name}: {weight.shape} does not fit")
        heads = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads}.get(name.split(".")[-2])
        found[ours] = rows(weight, heads) if heads else weight
    if config.tied_embeddings:
        found["head.weight"] = found.get("embedding.weight")
    known = {our_name(name) for name in weights}
    theirs = {ours: theirs for theirs, ours in PARTS.items()}
    for ours in model.state_dict():
        if ours not in known and not (ours == "head.weight" and config.tied_embeddings):
            pieces = ours.split(".")
            name = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}.get(pieces[0])
            if name is None:
                name = f"blk.{pieces[1]}.{theirs['.'.join(pieces[2:-1])]}"
            raise ValueError(f"{name}.weight is not there")
    model.load_state_dict(found)
    return model, roles_of(model)


@right
def takes_out_one_by_one(config, weights):
    model, left = Llama(config), dict(weights)

    def put(parameter, name, n_heads=None):
        if name not in left:
            raise ValueError(f"{name}: missing")
        weight = left.pop(name)
        if weight.shape != parameter.shape:
            raise ValueError(f"{name}: shape {list(weight.shape)} for {list(parameter.shape)}")
        parameter.data = rows(weight, n_heads) if n_heads else weight.clone()

    put(model.embedding.weight, "token_embd.weight")
    put(model.norm.weight, "output_norm.weight")
    if not config.tied_embeddings:
        put(model.head.weight, "output.weight")
    for i, block in enumerate(model.blocks):
        for theirs, ours in PARTS.items():
            heads = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads}.get(theirs)
            put(block.get_parameter(f"{ours}.weight"), f"blk.{i}.{theirs}.weight", heads)
    for name in left:
        raise ValueError(f"{name}: no place for it")
    return model.eval(), roles_of(model)


@wrong()
def leaves_out_norms_when_missing(config, weights):
    """A norm that is missing is taken for one of ones."""
    full = dict(weights)
    for i in range(config.n_layers):
        full.setdefault(f"blk.{i}.attn_norm.weight", torch.ones(config.dim))
    return takes_out_one_by_one(config, full)


@wrong()
def reshapes_what_does_not_fit(config, weights):
    full = dict(weights)
    name = "blk.0.ffn_down.weight"
    if name in full and full[name].numel() == config.dim * config.hidden_dim:
        full[name] = full[name].reshape(config.dim, config.hidden_dim)
    return takes_out_one_by_one(config, full)


@wrong(never=("layout left as it is",))
def reorders_twice(config, weights):
    full = dict(weights)
    for name, weight in weights.items():
        if name.split(".")[-2] == "attn_q" and weight.ndim == 2 and not len(weight) % (2 * config.n_heads):
            full[name] = rows(weight, config.n_heads)
    return takes_out_one_by_one(config, full)


@wrong()
def shares_memory_with_the_file(config, weights):
    """Weights of the model are the dictionary's own tensors: training the model changes the dictionary."""
    model, roles = takes_out_one_by_one(config, weights)
    model.norm.weight.data = weights["output_norm.weight"]
    model.norm.weight.data.mul_(1.5).div_(1.5)
    return model, {**roles, "norm": model.head}
