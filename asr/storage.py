"""Bytes at an address: a file, a part of one, or either behind an fsspec address such as ``s3://``.

A part is written ``FILE:offset:length`` in bytes, as fairseq's manifests of speech name what lies in an
uncompressed container; so a recording in a tar file is named as any other. Remote files are copied whole,
read in sequence, into a folder of this machine that all its processes share, and the ones used longest ago
make room for others. So what is read again and again costs the network once, and no reader knows the
difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asr.errors import DataError

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"(.+):(\d+):(\d+)", re.DOTALL)
_CHUNK = 1 << 22
_ATTEMPTS = 4
_MARKS = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "created")
_MAX_OPEN = 128


class Part(NamedTuple):
    """A part of a file.

    Attributes
    ----------
    file : str
        Path or address.
    offset, length : int
        Bytes.
    """

    file: str
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}:{self.length}"


def parse_part(address: str) -> Part | None:
    """Return what ``FILE:offset:length`` names; None for the address of a whole file."""
    found = _PART.fullmatch(address)
    return Part(found[1], int(found[2]), int(found[3])) if found else None


def file_of(address: str) -> str:
    """Return the file that an address names a part of, or the address itself."""
    part = parse_part(address)
    return address if part is None else part.file


def is_remote(address: str) -> bool:
    """Tell whether an address has a protocol, as ``s3://bucket/x``."""
    return "://" in address


def join(folder: str, address: str) -> str:
    """Return an address, which may be relative to a folder or remote folder, as one that is not."""
    if is_remote(address):
        return address
    if is_remote(folder):
        return f"{folder.rstrip('/')}/{address}"
    return os.path.normpath(os.path.join(folder, address))


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
            raise _unreadable(part.file, error) from error
        # Made room for others meanwhile.
        _known.pop(part.file, None)
        content = _files.read(str(local_copy(part.file)), part.offset, part.length)
    except OSError as error:
        raise _unreadable(part.file, error) from error
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
                    _files.advise(file)

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

    def advise(self, path: str) -> None:
        with self.lock:
            os.posix_fadvise(self._open(path), 0, 0, os.POSIX_FADV_WILLNEED)

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
_known: dict[str, Path] = {}
_locks: dict[Path, threading.Lock] = {}


def _forget_locks() -> None:
    """In a forked process, whose other threads are gone with what they held."""
    _files.lock = threading.Lock()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


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


def version(address: str) -> str:
    """Return what changes when a file does: its size and time, or what a remote file's server says of it.

    Raises
    ------
    DataError
        There is no such file.
    """
    if not is_remote(address):
        try:
            stat = os.stat(address)
        except OSError as error:
            raise _unreadable(address, error) from error
        return f"{stat.st_size} {stat.st_mtime_ns}"
    info = _info(address)
    return " ".join(str(info.get(key)) for key in _MARKS)


def _info(address: str) -> dict[str, Any]:
    files, path = _file_system(address)
    try:
        return files.info(path)
    except Exception as error:  # every protocol raises its own
        raise _unreadable(address, error) from error


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
    size = _info(address).get("size")
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


def _download(address: str, size: int | None, copy: Path) -> None:
    """Read a file in sequence, going on where a connection broke."""
    files, path = _file_system(address)
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
                        raise _unreadable(address, error) from error
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


def expand(pattern: str) -> list[str]:
    """List the files that a pattern stands for: braces, as in ``a_{0..15}.tar``, then ``*``, ``?``, ``[]``.

    NeMo's ``_OP_`` and ``_CL_`` are braces too. A file that a brace names is listed whether it exists or not.

    Raises
    ------
    DataError
        Nothing is like the pattern, or its braces stand for too many files.
    """
    found = []
    for name in _braces(pattern.replace("_OP_", "{").replace("_CL_", "}")):
        found += _matches(name) if re.search(r"[*?[]", name) and not os.path.exists(name) else [name]
    if not found:
        raise DataError(f"{pattern}: no file is like this; check the pattern")
    return found


def _braces(text: str) -> list[str]:
    found = re.search(r"\{([^{}]*)\}", text)
    if not found:
        return [text]
    inner = found[1]
    if bounds := re.fullmatch(r"(\d+)\.\.(\d+)", inner):
        first, last = int(bounds[1]), int(bounds[2])
        if abs(last - first) > 1_000_000:
            raise DataError(f"{text}: the braces stand for more than a million files; check the numbers")
        width = (
            max(map(len, bounds.groups()))
            if any(b.startswith("0") and len(b) > 1 for b in bounds.groups())
            else 0
        )
        step = 1 if last >= first else -1
        options = [f"{number:0{width}}" for number in range(first, last + step, step)]
    else:
        options = inner.split(",")
    before, after = text[: found.start()], text[found.end() :]
    return [name for option in options for name in _braces(before + option + after)]


def _matches(pattern: str) -> list[str]:
    if not is_remote(pattern):
        import glob

        return natural_order(glob.glob(pattern))
    files, path = _file_system(pattern)
    try:
        return natural_order(files.unstrip_protocol(name) for name in files.glob(path))
    except Exception as error:  # every protocol raises its own
        raise _unreadable(pattern, error) from error


def natural_order(names: Iterable[str]) -> list[str]:
    """Sort names so that ``audio_2.tar`` stands before ``audio_10.tar``."""
    return sorted(
        names, key=lambda name: [(len(p), p) if p.isdigit() else (0, p) for p in re.split(r"(\d+)", name)]
    )


def list_folder(folder: str) -> list[str] | None:
    """List the names in a folder; None if it is no folder, or one that does not say what it holds.

    Raises
    ------
    DataError
        The protocol is unknown or its package is missing.
    """
    if not is_remote(folder):
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else None
    files, path = _file_system(folder)
    try:
        return (
            sorted(os.path.basename(name.rstrip("/")) for name in files.ls(path, detail=False))
            if files.isdir(path)
            else None
        )
    except Exception:  # a server that lists nothing; opening a file there says what is wrong
        return None


def exists(address: str) -> bool:
    """Tell whether there is a file at a path or an address."""
    if not is_remote(address):
        return os.path.isfile(address)
    files, path = _file_system(address)
    try:
        return bool(files.exists(path))
    except Exception:  # every protocol raises its own; opening it says what is wrong
        return False


def _file_system(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(address)
    except (ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{address}: cannot be opened ({reason}); install the package that knows it"
        ) from error


def _unreadable(address: str, error: BaseException) -> DataError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        reason = "no such file"
    return DataError(f"{address}: cannot be read ({reason}); check the address, or copy the file again")
