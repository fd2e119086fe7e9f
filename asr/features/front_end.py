"""The front end: an extractor, delta coefficients, normalisation and stacking; whole or as samples come.

Axes: B batch, N samples, W samples of a window, T frames, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from asr.errors import ConfigError, DataError, ModelError
from asr.features.extractors import Count, Extractor

Augment = Callable[[Tensor, Tensor], Tensor]
"""From frames (B, T, F) and lengths (B,) to frames (B, T, F)."""

Normalization = Literal["none", "utterance", "level", "corpus"]

STD_FLOOR = 1e-5
"""Smallest standard deviation divided by, so that a constant coefficient becomes zero, not NaN."""


class FrontEnd(nn.Module):
    """Waveforms or precomputed features -> the frames that the model reads.

    Parameters
    ----------
    extractor : Extractor
        Makes frames of waveforms; skipped if the input is already frames.
    deltas : int
        Orders of delta coefficients appended to each frame: 0, 1 or 2. Regression over two frames
        to each side, as ``torchaudio.functional.compute_deltas`` with ``win_length=5``.
    stack : int
        Consecutive frames joined into one. The last frame is repeated where the end needs more.
    stack_stride : int
        Frames from the start of one stack to the start of the next.
    normalize : {"none", "utterance", "level", "corpus"}
        Mean and variance normalisation: of each coefficient over the utterance; of all coefficients together
        over the utterance (of each order of deltas on its own), which takes away the level and keeps the
        spectrum, without which a single word is hard to know; or of each coefficient by statistics of the
        training data (see `fit`).
    dynamic_range_db : float, optional
        Log mel energies further than this below the utterance's highest are raised to there, as the `top_db`
        of librosa's `power_to_db` does: recordings of a low and of a high noise floor become alike.

    Attributes
    ----------
    sample_rate : int
        Hz.
    output_size : int
        Size of an output frame.
    frame_shift : float
        Seconds from one output frame to the next.

    Raises
    ------
    ConfigError
        An argument is out of range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        extractor: Extractor,
        *,
        deltas: int = 0,
        stack: int = 1,
        stack_stride: int = 1,
        normalize: Normalization = "utterance",
        dynamic_range_db: float | None = None,
    ) -> None:
        super().__init__()
        if deltas not in (0, 1, 2):
            raise ConfigError(f"deltas: {deltas!r} is not an order; use 0, 1 or 2")
        if stack < 1 or not 1 <= stack_stride <= stack:
            raise ConfigError(
                f"stack_stride: {stack_stride} with stack: {stack} loses frames; use 1 <= stride <= stack"
            )
        if normalize not in get_args(Normalization):
            raise ConfigError(f"normalize: {normalize!r} is unknown; use none, utterance, level or corpus")
        if dynamic_range_db is not None and (dynamic_range_db <= 0 or extractor.transform is not None):
            raise ConfigError(
                f"dynamic_range_db: {dynamic_range_db} with {type(extractor).__name__}; use null, or one "
                "above 0 and log mel energies (LogMel, Fbank)"
            )
        self.extractor = extractor
        self.deltas = deltas
        self.stack = stack
        self.stack_stride = stack_stride
        self.normalize = normalize
        self.dynamic_range_db = dynamic_range_db
        self.sample_rate = extractor.sample_rate
        self.output_size = extractor.output_size * (deltas + 1) * stack
        self.frame_shift = extractor.hop_length * stack_stride / extractor.sample_rate
        if normalize == "corpus":
            size = extractor.output_size * (deltas + 1)
            self.register_buffer("mean", torch.zeros(size))
            self.register_buffer("std", torch.zeros(size))  # zero until fitted or loaded

    @property
    def needs_whole_utterance(self) -> bool:
        """Whether a frame depends on all of its utterance, so that it cannot be made as samples come."""
        return self.normalize in ("utterance", "level") or self.dynamic_range_db is not None

    def num_frames(self, num_samples: int) -> int:
        """Return how many output frames `num_samples` samples give."""
        return self._num_stacks(self.extractor.num_frames(num_samples))

    def forward(
        self, inputs: Tensor, lengths: Tensor, augment: Augment | None = None
    ) -> tuple[Tensor, Tensor]:
        """Make frames, in float32 also under autocast.

        Parameters
        ----------
        inputs : Tensor, float32, (B, N) or (B, T, F)
            Waveforms with samples in [-1, 1], or precomputed frames of the extractor's output size.
        lengths : Tensor, int64, (B,)
            Samples or frames of each utterance.
        augment : callable, optional
            Applied to what the extractor gives, or to precomputed frames, before deltas and normalisation.

        Returns
        -------
        frames : Tensor, float32, (B, T', output_size)
            Zero beyond each utterance's length.
        lengths : Tensor, int64, (B,)

        Raises
        ------
        DataError
            Precomputed frames are not of the extractor's output size.
        ModelError
            Corpus normalisation has no statistics.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            frames, lengths = self._coefficients(inputs.float(), lengths.to(inputs.device), augment)
            if self.normalize == "utterance":
                frames = _normalize_utterances(frames, lengths, 1)
            elif self.normalize == "level":
                frames = _normalize_utterances(frames, lengths, self.extractor.output_size)
            elif self.normalize == "corpus":
                frames = (frames - self._fitted_mean()) / self.std
            if self.stack > 1:
                starts = torch.arange(self._num_stacks(frames.size(1)), device=frames.device)
                index = starts[:, None] * self.stack_stride + torch.arange(self.stack, device=frames.device)
                # Not len(), which torch.export takes for a constant.
                frames = _take(frames, lengths, index.flatten()).reshape(frames.size(0), -1, self.output_size)
                lengths = self._num_stacks(lengths)
            return frames.masked_fill(~_mask(frames, lengths)[:, :, None], 0.0), lengths

    def stream(self) -> FrontEndStream:
        """Return a stream that takes samples as they come; see `FrontEndStream`.

        Raises
        ------
        ConfigError
            Frames depend on the whole utterance.
        """
        return FrontEndStream(self)

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Measure the statistics for corpus normalisation, in one pass with float64 sums.

        Parameters
        ----------
        batches : iterable of (inputs, lengths)
            As `forward` takes them, on this module's device.

        Raises
        ------
        ConfigError
            The front end does not use corpus normalisation.
        DataError
            There are no frames to measure.
        """
        if self.normalize != "corpus":
            raise ConfigError(f"normalize: {self.normalize} has no statistics to fit; use corpus")
        count = 0
        total = torch.zeros(self.mean.shape, dtype=torch.float64)
        total_squares = torch.zeros_like(total)
        for inputs, lengths in batches:
            frames, lengths = self._coefficients(inputs.float(), lengths.to(inputs.device))
            own = frames[_mask(frames, lengths)].cpu().double()
            count += len(own)
            total += own.sum(0)
            total_squares += own.square().sum(0)
        if not count:
            raise DataError(
                "normalize: corpus got no training frames to measure; check the training manifest"
            )
        mean = total / count
        variance = (total_squares / count - mean.square()).clamp(min=STD_FLOOR**2)
        self.mean.copy_(mean)
        self.std.copy_(variance.sqrt())

    def _fitted_mean(self) -> Tensor:
        if not torch.compiler.is_exporting() and not self.std.all():
            raise ModelError(
                "normalize: corpus has no statistics yet; fit the front end on training data "
                "or load a trained model"
            )
        return self.mean

    def _num_stacks(self, num_frames: Count) -> Count:
        """Return how many stacks cover `num_frames` frames, the last one completed by repetition."""
        excess = num_frames - self.stack
        return (excess > 0) * (excess + self.stack_stride - 1) // self.stack_stride + 1

    def _coefficients(
        self, inputs: Tensor, lengths: Tensor, augment: Augment | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return frames with their deltas, (B, T, F), and lengths; beyond the lengths they are arbitrary."""
        if inputs.dim() == 2:
            frames = self.extractor(inputs.masked_fill(~_mask(inputs, lengths), 0.0))
            lengths = self.extractor.num_frames(lengths)
        else:
            frames = inputs
            if frames.size(2) != self.extractor.output_size:
                raise DataError(
                    f"the features have {frames.size(2)} values a frame, {type(self.extractor).__name__} "
                    f"gives {self.extractor.output_size}; use features and a front end of the same kind"
                )
        if augment is not None:
            frames = augment(frames, lengths)
        if self.dynamic_range_db is not None:
            own = frames.masked_fill(~_mask(frames, lengths)[:, :, None], -torch.inf)
            # Decibels to the natural logarithm of an energy.
            lowest = own.amax((1, 2), keepdim=True) - self.dynamic_range_db * (math.log(10) / 10)
            frames = frames.maximum(lowest)
        orders = [frames]
        for _ in range(self.deltas):
            orders.append(_deltas(orders[-1], lengths))
        return torch.cat(orders, dim=2), lengths


class FrontEndStream:
    """Makes frames of waveforms as they come, equal to those of the whole waveforms.

    Parameters
    ----------
    front_end : FrontEnd
        With ``normalize`` none or corpus and no ``dynamic_range_db``: the others need all of an utterance.

    Raises
    ------
    ConfigError
        Frames depend on the whole utterance.

    Examples
    --------
    ::

        stream = front_end.stream()
        for samples in chunks:  # (B, N)
            frames = stream.push(samples)
        frames = stream.push(samples[:, :0], final=True)
    """

    def __init__(self, front_end: FrontEnd) -> None:
        if front_end.needs_whole_utterance:
            setting = "normalize" if front_end.normalize in ("utterance", "level") else "dynamic_range_db"
            raise ConfigError(
                f"{setting}: {getattr(front_end, setting)} needs the whole utterance and cannot stream; "
                "train with features.normalize=corpus features.dynamic_range_db=null"
            )
        self.front_end = front_end
        self.samples: Tensor | None = None
        self.settled = 0  # output frames of `samples` that were given out before

    @property
    def context(self) -> int:
        """Frames of the extractor that an output frame sees beyond its first one."""
        return self.front_end.stack - 1 + 2 * self.front_end.deltas

    @torch.inference_mode()
    def push(self, waveforms: Tensor, *, final: bool = False) -> Tensor:
        """Take (B, N) more samples and return the (B, T, F) frames that they settle.

        Parameters
        ----------
        waveforms : Tensor, float32, (B, N)
            Samples in [-1, 1], also none.
        final : bool
            No more will come. Without a single sample there are no frames.
        """
        front_end, extractor = self.front_end, self.front_end.extractor
        samples = waveforms if self.samples is None else torch.cat([self.samples, waveforms], dim=1)
        num_samples = samples.shape[1]
        hop, stride = extractor.hop_length, front_end.stack_stride
        if final:
            ready = front_end.num_frames(num_samples) if num_samples else 0
        else:
            whole = (num_samples - extractor.window_length) // hop + 1  # frames that need no padding
            ready = max(0, (whole - 1 - self.context) // stride + 1)
        frames = samples.new_zeros(len(samples), 0, front_end.output_size)
        if ready > self.settled:
            lengths = torch.full((len(samples),), num_samples, device=samples.device)
            frames = front_end(samples, lengths)[0][:, self.settled : ready]
            self.settled = ready
        # Deltas look back two frames an order, and Sphinx's pre-emphasis a sample: a frame more.
        drop = max(0, self.settled * stride - 2 * front_end.deltas - 1) // stride
        self.samples = samples[:, drop * stride * hop :]
        self.settled -= drop
        return frames


def _mask(x: Tensor, lengths: Tensor) -> Tensor:
    """Return which positions of x (B, T, ...) lie within the lengths, bool (B, T)."""
    return torch.arange(x.size(1), device=x.device) < lengths[:, None]


def _take(frames: Tensor, lengths: Tensor, index: Tensor) -> Tensor:
    """Return the frames at `index` (I,) of each utterance, (B, I, F), its edges repeated outwards."""
    own = index.clamp(min=0).minimum(lengths[:, None] - 1).clamp(min=0)
    return frames.gather(1, own[:, :, None].expand(-1, -1, frames.size(2)))


def _deltas(frames: Tensor, lengths: Tensor) -> Tensor:
    num_frames = frames.size(1)
    x = _take(frames, lengths, torch.arange(-2, num_frames + 2, device=frames.device))
    before_2, before_1, _, after_1, after_2 = (x[:, i : i + num_frames] for i in range(5))
    return ((after_1 - before_1) + 2 * (after_2 - before_2)) / 10


def _normalize_utterances(frames: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Bring every `size` coefficients together to mean 0 and variance 1 over the utterance's own frames."""
    groups = frames.unflatten(2, (-1, size))
    mask = _mask(frames, lengths)[:, :, None, None]
    counts = lengths.clamp(min=1)[:, None, None, None] * size
    # Relative to the first frame a constant is exactly zero, however large, and sums lose no digits to it.
    offsets = (groups - groups[:, :1, :, :1]).masked_fill(~mask, 0.0)
    deviations = (offsets - offsets.sum((1, 3), keepdim=True) / counts).masked_fill(~mask, 0.0)
    std = (deviations.square().sum((1, 3), keepdim=True) / counts).sqrt()
    return (deviations / std.clamp(min=STD_FLOOR)).flatten(2)
