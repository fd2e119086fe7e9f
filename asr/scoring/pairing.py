"""Pair reference and hypothesis texts by utterance id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from asr.errors import DataError

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
    """

    references: dict[str, str]
    hypotheses: dict[str, str]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


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
        problems.append(f"{len(unpaired)} of {len(references)} utterances not found {_first(unpaired)}")
    if extra:
        problems.append(f"{len(extra)} of {len(hypotheses)} not in {names[0]} {_first(extra)}")
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


def _first(ids: tuple[str, ...]) -> str:
    return f"(first {', '.join(map(repr, ids[:3]))})"
