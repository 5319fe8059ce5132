"""Read the tokenizer that a GGUF file holds: byte-level BPE, its vocabulary and its merges.

Not done here: tokenizers of other kinds, which are refused.
"""

from collections import Counter
from os import PathLike

from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from llama_lessons.checkpoints.building import read_value, reading_tokenizer
from llama_lessons.checkpoints.gguf_file import GGUFFile

__all__ = ["load_gguf_tokenizer"]

# They stand for ids without a token, and for bytes in tokenizers of other kinds: no text becomes them, nor they text.
_NO_TEXT = (TokenType.UNUSED, TokenType.BYTE)


def load_gguf_tokenizer(path: str | PathLike[str]) -> Tokenizer:
    """Build the byte-level BPE tokenizer that a GGUF file holds.

    Control tokens such as <|im_start|> in a text become one id each; `decode` leaves them out unless told
    `skip_special_tokens=False`. So do tokens that a fine-tune added as text, such as <think>, which `decode` keeps.
    No token is added at either end.

    Raises:
        ValueError: if the file is damaged or no GGUF file, or its tokenizer is of another kind.
        OSError: if the file cannot be opened.
    """
    file = GGUFFile(path)
    _check_kind(file)
    tokens = _read_list(file, "tokenizer.ggml.tokens", str)
    # Without types all tokens are normal.
    types = _read_list(file, "tokenizer.ggml.token_type", int, [TokenType.NORMAL.value] * len(tokens))
    merges = [tuple(merge.split(" ")) for merge in _read_list(file, "tokenizer.ggml.merges", str)]
    if wrong := next((merge for merge in merges if len(merge) != 2), None):
        raise ValueError(f"{path} is damaged: the merge {' '.join(wrong)!r} is no pair")
    if len(types) != len(tokens):
        raise ValueError(f"{path} holds {len(tokens)} tokens and {len(types)} types of tokens")
    if unknown := set(types) - set(TokenType):
        raise ValueError(f"{path} is damaged: {unknown.pop()} is no type of token")
    (token, times), *_ = Counter(tokens).most_common(1) or [("", 0)]
    if times > 1:
        raise ValueError(f"{path} is damaged: it holds the token {token!r} twice")
    typed = list(zip(tokens, types, strict=True))
    vocabulary = {token: i for i, (token, type_) in enumerate(typed) if type_ not in _NO_TEXT}
    with reading_tokenizer(path, "holds merges that do not fit its vocabulary"):
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    # "smollm" is GPT-2's way to cut a text into words, after every digit was cut off on its own.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = {token for token, type_ in typed if _is_special(token, type_)}
    whole = [token for token, type_ in typed if token in special or type_ == TokenType.USER_DEFINED]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=token in special) for token in whole])
    return tokenizer


def _check_kind(file: GGUFFile) -> None:
    kind = read_value(file.metadata("tokenizer.ggml.model"), str, "tokenizer.ggml.model", file.path)
    pre = file.metadata("tokenizer.ggml.pre", "")
    if (kind, pre) == ("gpt2", "smollm"):
        return
    described = {"gpt2": f" with pre {pre or None!r}", "llama": " (sentencepiece)"}.get(kind, "")
    raise ValueError(
        f"{file.path} holds a tokenizer of kind {kind!r}{described}, which is not read here: take the model's folder "
        "in Hugging Face's format, with its tokenizer.json"
    )


def _is_special(token: str, type_: int) -> bool:
    # Fine-tunes add <|im_end|> as an ordinary token, with which a text could end its own message. llama.cpp, too, takes
    # such tokens for control, whatever the file says.
    looks_so = token.startswith("<|") and token.endswith("|>")
    return looks_so or type_ in (TokenType.CONTROL, TokenType.UNKNOWN)


def _read_list(file: GGUFFile, key: str, kind: type, default: list | None = None) -> list:
    found = file.metadata(key, default)
    if not isinstance(found, list) or not all(type(item) is kind for item in found):
        raise ValueError(f"{file.path} is damaged: metadata {key} must be a list of {kind.__name__}")
    return found
