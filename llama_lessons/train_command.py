"""Train a small Llama on the characters of a text: `python -m llama_lessons train --text FILE --folder DIR`.

The folder is a Hugging Face folder once the run is done: `python -m llama_lessons ask --model DIR` goes on from what
one types, and transformers reads it too. The run itself is kept beside it, and so a command that was stopped goes on
where it was. Only the sample at the end goes to stdout.
"""

import argparse
import math
import os
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from llama_lessons.settings import LOCAL_RANK, WORLD_SIZE

if TYPE_CHECKING:  # as in __main__, what takes long to import is imported where it is needed
    import torch
    from tokenizers import Tokenizer

    from llama_lessons.data import CharTokenizer
    from llama_lessons.llama import Llama, LlamaConfig
    from llama_lessons.one_process import OneProcess
    from llama_lessons.training import History, TrainSettings

__all__ = ["CURVE", "add_parser"]

CURVE = "curve.png"
SAMPLE_LEN, SAMPLE_TEMPERATURE = 400, 0.8
TORCHRUN = "torchrun --nproc-per-node=2 -m llama_lessons train"


def add_parser(commands: Any) -> None:
    """Add `train` to the commands of `python -m llama_lessons`."""
    text = "Train a small Llama on the characters of a text. Stopped by Ctrl-C or otherwise, the same command goes on."
    epilog = f"On more processes, with the same losses: {TORCHRUN} --text FILE --folder DIR"
    parser = commands.add_parser("train", help="train a small Llama on a text", description=text, epilog=epilog)
    parser.set_defaults(run=_run, parser=parser, temperature=SAMPLE_TEMPERATURE)
    add = parser.add_argument
    add("--text", metavar="FILE", type=Path, required=True, help="what to learn from, but for its last tenth")
    add("--folder", metavar="DIR", type=Path, required=True, help="where the run, the model and its curve are kept")
    add = parser.add_argument_group("the model").add_argument
    add("--dim", metavar="N", type=int, default=128, help="channels (default %(default)s)")
    add("--layers", metavar="N", type=int, default=4, help="blocks (default %(default)s)")
    add("--heads", metavar="N", type=int, default=4, help="query heads (default %(default)s)")
    add("--kv-heads", metavar="N", type=int, default=2, help="key/value heads (default %(default)s)")
    add = parser.add_argument_group("the training").add_argument
    add("--steps", metavar="N", type=int, default=1000, help="updates of the weights (default %(default)s)")
    add("--batch-size", metavar="N", type=int, default=12, help="windows per step (default %(default)s)")
    add("--seq-len", metavar="N", type=int, default=64, help="characters of a window (default %(default)s)")
    add("--lr", metavar="X", type=float, default=2e-3, help="highest learning rate (default %(default)s)")
    add("--seed", metavar="N", type=int, default=0, help="first weights and windows (default %(default)s)")
    add("--autocast", choices=["bfloat16"], help="multiply matrices in it")
    add("--device", help="cpu, cuda or mps (default: LLAMA_LESSONS_DEVICE, else CUDA if there is one)")
    add("--shard", action="store_true", help="with torchrun: divide the weights among the processes (FSDP2)")


def _run(args: argparse.Namespace) -> None:
    from llama_lessons.lab.device import choose_device
    from llama_lessons.one_process import ALONE

    if int(os.environ.get(WORLD_SIZE, "1")) == 1:
        if args.shard:
            args.parser.error(f"--shard divides the weights among several processes: start them by {TORCHRUN}")
        _train(args, choose_device(args.device), ALONE)
        return
    device = choose_device(args.device)
    if device.type == "cuda":
        device = choose_device(f"cuda:{os.environ[LOCAL_RANK]}")
    from llama_lessons.processes import Processes

    with Processes(device, args.shard) as processes:
        try:
            _train(args, device, processes)
        except (OSError, ValueError):
            if processes.rank == 0:
                raise
            sys.exit(1)  # it is a mistake that all processes meet, and the first one names it


def _train(args: argparse.Namespace, device: "torch.device", processes: "OneProcess") -> None:
    import torch

    from llama_lessons.data import CharTokenizer, load_text, split
    from llama_lessons.llama import Llama
    from llama_lessons.training import train

    tokenizer = CharTokenizer(text := load_text(args.text))
    data, validation = (tokenizer.encode(part) for part in split(text))
    config, settings = _config(args, tokenizer.vocab_size), _settings(args)
    _check_folder(args.folder)
    torch.manual_seed(args.seed)
    model = Llama(config).to(device)
    history = train(model, data, settings, validation=validation, folder=args.folder, processes=processes)
    # Whole again, and on the CPU
    weights = {name: processes.whole(weight).cpu() for name, weight in model.state_dict().items()}
    if processes.rank > 0:
        return
    steps = len(history.losses)
    if history.interrupted:
        _tell(f"Stopped after step {steps} of {settings.total_steps}. The same command goes on from there.")
        raise KeyboardInterrupt
    model = Llama(config)
    model.load_state_dict(weights)
    _keep(model, tokenizer.characters, history, args.folder)
    loss, start = history.validation_losses[steps], math.log(config.vocab_size)
    _tell(f"Validation loss {loss:.3f} nats per character after {steps} steps; guessing blindly costs {start:.3f}.")
    _tell(f"{args.folder} holds the model and {CURVE}. Go on from a text of yours:")
    _tell(f"  python -m llama_lessons ask --temperature {SAMPLE_TEMPERATURE} --model {args.folder} TEXT")
    print(_sample(model, tokenizer, args.seed))


def _config(args: argparse.Namespace, vocab_size: int) -> "LlamaConfig":
    from llama_lessons.feed_forward import swiglu_hidden_dim
    from llama_lessons.llama import LlamaConfig

    if args.heads < 1 or args.dim % args.heads:
        raise ValueError(f"--dim ({args.dim}) must be a multiple of --heads ({args.heads})")
    return LlamaConfig(
        vocab_size=vocab_size,
        dim=args.dim,
        n_layers=args.layers,
        n_heads=args.heads,
        n_kv_heads=args.kv_heads,
        head_dim=args.dim // args.heads,
        hidden_dim=swiglu_hidden_dim(args.dim, multiple_of=8),
        max_seq_len=args.seq_len,
    )


def _settings(args: argparse.Namespace) -> "TrainSettings":
    import torch

    from llama_lessons.training import TrainSettings

    often = max(1, args.steps // 20)
    return TrainSettings(
        total_steps=args.steps,
        batch_size=args.batch_size,
        seq_len=args.seq_len,
        peak_lr=args.lr,
        lowest_lr=args.lr / 10,
        warmup_steps=args.steps // 10,
        autocast=args.autocast and getattr(torch, args.autocast),
        seed=args.seed,
        eval_every=often,
        save_every=often,
    )


def _check_folder(folder: Path) -> None:
    # At once, and not at the first checkpoint.
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give a folder to write into")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass


def _keep(model: "Llama", characters: str, history: "History", folder: Path) -> None:
    from llama_lessons.checkpoints import save_hugging_face

    save_hugging_face(model, folder)
    _hugging_face_tokenizer(characters).save(str(folder / "tokenizer.json"))
    _draw_curve(history, model.config.vocab_size, folder / CURVE)


def _hugging_face_tokenizer(characters: str) -> "Tokenizer":
    # The same as CharTokenizer(characters), in the form in which other models' tokenizers are kept
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({character: i for i, character in enumerate(characters)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()  # joined without spaces
    return tokenizer


def _draw_curve(history: "History", vocab_size: int, path: Path) -> None:
    from llama_lessons.lab.figures import COLOURS, subplots

    steps, losses = zip(*history.validation_losses.items(), strict=True)
    figure, axes = subplots()
    axes.axhline(math.log(vocab_size), color=COLOURS["grey"], linestyle=":", label=f"ln {vocab_size}: guessing blindly")
    axes.plot(history.steps, history.losses, color=COLOURS["sky"], linewidth=0.8, label="training, each step")
    axes.plot(steps, losses, "o-", color=COLOURS["orange"], markersize=4, label="validation")
    axes.set(xlabel="step", ylabel="loss (nats per character)")
    axes.set_title(f"Validation loss falls from {losses[0]:.2f} to {losses[-1]:.2f} nats per character")
    axes.legend()
    figure.savefig(path)


def _sample(model: "Llama", tokenizer: "CharTokenizer", seed: int) -> str:
    from llama_lessons.generation import generate

    half = max(1, model.config.max_seq_len // 2)
    tokens = [0]  # the first of the sorted characters, a line end in most texts
    while len(tokens) <= SAMPLE_LEN:
        # From the last ones alone, so that the model never reads further than it has learned to
        settings = {"temperature": SAMPLE_TEMPERATURE, "seed": seed + len(tokens)}
        tokens += generate(model, [tokens[-half:]], half, **settings)[0]
    return tokenizer.decode(tokens[1 : SAMPLE_LEN + 1])


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
