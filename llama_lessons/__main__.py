"""Talk to a Llama on the command line: `python -m llama_lessons ask "What is the capital of France?"`.

Only the answer goes to stdout, token by token; everything else goes to stderr.
"""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from llama_lessons.chat import chat_tokens, speaks_chatml, stop_tokens, text_pieces
from llama_lessons.lab.materials import MaterialError, fetch

# What imports torch, which takes seconds, is imported where it is needed: --help and a wrong argument come at once.
if TYPE_CHECKING:
    from llama_lessons.llama import Llama

__all__ = ["main"]

EXAMPLES = """examples:
  python -m llama_lessons ask "What is the capital of France?"
  python -m llama_lessons ask --temperature 0.8 --top-p 0.9 "Write a poem about the sea."
  python -m llama_lessons ask - < question.txt
  python -m llama_lessons chat
"""

FAILED, INTERRUPTED = 1, 130
# What a shell reports of a program that wrote to a closed pipe, as of `yes | head`
READER_GONE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; arguments that are wrong end the program, with code 2."""
    args = _parser().parse_args(arguments)
    if args.temperature == 0 and (args.top_k or args.top_p):
        args.parser.error(
            "--top-k and --top-p choose what is drawn from, and at temperature 0 nothing is drawn: "
            "add --temperature 0.8, or leave them out"
        )
    try:
        return args.run(args)
    except KeyboardInterrupt:
        _tell("")  # the terminal has written ^C in this line
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer has seen enough. Python flushes stdout once more on leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except (MaterialError, ValueError, OSError) as error:
        _tell(f"llama_lessons: {error}")
        return FAILED


def _ask(args: argparse.Namespace) -> int:
    from_stdin = args.question == ["-"] or (not args.question and not sys.stdin.isatty())
    question = (sys.stdin.read() if from_stdin else " ".join(args.question)).strip()
    _check_unicode(question, args.system or "")
    if not question:
        args.parser.error('there is no question: write it after ask, as in ask "What is the capital of France?"')
    model, tokenizer = _load(args)
    if speaks_chatml(tokenizer):
        prompt = chat_tokens(tokenizer, [{"role": "user", "content": question}], args.system)
    elif args.system is not None:
        raise ValueError("--system is for models that learned conversations in ChatML; this one did not")
    else:
        _tell("This model did not learn conversations in ChatML: it goes on with your text.")
        prompt = tokenizer.encode(question).ids
    _, interrupted = _answer(model, tokenizer, prompt, args)
    return INTERRUPTED if interrupted else 0


def _chat(args: argparse.Namespace) -> int:
    model, tokenizer = _load(args)
    if not speaks_chatml(tokenizer):
        raise ValueError("chat is for models that learned conversations in ChatML; this one did not: use ask")
    by_hand = sys.stdin.isatty()
    if by_hand:
        with suppress(ImportError):  # not on Windows, where the terminal does it
            import readline  # noqa: F401  arrow keys edit the line that input() reads
        _tell("Ctrl-C stops an answer, Ctrl-D leaves.")
    messages = []
    while True:
        try:
            question = input("> " if by_hand else "").strip()
        except EOFError:
            if by_hand:
                _tell("")
            return 0
        except KeyboardInterrupt:
            if not by_hand:
                raise
            _tell("\nCtrl-D leaves.")
            continue
        _check_unicode(question, args.system or "")
        if question:
            messages.append({"role": "user", "content": question})
            said, _ = _answer(model, tokenizer, chat_tokens(tokenizer, messages, args.system), args)
            messages.append({"role": "assistant", "content": said})


def _load(args: argparse.Namespace) -> tuple["Llama", "Tokenizer"]:
    path = args.model or fetch("smollm2")
    _tell(f"Loading {path.name} ...")
    from llama_lessons.lab.device import choose_device

    try:
        device = choose_device(args.device)
    except ValueError as error:
        args.parser.error(f"{error}, or write --device cpu")
    from llama_lessons.checkpoints import load_gguf, load_gguf_tokenizer, load_hugging_face

    if not path.is_dir():
        tokenizer = load_gguf_tokenizer(path)
        return load_gguf(path).to(device), tokenizer
    file = path / "tokenizer.json"
    if not file.is_file():
        raise ValueError(f"{path} has no tokenizer.json, which turns text into ids: put the model's own there")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(f"{file} is damaged: {error}") from error
    return load_hugging_face(path).to(device), tokenizer


def _answer(model: "Llama", tokenizer: "Tokenizer", prompt: list[int], args: argparse.Namespace) -> tuple[str, bool]:
    """Write the answer to stdout; return it, and whether Ctrl-C cut it short."""
    from llama_lessons.generation import stream

    learned, asked = model.config.max_seq_len, len(prompt) + args.max_new_tokens
    if asked > learned:
        _tell(
            f"Prompt and answer may reach {asked} tokens; this model learned to read {learned}, and gets worse there."
        )
    seed = secrets.randbelow(2**32) if args.seed is None else args.seed
    began, times = time.perf_counter(), []
    steps = stream(
        model,
        [prompt],
        args.max_new_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        stop_tokens=stop_tokens(tokenizer),
        seed=seed,
    )
    said, interrupted = "", False
    try:
        for piece in text_pieces(tokenizer, _timed((token for (token,) in steps), times)):
            print(piece, end="", flush=True)
            said += piece
    except KeyboardInterrupt:
        interrupted = True
    print(flush=True)
    if args.stats and times:
        _tell(f"{len(prompt)} tokens read in {times[0] - began:.2f} s, {len(times)} written", end="")
        _tell(f", {(len(times) - 1) / (times[-1] - times[0]):.1f} a second" if len(times) > 1 else "", end="")
        _tell(f"; --seed {seed}" if args.temperature else "")
    return said, interrupted


def _check_unicode(*texts: str) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise ValueError("what you ask is not UTF-8 text: save it in that encoding") from error


def _timed(tokens: Iterable[int], times: list[float]) -> Iterator[int]:
    for token in tokens:
        times.append(time.perf_counter())
        yield token


def _tell(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llama_lessons",
        description="Talk to a Llama made of this course's code: SmolLM2-135M-Instruct, fetched once (93 MB), "
        "or a model of your own.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="{ask,chat}", required=True)
    options = _options()
    ask = commands.add_parser("ask", parents=[options], help="ask one question", description="Ask one question.")
    ask.add_argument("question", nargs="*", help="what to ask; - or nothing reads it from stdin")
    ask.set_defaults(run=_ask, parser=ask)
    chat = commands.add_parser(
        "chat", parents=[options], help="talk, line by line", description="Talk, line by line, until Ctrl-D."
    )
    chat.set_defaults(run=_chat, parser=chat)
    return parser


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("the answer")
    group.add_argument(
        "--temperature",
        metavar="T",
        type=_number(float, lambda t: 0 <= t < float("inf"), "a number, at least 0"),
        default=0.0,
        help="0 takes the best token each time, and is the default; 1 draws as the model learned",
    )
    group.add_argument(
        "--top-k",
        metavar="K",
        type=_number(int, lambda k: k >= 1, "a whole number, at least 1"),
        help="draw from the K best tokens alone",
    )
    group.add_argument(
        "--top-p",
        metavar="P",
        type=_number(float, lambda p: 0 < p <= 1, "a number above 0 and at most 1"),
        help="draw from the fewest tokens whose probability reaches P",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=_number(int, lambda s: 0 <= s < 2**63, "a whole number from 0"),
        help="draw the same again; without it, each run draws anew",
    )
    group.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=_number(int, lambda n: n >= 1, "a whole number, at least 1"),
        default=256,
        help="stop after N tokens (default %(default)s)",
    )
    group.add_argument("--system", metavar="TEXT", help="tell the model who it is and how to answer")
    group = options.add_argument_group("the model")
    group.add_argument(
        "--model",
        metavar="PATH",
        type=Path,
        help="a .gguf file, or a folder in Hugging Face's format with its tokenizer.json",
    )
    group.add_argument("--device", help="cpu, cuda or mps (default: LLAMA_LESSONS_DEVICE, else CUDA if there is one)")
    group.add_argument("--stats", action="store_true", help="tell afterwards how many tokens it took, and how long")
    return options


def _number(kind: type, fits: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = None
        if number is None or not fits(number):
            raise argparse.ArgumentTypeError(f"{text!r} must be {wanted}")
        return number

    return read


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # not every terminal has every character of an answer
    sys.exit(main())
