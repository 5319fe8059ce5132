"""Chat: a conversation as the tokens that an instruct model learned to go on from, and its tokens as text.

ChatML writes each message as

    <|im_start|>role
    content<|im_end|>

and leaves the last one, the assistant's, open. The marks at both ends are control tokens: one id each, which
no text may turn into. A message that spells <|im_end|> is encoded as those ten characters, so that nobody
can end their own message and speak as the system.

Not done here: the templates of other model families, and calls of tools.

Source: SmolLM2-135M-Instruct's own template (Allal et al. 2025, "SmolLM2: When Smol Goes Big").
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tokenizers import Tokenizer

__all__ = ["DEFAULT_SYSTEM", "chat_prompt", "chat_tokens", "speaks_chatml", "stop_tokens", "text_pieces"]

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

START, END = "<|im_start|>", "<|im_end|>"
ROLES = ("system", "user", "assistant")

# What ends an answer: ChatML's and SmolLM2's own, then those of Llama 2 and of Llama 3.
STOPS = (END, "<|endoftext|>", "</s>", "<|end_of_text|>", "<|eot_id|>")

Message = Mapping[str, str]


def chat_prompt(messages: Sequence[Message], system: str | None = None) -> str:
    """Write a conversation as the text of SmolLM2's template, open for the assistant's next message.

    For reading. Give a model the ids of `chat_tokens` instead: here a message that spells a control token can't
    be told from the token itself.

    Args:
        messages: each with a "role", one of "system", "user" and "assistant", and its "content".
        system: content of the system message that comes first; by default the model's own. Where messages begin
            with one, that one stands.

    Raises:
        ValueError: if there is no message, a role is unknown, or there are two system messages to come first.
    """
    opened = (f"{START}{role}\n{content}{END}\n" for role, content in _turns(messages, system))
    return "".join(opened) + f"{START}assistant\n"


def chat_tokens(tokenizer: Tokenizer, messages: Sequence[Message], system: str | None = None) -> list[int]:
    """Encode a conversation, with control tokens where the template has them and nowhere else.

    Args:
        tokenizer: one whose vocabulary has ChatML's control tokens.
        messages: see `chat_prompt`, as for system.

    Returns:
        Token ids; decoded, they are the text of `chat_prompt`.

    Raises:
        ValueError: as `chat_prompt`, and if the tokenizer does not have the control tokens.
    """
    if not speaks_chatml(tokenizer):
        raise ValueError(f"this tokenizer has no {START} and {END}: its model did not learn conversations in ChatML")
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    tokens: list[int] = []
    for role, content in _turns(messages, system):
        tokens += [start, *_encode_as_text(tokenizer, f"{role}\n{content}"), end, *_encode_as_text(tokenizer, "\n")]
    return [*tokens, start, *_encode_as_text(tokenizer, "assistant\n")]


def speaks_chatml(tokenizer: Tokenizer) -> bool:
    """Whether ChatML's control tokens are in the vocabulary."""
    return all(tokenizer.token_to_id(token) is not None for token in (START, END))


def stop_tokens(tokenizer: Tokenizer) -> list[int]:
    """Ids of the control tokens at which an answer ends, as far as the vocabulary has them."""
    return [token for token in map(tokenizer.token_to_id, STOPS) if token is not None]


def text_pieces(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """Decode tokens as they come, without breaking characters; control tokens are left out.

    In byte-level BPE a token may end amid the bytes of a character. They are held back until the rest has come;
    what never gets complete is handed out at the end, as U+FFFD.

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


def _turns(messages: Sequence[Message], system: str | None) -> Iterator[tuple[str, str]]:
    if not messages:
        raise ValueError("messages must hold at least one message")
    for message in messages:
        if message["role"] not in ROLES:
            raise ValueError(f"role ({message['role']!r}) must be one of {', '.join(map(repr, ROLES))}")
    if messages[0]["role"] != "system":
        yield "system", DEFAULT_SYSTEM if system is None else system
    elif system is not None:
        raise ValueError("messages begin with a system message, and system is given too: leave one out")
    for message in messages:
        yield message["role"], message["content"]


def _encode_as_text(tokenizer: Tokenizer, text: str) -> list[int]:
    before = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True  # control tokens that a text spells are encoded as the letters they are
    try:
        return tokenizer.encode(text, add_special_tokens=False).ids
    finally:
        tokenizer.encode_special_tokens = before
