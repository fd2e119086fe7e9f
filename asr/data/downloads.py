"""Fetch a file of a known publisher: resumed, retried, from several mirrors, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.data.partial import Note, Part, Progress, amount, check_room, gathered
from asr.errors import DataError

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60
PAUSE_SECONDS = 1.0
"""Before the first repetition; doubled with each that brings nothing more, up to a minute."""
ATTEMPTS = 4
"""How often in a row a mirror may bring nothing more before it is given up."""

# What HTTP says of a file that will not come back: not here, not for us.
_LASTING = frozenset({400, 401, 403, 404, 405, 410, 451})


class _RefusedError(Exception):
    """A mirror that is no use for this file."""


class _Mirror:
    """An address, and how often in a row it brought nothing more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host = urllib.parse.urlsplit(url).netloc or url
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
    if not urls:
        raise DataError(
            f"{target.name}: not found, and nobody offers it for download; give its path with --archive"
        )
    check_room(target, (size or 0) * reserve - gathered(target))
    part = Part(target, pinned=bool(digests))
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
            failures[mirror.url] = _reason(error)
            if part.length > longest:
                longest, mirror.barren = part.length, 0
                note(f"{target.name}: {mirror.host} broke off at {amount(longest)} ({_reason(error)})")
                time.sleep(PAUSE_SECONDS)
                continue
            mirror.barren += 1
            mirrors.append(mirrors.pop(0))
            if mirror.barren == 1:
                note(f"{target.name}: {mirror.host} brings nothing ({_reason(error)})")
            if mirror.barren == ATTEMPTS:
                mirrors.remove(mirror)
            elif mirrors[0].barren >= mirror.barren:  # all have been tried
                pause = min(60.0, PAUSE_SECONDS * 2**mirror.barren)
                note(f"{target.name}: trying again in {pause:.0f} s")
                time.sleep(pause)
    reasons = "; ".join(f"{_Mirror(url).host}: {reason}" for url, reason in failures.items())
    kept = f"; what came is kept in {part.path}" if part.length else ""
    remedy = f"try again later, or fetch {urls[0]} yourself" if urls else "fetch it yourself"
    raise DataError(
        f"{target.name} could not be downloaded ({reasons}){kept}; {remedy} and give its path with --archive"
    )


def _reason(error: Exception) -> str:
    """Say in a line what broke a transfer off."""
    cause = getattr(error, "reason", error)
    return " ".join(str(getattr(cause, "strerror", None) or cause or type(error).__name__).split())


def _fetch(
    url: str,
    part: Part,
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
