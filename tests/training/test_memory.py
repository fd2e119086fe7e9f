"""What a training keeps of the memory that it frees, and what it gives back."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from asr.training.memory import give_back_memory, keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def count(steps):
    before = faults()
    for _ in range(steps):
        torch.zeros(10_000_000)  # 40 MB, more than glibc keeps by itself
    return faults() - before

plain = count(5)
keep_memory()
count(12)
kept = count(5)
with open("/proc/self/statm") as file:
    held = int(file.read().split()[1])
give_back_memory()
with open("/proc/self/statm") as file:
    print(plain, kept, held - int(file.read().split()[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told")
def test_freed_memory_is_not_asked_for_again_and_can_be_given_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    plain, kept, given_back = map(int, done.stdout.split())
    pages = 40_000_000 // 4096
    assert plain > 4 * pages
    assert kept < pages / 10
    assert given_back > 0.8 * pages
