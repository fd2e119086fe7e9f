"""Utterances of a manifest as tensors, and batches of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from asr import audio
from asr.augment import utterance_rng
from asr.data.collate import collate
from asr.data.feature_files import read_features
from asr.data.manifest import durations
from asr.data.sampler import BatchSampler, Key
from asr.errors import AsrError, DataError
from asr.types import Batch, Utterance

Transform = Callable[[Tensor, np.random.Generator], Tensor]


@dataclass(frozen=True, slots=True)
class Example:
    """One utterance as tensors.

    Attributes
    ----------
    utterance : Utterance
    epoch : int
        For which it was augmented.
    inputs : Tensor, float32
        Waveform (N,) or precomputed frames (T, F).
    tokens : Tensor, int64, (L,)
    text : str
        Normalised transcript.
    """

    utterance: Utterance
    epoch: int
    inputs: Tensor
    tokens: Tensor
    text: str


class SpeechDataset(Dataset["Example | AsrError"]):
    """Reads utterances; an item is asked for by ``(epoch, index)`` so that it depends on nothing else.

    Parameters
    ----------
    utterances : sequence of Utterance
    normalizer, tokenizer
        From `asr.text`.
    sample_rate : int
        Hertz; audio is resampled to it.
    num_features : int
        Coefficients a frame that precomputed features must have.
    transform : callable, optional
        Augmentation of a waveform or frames, ``(inputs, generator) -> inputs``.
    fits : callable, optional
        ``(inputs, tokens) -> bool``: whether inputs have frames enough for their tokens. Where
        the transform has made them too short, they are left as they were.
    factor : callable, optional
        From a generator to the speed that `transform` will draw from its like.
    seed : int
        Of the augmentation.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        normalizer: Callable[[str], str],
        tokenizer: Any,
        sample_rate: int,
        num_features: int,
        transform: Transform | None = None,
        fits: Callable[[Tensor, Sequence[int]], bool] | None = None,
        factor: Callable[[np.random.Generator], float] | None = None,
        seed: int = 0,
    ) -> None:
        require_one_kind(utterances)
        self.fits = fits
        self.utterances = utterances
        self.sample_rate = sample_rate
        self.num_features = num_features
        self.transform = transform
        self.factor = factor
        self.seed = seed
        self.normalizer, self.tokenizer = normalizer, tokenizer

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: Key) -> Example | AsrError:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Example | AsrError]:
        """Read the utterances of a batch; torch's loader asks for them together."""
        with one_thread():
            return [self._try(*key) for key in keys]

    def batch(self, keys: Sequence[Key]) -> Batch:
        """Read the utterances of a batch.

        Raises
        ------
        AudioError, DataError
            If one cannot be read.
        """
        found = collate(self.__getitems__(keys))
        if isinstance(found, AsrError):
            raise found
        return found

    def stretch(self, epoch: int) -> np.ndarray:
        """Return how many times its duration each utterance lasts in an epoch, float64 (utterances,)."""
        if self.factor is None:
            return np.ones(len(self.utterances))
        factors = [self.factor(utterance_rng(self.seed, epoch, u.id)) for u in self.utterances]
        return 1 / np.array(factors)

    def _try(self, epoch: int, index: int) -> Example | AsrError:
        try:
            return self._read(epoch, index)
        except AsrError as error:
            # Returned, not raised: a worker process would hand it on with its traceback for a message.
            return type(error)(f"{self.utterances[index].id}: {error}")

    def _read(self, epoch: int, index: int) -> Example:
        utterance = self.utterances[index]
        text = self.normalizer(utterance.text or "")
        tokens = self.tokenizer.encode(text)
        inputs = read_inputs(utterance, self.sample_rate, self.num_features)
        if self.transform is not None:
            changed = self.transform(inputs, utterance_rng(self.seed, epoch, utterance.id))
            shorter = changed.shape[0] < inputs.shape[0]
            if not shorter or self.fits is None or self.fits(changed, tokens):
                inputs = changed
        return Example(utterance, epoch, inputs, torch.tensor(tokens), text)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, as worker processes do: sums on more come out different in the last digit."""
    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)


def require_one_kind(utterances: Sequence[Utterance]) -> None:
    """Refuse a set in which some utterances are audio and others precomputed features.

    Raises
    ------
    DataError
    """
    number, first = 0, ""
    for utterance in utterances:
        if utterance.features_filepath is not None:
            number, first = number + 1, first or utterance.id
    if 0 < number < len(utterances):
        raise DataError(
            f"{number} of {len(utterances)} utterances have features_filepath, such as {first}, the others "
            "audio only; use one kind in a manifest"
        )


def read_inputs(utterance: Utterance, sample_rate: int, num_features: int) -> Tensor:
    """Read an utterance: precomputed frames (T, F) if it names a feature file, else its waveform (N,).

    Raises
    ------
    AudioError, DataError
        Also if the frames have other than `num_features` coefficients.
    """
    if utterance.features_filepath is not None:
        frames = torch.from_numpy(read_features(utterance.features_filepath))
        if frames.shape[1] != num_features:
            raise DataError(
                f"{utterance.features_filepath}: {frames.shape[1]} coefficients a frame, the front end takes "
                f"{num_features}; choose the features that the file was made with"
            )
        return frames
    assert utterance.audio_filepath is not None
    return torch.from_numpy(
        audio.load(
            utterance.audio_filepath,
            sample_rate=sample_rate,
            offset=utterance.offset,
            duration=utterance.duration,
        ).samples
    )


def read_in_batches(
    utterances: Sequence[Utterance],
    normalizer: Callable[[str], str],
    sample_rate: int,
    num_features: int,
    batch_seconds: float,
    on_error: Callable[[Utterance, AsrError], None],
) -> Iterator[list[tuple[int, Utterance, Tensor, str]]]:
    """Yield groups of ``(index, utterance, inputs, text)`` of similar length, for decoding.

    An utterance that cannot be read goes to `on_error` and the others still come.
    """
    require_one_kind(utterances)
    for keys in BatchSampler(durations(utterances), batch_seconds=batch_seconds, shuffle=False):
        group = []
        for _, index in keys:
            utterance = utterances[index]
            try:
                inputs = read_inputs(utterance, sample_rate, num_features)
                group.append((index, utterance, inputs, normalizer(utterance.text or "")))
            except AsrError as error:
                on_error(utterance, error)
        if group:
            yield group
