"""Pair reference and hypothesis texts: by utterance id or, where a file has times, by time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from asr.errors import DataError
from asr.scoring.division import divide, first_few
from asr.scoring.formats import NAMED_FIELDS, Transcripts, read_transcripts

Missing = Literal["error", "delete", "skip"]


@dataclass(frozen=True)
class Pairing:
    """References and hypotheses with the same ids, and which ids had no partner.

    Attributes
    ----------
    references, hypotheses : dict of str to str
        The same ids in the same order.
    missing : tuple of str
        Ids of references without a hypothesis.
    extra : tuple of str
        Ids of hypotheses without a reference; always left out.
    fields : dict of str to dict
        By id, what the files say besides the texts; the reference's word counts where both say it.
    notes : tuple of str
        What else was not scored as it stands in the files, a sentence each.
    alternatives : bool or None
        True if braces in the texts mean alternatives, since a format that has them (trn, stm, ctm) holds
        some; None if the files do not tell.
    """

    references: dict[str, str]
    hypotheses: dict[str, str]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    alternatives: bool | None = None

    @property
    def remarks(self) -> list[str]:
        """The notes, and how many utterances had no partner and what was done about it, a sentence each."""
        done = "counted as deletions" if {*self.missing} & self.references.keys() else "left out"
        unpaired = (
            (f"references without a hypothesis, {done}", self.missing),
            ("hypotheses without a reference, left out", self.extra),
        )
        return [*self.notes, *(f"{what}: {len(ids)} {first_few(ids)}" for what, ids in unpaired if ids)]


def pair(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    missing: Missing = "error",
    *,
    names: tuple[str, str] = ("the references", "the hypotheses"),
) -> Pairing:
    """Pair texts by id, in the order of the references.

    Parameters
    ----------
    references, hypotheses : mapping of id to text
    missing : {"error", "delete", "skip"}
        What to do about ids on one side only. With "delete", every word of a reference without a hypothesis
        is a deletion; with "skip" it is left out. Both leave out hypotheses without a reference.
    names : tuple of two str
        What to call the two sides in an error.

    Raises
    ------
    DataError
        If no id is on both sides, or `missing` is "error" and the ids differ.
    """
    unpaired = tuple(id for id in references if id not in hypotheses)
    extra = tuple(id for id in hypotheses if id not in references)
    problems = []
    if unpaired:
        problems.append(f"{len(unpaired)} of {len(references)} utterances not found {first_few(unpaired)}")
    if extra:
        problems.append(f"{len(extra)} of {len(hypotheses)} not in {names[0]} {first_few(extra)}")
    # Without a single id in common the two are not the same data, or not in the format that they seem.
    if problems and (missing == "error" or len(unpaired) == len(references)):
        raise DataError(
            f"{names[1]}: {' and '.join(problems)}; make the ids equal, name the --format, or where only "
            f"some are absent choose --missing delete or skip"
        )
    if not references:
        raise DataError(f"{names[0]}: no utterance to score; give at least one")
    ids = [id for id in references if missing != "skip" or id in hypotheses]
    return Pairing(
        references={id: references[id] for id in ids},
        hypotheses={id: hypotheses.get(id, "") for id in ids},
        missing=unpaired,
        extra=extra,
    )


def read_pair(
    reference: Path | str,
    hypothesis: Path | str,
    fmt: str = "auto",
    missing: Missing = "error",
    *,
    hyp_fmt: str | None = None,
    id_field: str | None = None,
    text_field: str | None = None,
    hyp_text_field: str | None = None,
) -> Pairing:
    """Read a reference and a hypothesis file and pair their utterances.

    Texts with ids are paired by id. Timed words (ctm) are divided among the segments of an stm or of
    subtitles by time, or aligned with a ctm between common pauses, both as sclite does. Subtitles and
    segments against each other are cut where both pause, and within by the alignment of their words.

    Parameters
    ----------
    reference, hypothesis : Path or str
        The same file may hold both, in two fields.
    fmt : str
        `asr.scoring.formats.Format` of both files, or of the reference if `hyp_fmt` is given. With "auto"
        they may differ.
    missing : {"error", "delete", "skip"}
        As in `asr.scoring.pair`.
    hyp_fmt : str, optional
    id_field, text_field, hyp_text_field : str, optional
        Fields of JSON lines or columns of tables: of the id in both files, of the reference's text, and of
        the hypothesis's.

    Returns
    -------
    Pairing

    Raises
    ------
    DataError
        As `read_transcripts` and `pair`; if two plain files differ in their number of lines, which no choice
        of `missing` can mend; if the formats cannot be compared, or the channels of a recording differ.
    """
    return read_many(
        reference,
        [hypothesis],
        fmt,
        missing,
        hyp_fmt=hyp_fmt,
        id_field=id_field,
        text_field=text_field,
        hyp_text_field=hyp_text_field,
    )[0]


def read_many(
    reference: Path | str,
    hypotheses: Sequence[Path | str],
    fmt: str = "auto",
    missing: Missing = "error",
    *,
    hyp_fmt: str | None = None,
    id_field: str | None = None,
    text_field: str | None = None,
    hyp_text_field: str | None = None,
) -> list[Pairing]:
    """Read several systems' hypotheses of the same references.

    Parameters
    ----------
    As for `read_pair`. With "skip", an utterance that any of the systems lacks is left out for all.

    Returns
    -------
    list of Pairing
        One a system, all with the same ids and references.
    """
    said = read_transcripts(reference, fmt, role="ref", id_field=id_field, text_field=text_field)
    recognised = [
        read_transcripts(hypothesis, hyp_fmt or fmt, role="hyp", id_field=id_field, text_field=hyp_text_field)
        for hypothesis in hypotheses
    ]
    if id_field is not None and not any(file.format in NAMED_FIELDS for file in (said, *recognised)):
        raise DataError(
            f"{said.path}: has no field {id_field!r}, since its format is {said.format}; only jsonl, csv and "
            f"tsv have named fields"
        )
    divided = divide(said, recognised)
    braces = any(_has_alternatives(file) for file in (said, *recognised))
    pairings = []
    for file, division in zip(recognised, divided, strict=True):
        _check_plain(said, file)
        names = (f"{said.path} ({said.format})", f"{file.path} ({file.format})")
        found = pair(division.references, division.hypotheses, missing, names=names)
        hyp_fields, fields = division.hyp_fields, division.fields
        pairings.append(
            replace(
                found,
                fields={id: hyp_fields.get(id, {}) | fields.get(id, {}) for id in found.references},
                notes=(*division.notes, *_notes_on_sameness(said, file)),
                alternatives=True if braces else None,
            )
        )
    common = set.intersection(*(set(pairing.references) for pairing in pairings))
    if not common:
        raise DataError(
            f"{said.path}: no utterance is in all of {len(hypotheses)} hypothesis files; choose "
            f"--missing delete"
        )
    return [_only(pairing, common) for pairing in pairings]


def _check_plain(said: Transcripts, recognised: Transcripts) -> None:
    formats = {said.format, recognised.format}
    if formats == {"plain"} and len(said.texts) != len(recognised.texts):
        raise DataError(
            f"{recognised.path}: has {len(recognised.texts)} lines, but {said.path} has {len(said.texts)}; "
            f"plain lines are paired by their number, so make them equal or use a format with ids"
        )
    if "plain" in formats and len(formats) == 2:
        plain, other = (said, recognised) if said.format == "plain" else (recognised, said)
        raise DataError(
            f"{plain.path}: seems to be plain lines without ids, which cannot be paired with {other.path} "
            f"({other.format}); use a format with ids for both, or name the --format"
        )


def _notes_on_sameness(said: Transcripts, recognised: Transcripts) -> list[str]:
    """Say if a file seems to be scored against itself, as a manifest without predictions would be."""
    if os.path.samefile(said.path, recognised.path) and said.texts == recognised.texts:
        return [f"all hypotheses equal their references, and both were read from {said.path}"]
    return []


def _has_alternatives(file: Transcripts) -> bool:
    return file.format in ("trn", "stm", "ctm") and any("{" in text for text in file.texts.values())


def _only(pairing: Pairing, ids: set[str]) -> Pairing:
    left = [id for id in pairing.references if id not in ids]
    if not left:
        return pairing
    return replace(
        pairing,
        references={id: text for id, text in pairing.references.items() if id in ids},
        hypotheses={id: text for id, text in pairing.hypotheses.items() if id in ids},
        notes=(*pairing.notes, f"left out since another system lacks them: {len(left)} {first_few(left)}"),
        fields={id: fields for id, fields in pairing.fields.items() if id in ids},
    )
