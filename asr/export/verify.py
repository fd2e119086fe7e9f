"""How an exported model compares with the one that it was made from: difference, WER, speed, size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from asr.data.collate import pad
from asr.data.dataset import read_in_batches
from asr.decoding.greedy import GreedyDecoder
from asr.errors import AsrError, DataError
from asr.recognizer import Recognizer
from asr.scoring.wer import Score, score
from asr.types import Utterance

Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A padded batch and its lengths to log-probabilities (B, T', V) and theirs, as `Recognizer.log_probs`."""

BATCH_SECONDS = 60.0


@dataclass
class Comparison:
    """What one way to run a model gave.

    Attributes
    ----------
    seconds : float
        That it took.
    audio_seconds : float
    difference : float
        Largest difference of a log-probability from the model's own, over all frames and tokens.
    texts : list of str
        Decoded greedily.
    score : Score or None
        None without references.
    """

    seconds: float = 0.0
    audio_seconds: float = 0.0
    difference: float = 0.0
    texts: list[str] = field(default_factory=list)
    score: Score | None = None


def compare(
    recognizer: Recognizer, others: Mapping[str, Forward], utterances: Sequence[Utterance] | None
) -> dict[str, Comparison]:
    """Run a model in several ways over the same audio, batch by batch in turn.

    Parameters
    ----------
    recognizer : Recognizer
        The measure of all; it comes first in the result, as "PyTorch".
    others : mapping of str to Forward
    utterances : sequence of Utterance, optional
        With their texts. Without them, a synthetic signal of eight parts.

    Raises
    ------
    DataError
        An utterance cannot be read or has no text.
    """
    ways: dict[str, Forward] = {"PyTorch": recognizer.log_probs, **others}
    results = {name: Comparison() for name in ways}
    references: list[str] = []
    decode = GreedyDecoder()
    batches = _synthetic(recognizer) if utterances is None else _read(recognizer, utterances)
    for number, (inputs, texts) in enumerate(batches):
        batch, lengths = pad(inputs)
        rate = recognizer.sample_rate if batch.ndim == 2 else 1 / _feature_shift(recognizer)
        references += texts
        own = torch.empty(0)
        with torch.inference_mode():
            for name, forward in ways.items():
                if not number:
                    forward(batch, lengths)  # warms up
                start = time.perf_counter()
                log_probs, num_frames = forward(batch, lengths)
                result = results[name]
                result.seconds += time.perf_counter() - start
                result.audio_seconds += float(lengths.sum()) / rate
                if name == "PyTorch":
                    own = log_probs
                difference = (log_probs[:, : own.shape[1]] - own).abs()
                for row, count in zip(difference, num_frames.tolist(), strict=True):
                    result.difference = max(result.difference, float(row[:count].max()))
                hypotheses = decode(
                    log_probs, num_frames, recognizer.tokenizer.pieces, recognizer.frame_shift
                )
                result.texts += [hypothesis.text for hypothesis in hypotheses]
    if utterances is not None:
        for result in results.values():
            result.score = score(references, result.texts, alternatives=False)
    return results


def _feature_shift(recognizer: Recognizer) -> float:
    return recognizer.features.extractor.hop_length / recognizer.sample_rate


def _read(
    recognizer: Recognizer, utterances: Sequence[Utterance]
) -> Iterator[tuple[list[Tensor], list[str]]]:
    def fail(utterance: Utterance, error: AsrError) -> None:
        raise DataError(f"{utterance.id}: {error}")

    for utterance in utterances:
        if utterance.text is None:
            raise DataError(f"{utterance.id}: has no text to score against; give a manifest with texts")
    groups = read_in_batches(
        utterances,
        recognizer.normalizer,
        recognizer.sample_rate,
        recognizer.num_features,
        BATCH_SECONDS,
        fail,
    )
    for group in groups:
        _, _, inputs, references = (list(column) for column in zip(*group, strict=True))
        yield inputs, references


def _synthetic(recognizer: Recognizer) -> Iterator[tuple[list[Tensor], list[str]]]:
    """Yield sounds of 0.5 to 4 s with the spectrum of speech: a gliding voice, pauses, noise."""
    rate = recognizer.sample_rate
    random = np.random.default_rng(0)
    sounds = []
    for seconds in np.linspace(0.5, 4, 8):
        t = np.arange(round(seconds * rate)) / rate
        phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * t)) / rate
        voice = sum(np.sin(k * phase) / k for k in range(1, 20))
        syllables = np.clip(np.sin(2 * np.pi * 3 * t), 0, 1)
        sound = 0.1 * syllables * voice + 0.01 * random.standard_normal(len(t))
        sounds.append(torch.from_numpy(sound.astype(np.float32)))
    yield sounds, [""] * len(sounds)
