"""Modules that shorten the frame sequence before the recurrent layers.

All map ``(x, lengths) -> (y, new_lengths)`` with x (B, T, F) float and lengths (B,) int64, report
`output_size`, `factor` (input frames per output frame), `context` (frames that an output may see on either
side) and integer `output_length`, and zero whatever lies beyond an utterance's own length, so
that an utterance's output does not depend on what it is batched with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

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


def _context(kernel_sizes: Sequence[int], strides: Sequence[int]) -> int:
    """Return an upper bound of the frames that an output sees on either side of its first frame."""
    context, step = 0, 1
    for kernel, stride in zip(kernel_sizes, strides, strict=True):
        context += (kernel // 2) * step
        step *= stride
    return context + step - 1


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
        self.context = 0

    def output_length(self, length: int) -> int:
        """Return the number of output frames for `length` input frames."""
        return length

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, T, F) frames with zeros beyond `lengths`, and `lengths`."""
        return mask_padding(x, lengths), lengths


class StackSubsampling(nn.Module):
    """Put neighbouring frames side by side, without parameters.

    Parameters
    ----------
    input_size : int
        Features per frame, F.
    factor : int
        Frames that become one. The last one is filled up with zeros.
    """

    def __init__(self, input_size: int, factor: int = 3) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"factor must be positive, found {factor}")
        self.output_size = input_size * factor
        self.factor = factor
        self.context = factor - 1

    def output_length(self, length: int) -> int:
        """Return the number of output frames for `length` input frames."""
        return -(-length // self.factor)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten (B, T, F) to (B, ceil(T / factor), factor F)."""
        x = mask_padding(x, lengths)
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % self.factor))
        return x.unflatten(1, (-1, self.factor)).flatten(2), -(-lengths // self.factor)


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
    dropout : float
        Share of the values after every layer that training sets to zero.
    """

    def __init__(
        self,
        input_size: int,
        channels: int = 256,
        kernel_sizes: Sequence[int] = (5,),
        strides: Sequence[int] = (2,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), found {dropout}")
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
        self.dropout = nn.Dropout(dropout)
        self.strides = tuple(strides)
        self.output_size = channels
        self.factor = math.prod(strides)
        self.context = _context(kernel_sizes, strides)

    def output_length(self, length: int) -> int:
        """Return the number of output frames for `length` input frames."""
        return _strided_length(length, self.strides)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten (B, T, F) to (B, T', channels); T' is ceil(T / stride) layer by layer."""
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            x = mask_padding(x, lengths)
            x = self.dropout(norm(conv(x.transpose(1, 2)).transpose(1, 2)).relu())
            lengths = (lengths - 1) // stride + 1
        return mask_padding(x, lengths), lengths


class Conv2dSubsampling(nn.Module):
    """Two-dimensional convolutions over time and frequency, as in Deep Speech 2 (arXiv:1512.02595).

    Parameters
    ----------
    input_size : int
        Features per frame, F.
    channels : int
        Output channels of every convolution.
    kernel_sizes, strides : sequence of (time, frequency) pairs
        One pair a layer; kernels odd.
    norm : {"layer", "batch", "none"}
        After every convolution: over channels and frequency of a frame, or each channel over the batch's
        frames without padding.
    max_value : float
        Outputs are clipped to [0, max_value]; 0 for a ReLU without a ceiling. Deep Speech 2 has 20.
    """

    def __init__(
        self,
        input_size: int,
        channels: int = 32,
        kernel_sizes: Sequence[Sequence[int]] = ((3, 3), (3, 3)),
        strides: Sequence[Sequence[int]] = ((2, 2), (1, 2)),
        norm: Literal["layer", "batch", "none"] = "layer",
        max_value: float = 0.0,
    ) -> None:
        super().__init__()
        if len(kernel_sizes) != len(strides) or not kernel_sizes:
            raise ValueError("kernel_sizes and strides need one [time, frequency] pair a layer each")
        if any(len(p) != 2 for p in (*kernel_sizes, *strides)) or any(
            k < 1 or k % 2 == 0 for p in kernel_sizes for k in p
        ):
            raise ValueError("kernel_sizes and strides are [time, frequency] pairs, kernels odd")
        if any(s < 1 for p in strides for s in p) or max_value < 0:
            raise ValueError("strides must be positive and max_value not negative")
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        in_channels, width = 1, input_size
        for kernel, stride in zip(kernel_sizes, strides, strict=True):
            padding = (kernel[0] // 2, kernel[1] // 2)
            self.convs.append(
                nn.Conv2d(in_channels, channels, (kernel[0], kernel[1]), (stride[0], stride[1]), padding)
            )
            width = (width - 1) // stride[1] + 1
            in_channels = channels
            if norm == "layer":
                self.norms.append(nn.LayerNorm(channels * width))
            else:
                self.norms.append(MaskedBatchNorm(channels) if norm == "batch" else nn.Identity())
        self.strides = tuple(s[0] for s in strides)
        self.max_value = max_value or math.inf
        self.output_size = channels * width
        self.factor = math.prod(self.strides)
        self.context = _context([k[0] for k in kernel_sizes], self.strides)

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
            x = x_BCTF.transpose(1, 2).reshape(B, T, C * F)
            x = norm(x, lengths) if isinstance(norm, MaskedBatchNorm) else norm(x)
            x = x.clamp(0.0, self.max_value)
            x_BCTF = x.view(B, T, C, F).transpose(1, 2)
        return mask_padding(x, lengths), lengths


class MaskedBatchNorm(nn.Module):
    """Batch normalisation of channels whose statistics leave padding out.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Normalise (B, T, C F), channels first within a frame; zero beyond `lengths`, int64 (B,)."""
        if not self.training:  # each frame by itself
            frames = x.flatten(0, 1).unflatten(1, (self.norm.num_features, -1))
            return mask_padding(self.norm(frames).flatten(1).unflatten(0, x.shape[:2]), lengths)
        steps = torch.arange(x.shape[1], device=x.device)
        mask = steps < lengths[:, None]
        rows = self.norm(x[mask].unflatten(1, (self.norm.num_features, -1))).flatten(1)
        return x.new_zeros(x.shape, dtype=rows.dtype).masked_scatter(mask.unsqueeze(2), rows)


class VggSubsampling(nn.Module):
    """Blocks of two 3 x 3 convolutions and a pooling by two of time and frequency, as VGG networks have.

    Simonyan and Zisserman, arXiv:1409.1556; in front of recurrent CTC models: Hori et al., arXiv:1706.02737.

    Parameters
    ----------
    input_size : int
        Features per frame, F.
    channels : sequence of int
        Of each block; every block halves time and frequency.
    """

    def __init__(self, input_size: int, channels: Sequence[int] = (64, 128)) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must be positive, one number a block, found {list(channels)}")
        self.convs = nn.ModuleList()
        before, width = 1, input_size
        for block in channels:
            self.convs += [nn.Conv2d(before, block, 3, padding=1), nn.Conv2d(block, block, 3, padding=1)]
            before, width = block, -(-width // 2)
        self.strides = (2,) * len(channels)
        self.output_size = before * width
        self.factor = 2 ** len(channels)
        self.context = 3 * (self.factor - 1)  # two convolutions and a pooling a block

    def output_length(self, length: int) -> int:
        """Return the number of output frames for `length` input frames."""
        return _strided_length(length, self.strides)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten (B, T, F) to (B, T', channels * F')."""
        x = x.unsqueeze(1)
        for index, conv in enumerate(self.convs):
            x = conv(mask_padding(x, lengths, time_dim=2)).relu()
            if index % 2:
                # all values are positive: zeros behind an utterance never win
                x = nn.functional.max_pool2d(mask_padding(x, lengths, time_dim=2), 2, ceil_mode=True)
                lengths = -(-lengths // 2)
        return mask_padding(x.transpose(1, 2).flatten(2), lengths), lengths


Subsampling = NoSubsampling | StackSubsampling | ConvSubsampling | Conv2dSubsampling | VggSubsampling


class SubsamplingStream:
    """Runs a subsampling module over a stream of frames, with what it would have computed from all at once.

    Parameters
    ----------
    module : Subsampling
    """

    def __init__(self, module: Subsampling) -> None:
        self.module = module
        # as much past as any output looks back on, in whole output frames
        self.history = -(-module.context // module.factor)
        self.frames: Tensor | None = None
        self.settled = 0  # output frames of `frames` that were given out before

    def push(self, x: Tensor, *, final: bool = False) -> Tensor:
        """Take (B, T, F) more frames and return the (B, T', ·) output frames that they settle."""
        frames = x if self.frames is None else torch.cat([self.frames, x], dim=1)
        length = frames.shape[1]
        ready = self.module.output_length(length)
        if not final:
            # Output j sees frames up to j * factor + context.
            ready = max(0, min(ready, (length - 1 - self.module.context) // self.module.factor + 1))
        y = x.new_zeros(len(x), 0, self.module.output_size)
        if ready > self.settled:
            lengths = torch.full((len(x),), length, device=x.device)
            y = self.module(frames, lengths)[0][:, self.settled : ready]
        self.settled = max(ready, self.settled)
        drop = max(0, self.settled - self.history)
        self.frames = frames[:, drop * self.module.factor :]
        self.settled -= drop
        return y
