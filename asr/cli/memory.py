"""Settings of libraries that keep the memory of long work flat."""

from __future__ import annotations

import contextlib
import ctypes
import os


def keep_memory_flat() -> None:
    """Have libraries keep less for later than they would; to be called before PyTorch is imported."""
    # oneDNN, and PyTorch's layer over it, each keep compiled kernels of 1024 shapes: hundreds of megabytes
    # where every batch has a shape of its own. To compile them anew costs no time that could be measured.
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "16")
    # glibc gives up to eight heaps a core to threads, and each keeps what was once needed there.
    m_arena_max = -8  # malloc.h
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(m_arena_max, 2)
