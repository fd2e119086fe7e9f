"""Manifests as splits of a corpus, read so that one bad line does not hide the others."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from asr.data.checks.problems import Problem, make_problem
from asr.data.lines import parse_line
from asr.data.shards import find_index
from asr.errors import DataError
from asr.types import Utterance


@dataclass(frozen=True, slots=True)
class Split:
    """A manifest's utterances, and what is wrong with its other lines.

    Attributes
    ----------
    name : str
        What messages call it.
    path : str
        The manifest, as given.
    utterances : list of Utterance
    lines : list of int
        The line of each utterance, from 1.
    problems : list of Problem
        Of lines that are no utterances, and of ids that come twice.
    """

    name: str
    path: str
    utterances: list[Utterance] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def rank(self) -> int:
        """0 for a training split, 1 for dev, 2 for test, by the name of the manifest or of its folder."""
        path = Path(self.path)
        for name in (path.name.lower(), path.parent.name.lower()):
            # "val" is a part of "eval".
            for rank, words in ((0, ("train",)), (2, ("test", "eval")), (1, ("dev", "val"))):
                if any(word in name for word in words):
                    return rank
        return 1

    def locate(self, problem: Problem, index: int | None = None) -> Problem:
        """Return a problem with the place in the manifest of utterance `index`, or of none."""
        return replace(problem, manifest=self.path, line=0 if index is None else self.lines[index])


def read_splits(paths: Sequence[str]) -> list[Split]:
    """Read manifests; what cannot be read is a problem. Those of one name get their paths for names."""
    paths = list(dict.fromkeys(paths))  # some recipes have one manifest for dev and test
    stems = [Path(path).stem for path in paths]
    return [
        _read(path, stem if stems.count(stem) == 1 else path) for path, stem in zip(paths, stems, strict=True)
    ]


def _read(path: str, name: str) -> Split:
    split = Split(name, path)

    def report(kind: str, message: str, line: int, id: str = "") -> None:
        problem = make_problem(kind, message, id=id, path=path)
        split.problems.append(replace(problem, manifest=path, line=line))

    # `read_manifest` refuses a manifest as a whole; here every other line of it is still checked.
    line_of_id: dict[str, int] = {}
    try:
        index, folder, _ = find_index(path)
        with index.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                try:
                    utterance = parse_line(line, folder)
                except ValueError as error:
                    report("manifest", str(error), number)
                    continue
                first = line_of_id.setdefault(utterance.id, number) if utterance.id else number
                if first != number:
                    message = f"this id is already used on line {first}; make ids unique"
                    report("duplicate_id", message, number, utterance.id)
                    continue
                split.utterances.append(utterance)
                split.lines.append(number)
    except DataError as error:
        report("manifest", str(error), 0)
    except OSError as error:
        report(
            "manifest",
            f"cannot read this manifest ({error.strerror}); check the path, or make it with `asr prepare`",
            0,
        )
    if not split.utterances and not split.problems:
        report("manifest", "no utterances in this manifest; it needs one JSON object a line", 0)
    split.utterances[:] = _name_the_nameless(split.utterances, set(line_of_id))
    return split


def _name_the_nameless(utterances: Sequence[Utterance], taken: set[str]) -> Iterator[Utterance]:
    """Call utterances without an id after their files, as `read_manifest` does."""
    count: dict[str, int] = {}
    for utterance in utterances:
        if not utterance.id:
            path = re.sub(r":\d+$", "", utterance.features_filepath or utterance.audio_filepath or "")
            name = stem = Path(path).stem
            while name in taken:
                count[stem] = count.get(stem, 1) + 1
                name = f"{stem}-{count[stem]}"
            taken.add(name)
            utterance = replace(utterance, id=name)
        yield utterance
