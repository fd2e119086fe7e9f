"""Addresses: of files, of parts of files, and of what lies behind a protocol that fsspec knows."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from asr.errors import DataError

_PART = re.compile(r"(.+):(\d+):(\d+)", re.DOTALL)
_MARKS = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "created")


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
        return natural_order(glob.glob(pattern))
    files, path = file_system(pattern)
    try:
        return natural_order(files.unstrip_protocol(name) for name in files.glob(path))
    except Exception as error:  # every protocol raises its own
        raise unreadable(pattern, error) from error


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
    files, path = file_system(folder)
    try:
        return (
            sorted(os.path.basename(name.rstrip("/")) for name in files.ls(path, detail=False))
            if files.isdir(path)
            else None
        )
    except Exception:  # a server that lists nothing; opening a file there says what is wrong
        return None


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
            raise unreadable(address, error) from error
        return f"{stat.st_size} {stat.st_mtime_ns}"
    info = file_info(address)
    return " ".join(str(info.get(key)) for key in _MARKS)


def file_info(address: str) -> dict[str, Any]:
    """Return what a protocol says of a remote file, with its ``size`` in bytes if that is known.

    Raises
    ------
    DataError
    """
    files, path = file_system(address)
    try:
        return files.info(path)
    except Exception as error:  # every protocol raises its own
        raise unreadable(address, error) from error


def file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of a remote address, and the path in it.

    Raises
    ------
    DataError
        The protocol is unknown or its package is missing.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(address)
    except (ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{address}: cannot be opened ({reason}); install the package that knows it"
        ) from error


def unreadable(address: str, error: BaseException) -> DataError:
    """Return the error of a file that could not be read."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        reason = "no such file"
    return DataError(f"{address}: cannot be read ({reason}); check the address, or copy the file again")
