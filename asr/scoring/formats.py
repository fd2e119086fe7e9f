"""Read transcripts of any common format as a mapping from utterance id to text.

===========  ===========================================================================================
``jsonl``    A JSON object a line: a manifest, NeMo's predictions, or the ``hyp.jsonl`` of `asr evaluate`
``trn``      sclite's ``words (utterance_id)``; ``;;`` starts a comment line
``kaldi``    Kaldi's ``text``: ``utterance_id words``
``plain``    An utterance a line; its id is the line's number
===========  ===========================================================================================
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from asr.errors import DataError
from asr.scoring.pairing import Missing, Pairing, pair

Format = Literal["auto", "jsonl", "trn", "kaldi", "plain"]
Role = Literal["ref", "hyp"]

_Lines = list[tuple[int, str]]  # (line number from 1, line without its end)
_TRN = re.compile(r"(.*?)\s*\(([^()\s]+)\)\s*", re.DOTALL)
_JSON_START = re.compile(r"\s*(\{|\[\s*(\{|$))")


def read_transcripts(path: Path | str, fmt: Format = "auto", *, role: Role = "ref") -> dict[str, str]:
    """Read a file of transcripts.

    Parameters
    ----------
    path : Path or str
        UTF-8; a byte-order mark is skipped, and so are blank lines unless the format is plain.
    fmt : {"auto", "jsonl", "trn", "kaldi", "plain"}
        "auto" tells it from the content.
    role : {"ref", "hyp"}
        Which field of a JSON line is meant: a reference is its ``text``, a hypothesis its ``pred_text`` if
        any line of the file has one, else its ``text``.

    Returns
    -------
    dict of str to str
        Text by utterance id, in the file's order. The id of a JSON line is its ``id``, or else its
        ``audio_filepath``, with ``@offset`` if it starts later than the file.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, its format cannot be told, a line is malformed, or an id is
        there twice; the message names the file and the line.
    """
    return _read(Path(path), fmt, role)[1]


def read_pair(
    reference: Path | str, hypothesis: Path | str, fmt: Format = "auto", missing: Missing = "error"
) -> Pairing:
    """Read a reference and a hypothesis file and pair their utterances by id.

    Parameters
    ----------
    reference, hypothesis : Path or str
    fmt : {"auto", "jsonl", "trn", "kaldi", "plain"}
        Of both files. With "auto" they may differ.
    missing : {"error", "delete", "skip"}
        As in `asr.scoring.pair`.

    Raises
    ------
    DataError
        As `read_transcripts` and `pair`; and if two plain files differ in their number of lines, which no
        choice of `missing` can mend.
    """
    reference_format, references = _read(Path(reference), fmt, "ref")
    hypothesis_format, hypotheses = _read(Path(hypothesis), fmt, "hyp")
    if reference_format == hypothesis_format == "plain" and len(references) != len(hypotheses):
        raise DataError(
            f"{hypothesis}: has {len(hypotheses)} lines, but {reference} has {len(references)}; plain lines "
            f"are paired by their number, so make them equal or use a format with ids"
        )
    names = (f"{reference} ({reference_format})", f"{hypothesis} ({hypothesis_format})")
    return pair(references, hypotheses, missing, names=names)


def _read(path: Path, fmt: Format, role: Role) -> tuple[Format, dict[str, str]]:
    lines = _read_lines(path)
    if fmt == "auto":
        fmt = _detect(path, lines)
    if fmt != "plain":
        lines = [(number, line) for number, line in lines if line.strip()]
    texts: dict[str, str] = {}
    line_of: dict[str, int] = {}
    for number, id, text in _READERS[fmt](path, lines, role):
        if id in texts:
            raise DataError(
                f"{path}:{number}: id {id!r} is already used on line {line_of[id]}; make ids unique, or name "
                f"another --format than {fmt}"
            )
        texts[id], line_of[id] = text, number
    if not texts:
        raise DataError(f"{path}: has no transcript; give a file with at least one")
    return fmt, texts


def _read_lines(path: Path) -> _Lines:
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(
            f"{path}: cannot read these transcripts ({error.strerror}); check the path"
        ) from error
    # UTF-16 without a byte-order mark is valid UTF-8 full of zeros.
    bad = data.find(b"\0")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = error.start if bad < 0 else min(bad, error.start)
    if bad >= 0:
        line = data.count(b"\n", 0, bad) + 1
        raise DataError(
            f"{path}:{line}: byte 0x{data[bad]:02x} is not UTF-8 text; convert the file with "
            f"`iconv -f ENCODING -t UTF-8`"
        )
    # Not splitlines(): it would also split at U+2028, U+0085 and other characters that may stand in a text.
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    return list(enumerate(lines, start=1))


def _detect(path: Path, lines: _Lines) -> Format:
    """Tell the format; raise DataError rather than count ids as words, or words as ids."""
    filled = [line for _, line in lines if line.strip()]
    if not filled:
        return "plain"
    if 2 * sum(_TRN.fullmatch(line) is not None for line in filled) > len(filled):
        return "trn"
    if _JSON_START.match(filled[0]):
        return "jsonl"
    words = [line.split() for line in filled]
    firsts = [line_words[0] for line_words in words]
    if all("_" in first or _is_mixed(first) for first in firsts) and (len(firsts) > 1 or "_" in firsts[0]):
        return "kaldi"
    if (
        all(re.search(r"[\d_-]", first) for first in firsts)
        and len(set(firsts)) == len(firsts)
        and any(len(line_words) > 1 for line_words in words)
    ):
        raise DataError(
            f"{path}: cannot tell whether the first word of each line, such as {firsts[0]!r}, is an id; "
            f"name the --format, kaldi or plain"
        )
    return "plain"


def _is_mixed(token: str) -> bool:
    """Tell whether digits and other characters meet, as in most utterance ids and few words."""
    return bool(re.search(r"\d", token) and re.search(r"\D", token))


def _jsonl(path: Path, lines: _Lines, role: Role) -> Iterator[tuple[int, str, str]]:
    objects = [(number, _json_object(path, number, line)) for number, line in lines]
    # One field for the whole file: falling back line by line would score references against themselves.
    key = "pred_text" if role == "hyp" and any("pred_text" in fields for _, fields in objects) else "text"
    for number, fields in objects:
        id = fields.get("id", fields.get("audio_filepath"))
        if not isinstance(id, str | int) or id == "":
            raise DataError(
                f"{path}:{number}: {_found(fields, 'id')}; each line needs a text as `id` or `audio_filepath`"
            )
        if "id" not in fields and fields.get("offset"):
            id = f"{id}@{fields['offset']}"
        if not isinstance(fields.get(key), str):
            raise DataError(
                f"{path}:{number}: {_found(fields, key)}; each line needs its transcript as `{key}`"
            )
        yield number, str(id), fields[key]


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        problem = getattr(error, "msg", str(error))
        raise DataError(
            f"{path}:{number}: not JSON ({problem}): {_shown(line)}; write one object a line, or name "
            f"another --format"
        ) from error
    if not isinstance(fields, dict):
        raise DataError(f"{path}:{number}: not a JSON object: {_shown(line)}; write one object a line")
    return fields


def _trn(path: Path, lines: _Lines, role: Role) -> Iterator[tuple[int, str, str]]:
    for number, line in lines:
        if line.startswith(";;"):
            continue
        match = _TRN.fullmatch(line)
        if match is None:
            raise DataError(
                f"{path}:{number}: does not end in `(utterance_id)`: {_shown(line)}; add it, or name "
                f"another --format"
            )
        text, id = match.groups()
        if not {"{", "}"}.isdisjoint(text.split()):
            raise DataError(
                f"{path}:{number}: alternatives are not supported: {_shown(line)}; write one of them, "
                f"without braces"
            )
        yield number, id, text.strip()


def _kaldi(path: Path, lines: _Lines, role: Role) -> Iterator[tuple[int, str, str]]:
    for number, line in lines:
        id, *text = line.split(maxsplit=1)
        yield number, id, "".join(text)


def _plain(path: Path, lines: _Lines, role: Role) -> Iterator[tuple[int, str, str]]:
    for number, line in lines:
        yield number, str(number), line


_READERS: dict[str, Callable[[Path, _Lines, Role], Iterator[tuple[int, str, str]]]] = {
    "jsonl": _jsonl,
    "trn": _trn,
    "kaldi": _kaldi,
    "plain": _plain,
}


def _found(fields: dict[str, Any], key: str) -> str:
    return f"`{key}` is {_shown(json.dumps(fields[key]))}" if key in fields else f"`{key}` is missing"


def _shown(text: str) -> str:
    """Shorten a text for a message of one line."""
    text = repr(text)
    return text if len(text) <= 60 else text[:57] + "..."
