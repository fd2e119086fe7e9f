"""What a user names on the command line: which audio files, and which stretches of them."""

from __future__ import annotations

import glob
import itertools
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr import audio
from asr.errors import ConfigError, DataError
from asr.windows import Clip

STANDARD_INPUT = Path("-")


def find_audio(paths: Iterable[str | os.PathLike[str]], recursive: bool = False) -> list[tuple[Path, Path]]:
    """List audio files, each with the relative path, without suffix, that its transcripts get.

    A file named twice is listed once. Hidden files in folders are passed over. Paths that are no
    folders are listed as they are, existing or not: reading them says what is wrong.

    Parameters
    ----------
    paths : iterable of paths
        Files, folders, patterns as the shell knows them (``calls/**/*.wav``, for shells that leave them as
        they are), and ``-`` for standard input.
    recursive : bool
        Look into the folders' folders as well.

    Returns
    -------
    list of (Path, Path)
        Files in the order of `paths`, sorted by name within a folder; the second paths are distinct.
        A file in a folder keeps its place below that folder: ``calls/`` with ``calls/may/3.wav``
        gives ``may/3``. Where two would be the same, both keep their suffix (``3.wav``), or are named from
        the deepest folder that they share (``calls/3``, ``notes/3``), or are numbered.

    Raises
    ------
    DataError
        A folder holds no audio files, or a pattern matches nothing.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for path in map(Path, paths):
        if path == STANDARD_INPUT:
            files = [(path, Path("stdin"))]
        elif path.is_dir():
            files = _files_in(path, recursive)
        elif glob.has_magic(str(path)) and not path.exists():
            files = _files_like(path)
        else:
            files = [(path, Path(path.stem))]
        for file, stem in files:
            found.setdefault(os.path.abspath(file), (file, stem))
    return _distinct(list(found.values()))


def _files_in(folder: Path, recursive: bool) -> list[tuple[Path, Path]]:
    files = []
    for file in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        relative = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if file.suffix.lower() in audio.AUDIO_SUFFIXES and not hidden and file.is_file():
            files.append((file, relative.with_suffix("")))
    if not files:
        hint = "check the path" if recursive else "use --recursive to look into the folders below it"
        raise DataError(f"{folder}: no audio files in this folder; {hint}")
    return files


def _files_like(pattern: Path) -> list[tuple[Path, Path]]:
    """Return what a pattern matches; outputs keep their place below the folders that it names."""
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts[:-1]))
    matches = [Path(match) for match in sorted(glob.glob(str(pattern), recursive=True))]
    files = [(file, file.relative_to(Path(*fixed)).with_suffix("")) for file in matches if file.is_file()]
    if not files:
        raise DataError(f"{pattern}: no file is like this; check the pattern")
    return files


def _distinct(files: Sequence[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Rename output stems until none are equal, even on a disk that ignores case."""
    groups: dict[str, list[int]] = {}
    for index, (_, stem) in enumerate(files):
        groups.setdefault(str(stem).casefold(), []).append(index)
    stems = [stem for _, stem in files]
    for rivals in groups.values():
        if len(rivals) > 1:
            for index, stem in zip(rivals, _tell_apart([files[i] for i in rivals]), strict=True):
                stems[index] = stem
    taken: set[str] = set()
    for index, stem in enumerate(stems):
        number = 1
        while str(stems[index]).casefold() in taken:
            number += 1
            stems[index] = stem.with_name(f"{stem.name}-{number}")
        taken.add(str(stems[index]).casefold())
    return [(file, stem) for (file, _), stem in zip(files, stems, strict=True)]


def _tell_apart(rivals: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Return other stems for files that want the same one: with suffixes, else with folders, else both."""
    absolute = [Path(os.path.abspath(file)) for file, _ in rivals]
    common = Path(os.path.commonpath(absolute))
    with_folders = [file.relative_to(common) for file in absolute]
    for stems in (
        [stem.with_name(file.name) for file, stem in rivals],
        [stem.with_suffix("") for stem in with_folders],
    ):
        if len({str(stem).casefold() for stem in stems}) == len(stems):
            return stems
    return with_folders


def parse_clip_timestamps(text: str) -> tuple[Clip, ...]:
    """Read ``start,end,start,end,...`` in seconds; without the last end, the last clip ends with the file.

    Raises
    ------
    ConfigError
        The times are no numbers, or do not ascend.

    Examples
    --------
    >>> parse_clip_timestamps("0,10.5,60")
    ((0.0, 10.5), (60.0, None))
    """
    try:
        times = [float(time) for time in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--clip_timestamps {text}: not numbers; give start,end,start,end,... in seconds"
        ) from None
    ends = times[1::2]
    ascending = all(a < b for a, b in zip(times[::2], ends, strict=False)) and all(
        a <= b for a, b in zip(ends, times[2::2], strict=False)
    )
    if not (ascending and all(math.isfinite(time) and time >= 0 for time in times)):
        raise ConfigError(f"--clip_timestamps {text}: times must ascend from 0; give start,end,start,end,...")
    return tuple((start, ends[i] if i < len(ends) else None) for i, start in enumerate(times[::2]))
