"""All augmentations of a training, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from asr.augment.channel import BandLimit, Volume
from asr.augment.frames import Coloration, FrameNoise, TimeWarp, VocalTractPerturb
from asr.augment.masks import SpecAugment
from asr.augment.noise import AddNoise
from asr.augment.room import Reverberate
from asr.augment.speed import PitchPerturb, SpeedPerturb
from asr.augment.streams import stream, utterance_rng
from asr.build import build
from asr.errors import AsrError, ConfigError
from asr.features import Extractor

WAVEFORM_KINDS = {
    "pitch": PitchPerturb,
    "room": Reverberate,
    "noise": AddNoise,
    "band": BandLimit,
    "volume": Volume,
}
FRAME_KINDS = {
    "vocal_tract": VocalTractPerturb,
    "time_warp": TimeWarp,
    "coloration": Coloration,
    "frame_noise": FrameNoise,
}
KINDS: dict[str, type] = {"speed": SpeedPerturb, **WAVEFORM_KINDS, **FRAME_KINDS, "spec": SpecAugment}
"""What each key of the configuration's `augment` makes, in the order of application."""

PURPOSES = {
    "speed": 0,
    "spec": 1,
    "room": 2,
    "noise": 3,
    "band": 4,
    "volume": 5,
    "vocal_tract": 6,
    "time_warp": 7,
    "coloration": 8,
    "frame_noise": 9,
    "pitch": 10,
}
"""The random stream of each: none changes another's draws. While they stay, a training can be repeated."""


class Augmentation:
    """The augmentation of training utterances, in three places.

    `inputs` changes what is read: speed and pitch, then room, noise, band and volume, as the sound takes its
    way from the mouth into the file. `frames` changes what the extractor makes of it, before deltas and
    normalisation: vocal tract, time warp, coloration, noise on frames. `mask` hides parts of the finished
    features. Precomputed features meet speed, and all from `frames` on.

    Parameters
    ----------
    config : mapping
        From the keys of `KINDS` to what `asr.build` makes of them; None, no entry, or the
        probability 0 leaves one out.
    seed : int
    sample_rate : int
        Hz.
    of_features : bool
        Whether the utterances are precomputed features.

    Attributes
    ----------
    speed : SpeedPerturb or None

    Raises
    ------
    ConfigError
        A value cannot be used, or it takes waveforms and the utterances are features.
    DataError
        Files of noise or of rooms are missing, damaged or silent.
    """

    def __init__(
        self, config: Mapping[str, Any], *, seed: int, sample_rate: int, of_features: bool = False
    ) -> None:
        parts = {key: build(config[key], KINDS[key]) for key in KINDS if config.get(key) is not None}
        parts = {key: part for key, part in parts.items() if part.probability > 0}
        useless = [key for key in parts if key in WAVEFORM_KINDS]
        if of_features and useless:
            raise ConfigError(
                f"augment.{useless[0]}: changes waveforms, but the training set is of precomputed features; "
                f"set {' '.join(f'augment.{key}.probability=0' for key in useless)} or take augment=features"
            )
        for key, part in parts.items():
            if hasattr(part, "open"):
                try:
                    part.open()
                except AsrError as error:
                    raise type(error)(f"augment.{key}.files: {error}") from error
        self.seed, self.sample_rate = seed, sample_rate
        self.speed: SpeedPerturb | None = parts.get("speed")
        self._spec: SpecAugment | None = parts.get("spec")
        self._waveform_parts = {key: parts[key] for key in WAVEFORM_KINDS if key in parts}
        self._frame_parts = {key: parts[key] for key in FRAME_KINDS if key in parts}

    def inputs(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment what was read.

        Parameters
        ----------
        x : Tensor, float32
            A waveform (N,) with samples in [-1, 1], or precomputed frames (T, F).
        rng : np.random.Generator
            From `utterance_rng` with purpose 0.
        """
        if self.speed is not None:
            x = self.speed(x, rng)
        for key, part in self._waveform_parts.items():
            x = part(x, self.sample_rate, stream(rng, PURPOSES[key]))
        peak = float(x.abs().max()) if self._waveform_parts and len(x) else 0.0
        return x / peak if peak > 1 else x

    def frames(
        self, extractor: Extractor, epoch: int, ids: Sequence[str]
    ) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Return what `asr.features.FrontEnd` takes as `augment` for these utterances; None if nothing."""
        if not self._frame_parts:
            return None

        def augment(frames: Tensor, lengths: Tensor) -> Tensor:
            for key, part in self._frame_parts.items():
                frames = part(frames, lengths, extractor, self._rngs(key, epoch, ids))
            return frames

        return augment

    def mask(self, frames: Tensor, lengths: Tensor, epoch: int, ids: Sequence[str]) -> Tensor:
        """Hide parts of the features (B, T, F) of these utterances."""
        return frames if self._spec is None else self._spec(frames, lengths, self._rngs("spec", epoch, ids))

    def _rngs(self, key: str, epoch: int, ids: Sequence[str]) -> list[np.random.Generator]:
        return [utterance_rng(self.seed, epoch, name, PURPOSES[key]) for name in ids]
