"""Augmentation of training utterances; never applied to dev or test.

Every random draw comes from the generator that the caller passes, which `utterance_rng` makes from the
seed, the epoch and the utterance id alone. So an utterance is augmented the same way whatever the
batch, the number of workers, or the step at which training was resumed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.transforms import Resample


def utterance_rng(seed: int, epoch: int, utterance_id: str, purpose: int = 0) -> np.random.Generator:
    """Return the random generator of one utterance in one epoch for one purpose."""
    return np.random.default_rng([seed, epoch, zlib.crc32(utterance_id.encode()), purpose])


class SpeedPerturb:
    """Play an utterance faster or slower (Ko et al., Interspeech 2015).

    A waveform is resampled, so that tempo and pitch change; precomputed frames are interpolated
    linearly in time, so that only the tempo does.

    Parameters
    ----------
    factors : sequence of float
        Speeds to draw from with equal chance; 1.1 is ten per cent faster.
    """

    def __init__(self, factors: Sequence[float] = (0.9, 1.0, 1.1)) -> None:
        if not factors or not all(0.25 <= factor <= 4 for factor in factors):
            raise ValueError(f"speed factors must lie between 0.25 and 4, found {list(factors)}")
        self.factors = tuple(factors)
        # In hundredths, so that the resampler's ratio stays small; its filters are made once.
        self._resample = {factor: Resample(round(factor * 100), 100) for factor in self.factors}

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Change the speed of a waveform (N,) or of frames (T, F), float32."""
        factor = self.factors[rng.integers(len(self.factors))]
        if factor == 1.0:
            return x
        if x.ndim == 1:
            return self._resample[factor](x)
        num_frames = max(1, round(x.shape[0] / factor))
        return F.interpolate(x.T[None], size=num_frames, mode="linear", align_corners=False)[0].T.contiguous()


class SpecAugment:
    """Mask blocks of frequency and of time with zeros (Park et al., arXiv:1904.08779).

    Parameters
    ----------
    frequency_masks : int
        Blocks of coefficients masked in every utterance.
    frequency_width : int
        Largest width of a block, coefficients.
    time_masks : int
        Blocks of frames masked in every utterance.
    time_width : int
        Largest width of a block, frames.
    time_ratio : float
        Largest width of a block as a share of the utterance.
    """

    def __init__(
        self,
        frequency_masks: int = 2,
        frequency_width: int = 15,
        time_masks: int = 2,
        time_width: int = 40,
        time_ratio: float = 0.15,
    ) -> None:
        if min(frequency_masks, frequency_width, time_masks, time_width) < 0 or not 0 <= time_ratio <= 1:
            raise ValueError("masks and widths must be 0 or more and time_ratio a share from 0 to 1")
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width, self.time_ratio = time_masks, time_width, time_ratio

    def __call__(self, frames: Tensor, lengths: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Return masked frames (B, T, F); one generator an utterance."""
        B, T, num_features = frames.shape
        keep = np.ones((B, T, num_features), dtype=bool)
        for b, (length, rng) in enumerate(zip(lengths.tolist(), rngs, strict=True)):
            for _ in range(self.frequency_masks):
                start, width = _block(num_features, min(self.frequency_width, num_features), rng)
                keep[b, :, start : start + width] = False
            for _ in range(self.time_masks):
                start, width = _block(length, min(self.time_width, int(length * self.time_ratio)), rng)
                keep[b, start : start + width] = False
        return frames * torch.from_numpy(keep).to(frames.device)


def _block(size: int, max_width: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a block's width, 0 to `max_width`, then its start within `size`."""
    width = int(rng.integers(max_width + 1))
    return int(rng.integers(size - width + 1)), width
