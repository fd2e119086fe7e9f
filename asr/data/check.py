"""Find what makes data unfit to train or test on, before any time is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from asr import audio
from asr.data.feature_files import read_features
from asr.errors import AudioError, DataError
from asr.types import Utterance

if TYPE_CHECKING:
    from asr.text import Tokenizer

# A file may differ from its manifest by this much: durations are often rounded.
_TOLERANCE_SECONDS = 0.05
_TOLERANCE_RATIO = 0.01
# Peak below which audio is called silent, 60 dB under full scale.
_SILENT_PEAK = 1e-3

Severity = Literal["error", "warning"]
Depth = Literal["nothing", "headers", "samples"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one utterance.

    Attributes
    ----------
    id : str
        Of the utterance.
    path : str
        Its audio or feature file.
    kind : str
        Errors: ``unreadable`` (audio or features missing, empty, truncated, not finite ...), ``duration``
        (the file ends before the utterance does), ``alphabet`` (the tokenizer cannot spell the text),
        ``too_long`` (the text needs more frames than the audio gives).
        Warnings: ``duration`` (the file goes on after the utterance), ``sample_rate``, ``channels``,
        ``silent``, ``no_text``.
    message : str
        The value found and the remedy, one line.
    severity : {"error", "warning"}
    """

    id: str
    path: str
    kind: str
    message: str
    severity: Severity


def ctc_min_frames(labels: Sequence[int]) -> int:
    """Return the fewest frames on which CTC can emit `labels`.

    A frame for each label and one for the blank that must part two equal neighbours (Graves et al. 2006).
    """
    return len(labels) + sum(left == right for left, right in pairwise(labels))


def check_utterances(
    utterances: Iterable[Utterance],
    *,
    normalizer: Callable[[str], str] | None = None,
    tokenizer: Tokenizer | None = None,
    output_length: Callable[[float], int] | None = None,
    read: Depth = "samples",
    sample_rate: int | None = None,
    progress: Callable[[], object] | None = None,
) -> list[Problem]:
    """Check utterances one by one.

    Parameters
    ----------
    utterances : iterable of Utterance
    normalizer : callable, optional
        From a transcript to the text that is trained on.
    tokenizer : Tokenizer, optional
        Needed to find text that cannot be spelled or does not fit its frames.
    output_length : callable, optional
        From seconds of audio to the model's output frames T'; needed to find text that does not fit.
    read : {"nothing", "headers", "samples"}
        How far to look into the files: only at the manifest; at audio headers too, which is quick; or at
        every sample and frame.
    sample_rate : int, optional
        Hz that the model wants.
    progress : callable, optional
        Called after each utterance.

    Returns
    -------
    list of Problem
        In the order of the utterances.
    """
    found: list[Problem] = []
    for utterance in utterances:
        if utterance.features_filepath is None and read != "nothing":
            found += _check_audio(utterance, sample_rate, with_samples=read == "samples")
        elif utterance.features_filepath is not None and read == "samples":
            found += _check_features(utterance)
        found += _check_text(utterance, normalizer, tokenizer, output_length)
        if progress is not None:
            progress()
    return found


def summarize(problems: Iterable[Problem], name: str) -> list[str]:
    """Return a line for each kind of problem: how many utterances of the set `name`, and the first."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    return [
        f"{len(found)} {name} utterances ({kind}), the first {found[0].id}: {found[0].message}"
        for kind, found in kinds.items()
    ]


def _check_features(utterance: Utterance) -> Iterator[Problem]:
    assert utterance.features_filepath is not None
    try:
        read_features(utterance.features_filepath)
    except DataError as error:
        yield _problem(utterance, "error", "unreadable", str(error))


def _check_audio(utterance: Utterance, sample_rate: int | None, with_samples: bool) -> Iterator[Problem]:
    assert utterance.audio_filepath is not None
    try:
        info = audio.info(utterance.audio_filepath)
    except AudioError as error:
        yield _problem(utterance, "error", "unreadable", str(error))
        return

    end = utterance.offset + utterance.duration
    tolerance = max(_TOLERANCE_SECONDS, _TOLERANCE_RATIO * utterance.duration)
    if end > info.duration + tolerance:
        yield _problem(
            utterance,
            "error",
            "duration",
            f"the file ends at {info.duration:.2f} s, the utterance at {end:.2f} s; correct the manifest's "
            f"offset and duration",
        )
    # From an offset on, an utterance is a part of its file by intent.
    elif utterance.offset == 0 and end < info.duration - tolerance:
        yield _problem(
            utterance,
            "warning",
            "duration",
            f"only the first {end:.2f} s of the file's {info.duration:.2f} s are used; correct the "
            f"manifest's duration unless the text is of that part",
        )
    if sample_rate is not None and info.sample_rate != sample_rate:
        yield _problem(
            utterance,
            "warning",
            "sample_rate",
            f"{info.sample_rate} Hz will be resampled to the model's {sample_rate} Hz",
        )
    if info.channels > 1:
        yield _problem(utterance, "warning", "channels", f"{info.channels} channels will be mixed into one")

    if not with_samples or utterance.offset >= info.duration:  # the latter is reported above
        return
    try:
        samples = audio.load(
            utterance.audio_filepath,
            sample_rate=info.sample_rate,
            offset=utterance.offset,
            duration=utterance.duration,
        ).samples
    except AudioError as error:
        yield _problem(utterance, "error", "unreadable", str(error))
        return
    peak = float(np.abs(samples).max())
    if peak < _SILENT_PEAK:
        yield _problem(
            utterance,
            "warning",
            "silent",
            f"the loudest sample is {peak:.2g} of full scale; drop the utterance unless it is silence",
        )


def _check_text(
    utterance: Utterance,
    normalizer: Callable[[str], str] | None,
    tokenizer: Tokenizer | None,
    output_length: Callable[[float], int] | None,
) -> Iterator[Problem]:
    text = utterance.text or ""
    if normalizer is not None:
        text = normalizer(text)
    if not text.strip():
        detail = "the manifest has no text" if utterance.text is None else f"{utterance.text!r} has no words"
        yield _problem(utterance, "warning", "no_text", f"{detail}; add the transcript or drop the utterance")
    if tokenizer is None:
        return
    try:
        labels = tokenizer.encode(text)
    except DataError as error:
        yield _problem(utterance, "error", "alphabet", str(error))
        return
    if output_length is None:
        return
    needed = max(1, ctc_min_frames(labels))
    frames = output_length(utterance.duration)
    if frames < needed:
        yield _problem(
            utterance,
            "error",
            "too_long",
            f"{utterance.duration:.2f} s give T' = {frames} frames, but CTC needs {needed} for {len(labels)} "
            f"tokens with {needed - len(labels) if labels else 0} repeats; use a smaller stride or larger "
            f"tokens, or drop the utterance",
        )


def _problem(utterance: Utterance, severity: Severity, kind: str, message: str) -> Problem:
    path = utterance.features_filepath or utterance.audio_filepath or ""
    return Problem(utterance.id, path, kind, message.removeprefix(f"{path}: "), severity)
