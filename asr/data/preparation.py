"""What the recipes' ``prepare.py`` share: finding a corpus in a folder, durations, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from asr.data.headers import probe
from asr.errors import DataError
from asr.files import atomic_write
from asr.types import Utterance

# Shorter audio cannot be read; see asr.audio.
_MIN_SECONDS = 0.025


class LeftOut:
    """What a recipe leaves out of its manifests, and why.

    Examples
    --------
    >>> left_out = LeftOut()
    >>> left_out.add("ann-20090101-abc/wav/a0012.wav", "no prompt")
    >>> str(left_out)
    '1 left out (1 no prompt)'
    """

    def __init__(self) -> None:
        self._reasons: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._reasons.values()))

    def add(self, name: str | os.PathLike[str], reason: str, detail: str = "") -> None:
        """Note a recording, a line or a folder; `reason` names the kind of fault, `detail` what was found."""
        line = f"{reason}\t{os.fspath(name)}\t{detail}".rstrip("\t")
        self._reasons.setdefault(reason, []).append(" ".join(line.splitlines()))

    def __str__(self) -> str:
        if not self:
            return "nothing left out"
        counts = ", ".join(f"{len(lines)} {reason}" for reason, lines in self._reasons.items())
        return f"{len(self)} left out ({counts})"

    def write(self, path: Path, note: Callable[[str], object] | None = None) -> None:
        """Write what was left out, as ``reason<TAB>name<TAB>detail``, and tell how much it is.

        Parameters
        ----------
        path : Path
            Removed if nothing was left out.
        note : callable, optional
            Called with one line, unless nothing was left out.

        Raises
        ------
        DataError
        """
        try:
            if not self:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
                for lines in self._reasons.values():
                    file.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be written ({error.strerror}); choose a folder that you can write to"
            ) from error
        if note is not None:
            note(f"{self}, listed in {path}")


def read_durations(
    utterances: Sequence[Utterance],
    left_out: LeftOut,
    progress: Callable[[int, int], object] | None = None,
) -> list[Utterance]:
    """Return the utterances, those of duration 0 with what their file's header says.

    Many headers are read by several processes. Files that cannot be read, or are too short to be, are put
    into `left_out`.

    Parameters
    ----------
    utterances : sequence of Utterance
        Of duration 0 if they are a whole file each whose duration is not known.
    progress : callable, optional
        Called with the number of headers read and of all.
    """
    found, done = [], 0
    unknown = [utterance.audio_filepath or "" for utterance in utterances if not utterance.duration]
    with closing(probe(unknown)) as results:
        for utterance in utterances:
            if utterance.duration:
                found.append(utterance)
                continue
            seconds, problem = next(results)
            if problem:
                left_out.add(utterance.audio_filepath or "", "unreadable", problem)
            elif seconds < _MIN_SECONDS:
                left_out.add(utterance.audio_filepath or "", "shorter than 25 ms")
            else:
                found.append(replace(utterance, duration=seconds))
            done += 1
            if progress is not None:
                progress(done, len(unknown))
    return found


def find_folders(root: Path, names: Sequence[str], *, depth: int = 3) -> Iterator[Path]:
    """Yield the folders at or below `root` that hold all of `names`, in any case, the outermost first.

    Nothing is looked for below such a folder.

    Parameters
    ----------
    depth : int
        How many levels below `root` are searched.
    """
    wanted = {name.lower() for name in names}
    level = [root]
    for _ in range(depth + 1):
        below = []
        for folder in level:
            with suppress(OSError), os.scandir(folder) as found:
                entries = list(found)
                if wanted <= {entry.name.lower() for entry in entries}:
                    yield folder
                else:
                    below += sorted(Path(e.path) for e in entries if e.is_dir() and e.name[0] != ".")
        level = below
