"""Parts of files, read from files that stay open, and reading ahead."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

from asr.errors import DataError
from asr.storage.addresses import Part, is_remote, unreadable
from asr.storage.copies import forget, local_copy

_MAX_OPEN = 128


def read_part(part: Part) -> bytes:
    """Read a part of a file.

    Raises
    ------
    DataError
        The file cannot be read, or ends before the part does.
    """
    path = part.file
    if is_remote(path):
        path = str(local_copy(path))
    try:
        content = _files.read(path, part.offset, part.length)
    except FileNotFoundError as error:
        if not is_remote(part.file):
            raise unreadable(part.file, error) from error
        # Made room for others meanwhile.
        forget(part.file)
        content = _files.read(str(local_copy(part.file)), part.offset, part.length)
    except OSError as error:
        raise unreadable(part.file, error) from error
    if len(content) < part.length:
        raise DataError(
            f"{part.file}: ends before byte {part.offset + part.length}, which its index names; copy the file"
            " again, or make it and its index anew with 'asr pack'"
        )
    return content


def prefetch(files: Sequence[str]) -> None:
    """Begin to read files that will be needed soon, in the background; failures show when they are needed."""
    if not files:
        return

    def work() -> None:
        for file in files:
            with contextlib.suppress(DataError, OSError):
                if is_remote(file):
                    local_copy(file)
                elif hasattr(os, "posix_fadvise"):
                    with open(file, "rb") as content:
                        os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    threading.Thread(target=work, daemon=True).start()


class _OpenFiles:
    """Files kept open, so that a part costs one call of the system; forked processes may share them."""

    def __init__(self) -> None:
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self.lock = threading.Lock()

    def read(self, path: str, offset: int, length: int) -> bytes:
        with self.lock:
            descriptor = self._open(path)
            content = os.pread(descriptor, length, offset)
            while len(content) < length:  # the system may give less than was asked for, 2 GiB at most
                more = os.pread(descriptor, length - len(content), offset + len(content))
                if not more:
                    break
                content += more
        return content

    def _open(self, path: str) -> int:
        descriptor = self._descriptors.get(path)
        if descriptor is None:
            descriptor = self._descriptors[path] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            if len(self._descriptors) > _MAX_OPEN:
                os.close(self._descriptors.popitem(last=False)[1])
        else:
            self._descriptors.move_to_end(path)
        return descriptor


_files = _OpenFiles()


def _forget_lock() -> None:
    """In a forked process: another thread may have held the lock, and is not there."""
    _files.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
