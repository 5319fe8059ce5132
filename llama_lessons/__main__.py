"""Talk to a Llama on the command line: `python -m llama_lessons ask "What is the capital of France?"`.

Only the answer goes to stdout, token by token; everything else goes to stderr.
"""

import signal

if __name__ == "__main__":  # until the other imports are done, Ctrl-C ends Python without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import io
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from llama_lessons.train_command import add_parser as add_train_parser

# What takes long to import is imported where it is needed, so that --help and a wrong argument are answered at once.

__all__ = ["main"]

EXAMPLES = """examples:
  python -m llama_lessons ask "What is the capital of France?"
  python -m llama_lessons ask --temperature 0.8 --top-p 0.9 "Write a poem about the sea."
  python -m llama_lessons ask --mine "What is the capital of France?"
  python -m llama_lessons ask - < question.txt
  python -m llama_lessons chat
  python -m llama_lessons train --text FILE --folder DIR
"""

MODEL = """a Llama: a .gguf file, or a folder in Hugging Face's format (config.json, *.safetensors, tokenizer.json);
what you say is put into its own chat template (in the .gguf file, chat_template.jinja or tokenizer_config.json);
without one, the model goes on with your text"""

FAILED, INTERRUPTED = 1, 130
# What a shell reports of a program that wrote to a closed pipe, as of `yes | head`
READER_GONE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; arguments that are wrong end the program, with code 2."""
    try:
        try:
            args = _parser().parse_args(arguments)
            if not args.temperature and (args.top_k or args.top_p or args.min_p):
                args.parser.error(
                    "at temperature 0 nothing is drawn: --top-k, --top-p and --min-p need a --temperature"
                )
            args.run(args)
            return 0
        finally:
            sys.stdout.flush()  # a full disk shows here, and not when Python leaves, with a traceback
    except SystemExit:
        raise
    except KeyboardInterrupt:
        _tell("")  # the terminal has written ^C in this line
        return INTERRUPTED
    except BaseException as error:
        with suppress(OSError):  # what is still to be written would fail once more when Python leaves
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return READER_GONE
        why = str(error) or type(error).__name__
        if isinstance(error, UnicodeError):
            why = "what you ask is not UTF-8 text: save it in that encoding"
        elif not isinstance(error, Exception):  # a panic in Rust, in which tokenizers is written
            why = f"the model's tokenizer is damaged: {why}"
        _tell(f"llama_lessons: {why.splitlines()[0]}")
        return FAILED


def _ask(args: argparse.Namespace) -> None:
    from_stdin = args.question == ["-"] or (not args.question and not sys.stdin.isatty())
    question = (sys.stdin.read() if from_stdin else " ".join(args.question)).strip()
    if not question:
        args.parser.error('there is no question: write it after ask, as in ask "What is the capital of France?"')
    _Conversation(args).answer(question)


def _chat(args: argparse.Namespace) -> None:
    conversation = _Conversation(args)
    if conversation.template is None:
        raise ValueError("chat is for models that have a chat template; this one has none: use ask")
    by_hand = sys.stdin.isatty()
    if by_hand:
        with suppress(ImportError):  # not on Windows, where the terminal does it
            import readline  # noqa: F401  arrow keys edit the line that input() reads
        _tell("Ctrl-C stops an answer, Ctrl-D leaves.")
    while True:
        try:
            if question := input("> " if by_hand else "").strip():
                conversation.answer(question)
        except EOFError:
            return _tell("") if by_hand else None
        except KeyboardInterrupt:
            if not by_hand:
                raise
            _tell("\nCtrl-D leaves.")


class _Conversation:
    # A model, and what was said so far.

    def __init__(self, args: argparse.Namespace) -> None:
        from llama_lessons.lab.materials import fetch

        path = args.model or fetch("smollm2")
        _tell(f"Loading {path.resolve().name} ...")

        from llama_lessons import checkpoints
        from llama_lessons.chat import stop_tokens
        from llama_lessons.generation import store_for_decoding_
        from llama_lessons.lab.device import choose_device
        from llama_lessons.quantization import has_kernels
        from llama_lessons.sampling import check_settings

        device = choose_device(args.device)
        if args.weights == "stored" and (args.mine or path.is_dir() or device.type != "cpu"):
            raise ValueError(
                "--weights stored is for a .gguf file, the course's own code and a CPU: leave it out with --mine, "
                "with a folder, and on another device"
            )
        # Numbers out of range are refused before the model is loaded.
        check_settings(args.temperature, args.top_k, args.top_p, args.min_p)
        self.args, self.messages, self.template = args, [], checkpoints.load_chat_template(path)
        read_tokenizer = checkpoints.load_hugging_face_tokenizer if path.is_dir() else checkpoints.load_gguf_tokenizer
        self.tokenizer = read_tokenizer(path)
        if args.mine:
            from llama_lessons.lab.mine import assemble

            self.model = assemble(path, say=_tell).model
        elif path.is_dir():
            self.model = checkpoints.load_hugging_face(path)
        else:
            as_stored = args.weights == "stored" or (
                args.weights == "auto" and device.type == "cpu" and has_kernels() and checkpoints.is_quantized(path)
            )
            _tell(f"Weights: {'4 bits, as stored' if as_stored else 'float32'}.")
            self.model = checkpoints.load_gguf(path, weights="as stored" if as_stored else "float32")
        store_for_decoding_(self.model.to(device))
        if args.system is not None:
            if self.template is None:
                raise ValueError("--system is for models that have a chat template; this one has none")
            self.messages.append({"role": "system", "content": args.system})
        self.stops = stop_tokens(self.tokenizer, self.template and self.template.special_tokens.get("eos_token"))

    def answer(self, question: str) -> None:
        """Write the answer to stdout, and keep it, even if Ctrl-C cuts it short."""
        from llama_lessons.chat import text_pieces
        from llama_lessons.generation import stream

        args, learned, said = self.args, self.model.config.max_seq_len, ""
        self.messages.append({"role": "user", "content": question})
        try:
            prompt = self._prompt()
            if (asked := len(prompt) + args.max_new_tokens) > learned:
                _tell(f"Prompt and answer may reach {asked} tokens; the model learned {learned} and gets worse beyond.")
            seed = secrets.randbelow(2**32) if args.seed is None else args.seed % 2**63
            names = ("temperature", "top_k", "top_p", "min_p")
            sampling = {name: getattr(args, name) for name in names} | {"seed": seed}
            steps = stream(self.model, [prompt], args.max_new_tokens, stop_tokens=self.stops, **sampling)
            for piece in text_pieces(self.tokenizer, (token for (token,) in steps)):
                print(piece, end="", flush=True)
                said += piece
            print(flush=True)
        finally:
            self.messages.append({"role": "assistant", "content": said})

    def _prompt(self) -> list[int]:
        # Bytes that are not UTF-8 reach Python as half characters, and fail here.
        "".join(message["content"] for message in self.messages).encode()
        if self.template is None:
            _tell("This model has no chat template: it goes on with your text.")
            return self.tokenizer.encode(self.messages[-1]["content"]).ids
        return self.template.tokens(self.tokenizer, self.messages)


def _tell(text: str) -> None:
    with suppress(OSError):  # where nobody can be told, the answer still counts
        print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llama_lessons",
        description="Talk to a Llama made of this course's code: SmolLM2-135M-Instruct, fetched once (93 MB), "
        "or a model of your own.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="{ask,chat,train}", required=True)
    ask = commands.add_parser("ask", help="ask one question", description="Ask one question.")
    ask.add_argument("question", nargs="*", help="what to ask; - or nothing reads it from stdin")
    chat = commands.add_parser("chat", help="talk, line by line", description="Talk, line by line, until Ctrl-D.")
    for command, run in ((ask, _ask), (chat, _chat)):
        command.set_defaults(run=run, parser=command)
        add = command.add_argument_group("the answer").add_argument
        add("--temperature", metavar="T", type=float, default=0.0, help="0 (default): the best token; 1: as learned")
        add("--top-k", metavar="K", type=int, help="draw from the K best tokens alone")
        add("--top-p", metavar="P", type=float, help="draw from the fewest tokens whose probability reaches P")
        add("--min-p", metavar="P", type=float, help="draw from tokens at least P times as probable as the best one")
        add("--seed", metavar="N", type=int, help="draw the same again; without it, each run draws anew")
        add("--max-new-tokens", metavar="N", type=int, default=256, help="stop after N tokens (default %(default)s)")
        add("--system", metavar="TEXT", help="tell the model who it is and how to answer")
        add = command.add_argument_group("the model").add_argument
        add("--model", metavar="PATH", type=Path, help=MODEL)
        add(
            "--mine", action="store_true", help="your own code: my_llama, with the course's parts where it has none yet"
        )
        add(
            "--weights",
            choices=("auto", "float32", "stored"),
            default="auto",
            help="of a .gguf file: float32, or 4 bits as stored: faster, in less memory, another word now and then; "
            "auto (default): as stored where that can be",
        )
        add("--device", help="cpu, cuda or mps (default: LLAMA_LESSONS_DEVICE, else CUDA if there is one)")
    add_train_parser(commands)
    return parser


def _prepare_streams() -> None:
    # A stream that the shell has closed is None, and the next file to be opened would take its place.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115  for as long as the program runs
    if sys.stdout is None:
        sys.exit("llama_lessons: stdout is closed, and the answer goes there")
    sys.stdout.reconfigure(errors="replace")  # not every terminal has every character of an answer
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    # stderr for us alone, and unbuffered: what tokenizers' Rust writes there of its own is no line for users.
    own = io.FileIO(os.dup(sys.stderr.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.stderr = io.TextIOWrapper(own, sys.stderr.encoding, errors="backslashreplace", write_through=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _prepare_streams()
    sys.exit(main())
