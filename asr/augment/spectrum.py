"""Multiplication in the frequency domain: convolution and filtering of waveforms.

Axes: N samples, K samples of an impulse response.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def fft_size(num_samples: int) -> int:
    """Return a length of at least `num_samples` whose FFT is fast: 2^k, 3 * 2^k or 5 * 2^k."""
    power = max(8, 1 << (num_samples - 1).bit_length())
    return next(size for size in (power * 5 // 8, power * 3 // 4, power) if size >= num_samples)


def convolve(samples: Tensor, response: Tensor, delay: int = 0) -> Tensor:
    """Convolve and keep the length.

    Parameters
    ----------
    samples : Tensor, float32, (N,)
    response : Tensor, float32, (K,)
    delay : int
        Samples at the start of the full convolution to leave out.

    Returns
    -------
    Tensor, float32, (N,)
    """
    num_samples = len(samples)
    # What lies beyond the samples kept may wrap around, as long as it wraps into what is left out.
    size = fft_size(num_samples + len(response))
    product = torch.fft.rfft(samples, n=size) * torch.fft.rfft(response, n=size)
    return torch.fft.irfft(product, n=size)[delay : delay + num_samples]


def shape(
    samples: Tensor, sample_rate: int, gain: Callable[[Tensor], Tensor], margin: float = 0.05
) -> Tensor:
    """Multiply the spectrum of a waveform by a real gain, which moves nothing in time.

    Parameters
    ----------
    samples : Tensor, float32, (N,)
    sample_rate : int
        Hz.
    gain : callable
        From frequencies, Hz, float32 (M,), to factors (M,).
    margin : float
        Seconds of zeros appended, so that the end does not ring into the start.
    """
    size = fft_size(len(samples) + round(margin * sample_rate))
    frequencies = torch.arange(size // 2 + 1, dtype=torch.float32) * (sample_rate / size)
    return torch.fft.irfft(torch.fft.rfft(samples, n=size) * gain(frequencies), n=size)[: len(samples)]
