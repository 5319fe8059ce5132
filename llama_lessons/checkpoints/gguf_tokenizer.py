"""Read the tokenizer that a GGUF file holds: byte-level BPE, its vocabulary and its merges.

Not done here: tokenizers of other kinds, which are refused.
"""

from os import PathLike

from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from llama_lessons.checkpoints.gguf_file import GGUFFile

__all__ = ["load_gguf_tokenizer"]


def load_gguf_tokenizer(path: str | PathLike[str]) -> Tokenizer:
    """Build the byte-level BPE tokenizer that a GGUF file holds.

    Control tokens such as <|im_start|> in a text become one id each; `decode` leaves them out unless told
    `skip_special_tokens=False`. No token is added at either end.

    Raises:
        ValueError: if the file is damaged or no GGUF file, or its tokenizer is of another kind.
        OSError: if the file cannot be opened.
    """
    file = GGUFFile(path)
    kind = file.metadata("tokenizer.ggml.model"), file.metadata("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"{path} holds a tokenizer of kind {kind}; only ('gpt2', 'smollm') is known here")
    tokens = _read_list(file, "tokenizer.ggml.tokens", str)
    merges = [tuple(merge.split(" ")) for merge in _read_list(file, "tokenizer.ggml.merges", str)]
    try:
        bpe = models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(f"{path} holds merges that do not fit its vocabulary: {error}") from error
    tokenizer = Tokenizer(bpe)
    # "smollm" is GPT-2's way to cut a text into words, after every digit was cut off on its own.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = _read_list(file, "tokenizer.ggml.token_type", int)
    if len(types) != len(tokens):
        raise ValueError(f"{path} holds {len(tokens)} tokens and {len(types)} types of tokens")
    control = [token for token, type_ in zip(tokens, types, strict=True) if type_ == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def _read_list(file: GGUFFile, key: str, kind: type) -> list:
    found = file.metadata(key)
    if not isinstance(found, list) or not all(type(item) is kind for item in found):
        raise ValueError(f"{file.path} is damaged: metadata {key} must be a list of {kind.__name__}")
    return found
