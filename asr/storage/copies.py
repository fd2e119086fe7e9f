"""Copies of remote files on this machine, in a folder of bounded size that all processes share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.storage.addresses import file_info, file_system, unreadable, version

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 22
_ATTEMPTS = 4
_known: dict[str, Path] = {}
_locks: dict[Path, threading.Lock] = {}
if hasattr(os, "register_at_fork"):  # a thread that held a lock is not in the forked process
    os.register_at_fork(after_in_child=_locks.clear)


def cache_folder() -> Path:
    """Return where copies and indexes are kept: ``ASR_CACHE``, else ``asr`` in the user's cache folder."""
    if chosen := os.environ.get("ASR_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asr"


def cache_limit() -> int:
    """Return how many bytes the copies of remote files may take: ``ASR_CACHE_GB``, by default 100 GB.

    Raises
    ------
    DataError
        The environment variable is no number above 0.
    """
    text = os.environ.get("ASR_CACHE_GB", "100")
    try:
        limit = int(float(text) * 1e9)
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise DataError(f"ASR_CACHE_GB: {text!r} is no size; give gigabytes above 0")
    return limit


def local_copy(address: str) -> Path:
    """Return a copy of a remote file, made if there is none yet.

    A process asks once whether the file has changed. Of several processes one copies and the others wait.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    known = _known.get(address)
    if known is not None and known.exists():
        with contextlib.suppress(OSError):
            os.utime(known)
        return known
    size = file_info(address).get("size")
    digest = hashlib.sha256(f"{address}\n{version(address)}".encode()).hexdigest()[:32]
    copies = cache_folder() / "copies"
    copy = copies / f"{digest}-{os.path.basename(address)[-80:]}"
    with locked(copies / f".{digest}.lock"):
        if not copy.exists():
            _make_room(copies, size or 0)
            _download(address, size, copy)
    with contextlib.suppress(OSError):
        os.utime(copy)
    _known[address] = copy
    return copy


def forget(address: str) -> None:
    """Ask again at the next need whether there is a copy and whether the file has changed."""
    _known.pop(address, None)


def _download(address: str, size: int | None, copy: Path) -> None:
    """Read a file in sequence, going on where a connection broke."""
    files, path = file_system(address)
    descriptor, temporary = tempfile.mkstemp(dir=copy.parent, prefix=".", suffix=".tmp")
    try:
        with open(descriptor, "wb") as target:
            for attempt in range(_ATTEMPTS):
                try:
                    with files.open(path, "rb", cache_type="readahead", block_size=_CHUNK) as source:
                        if target.tell():
                            source.seek(target.tell())
                        while chunk := source.read(_CHUNK):
                            _write(target, chunk)
                    if size is None or target.tell() >= size:
                        break
                    raise OSError(f"the connection ended after {target.tell()} of {size} bytes")
                except _DiskError as error:
                    raise DataError(
                        f"{copy.parent}: cannot keep a copy of {address} ({error}); make room, or set "
                        "ASR_CACHE to another folder"
                    ) from error
                except Exception as error:  # every protocol raises its own
                    if attempt == _ATTEMPTS - 1 or isinstance(error, FileNotFoundError | PermissionError):
                        raise unreadable(address, error) from error
                    time.sleep(0.2 * 4**attempt)
        os.replace(temporary, copy)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


class _DiskError(Exception):
    """Our own disk failed, not the far one."""


def _write(target: Any, chunk: bytes) -> None:
    try:
        target.write(chunk)
        target.flush()
    except OSError as error:
        raise _DiskError(error.strerror) from error


def _make_room(copies: Path, wanted: int) -> None:
    """Delete the copies used longest ago until `wanted` more bytes keep to the limit."""
    found = []
    for path in copies.iterdir():
        with contextlib.suppress(OSError):
            if not path.name.startswith("."):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    limit = cache_limit()
    for _, size, path in sorted(found):
        if total + wanted <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one thread of one process at a time do something; the others wait.

    The lock on the file is the process's own (POSIX record lock): it goes when the process does, and
    processes that it started do not hold it.

    Raises
    ------
    DataError
        The lock's folder cannot be made or written.
    """
    with _locks.setdefault(path, threading.Lock()):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            raise DataError(
                f"{path.parent}: cannot be written ({error.strerror}); choose a folder that can, for copies "
                "and indexes with ASR_CACHE"
            ) from error
        with file:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX)
            yield
