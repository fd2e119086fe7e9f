"""Front ends: waveforms -> frames, as modules that run on the model's device.

A `FrontEnd` is an extractor (`LogMel`, `Fbank`, `Mfcc` or `SphinxMfcc`) followed by delta coefficients,
normalisation and frame stacking. The frames of an utterance do not depend on the batch it is in:
every edge, sum and statistic stays within the utterance's own length.

Axes: B batch, N samples, W samples of a window, T frames, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
import torchaudio.compliance.kaldi as kaldi
import torchaudio.functional as AF
from torch import Tensor, nn

from asr.errors import ConfigError, DataError, ModelError

Count = TypeVar("Count", int, Tensor)
"""A number of samples or frames: an int, or an int64 tensor of them."""

Augment = Callable[[Tensor, Tensor], Tensor]
"""From frames (B, T, F) and lengths (B,) to frames (B, T, F)."""

INT16_SCALE = 32768.0
"""Kaldi and Sphinx compute on the scale of 16-bit samples."""

STD_FLOOR = 1e-5
"""Smallest standard deviation divided by, so that a constant coefficient becomes zero, not NaN."""


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
        window_length = _num_samples("window_ms", window_ms, sample_rate)
        n_fft = n_fft or _next_power_of_two(window_length)
        f_max = _check_filters(n_mels, f_min, f_max, sample_rate)
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
            hop_length=_num_samples("hop_ms", hop_ms, sample_rate),
            filters=filters,
            centers=_mel_centers(n_mels, f_min, f_max, mel_scale),
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
        window_length = _num_samples("window_ms", window_ms, sample_rate)
        n_fft = _next_power_of_two(window_length)
        f_max = _check_filters(n_mels, f_min, f_max, sample_rate)
        # The last three arguments are Kaldi's vocal tract length warping, off.
        filters, _ = kaldi.get_mel_banks(n_mels, n_fft, sample_rate, f_min, f_max, 100.0, -500.0, 1.0)
        super().__init__(
            sample_rate=sample_rate,
            # Kaldi's "povey" window.
            window=torch.hann_window(window_length, periodic=False).pow(0.85),
            hop_length=_num_samples("hop_ms", hop_ms, sample_rate),
            # Kaldi leaves out the bin at half the sample rate.
            filters=F.pad(filters, (0, 1)).T.contiguous(),
            centers=_mel_centers(n_mels, f_min, f_max),
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
        _check_cepstra(n_cepstra, n_mels)
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
        _check_cepstra(n_cepstra, n_mels)
        _check_filters(n_mels, f_min, f_max, sample_rate)
        quefrency = torch.arange(n_cepstra, dtype=torch.float64)
        phase = torch.arange(n_mels, dtype=torch.float64) + 0.5
        transform = torch.cos(math.pi / n_mels * torch.outer(phase, quefrency)) / n_mels
        transform[0] /= 2  # the "legacy" transform halves the first filter
        hop_length = _num_samples("hop_ms", hop_ms, sample_rate)
        super().__init__(
            sample_rate=sample_rate,
            window=torch.hamming_window(_num_samples("window_ms", window_ms, sample_rate), periodic=False),
            hop_length=hop_length,
            filters=_sphinx_filters(n_fft, n_mels, sample_rate, f_min, f_max),
            centers=_mel_centers(n_mels, f_min, f_max),
            f_max=f_max,
            floor=1e-4,
            scale=INT16_SCALE,
            transform=transform.float(),
        )
        self.tail_length = hop_length
        self.preemphasis = preemphasis

    def _frame(self, samples: Tensor) -> Tensor:
        return super()._frame(samples - self.preemphasis * F.pad(samples[:, :-1], (1, 0)))


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
    normalize : {"none", "utterance", "corpus"}
        Mean and variance normalisation of each coefficient, over the utterance or by statistics
        of the training data (see `fit`).

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
        normalize: Literal["none", "utterance", "corpus"] = "utterance",
    ) -> None:
        super().__init__()
        if deltas not in (0, 1, 2):
            raise ConfigError(f"deltas: {deltas!r} is not an order; use 0, 1 or 2")
        if stack < 1 or not 1 <= stack_stride <= stack:
            raise ConfigError(
                f"stack_stride: {stack_stride} with stack: {stack} loses frames; use 1 <= stride <= stack"
            )
        if normalize not in ("none", "utterance", "corpus"):
            raise ConfigError(f"normalize: {normalize!r} is unknown; use none, utterance or corpus")
        self.extractor = extractor
        self.deltas = deltas
        self.stack = stack
        self.stack_stride = stack_stride
        self.normalize = normalize
        self.sample_rate = extractor.sample_rate
        self.output_size = extractor.output_size * (deltas + 1) * stack
        self.frame_shift = extractor.hop_length * stack_stride / extractor.sample_rate
        if normalize == "corpus":
            size = extractor.output_size * (deltas + 1)
            self.register_buffer("mean", torch.zeros(size))
            self.register_buffer("std", torch.zeros(size))  # zero until fitted or loaded

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
                frames = _normalize_utterances(frames, lengths)
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
            The front end normalises over utterances.
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
        orders = [frames]
        for _ in range(self.deltas):
            orders.append(_deltas(orders[-1], lengths))
        return torch.cat(orders, dim=2), lengths


class FrontEndStream:
    """Makes frames of waveforms as they come, equal to those of the whole waveforms.

    Parameters
    ----------
    front_end : FrontEnd
        With ``normalize`` none or corpus: statistics of an utterance need all of it.

    Raises
    ------
    ConfigError
        The front end normalises over utterances.

    Examples
    --------
    ::

        stream = front_end.stream()
        for samples in chunks:  # (B, N)
            frames = stream.push(samples)
        frames = stream.push(samples[:, :0], final=True)
    """

    def __init__(self, front_end: FrontEnd) -> None:
        if front_end.normalize == "utterance":
            raise ConfigError(
                "normalize: utterance needs the whole utterance and cannot stream; "
                "train with features.normalize=corpus"
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


def _normalize_utterances(frames: Tensor, lengths: Tensor) -> Tensor:
    """Bring each coefficient to mean 0 and variance 1 over the utterance's own frames."""
    mask = _mask(frames, lengths)[:, :, None]
    counts = lengths.clamp(min=1)[:, None, None]
    # Relative to the first frame a constant is exactly zero, however large, and sums lose no digits to it.
    offsets = (frames - frames[:, :1]).masked_fill(~mask, 0.0)
    deviations = (offsets - offsets.sum(1, keepdim=True) / counts).masked_fill(~mask, 0.0)
    std = (deviations.square().sum(1, keepdim=True) / counts).sqrt()
    return deviations / std.clamp(min=STD_FLOOR)


def _mel_centers(
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


def _sphinx_filters(n_fft: int, n_mels: int, sample_rate: int, f_min: float, f_max: float) -> Tensor:
    """Return Sphinx's triangular filters of unit area, their edges rounded to FFT bins."""
    mel_min, mel_max = (2595 * math.log10(1 + f / 700) for f in (f_min, f_max))
    mels = torch.linspace(mel_min, mel_max, n_mels + 2, dtype=torch.float64)
    bin_width = sample_rate / n_fft
    edges = (700 * (10 ** (mels / 2595) - 1) / bin_width + 0.5).floor() * bin_width
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    bins = bin_width * torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None]
    triangles = torch.minimum((bins - left) / (center - left), (right - bins) / (right - center))
    return (triangles.clamp(min=0) * 2 / (right - left)).float()


def _num_samples(key: str, milliseconds: float, sample_rate: int) -> int:
    # Truncated as Kaldi does, once the product is rid of binary rounding.
    num_samples = int(round(sample_rate * milliseconds / 1000, 6))
    if num_samples < 1:
        raise ConfigError(
            f"{key}: {milliseconds} ms is less than a sample at {sample_rate} Hz; use a larger value"
        )
    return num_samples


def _next_power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _check_filters(n_mels: int, f_min: float, f_max: float | None, sample_rate: int) -> float:
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


def _check_cepstra(n_cepstra: int, n_mels: int) -> None:
    if not 1 <= n_cepstra <= n_mels:
        raise ConfigError(f"n_cepstra: {n_cepstra} is not within 1 and n_mels: {n_mels}; use fewer cepstra")
