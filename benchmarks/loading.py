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
# What is imported, and what is timed. transformers reads a GGUF file into a dictionary of tensors with a function of
# its own, the first half of its from_pretrained; the second half needs one more package.
LOADS = {
    "gguf": {
        "ours": ("from llama_lessons.checkpoints import load_gguf as load", "load(path)"),
        "theirs": (
            "from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint as load",
            "load(path, return_tensors=True)",
        ),
    },
    "folder": {
        "ours": ("from llama_lessons.checkpoints import load_hugging_face as load", "load(path)"),
        "theirs": ("from transformers import LlamaForCausalLM", "LlamaForCausalLM.from_pretrained(path)"),
    },
}
PEERS = {"gguf": "transformers' load_gguf_checkpoint", "folder": "transformers' from_pretrained"}
# Pages of mapped files count as memory only once they are read: the sum over all weights reads them.
SCRIPT = """
import json, resource, sys, time
import torch
torch.set_num_threads({threads})
{imports}
path = sys.argv[1]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
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
