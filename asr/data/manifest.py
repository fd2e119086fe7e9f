"""Manifests: JSON lines, one utterance a line, with NeMo's field names.

Fields: ``duration`` (seconds) and ``audio_filepath`` or ``features_filepath`` are required; ``text``,
``id``, ``offset`` (seconds), ``speaker`` and ``lang`` are optional. Paths are absolute or relative to the
manifest's folder, or addresses such as ``s3://bucket/a.flac``; ``FILE:offset:length`` is a part of a file, in
bytes (`asr.storage`). Any other field is kept in `Utterance.extra`.

Wherever a manifest is read, a set of tar shards can be given instead (`asr.data.shards`).

A manifest of millions of lines takes some 30 bytes of memory a line: `Manifest` keeps where each line begins
and how long its utterance is, and parses a line again when its utterance is asked for.
"""

from __future__ import annotations

import codecs
import json
import mmap
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.data.lazy import LazyUtterances
from asr.data.lines import file_stem, make_utterance, read_fields, shown, to_record
from asr.data.shards import find_index
from asr.errors import DataError
from asr.files import atomic_write
from asr.storage import file_of, is_remote, join
from asr.types import Utterance

_MAX_SHOWN = 3
_SMALL = 50_000
"""Utterances up to which all of a manifest is kept in memory: some 30 MB."""


def read_manifest(path: Path | str, *, check_files: bool = True) -> list[Utterance]:
    """Read and validate a manifest.

    Parameters
    ----------
    path : Path or str
        A UTF-8 file of JSON objects, one a line, or a set of tar shards. Blank lines and a byte-order mark
        are skipped.
    check_files : bool
        Whether every audio or feature file must exist. Remote ones are not looked for.

    Returns
    -------
    list of Utterance
        In the file's order, with absolute paths. An utterance without an id is called after its file:
        ``stem``, or ``stem-2``, ``stem-3``, ... where that is taken.

    Raises
    ------
    DataError
        If the file cannot be read or is empty, or any line is bad: the message names the first few
        as ``file:line``, with the count of the others.
    """
    return list(Manifest(path, check_files=check_files))


class Shards(NamedTuple):
    """Which shard each utterance lies in.

    Attributes
    ----------
    files : list of str
        Paths or addresses.
    of : np.ndarray, int32, (utterances,)
        Index into `files`.
    """

    files: list[str]
    of: np.ndarray


class Manifest(LazyUtterances):
    """The utterances of a manifest, each parsed when it is asked for; see `read_manifest`.

    A small one keeps its utterances once they were parsed.

    Attributes
    ----------
    name : str
        What messages call it: its path or address.
    durations : np.ndarray, float64, (utterances,)
        Seconds.
    shards : Shards or None
        If all audio lies in parts of files.
    """

    shards: Shards | None

    def __init__(self, path: Path | str, *, check_files: bool = True) -> None:
        self._path, self._folder, self.name = find_index(os.fspath(path))
        self._open()
        scan = _Scan(self.name, self._folder, check_files)
        for start, number, line in self._lines():
            scan.add(start, number, line)
        self._starts, self.durations, self.shards = scan.finish(self._line)
        self._numbers = scan.name_the_nameless()
        self._kept: dict[int, Utterance] | None = {} if len(self) <= _SMALL else None
        if self._content is not None and hasattr(mmap, "MADV_DONTNEED"):
            # All that was read would count as this process's memory.
            self._content.madvise(mmap.MADV_DONTNEED)

    def _open(self) -> None:
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
        except OSError as error:
            raise DataError(
                f"{self.name}: cannot read this manifest ({error.strerror}); check the path, or make it with "
                f"`asr prepare`"
            ) from error

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the first byte, the number and the content of each line that is not blank."""
        content = self._content
        if content is None:
            return
        start = len(codecs.BOM_UTF8) if content[:3] == codecs.BOM_UTF8 else 0
        content.seek(start)
        for number, line in enumerate(iter(content.readline, b""), start=1):
            if not line.isspace():
                yield start, number, line
            start += len(line)

    def _line(self, start: int) -> bytes:
        assert self._content is not None
        end = self._content.find(b"\n", start)
        return self._content[start : end if end >= 0 else len(self._content)]

    def __len__(self) -> int:
        return len(self._starts)

    def _make(self, index: int) -> Utterance:
        if self._kept is None:
            return self._parse(index)
        found = self._kept.get(index)
        if found is None:
            found = self._kept[index] = self._parse(index)
        return found

    def _parse(self, index: int) -> Utterance:
        try:
            fields = read_fields(self._line(int(self._starts[index])))
        except ValueError as error:
            raise DataError(
                f"{self.name}: has changed since it was opened ({error}); start again with the new one"
            ) from error
        if "id" not in fields:
            stem, number = file_stem(fields), int(self._numbers[index])
            fields["id"] = stem if number == 1 else f"{stem}-{number}"
        return make_utterance(fields, self._folder)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_content"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class _Scan:
    """What one pass over a manifest finds: where its utterances are, and what is wrong with them."""

    def __init__(self, name: str, folder: str, check_files: bool) -> None:
        self.name, self.folder, self.check_files = name, folder, check_files
        self.starts, self.numbers = array("q"), array("q")
        self.durations, self.ids = array("d"), array("q")
        self.stems: dict[int, str] = {}
        self.shard_files: dict[str, int] = {}
        self.shards = array("i")
        self.problems: list[tuple[int, str]] = []
        self.files: set[int] = set()
        self.missing: list[tuple[int, str]] = []

    def add(self, start: int, number: int, line: bytes) -> None:
        """Take the next line."""
        try:
            fields = read_fields(line)
        except ValueError as error:
            self.problems.append((number, str(error)))
            return
        name = fields.get("id")
        if name is None:
            self.stems[len(self.starts)] = file_stem(fields)
        # A digest is enough to find ids that may be equal; 64 bits a line are kept.
        self.ids.append(hash(name) if name is not None else 0)
        self.starts.append(start)
        self.numbers.append(number)
        self.durations.append(fields["duration"])
        path: str = fields.get("features_filepath") or fields["audio_filepath"]
        file = file_of(path)
        part = file != path and "features_filepath" not in fields
        self.shards.append(self.shard_files.setdefault(file, len(self.shard_files)) if part else -1)
        if self.check_files:
            self._look_for(re.sub(r":\d+$", "", file) if "features_filepath" in fields else file, number)

    def _look_for(self, file: str, number: int) -> None:
        key = hash(file)
        if key in self.files:
            return
        self.files.add(key)
        file = join(self.folder, file)
        if not is_remote(file) and not os.path.isfile(file):
            self.missing.append((number, file))

    def finish(self, line_at: Callable[[int], bytes]) -> tuple[np.ndarray, np.ndarray, Shards | None]:
        """Return the lines' first bytes, durations and shards.

        Raises
        ------
        DataError
        """
        path = self.name
        self.problems += self._repeated_ids(line_at)
        if self.problems:
            more = len(self.problems) - _MAX_SHOWN
            shown = [f"{path}:{number}: {problem}" for number, problem in sorted(self.problems)[:_MAX_SHOWN]]
            tail = f"; and {more} more bad line{'s' if more > 1 else ''}" if more > 0 else ""
            raise DataError("; ".join(shown) + tail)
        if not self.starts:
            raise DataError(f"{path}: no utterances in this manifest; it needs one JSON object a line")
        if self.missing:
            number, file = self.missing[0]
            raise DataError(
                f"{path}:{number}: {len(self.missing)} of {len(self.files)} files do not exist, first "
                f"{file}; "
                f"correct the paths (relative ones start at the manifest's folder) or restore the files"
            )
        of = np.array(self.shards, dtype=np.int32)
        files = [join(self.folder, file) for file in self.shard_files]
        shards = Shards(files, of) if of.min() >= 0 else None
        return np.array(self.starts), np.array(self.durations), shards

    def _repeated_ids(self, line_at: Callable[[int], bytes]) -> Iterator[tuple[int, str]]:
        digests = np.array(self.ids, dtype=np.int64)
        order = np.argsort(digests, kind="stable")
        first_of: dict[str, int] = {}
        same = digests[order[1:]] == digests[order[:-1]]
        for i in np.union1d(order[1:][same], order[:-1][same]).tolist():
            if i in self.stems:
                continue
            name = read_fields(line_at(self.starts[i]))["id"]
            first = first_of.setdefault(name, self.numbers[i])
            if first != self.numbers[i]:
                yield self.numbers[i], f"id {shown(name)} is already used on line {first}; make ids unique"

    def name_the_nameless(self) -> np.ndarray:
        """Return by utterance the number after its file's stem in its id: 1 for none, 0 for an own id."""
        numbers = np.zeros(len(self.starts), dtype=np.int32)
        if not self.stems:
            return numbers
        taken = {digest for i, digest in enumerate(self.ids) if i not in self.stems}
        count: dict[str, int] = {}
        for index, stem in self.stems.items():
            number, name = 1, stem
            while hash(name) in taken:
                number = count[stem] = count.get(stem, 1) + 1
                name = f"{stem}-{number}"
            taken.add(hash(name))
            numbers[index] = number
        return numbers


def durations(utterances: Sequence[Utterance]) -> np.ndarray:
    """Return the seconds of each utterance, float64 (utterances,)."""
    known = getattr(utterances, "durations", None)
    return known if known is not None else np.array([u.duration for u in utterances])


def write_manifest(path: Path | str, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, whole or not at all.

    Parameters
    ----------
    path : Path or str
        Its folder is made if there is none.
    utterances : iterable of Utterance
        Their files are written relative to the manifest's folder if they lie inside it, so that a corpus
        can be moved with its manifests, else absolute.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    path = Path(path)
    folder = Path(os.path.abspath(path.parent))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            for utterance in utterances:
                file.write(json.dumps(to_record(utterance, folder), ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot write this manifest ({error.strerror}); choose a folder that you can write to"
        ) from error
