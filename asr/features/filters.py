"""What extractors compute their filters and sizes from."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from asr.errors import ConfigError


def mel_centers(
    n_mels: int, f_min: float, f_max: float, mel_scale: Literal["htk", "slaney"] = "htk"
) -> Tensor:
    """Return the centres in Hz, float64, of filters that lie evenly on a mel scale."""
    if mel_scale == "htk":
        mel_min, mel_max = (2595 * math.log10(1 + f / 700) for f in (f_min, f_max))
        mels = torch.linspace(mel_min, mel_max, n_mels + 2, dtype=torch.float64)[1:-1]
        return 700 * (10 ** (mels / 2595) - 1)
    # Linear up to 1000 Hz, which is mel 15; above, 27 mels for a factor of 6.4.
    mel_min, mel_max = (
        3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4) for f in (f_min, f_max)
    )
    mels = torch.linspace(mel_min, mel_max, n_mels + 2, dtype=torch.float64)[1:-1]
    return torch.where(mels < 15, 200 / 3 * mels, 1000 * 6.4 ** ((mels - 15) / 27))


def sphinx_filters(n_fft: int, n_mels: int, sample_rate: int, f_min: float, f_max: float) -> Tensor:
    """Return Sphinx's triangular filters of unit area, their edges rounded to FFT bins."""
    mel_min, mel_max = (2595 * math.log10(1 + f / 700) for f in (f_min, f_max))
    mels = torch.linspace(mel_min, mel_max, n_mels + 2, dtype=torch.float64)
    bin_width = sample_rate / n_fft
    edges = (700 * (10 ** (mels / 2595) - 1) / bin_width + 0.5).floor() * bin_width
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    bins = bin_width * torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None]
    triangles = torch.minimum((bins - left) / (center - left), (right - bins) / (right - center))
    return (triangles.clamp(min=0) * 2 / (right - left)).float()


def count_samples(key: str, milliseconds: float, sample_rate: int) -> int:
    """Return the whole samples in a time; `key` names it in the ConfigError of one that has none."""
    # Truncated as Kaldi does, once the product is rid of binary rounding.
    num_samples = int(round(sample_rate * milliseconds / 1000, 6))
    if num_samples < 1:
        raise ConfigError(
            f"{key}: {milliseconds} ms is less than a sample at {sample_rate} Hz; use a larger value"
        )
    return num_samples


def next_power_of_two(n: int) -> int:
    """Return the least power of two that is no less than n."""
    return 1 << (n - 1).bit_length()


def check_filters(n_mels: int, f_min: float, f_max: float | None, sample_rate: int) -> float:
    """Return the upper frequency, by default half the sample rate."""
    if n_mels < 4:  # the least that torchaudio's Kaldi filters allow
        raise ConfigError(f"n_mels: {n_mels} filters are too few; use at least 4")
    nyquist = sample_rate / 2
    if f_max is None:
        f_max = nyquist
    if not 0 <= f_min < f_max <= nyquist:
        raise ConfigError(
            f"f_min: {f_min}, f_max: {f_max} Hz do not fit audio of {sample_rate} Hz; "
            f"use 0 <= f_min < f_max <= {nyquist:g}"
        )
    return f_max


def check_cepstra(n_cepstra: int, n_mels: int) -> None:
    """Raise ConfigError if there are more cepstra than filters, or none."""
    if not 1 <= n_cepstra <= n_mels:
        raise ConfigError(f"n_cepstra: {n_cepstra} is not within 1 and n_mels: {n_mels}; use fewer cepstra")
