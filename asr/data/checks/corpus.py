"""What shows against the rest of the corpus: rates, letters a second, characters, sizes of features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from asr.data.checks.examine import Examined
from asr.data.checks.problems import Problem
from asr.data.checks.splits import Split
from asr.data.checks.texts import count_letters, shortened
from asr.data.checks.utterances import check_duration, check_rate, problem_of

# Nobody says 35 letters a second (fast English has 20; the shortest "seven" of FSDD 27), and nobody drags
# a sentence to a letter in 5 s.
_FASTEST, _SLOWEST = 35.0, 0.2
_SLOW_SECONDS = 5.0
# Robust standard deviations of the logarithm. FSDD's slowest digit, one second of which is speech, is at 5.
_OUTLYING = 6.0
_LEAST_SPREAD = 0.3
_ENOUGH_RATES = 30
# A corpus of fewer utterances may well have a letter in one alone.
_ENOUGH_TEXTS = 100
_SPEECH_RATE = 16000  # Hz


def check_inputs(splits: Sequence[Split]) -> Iterator[Problem]:
    """Yield the fewer ones where some utterances of a split are audio and others feature files."""
    for split in splits:
        of_features = np.array([u.features_filepath is not None for u in split.utterances], dtype=bool)
        if not of_features.any() or of_features.all():
            continue
        fewer = of_features if of_features.sum() * 2 <= len(of_features) else ~of_features
        for i in np.flatnonzero(fewer).tolist():
            kind, others = ("feature file", "audio") if of_features[i] else ("audio file", "features")
            message = (
                f"a {kind}, but most utterances of {split.name} are {others}; use one kind in a manifest"
            )
            yield split.locate(problem_of(split.utterances[i], "mixed_inputs", message), i)


def letter_rates(split: Split) -> np.ndarray:
    """Return the letters a second of each utterance, float64 (utterances,)."""
    return np.array([count_letters(u.text or "") / u.duration for u in split.utterances])


def check_letter_rates(splits: Sequence[Split]) -> Iterator[Problem]:
    """Yield utterances with far more or fewer letters a second than speech has, or than the others have."""
    rates = [letter_rates(split) for split in splits]
    logs = np.log(np.concatenate([rate[rate > 0] for rate in rates] or [np.ones(0)]))
    middle, spread = 0.0, np.inf
    if len(logs) >= _ENOUGH_RATES:
        middle = float(np.median(logs))
        # 1.4826 makes the median absolute deviation a normal distribution's standard deviation.
        spread = max(_LEAST_SPREAD, 1.4826 * float(np.median(np.abs(logs - middle))))
    for split, of_split in zip(splits, rates, strict=True):
        for i in np.flatnonzero(of_split > 0):
            rate, utterance = float(of_split[i]), split.utterances[i]
            outlying = (np.log(rate) - middle) / spread
            is_slow = rate < _SLOWEST and utterance.duration > _SLOW_SECONDS
            if rate <= _FASTEST and not is_slow and abs(outlying) <= _OUTLYING:
                continue
            compared = f" (median {np.exp(middle):.3g})" if np.isfinite(spread) else ""
            message = (
                f"{rate:.3g} letters a second{compared}: {shortened(utterance.text or '')} in "
                f"{utterance.duration:.2f} s; listen whether text and audio belong together"
            )
            yield split.locate(problem_of(utterance, "text_rate", message), int(i))


def check_characters(
    splits: Sequence[Split], normalizer: Callable[[str], str], *, with_unseen: bool
) -> Iterator[Problem]:
    """Yield characters that one utterance alone has, and with `with_unseen` those that training lacks."""
    characters = [[set(normalizer(u.text or "")) for u in split.utterances] for split in splits]
    counts = [Counter(c for found in of_split for c in found) for of_split in characters]
    total = sum(counts, Counter())
    is_enough = sum(map(len, characters)) >= _ENOUGH_TEXTS
    training: set[str] = set()
    for split, count in zip(splits, counts, strict=True):
        if split.rank == 0:
            training |= count.keys()
    for split, of_split in zip(splits, characters, strict=True):
        for i, found in enumerate(of_split):
            text = shortened(split.utterances[i].text or "")
            rare = sorted(c for c in found if total[c] == 1)
            if is_enough and rare:
                message = f"no other utterance has {_listed(rare)}: {text}; correct the text if it is a slip"
                yield split.locate(problem_of(split.utterances[i], "rare_character", message), i)
            unseen = sorted(found - training)
            if with_unseen and training and split.rank > 0 and unseen:
                message = (
                    f"the training split has no {_listed(unseen)}: {text}; normalise the text, or train on "
                    f"text that has it"
                )
                yield split.locate(problem_of(split.utterances[i], "unseen_character", message), i)


def check_rates(
    splits: Sequence[Split], examined: Sequence[Sequence[Examined]], sample_rate: int | None
) -> Iterator[Problem]:
    """Compare each file's sample rate with the model's, or without one with that of most files."""
    recordings = [e.recording for of_split in examined for e in of_split if e.recording is not None]
    rates = Counter(recording.sample_rate for recording in recordings)
    if not rates:
        return
    usual = rates.most_common(1)[0][0]
    wanted, whose = (sample_rate, "the model's") if sample_rate else (usual, "the usual")
    for split, of_split in zip(splits, examined, strict=True):
        for i, result in enumerate(of_split):
            if result.recording is None:
                continue
            rate = result.recording.sample_rate
            # Without a model a mixture of rates is harmless as long as all have the band of speech.
            if sample_rate or rate < min(usual, _SPEECH_RATE):
                for problem in check_rate(split.utterances[i], rate, wanted, whose):
                    yield split.locate(problem, i)


def usual_frame_shift(splits: Sequence[Split], examined: Sequence[Sequence[Examined]]) -> float:
    """Return the seconds a frame that most feature files have by their manifests, 0 if there are none."""
    shifts = [
        utterance.duration / result.shape[0]
        for split, of_split in zip(splits, examined, strict=True)
        for utterance, result in zip(split.utterances, of_split, strict=True)
        if result.shape
    ]
    return float(np.median(shifts)) if shifts else 0.0


def check_shapes(
    splits: Sequence[Split],
    examined: Sequence[Sequence[Examined]],
    num_features: int | None,
    frame_shift: float,
) -> Iterator[Problem]:
    """Compare each feature file's coefficients with the model's or the usual ones, and its length.

    Parameters
    ----------
    frame_shift : float
        Seconds a frame.
    """
    sizes = Counter(result.shape[1] for of_split in examined for result in of_split if result.shape)
    if not sizes:
        return
    wanted, whose = (
        (num_features, "the model takes") if num_features else (sizes.most_common(1)[0][0], "most files have")
    )
    for split, of_split in zip(splits, examined, strict=True):
        for i, (utterance, result) in enumerate(zip(split.utterances, of_split, strict=True)):
            if not result.shape:
                continue
            num_frames, size = result.shape
            if size != wanted:
                message = f"{size} coefficients a frame, {whose} {wanted}; extract them as the others were"
                yield split.locate(problem_of(utterance, "num_features", message), i)
            # Windows at the ends are kept or left out.
            if abs(num_frames * frame_shift - utterance.duration) > 3 * frame_shift:
                for problem in check_duration(utterance, num_frames * frame_shift):
                    yield split.locate(problem, i)


def _listed(characters: Sequence[str]) -> str:
    return ", ".join(map(repr, characters))
