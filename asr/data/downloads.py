"""Fetch a file of a known publisher: resumed, retried, from several mirrors, checked, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from asr.errors import DataError

Progress = Callable[[int, int], object]
"""Takes what is done and what there is in all, 0 if that is not known."""
Note = Callable[[str], object]
"""Takes a sentence for the user."""

PART = ".part"
"""Behind the name of a file that is not all there."""
CHUNK = 1 << 20
TIMEOUT_SECONDS = 60
PAUSE_SECONDS = 1.0
"""Before the first repetition; doubled with each that brings nothing more, up to a minute."""
ATTEMPTS = 5
"""How often in a row a mirror may bring nothing more before it is given up."""

# What HTTP says of a file that will not come back: not here, not for us.
_LASTING = frozenset({400, 401, 403, 404, 405, 410, 451})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class _RefusedError(Exception):
    """A mirror that is no use for this file."""


class _Mirror:
    """An address, and how often in a row it brought nothing more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.barren = 0


def download(
    urls: Sequence[str],
    target: Path,
    *,
    size: int | None = None,
    digests: Mapping[str, str] | None = None,
    reserve: float = 1.0,
    progress: Progress = lambda done, total: None,
    note: Note = lambda message: None,
) -> Path:
    """Fetch a file and return its path.

    Bytes are gathered in ``<name>.part``, which an interruption of any kind leaves for the next call to go on
    from. With a digest any mirror may go on where another stopped; without, only the one that began, and only
    while its file is the same (HTTP's ``If-Range``). Proxies are those of the environment (``https_proxy``,
    ``no_proxy``).

    Parameters
    ----------
    urls : sequence of str
        The same file at several addresses, tried in order.
    target : Path
        Gets its name only when all bytes are there and the digest is right.
    size : int, optional
        Bytes, as published.
    digests : mapping of str to str
        Hexadecimal digests by algorithm, such as ``{"md5": ...}``, as published.
    reserve : float
        Disk space that is asked for before a byte is fetched, as a multiple of the size: 2 for an archive
        that will be unpacked beside itself.
    progress : callable
        Called with the bytes done and the bytes in all, 0 if that is not known.
    note : callable
        Told what is fetched from where, of which size, and what went wrong on the way.

    Raises
    ------
    DataError
        No mirror has the file, all content is wrong, or the disk is full.
    """
    check_room(target, (size or 0) * reserve - gathered(target))
    part = _Part(target, pinned=bool(digests))
    mirrors = [_Mirror(url) for url in urls]
    failures: dict[str, str] = {}
    longest = 0
    alone = False  # whether each mirror has to bring the whole file itself
    while mirrors:
        mirror = mirrors[0]
        if alone and part.sources - {mirror.url}:
            part.discard()
        try:
            _fetch(mirror.url, part, size, reserve, progress, note)
            wrong = _wrong_digest(part.path, digests or {}, progress)
            if wrong is None:
                part.finish()
                return target
            sources, longest = part.sources, 0
            part.discard()
            if len(sources) == 1:
                raise _RefusedError(wrong)
            alone = True
            note(f"{target.name}: {wrong}; it came from several mirrors, so each is tried by itself")
        except _RefusedError as error:
            failures[mirror.url] = str(error)
            mirrors.remove(mirror)
        except (OSError, http.client.HTTPException) as error:
            reason = " ".join(str(getattr(error, "reason", error) or type(error).__name__).split())
            failures[mirror.url] = reason
            if part.length > longest:
                longest, mirror.barren = part.length, 0
                pause = PAUSE_SECONDS
            else:
                mirror.barren += 1
                mirrors.append(mirrors.pop(0))
                # The next one at once, unless that has failed as often.
                pause = PAUSE_SECONDS * 2**mirror.barren if mirrors[0].barren >= mirror.barren else 0.0
            if mirror.barren == ATTEMPTS:
                mirrors.remove(mirror)
            if mirrors:
                note(f"{target.name}: {mirror.url} broke off ({reason}); {mirrors[0].url} is tried next")
                time.sleep(min(60.0, pause))
    reasons = "; ".join(f"{url}: {reason}" for url, reason in failures.items())
    kept = f"; what came is kept in {part.path}" if part.length else ""
    raise DataError(
        f"{target.name} could not be downloaded ({reasons or 'no address known'}){kept}; try again later, or "
        f"fetch it yourself and give its path with --archive"
    )


class _Part:
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


def _fetch(
    url: str,
    part: _Part,
    size: int | None,
    reserve: float,
    progress: Progress,
    note: Note,
) -> None:
    """Fetch what is missing; raise OSError or HTTPException if it breaks off."""
    expected = size or part.total
    if part.length and part.length == expected and (part.pinned or part.sources == {url}):
        return
    if expected and part.length > expected:
        part.discard()
    request = urllib.request.Request(url, headers={"User-Agent": "asr", **part.request_headers(url)})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            length = part.length
            if url in part.sources or not expected:
                part.discard()
            raise _RefusedError(f"has no more than {length} bytes there") from error
        if error.code in _LASTING:
            raise _RefusedError(f"HTTP {error.code} {error.reason}") from error
        raise
    except (ValueError, http.client.InvalidURL) as error:
        raise _RefusedError(str(error)) from error
    with response:
        start, total = _extent(response, part.length)
        if size and total and total != size:
            raise _RefusedError(f"has {total} bytes there, not {size}")
        if start and part.total and total and total != part.total:
            raise _RefusedError(f"has {total} bytes there, not {part.total}")
        total = total or size
        check_room(part.target, (total or 0) * reserve - start)
        whole = amount(total) if total else "size unknown"
        if start:
            note(f"going on with {part.target.name} at {amount(start)} of {whole} from {url}")
        else:
            note(f"downloading {part.target.name} ({whole}) from {url}")
        part.begin(url, response.headers, total, whole=not start)
        part.append(iter(lambda: response.read(CHUNK), b""), progress)
    if total and part.length < total:
        raise OSError(f"{part.length} of {total} bytes came")
    if total and part.length > total:
        part.discard()
        raise _RefusedError(f"sends more than the {total} bytes that it says")


def _extent(response: Any, wanted: int) -> tuple[int, int | None]:
    """Return the byte with which a response begins, and how many the whole file has if that is known."""
    length = response.headers.get("Content-Length")
    if response.status != 206:
        return 0, int(length) if length else None
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    start = span.partition("-")[0]
    if not wanted or start != str(wanted):
        raise _RefusedError(
            f"answers with bytes {span or 'unknown'} where those from {wanted} were asked for"
        )
    return wanted, int(total) if total.isdigit() else None


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


def _wrong_digest(path: Path, digests: Mapping[str, str], progress: Progress) -> str | None:
    """Say what is wrong with a file's digests, if anything is."""
    found = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in digests}
    size = path.stat().st_size
    with open(path, "rb") as file:
        while found and (chunk := file.read(CHUNK)):
            for digest in found.values():
                digest.update(chunk)
            progress(file.tell(), size)
    for algorithm, digest in found.items():
        if digest.hexdigest() != digests[algorithm].lower():
            return f"its {algorithm} checksum is {digest.hexdigest()}, expected {digests[algorithm]}"
    return None


def amount(num_bytes: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if num_bytes >= 100 or unit == "bytes" else f"{num_bytes:.1f} {unit}"
