"""All that is said about one or more systems on the same references, for a table, JSON, CSV or a page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from asr.errors import ConfigError
from asr.scoring.breakdown import Grouping, group_by
from asr.scoring.confusions import (
    Difference,
    FrequentErrors,
    OutOfVocabulary,
    difference,
    frequent_errors,
    out_of_vocabulary,
    worst_utterances,
)
from asr.scoring.wer import Score, confidence_interval

if TYPE_CHECKING:
    from asr.scoring.pairing import Pairing
    from asr.scoring.statistics import Comparison

CSV_COLUMNS = (
    "system",
    "table",
    "group",
    "reference",
    "hypothesis",
    "utterances",
    "length",
    "hits",
    "substitutions",
    "deletions",
    "insertions",
    "error_rate",
)


class Report:
    """One or more scores of the same utterances, and what can be told from them.

    Parameters
    ----------
    scores : mapping of name to Score
        The systems, the baseline first; all of the same utterances and unit.
    reference : str
        What to call the references.
    by : sequence of str
        Fields to break the errors down by, as in `asr.scoring.group_by`.
    interval_by : str
        What every bootstrap draws: "utterance", or a field such as "speaker".
    vocabulary : collection of str, optional
        Words that the systems could know.
    pairings : mapping of name to Pairing, optional
        What the scores were read from, to say which utterances had no partner.

    Raises
    ------
    ConfigError
        If there is no score, the scores differ in their utterances, or a field is not known.

    Examples
    --------
    >>> from asr.scoring import score
    >>> report = Report({"mine": score(["the cat"], ["a cat"])})
    >>> report.errors("mine").substitutions.most_common(1)
    [(('the', 'a'), 1)]
    """

    def __init__(
        self,
        scores: Mapping[str, Score],
        *,
        reference: str = "reference",
        by: Sequence[str] = (),
        interval_by: str = "utterance",
        vocabulary: Collection[str] | None = None,
        pairings: Mapping[str, Pairing] | None = None,
    ) -> None:
        if not scores:
            raise ConfigError("no score to report; give at least one")
        self.scores = dict(scores)
        self.reference = reference
        self.interval_by = interval_by
        self.baseline_name, *_ = self.scores
        self.baseline = self.scores[self.baseline_name]
        for name, score in self.scores.items():
            if (score.ids, score.unit) != (self.baseline.ids, self.baseline.unit):
                raise ConfigError(
                    f"{name} and {self.baseline_name} are not scored on the same utterances and unit; score "
                    f"them on the same references"
                )
        # A field's groups are those of the first system's score.
        self.groupings: tuple[Grouping, ...] = tuple(
            group_by(self.baseline, field) for field in dict.fromkeys(by)
        )
        self._vocabulary = vocabulary
        self._pairings = pairings or {}
        self._cached_comparison = cache(self._compare)
        self._cached_errors = cache(lambda name: frequent_errors(self.scores[name]))
        self._cached_difference = cache(lambda a, b: difference(self.scores[a], self.scores[b]))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95% bootstrap interval of each system's error rate."""
        return {name: confidence_interval(s, by=self.interval_by) for name, s in self.scores.items()}

    @cached_property
    def out_of_vocabulary(self) -> dict[str, OutOfVocabulary] | None:
        """How each system recognised the words that are not in the vocabulary; None without one."""
        if self._vocabulary is None:
            return None
        return {name: out_of_vocabulary(score, self._vocabulary) for name, score in self.scores.items()}

    def errors(self, name: str) -> FrequentErrors:
        """Return how often each error occurs in a system."""
        return self._cached_errors(name)

    def comparison(self, a: str, b: str) -> Comparison:
        """Return the paired tests of two systems."""
        return self._cached_comparison(a, b)

    def difference(self, a: str, b: str) -> Difference:
        """Return the words that each of two systems gets right and the other does not."""
        return self._cached_difference(a, b)

    def remarks(self, name: str) -> list[str]:
        """Return what was not scored as it stands in a system's files, a sentence each."""
        return self._pairings[name].remarks if name in self._pairings else []

    def _compare(self, a: str, b: str) -> Comparison:
        from asr.scoring.statistics import compare

        return compare(self.scores[a], self.scores[b], by=self.interval_by, names=(a, b))

    def to_dict(self, *, top: int = 0, worst: int = 0, per_utterance: bool = False) -> dict[str, Any]:
        """Return the report for JSON.

        One system's report is its score's own dictionary, with ``breakdowns``, ``most_frequent``,
        ``worst``, ``out_of_vocabulary`` and ``utterances`` where these were asked for; of files also
        ``missing`` and ``extra``, the ids without a partner, and ``remarks``. Several systems are a list
        ``systems`` of those, each with its ``name``, and ``comparisons`` of the first with each other.

        Parameters
        ----------
        top : int
            Number of most frequent errors of each kind; 0 leaves them out.
        worst : int
            Number of worst utterances; 0 leaves them out.
        per_utterance : bool
            Whether to list every utterance.
        """
        systems = [self._system(name, top, worst, per_utterance) for name in self.scores]
        if len(systems) == 1:
            return systems[0]
        return {
            "systems": [{"name": name, **system} for name, system in zip(self.scores, systems, strict=True)],
            "comparisons": [
                self.comparison(self.baseline_name, name).to_dict()
                | self.difference(self.baseline_name, name).to_dict(top)
                for name in list(self.scores)[1:]
            ],
        }

    def _system(self, name: str, top: int, worst: int, per_utterance: bool) -> dict[str, Any]:
        score = self.scores[name]
        system = score.to_dict()
        if self.interval_by != "utterance":
            bounds = self.intervals[name]
            interval = [bound if bound == bound else None for bound in bounds]
            system |= {"wer_interval" if score.unit == "word" else "cer_interval": interval}
            system |= {"interval_by": self.interval_by}
        if name in self._pairings:
            pairing = self._pairings[name]
            system |= {"missing": list(pairing.missing), "extra": list(pairing.extra)}
            system["remarks"] = pairing.remarks
        if self.groupings:
            system["breakdowns"] = {
                grouping.field: [group.to_dict() for group in grouping.split(score)]
                for grouping in self.groupings
            }
        if top:
            errors = self.errors(name)
            system["most_frequent"] = {
                "substitutions": [
                    {"reference": said, "hypothesis": recognised, "count": count}
                    for (said, recognised), count in errors.substitutions.most_common(top)
                ],
                "deletions": [
                    {"reference": word, "count": count} for word, count in errors.deletions.most_common(top)
                ],
                "insertions": [
                    {"hypothesis": word, "count": count} for word, count in errors.insertions.most_common(top)
                ],
            }
        if self.out_of_vocabulary is not None:
            system["out_of_vocabulary"] = self.out_of_vocabulary[name].to_dict(top)
        if worst:
            system["worst"] = [
                {**_utterance(score, i), "reference": score.references[i], "hypothesis": score.hypotheses[i]}
                for i in worst_utterances(score, worst)
            ]
        if per_utterance:
            system["utterances"] = [_utterance(score, i) for i in range(len(score.ids))]
        return system

    def csv_rows(self) -> Iterator[dict[str, Any]]:
        """Yield one table of everything, a row a dictionary with keys of `CSV_COLUMNS`.

        The column ``table`` tells what a row is about: "all", the field of a breakdown, "substitution",
        "deletion", "insertion", "out_of_vocabulary", "utterance", or "missing" and "extra" for ids without a
        partner. Cells without a meaning are left out.
        """
        for name, score in self.scores.items():
            start = {"system": name, "table": "all"}
            yield start | {"utterances": score.num_sentences} | _counts(score.counts.sum(axis=0).tolist())
            for grouping in self.groupings:
                for group in grouping.split(score):
                    counts = _counts([group.hits, group.substitutions, group.deletions, group.insertions])
                    row = {"table": grouping.field, "group": group.name, "utterances": group.num_sentences}
                    yield start | row | counts
            errors = self.errors(name)
            for (said, recognised), count in errors.substitutions.most_common():
                row = {"table": "substitution", "reference": said, "hypothesis": recognised}
                yield start | row | {"substitutions": count}
            for word, count in errors.deletions.most_common():
                yield start | {"table": "deletion", "reference": word, "deletions": count}
            for word, count in errors.insertions.most_common():
                yield start | {"table": "insertion", "hypothesis": word, "insertions": count}
            if self.out_of_vocabulary is not None:
                unseen = self.out_of_vocabulary[name]
                for word, count in unseen.words.most_common():
                    row = {"table": "out_of_vocabulary", "reference": word}
                    yield start | row | {"length": count, "hits": unseen.hits[word]}
            for id, counts_, said, recognised in zip(
                score.ids, score.counts.tolist(), score.references, score.hypotheses, strict=True
            ):
                row = {"table": "utterance", "group": id, "reference": said, "hypothesis": recognised}
                yield start | row | {"utterances": 1} | _counts(counts_)
            if name in self._pairings:
                for table in ("missing", "extra"):
                    for id in getattr(self._pairings[name], table):
                        yield start | {"table": table, "group": id}


def _utterance(score: Score, index: int) -> dict[str, Any]:
    hits, substitutions, deletions, insertions = score.counts[index].tolist()
    return {
        "id": score.ids[index],
        "hits": hits,
        "substitutions": substitutions,
        "deletions": deletions,
        "insertions": insertions,
    }


def _counts(counts: Sequence[int]) -> dict[str, Any]:
    hits, substitutions, deletions, insertions = counts
    length, errors = hits + substitutions + deletions, substitutions + deletions + insertions
    return {
        "length": length,
        "hits": hits,
        "substitutions": substitutions,
        "deletions": deletions,
        "insertions": insertions,
        "error_rate": f"{errors / length:.6f}" if length else "inf" if errors else "0.000000",
    }
