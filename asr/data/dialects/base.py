"""What every dialect of data description is made of, and what their readers and writers share."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from asr.data.dialects.media import Headers, Media, copy, cut
from asr.errors import AudioError, DataError
from asr.types import Utterance

UNKNOWN = math.nan
"""Duration of an utterance whose dialect does not state it: to the end of its file."""

_MAX_SHOWN = 3
# Seconds and share by which an utterance may fall short of its file and still be the whole of it, since
# durations are often rounded.
_TOLERANCE_SECONDS = 0.05
_TOLERANCE_RATIO = 0.01


@dataclass
class Source:
    """What a reader may use, and what it has to say.

    Attributes
    ----------
    headers : Headers
        Of audio files, read once.
    media : Media
        Where audio goes that has no file of its own: a command's output, bytes inside another file.
    audio_dir : Path or None
        Where relative audio paths start, in place of the dialect's own rule.
    run_commands : bool
        Whether commands that the data name may be run.
    features : bool
        Whether to take precomputed features where there is audio as well.
    notes : list of str
        Filled by the reader: what it passed over, for the user.
    """

    headers: Headers
    media: Media
    audio_dir: Path | None = None
    run_commands: bool = False
    features: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def dry(self) -> bool:
        """Whether this reading only compares: no files are made or looked for."""
        return self.media.folder is None

    def find(self, name: str, *folders: Path) -> str:
        """Return the absolute path of a file: in `audio_dir`, or in the first of `folders` that has it."""
        if os.path.isabs(name):
            return os.path.normpath(name)
        candidates = [self.audio_dir] if self.audio_dir is not None else [*folders]
        paths = [os.path.abspath(folder / name) for folder in candidates]
        return next((path for path in paths if os.path.exists(path)), paths[0])


class Target:
    """What a writer may use, and what it has to say.

    Parameters
    ----------
    utterances : sequence of Utterance
        That will be written.
    headers : Headers
    channels : frozenset of str
        Ids of the utterances that are one channel of a recording with several.

    Attributes
    ----------
    notes : list of str
        Filled by the writer.
    """

    def __init__(
        self, utterances: Sequence[Utterance], headers: Headers, channels: frozenset[str] = frozenset()
    ) -> None:
        self._utterances = utterances
        self.channels = channels
        self._num_placed = 0
        self.headers = headers
        self.notes: list[str] = []

    @cached_property
    def parts(self) -> frozenset[str]:
        """Ids of the utterances that are a stretch or a channel of a longer recording."""
        return stretches(self._utterances, self.headers) | self.channels

    def suffix(self, utterance: Utterance) -> str:
        """Return the suffix of the file that `place` will make."""
        return ".wav" if utterance.id in self.parts else Path(utterance.audio_filepath or "").suffix

    def place(self, utterance: Utterance, path: Path) -> None:
        """Put an utterance's audio into a file: copied, or cut if it is a part.

        Raises
        ------
        AudioError, DataError
        """
        assert utterance.audio_filepath is not None
        if utterance.id in self.parts:
            cut(utterance, path)
        else:
            copy(utterance.audio_filepath, path)
        self._num_placed += 1
        self.headers.progress("writing audio", self._num_placed, len(self._utterances))


def stretches(utterances: Sequence[Utterance], headers: Headers) -> frozenset[str]:
    """Return the ids of the utterances that are not the whole of their audio files.

    A file that cannot be read is taken to be whole: reading it says what is wrong.
    """
    later = {u.id for u in utterances if u.audio_filepath is not None and u.offset > 0}
    others = [u for u in utterances if u.audio_filepath is not None and u.id not in later]
    headers.load(u.audio_filepath for u in others if u.audio_filepath is not None)
    for utterance in others:
        with contextlib.suppress(AudioError):
            length = headers[utterance.audio_filepath or ""].duration
            if utterance.duration < length - max(_TOLERANCE_SECONDS, _TOLERANCE_RATIO * length):
                later.add(utterance.id)
    return frozenset(later)


@dataclass(frozen=True)
class Dialect:
    """A way to describe data.

    Attributes
    ----------
    name : str
        As ``--from`` and ``--to`` take it.
    title : str
    looks_for : str
        What its content is told by.
    detect : callable
        Whether a path holds it; looks at the content, not at the name.
    read : callable
        ``read(path, source)`` yields utterances with absolute paths. Those without an id have "", those
        without a duration `UNKNOWN`. Raises DataError after the last one, naming all bad lines.
    write : callable
        ``write(path, utterances, target)`` writes them and returns them in the order in which they will
        be read. A dialect that is a file writes it whole or not at all; one that is a folder fills the
        empty folder `path`, which gets its name once it is full.
    holds : frozenset of str
        Of ``offset``, ``channel``, ``features``: without these an utterance has to be a whole audio file.
    folder : bool
        Whether it is written as a folder.
    own_audio : bool
        Whether its folder contains the audio.
    suffixes : tuple of str
        Output names that mean this dialect.
    weak : bool
        Whether it counts only where no other dialect is found.
    """

    name: str
    title: str
    looks_for: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, Source], Iterator[Utterance]]
    write: Callable[[Path, Sequence[Utterance], Target], Sequence[Utterance]]
    holds: frozenset[str] = frozenset()
    folder: bool = False
    own_audio: bool = False
    suffixes: tuple[str, ...] = ()
    weak: bool = False


class Problems:
    """Bad lines, told together."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, place: object, message: object) -> None:
        """Note what is wrong at ``file:line`` and how to put it right."""
        self._found.append(f"{place}: {message}")

    @contextlib.contextmanager
    def at(self, place: object) -> Iterator[None]:
        """Note a ValueError of the block as the problem of a place."""
        try:
            yield
        except ValueError as error:
            self.add(place, error)

    def check(self) -> None:
        """Raise DataError with the first few and the count of the others, if there are any."""
        more = len(self._found) - _MAX_SHOWN
        if self._found:
            tail = f"; and {more} more like it" if more > 0 else ""
            raise DataError("; ".join(self._found[:_MAX_SHOWN]) + tail)
