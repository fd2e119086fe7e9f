"""How much memory a training holds, how it keeps it, and how it gives some back."""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys

import torch


def peak_memory() -> float:
    """Return the most memory that the training has held, MiB: of the CUDA device, else of this process."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # no POSIX
        return math.nan
    units = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def keep_memory() -> None:
    """Have this process keep the memory that it frees, instead of asking the system for it at every step.

    Else glibc returns what holds more than some megabytes at once, and the system clears it, page by page,
    when it is asked for next: up to a fifth of a training step on a CPU. It stays so for the whole process;
    `give_back_memory` returns what is free.
    """
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
    _glibc("mallopt", m_mmap_max, 0)
    _glibc("mallopt", m_trim_threshold, -1)  # never trim
    _glibc("mallopt", m_top_pad, 64 * 2**20)


def give_back_memory() -> None:
    """Return to the system what the heap keeps for later, which takes some milliseconds.

    Batches of ever new shapes leave holes of ever new sizes in the heap. Closed between training and
    validation, whose tensors are of other sizes, they do not add up over the epochs.
    """
    _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    """Call a function of glibc, if it is the C library."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*arguments)
