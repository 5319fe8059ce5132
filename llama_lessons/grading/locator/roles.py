"""The parts of a Llama by the role that each plays, such as "blocks.3.attention"."""

import re
from typing import Any

from torch import nn

from llama_lessons.checkpoints.hugging_face_format import read_config
from llama_lessons.llama import LlamaConfig

__all__ = ["IN_BLOCK", "find_config", "find_modules", "in_order", "place_of"]

IN_BLOCK = ("attention_norm", "attention", "feed_forward_norm", "feed_forward")
OURS = {"embedding": "embedding", "norm": "norm", "head": "head", "blocks": "blocks"} | {
    part: part for part in IN_BLOCK
}
HUGGING_FACE = {
    "embedding": "model.embed_tokens",
    "blocks": "model.layers",
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward": "mlp",
    "norm": "model.norm",
    "head": "lm_head",
}


def find_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of a model by role, where they are called as in the course's Llama or in Hugging Face's.

    Raises:
        ValueError: if they have other names.
    """
    for names in (OURS, HUGGING_FACE):
        try:
            blocks = model.get_submodule(names["blocks"])
            found = {role: model.get_submodule(names[role]) for role in ("embedding", "norm", "head")}
        except AttributeError:
            continue
        for i, block in enumerate(blocks.children()):
            found[f"blocks.{i}"] = block
            parts = dict(block.named_children())
            found |= {f"blocks.{i}.{part}": parts[names[part]] for part in IN_BLOCK if names[part] in parts}
        return found
    raise ValueError(
        f"the parts of {type(model).__name__} have names that are not known here: pass modules, a dictionary from "
        'role to module, such as {"embedding": model.embedding, "blocks.0": model.blocks[0], ...}'
    )


def find_config(model: nn.Module) -> LlamaConfig | None:
    """The model's config, ours or Hugging Face's, if it has one."""
    config: Any = getattr(model, "config", None)
    if config is None or isinstance(config, LlamaConfig):
        return config
    return read_config(config.to_dict(), type(config).__name__)


def in_order(roles: list[str]) -> list[str]:
    """Roles in the order in which a Llama's parts return."""
    blocks = sorted({int(role.split(".")[1]) for role in roles if role.startswith("blocks.")})
    of_blocks = [f"blocks.{i}{part}" for i in blocks for part in (*(f".{part}" for part in IN_BLOCK), "")]
    return [role for role in ("embedding", *of_blocks, "norm", "head") if role in roles]


def place_of(role: str) -> str:
    """Where the input of a part is connected: in the block that it is in, or in the stack."""
    block = re.match(r"(blocks\.\d+)\.", role)
    return block[1] if block else "stack"
