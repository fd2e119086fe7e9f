"""The lines of a text file, and how a bad one is named."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import NoReturn

from asr.errors import DataError

Line = tuple[int, str]
"""Line number from 1, and the line without its end."""

# What people give by mistake, by its first bytes.
_KINDS = {
    b"RIFF": "audio (WAV)",
    b"fLaC": "audio (FLAC)",
    b"OggS": "audio (Ogg)",
    b"ID3": "audio (MP3)",
    b"NIST_1A": "audio (SPHERE)",
    b"\x1f\x8b": "compressed (gzip)",
    b"PK\x03\x04": "an archive (zip, or an office document)",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture (PNG)",
}
# Bytes that no text holds; zeros are left for UTF-16, which has a remedy.
_BINARY = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
_HTML = re.compile(rb"\s*(<!doctype html|<html|<head)", re.IGNORECASE)


def read_lines(path: Path) -> list[Line]:
    """Read a UTF-8 text file; a byte-order mark is skipped.

    Lines end in ``\\n`` or ``\\r\\n`` and nowhere else: U+2028, U+0085 and their like may stand in a text.

    Raises
    ------
    DataError
        If the file cannot be read, is of a kind that holds no text, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    for start, kind in _KINDS.items():
        if data.startswith(start):
            raise DataError(f"{path}: is {kind}, not text; give a file of transcripts")
    if _HTML.match(data):
        raise DataError(f"{path}: is an HTML page, not transcripts; save the text file itself")
    data = data.removeprefix(codecs.BOM_UTF8)
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in data and not utf16 and _BINARY.search(data):
        raise DataError(f"{path}: is a binary file, not text; give a file of transcripts")
    # UTF-16 without a byte-order mark is valid UTF-8 full of zeros.
    bad = data.find(b"\0")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = error.start if bad < 0 else min(bad, error.start)
    if bad >= 0:
        line = data.count(b"\n", 0, bad) + 1
        encoding = "UTF-16" if utf16 else "ENCODING"
        raise DataError(
            f"{path}:{line}: byte 0x{data[bad]:02x} is not UTF-8 text; convert the file with "
            f"`iconv -f {encoding} -t UTF-8`"
        )
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    return list(enumerate(lines, start=1))


def bad_line(path: Path | str, number: int, problem: str, remedy: str) -> NoReturn:
    """Raise the DataError of one line of a file."""
    raise DataError(f"{path}:{number}: {problem}; {remedy}")


def shown(text: str) -> str:
    """Shorten a text for a message of one line."""
    text = repr(text)
    return text if len(text) <= 60 else text[:57] + "..."
