"""Unpack archives, whole or not at all."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import Any

from asr.data.downloads import CHUNK
from asr.data.partial import Note, Progress, amount
from asr.errors import DataError

SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".tar", ".zip")
_OPENERS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError),  # zipfile: an unknown method, encrypted, a bad name
)
_LEFT = ".unpacking"


def unpack(
    archive: Path, folder: Path, *, progress: Progress | None = None, note: Note | None = None
) -> Path:
    """Unpack an archive (tar, gzipped or bzipped or not, or zip) into `folder` unless that was done before.

    The files appear under their name only when all are there, so an interruption leaves nothing that
    could be taken for the whole.

    Parameters
    ----------
    progress : callable, optional
        Called with the bytes of the archive that were read and its size.
    note : callable, optional

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    DataError
        If the archive is damaged or reaches outside its folder, or the disk is full.
    """
    if folder.is_dir():
        return folder
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        size, free = archive.stat().st_size, shutil.disk_usage(folder.parent).free
        if size > free:  # what is unpacked is no smaller
            raise OSError(errno.ENOSPC, f"{amount(free)} free, more than {amount(size)} needed")
        if note is not None:
            note(f"unpacking {archive.name} ({amount(size)})")
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_LEFT, dir=folder.parent))
        kind = _unpack_zip if _magic(archive) == b"PK" else _unpack_tar
        kind(archive, temporary, progress or (lambda done, total: None))
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    except _DAMAGED as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # gzip's and bzip2's own
            raise _damaged(archive, error) from error
        raise DataError(
            f"{folder}: {archive.name} cannot be unpacked there ({error.strerror}); make room, or "
            f"choose another folder (--output-dir, data.dir)"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive}: cannot be unpacked ({error}); delete it and fetch it again")


def _magic(archive: Path) -> bytes:
    with open(archive, "rb") as file:
        return file.read(2)


def _unpack_tar(archive: Path, folder: Path, progress: Progress) -> None:
    size = archive.stat().st_size
    with open(archive, "rb") as raw, _OPENERS.get(_magic(archive), nullcontext)(raw) as stream:
        # As a stream, because to seek backwards in a compressed file is to read it again from the start.
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                tar.extract(member, folder, filter="data")
                progress(raw.tell(), size)
        while stream.read(CHUNK):
            pass  # to the end, where gzip keeps its checksum
        if stream is raw:  # nothing but its last blocks says that a tar file is whole
            raw.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
            if any(raw.read()):
                raise EOFError("it is cut short")
        progress(size, size)


def _unpack_zip(archive: Path, folder: Path, progress: Progress) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        total, done = sum(member.file_size for member in members), 0
        for member in members:
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{member.filename!r} would be outside the destination")
            file.extract(member, folder)
            done += member.file_size
            progress(done, total)


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed left of unpacking `folder`; not while another unpacks it."""
    for name in os.listdir(folder.parent) if folder.parent.is_dir() else ():
        if name.startswith(f".{folder.name}.") and name.endswith(_LEFT):
            shutil.rmtree(folder.parent / name, ignore_errors=True)
