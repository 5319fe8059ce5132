"""What each process holds in training: equal shares with FSDP2, whole copies with DDP."""

from llama_lessons.lab.training_memory import bytes_held, kept_memory
from llama_lessons.one_process import ALONE

KINDS = ("parameters", "gradients", "optimizer state")


def test_one_process_holds_four_numbers_for_each_weight():
    held = bytes_held(ALONE)
    assert tuple(held) == KINDS
    assert held["gradients"] == held["parameters"]
    assert held["optimizer state"] == 2 * held["parameters"]


def test_sharding_divides_all_of_it_and_a_copy_each_does_not():
    kept = kept_memory()
    (alone,) = kept["one process"]
    assert alone == bytes_held(ALONE)
    assert kept["DDP"] == [alone, alone]
    for kind in KINDS:
        assert sum(process[kind] for process in kept["FSDP2 (--shard)"]) == alone[kind]
        assert kept["FSDP2 (--shard)"][0][kind] == alone[kind] / 2
