"""The environment variables that this course reads; each is read where it is used, and named here alone."""

import os

__all__ = ["CACHE", "DEVICE", "FULL", "LOCAL_RANK", "MINE", "PLAIN", "PROGRESS", "VERDICTS", "WORLD_SIZE", "plain"]

DEVICE = "LLAMA_LESSONS_DEVICE"  # cpu, cuda or mps: where lessons and checks run
CACHE = "LLAMA_LESSONS_CACHE"  # the folder of the model and the texts
PROGRESS = "LLAMA_LESSONS_PROGRESS"  # the file of a learner's points
MINE = "LLAMA_LESSONS_MINE"  # the folder of my_llama, what the learner has solved
PLAIN = "LLAMA_LESSONS_PLAIN"  # 1: plain text in place of cards, and no progress bars
FULL = "LLAMA_LESSONS_FULL"  # 1, or names of stored results: run those long runs again
VERDICTS = "LLAMA_LESSONS_VERDICTS"  # set by `make grade` alone: verdicts go out as data too, under this word
WORLD_SIZE = "WORLD_SIZE"  # set by torchrun: how many processes train together
LOCAL_RANK = "LOCAL_RANK"  # set by torchrun: which of this machine's processes this one is, counted from 0


def plain() -> bool:
    """Whether plain text is asked for."""
    return bool(os.environ.get(PLAIN))
