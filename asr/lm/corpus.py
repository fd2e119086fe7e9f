"""Text for language models: lines of plain text, or the transcripts of a manifest."""

from __future__ import annotations

import codecs
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.lm.units import RESERVED, SPACE, Unit

_GZIP = b"\x1f\x8b"


def read_text(
    paths: Iterable[Path | str],
    normalizer: Callable[[str], str],
    unit: Unit = "word",
    progress: Callable[[int], None] = lambda num_bytes: None,
) -> Iterator[str]:
    """Yield the normalised lines of text files, reading as they are wanted.

    Parameters
    ----------
    paths : iterable of Path or str
        UTF-8, gzipped or not. Of a file named ``.jsonl`` or ``.json`` each line is a JSON object whose
        ``text`` is taken, as in a manifest; of any other, each line is a sentence. ``-`` is standard input.
    normalizer : callable
        Such as `asr.text.Normalizer`.
    unit : {"word", "character"}
        What will be counted.
    progress : callable
        Told how many bytes were read since its last call, every thousand lines.

    Raises
    ------
    DataError
        Naming file and line, if a file cannot be read, a line is not UTF-8 or not such an object, or has
        ``<s>``, ``</s>``, ``<unk>``, or the character that stands for the space.
    """
    for path in paths:
        name = "standard input" if str(path) == "-" else str(path)
        is_json = Path(path).name.removesuffix(".gz").endswith((".jsonl", ".json"))
        size = 0
        for number, line in enumerate(_raw_lines(path, name), start=1):
            size += len(line)
            if not number % 1000:
                progress(size)
                size = 0
            try:
                text = line.decode()
                text = normalizer(_transcript(text) if is_json else text)
                _check(text, unit)
            except UnicodeDecodeError as error:
                raise DataError(f"{name}:{number}: not UTF-8; convert the file to UTF-8") from error
            except ValueError as error:
                raise DataError(f"{name}:{number}: {error}") from error
            yield text
        progress(size)


def _raw_lines(path: Path | str, name: str) -> Iterator[bytes]:
    try:
        with ExitStack() as stack:
            file: Any = sys.stdin.buffer if str(path) == "-" else stack.enter_context(open(path, "rb"))
            if file.peek(2)[:2] == _GZIP:
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            for i, line in enumerate(file):
                yield line if i else line.removeprefix(codecs.BOM_UTF8)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: the gzip file is cut short or damaged ({error}); copy it again") from error
    except OSError as error:
        raise DataError(f"{name}: cannot read this text ({error.strerror}); check the path") from error


def _transcript(line: str) -> str:
    """Return the text of a manifest's line, nothing for a blank line."""
    if not line.strip():
        return ""
    try:
        text = json.loads(line)["text"]
    except (ValueError, TypeError, KeyError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise ValueError(
            "no JSON object with a string `text`; give a manifest with transcripts, or plain text"
        )
    return text


def _check(text: str, unit: Unit) -> None:
    if "<" in text and (found := RESERVED.intersection(text.split())):
        raise ValueError(f"{min(found)!r} has a meaning of its own in language models; remove it")
    if "\0" in text:
        raise ValueError("there is a NUL character; give a text file")
    if unit == "character" and SPACE in text:
        raise ValueError(f"{SPACE!r} stands for the space between words; remove it from the text")
