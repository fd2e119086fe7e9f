"""Find, download and unpack corpus archives, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from asr.errors import DataError

CHUNK = 1 << 20


def unpacked_archive(
    names: Sequence[str],
    folder: Path,
    *,
    archive: Path | None = None,
    urls: Sequence[str] = (),
    sha256: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Return the folder with a corpus archive's content; nothing is fetched if it is there already.

    Parameters are those of `find_archive`.

    Raises
    ------
    DataError
    """
    unpacked = folder / _stem(archive or Path(names[0]))
    if not unpacked.exists():
        path = find_archive(names, folder, archive=archive, urls=urls, sha256=sha256, progress=progress)
        unpack(path, unpacked)
    return unpacked


def _stem(path: Path) -> str:
    for suffix in (".tar.gz", ".tgz", ".tar"):
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.stem


def find_archive(
    names: Sequence[str],
    folder: Path,
    *,
    archive: Path | None = None,
    urls: Sequence[str] = (),
    sha256: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Return the path of a corpus archive.

    In this order: the one the user gave, one in the folder named by the environment variable
    ``ASR_ARCHIVES``, one downloaded earlier, a new download.

    Parameters
    ----------
    names : sequence of str
        File names under which the archive may lie, best first.
    folder : Path
        Where a download is kept.
    archive : Path, optional
        The user's own copy.
    urls : sequence of str
        Where to download ``names[0]`` from, tried in order.
    sha256 : str, optional
        Expected digest of a download.
    progress : callable
        Called with the bytes done and the bytes in all, 0 if that is not known.

    Raises
    ------
    DataError
    """
    if archive is not None:
        if not archive.is_file():
            raise DataError(f"{archive}: no such archive; give the path of {' or '.join(names)}")
        return archive
    for place in (os.environ.get("ASR_ARCHIVES"), folder):
        for name in names if place else ():
            if (Path(place) / name).is_file():  # type: ignore[arg-type]
                return Path(place) / name  # type: ignore[arg-type]
    failures = []
    for url in urls:
        try:
            return _download(url, folder / names[0], sha256, progress)
        except (OSError, http.client.HTTPException, DataError) as error:
            failures.append(f"{url}: {getattr(error, 'reason', error)}")
    raise DataError(
        f"{names[0]} could not be downloaded ({'; '.join(failures) or 'no address known'}); "
        "fetch it yourself and give its path with --archive"
    )


def _download(
    url: str, target: Path, sha256: str | None, progress: Callable[[int, int], object] | None
) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as response, open(partial, "wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            if progress is not None:
                progress(file.tell(), total)
        received = file.tell()
    if total and received != total:
        raise DataError(f"{received} of {total} bytes came")
    if sha256 and digest.hexdigest() != sha256:
        raise DataError(f"checksum is {digest.hexdigest()}, expected {sha256}")
    os.replace(partial, target)
    return target


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar archive into `folder` unless that was done before; return `folder`.

    The files appear under their name only when all are there, so an interruption leaves nothing that
    could be taken for the whole.

    Raises
    ------
    DataError
        If the archive is damaged or reaches outside its folder.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
            while tar.fileobj is not None and tar.fileobj.read(CHUNK):
                pass  # to the end, where gzip keeps its checksum
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); fetch it again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
