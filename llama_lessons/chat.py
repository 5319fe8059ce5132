"""Lesson 11. Chat: a conversation as the tokens that an instruct model learned to go on from, and its tokens as text.

Each family of models writes a conversation in a way of its own, its chat template. ChatML, for one, writes each message
as

    <|im_start|>role
    content<|im_end|>

and leaves the last one, the assistant's, open. The template comes with the model, as a program in the language of
Jinja, and is run in Jinja's sandbox: it cannot reach files or Python.

The marks at both ends are control tokens: one id each, which no message may turn into. A message that spells
<|im_end|> is encoded as those ten characters, so that nobody can end their own message and speak as the system. What a
template writes in ordinary letters, such as Llama 2's [INST], no model can tell from a user's own.

Not done here: calls of tools, pictures, and control tokens that only a normalizer makes of other letters.

Source: transformers, chat_template_utils.py, for what a template may use.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

__all__ = ["ChatTemplate", "stop_tokens", "text_pieces"]

# What ends an answer: ChatML's and SmolLM2's own, then those of Llama 2 and of Llama 3.
STOPS = ("<|im_end|>", "<|endoftext|>", "</s>", "<|end_of_text|>", "<|eot_id|>")

BREAK = "\ufdd0"  # Unicode keeps it for use inside a program: no text has it

Message = Mapping[str, str]


class ChatTemplate:
    """How a model's training wrote conversations.

    Args:
        source: the template, in Jinja.
        special_tokens: texts that it may name, such as bos_token and eos_token.

    Raises:
        ValueError: if source is no Jinja.
    """

    def __init__(self, source: str, **special_tokens: str) -> None:
        self.source = source
        self.special_tokens = special_tokens
        try:
            self._template = _environment().from_string(source)
        except Exception as error:  # it is compiled to Python, which refuses what Jinja lets pass
            raise ValueError(f"the chat template is no Jinja: {error}") from error

    def text(self, messages: Sequence[Message]) -> str:
        """Write a conversation, open for the assistant's next message.

        For reading. Give a model the ids of `tokens` instead: here a message that spells a control token can't be
        told from the token itself.

        Args:
            messages: each with a "role", such as "system", "user" or "assistant", and its "content".

        Raises:
            ValueError: if the template refuses the messages; many want user and assistant in turn.
        """
        # Templates ask whether these are none, which what is not there is not.
        absent = {"tools": None, "documents": None}
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **absent, **self.special_tokens)
        except Exception as error:  # a template is a program, and may fail like any other
            raise ValueError(f"the model's chat template does not take this conversation: {error}") from error

    def tokens(self, tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
        """Encode a conversation, with control tokens where the template has them and nowhere else.

        Args:
            tokenizer: the model's.
            messages: see `text`.

        Returns:
            Token ids; decoded, they are what `text` writes.

        Raises:
            ValueError: as `text`.
        """
        # Inside each control token that a content spells, a break is put; the text is encoded on either side of it.
        spelled = re.compile("|".join(map(_between, self._control_tokens(tokenizer))) or "(?!)")
        broken = [{**message, "content": spelled.sub(BREAK, message["content"])} for message in messages]
        pieces = self.text(broken).split(BREAK)
        return [token for piece in pieces for token in tokenizer.encode(piece, add_special_tokens=False).ids]

    def _control_tokens(self, tokenizer: Tokenizer) -> list[str]:
        added = tokenizer.get_added_tokens_decoder().values()
        # Fine-tunes often add <|user|> or <tool_call> as tokens like any other.
        return [t.content for t in added if t.special or (t.content.strip() and t.content in self.source)]


def stop_tokens(tokenizer: Tokenizer, eos_token: str | None = None) -> list[int]:
    """Ids of the control tokens at which an answer ends, as far as the vocabulary has them; eos_token is one more."""
    ids = (tokenizer.token_to_id(token) for token in {*STOPS, eos_token or STOPS[0]})
    return sorted(id for id in ids if id is not None)


def text_pieces(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """Decode tokens as they come, without breaking characters; control tokens are left out.

    In byte-level BPE a token may end amid the bytes of a character. They are held back until the rest has come;
    what never gets complete is yielded at the end, as U+FFFD.

    Yields:
        Pieces of text, none empty. Joined, they are what the tokenizer makes of all tokens at once.
    """
    so_far, shown = [], ""
    for token in tokens:
        so_far.append(token)
        # Anew each time, since a decoder may treat the first token in its own way (Llama 2 strips a space).
        text = tokenizer.decode(so_far)
        if len(text) > len(shown) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[len(shown) :]
            shown = text
    if rest := tokenizer.decode(so_far)[len(shown) :]:
        yield rest


def _between(token: str) -> str:
    # A pattern for the empty place after the token's first character, wherever a text has the token.
    return f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})"


class _Generation(Extension):
    # {% generation %} marks what the assistant says, for training; here its content stands as if unmarked.
    tags = {"generation"}  # noqa: RUF012  jinja2 reads it from the class

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    # What transformers gives a template, so that it writes the same here.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: object, ensure_ascii: bool = False, **settings: object) -> str:
    # Jinja's own would write < and > as HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, **settings)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
