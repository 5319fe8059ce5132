"""The learner's own Llama, made of what they have solved: loaded with real weights, and asked.

Each part can be imported from here, such as `from llama_lessons.lab.mine import RMSNorm`: the learner's own, or the
course's as long as it is not solved.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from llama_lessons.checkpoints import read_gguf
from llama_lessons.grading import mine
from llama_lessons.lab.materials import fetch
from llama_lessons.llama import LlamaConfig

__all__ = ["Assembled", "OwnLlama", "assemble", "own_parts"]


def __getattr__(name: str) -> Any:
    """A part of your own Llama, for `from llama_lessons.lab.mine import RMSNorm`; says whose it is.

    Raises:
        BrokenPart: if a file of my_llama cannot be imported.
    """
    if name not in mine.PARTS:
        raise AttributeError(f"{__name__} has no {name}; the parts of my_llama are {', '.join(mine.PARTS)}")
    (part,) = mine.take(name)
    print(f"{name}: {mine.owners()[name]}")
    return part


def own_parts() -> str:
    """How many parts of my_llama are the learner's own, and which are not, in a sentence."""
    owners = mine.owners()
    own = [part for part, owner in owners.items() if owner == "yours"]
    others = [part for part in owners if part not in own]
    whose = f"; the course's: {', '.join(others)}" if others else ""
    return f"{len(own)} of {len(owners)} parts are yours{whose}."


class OwnLlama(nn.Module):
    """A learner's Llama, called as `generation` and `perplexity` call the course's.

    Args:
        model: takes tokens and, if there are any, caches.
        config: what it was made from.
        cache_class: makes the cache of one layer.
    """

    position_limit = None
    rope = None  # `generation` asks it for a scaling that depends on the length, which a learner's model has not

    def __init__(self, model: nn.Module, config: LlamaConfig, cache_class: type) -> None:
        super().__init__()
        self.model, self.config, self.cache_class = model, config, cache_class
        self.head = nn.Identity()  # the model has applied its own

    def forward(self, tokens: Tensor, positions: Tensor | None = None, *, cache: list | None = None) -> Tensor:
        """Logits, (batch, seq_len, vocab_size); positions can only be left out.

        Raises:
            ValueError: if positions are given, which the learner's model does not take.
        """
        if positions is not None:
            raise ValueError("your model counts its own positions: leave positions out")
        return self.model(tokens) if cache is None else self.model(tokens, cache)

    def hidden_states(self, tokens: Tensor, attention_mask: Tensor | None = None, cache: list | None = None) -> Tensor:
        """What `generation` asks for: here, the logits.

        Raises:
            ValueError: if some tokens are padding, which the learner's model does not know.
        """
        if attention_mask is not None:
            raise ValueError("your model knows no padding: give it prompts of one length")
        return self(tokens, cache=cache)

    def new_cache(self, batch: int, max_seq_len: int) -> list:
        """A cache of the learner's own for each layer."""
        weight = next(self.parameters())
        sizes = batch, self.config.n_kv_heads, max_seq_len, self.config.head_dim
        return [self.cache_class(*sizes, weight.dtype, weight.device) for _ in range(self.config.n_layers)]


@dataclass
class Assembled:
    """A learner's Llama with real weights.

    Args:
        model: as `OwnLlama`.
        modules: the learner's modules by the role that each plays.
        path: the file that the weights are from.
    """

    model: OwnLlama
    modules: dict[str, nn.Module]
    path: Path

    def answer(self, question: str, max_new_tokens: int = 64) -> None:
        """Print the answer to a question, token by token; greedy."""
        for piece in self.pieces(question, max_new_tokens):
            print(piece, end="", flush=True)
        print()

    def pieces(self, question: str, max_new_tokens: int = 64) -> Iterator[str]:
        """The answer to a question, as it comes."""
        from llama_lessons.chat import stop_tokens, text_pieces
        from llama_lessons.checkpoints import load_chat_template, load_gguf_tokenizer
        from llama_lessons.generation import stream

        tokenizer, template = load_gguf_tokenizer(self.path), load_chat_template(self.path)
        prompt = template.tokens(tokenizer, [{"role": "user", "content": question}])
        stops = stop_tokens(tokenizer, template.special_tokens.get("eos_token"))
        steps = stream(self.model, [prompt], max_new_tokens, stop_tokens=stops)
        yield from text_pieces(tokenizer, (token for (token,) in steps))


def assemble(path: str | PathLike[str] | None = None, say: Callable[[str], Any] = print) -> Assembled:
    """Load a real model into your own code: all of my_llama, completed with the course's parts.

    Args:
        path: a GGUF file; by default SmolLM2-135M-Instruct, which is fetched once (93 MB).
        say: is told whose parts they are.

    Raises:
        ValueError: if the file is no Llama, or your load does not return a model and a dictionary of modules.
        BrokenPart: if a file of my_llama cannot be imported.
    """
    path = Path(path) if path else fetch("smollm2")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: your load knows the names of a .gguf file")
    parts = dict(zip(mine.PARTS, mine.take(*mine.PARTS), strict=True))
    say(f"my_llama: {own_parts()}")
    config, weights = read_gguf(path)
    loaded = parts["load"](config, weights)
    if not (isinstance(loaded, tuple) and len(loaded) == 2 and isinstance(loaded[1], dict)):
        raise ValueError("load(config, weights) must return the model and a dictionary from role to module")
    model, modules = loaded
    return Assembled(OwnLlama(model.eval(), config, parts["KVCache"]), modules, path)
