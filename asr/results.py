"""``manifest.jsonl``: all results in an output folder, a JSON object a line, which `asr score` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from asr.errors import ConfigError
from asr.files import atomic_write

if TYPE_CHECKING:
    from asr.transcribe import TranscriptionResult

NAME = "manifest.jsonl"


class ResultsManifest:
    """Adds results to the manifest of a folder as they come; a context manager.

    Lines of earlier runs stay, except for those of the recordings that are transcribed again. A line is
    written whole and at once; one that a crash has cut is left out by the next run.

    Parameters
    ----------
    folder : Path
        The output folder.
    renewed : collection of Path
        The recordings that are about to be transcribed.

    Raises
    ------
    ConfigError
        The folder has a ``manifest.jsonl`` that is not of this kind.
    """

    def __init__(self, folder: Path, renewed: Collection[Path]) -> None:
        self.path = folder / NAME
        again = {_name(path) for path in renewed}
        self._lines = {name: line for name, line in self._read().items() if name not in again}
        self._withdrawn = False
        self._write()
        self._file: IO[bytes] = open(self.path, "ab", buffering=0)  # noqa: SIM115

    def _read(self) -> dict[str, str]:
        try:
            content = self.path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return {}
        lines = {}
        # What follows the last line's end was cut off while it was written.
        for number, line in enumerate(content.split("\n")[:-1], start=1):
            try:
                fields = json.loads(line)
                fields["id"], fields["pred_text"]
                lines[str(fields["audio_filepath"])] = line
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self.path}:{number}: not a line of results with id, audio_filepath and pred_text; "
                    "rename this file or choose another --output-dir"
                ) from error
        return lines

    def _write(self) -> None:
        if not self._lines and not self.path.exists():
            return
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in self._lines.values()), encoding="utf-8")

    def add(self, id: str, result: TranscriptionResult) -> None:
        """Write the line of a recording, which scoring calls `id`."""
        confidences = [word.confidence for word in result.words]
        fields: dict[str, Any] = {
            "id": id,
            "audio_filepath": _name(result.path),
            "duration": round(result.duration, 3),
            "pred_text": result.text,
        }
        if confidences:
            fields["confidence"] = round(sum(confidences) / len(confidences), 4)
        line = json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace")
        self._lines[_name(result.path)] = line.decode()
        self._file.write(line + b"\n")

    def withdraw(self, path: Path) -> None:
        """Take back the line of a recording whose outputs could not be written."""
        self._withdrawn |= self._lines.pop(_name(path), None) is not None

    def __enter__(self) -> ResultsManifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._withdrawn:
            self._write()


def _name(path: Path) -> str:
    return "-" if path == Path("-") else os.path.abspath(path)
