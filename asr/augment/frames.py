"""Augmentation of frames between the extractor and what the front end makes of them.

It works on log mel energies and on cepstra alike, computed or precomputed, before deltas and normalisation.

Axes: B batch, T frames, F features (cepstra or filters), M mel filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from asr.augment.streams import applies, check_probability, check_range
from asr.features import Extractor

Rngs = Sequence[np.random.Generator]


class VocalTractPerturb:
    """Give the speaker a longer or shorter vocal tract (Jaitly and Hinton, ICML workshop 2013).

    What was heard at the frequency f is then heard at ``warp * f``, up to a frequency that covers the
    formants; from there to the upper end of the filters the axis is compressed or stretched evenly. Log mel
    energies are interpolated between the filters' centres. For cepstra, log mel energies, warp and cosine
    transform together are one matrix (Pitz and Ney, IEEE Trans. SAP 13(5), 2005).

    Parameters
    ----------
    warp : sequence of float
        Lowest and highest warp; drawn evenly. Above 1, formants rise, as with a shorter tract.
    formants_hz : float
        Frequency that covers the formants; no higher than four fifths of the upper end of the filters.
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(
        self, warp: Sequence[float] = (0.9, 1.1), formants_hz: float = 4800.0, probability: float = 1.0
    ) -> None:
        self.warp = check_range("warp", warp, 0.5, 2)
        if not formants_hz > 0:
            raise ValueError(f"formants_hz must be positive, found {formants_hz}")
        self.formants_hz = formants_hz
        self.probability = check_probability(probability)

    def __call__(self, frames: Tensor, lengths: Tensor, extractor: Extractor, rngs: Rngs) -> Tensor:
        """Return warped frames (B, T, F), float32, of `extractor`; one generator an utterance."""
        warps = [rng.uniform(*self.warp) if applies(self.probability, rng) else 1.0 for rng in rngs]
        if all(warp == 1.0 for warp in warps):
            return frames
        return frames @ warp_matrix(extractor, torch.tensor(warps), self.formants_hz).to(frames.device)


def warp_matrix(extractor: Extractor, warps: Tensor, formants_hz: float) -> Tensor:
    """Return the matrices that warp the frequency axis of frames, ``warped = frames @ matrix``.

    Parameters
    ----------
    extractor : Extractor
    warps : Tensor, float32, (B,)
    formants_hz : float
        As `VocalTractPerturb` has it.

    Returns
    -------
    Tensor, float32, (B, F, F)
    """
    centers, top = extractor.centers, extractor.f_max
    formants = min(formants_hz, 0.8 * top)
    warps = warps.double()[:, None]
    # The bend lies where neither the frequency nor its image exceeds `formants`.
    bend = formants * warps.clamp(max=1)
    source = torch.where(
        centers <= bend, centers / warps, top - (top - centers) * (top - bend / warps) / (top - bend)
    )
    last = len(centers) - 1
    above = torch.searchsorted(centers, source.contiguous()).clamp(1, last)
    share = ((source - centers[above - 1]) / (centers[above] - centers[above - 1])).clamp(0, 1)[:, None]
    filters = torch.arange(last + 1)[:, None]
    matrix = (filters == above[:, None]) * share + (filters == above[:, None] - 1) * (1 - share)
    if extractor.transform is not None:
        inverse, transform = _transforms(extractor)
        matrix = inverse @ matrix @ transform
    return matrix.float()


@lru_cache(maxsize=4)
def _transforms(extractor: Extractor) -> tuple[Tensor, Tensor]:
    """Return the pseudo-inverse (F, M) of an extractor's transform, and the transform (M, F), float64."""
    assert extractor.transform is not None
    transform = extractor.transform.cpu().double()
    return torch.linalg.pinv(transform), transform


class TimeWarp:
    """Speak some parts of an utterance faster and others slower; its length stays.

    The utterance is cut at drawn places, every piece gets a tempo of its own, and all are fitted into the
    former length. With one cut this is SpecAugment's time warp (Park et al., arXiv:1904.08779) with bounds on
    the tempo in place of a bound on the shift. Frames are interpolated linearly in time.

    Parameters
    ----------
    tempo : float
        A piece's tempo is drawn from ``1 / tempo`` to `tempo`, evenly on a logarithmic scale.
    frames_per_cut : int
        One cut for so many frames, at least one in an utterance.
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(self, tempo: float = 1.25, frames_per_cut: int = 50, probability: float = 0.5) -> None:
        if not 1 <= tempo <= 4 or frames_per_cut < 1:
            raise ValueError(
                f"tempo must lie between 1 and 4 and frames_per_cut be 1 or more, found {tempo} and "
                f"{frames_per_cut}"
            )
        self.tempo, self.frames_per_cut = tempo, frames_per_cut
        self.probability = check_probability(probability)

    def __call__(self, frames: Tensor, lengths: Tensor, extractor: Extractor, rngs: Rngs) -> Tensor:
        """Return frames (B, T, F), float32, warped in time; one generator an utterance."""
        places = np.tile(np.arange(frames.size(1), dtype=np.float32), (len(frames), 1))
        for b, (length, rng) in enumerate(zip(lengths.tolist(), rngs, strict=True)):
            if length > 2 and applies(self.probability, rng):
                places[b, :length] = self._places(length, rng)
        place = torch.from_numpy(places).to(frames.device)
        before = place.long()
        after = (before + 1).clamp(max=frames.size(1) - 1)
        first, second = (frames.gather(1, i[:, :, None].expand_as(frames)) for i in (before, after))
        return torch.lerp(first, second, (place - before)[:, :, None])

    def _places(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Return where in the utterance each frame comes from, (length,), rising from 0 to length - 1."""
        cuts = np.sort(rng.uniform(0, length - 1, max(1, length // self.frames_per_cut)))
        sources = np.concatenate(([0.0], cuts, [length - 1.0]))
        tempos = np.exp(rng.uniform(-1, 1, len(sources) - 1) * np.log(self.tempo))
        targets = np.concatenate(([0.0], np.cumsum(np.diff(sources) / tempos)))
        places = np.interp(np.arange(length), targets * ((length - 1) / targets[-1]), sources)
        return np.minimum(places, length - 1)


class FrameNoise:
    """Add Gaussian noise to every coefficient, in proportion to how it varies over the utterance.

    Parameters
    ----------
    level : sequence of float
        Lowest and highest standard deviation of the noise over that of the coefficient; drawn evenly.
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(self, level: Sequence[float] = (0.0, 0.2), probability: float = 0.5) -> None:
        self.level = check_range("level", level, 0, 10)
        self.probability = check_probability(probability)

    def __call__(self, frames: Tensor, lengths: Tensor, extractor: Extractor, rngs: Rngs) -> Tensor:
        """Return frames (B, T, F), float32, with noise; one generator an utterance."""
        noise = np.zeros(frames.shape, dtype=np.float32)
        for b, (length, rng) in enumerate(zip(lengths.tolist(), rngs, strict=True)):
            if applies(self.probability, rng):
                level = rng.uniform(*self.level)
                noise[b, :length] = level * rng.standard_normal((length, frames.size(2)), dtype=np.float32)
        index = torch.arange(frames.size(1), device=frames.device)
        own = (index < lengths.to(frames.device)[:, None])[:, :, None]
        counts = own.sum(1, keepdim=True).clamp(min=1)
        deviations = (frames - (frames * own).sum(1, keepdim=True) / counts) * own
        scale = (deviations.square().sum(1, keepdim=True) / counts).sqrt()
        return frames + torch.from_numpy(noise).to(frames.device) * scale


class Coloration:
    """Colour the spectrum as another microphone does: a gain constant in time and smooth in frequency.

    The gain is a sum of cosines over the mel axis, of half a period, one period, and so on. A front end that
    normalises every utterance takes it out again.

    Parameters
    ----------
    gain_db : float
        Standard deviation of each cosine's amplitude, dB.
    num_cosines : int
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(self, gain_db: float = 3.0, num_cosines: int = 4, probability: float = 0.5) -> None:
        if gain_db < 0 or num_cosines < 1:
            raise ValueError(
                f"gain_db must be 0 or more and num_cosines 1 or more, found {gain_db} and {num_cosines}"
            )
        self.gain_db, self.num_cosines = gain_db, num_cosines
        self.probability = check_probability(probability)

    def __call__(self, frames: Tensor, lengths: Tensor, extractor: Extractor, rngs: Rngs) -> Tensor:
        """Return frames (B, T, F), float32, with a drawn gain; one generator an utterance."""
        amplitudes = np.zeros((len(frames), self.num_cosines), dtype=np.float32)
        for b, rng in enumerate(rngs):
            if applies(self.probability, rng):
                amplitudes[b] = self.gain_db * rng.standard_normal(self.num_cosines)
        num_filters = len(extractor.centers)
        phase = np.pi * (np.arange(num_filters, dtype=np.float32) + 0.5) / num_filters
        cosines = np.cos(np.outer(np.arange(1, self.num_cosines + 1), phase))
        # Decibels to the natural logarithm of an energy.
        gain = torch.from_numpy((amplitudes @ cosines * np.log(10) / 10).astype(np.float32)).to(frames.device)
        if extractor.transform is not None:
            gain = gain @ extractor.transform.to(frames.device)
        return frames + gain[:, None]
