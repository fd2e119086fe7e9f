"""Find the archives of a corpus: the user's own, downloaded earlier, or fetched now; and unpack them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from asr.data.downloads import download
from asr.data.partial import Note, Progress, amount, check_room, gathered
from asr.data.unpacking import SUFFIXES, remove_leftovers, unpack
from asr.errors import DataError
from asr.files import wait_for_lock


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive of a corpus, as its publisher describes it.

    Attributes
    ----------
    name : str
        Its file name.
    urls : tuple of str
        The same file at several addresses, tried in order.
    contains : str
        A file or folder in it, by which a folder is recognised as this archive unpacked:
        ``LibriSpeech/dev-clean``. Only the last part may be there, as where the user keeps subsets together.
    size : int or None
        Bytes.
    sha256, md5 : str or None
        Hexadecimal digests.
    """

    name: str
    urls: tuple[str, ...]
    contains: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


def openslr(number: int, name: str) -> tuple[str, ...]:
    """Return the addresses of a file of the Open Speech and Language Resources, its mirrors after it."""
    hosts = ("www.openslr.org", "us.openslr.org", "openslr.elda.org", "openslr.trmal.net")
    return tuple(f"https://{host}/resources/{number}/{name}" for host in hosts)


def find_corpus(
    archives: Sequence[Archive],
    folder: Path,
    *,
    archive: Path | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> list[Path]:
    """Return where each archive's `contains` is, unpacking and downloading what is not there.

    Parameters
    ----------
    archives : sequence of Archive
        All that a corpus needs.
    folder : Path
        Where downloads and what is unpacked are kept.
    archive : Path, optional
        The user's own copy: of one archive the file; or a folder with the archives, or with what they
        unpack to.
    progress, note : callable, optional
        As for `find_archive`.

    Raises
    ------
    DataError
    """
    names = ", ".join(part.name for part in archives)
    if archive is not None and not archive.is_dir() and len(archives) > 1:
        found_there = "is one file" if archive.exists() else "no such folder"
        raise DataError(
            f"{archive}: {found_there}, but {len(archives)} archives are needed; give the folder that holds "
            f"{names}, or what they unpack to"
        )
    missing = [part for part in archives if _local(part, folder, archive) is None]
    if archive is not None and archive.is_dir() and missing:
        more = f", and {len(missing) - 1} more of {len(archives)} are missing" if missing[1:] else ""
        raise DataError(
            f"{archive}: holds neither {missing[0].name} nor {missing[0].contains}{more}; give the folder "
            f"that holds {names}, or what they unpack to, or leave it out to download them"
        )
    if len(missing) > 1:
        size = sum(a.size or 0 for a in missing)
        check_room(folder / missing[0].name, 2 * size - sum(gathered(folder / a.name) for a in missing))
        if note is not None:
            note(f"{len(missing)} archives to download: {amount(size)}, and unpacked no less than that")
    found = []
    for part in archives:
        root = _local(part, folder, archive)
        if root is None or root.is_file():
            root = unpacked_archive(
                [part.name],
                folder,
                archive=root or archive,
                urls=part.urls,
                sha256=part.sha256,
                md5=part.md5,
                size=part.size,
                progress=progress,
                note=note,
            )
        found.append(locate(root, part.contains, archive or part.name))
    return found


def _local(part: Archive, folder: Path, archive: Path | None) -> Path | None:
    """Return the archive, or a folder that contains what is in it, if either is at hand."""
    if archive is not None and archive.is_file():
        return archive
    if archive is not None and _inside(archive, part.contains) is not None:
        return archive
    places = [archive] if archive is not None else _places(folder)
    for place in places:
        for root in (place / _stem(part.name), place):
            if (root / part.contains).exists():
                return root
    return next((place / part.name for place in places if (place / part.name).is_file()), None)


def locate(folder: Path, contains: str, given: Path | str | None = None) -> Path:
    """Return the path of something inside a folder: as `contains` says, or without its first folders.

    So a user may give the folder that an archive was unpacked in, or the one that came out of it.

    Parameters
    ----------
    folder : Path
    contains : str
        A relative path, such as ``an4/etc``.
    given : path, optional
        What to name in the message instead of `folder`.

    Raises
    ------
    DataError
        It is not there.
    """
    found = _inside(folder, contains)
    if found is None:
        raise DataError(
            f"{given or folder}: no {contains} inside; is this another archive, or not all of it?"
        )
    return found


def _inside(folder: Path, contains: str) -> Path | None:
    parts = PurePosixPath(contains).parts
    for start in range(len(parts)):
        if (folder / Path(*parts[start:])).exists():
            return folder / Path(*parts[start:])
    return None


def unpacked_archive(
    names: Sequence[str],
    folder: Path,
    *,
    archive: Path | None = None,
    urls: Sequence[str] = (),
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Path:
    """Return the folder with a corpus archive's content; nothing is fetched if it is there already.

    Parameters are those of `find_archive`, and `archive` may also be a folder: one that holds the archive, or
    else it is taken for what is in it. The folder that ``ASR_ARCHIVES`` names may hold the archive or, under
    its name without the suffix, what is in it. Several processes may ask at once: one works, the others wait.

    Raises
    ------
    DataError
    """
    if archive is not None and archive.is_dir():
        held = [archive / name for name in names if (archive / name).is_file()]
        if not held:
            return archive
        archive = held[0]
    if archive is None:
        for place, name in itertools.product(_places(folder), names):
            if (place / _stem(name)).is_dir():
                return place / _stem(name)
    unpacked = folder / _stem((archive or Path(names[0])).name)
    if unpacked.is_dir():
        return unpacked
    with wait_for_lock(folder / f".{unpacked.name}.lock", note):
        if not unpacked.is_dir():
            path = find_archive(
                names,
                folder,
                archive=archive,
                urls=urls,
                sha256=sha256,
                md5=md5,
                size=size,
                progress=progress,
                note=note,
            )
            remove_leftovers(unpacked)
            unpack(path, unpacked, progress=progress, note=note)
    return unpacked


def _stem(name: str) -> str:
    return next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), Path(name).stem)


def _places(folder: Path) -> list[Path]:
    named = os.environ.get("ASR_ARCHIVES")
    return [Path(named), folder] if named else [folder]


def find_archive(
    names: Sequence[str],
    folder: Path,
    *,
    archive: Path | None = None,
    urls: Sequence[str] = (),
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
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
        The user's own copy, or a folder that holds it.
    urls : sequence of str
        Where to download ``names[0]`` from, tried in order.
    sha256, md5 : str, optional
        Hexadecimal digests that a download must have.
    size : int, optional
        Bytes of a download, as published.
    progress : callable, optional
        Called with the bytes done and the bytes in all, 0 if that is not known.
    note : callable, optional
        Told in a sentence what is being fetched and unpacked, and of what size.

    Raises
    ------
    DataError
    """
    if archive is not None:
        for path in (archive, *(archive / name for name in names)):
            if path.is_file():
                return path
        raise DataError(f"{archive}: no such archive; give the path of {' or '.join(names)}")
    for place in _places(folder):
        for name in names:
            if (place / name).is_file():
                return place / name
    return download(
        urls,
        folder / names[0],
        size=size,
        digests={k: v for k, v in (("sha256", sha256), ("md5", md5)) if v},
        reserve=2.0 if names[0].endswith(SUFFIXES) else 1.0,
        progress=progress or (lambda done, total: None),
        note=note or (lambda message: None),
    )
