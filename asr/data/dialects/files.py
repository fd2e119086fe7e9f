"""Text, JSON lines and CSV as dialects read and write them, and folders that appear when they are full."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from asr.data.dialects.base import Problems
from asr.data.dialects.values import SPACES
from asr.errors import DataError
from asr.files import atomic_write
from asr.scoring.lines import read_lines

_HEAD_BYTES = 1 << 16


def head(path: Path) -> str:
    """Return the beginning of a text file, unzipped; "" if it is a folder, unreadable or no text."""
    try:
        with _open(path) as file:
            data = file.read(_HEAD_BYTES)
    except (OSError, EOFError):
        return ""
    text = data.decode("utf-8-sig", errors="replace")
    return "" if "\0" in text else text


def first_json(path: Path) -> dict[str, Any]:
    """Return the JSON object on the first line that is not blank, {} if there is none."""
    line = head(path).lstrip().partition("\n")[0]
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _open(path: Path) -> io.BufferedIOBase:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else open(path, "rb")


def json_lines(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``file:line`` and the object of every line of JSON, gzipped or not."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    fields = json.loads(line.decode("utf-8-sig"))
                    if not isinstance(fields, dict):
                        raise ValueError
                except (ValueError, RecursionError):
                    problems.add(f"{path}:{number}", "not a JSON object; write one on every line")
                else:
                    yield f"{path}:{number}", fields
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read after line {number} ({error}); copy it again") from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    try:
        with _open(path) as file:
            return json.loads(file.read().decode("utf-8-sig"))
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no whole JSON file ({error}); write it again") from error


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ``file:line`` and the cells of every row that is not blank, with the spaces before them."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                number = reader.line_num
                if cells:
                    yield f"{path}:{number}", cells
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}:{number + 1}: {error}; write UTF-8, and double the quotes inside quoted cells"
        ) from error


def csv_table(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``file:line`` and the cells by column name of every row below the header."""
    rows = csv_rows(path)
    header = [name.strip() for name in next(rows, ("", []))[1]]
    for place, cells in rows:
        if len(cells) != len(header):
            problems.add(place, f"{len(cells)} cells under {len(header)} columns; quote cells with commas")
        else:
            yield place, dict(zip(header, cells, strict=True))


def csv_header(path: Path) -> list[str]:
    """Return the cells of the first row."""
    with contextlib.suppress(csv.Error):
        line = head(path).lstrip().partition("\n")[0]
        return [cell.strip() for cell in next(csv.reader([line.rstrip("\r")]), [])]
    return []


def text_lines(path: Path) -> list[tuple[str, str]]:
    """Return ``file:line`` and the text of the lines that are not blank."""
    return [(f"{path}:{number}", line) for number, line in read_lines(path) if line.strip()]


def read_transcript(path: str | Path) -> str:
    """Return the text of a file that holds one transcript, its lines joined by spaces."""
    return " ".join(line.strip(SPACES) for _, line in text_lines(Path(path)))


@contextlib.contextmanager
def text_file(path: Path) -> Iterator[io.TextIOBase]:
    """Open a file for text, gzipped if its name ends in ``.gz``; it appears when it is whole."""
    with atomic_write(path) as temporary:
        if path.suffix == ".gz":
            # No name and no time inside: the same content gives the same file.
            with (
                open(temporary, "wb") as raw,
                gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped,
                io.TextIOWrapper(zipped, encoding="utf-8", newline="\n") as file,
            ):
                yield file
        else:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                yield file


def write_json_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write a JSON object a line."""
    with text_file(path) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `path` when the block is done, and is removed if it fails.

    Raises
    ------
    DataError
        `path` is there and not an empty folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path}: is there already; choose another folder or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
