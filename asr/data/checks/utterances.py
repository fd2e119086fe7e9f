"""What the manifest and audio headers tell of an utterance: quick enough to run before every training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from asr import audio
from asr.data.checks.problems import Problem, make_problem
from asr.data.checks.recordings import tolerance
from asr.errors import AudioError, DataError
from asr.types import Utterance

if TYPE_CHECKING:
    from asr.text import Tokenizer

Depth = Literal["nothing", "headers"]


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
    read: Depth = "headers",
    sample_rate: int | None = None,
) -> list[Problem]:
    """Check utterances one by one, without reading samples; `asr.data.checks.run` does that.

    Parameters
    ----------
    utterances : iterable of Utterance
    normalizer : callable, optional
        From a transcript to the text that is trained on.
    tokenizer : Tokenizer, optional
        Needed to find text that cannot be spelled or does not fit its frames.
    output_length : callable, optional
        From seconds of audio to the model's output frames T'; needed to find text that does not fit.
    read : {"nothing", "headers"}
        Whether to open audio files.
    sample_rate : int, optional
        Hz that the model wants.

    Returns
    -------
    list of Problem
        In the order of the utterances.
    """
    found: list[Problem] = []
    for utterance in utterances:
        if utterance.features_filepath is None and read == "headers":
            found += _check_header(utterance, sample_rate)
        found += check_spelling(utterance, normalizer, tokenizer, output_length)
    return found


def _check_header(utterance: Utterance, sample_rate: int | None) -> Iterator[Problem]:
    assert utterance.audio_filepath is not None
    try:
        info = audio.info(utterance.audio_filepath)
    except AudioError as error:
        yield problem_of(utterance, "unreadable", str(error))
        return
    yield from check_duration(utterance, info.duration)
    if sample_rate is not None:
        yield from check_rate(utterance, info.sample_rate, sample_rate, "the model's")
    if info.channels > 1:
        yield problem_of(utterance, "channels", f"{info.channels} channels will be mixed into one")


def check_duration(utterance: Utterance, seconds: float) -> Iterator[Problem]:
    """Compare an utterance's end with the length of its file."""
    end = utterance.offset + utterance.duration
    slack = tolerance(utterance)
    if end > seconds + slack:
        yield problem_of(
            utterance,
            "duration",
            f"the file ends at {seconds:.2f} s, the utterance at {end:.2f} s; correct the manifest's "
            f"offset and duration",
        )
    # From an offset on, an utterance is a part of its file by intent.
    elif utterance.offset == 0 and end < seconds - slack:
        yield problem_of(
            utterance,
            "longer_file",
            f"only the first {end:.2f} s of the file's {seconds:.2f} s are used; correct the "
            f"manifest's duration unless the text is of that part",
        )


def check_rate(utterance: Utterance, rate: int, wanted: int, whose: str) -> Iterator[Problem]:
    """Compare a file's sample rate with the one `wanted`, Hz."""
    if rate < wanted:
        yield problem_of(
            utterance,
            "sample_rate",
            f"{rate} Hz, {whose} rate is {wanted} Hz: resampled, there is nothing above {rate // 2} Hz; "
            f"train and test on one bandwidth",
        )
    elif rate > wanted:
        yield problem_of(
            utterance, "resampled", f"{rate} Hz will be resampled to {whose} {wanted} Hz, which takes time"
        )


def check_spelling(
    utterance: Utterance,
    normalizer: Callable[[str], str] | None,
    tokenizer: Tokenizer | None,
    output_length: Callable[[float], int] | None,
) -> Iterator[Problem]:
    """Check that there is a text, that the tokens can spell it and that CTC can fit it into the frames."""
    text = utterance.text or ""
    if normalizer is not None:
        text = normalizer(text)
    if not any(character.isalnum() for character in text):
        detail = "the manifest has no text" if utterance.text is None else f"{utterance.text!r} has no words"
        yield problem_of(utterance, "no_text", f"{detail}; add the transcript or drop the utterance")
    if tokenizer is None:
        return
    try:
        labels = tokenizer.encode(text)
    except DataError as error:
        yield problem_of(utterance, "alphabet", str(error))
        return
    if output_length is None:
        return
    needed = max(1, ctc_min_frames(labels))
    frames = output_length(utterance.duration)
    if frames < needed:
        yield problem_of(
            utterance,
            "too_long",
            f"{utterance.duration:.2f} s give T' = {frames} frames, but CTC needs {needed} for {len(labels)} "
            f"tokens with {needed - len(labels) if labels else 0} repeats; use a smaller stride or larger "
            f"tokens, or drop the utterance",
        )


def problem_of(utterance: Utterance, kind: str, message: str) -> Problem:
    """Return a problem of an utterance."""
    path = utterance.features_filepath or utterance.audio_filepath or ""
    return make_problem(kind, message, id=utterance.id, path=path)
