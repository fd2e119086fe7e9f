"""N-gram models as ARPA text; reading never guesses: whatever is wrong is named with its line."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from asr.errors import DataError
from asr.files import atomic_write
from asr.lm.counts import UNK_ID
from asr.lm.ngram import Level, NgramModel
from asr.lm.units import BOS, EOS, SPECIAL, UNK

_LINES_PER_BLOCK = 20_000
_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)")
_KENLM_BINARY = b"mmap lm http://kheafield.com/code"
_UNKNOWN_TO_THE_FILE = -100.0
"""log10 probability of ``<unk>`` if the file has none, as in KenLM."""
_ROWS_PER_BLOCK = 200_000


def write_arpa(path: Path | str, model: NgramModel) -> None:
    """Write a model as ARPA text, whole or not at all; gzipped if the name ends in ``.gz``."""
    path = Path(path)
    with atomic_write(path) as temporary, temporary.open("wb") as raw:
        if path.suffix == ".gz":
            # Without the time and the temporary name, so that the same model is the same file.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                _write(io.TextIOWrapper(packed, encoding="utf-8", newline="\n"), model)
        else:
            _write(io.TextIOWrapper(raw, encoding="utf-8", newline="\n"), model)


def _write(file: io.TextIOWrapper, model: NgramModel) -> None:
    file.write("\\data\\\n")
    file.writelines(f"ngram {n}={count}\n" for n, count in enumerate(model.counts, start=1))
    words = np.array(model.words, dtype=object)
    for n, level in enumerate(model.levels, start=1):
        file.write(f"\n\\{n}-grams:\n")
        line = "%.7g\t" + " ".join(["%s"] * n) + ("\t%.7g\n" if n < model.order else "\n")
        for start in range(0, len(level.keys), _ROWS_PER_BLOCK):
            rows = slice(start, start + _ROWS_PER_BLOCK)
            fields = [level.log10_prob[rows].tolist()]
            fields += [words[column].tolist() for column in model.columns(n, rows)]
            if n < model.order:
                fields.append(level.backoff[rows].tolist())
            file.writelines(map(line.__mod__, zip(*fields, strict=True)))
    file.write("\n\\end\\\n")
    file.flush()
    file.detach()


def read_arpa(path: Path | str, note: Callable[[str], None] = lambda message: None) -> NgramModel:
    """Read an n-gram model from ARPA text, gzipped or not.

    Parameters
    ----------
    note : callable
        Told in one line of what can be borne: a file without ``<unk>``.

    Raises
    ------
    DataError
        Naming file and line, if the file is cut short or not ARPA, a section is missing, has other n-grams
        than announced or an n-gram twice, a probability is above 1, a number is not finite, or an n-gram
        has a word or a beginning that the model lacks.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            start = raw.read(len(_KENLM_BINARY))
            raw.seek(0)
            if start == _KENLM_BINARY:
                raise DataError(f"{path}: a KenLM binary; give the ARPA file that it was made of")
            file: Any = gzip.GzipFile(fileobj=raw) if start[:2] == b"\x1f\x8b" else raw
            return _Reader(path, file, note).read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip file is cut short or damaged ({error}); copy it again") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot read this language model ({error.strerror}); check the path"
        ) from error


class _Reader:
    """One file being read, and the number of the last line read."""

    def __init__(self, path: Path, file: Iterable[bytes], note: Callable[[str], None]) -> None:
        self.path, self.note = path, note
        self.lines: Iterator[bytes] = iter(file)
        self.number = 0
        self.words: list[str] = []
        self.ids: dict[bytes, int] = {}

    def read(self) -> NgramModel:
        counts = self._read_counts()
        levels: list[Level] = []
        for n, count in enumerate(counts, start=1):
            self._read_header(rb"\%d-grams:" % n, n - 1)
            levels.append(self._read_section(n, count, n == len(counts), levels))
            if n == 1:
                levels = [self._with_special(levels[0])]
        self._read_header(b"\\end\\", len(counts))
        if trailing := self._next():
            self._fail(f"{_shown(trailing)} after \\end\\; remove it")
        return NgramModel(self.words, levels)

    def _fail(self, problem: str, number: int | None = None) -> NoReturn:
        raise DataError(f"{self.path}:{number or self.number}: {problem}")

    def _next(self) -> bytes:
        """Return the next line that is not blank, b"" at the end of the file."""
        self.after_blank = False
        for line in self.lines:
            self.number += 1
            if stripped := line.strip():
                return stripped
            self.after_blank = True
        return b""

    def _read_counts(self) -> list[int]:
        if (line := self._next().removeprefix(b"\xef\xbb\xbf")) != b"\\data\\":
            self._fail(f"an ARPA file begins with \\data\\, found {_shown(line)}", max(self.number, 1))
        counts: list[int] = []
        for line in self.lines:
            self.number += 1
            if not line.strip():
                break
            match = _COUNT.fullmatch(line.strip())
            if not match or int(match[1]) != len(counts) + 1:
                self._fail(f"expected 'ngram {len(counts) + 1}=COUNT' or a blank line, found {_shown(line)}")
            counts.append(int(match[2]))
        if not counts:
            self._fail("no counts after \\data\\; expected 'ngram 1=COUNT'")
        return counts

    def _read_header(self, wanted: bytes, before: int) -> None:
        line = self._next()
        if line == wanted:
            return
        if not line:
            self._fail(f"the file ends where {wanted.decode()} is due; it is cut short, copy it again")
        if before and not self.after_blank and not line.startswith(b"\\"):
            self._fail(
                f"more {before}-grams than \\data\\ announces, the first {_shown(line)}; correct the count"
            )
        self._fail(f"expected {wanted.decode()}, found {_shown(line)}; a section is missing or misplaced")

    def _read_section(self, n: int, count: int, highest: bool, levels: list[Level]) -> Level:
        start = self.number
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        while (done := self.number - start) < count:
            block = list(islice(self.lines, min(count - done, _LINES_PER_BLOCK)))
            fields = [line.split() for line in block]
            first = self.number + 1
            for i, line in enumerate(fields):
                if not line or line[0].startswith(b"\\"):
                    self._fail(
                        f"\\data\\ announces {count} {n}-grams, found {done + i}; correct the count, or copy "
                        "the file again",
                        first + i,
                    )
                if len(line) != n + 1 and (highest or len(line) != n + 2):
                    back_off = "" if highest else " and perhaps a back-off weight"
                    self._fail(
                        f"expected a log10 probability, {n} words{back_off}, found {len(line)} fields in "
                        f"{_shown(block[i])}",
                        first + i,
                    )
            self.number += len(block)
            if not block:
                self._fail(f"the file ends after {done} of {count} {n}-grams; it is cut short, copy it again")
            parts.append(self._parse(n, fields, first, levels))
        keys, probs, backoffs = (
            (np.concatenate(part) for part in zip(*parts, strict=True))
            if parts
            else (
                np.empty(0, np.int64),
                np.empty(0),
                np.empty(0),
            )
        )
        order = np.argsort(keys, kind="stable")
        twice = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        if len(twice):
            again = order[twice + 1].min()
            earlier = np.flatnonzero(keys == keys[again])[0]
            self._fail(
                f"this {n}-gram is already on line {start + 1 + earlier}; remove one", start + 1 + int(again)
            )
        return Level(keys[order], probs[order], backoffs[order])

    def _parse(
        self, n: int, fields: list[list[bytes]], first: int, levels: list[Level]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        probs = self._numbers([line[0] for line in fields], first, "log10 probability")
        above = np.flatnonzero(probs > 0)
        if len(above):
            i = int(above[0])
            self._fail(
                f"log10 probability {_shown(fields[i][0])} is above 0, that is a probability "
                "above 1; correct it",
                first + i,
            )
        backoffs = self._numbers(
            [line[n + 1] if len(line) == n + 2 else b"0" for line in fields], first, "log10 back-off weight"
        )
        if n == 1:
            return self._new_words([line[1] for line in fields], first), probs, backoffs
        columns = [
            np.array([self.ids.get(line[i], -1) for line in fields], dtype=np.int64) for i in range(1, n + 1)
        ]
        for i, column in enumerate(columns, start=1):
            unknown = np.flatnonzero(column < 0)
            if len(unknown):
                at = int(unknown[0])
                self._fail(
                    f"{_shown(fields[at][i])} is in this {n}-gram, but not among the 1-grams", first + at
                )
        prefix = columns[0]
        for level, column in zip(levels[1:], columns[1:-1], strict=True):
            prefix = np.where(prefix >= 0, level.find(prefix * len(self.words) + column), -1)
        missing = np.flatnonzero(prefix < 0)
        if len(missing):
            at = int(missing[0])
            start = b" ".join(fields[at][1:n])
            self._fail(
                f"{_shown(start)} begins this {n}-gram, but is not among the {n - 1}-grams", first + at
            )
        return prefix * len(self.words) + columns[-1], probs, backoffs

    def _numbers(self, fields: list[bytes], first: int, name: str) -> np.ndarray:
        try:
            values = np.array(list(map(float, fields)))
        except ValueError:
            values = np.array([_number(field) for field in fields])
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            i = int(bad[0])
            self._fail(f"{name} {_shown(fields[i])} is not a finite number (0 is written as -99)", first + i)
        return values

    def _new_words(self, words: list[bytes], first: int) -> np.ndarray:
        """Give words their ids: `SPECIAL` the first ones, the others as they come."""
        if not self.ids:
            self.words = list(SPECIAL)
            self.ids = {word.encode(): i for i, word in enumerate(SPECIAL)} | {b"<UNK>": UNK_ID}
        keys = []
        for number, word in enumerate(words, start=first):
            if word not in self.ids:
                try:
                    self.words.append(word.decode())
                except UnicodeDecodeError:
                    self._fail(f"{word!r} is not UTF-8; convert the file to UTF-8", number)
                self.ids[word] = len(self.words) - 1
            keys.append(self.ids[word])
        return np.array(keys, dtype=np.int64)

    def _with_special(self, level: Level) -> Level:
        """See that the 1-grams have what every model must have."""
        present = set(level.keys[: len(SPECIAL)].tolist())
        for word in (BOS, EOS):
            if SPECIAL.index(word) not in present:
                self._fail(f"no {word} among the 1-grams; the model must know where sentences start and end")
        if UNK_ID in present:
            return level
        self.note(f"{self.path}: no {UNK} among the 1-grams; words outside it have log10 probability -100")
        return Level(
            np.insert(level.keys, UNK_ID, UNK_ID),
            np.insert(level.log10_prob, UNK_ID, _UNKNOWN_TO_THE_FILE),
            np.insert(level.backoff, UNK_ID, 0.0),
        )


def _number(field: bytes) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")


def _shown(text: bytes) -> str:
    shown = text.strip().decode(errors="replace")
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")
