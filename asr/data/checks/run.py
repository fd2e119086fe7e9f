"""The whole check: every line, every sample, and every split against the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from asr.data.checks.corpus import (
    check_characters,
    check_inputs,
    check_letter_rates,
    check_rates,
    check_shapes,
    letter_rates,
    usual_frame_shift,
)
from asr.data.checks.examine import Examined
from asr.data.checks.pool import examine_all
from asr.data.checks.problems import Problem
from asr.data.checks.sets import check_copies, check_overlaps, check_shared
from asr.data.checks.splits import Split
from asr.data.checks.utterances import check_spelling
from asr.text import Normalizer

if TYPE_CHECKING:
    from asr.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Needs:
    """What the model that is to be trained or used needs of its data.

    Attributes
    ----------
    normalizer : callable
        From a transcript to the text that is trained on.
    tokenizer : Tokenizer or None
        Without one it is not known what can be spelled and what fits its frames.
    output_length : callable or None
        From seconds of audio to the model's output frames T'.
    sample_rate, num_features : int or None
        Hz; coefficients a frame.
    frame_shift : float or None
        Seconds a frame of features.
    """

    normalizer: Callable[[str], str] = field(default_factory=Normalizer)
    tokenizer: Tokenizer | None = None
    output_length: Callable[[float], int] | None = None
    sample_rate: int | None = None
    num_features: int | None = None
    frame_shift: float | None = None


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What was found in a split.

    Attributes
    ----------
    split : Split
    problems : list of Problem
        Of the split's lines, in their order, those of the whole split last.
    measures : mapping of str to ndarray
        Float64, one value an utterance, or fewer where some could not be measured: ``seconds``,
        ``letters_per_second``, ``peak_db`` (decibels under full scale), ``speech_share``.
    seconds_of_file : mapping of int to float
        By line of the manifest, how long the whole file is, where it could be read.
    """

    split: Split
    problems: list[Problem]
    measures: dict[str, np.ndarray]
    seconds_of_file: dict[int, float]

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return sum(u.duration for u in self.split.utterances) / 3600

    @property
    def num_speakers(self) -> int:
        """Speakers that are named."""
        return len({u.speaker for u in self.split.utterances if u.speaker is not None})


def check_splits(
    splits: Sequence[Split],
    needs: Needs | None = None,
    *,
    read: bool = True,
    jobs: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[SplitReport]:
    """Check the splits of a corpus by themselves and against each other.

    Parameters
    ----------
    splits : sequence of Split
        From `asr.data.checks.splits.read_splits`.
    needs : Needs, optional
        Of the model.
    read : bool
        Whether to read audio and features.
    jobs : int, optional
        Processes, by default one for each core that may be used where that pays.
    progress : callable
        Called with the utterances done and those in all.

    Raises
    ------
    DataError
        If a process dies. What is wrong with the data is returned, not raised.
    """
    needs = needs or Needs()
    utterances = [utterance for split in splits for utterance in split.utterances]
    results = iter(list(examine_all(utterances, read, needs.sample_rate, jobs, progress)))
    examined = [list(islice(results, len(split.utterances))) for split in splits]
    found: dict[str, list[Problem]] = {split.path: list(split.problems) for split in splits}
    for split, of_split in zip(splits, examined, strict=True):
        for i, (utterance, result) in enumerate(zip(split.utterances, of_split, strict=True)):
            spelling = check_spelling(utterance, needs.normalizer, needs.tokenizer, needs.output_length)
            found[split.path] += [split.locate(p, i) for p in (*result.problems, *spelling)]
    shift = needs.frame_shift or usual_frame_shift(splits, examined)
    digests = [[result.digest for result in of_split] for of_split in examined]
    for problem in (
        *check_inputs(splits),
        *check_rates(splits, examined, needs.sample_rate),
        *check_shapes(splits, examined, needs.num_features, shift),
        *check_copies(splits, digests, needs.normalizer),
        *check_overlaps(splits),
        *check_letter_rates(splits),
        *check_characters(splits, needs.normalizer, with_unseen=needs.tokenizer is None),
        *check_shared(splits, needs.normalizer),
    ):
        found[problem.manifest].append(problem)
    return [
        SplitReport(
            split,
            sorted(found[split.path], key=lambda p: p.line or 1 << 62),
            _measures(split, of_split),
            dict(_seconds(split, of_split, shift)),
        )
        for split, of_split in zip(splits, examined, strict=True)
    ]


def _measures(split: Split, examined: Sequence[Examined]) -> dict[str, np.ndarray]:
    recordings = [e.recording for e in examined if e.recording is not None and e.recording.peak > 0]
    rates = letter_rates(split)
    return {
        "seconds": np.array([u.duration for u in split.utterances]),
        "letters_per_second": rates[rates > 0],
        "peak_db": 20 * np.log10([r.peak for r in recordings]),
        "speech_share": np.array([r.speech_seconds * r.sample_rate / r.num_samples for r in recordings]),
    }


def _seconds(split: Split, examined: Sequence[Examined], shift: float) -> Iterator[tuple[int, float]]:
    for line, result in zip(split.lines, examined, strict=True):
        if result.recording is not None:
            yield line, result.recording.seconds
        elif result.shape:
            yield line, result.shape[0] * shift
