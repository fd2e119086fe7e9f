"""Extractors: waveforms -> log mel energies or cepstra.

Axes: B batch, N samples, W samples of a window, T frames, F features.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
import torchaudio.compliance.kaldi as kaldi
import torchaudio.functional as AF
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.features.filters import (
    check_cepstra,
    check_filters,
    count_samples,
    mel_centers,
    next_power_of_two,
    sphinx_filters,
)

Count = TypeVar("Count", int, Tensor)
"""A number of samples or frames: an int, or an int64 tensor of them."""

INT16_SCALE = 32768.0
"""Kaldi and Sphinx compute on the scale of 16-bit samples."""


class Extractor(nn.Module):
    """Base of the extractors: windowed frames -> power spectrum -> filters -> logarithm -> transform.

    Frames lie inside the waveform ("snip edges"): ``1 + (N - W) // hop`` of them, or a single one,
    padded with zeros, if the waveform is shorter than the window.

    Parameters
    ----------
    sample_rate : int
        Hz.
    window : Tensor, float32, (W,)
    hop_length : int
        Samples from one frame to the next.
    filters : Tensor, float32, (n_fft // 2 + 1, n_mels)
        Weight of each bin of the power spectrum in each mel filter.
    centers : Tensor, float64, (n_mels,)
        Centre of each filter, Hz, rising.
    f_max : float
        Upper end of the filters, Hz.
    floor : float
        Smallest filter energy; keeps the logarithm of silence finite.
    scale : float
        Factor applied to samples in [-1, 1].
    transform : Tensor, float32, (n_mels, F), optional
        Applied to the log energies; for cepstra, a discrete cosine transform.

    Attributes
    ----------
    sample_rate, window_length, hop_length, n_fft, output_size : int
    centers : Tensor, float64, (n_mels,)
        On the CPU, wherever the module is.
    f_max : float

    Raises
    ------
    ConfigError
        The FFT is shorter than the window, or a filter is so narrow that it holds no bin.
    """

    window: Tensor
    filters: Tensor
    transform: Tensor | None

    tail_length = 0
    """Zeros appended to each waveform, in samples."""

    def __init__(
        self,
        *,
        sample_rate: int,
        window: Tensor,
        hop_length: int,
        filters: Tensor,
        centers: Tensor,
        f_max: float,
        floor: float,
        scale: float = 1.0,
        transform: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.window_length = len(window)
        self.hop_length = hop_length
        self.n_fft = 2 * (len(filters) - 1)
        self.centers = centers
        self.f_max = f_max
        self.floor = floor
        self.scale = scale
        self.output_size = (filters if transform is None else transform).size(1)
        if self.n_fft < self.window_length:
            raise ConfigError(
                f"n_fft: {self.n_fft} is shorter than the window of {self.window_length} samples; "
                "use a larger n_fft or a smaller window_ms"
            )
        if not filters.isfinite().all() or (filters.sum(0) <= 0).any():
            raise ConfigError(
                f"n_mels: {filters.size(1)} filters are too narrow for the bins of a {self.n_fft}-point FFT; "
                "use fewer filters or a larger n_fft"
            )
        # Not persistent: the arguments determine them, so a model file need not carry them.
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("transform", transform, persistent=False)

    def num_frames(self, num_samples: Count) -> Count:
        """Return how many frames `num_samples` samples give; integer arithmetic throughout."""
        excess = num_samples + self.tail_length - self.window_length
        return (excess > 0) * excess // self.hop_length + 1

    def forward(self, waveforms: Tensor) -> Tensor:
        """Extract frames.

        Parameters
        ----------
        waveforms : Tensor, float32, (B, N)
            Samples in [-1, 1], zero beyond each utterance's length.

        Returns
        -------
        Tensor, float32, (B, T, F)
            ``T = num_frames(N)``. The frames of an utterance of n samples are the first ``num_frames(n)``.
        """
        num_samples = waveforms.size(1)
        used = (self.num_frames(num_samples) - 1) * self.hop_length + self.window_length
        frames = self._frame(F.pad(waveforms * self.scale, (0, used - num_samples)))
        spectrum = torch.fft.rfft(frames * self.window, n=self.n_fft)
        return self.from_power(spectrum.real.square() + spectrum.imag.square())

    def from_power(self, power: Tensor) -> Tensor:
        """Map power spectra (..., n_fft // 2 + 1) to features (..., F)."""
        log_energies = (power @ self.filters).clamp(min=self.floor).log()
        if self.transform is None:
            return log_energies
        # The level of the frame goes its own way: in float32 it would drown the differences between filters.
        level = log_energies.mean(-1, keepdim=True)
        return (log_energies - level) @ self.transform + level * self.transform.sum(0)

    def _frame(self, samples: Tensor) -> Tensor:
        """Cut samples (B, N) into overlapping frames (B, T, W)."""
        return samples.unfold(1, self.window_length, self.hop_length)


class LogMel(Extractor):
    """Natural logarithm of mel energies, with the filters and Hann window of torchaudio's MelSpectrogram.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_mels : int
        Filters.
    window_ms, hop_ms : float
        Window and shift of the frames, milliseconds.
    n_fft : int, optional
        Points of the FFT; the next power of two above the window by default.
    f_min, f_max : float
        Lowest and highest frequency, Hz; `f_max` is half the sample rate by default.
    floor : float
        Smallest mel energy.
    mel_scale : {"htk", "slaney"}
        Slaney's scale comes with his area normalisation, as in librosa and Whisper.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        n_mels: int = 80,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        n_fft: int | None = None,
        f_min: float = 20.0,
        f_max: float | None = None,
        floor: float = 1e-10,
        mel_scale: Literal["htk", "slaney"] = "htk",
    ) -> None:
        if mel_scale not in ("htk", "slaney"):
            raise ConfigError(f"mel_scale: {mel_scale!r} is unknown; use htk or slaney")
        window_length = count_samples("window_ms", window_ms, sample_rate)
        n_fft = n_fft or next_power_of_two(window_length)
        f_max = check_filters(n_mels, f_min, f_max, sample_rate)
        filters = AF.melscale_fbanks(
            n_fft // 2 + 1,
            f_min,
            f_max,
            n_mels,
            sample_rate,
            norm="slaney" if mel_scale == "slaney" else None,
            mel_scale=mel_scale,
        )
        super().__init__(
            sample_rate=sample_rate,
            window=torch.hann_window(window_length),
            hop_length=count_samples("hop_ms", hop_ms, sample_rate),
            filters=filters,
            centers=mel_centers(n_mels, f_min, f_max, mel_scale),
            f_max=f_max,
            floor=floor,
        )


class Fbank(Extractor):
    """Log mel energies as Kaldi's ``compute-fbank-feats --dither=0`` makes them.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_mels : int
        Filters.
    window_ms, hop_ms : float
        Window and shift of the frames, milliseconds.
    f_min, f_max : float
        Lowest and highest frequency, Hz; `f_max` is half the sample rate by default.
    preemphasis : float
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        n_mels: int = 80,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        f_min: float = 20.0,
        f_max: float | None = None,
        preemphasis: float = 0.97,
    ) -> None:
        window_length = count_samples("window_ms", window_ms, sample_rate)
        n_fft = next_power_of_two(window_length)
        f_max = check_filters(n_mels, f_min, f_max, sample_rate)
        # The last three arguments are Kaldi's vocal tract length warping, off.
        filters, _ = kaldi.get_mel_banks(n_mels, n_fft, sample_rate, f_min, f_max, 100.0, -500.0, 1.0)
        super().__init__(
            sample_rate=sample_rate,
            # Kaldi's "povey" window.
            window=torch.hann_window(window_length, periodic=False).pow(0.85),
            hop_length=count_samples("hop_ms", hop_ms, sample_rate),
            # Kaldi leaves out the bin at half the sample rate.
            filters=F.pad(filters, (0, 1)).T.contiguous(),
            centers=mel_centers(n_mels, f_min, f_max),
            f_max=f_max,
            floor=torch.finfo(torch.float32).eps,
            scale=INT16_SCALE,
        )
        self.preemphasis = preemphasis

    def _frame(self, samples: Tensor) -> Tensor:
        frames = super()._frame(samples)
        frames = frames - frames.mean(2, keepdim=True)
        return frames - self.preemphasis * F.pad(frames[:, :, :-1], (1, 0), mode="replicate")


class Mfcc(Fbank):
    """Cepstra as Kaldi's ``compute-mfcc-feats --dither=0 --use-energy=false`` makes them.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_mels, n_cepstra : int
        Filters, and cepstra kept of them (C0 included).
    window_ms, hop_ms : float
        Window and shift of the frames, milliseconds.
    f_min, f_max : float
        Lowest and highest frequency, Hz; `f_max` is half the sample rate by default.
    preemphasis : float
    lifter : float
        Kaldi's ``--cepstral-lifter``; 0 for none.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        n_mels: int = 23,
        n_cepstra: int = 13,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        f_min: float = 20.0,
        f_max: float | None = None,
        preemphasis: float = 0.97,
        lifter: float = 22.0,
    ) -> None:
        check_cepstra(n_cepstra, n_mels)
        super().__init__(
            sample_rate=sample_rate,
            n_mels=n_mels,
            window_ms=window_ms,
            hop_ms=hop_ms,
            f_min=f_min,
            f_max=f_max,
            preemphasis=preemphasis,
        )
        self.transform = AF.create_dct(n_cepstra, n_mels, norm="ortho")
        if lifter:
            self.transform *= 1 + lifter / 2 * torch.sin(math.pi * torch.arange(n_cepstra) / lifter)
        self.output_size = n_cepstra


class SphinxMfcc(Extractor):
    """Cepstra as the CMU Sphinx front end (``wave2feat``, ``sphinx_fe -transform legacy``) makes them.

    So a model trained on ``.mfc`` files transcribes waveforms. The defaults are those of the AN4 archive.
    Sphinx completes the samples left over after the last whole window with zeros to one more frame,
    so it gives ``2 + (N - W) // hop`` frames.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_mels, n_cepstra : int
        Filters, and cepstra kept of them (C0 included).
    window_ms, hop_ms : float
        Window and shift of the frames, milliseconds.
    n_fft : int
        Points of the FFT.
    f_min, f_max : float
        Lowest and highest frequency, Hz.
    preemphasis : float
        Applied to the whole waveform, unlike Kaldi's.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        n_mels: int = 40,
        n_cepstra: int = 13,
        window_ms: float = 25.625,
        hop_ms: float = 10.0,
        n_fft: int = 512,
        f_min: float = 130.0,
        f_max: float = 6800.0,
        preemphasis: float = 0.97,
    ) -> None:
        check_cepstra(n_cepstra, n_mels)
        check_filters(n_mels, f_min, f_max, sample_rate)
        quefrency = torch.arange(n_cepstra, dtype=torch.float64)
        phase = torch.arange(n_mels, dtype=torch.float64) + 0.5
        transform = torch.cos(math.pi / n_mels * torch.outer(phase, quefrency)) / n_mels
        transform[0] /= 2  # the "legacy" transform halves the first filter
        hop_length = count_samples("hop_ms", hop_ms, sample_rate)
        super().__init__(
            sample_rate=sample_rate,
            window=torch.hamming_window(count_samples("window_ms", window_ms, sample_rate), periodic=False),
            hop_length=hop_length,
            filters=sphinx_filters(n_fft, n_mels, sample_rate, f_min, f_max),
            centers=mel_centers(n_mels, f_min, f_max),
            f_max=f_max,
            floor=1e-4,
            scale=INT16_SCALE,
            transform=transform.float(),
        )
        self.tail_length = hop_length
        self.preemphasis = preemphasis

    def _frame(self, samples: Tensor) -> Tensor:
        return super()._frame(samples - self.preemphasis * F.pad(samples[:, :-1], (1, 0)))
