"""Log-probabilities of recordings of any length, from overlapping windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from asr import audio
from asr.data.collate import pad
from asr.data.dataset import read_inputs
from asr.recognizer import Recognizer
from asr.types import Utterance

# Seconds that the model hears on either side of what is kept of a window.
CONTEXT = 1.5
# The shortest and the longest window, seconds; between them, the longest utterance of the training.
MIN_WINDOW, MAX_WINDOW = 6.0, 30.0
# Seconds of windows recognised together, and of audio held at a time.
_BATCH = 120.0


def long_log_probs(
    recognizer: Recognizer, utterance: Utterance, progress: Callable[[float], None] = lambda seconds: None
) -> Tensor:
    """Compute the log-probabilities of an utterance of any length.

    A recording that is longer than the model's training utterances is cut into windows of about their
    length that overlap by twice `CONTEXT`. Each is recognised on its own, so a bidirectional model carries
    no state from one to the next, and the frames in its middle are kept.

    Parameters
    ----------
    progress : callable
        Called with the seconds of audio done since the last call.

    Returns
    -------
    Tensor, float32, (T, V)
        On the CPU.

    Raises
    ------
    AudioError, DataError
        If the utterance cannot be read.
    """
    window = min(max(recognizer.max_train_seconds or 0.0, MIN_WINDOW), MAX_WINDOW)
    if utterance.duration <= window:
        inputs = read_inputs(utterance, recognizer.sample_rate, recognizer.num_features)
        frames = _recognize(recognizer, [inputs])[0]
        progress(utterance.duration)
        return frames
    shift = recognizer.frame_shift
    context = math.ceil(CONTEXT / shift)
    keep = math.floor(window / shift) - 2 * context
    num_frames = math.ceil(utterance.duration / shift)
    # What would be left for the last window may be too short to recognise: the one before takes it.
    starts = list(range(0, max(num_frames - keep, 1), keep))
    parts = []
    for first in range(0, len(starts), max(1, math.floor(_BATCH / window))):
        batch = starts[first : first + max(1, math.floor(_BATCH / window))]
        is_last = batch[-1] == starts[-1]
        spans = [(max(start - context, 0), start + keep + context) for start in batch]
        if is_last:
            spans[-1] = (spans[-1][0], num_frames)
        windows = list(_cut(recognizer, utterance, spans, to_end=is_last))
        for start, (begin, _), frames in zip(batch, spans, _recognize(recognizer, windows), strict=True):
            end = None if start == starts[-1] else start + keep - begin
            parts.append(frames[start - begin : end])
        progress(utterance.duration - batch[0] * shift if is_last else len(batch) * keep * shift)
    return torch.cat(parts)


def _cut(
    recognizer: Recognizer, utterance: Utterance, spans: list[tuple[int, int]], to_end: bool
) -> Iterator[Tensor]:
    """Yield the stretches of the input that belong to spans of output frames."""
    if utterance.features_filepath is not None:
        inputs = read_inputs(utterance, recognizer.sample_rate, recognizer.num_features)
        extractor = recognizer.features.extractor
        unit = round(recognizer.frame_shift * recognizer.sample_rate / extractor.hop_length)
        first = 0
    else:
        assert utterance.audio_filepath is not None
        unit = round(recognizer.frame_shift * recognizer.sample_rate)
        first = spans[0][0]
        offset = first * unit / recognizer.sample_rate
        end = utterance.duration if to_end else spans[-1][1] * unit / recognizer.sample_rate
        inputs = torch.from_numpy(
            audio.load(
                utterance.audio_filepath,
                sample_rate=recognizer.sample_rate,
                offset=utterance.offset + offset,
                duration=end - offset,
            ).samples
        )
    for number, (begin, end) in enumerate(spans):
        stop = None if to_end and number + 1 == len(spans) else (end - first) * unit
        yield inputs[(begin - first) * unit : stop]


@torch.inference_mode()
def _recognize(recognizer: Recognizer, inputs: list[Tensor]) -> list[Tensor]:
    log_probs, lengths = recognizer.log_probs(*pad(inputs))
    return [frames[:length].cpu() for frames, length in zip(log_probs, lengths.tolist(), strict=True)]
