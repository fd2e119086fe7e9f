"""The part of a download that is there, the room for the rest, and how sizes are said."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from asr.errors import DataError

Progress = Callable[[int, int], object]
"""Takes what is done and what there is in all, 0 if that is not known."""
Note = Callable[[str], object]
"""Takes a sentence for the user."""

PART = ".part"
"""Behind the name of a file that is not all there."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Part:
    """The beginning of a file, and a note beside it of where that came from.

    Attributes
    ----------
    path : Path
    sources : set of str
        Addresses that bytes came from.
    """

    def __init__(self, target: Path, pinned: bool) -> None:
        self.target, self.pinned = target, pinned
        self.path = target.with_name(target.name + PART)
        self._about = target.with_name(target.name + ".part.json")
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            self.sources = set(about["sources"])
            self.total: int | None = about["total"]
            self._validator: str | None = about["validator"]
        except (OSError, ValueError, TypeError, KeyError):
            self.discard()

    @property
    def length(self) -> int:
        """Bytes that are there."""
        return gathered(self.target)

    def discard(self) -> None:
        """Begin again with nothing."""
        self.sources, self.total, self._validator = set(), None, None
        for path in (self.path, self._about):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def request_headers(self, url: str) -> dict[str, str]:
        """Return what asks a server for the rest; nothing if it must send all."""
        if not self.length or not (self.pinned or (self.sources == {url} and self._validator)):
            return {}
        headers = {"Range": f"bytes={self.length}-"}
        if self.sources == {url} and self._validator:
            headers["If-Range"] = self._validator
        return headers

    def begin(self, url: str, headers: Mapping[str, str], total: int | None, whole: bool) -> None:
        """Note down that `url` brings the rest, or the whole."""
        self.sources = {url} if whole else self.sources | {url}
        self.total = total
        etag = headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
        self._validator = strong if self.sources == {url} else None
        about = {"sources": sorted(self.sources), "total": self.total, "validator": self._validator}
        try:
            if whole:
                self.path.write_bytes(b"")
            self._about.write_text(json.dumps(about), encoding="utf-8")
        except OSError as error:
            raise _disk_error(self.target, error) from error

    def append(self, chunks: Iterable[bytes], progress: Progress) -> None:
        """Add bytes as they come."""
        done = self.length
        with open(self.path, "ab", buffering=0) as file:
            for chunk in chunks:
                rest = memoryview(chunk)
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                except OSError as error:
                    raise _disk_error(self.target, error) from error
                done += len(chunk)
                progress(done, self.total or 0)

    def finish(self) -> None:
        """Give the file its name."""
        try:
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(self.path, self.target)
        except OSError as error:
            raise _disk_error(self.target, error) from error
        with suppress(OSError):
            self._about.unlink(missing_ok=True)


def gathered(target: Path) -> int:
    """Return how many bytes an interrupted download of `target` has left to go on from."""
    with suppress(FileNotFoundError):
        return target.with_name(target.name + PART).stat().st_size
    return 0


def check_room(target: Path, needed: float) -> None:
    """See that the disk has room for a file and what comes out of it.

    Raises
    ------
    DataError
        Naming `target`, the bytes needed and the bytes free.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _disk_error(target, error) from error
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise DataError(
            f"{target}: needs {amount(needed)}, {amount(free)} are free there; make room, choose another "
            f"folder (--output-dir, data.dir), or give a copy with --archive"
        )


def _disk_error(target: Path, error: OSError) -> DataError:
    if error.errno in _NO_ROOM:
        return DataError(
            f"{target}: the disk is full; what came is kept, so make room and give the same command again"
        )
    return DataError(f"{target}: cannot be written ({error.strerror}); choose a folder that you can write to")


def amount(num_bytes: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if num_bytes >= 100 or unit == "bytes" else f"{num_bytes:.1f} {unit}"
