"""Time and memory of loading SmolLM2-135M, from its GGUF file and from a Hugging Face folder, beside transformers.

Each load runs in a process of its own that has imported everything first; they take turns.
"""

import json
import statistics
import subprocess
import sys
import tempfile

from benchmarks.side_by_side import THREADS, Row
from llama_lessons.checkpoints import load_gguf, save_hugging_face
from llama_lessons.lab.materials import fetch

__all__ = ["rows"]

ROUNDS = 3
# transformers' from_pretrained reads a GGUF file with this function of its own, twice, and needs one more package to
# put the tensors in place: that last part is spared here.
THEIR_GGUF = """
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
def load(path):
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**load_gguf_checkpoint(path)["config"]))
    return load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)
"""
# What is imported, and what is timed
LOADS = {
    "gguf": {
        "ours": ("from llama_lessons.checkpoints import load_gguf as load", "load(path)"),
        "theirs": (THEIR_GGUF, "load(path)"),
    },
    "folder": {
        "ours": ("from llama_lessons.checkpoints import load_hugging_face as load", "load(path)"),
        "theirs": ("from transformers import LlamaForCausalLM", "LlamaForCausalLM.from_pretrained(path)"),
    },
}
PEERS = {"gguf": "transformers' load_gguf_checkpoint", "folder": "transformers' from_pretrained"}
# Pages of mapped files count as memory only once they are read: the sum over all weights reads them. getrusage would
# tell the peak of the process that this one came from, too.
SCRIPT = """
import json, sys, time
import torch
torch.set_num_threads({threads})
{imports}
path = sys.argv[1]
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
before, start = peak(), time.perf_counter()
model = {call}
seconds = time.perf_counter() - start
tensors = model["tensors"].values() if isinstance(model, dict) else model.parameters()
sum(float(torch.as_tensor(tensor).detach().sum()) for tensor in tensors)
print(json.dumps([seconds, (peak() - before) / 1e6]))
"""


def rows() -> list[Row]:
    """Measure both ways in."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {"gguf": str(fetch("smollm2")), "folder": folder}
        save_hugging_face(load_gguf(paths["gguf"]), folder)
        for kind, path in paths.items():
            taken: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
            for _ in range(ROUNDS):
                for who in taken:
                    taken[who].append(_load(*LOADS[kind][who], path))
            for i, (unit, name) in enumerate([("s", "time"), ("MB", "peak memory")]):
                ours, theirs = (statistics.median(run[i] for run in taken[who]) for who in ("ours", "theirs"))
                found.append(
                    Row(
                        what=f"loading SmolLM2-135M, {kind}: {name}",
                        unit=unit,
                        ours=ours,
                        peer=PEERS[kind],
                        theirs=theirs,
                        better=theirs / ours,
                    )
                )
    return found


def _load(imports: str, call: str, path: str) -> list[float]:
    script = SCRIPT.format(threads=THREADS, imports=imports, call=call)
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
