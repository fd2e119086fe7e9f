"""Modules that shorten the frame sequence before the recurrent layers.

All map ``(x, lengths) -> (y, new_lengths)`` with x (B, T, F) float and lengths (B,) int64, report
`output_size` and integer `output_length`, and zero whatever lies beyond an utterance's own length, so
that an utterance's output does not depend on what it is batched with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def mask_padding(x: Tensor, lengths: Tensor, time_dim: int = 1) -> Tensor:
    """Zero what lies beyond each utterance's length.

    Parameters
    ----------
    x : Tensor, (B, ...) with time at `time_dim`
    lengths : Tensor, int64, (B,)
    """
    shape = [1] * x.ndim
    shape[time_dim] = x.shape[time_dim]
    steps = torch.arange(x.shape[time_dim], device=x.device).view(shape)
    return x.masked_fill(steps >= lengths.view(-1, *[1] * (x.ndim - 1)), 0.0)


def _strided_length(length: int, strides: Sequence[int]) -> int:
    for stride in strides:
        length = (length - 1) // stride + 1
    return length


class NoSubsampling(nn.Module):
    """Hand the frames on as they are.

    Parameters
    ----------
    input_size : int
        Features per frame, F.
    """

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size
        self.factor = 1

    def output_length(self, length: int) -> int:
        """Return the number of output frames for `length` input frames."""
        return length

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, T, F) frames with zeros beyond `lengths`, and `lengths`."""
        return mask_padding(x, lengths), lengths


class ConvSubsampling(nn.Module):
    """Convolutions over time, each followed by layer normalisation and a ReLU.

    Parameters
    ----------
    input_size : int
        Features per frame, F.
    channels : int
        Output channels of every convolution.
    kernel_sizes, strides : sequence of int
        One entry a layer, in frames. Kernels are odd, so that a frame lies in the middle of its view.
    """

    def __init__(
        self,
        input_size: int,
        channels: int = 256,
        kernel_sizes: Sequence[int] = (5,),
        strides: Sequence[int] = (2,),
    ) -> None:
        super().__init__()
        if len(kernel_sizes) != len(strides) or not kernel_sizes:
            raise ValueError(
                f"kernel_sizes {list(kernel_sizes)} and strides {list(strides)} need one entry a layer each"
            )
        if any(k < 1 or k % 2 == 0 for k in kernel_sizes) or any(s < 1 for s in strides):
            raise ValueError(
                f"kernel_sizes must be odd and strides positive, found {list(kernel_sizes)}, {list(strides)}"
            )
        sizes = [input_size] + [channels] * len(strides)
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, k, stride=s, padding=k // 2)
            for a, b, k, s in zip(sizes[:-1], sizes[1:], kernel_sizes, strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in strides)
        self.strides = tuple(strides)
        self.output_size = channels
        self.factor = 1
        for stride in strides:
            self.factor *= stride

    def output_length(self, length: int) -> int:
        """Return the number of output frames for `length` input frames."""
        return _strided_length(length, self.strides)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten (B, T, F) to (B, T', channels); T' is ceil(T / stride) layer by layer."""
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            x = mask_padding(x, lengths)
            x = norm(conv(x.transpose(1, 2)).transpose(1, 2)).relu()
            lengths = (lengths - 1) // stride + 1
        return mask_padding(x, lengths), lengths


class Conv2dSubsampling(nn.Module):
    """Two-dimensional convolutions over time and frequency, as in Deep Speech 2 (arXiv:1512.02595).

    Each convolution is followed by layer normalisation over channels and frequency and a ReLU.

    Parameters
    ----------
    input_size : int
        Features per frame, F.
    channels : int
        Output channels of every convolution.
    kernel_sizes, strides : sequence of (time, frequency) pairs
        One pair a layer; kernels odd.
    """

    def __init__(
        self,
        input_size: int,
        channels: int = 32,
        kernel_sizes: Sequence[Sequence[int]] = ((3, 3), (3, 3)),
        strides: Sequence[Sequence[int]] = ((2, 2), (1, 2)),
    ) -> None:
        super().__init__()
        if len(kernel_sizes) != len(strides) or not kernel_sizes:
            raise ValueError("kernel_sizes and strides need one [time, frequency] pair a layer each")
        if any(len(p) != 2 for p in (*kernel_sizes, *strides)) or any(
            k % 2 == 0 for p in kernel_sizes for k in p
        ):
            raise ValueError("kernel_sizes and strides are [time, frequency] pairs, kernels odd")
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        in_channels, width = 1, input_size
        for kernel, stride in zip(kernel_sizes, strides, strict=True):
            padding = (kernel[0] // 2, kernel[1] // 2)
            self.convs.append(
                nn.Conv2d(in_channels, channels, (kernel[0], kernel[1]), (stride[0], stride[1]), padding)
            )
            width = (width - 1) // stride[1] + 1
            in_channels = channels
            self.norms.append(nn.LayerNorm(channels * width))
        self.strides = tuple(s[0] for s in strides)
        self.output_size = channels * width
        self.factor = 1
        for stride_t in self.strides:
            self.factor *= stride_t

    def output_length(self, length: int) -> int:
        """Return the number of output frames for `length` input frames."""
        return _strided_length(length, self.strides)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten (B, T, F) to (B, T', channels * F'); F' is ceil(F / stride) layer by layer."""
        x_BCTF = x.unsqueeze(1)
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            x_BCTF = conv(mask_padding(x_BCTF, lengths, time_dim=2))
            lengths = (lengths - 1) // stride + 1
            B, C, T, F = x_BCTF.shape
            x = norm(x_BCTF.transpose(1, 2).reshape(B, T, C * F)).relu()
            x_BCTF = x.view(B, T, C, F).transpose(1, 2)
        return mask_padding(x, lengths), lengths


Subsampling = NoSubsampling | ConvSubsampling | Conv2dSubsampling
