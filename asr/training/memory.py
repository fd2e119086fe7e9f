"""How much memory a training holds, and how it gives some back."""

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


def give_back_memory() -> None:
    """Return to the system what the heap keeps for later, which takes some milliseconds.

    Batches of ever new shapes leave holes of ever new sizes in the heap. Closed between training and
    validation, whose tensors are of other sizes, they do not add up over the epochs.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
