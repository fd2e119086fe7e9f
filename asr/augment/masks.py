"""SpecAugment: blocks of frequency and time hidden from the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from asr.augment.streams import applies, check_probability


class SpecAugment:
    """Mask blocks of frequency and of time (Park et al., arXiv:1904.08779).

    The adaptive policy of arXiv:1912.05533 is ``time_masks=20, time_mask_rate=0.04, time_width=None,
    time_ratio=0.04``.

    Parameters
    ----------
    frequency_masks : int
        Blocks of coefficients masked in every utterance.
    frequency_width : int
        Largest width of a block, coefficients.
    time_masks : int
        Blocks of frames masked in every utterance; with `time_mask_rate`, the most of them.
    time_width : int or None
        Largest width of a block, frames; None for no limit but `time_ratio`.
    time_ratio : float
        Largest width of a block as a share of the utterance.
    time_mask_rate : float
        Blocks for each frame of the utterance, so that long utterances have more; 0 for always `time_masks`.
    value : {"zero", "mean"}
        What stands in a block: zero, or each coefficient's mean over the utterance. They are the same where
        the front end normalises every utterance.
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(
        self,
        frequency_masks: int = 2,
        frequency_width: int = 15,
        time_masks: int = 2,
        time_width: int | None = 40,
        time_ratio: float = 0.15,
        time_mask_rate: float = 0.0,
        value: Literal["zero", "mean"] = "zero",
        probability: float = 1.0,
    ) -> None:
        counts = (frequency_masks, frequency_width, time_masks, time_width or 0)
        if min(counts) < 0 or not 0 <= time_ratio <= 1 or not 0 <= time_mask_rate <= 1:
            raise ValueError(
                "masks and widths must be 0 or more, time_ratio and time_mask_rate shares from 0 to 1"
            )
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width, self.time_ratio = time_masks, time_width, time_ratio
        self.time_mask_rate, self.value = time_mask_rate, value
        self.probability = check_probability(probability)

    def __call__(self, frames: Tensor, lengths: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Return masked frames (B, T, F), float32; one generator an utterance."""
        B, T, num_features = frames.shape
        keep = np.ones((B, T, num_features), dtype=bool)
        for b, (length, rng) in enumerate(zip(lengths.tolist(), rngs, strict=True)):
            if not applies(self.probability, rng):
                continue
            for _ in range(self.frequency_masks):
                start, width = _block(num_features, min(self.frequency_width, num_features), rng)
                keep[b, :, start : start + width] = False
            max_width = int(length * self.time_ratio)
            if self.time_width is not None:
                max_width = min(max_width, self.time_width)
            for _ in range(self._num_time_masks(length)):
                start, width = _block(length, max_width, rng)
                keep[b, start : start + width] = False
        kept = torch.from_numpy(keep).to(frames.device)
        if self.value == "zero":
            return frames * kept
        own = torch.arange(T, device=frames.device) < lengths.to(frames.device)[:, None]
        own_frames = frames * own[:, :, None]
        means = own_frames.sum(1, keepdim=True) / own.sum(1).clamp(min=1)[:, None, None]
        return torch.where(kept | ~own[:, :, None], own_frames, means)

    def _num_time_masks(self, length: int) -> int:
        if not self.time_mask_rate:
            return self.time_masks
        return min(self.time_masks, int(length * self.time_mask_rate))


def _block(size: int, max_width: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a block's width, 0 to `max_width`, then its start within `size`."""
    width = int(rng.integers(max_width + 1))
    return int(rng.integers(size - width + 1)), width
